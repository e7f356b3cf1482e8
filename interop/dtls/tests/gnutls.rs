//! GnuTLS's gnutls-cli and gnutls-serv, DTLS 1.2.

use std::net::UdpSocket;
use std::process::Command;
use std::time::Instant;

use interop_dtls::{Ours, Program, certificate, config, free_port, pem};
use visavis_crypto::{Fingerprint, KeyAlgorithm};
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

/// What FFmpeg makes where it is built with GnuTLS: "medium" security gives it a key on P-224.
struct P224 {
    file: String,
    fingerprint: Fingerprint,
}

impl P224 {
    fn new() -> Self {
        let name = format!("visavis-{}-p224", std::process::id());
        let file = std::env::temp_dir().join(name);
        let file = file.to_str().unwrap().to_owned();
        let template = format!("{file}.template");
        std::fs::write(&template, "cn = FFmpeg\nexpiration_days = 365\n").unwrap();
        let key = [
            "--generate-privkey",
            "--key-type=ecdsa",
            "--sec-param=medium",
        ];
        let certificate = [
            "--generate-self-signed",
            "--load-privkey",
            &format!("{file}.key"),
            "--template",
            &template,
        ];
        for (arguments, end) in [(&key[..], "key"), (&certificate[..], "crt")] {
            let status = Command::new("certtool")
                .args(arguments)
                .args(["--outfile", &format!("{file}.{end}")])
                .output()
                .unwrap()
                .status;
            assert!(status.success(), "certtool {arguments:?}");
        }
        let key = std::fs::read(format!("{file}.key")).unwrap();
        let certificate = std::fs::read(format!("{file}.crt")).unwrap();
        std::fs::write(&file, [certificate, key].concat()).unwrap();
        let text = Command::new("openssl")
            .args([
                "x509",
                "-noout",
                "-fingerprint",
                "-sha256",
                "-text",
                "-in",
                &file,
            ])
            .output()
            .unwrap()
            .stdout;
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("secp224r1"), "{text}");
        let digits = text.split("Fingerprint=").nth(1).unwrap();
        let digits = digits.lines().next().unwrap();
        Self {
            file,
            fingerprint: format!("sha-256 {digits}").parse().unwrap(),
        }
    }
}

#[test]
fn a_certificate_on_p_224_in_either_role() {
    let theirs = P224::new();
    let ours = certificate(KeyAlgorithm::EcdsaP256, 1);
    let dtls12 = "NORMAL:-VERS-ALL:+VERS-DTLS1.2";
    let key = [
        "--x509certfile",
        &theirs.file,
        "--x509keyfile",
        &theirs.file,
    ];

    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = socket.local_addr().unwrap().port().to_string();
    let arguments = ["--udp", "--insecure", "--port", &port, "--priority", dtls12];
    let arguments = [&arguments[..], &key, &["127.0.0.1"]].concat();
    let mut program = Program::start("gnutls-cli", &arguments);
    let mut server = Ours::server(config(&ours), socket, &ours);
    server
        .dtls
        .set_remote_fingerprints(Instant::now(), [theirs.fingerprint]);
    let connected = server.connect("gnutls-cli with P-224");
    assert_eq!(connected.version, Version::Dtls12);
    server.send(b"from our server\n");
    program.wait_for("from our server");

    let port = free_port();
    let text = port.to_string();
    let arguments = ["--udp", "--echo", "--require-client-cert", "--port", &text];
    let arguments = [&arguments[..], &key, &["--priority", dtls12]].concat();
    let mut program = Program::start("gnutls-serv", &arguments);
    let mut client = Ours::client(config(&ours), port, &ours);
    client
        .dtls
        .set_remote_fingerprints(Instant::now(), [theirs.fingerprint]);
    client.connect("gnutls-serv with P-224");
    client.send(b"an echo\n");
    client.until("echo", |client| client.text().contains("an echo"));
    program.has_said("");
}
