//! The crate dimpl, DTLS 1.2 and 1.3, in memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use dimpl::{Dtls, Output};
use interop_dtls::{certificate, config};
use visavis_crypto::{HashAlgorithm, KeyAlgorithm};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Connection, Event, SrtpKeys, Version};

struct Theirs {
    dtls: Dtls,
    outgoing: Vec<Vec<u8>>,
    connected: bool,
    certificate: Option<Vec<u8>>,
    keys: Option<Vec<u8>>,
    data: Vec<Vec<u8>>,
}

impl Theirs {
    fn poll(&mut self) {
        let mut buffer = vec![0; 4096];
        loop {
            match self.dtls.poll_output(&mut buffer) {
                Output::Packet(packet) => self.outgoing.push(packet.to_vec()),
                Output::Connected => self.connected = true,
                Output::PeerCert(der) => self.certificate = Some(der.to_vec()),
                Output::KeyingMaterial(keys, _) => self.keys = Some(keys.to_vec()),
                Output::ApplicationData(data) => self.data.push(data.to_vec()),
                Output::BufferTooSmall { needed } => buffer.resize(needed, 0),
                Output::Timeout(_) => return,
                _ => {}
            }
        }
    }
}

struct Ours {
    dtls: Connection,
    events: Vec<Event>,
    data: Vec<Vec<u8>>,
}

impl Ours {
    fn transmit(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut out = TransmitBuf::new(10, 1500);
        let mut datagrams = Vec::new();
        while self.dtls.poll_transmit(now, &mut out).is_some() {
            datagrams.extend(out.datagrams_mut().map(|(datagram, _)| datagram.to_vec()));
            out.clear();
        }
        datagrams
    }

    fn poll(&mut self) {
        while let Some(event) = self.dtls.poll_event() {
            if let Event::ApplicationData(data) = &event {
                self.data.push(data.clone());
            }
            self.events.push(event);
        }
    }
}

struct Pair {
    now: Instant,
    ours: Ours,
    theirs: Theirs,
    /// Which part of the datagrams is lost.
    loss: f64,
    random: Random,
}

impl Pair {
    fn new(
        our_role: visavis_dtls::Role,
        version: Version,
        cookie: bool,
        loss: f64,
        seed: u64,
    ) -> Self {
        let now = Instant::now();
        let certificate = certificate(KeyAlgorithm::EcdsaP256, 1);
        let foreign = dimpl::certificate::generate_self_signed_certificate().unwrap();
        let settings = dimpl::Config::builder()
            .use_server_cookie(cookie)
            .build()
            .unwrap();
        let settings = Arc::new(settings);
        let foreign_der = foreign.certificate.clone();
        let mut dtls = match version {
            Version::Dtls12 => Dtls::new_12(settings, foreign, now),
            Version::Dtls13 => Dtls::new_13(settings, foreign, now),
        };
        let is_client = our_role == visavis_dtls::Role::Client;
        dtls.set_active(!is_client);
        dtls.handle_timeout(now).unwrap();
        let mut our_settings = config(&certificate);
        // dimpl does not join fragments that overlap (RFC 9147 section 5.5): keep the cuts.
        our_settings.fallback_mtu = our_settings.mtu;
        let our_settings = Arc::new(our_settings);
        let random = Random::from_u64(7);
        let mut ours = if is_client {
            Connection::client(our_settings, random, now).unwrap()
        } else {
            Connection::server(our_settings, random, now).unwrap()
        };
        let fingerprint = visavis_crypto::Fingerprint::of(HashAlgorithm::Sha256, &foreign_der);
        ours.set_remote_fingerprints(now, [fingerprint]);
        Self {
            now,
            ours: Ours {
                dtls: ours,
                events: Vec::new(),
                data: Vec::new(),
            },
            theirs: Theirs {
                dtls,
                outgoing: Vec::new(),
                connected: false,
                certificate: None,
                keys: None,
                data: Vec::new(),
            },
            loss,
            random: Random::from_u64(seed),
        }
    }

    fn is_lost(&mut self) -> bool {
        self.random.chance(self.loss)
    }

    /// Carries what waits, then lets 20 ms pass.
    fn step(&mut self) {
        for datagram in self.ours.transmit(self.now) {
            if !self.is_lost() {
                self.theirs.dtls.handle_packet(&datagram).unwrap();
                self.theirs.poll();
            }
        }
        self.theirs.poll();
        for mut datagram in std::mem::take(&mut self.theirs.outgoing) {
            if !self.is_lost() {
                let received = self.ours.dtls.handle_datagram(self.now, &mut datagram);
                for range in received {
                    self.ours.data.push(datagram[range].to_vec());
                }
                self.ours.poll();
            }
        }
        self.now += Duration::from_millis(20);
        self.ours.dtls.handle_timeout(self.now);
        self.theirs.dtls.handle_timeout(self.now).unwrap();
        self.ours.poll();
        self.theirs.poll();
    }

    fn connect(&mut self, what: &str) {
        for _ in 0..1500 {
            self.step();
            if self.theirs.connected && self.ours.dtls.is_connected() {
                return;
            }
        }
        panic!("{what}: {:?} {:?}", self.ours.events, self.ours.dtls);
    }
}

fn material(keys: &SrtpKeys, is_client: bool) -> Vec<u8> {
    let (client, server) = if is_client {
        (&keys.local, &keys.remote)
    } else {
        (&keys.remote, &keys.local)
    };
    [
        &client.key[..],
        &server.key[..],
        &client.salt[..],
        &server.salt[..],
    ]
    .concat()
}

#[test]
fn both_versions_both_roles_with_and_without_cookie_and_loss() {
    for version in [Version::Dtls12, Version::Dtls13] {
        for role in [visavis_dtls::Role::Client, visavis_dtls::Role::Server] {
            for cookie in [false, true] {
                for seed in 0..6 {
                    // The first without loss.
                    let loss = if seed == 0 { 0.0 } else { 0.25 };
                    let what = format!("{version} {role:?} cookie {cookie} seed {seed}");
                    let mut pair = Pair::new(role, version, cookie, loss, seed);
                    pair.connect(&what);
                    let connected = pair
                        .ours
                        .events
                        .iter()
                        .find_map(|event| match event {
                            Event::Connected(connected) => Some(connected),
                            _ => None,
                        })
                        .unwrap();
                    assert_eq!(connected.version, version, "{what}");
                    let keys = connected.srtp.as_ref().expect("SRTP");
                    assert_eq!(
                        Some(material(keys, role == visavis_dtls::Role::Client)),
                        pair.theirs.keys,
                        "{what}"
                    );
                    assert_eq!(
                        pair.theirs.certificate.as_deref(),
                        Some(own_der(&pair)),
                        "{what}"
                    );
                    pair.loss = 0.0;
                    for _ in 0..200 {
                        pair.step();
                    }
                    let framing = pair.ours.dtls.framing();
                    let mut datagram = vec![7; framing.header + 900 + framing.trailer];
                    let payload = framing.header..framing.header + 900;
                    pair.ours.dtls.seal(&mut datagram, payload).unwrap();
                    pair.theirs.dtls.handle_packet(&datagram).unwrap();
                    pair.theirs.dtls.send_application_data(&[8; 700]).unwrap();
                    for _ in 0..5 {
                        pair.step();
                    }
                    assert_eq!(pair.theirs.data, [vec![7; 900]], "{what}");
                    assert_eq!(pair.ours.data, [vec![8; 700]], "{what}");
                }
            }
        }
    }
}

#[test]
fn key_updates_against_a_foreign_stack() {
    for role in [visavis_dtls::Role::Client, visavis_dtls::Role::Server] {
        let mut pair = Pair::new(role, Version::Dtls13, false, 0.0, 1);
        pair.connect("key update");
        for _ in 0..50 {
            pair.step();
        }
        for round in 0..3u8 {
            pair.ours.dtls.update_keys(pair.now, true).unwrap();
            for _ in 0..20 {
                pair.step();
            }
            let framing = pair.ours.dtls.framing();
            let mut datagram = vec![round; framing.header + 90 + framing.trailer];
            let payload = framing.header..framing.header + 90;
            pair.ours.dtls.seal(&mut datagram, payload).unwrap();
            pair.theirs.dtls.handle_packet(&datagram).unwrap();
            pair.theirs
                .dtls
                .send_application_data(&[round; 70])
                .unwrap();
            for _ in 0..5 {
                pair.step();
            }
            assert_eq!(pair.theirs.data.pop(), Some(vec![round; 90]), "{role:?}");
            assert_eq!(pair.ours.data.pop(), Some(vec![round; 70]), "{role:?}");
        }
        let updates = |wanted: &Event| {
            let events = &pair.ours.events;
            events.iter().filter(|event| *event == wanted).count()
        };
        assert_eq!(updates(&Event::LocalKeysUpdated), 3);
        assert_eq!(updates(&Event::RemoteKeysUpdated), 3);
    }
}

fn own_der(pair: &Pair) -> &[u8] {
    pair.ours.dtls.config().certificates[0].der()
}
