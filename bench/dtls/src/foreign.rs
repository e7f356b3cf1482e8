//! Foreign stacks in memory.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Instant;

use dimpl::crypto::{Dtls12CipherSuite, Dtls13CipherSuite};
use dimpl::{Dtls, DtlsCertificate, NamedGroup, Output};
use openssl::asn1::Asn1Time;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::PKey;
use openssl::ssl::{
    HandshakeError, Ssl, SslContext, SslMethod, SslMode, SslOptions, SslStream, SslVerifyMode,
};
use openssl::x509::X509;

use crate::{PAYLOAD, RECORDS};

pub struct Dimpl {
    config: Arc<dimpl::Config>,
    certificate: DtlsCertificate,
}

impl Dimpl {
    pub fn new() -> Self {
        let config = dimpl::Config::builder()
            .use_server_cookie(false)
            .kx_groups(&[NamedGroup::X25519])
            .dtls12_cipher_suites(&[Dtls12CipherSuite::ECDHE_ECDSA_AES128_GCM_SHA256])
            .dtls13_cipher_suites(&[Dtls13CipherSuite::AES_128_GCM_SHA256])
            .build()
            .expect("settings");
        Self {
            config: Arc::new(config),
            certificate: dimpl::certificate::generate_self_signed_certificate()
                .expect("a certificate"),
        }
    }

    pub fn handshake(&self, is_13: bool) -> DimplPair {
        let now = Instant::now();
        let end = || {
            let (config, certificate) = (self.config.clone(), self.certificate.clone());
            if is_13 {
                Dtls::new_13(config, certificate, now)
            } else {
                Dtls::new_12(config, certificate, now)
            }
        };
        let mut pair = DimplPair {
            client: end(),
            server: end(),
            buffer: vec![0; 4096],
            sealed: Vec::new(),
        };
        pair.client.set_active(true);
        pair.client.handle_timeout(now).expect("dimpl");
        pair.server.handle_timeout(now).expect("dimpl");
        let mut connected = 0;
        while connected < 2 {
            connected += carry(&mut pair.client, &mut pair.server, &mut pair.buffer);
            connected += carry(&mut pair.server, &mut pair.client, &mut pair.buffer);
        }
        carry(&mut pair.server, &mut pair.client, &mut pair.buffer);
        carry(&mut pair.client, &mut pair.server, &mut pair.buffer);
        pair
    }
}

/// Carries what waits; counts ends that became connected.
fn carry(from: &mut Dtls, to: &mut Dtls, buffer: &mut [u8]) -> usize {
    let mut connected = 0;
    loop {
        match from.poll_output(buffer) {
            Output::Packet(packet) => to.handle_packet(packet).expect("dimpl"),
            Output::Connected => connected += 1,
            Output::Timeout(_) => return connected,
            _ => {}
        }
    }
}

pub struct DimplPair {
    client: Dtls,
    server: Dtls,
    buffer: Vec<u8>,
    sealed: Vec<Vec<u8>>,
}

impl DimplPair {
    pub fn seal(&mut self) {
        self.client
            .send_application_data(&[7; PAYLOAD])
            .expect("dimpl");
        while !matches!(
            self.client.poll_output(&mut self.buffer),
            Output::Timeout(_)
        ) {}
    }

    pub fn prepare(&mut self) {
        self.sealed.clear();
        for _ in 0..RECORDS {
            self.client
                .send_application_data(&[7; PAYLOAD])
                .expect("dimpl");
            loop {
                match self.client.poll_output(&mut self.buffer) {
                    Output::Packet(packet) => self.sealed.push(packet.to_vec()),
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
        }
    }

    pub fn open(&mut self) {
        for datagram in &self.sealed {
            self.server.handle_packet(datagram).expect("dimpl");
            let mut opened = false;
            loop {
                match self.server.poll_output(&mut self.buffer) {
                    Output::ApplicationData(_) => opened = true,
                    Output::Timeout(_) => break,
                    _ => {}
                }
            }
            assert!(opened);
        }
    }
}

/// One end of a wire in memory: a read gives one datagram.
#[derive(Debug)]
struct Wire {
    incoming: Rc<RefCell<VecDeque<Vec<u8>>>>,
    outgoing: Rc<RefCell<VecDeque<Vec<u8>>>>,
}

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.incoming.borrow_mut().pop_front() {
            Some(datagram) => {
                buffer[..datagram.len()].copy_from_slice(&datagram);
                Ok(datagram.len())
            }
            None => Err(io::ErrorKind::WouldBlock.into()),
        }
    }
}

impl Write for Wire {
    fn write(&mut self, datagram: &[u8]) -> io::Result<usize> {
        self.outgoing.borrow_mut().push_back(datagram.to_vec());
        Ok(datagram.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

pub struct Openssl {
    context: SslContext,
}

impl Openssl {
    pub fn new() -> Self {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).expect("OpenSSL");
        let key = EcKey::generate(&group).expect("OpenSSL");
        let key = PKey::from_ec_key(key).expect("OpenSSL");
        let mut builder = X509::builder().expect("OpenSSL");
        builder.set_version(2).expect("OpenSSL");
        builder.set_pubkey(&key).expect("OpenSSL");
        let time = |days| Asn1Time::days_from_now(days).expect("OpenSSL");
        builder.set_not_before(&time(0)).expect("OpenSSL");
        builder.set_not_after(&time(30)).expect("OpenSSL");
        builder
            .sign(&key, MessageDigest::sha256())
            .expect("OpenSSL");
        let mut context = SslContext::builder(SslMethod::dtls()).expect("OpenSSL");
        context.set_certificate(&builder.build()).expect("OpenSSL");
        context.set_private_key(&key).expect("OpenSSL");
        context
            .set_cipher_list("ECDHE-ECDSA-AES128-GCM-SHA256")
            .expect("OpenSSL");
        context.set_groups_list("X25519:P-256").expect("OpenSSL");
        context.set_options(SslOptions::NO_QUERY_MTU | SslOptions::NO_TICKET);
        context.set_mode(SslMode::AUTO_RETRY);
        context.set_session_cache_mode(openssl::ssl::SslSessionCacheMode::OFF);
        context.set_verify_callback(
            SslVerifyMode::PEER | SslVerifyMode::FAIL_IF_NO_PEER_CERT,
            |_, _| true,
        );
        Self {
            context: context.build(),
        }
    }

    pub fn handshake(&self) -> OpensslPair {
        let (a, b) = (Rc::default(), Rc::default());
        let client_wire = Wire {
            incoming: Rc::clone(&a),
            outgoing: Rc::clone(&b),
        };
        let server_wire = Wire {
            incoming: b,
            outgoing: a,
        };
        let ssl = || {
            let mut ssl = Ssl::new(&self.context).expect("OpenSSL");
            ssl.set_mtu(1400).expect("OpenSSL");
            ssl
        };
        let mut client = ssl().connect(client_wire);
        let mut server = ssl().accept(server_wire);
        loop {
            client = match client {
                Err(HandshakeError::WouldBlock(waiting)) => waiting.handshake(),
                done => done,
            };
            server = match server {
                Err(HandshakeError::WouldBlock(waiting)) => waiting.handshake(),
                done => done,
            };
            match (client, server) {
                (Ok(client), Ok(server)) => {
                    return OpensslPair {
                        client,
                        server,
                        sealed: VecDeque::new(),
                    };
                }
                (Err(HandshakeError::Failure(error)), _)
                | (_, Err(HandshakeError::Failure(error))) => {
                    panic!("OpenSSL: {error:?}")
                }
                (c, s) => (client, server) = (c, s),
            }
        }
    }
}

pub struct OpensslPair {
    client: SslStream<Wire>,
    server: SslStream<Wire>,
    sealed: VecDeque<Vec<u8>>,
}

impl OpensslPair {
    pub fn seal(&mut self) {
        self.client.ssl_write(&[7; PAYLOAD]).expect("OpenSSL");
        self.client.get_ref().outgoing.borrow_mut().clear();
    }

    pub fn prepare(&mut self) {
        for _ in 0..RECORDS {
            self.client.ssl_write(&[7; PAYLOAD]).expect("OpenSSL");
        }
        self.sealed = std::mem::take(&mut *self.client.get_ref().outgoing.borrow_mut());
    }

    pub fn open(&mut self) {
        let mut buffer = [0; 2048];
        std::mem::swap(
            &mut self.sealed,
            &mut *self.server.get_ref().incoming.borrow_mut(),
        );
        for _ in 0..RECORDS {
            let len = self.server.ssl_read(&mut buffer).expect("OpenSSL");
            assert_eq!(len, PAYLOAD);
        }
    }
}
