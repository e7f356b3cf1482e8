//! Handshakes over a simulated network: one seed, one history.
#![allow(dead_code, unreachable_pub, reason = "each user needs a part")]

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::{Fingerprint, HashAlgorithm};
use visavis_datagram::{Ecn, Random, Segments, TransmitBuf};
use visavis_dtls::{Config, Connection, Event, Front, FrontAnswer, FrontLimits};
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
    /// All of that together.
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
                .random_loss(0.4)
                .reorder(0.3, held)
                .duplicate(0.3)
                .mtu(576)
                .black_hole(),
        }
    }
}

/// Whether the server asks for a cookie first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cookie {
    No,
    Yes,
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
        let round_trip = 2 * DELAY.as_nanos();
        self.client
            .map_or(f64::NAN, |time| time.as_nanos() as f64 / round_trip as f64)
    }
}

struct End {
    /// `None` while a front waits for a cookie.
    dtls: Option<Connection>,
    front: Option<Front>,
    /// What the front answers.
    replies: VecDeque<Vec<u8>>,
    fingerprint: Fingerprint,
    connected: Option<Instant>,
    data: Vec<Vec<u8>>,
    closed: bool,
}

impl End {
    fn new(now: Instant, dtls: Option<Connection>, front: Option<Front>, peer: &Config) -> Self {
        let mut end = Self {
            dtls,
            front,
            replies: VecDeque::new(),
            fingerprint: peer.certificates[0].fingerprint(HashAlgorithm::Sha256),
            connected: None,
            data: Vec::new(),
            closed: false,
        };
        end.introduce(now);
        end
    }

    fn introduce(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.set_remote_fingerprints(now, [self.fingerprint]);
        }
    }

    fn poll(&mut self, now: Instant) {
        while let Some(event) = self.dtls.as_mut().and_then(Connection::poll_event) {
            match event {
                Event::Connected(_) => self.connected = Some(now),
                Event::Closed(_) => self.closed = true,
                Event::ApplicationData(data) => self.data.push(data),
                _ => {}
            }
        }
    }

    fn sent(&self) -> u64 {
        self.dtls
            .as_ref()
            .map_or(0, |dtls| dtls.stats().datagrams_sent)
    }
}

impl PipeEnd for End {
    fn handle_datagram(&mut self, now: Instant, _ecn: Ecn, datagram: &mut [u8]) {
        if let Some(dtls) = &mut self.dtls {
            for range in dtls.handle_datagram(now, datagram) {
                self.data.push(datagram[range].to_vec());
            }
        } else if let Some(front) = &mut self.front {
            let source = SocketAddr::from(([192, 0, 2, 1], 5000));
            let mut reply = Vec::new();
            match front.handle_datagram(now, source, datagram, &mut reply) {
                FrontAnswer::Reply => self.replies.push_back(reply),
                FrontAnswer::Accepted(dtls) => {
                    self.dtls = Some(*dtls);
                    self.introduce(now);
                }
                _ => {}
            }
        }
        self.poll(now);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some(dtls) = &mut self.dtls {
            dtls.handle_timeout(now);
        }
        self.poll(now);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.dtls.as_ref().and_then(Connection::poll_timeout)
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<(Segments, Ecn)> {
        if let Some(reply) = self.replies.pop_front() {
            out.push(&reply);
            return Some((out.segments()?, Ecn::NotEct));
        }
        let dtls = self.dtls.as_mut()?;
        Some((dtls.poll_transmit(now, out)?, Ecn::NotEct))
    }
}

/// Runs one handshake. Both ends trust each other's certificates.
pub fn run(
    client: &Arc<Config>,
    server: &Arc<Config>,
    network: Network,
    cookie: Cookie,
    seed: u64,
) -> Outcome {
    let start = Instant::now();
    let mut random = Random::from_u64(seed);
    let dtls = Connection::client(client.clone(), random.fork(), start).unwrap();
    let mut a = End::new(start, Some(dtls), None, server);
    let mut b = match cookie {
        Cookie::No => {
            let dtls = Connection::server(server.clone(), random.fork(), start).unwrap();
            End::new(start, Some(dtls), None, client)
        }
        Cookie::Yes => {
            let limits = FrontLimits::default();
            let front = Front::new(server.clone(), limits, random.fork(), start).unwrap();
            End::new(start, None, Some(front), client)
        }
    };
    let mut pipe = Pipe::new(start, seed, network.link());
    let deadline = start + Duration::from_secs(110);
    pipe.run(&mut a, &mut b, deadline, |_, a, b| {
        a.connected.is_some() && b.connected.is_some() || a.closed || b.closed
    });
    Outcome {
        client: a.connected.map(|at| at - start),
        server: b.connected.map(|at| at - start),
        datagrams: a.sent() + b.sent(),
    }
}
