//! Our two ends in memory.

use std::sync::Arc;
use std::time::Instant;

use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, Fingerprint, Group, HashAlgorithm};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config, Connection, Version};

use crate::{PAYLOAD, RECORDS};

pub struct Settings {
    client: Arc<Config>,
    server: Arc<Config>,
    of_client: Fingerprint,
    of_server: Fingerprint,
}

impl Settings {
    pub fn new(version: Version, group: Group) -> Self {
        let config = |seed| {
            let options = SelfSigned::at(1_800_000_000);
            let certificate = Certificate::self_signed(&options, &mut Random::from_u64(seed))
                .expect("a certificate");
            let mut config = Config::new(certificate);
            config.min_version = version;
            config.max_version = version;
            config.groups = vec![group];
            config
        };
        let fingerprint =
            |config: &Config| config.certificates[0].fingerprint(HashAlgorithm::Sha256);
        let (client, server) = (config(1), config(2));
        Self {
            of_client: fingerprint(&client),
            of_server: fingerprint(&server),
            client: Arc::new(client),
            server: Arc::new(server),
        }
    }

    pub fn handshake(&self) -> Pair {
        let now = Instant::now();
        let mut random = Random::from_u64(1);
        let client = Connection::client(self.client.clone(), random.fork(), now);
        let server = Connection::server(self.server.clone(), random.fork(), now);
        let (mut client, mut server) = (client.expect("settings"), server.expect("settings"));
        client.set_remote_fingerprints(now, [self.of_server]);
        server.set_remote_fingerprints(now, [self.of_client]);
        let mut out = TransmitBuf::new(4, 1300);
        while carry(now, &mut client, &mut server, &mut out)
            | carry(now, &mut server, &mut client, &mut out)
        {}
        assert!(client.is_connected() && server.is_connected());
        let framing = client.framing();
        Pair {
            now,
            client,
            server,
            datagram: vec![7; framing.header + PAYLOAD + framing.trailer],
            sealed: Vec::new(),
        }
    }
}

fn carry(now: Instant, from: &mut Connection, to: &mut Connection, out: &mut TransmitBuf) -> bool {
    let mut carried = false;
    loop {
        out.clear();
        if from.poll_transmit(now, out).is_none() {
            return carried;
        }
        for (datagram, _) in out.datagrams_mut() {
            to.handle_datagram(now, datagram);
            carried = true;
        }
    }
}

pub struct Pair {
    now: Instant,
    client: Connection,
    server: Connection,
    datagram: Vec<u8>,
    sealed: Vec<Vec<u8>>,
}

impl Pair {
    pub fn seal(&mut self) {
        let start = self.client.framing().header;
        self.client
            .seal(&mut self.datagram, start..start + PAYLOAD)
            .expect("a sealed record");
        // The key update that the limit asks for.
        if self
            .client
            .stats()
            .data_records_sent
            .is_multiple_of(1 << 16)
        {
            let mut out = TransmitBuf::new(4, 1300);
            while carry(self.now, &mut self.client, &mut self.server, &mut out)
                | carry(self.now, &mut self.server, &mut self.client, &mut out)
            {}
        }
    }

    pub fn prepare(&mut self) {
        self.sealed.clear();
        for _ in 0..RECORDS {
            self.datagram.fill(7);
            self.seal();
            self.sealed.push(self.datagram.clone());
        }
    }

    pub fn open(&mut self) {
        for datagram in &mut self.sealed {
            let received = self.server.handle_datagram(self.now, datagram);
            assert_eq!(received.len(), 1);
        }
    }
}
