//! Runs sans-IO machines on a simulated network.

use std::time::Instant;

use visavis_datagram::{Ecn, Path, Transmit, TransmitBuf};

use crate::{Arrival, HostId, Simulation, TcpCommand, TcpEvent};

/// A state machine on a host: the five doors, without the events, which are its owner's.
pub trait Endpoint {
    /// A datagram has arrived.
    fn handle_datagram(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]);
    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    fn handle_timeout(&mut self, now: Instant);
    /// When [`handle_timeout`](Self::handle_timeout) wants to be called.
    fn poll_timeout(&self) -> Option<Instant>;
    /// Writes a run of datagrams to send now; asked again until `None`. On a stream protocol the
    /// run is bytes for the connection of that path, which must stand.
    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit>;
    /// Something happened to a TCP connection of the host.
    fn handle_tcp(&mut self, _now: Instant, _path: Path, _event: TcpEvent) {}
    /// What the machine wants done with TCP; asked again until `None`.
    fn poll_tcp(&mut self, _now: Instant) -> Option<TcpCommand> {
        None
    }
    /// A datagram on `path` was beyond an MTU: IP packets of up to `mtu` bytes pass.
    fn handle_packet_too_big(&mut self, _now: Instant, _path: Path, _mtu: usize) {}
}

impl<E: Endpoint + ?Sized> Endpoint for Box<E> {
    fn handle_datagram(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]) {
        (**self).handle_datagram(now, path, ecn, datagram);
    }
    fn handle_timeout(&mut self, now: Instant) {
        (**self).handle_timeout(now);
    }
    fn poll_timeout(&self) -> Option<Instant> {
        (**self).poll_timeout()
    }
    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        (**self).poll_transmit(now, out)
    }
    fn handle_tcp(&mut self, now: Instant, path: Path, event: TcpEvent) {
        (**self).handle_tcp(now, path, event);
    }
    fn poll_tcp(&mut self, now: Instant) -> Option<TcpCommand> {
        (**self).poll_tcp(now)
    }
    fn handle_packet_too_big(&mut self, now: Instant, path: Path, mtu: usize) {
        (**self).handle_packet_too_big(now, path, mtu);
    }
}

/// Datagrams per run that an endpoint may write at once.
const RUN: usize = 64;
/// The largest datagram that an endpoint may write, in bytes.
const LARGEST: usize = 2048;
/// Rounds at one instant after which an endpoint is stuck.
pub(crate) const STUCK: u32 = 1_000_000;

/// Endpoints on the hosts of a simulation, and the loop that runs them. `E` is one type of
/// endpoint, an enum of several, or `Box<dyn Endpoint>`. One host has at most one endpoint.
#[derive(Debug)]
pub struct Driver<E> {
    /// The network.
    pub simulation: Simulation,
    endpoints: Vec<(HostId, E)>,
    /// Which endpoint a host has, by the host's index.
    of_host: Vec<Option<usize>>,
    out: TransmitBuf,
}

impl<E: Endpoint> Driver<E> {
    /// A driver without endpoints.
    pub fn new(simulation: Simulation) -> Self {
        Self {
            simulation,
            endpoints: Vec::new(),
            of_host: Vec::new(),
            out: TransmitBuf::new(RUN, LARGEST),
        }
    }

    /// Puts an endpoint on a host; a former one of the host is out of reach of the network from
    /// then on. Returns its index, counted from 0.
    pub fn add(&mut self, host: HostId, endpoint: E) -> usize {
        let index = self.endpoints.len();
        self.endpoints.push((host, endpoint));
        if self.of_host.len() <= host.index() {
            self.of_host.resize(host.index() + 1, None);
        }
        self.of_host[host.index()] = Some(index);
        index
    }

    /// The present virtual time.
    pub fn now(&self) -> Instant {
        self.simulation.now()
    }

    /// An endpoint by its index.
    pub fn endpoint(&self, index: usize) -> &E {
        &self.endpoints[index].1
    }

    /// An endpoint by its index.
    pub fn endpoint_mut(&mut self, index: usize) -> &mut E {
        &mut self.endpoints[index].1
    }

    /// Drives everything until `done` says so (true) or `deadline` has come (false).
    ///
    /// `done` is asked after every event; it may poll the endpoints' events, make them act, and
    /// change the network.
    ///
    /// # Panics
    /// If time stands still for a million rounds, because an endpoint's timeout is always due.
    pub fn run(&mut self, deadline: Instant, mut done: impl FnMut(&mut Self) -> bool) -> bool {
        let mut rounds = 0;
        let mut at = self.now();
        loop {
            if done(self) {
                return true;
            }
            for index in 0..self.endpoints.len() {
                self.transmit(index);
            }
            let now = self.now();
            if now >= deadline {
                return false;
            }
            rounds = if now == at { rounds + 1 } else { 0 };
            at = now;
            if rounds >= STUCK {
                let due = |(_, endpoint): &(HostId, E)| {
                    endpoint.poll_timeout().is_some_and(|due| due <= now)
                };
                let stuck = self.endpoints.iter().position(due);
                panic!("time stands still: a timeout of endpoint {stuck:?} is always due");
            }
            let timeouts = self.endpoints.iter().filter_map(|(_, e)| e.poll_timeout());
            let until = timeouts
                .min()
                .map_or(deadline, |timeout| timeout.clamp(now, deadline));
            if let Some(delivery) = self.simulation.step_until(until) {
                let index = self.of_host.get(delivery.host.index()).copied().flatten();
                let (now, path) = (delivery.now, delivery.path);
                if let Some(index) = index {
                    let endpoint = &mut self.endpoints[index].1;
                    match delivery.what {
                        Arrival::Datagram(mut payload) => {
                            endpoint.handle_datagram(now, path, delivery.ecn, &mut payload);
                            self.simulation.recycle(payload);
                        }
                        Arrival::PacketTooBig { mtu } => {
                            endpoint.handle_packet_too_big(now, path, mtu);
                        }
                        Arrival::Tcp(event) => endpoint.handle_tcp(now, path, event),
                    }
                }
            }
            let now = self.now();
            for (_, endpoint) in &mut self.endpoints {
                if endpoint.poll_timeout().is_some_and(|due| due <= now) {
                    endpoint.handle_timeout(now);
                }
            }
        }
    }

    /// Drives everything until `deadline`.
    pub fn run_to(&mut self, deadline: Instant) {
        self.run(deadline, |_| false);
    }

    fn transmit(&mut self, index: usize) {
        let now = self.simulation.now();
        let (host, endpoint) = &mut self.endpoints[index];
        while let Some(command) = endpoint.poll_tcp(now) {
            self.simulation.tcp(*host, command);
        }
        loop {
            self.out.clear();
            let Some(transmit) = endpoint.poll_transmit(now, &mut self.out) else {
                return;
            };
            self.simulation
                .transmit(*host, &transmit, self.out.as_slice());
        }
    }
}
