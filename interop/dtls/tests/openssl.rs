//! OpenSSL's s_client and s_server, DTLS 1.2.

use std::net::UdpSocket;

use interop_dtls::{Ours, Program, certificate, config, free_port, pem};
use visavis_crypto::KeyAlgorithm;
use visavis_dtls::{Config, SrtpProfile, Version};

/// OpenSSL's suites, and which key they need.
const SUITES: &[(&str, KeyAlgorithm)] = &[
    ("ECDHE-ECDSA-AES128-GCM-SHA256", KeyAlgorithm::EcdsaP256),
    ("ECDHE-ECDSA-AES256-GCM-SHA384", KeyAlgorithm::EcdsaP384),
    ("ECDHE-ECDSA-CHACHA20-POLY1305", KeyAlgorithm::EcdsaP256),
    ("ECDHE-RSA-AES128-GCM-SHA256", KeyAlgorithm::Rsa),
    ("ECDHE-RSA-AES256-GCM-SHA384", KeyAlgorithm::Rsa),
    ("ECDHE-RSA-CHACHA20-POLY1305", KeyAlgorithm::Rsa),
];

fn with_srtp(mut config: Config) -> Config {
    config.srtp_profiles = vec![SrtpProfile::AeadAes128Gcm, SrtpProfile::Aes128CmHmacSha1_80];
    config
}

/// The 60 bytes that s_client and s_server export, as they print them.
fn exported(ours: &Ours) -> String {
    let mut material = [0; 60];
    ours.dtls
        .export_keying_material(b"EXTRACTOR-dtls_srtp", None, &mut material)
        .unwrap();
    material.iter().map(|byte| format!("{byte:02X}")).collect()
}

#[test]
fn our_client_and_every_suite_of_s_server() {
    let ours = certificate(KeyAlgorithm::EcdsaP256, 1);
    for (suite, algorithm) in SUITES {
        for listen in [false, true] {
            let theirs = certificate(*algorithm, 2);
            let (file, port) = (pem(&theirs, suite), free_port());
            let (file, port_text) = (file.to_str().unwrap(), port.to_string());
            let mut arguments = vec![
                "s_server",
                "-dtls1_2",
                "-accept",
                &port_text,
                "-cert",
                file,
                "-key",
                file,
                "-cipher",
                suite,
                "-Verify",
                "1",
                "-use_srtp",
                "SRTP_AES128_CM_SHA1_80",
                "-keymatexport",
                "EXTRACTOR-dtls_srtp",
                "-keymatexportlen",
                "60",
                "-mtu",
                "1200",
            ];
            if listen {
                // Its HelloVerifyRequest.
                arguments.push("-listen");
            }
            let mut program = Program::start("openssl", &arguments);
            program.wait_for("ACCEPT");
            let mut client = Ours::client(with_srtp(config(&ours)), port, &theirs);
            let connected = client.connect(suite);
            assert_eq!(connected.version, Version::Dtls12);
            assert_eq!(
                connected.srtp.as_ref().unwrap().profile,
                SrtpProfile::Aes128CmHmacSha1_80
            );
            client.send(b"from our client\n");
            program.wait_for("from our client");
            program.wait_for(&exported(&client));
            program.type_line("from s_server");
            client.until(suite, |client| client.text().contains("from s_server"));
            client.dtls.close(std::time::Instant::now());
            client.until("closed", |client| client.dtls.is_closed());
        }
    }
}

#[test]
fn our_server_and_every_suite_of_s_client() {
    let theirs = certificate(KeyAlgorithm::EcdsaP256, 1);
    for (suite, algorithm) in SUITES {
        for front in [false, true] {
            let ours = certificate(*algorithm, 2);
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            let target = socket.local_addr().unwrap().to_string();
            let file = pem(&theirs, suite);
            let file = file.to_str().unwrap();
            let mut program = Program::start(
                "openssl",
                &[
                    "s_client",
                    "-dtls1_2",
                    "-connect",
                    &target,
                    "-cert",
                    file,
                    "-key",
                    file,
                    "-cipher",
                    suite,
                    "-use_srtp",
                    "SRTP_AEAD_AES_128_GCM:SRTP_AES128_CM_SHA1_80",
                    "-keymatexport",
                    "EXTRACTOR-dtls_srtp",
                    "-keymatexportlen",
                    "60",
                    "-alpn",
                    "c-webrtc,webrtc",
                ],
            );
            let mut settings = with_srtp(config(&ours));
            settings.alpn = vec![b"webrtc".to_vec()];
            let mut server = if front {
                Ours::behind_front(settings, socket, &theirs)
            } else {
                Ours::server(settings, socket, &theirs)
            };
            let connected = server.connect(suite);
            assert_eq!(connected.version, Version::Dtls12);
            assert_eq!(connected.alpn.as_deref(), Some(&b"webrtc"[..]));
            assert_eq!(
                connected.srtp.as_ref().unwrap().profile,
                SrtpProfile::AeadAes128Gcm
            );
            server.send(b"from our server\n");
            program.wait_for("from our server");
            program.wait_for(&exported(&server));
            program.wait_for("Extended master secret: yes");
            program.type_line("from s_client");
            server.until(suite, |server| server.text().contains("from s_client"));
        }
    }
}

#[test]
fn every_group_with_small_datagrams() {
    let certificate = certificate(KeyAlgorithm::EcdsaP256, 1);
    for (group, name) in [
        (visavis_crypto::Group::X25519, "X25519:P-256"),
        (visavis_crypto::Group::Secp256r1, "P-256"),
        (visavis_crypto::Group::Secp384r1, "P-384:P-256"),
    ] {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let target = socket.local_addr().unwrap().to_string();
        let file = pem(&certificate, name);
        let file = file.to_str().unwrap();
        let _program = Program::start(
            "openssl",
            &[
                "s_client", "-dtls1_2", "-connect", &target, "-cert", file, "-key", file,
                "-groups", name, "-mtu", "256",
            ],
        );
        let mut settings = config(&certificate);
        settings.mtu = 200;
        settings.fallback_mtu = 200;
        settings.groups = vec![group];
        let mut server = Ours::server(settings, socket, &certificate);
        assert_eq!(server.connect(name).group, group);
    }
}
