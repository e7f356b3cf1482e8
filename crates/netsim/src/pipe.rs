//! Two ends and the link between them, for tests that need no topology.

use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4};
use std::time::Instant;

use visavis_datagram::{Ecn, Path, Segments, TransmitBuf};

use crate::driver::STUCK;
use crate::{Arrival, HostId, LinkConfig, LinkId, LinkStats, Payload, Simulation};

/// One of a [`Pipe`]'s two ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// The first.
    A,
    /// The second.
    B,
}

impl Side {
    /// The other one.
    pub const fn other(self) -> Self {
        match self {
            Self::A => Self::B,
            Self::B => Self::A,
        }
    }
}

/// A state machine without addresses at one end of a [`Pipe`]: DTLS, SCTP, a media sender.
///
/// Wrap the machine under test; the doors are those of every machine.
pub trait PipeEnd {
    /// A datagram has arrived.
    fn handle_datagram(&mut self, now: Instant, ecn: Ecn, datagram: &mut [u8]);
    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    fn handle_timeout(&mut self, now: Instant);
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Writes a run of datagrams to send now; asked again until `None`.
    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<(Segments, Ecn)>;
    /// A datagram of this end was beyond an MTU: IP packets of up to `mtu` bytes pass.
    fn handle_packet_too_big(&mut self, _now: Instant, _mtu: usize) {}
}

/// A datagram that has come out of a [`Pipe`].
#[derive(Debug)]
pub struct PipeDelivery {
    /// When.
    pub now: Instant,
    /// At which end.
    pub side: Side,
    /// The ECN codepoint as it arrived.
    pub ecn: Ecn,
    /// When the other end sent it: the truth about the one-way delay.
    pub sent: Instant,
    /// The datagram. [`Pipe::recycle`] takes it back.
    pub payload: Payload,
}

/// Two ends and a link in each direction.
///
/// Datagrams count as UDP on IPv4: 28 bytes of headers each, for rate and MTU.
///
/// ```
/// use std::time::{Duration, Instant};
/// use visavis_datagram::Ecn;
/// use visavis_netsim::{LinkConfig, Pipe, Side};
///
/// let start = Instant::now();
/// let mut pipe = Pipe::new(start, 1, LinkConfig::new().delay(Duration::from_millis(5)));
/// pipe.send(Side::A, Ecn::NotEct, b"hello");
/// let arrived = pipe.step(start + Duration::from_secs(1)).unwrap();
/// assert_eq!((arrived.side, &arrived.payload[..]), (Side::B, &b"hello"[..]));
/// assert_eq!(arrived.now - start, Duration::from_millis(5));
/// ```
#[derive(Debug)]
pub struct Pipe {
    simulation: Simulation,
    hosts: [HostId; 2],
    links: [LinkId; 2],
    addresses: [SocketAddr; 2],
    out: TransmitBuf,
    too_big: Vec<(Side, usize)>,
}

/// Datagrams per run that [`Pipe::run`] lets an end write at once.
const RUN: usize = 64;
/// The largest datagram that [`Pipe::run`] lets an end write, in bytes.
const LARGEST: usize = 2048;

impl Pipe {
    /// A pipe that is the same in both directions.
    pub fn new(start: Instant, seed: u64, both: LinkConfig) -> Self {
        Self::asymmetric(start, seed, both.clone(), both)
    }

    /// A pipe with one link from A to B and another one from B to A.
    pub fn asymmetric(start: Instant, seed: u64, a_to_b: LinkConfig, b_to_a: LinkConfig) -> Self {
        let mut simulation = Simulation::new(start, seed);
        let hosts = [simulation.add_host("a"), simulation.add_host("b")];
        let address =
            |last| SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, last), 5000));
        let addresses = [address(1), address(2)];
        let links = simulation.connect_hosts(
            (hosts[0], addresses[0].ip(), a_to_b),
            (hosts[1], addresses[1].ip(), b_to_a),
        );
        Self {
            simulation,
            hosts,
            links,
            addresses,
            out: TransmitBuf::new(RUN, LARGEST),
            too_big: Vec::new(),
        }
    }

    /// The present virtual time.
    pub fn now(&self) -> Instant {
        self.simulation.now()
    }

    /// Sends one datagram from an end.
    pub fn send(&mut self, from: Side, ecn: Ecn, datagram: &[u8]) {
        let path = self.path(from);
        self.simulation
            .send(self.hosts[from as usize], path, ecn, datagram);
    }

    /// Sends a run of datagrams, back to back in `bytes`, each `segment_size` long (the last one may be shorter).
    pub fn send_run(&mut self, from: Side, ecn: Ecn, bytes: &[u8], segment_size: usize) {
        for datagram in bytes.chunks(segment_size.max(1)) {
            self.send(from, ecn, datagram);
        }
    }

    /// When something happens next in the network; `None`: nothing is under way.
    pub fn next_event_time(&self) -> Option<Instant> {
        self.simulation.next_event_time()
    }

    /// The next datagram to arrive at or before `until`. Time moves to its arrival, or to `until`.
    pub fn step(&mut self, until: Instant) -> Option<PipeDelivery> {
        while let Some(delivery) = self.simulation.step_until(until) {
            let side = self.side(delivery.host);
            match delivery.what {
                Arrival::Datagram(payload) => {
                    return Some(PipeDelivery {
                        now: delivery.now,
                        side,
                        ecn: delivery.ecn,
                        sent: delivery.sent,
                        payload,
                    });
                }
                Arrival::PacketTooBig { mtu } => self.too_big.push((side, mtu)),
                Arrival::Tcp(_) => {}
            }
        }
        None
    }

    /// Gives a payload's memory back, so that steady traffic allocates nothing.
    pub fn recycle(&mut self, payload: Payload) {
        self.simulation.recycle(payload);
    }

    /// Which ends were told since the last call that a datagram was too big, and the MTU then.
    pub fn take_packet_too_big(&mut self) -> Vec<(Side, usize)> {
        std::mem::take(&mut self.too_big)
    }

    /// Changes the link that leads away from an end.
    pub fn set_link(&mut self, from: Side, config: LinkConfig) {
        self.simulation.set_link(self.links[from as usize], config);
    }

    /// The link that leads away from an end.
    pub fn link(&self, from: Side) -> LinkId {
        self.links[from as usize]
    }

    /// What the link that leads away from an end has done.
    pub fn link_stats(&self, from: Side) -> &LinkStats {
        self.simulation.link_stats(self.links[from as usize])
    }

    /// The network below.
    pub fn simulation(&mut self) -> &mut Simulation {
        &mut self.simulation
    }

    /// Drives both ends until `done` says so (true) or `deadline` has come (false).
    ///
    /// `done` is asked after every event; it may also poll the ends' events and make them send.
    ///
    /// # Panics
    /// If time stands still for a million rounds, because an end's timeout is always due.
    pub fn run<A: PipeEnd, B: PipeEnd>(
        &mut self,
        a: &mut A,
        b: &mut B,
        deadline: Instant,
        mut done: impl FnMut(Instant, &mut A, &mut B) -> bool,
    ) -> bool {
        let (mut rounds, mut at) = (0, self.now());
        loop {
            let now = self.now();
            if done(now, a, b) {
                return true;
            }
            rounds = if now == at { rounds + 1 } else { 0 };
            at = now;
            assert!(rounds < STUCK, "time stands still: a timeout is always due");
            self.transmit(Side::A, a);
            self.transmit(Side::B, b);
            if now >= deadline {
                return false;
            }
            let timeout = [a.poll_timeout(), b.poll_timeout()]
                .into_iter()
                .flatten()
                .min();
            let until = timeout.map_or(deadline, |timeout| timeout.clamp(now, deadline));
            if let Some(mut delivery) = self.step(until) {
                let (now, ecn) = (delivery.now, delivery.ecn);
                match delivery.side {
                    Side::A => a.handle_datagram(now, ecn, &mut delivery.payload),
                    Side::B => b.handle_datagram(now, ecn, &mut delivery.payload),
                }
                self.recycle(delivery.payload);
            }
            let now = self.now();
            for (side, mtu) in self.take_packet_too_big() {
                match side {
                    Side::A => a.handle_packet_too_big(now, mtu),
                    Side::B => b.handle_packet_too_big(now, mtu),
                }
            }
            if a.poll_timeout().is_some_and(|timeout| timeout <= now) {
                a.handle_timeout(now);
            }
            if b.poll_timeout().is_some_and(|timeout| timeout <= now) {
                b.handle_timeout(now);
            }
        }
    }

    fn transmit(&mut self, from: Side, end: &mut impl PipeEnd) {
        let (now, path) = (self.now(), self.path(from));
        let host = self.hosts[from as usize];
        loop {
            self.out.clear();
            let Some((segments, ecn)) = end.poll_transmit(now, &mut self.out) else {
                return;
            };
            for datagram in self.out.as_slice().chunks(segments.segment_size.max(1)) {
                self.simulation.send(host, path, ecn, datagram);
            }
        }
    }

    fn path(&self, from: Side) -> Path {
        Path::udp(
            self.addresses[from as usize],
            self.addresses[from.other() as usize],
        )
    }

    fn side(&self, host: HostId) -> Side {
        if host == self.hosts[0] {
            Side::A
        } else {
            Side::B
        }
    }
}
