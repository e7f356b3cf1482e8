//! Mbed TLS, DTLS 1.2, by a small program of its own (`src/mbedtls.c`).

use std::net::UdpSocket;

use interop_dtls::{Ours, Program, certificate, config, free_port, pem};
use visavis_crypto::KeyAlgorithm;
use visavis_dtls::Version;

const PROGRAM: &str = env!("MBEDTLS_END");

const KEYS: [KeyAlgorithm; 3] = [
    KeyAlgorithm::EcdsaP256,
    KeyAlgorithm::EcdsaP384,
    KeyAlgorithm::Rsa,
];

#[test]
fn our_client_and_a_server_with_cookies() {
    assert!(!PROGRAM.is_empty(), "install libmbedtls-dev");
    let ours = certificate(KeyAlgorithm::EcdsaP256, 1);
    for algorithm in KEYS {
        let theirs = certificate(algorithm, 2);
        let file = pem(&theirs, "mbedtls-server");
        let port = free_port();
        let (port_text, file) = (port.to_string(), file.to_str().unwrap());
        let mut program = Program::start(PROGRAM, &["server", &port_text, file]);
        program.wait_for("ready");
        let mut settings = config(&ours);
        // It does not put a ClientHello together from fragments (its ssl_parse_client_hello).
        settings.groups = vec![
            visavis_crypto::Group::X25519,
            visavis_crypto::Group::Secp256r1,
            visavis_crypto::Group::Secp384r1,
        ];
        settings.key_shares = 1;
        let mut client = Ours::client(settings, port, &theirs);
        let what = format!("{algorithm:?}");
        assert_eq!(client.connect(&what).version, Version::Dtls12);
        program.wait_for("suite TLS-ECDHE");
        client.send(b"from our client\n");
        client.until(&what, |client| client.text().contains("from our client"));
    }
}

#[test]
fn our_server_and_a_client() {
    assert!(!PROGRAM.is_empty(), "install libmbedtls-dev");
    let theirs = certificate(KeyAlgorithm::EcdsaP256, 1);
    for algorithm in KEYS {
        for front in [false, true] {
            let ours = certificate(algorithm, 2);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port().to_string();
            let file = pem(&theirs, "mbedtls-client");
            let mut program = Program::start(PROGRAM, &["client", &port, file.to_str().unwrap()]);
            let settings = config(&ours);
            let mut server = if front {
                Ours::behind_front(settings, socket, &theirs)
            } else {
                Ours::server(settings, socket, &theirs)
            };
            let what = format!("{algorithm:?} front {front}");
            server.connect(&what);
            server.until(&what, |server| server.text().contains("from mbedtls"));
            server.send(b"from our server\n");
            program.wait_for("from our server");
        }
    }
}
