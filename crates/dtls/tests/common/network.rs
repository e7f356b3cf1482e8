//! Handshakes over a simulated network: one seed, one history.
#![allow(dead_code, unreachable_pub, reason = "each user needs a part")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::HashAlgorithm;
use visavis_datagram::{Ecn, Random, Segments, TransmitBuf};
use visavis_dtls::{Config, Connection, Event};
use visavis_netsim::{LinkConfig, Pipe, PipeEnd};

/// One-way delay of every link.
pub const DELAY: Duration = Duration::from_millis(50);

/// What the network does to datagrams.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// Delays them.
    Clean,
    /// Loses 40 % of them.
    Lossy,
    /// Holds half of them back by more than a round trip.
    Reordering,
    /// Sends half of them twice.
    Duplicating,
    /// Silently drops IP packets beyond 576 bytes; nobody told the ends.
    Narrow,
    /// All of that together, with half the loss.
    All,
}

impl Network {
    pub const ALL: [Self; 6] = [
        Self::Clean,
        Self::Lossy,
        Self::Reordering,
        Self::Duplicating,
        Self::Narrow,
        Self::All,
    ];

    fn link(self) -> LinkConfig {
        let link = LinkConfig::new().delay(DELAY);
        let held = Duration::from_millis(130);
        match self {
            Self::Clean => link,
            Self::Lossy => link.random_loss(0.4),
            Self::Reordering => link.reorder(0.5, held),
            Self::Duplicating => link.duplicate(0.5),
            Self::Narrow => link.mtu(576).black_hole(),
            Self::All => link
                .random_loss(0.2)
                .reorder(0.3, held)
                .duplicate(0.3)
                .mtu(576)
                .black_hole(),
        }
    }
}

/// How a handshake went.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Outcome {
    /// When the client was connected, if it was.
    pub client: Option<Duration>,
    /// When the server was connected, if it was.
    pub server: Option<Duration>,
    /// Datagrams that both ends sent until then.
    pub datagrams: u64,
}

impl Outcome {
    pub fn is_complete(&self) -> bool {
        self.client.is_some() && self.server.is_some()
    }

    /// The client's time in round trips.
    pub fn round_trips(&self) -> f64 {
        self.client.map_or(f64::NAN, |time| {
            time.as_secs_f64() / (2.0 * DELAY.as_secs_f64())
        })
    }
}

struct End {
    dtls: Connection,
    connected: Option<Instant>,
    data: Vec<Vec<u8>>,
    closed: bool,
}

impl End {
    fn poll(&mut self, now: Instant) {
        while let Some(event) = self.dtls.poll_event() {
            match event {
                Event::Connected(_) => self.connected = Some(now),
                Event::Closed(_) => self.closed = true,
                Event::ApplicationData(data) => self.data.push(data),
                _ => {}
            }
        }
    }
}

impl PipeEnd for End {
    fn handle_datagram(&mut self, now: Instant, _ecn: Ecn, datagram: &mut [u8]) {
        let received = self.dtls.handle_datagram(now, datagram);
        for range in received {
            self.data.push(datagram[range].to_vec());
        }
        self.poll(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.dtls.handle_timeout(now);
        self.poll(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.dtls.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<(Segments, Ecn)> {
        Some((self.dtls.poll_transmit(now, out)?, Ecn::NotEct))
    }
}

/// Runs one handshake. Both ends trust each other's certificates.
pub fn run(client: &Arc<Config>, server: &Arc<Config>, network: Network, seed: u64) -> Outcome {
    let start = Instant::now();
    let mut random = Random::from_u64(seed);
    let end = |dtls: Connection| End {
        dtls,
        connected: None,
        data: Vec::new(),
        closed: false,
    };
    let mut a = end(Connection::client(client.clone(), random.fork(), start).unwrap());
    let mut b = end(Connection::server(server.clone(), random.fork(), start).unwrap());
    let fingerprint = |config: &Config| config.certificates[0].fingerprint(HashAlgorithm::Sha256);
    a.dtls.set_remote_fingerprints(start, [fingerprint(server)]);
    b.dtls.set_remote_fingerprints(start, [fingerprint(client)]);
    let mut pipe = Pipe::new(start, seed, network.link());
    let deadline = start + Duration::from_secs(110);
    pipe.run(&mut a, &mut b, deadline, |_, a, b| {
        a.connected.is_some() && b.connected.is_some() || a.closed || b.closed
    });
    Outcome {
        client: a.connected.map(|at| at - start),
        server: b.connected.map(|at| at - start),
        datagrams: a.dtls.stats().datagrams_sent + b.dtls.stats().datagrams_sent,
    }
}
