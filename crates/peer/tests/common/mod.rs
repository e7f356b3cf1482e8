//! Two connections on a simulated network, and signalling that takes no time.
#![allow(dead_code, reason = "each test file uses its part")]

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Random, Transmit, TransmitBuf};
use visavis_netsim::{Driver, Endpoint, HostId, LinkConfig, Simulation};
use visavis_peer::{
    Configuration, Description, Event, IceCandidate, LocalAddress, PeerConnection, Received,
};

/// One end, what it was told, and the RTP packets it got.
pub(crate) struct End {
    pub(crate) pc: PeerConnection,
    address: SocketAddr,
    now: Instant,
    pub(crate) events: Vec<Event>,
    /// Candidates on their way to the other end.
    pub(crate) candidates: Vec<IceCandidate>,
    pub(crate) rtp: Vec<(Received, Vec<u8>)>,
}

impl End {
    pub(crate) fn new(
        configuration: Configuration,
        seed: u64,
        now: Instant,
        address: &str,
    ) -> Self {
        let mut pc = PeerConnection::new(configuration, Random::from_u64(seed), now).unwrap();
        let address: SocketAddr = address.parse().unwrap();
        pc.add_local_address(now, LocalAddress::udp(address))
            .unwrap();
        Self {
            pc,
            address,
            now,
            events: Vec::new(),
            candidates: Vec::new(),
            rtp: Vec::new(),
        }
    }

    fn drain(&mut self) {
        while let Some(event) = self.pc.poll_event() {
            if let Event::IceCandidate(Some(candidate)) = &event {
                self.candidates.push(candidate.clone());
            }
            if let Event::AddressesWanted(id) = event {
                let port = self.address.port() + u16::from(id.get());
                let address = SocketAddr::new(self.address.ip(), port);
                let locals = [LocalAddress::udp(address)];
                self.pc.set_transport_addresses(self.now, id, locals);
            }
            self.events.push(event);
        }
    }

    pub(crate) fn saw(&self, what: impl Fn(&Event) -> bool) -> bool {
        self.events.iter().any(what)
    }
}

impl Endpoint for End {
    fn handle_datagram(&mut self, now: Instant, path: Path, ecn: Ecn, datagram: &mut [u8]) {
        self.now = now;
        let received = self.pc.handle_datagram_with_ecn(now, path, ecn, datagram);
        if let Received::Rtp(rtp) = &received {
            let packet = datagram[rtp.packet.clone()].to_vec();
            self.rtp.push((received, packet));
        }
        self.drain();
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.now = now;
        self.pc.handle_timeout(now);
        self.drain();
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.pc.poll_timeout()
    }

    fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        let transmit = self.pc.poll_transmit(now, out);
        self.drain();
        transmit
    }
}

pub(crate) struct Call {
    pub(crate) driver: Driver<End>,
    pub(crate) hosts: [HostId; 2],
}

pub(crate) const ALICE: usize = 0;
pub(crate) const BOB: usize = 1;

impl Call {
    /// Two hosts and a wire between them.
    pub(crate) fn new(seed: u64, link: LinkConfig, configurations: [Configuration; 2]) -> Self {
        let mut simulation = Simulation::new(Instant::now(), seed);
        let wire = |simulation: &mut Simulation, name: &str, ip: &str| {
            let addresses = [ip.parse().unwrap()];
            simulation.add_host_in(Simulation::INTERNET, name, &addresses, link.clone())
        };
        let hosts = [
            wire(&mut simulation, "alice", "203.0.113.1"),
            wire(&mut simulation, "bob", "203.0.113.2"),
        ];
        let now = simulation.now();
        let mut driver = Driver::new(simulation);
        let addresses = ["203.0.113.1:5000", "203.0.113.2:5000"];
        for (i, configuration) in configurations.into_iter().enumerate() {
            let end = End::new(configuration, seed * 2 + i as u64, now, addresses[i]);
            driver.add(hosts[i], end);
        }
        Self { driver, hosts }
    }

    pub(crate) fn plain(seed: u64, loss: f64) -> Self {
        let link = LinkConfig::new()
            .delay(Duration::from_millis(20))
            .random_loss(loss);
        Self::new(seed, link, Default::default())
    }

    pub(crate) fn now(&self) -> Instant {
        self.driver.now()
    }

    pub(crate) fn end(&mut self, index: usize) -> &mut End {
        self.driver.endpoint_mut(index)
    }

    pub(crate) fn pc(&mut self, index: usize) -> &mut PeerConnection {
        &mut self.driver.endpoint_mut(index).pc
    }

    /// Offer and answer, from `from` to the other end.
    pub(crate) fn negotiate(&mut self, from: usize) -> (Description, Description) {
        self.negotiate_with(from, |offer| offer)
    }

    /// The same, with an offer that is changed on its way.
    pub(crate) fn negotiate_with(
        &mut self,
        from: usize,
        change: impl Fn(String) -> String,
    ) -> (Description, Description) {
        let now = self.now();
        let to = 1 - from;
        self.pc(from).set_local_description(now, None).unwrap();
        let mut offer = self.pc(from).local_description().unwrap();
        offer.sdp = change(offer.sdp);
        self.pc(to).set_remote_description(now, &offer).unwrap();
        self.pc(to).set_local_description(now, None).unwrap();
        let answer = self.pc(to).local_description().unwrap();
        self.pc(from).set_remote_description(now, &answer).unwrap();
        self.carry();
        (offer, answer)
    }

    /// Carries candidates to the other ends.
    pub(crate) fn carry(&mut self) {
        let now = self.now();
        for from in [ALICE, BOB] {
            self.end(from).now = now;
            self.end(from).drain();
            for candidate in std::mem::take(&mut self.end(from).candidates) {
                if self.pc(1 - from).remote_description().is_some() {
                    self.pc(1 - from)
                        .add_ice_candidate(now, &candidate)
                        .unwrap();
                }
            }
        }
    }

    /// Runs until `done`; whether that came within `seconds`.
    pub(crate) fn run(&mut self, seconds: f64, done: impl Fn(&End, &End) -> bool) -> bool {
        let deadline = self.now() + Duration::from_secs_f64(seconds);
        loop {
            self.carry();
            let reached = self.driver.run(deadline, |driver| {
                done(driver.endpoint(ALICE), driver.endpoint(BOB))
                    || !driver.endpoint(ALICE).candidates.is_empty()
                    || !driver.endpoint(BOB).candidates.is_empty()
            });
            let ends = (self.driver.endpoint(ALICE), self.driver.endpoint(BOB));
            if done(ends.0, ends.1) {
                return true;
            }
            if !reached {
                return false;
            }
        }
    }
}
