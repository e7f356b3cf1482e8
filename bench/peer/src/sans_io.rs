//! Pairs of connections in memory, driven in simulated time.
#![allow(dead_code, reason = "each benchmark uses its part")]

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_peer::{
    Certificate, CertificateKind, ChannelOptions, Configuration, Event, LocalAddress,
    PeerConnection, generate_certificate,
};

/// Two ends.
pub trait Pair: Sized {
    /// Connects them, one data channel open.
    fn connect(number: u64) -> Self;
    /// Lets time pass.
    fn idle(&mut self, time: Duration);
}

fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([10, 0, 0, 1 + end as u8], 5000))
}

/// This project's.
pub struct Ours {
    ends: [PeerConnection; 2],
    now: Instant,
    opened: [bool; 2],
}

thread_local! {
    static OUT: std::cell::RefCell<TransmitBuf> = std::cell::RefCell::new(TransmitBuf::new(54, 1200));
}

impl Ours {
    fn pump(&mut self) {
        OUT.with_borrow_mut(|out| {
            loop {
                let mut any = false;
                for from in [0, 1] {
                    let end = &mut self.ends[from];
                    if end.poll_timeout().is_some_and(|at| at <= self.now) {
                        end.handle_timeout(self.now);
                    }
                    while let Some(transmit) = self.ends[from].poll_transmit(self.now, out) {
                        any = true;
                        let path = Path::udp(transmit.destination, transmit.source);
                        let mut bytes = out.as_slice()[..transmit.len].to_vec();
                        for datagram in bytes.chunks_mut(transmit.segment_size) {
                            self.ends[1 - from].handle_datagram(self.now, path, datagram);
                        }
                    }
                    while let Some(event) = self.ends[from].poll_event() {
                        self.opened[from] |= matches!(event, Event::DataChannelOpen(_));
                    }
                }
                if !any {
                    return;
                }
            }
        });
    }

    fn advance(&mut self, until: Instant) {
        loop {
            self.pump();
            let next = self
                .ends
                .iter()
                .filter_map(PeerConnection::poll_timeout)
                .min();
            match next.filter(|&next| next < until) {
                Some(next) => self.now = self.now.max(next),
                None => break,
            }
        }
        self.now = until;
    }
}

impl Pair for Ours {
    fn connect(number: u64) -> Self {
        // As servers do: one certificate for all connections of an end.
        static CERTIFICATES: OnceLock<[Certificate; 2]> = OnceLock::new();
        let certificates = CERTIFICATES.get_or_init(|| {
            [1, 2].map(|seed| {
                let mut random = Random::from_u64(seed);
                let time = Duration::from_secs(1_700_000_000);
                generate_certificate(CertificateKind::EcdsaP256, time, &mut random).unwrap()
            })
        });
        let now = Instant::now();
        let end = |index: usize| {
            let configuration = Configuration {
                certificates: vec![certificates[index].clone()],
                wall_clock: Duration::from_secs(1_700_000_000),
                ..Configuration::default()
            };
            let random = Random::from_u64(number * 2 + index as u64);
            let mut pc = PeerConnection::new(configuration, random, now).unwrap();
            let local = LocalAddress::udp(address(index));
            pc.add_local_address(now, local).unwrap();
            pc
        };
        let mut pair = Self {
            ends: [end(0), end(1)],
            now,
            opened: [false; 2],
        };
        let [a, b] = &mut pair.ends;
        a.create_data_channel(now, ChannelOptions::default())
            .unwrap();
        a.set_local_description(now, None).unwrap();
        b.set_remote_description(now, &a.local_description().unwrap())
            .unwrap();
        b.set_local_description(now, None).unwrap();
        a.set_remote_description(now, &b.local_description().unwrap())
            .unwrap();
        for _ in 0..2000 {
            let until = pair.now + Duration::from_millis(5);
            pair.advance(until);
            if pair.opened[0] {
                return pair;
            }
        }
        panic!("visavis did not connect");
    }

    fn idle(&mut self, time: Duration) {
        let until = self.now + time;
        self.advance(until);
    }
}

/// str0m's.
pub struct Str0m {
    ends: [str0m::Rtc; 2],
    due: [Instant; 2],
    now: Instant,
    opened: [bool; 2],
}

impl Str0m {
    fn pump(&mut self) {
        use str0m::net::{Protocol, Receive};
        use str0m::{Event, Input, Output};
        loop {
            let mut any = false;
            for from in [0, 1] {
                if self.due[from] <= self.now {
                    self.ends[from]
                        .handle_input(Input::Timeout(self.now))
                        .unwrap();
                }
                loop {
                    match self.ends[from].poll_output().unwrap() {
                        Output::Timeout(at) => {
                            self.due[from] = at;
                            break;
                        }
                        Output::Transmit(transmit) => {
                            any = true;
                            let contents = transmit.contents[..].try_into();
                            let Ok(contents) = contents else { continue };
                            let receive = Receive {
                                proto: Protocol::Udp,
                                source: transmit.source,
                                destination: transmit.destination,
                                contents,
                            };
                            let to = &mut self.ends[1 - from];
                            to.handle_input(Input::Receive(self.now, receive)).unwrap();
                            // Its outputs are asked for in this very round.
                            self.due[1 - from] = self.now;
                        }
                        Output::Event(Event::ChannelOpen(..)) => self.opened[from] = true,
                        Output::Event(_) => {}
                    }
                }
            }
            if !any {
                return;
            }
        }
    }

    fn advance(&mut self, until: Instant) {
        loop {
            self.pump();
            let next = self.due[0].min(self.due[1]);
            if next >= until {
                break;
            }
            self.now = self.now.max(next);
        }
        self.now = until;
    }
}

impl Pair for Str0m {
    fn connect(_: u64) -> Self {
        use str0m::{Candidate, RtcConfig};
        let now = Instant::now();
        let end = |index: usize| {
            let mut rtc = RtcConfig::new().build(now);
            let candidate = Candidate::host(address(index), "udp").unwrap();
            rtc.add_local_candidate(candidate);
            rtc
        };
        let mut pair = Self {
            ends: [end(0), end(1)],
            due: [now; 2],
            now,
            opened: [false; 2],
        };
        let [a, b] = &mut pair.ends;
        let mut change = a.sdp_api();
        change.add_channel("data".into());
        let (offer, pending) = change.apply().unwrap();
        let answer = b.sdp_api().accept_offer(offer).unwrap();
        a.sdp_api().accept_answer(pending, answer).unwrap();
        for _ in 0..2000 {
            let until = pair.now + Duration::from_millis(5);
            pair.advance(until);
            if pair.opened[0] {
                return pair;
            }
        }
        panic!("str0m did not connect");
    }

    fn idle(&mut self, time: Duration) {
        let until = self.now + time;
        self.advance(until);
    }
}
