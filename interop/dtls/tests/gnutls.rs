//! GnuTLS's gnutls-cli and gnutls-serv, DTLS 1.2.

use std::net::UdpSocket;

use interop_dtls::{Ours, Program, certificate, config, free_port, pem};
use visavis_crypto::KeyAlgorithm;
use visavis_dtls::Version;

const PRIORITIES: &[(&str, KeyAlgorithm)] = &[
    (
        "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-CIPHER-ALL:+AES-128-GCM",
        KeyAlgorithm::EcdsaP256,
    ),
    (
        "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-CIPHER-ALL:+CHACHA20-POLY1305",
        KeyAlgorithm::Rsa,
    ),
    (
        "NORMAL:-VERS-ALL:+VERS-DTLS1.2:-CIPHER-ALL:+AES-256-GCM:-GROUP-ALL:+GROUP-SECP384R1",
        KeyAlgorithm::EcdsaP384,
    ),
];

#[test]
fn our_client_and_gnutls_serv() {
    let ours = certificate(KeyAlgorithm::EcdsaP256, 1);
    for (priority, algorithm) in PRIORITIES {
        let theirs = certificate(*algorithm, 2);
        let port = free_port();
        let (file, port_text) = (pem(&theirs, "gnutls-serv"), port.to_string());
        let file = file.to_str().unwrap();
        let mut program = Program::start(
            "gnutls-serv",
            &[
                "--udp",
                "--port",
                &port_text,
                "--echo",
                "--require-client-cert",
                "--x509certfile",
                file,
                "--x509keyfile",
                file,
                "--priority",
                priority,
                "--mtu",
                "1200",
            ],
        );
        let mut client = Ours::client(config(&ours), port, &theirs);
        let connected = client.connect(priority);
        assert_eq!(connected.version, Version::Dtls12);
        client.send(b"an echo\n");
        client.until(priority, |client| client.text().contains("an echo"));
        program.has_said("");
    }
}

#[test]
fn our_server_and_gnutls_cli() {
    let theirs = certificate(KeyAlgorithm::EcdsaP256, 1);
    for (priority, algorithm) in PRIORITIES {
        for front in [false, true] {
            let ours = certificate(*algorithm, 2);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let port = socket.local_addr().unwrap().port().to_string();
            let file = pem(&theirs, "gnutls-cli");
            let file = file.to_str().unwrap();
            let mut program = Program::start(
                "gnutls-cli",
                &[
                    "--udp",
                    "--port",
                    &port,
                    "--insecure",
                    "--x509certfile",
                    file,
                    "--x509keyfile",
                    file,
                    "--priority",
                    priority,
                    "127.0.0.1",
                ],
            );
            let settings = config(&ours);
            let mut server = if front {
                Ours::behind_front(settings, socket, &theirs)
            } else {
                Ours::server(settings, socket, &theirs)
            };
            server.connect(priority);
            server.send(b"from our server\n");
            program.wait_for("from our server");
            program.type_line("from gnutls-cli");
            server.until(priority, |server| server.text().contains("from gnutls-cli"));
        }
    }
}
