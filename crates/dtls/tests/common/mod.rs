//! Two connections and a wire between them, with time that only the test moves.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test binary uses what it needs"
)]

use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, HashAlgorithm, KeyAlgorithm};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config, Connected, Connection, Event};

/// A certificate with a key of `algorithm`.
pub fn certificate(algorithm: KeyAlgorithm, seed: u64) -> Certificate {
    let options = SelfSigned {
        algorithm,
        ..SelfSigned::at(1_800_000_000)
    };
    Certificate::self_signed(&options, &mut Random::from_u64(seed)).unwrap()
}

/// Settings with an ECDSA certificate of their own.
pub fn config(seed: u64) -> Config {
    Config::new(certificate(KeyAlgorithm::EcdsaP256, seed))
}

/// One end, and what it said and heard.
pub struct End {
    pub dtls: Connection,
    pub events: Vec<Event>,
    pub data: Vec<Vec<u8>>,
    /// Datagrams sent.
    pub sent: usize,
}

impl End {
    pub fn new(dtls: Connection) -> Self {
        Self {
            dtls,
            events: Vec::new(),
            data: Vec::new(),
            sent: 0,
        }
    }

    /// All datagrams that wait to be sent.
    pub fn transmit(&mut self, now: Instant) -> Vec<Vec<u8>> {
        let mut datagrams = Vec::new();
        let mut out = TransmitBuf::new(10, 1500);
        while self.dtls.poll_transmit(now, &mut out).is_some() {
            datagrams.extend(out.datagrams_mut().map(|(datagram, _)| datagram.to_vec()));
            out.clear();
        }
        self.sent += datagrams.len();
        datagrams
    }

    pub fn receive(&mut self, now: Instant, mut datagram: Vec<u8>) {
        let received = self.dtls.handle_datagram(now, &mut datagram);
        for range in received.iter() {
            self.data.push(datagram[range].to_vec());
        }
        self.poll();
    }

    pub fn poll(&mut self) {
        while let Some(event) = self.dtls.poll_event() {
            if let Event::ApplicationData(data) = &event {
                self.data.push(data.clone());
            }
            self.events.push(event);
        }
    }

    pub fn connected(&self) -> Option<&Connected> {
        self.events.iter().find_map(|event| match event {
            Event::Connected(connected) => Some(&**connected),
            _ => None,
        })
    }

    /// One sealed datagram with application data.
    pub fn seal(&mut self, data: &[u8]) -> Vec<u8> {
        let framing = self.dtls.framing();
        let mut datagram = vec![0; framing.header];
        datagram.extend_from_slice(data);
        datagram.resize(datagram.len() + framing.trailer, 0);
        let payload = framing.header..framing.header + data.len();
        self.dtls.seal(&mut datagram, payload).unwrap();
        datagram
    }
}

/// A client and a server that know each other's fingerprints.
pub struct Pair {
    pub now: Instant,
    pub client: End,
    pub server: End,
}

impl Pair {
    pub fn new(client: Config, server: Config, seed: u64) -> Self {
        let mut pair = Self::strangers(client, server, seed);
        pair.introduce();
        pair
    }

    /// Two ends that do not know each other's fingerprints yet.
    pub fn strangers(client: Config, server: Config, seed: u64) -> Self {
        let now = Instant::now();
        let mut random = Random::from_u64(seed);
        Self {
            now,
            client: End::new(Connection::client(Arc::new(client), random.fork(), now).unwrap()),
            server: End::new(Connection::server(Arc::new(server), random.fork(), now).unwrap()),
        }
    }

    pub fn introduce(&mut self) {
        introduce(self.now, &mut self.client, &mut self.server);
        introduce(self.now, &mut self.server, &mut self.client);
    }

    /// Carries datagrams to and fro until both are silent.
    pub fn exchange(&mut self) {
        loop {
            let from_client = self.client.transmit(self.now);
            let quiet = from_client.is_empty();
            for datagram in from_client {
                self.server.receive(self.now, datagram);
            }
            let from_server = self.server.transmit(self.now);
            if quiet && from_server.is_empty() {
                self.client.poll();
                self.server.poll();
                return;
            }
            for datagram in from_server {
                self.client.receive(self.now, datagram);
            }
        }
    }

    /// Moves time to the next timeout of either end; false if there is none within `limit`.
    pub fn elapse(&mut self, limit: Duration) -> bool {
        let next = [
            self.client.dtls.poll_timeout(),
            self.server.dtls.poll_timeout(),
        ]
        .into_iter()
        .flatten()
        .min();
        match next {
            Some(next) if next <= self.now + limit => {
                self.now = self.now.max(next);
                self.client.dtls.handle_timeout(self.now);
                self.server.dtls.handle_timeout(self.now);
                true
            }
            _ => false,
        }
    }

    pub fn assert_connected(&mut self, what: &str) {
        self.client.poll();
        self.server.poll();
        assert!(
            self.client.dtls.is_connected(),
            "{what}: {:?} {:?}",
            self.client.events,
            self.client.dtls
        );
        assert!(
            self.server.dtls.is_connected(),
            "{what}: {:?} {:?}",
            self.server.events,
            self.server.dtls
        );
    }

    /// Application data goes both ways and arrives as it was.
    pub fn assert_data_flows(&mut self, what: &str) {
        for len in [0, 1, 100, 1100] {
            let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let datagram = self.client.seal(&data);
            self.server.data.clear();
            self.server.receive(self.now, datagram);
            assert_eq!(
                self.server.data,
                std::slice::from_ref(&data),
                "{what}: to the server"
            );
            let datagram = self.server.seal(&data);
            self.client.data.clear();
            self.client.receive(self.now, datagram);
            assert_eq!(self.client.data, [data], "{what}: to the client");
        }
    }
}

/// Tells `to` the fingerprint of `about`'s certificates.
pub fn introduce(now: Instant, to: &mut End, about: &mut End) {
    let fingerprints: Vec<_> = about
        .dtls
        .config()
        .certificates
        .iter()
        .map(|certificate| certificate.fingerprint(HashAlgorithm::Sha256))
        .collect();
    to.dtls.set_remote_fingerprints(now, fingerprints);
}
