//! Peers that stall, flood, or speak out of turn: told in bounded time, held in bounded memory.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_peer::{
    ChannelId, ChannelOptions, Configuration, ConnectionState, DtlsState, Event, IceCandidate,
    LocalAddress, MessageKind, PeerConnection,
};

/// Two connections whose datagrams are handed over by a call, as far as they are let through.
struct Wire {
    ends: [PeerConnection; 2],
    events: [Vec<Event>; 2],
    /// Whose application takes its events.
    listens: [bool; 2],
    out: TransmitBuf,
    now: Instant,
}

impl Wire {
    fn new() -> Self {
        let now = Instant::now();
        let end = |number: u8| {
            let random = Random::from_u64(number.into());
            let mut pc = PeerConnection::new(Configuration::default(), random, now).unwrap();
            let address = SocketAddr::from(([10, 0, 0, number], 5000));
            pc.add_local_address(now, LocalAddress::udp(address))
                .unwrap();
            pc
        };
        Self {
            ends: [end(1), end(2)],
            events: Default::default(),
            listens: [true; 2],
            out: TransmitBuf::new(54, 1200),
            now,
        }
    }

    fn channel(&mut self) -> ChannelId {
        let options = ChannelOptions::default();
        self.ends[0].create_data_channel(self.now, options).unwrap()
    }

    fn negotiate(&mut self) {
        let now = self.now;
        let [a, b] = &mut self.ends;
        a.set_local_description(now, None).unwrap();
        b.set_remote_description(now, &a.local_description().unwrap())
            .unwrap();
        b.set_local_description(now, None).unwrap();
        a.set_remote_description(now, &b.local_description().unwrap())
            .unwrap();
    }

    /// Carries what `through` lets, until there is no more.
    fn carry(&mut self, through: &dyn Fn(usize, &[u8]) -> bool) {
        loop {
            let mut any = false;
            for from in [0, 1] {
                if self.ends[from]
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    self.ends[from].handle_timeout(self.now);
                }
                while let Some(transmit) = self.ends[from].poll_transmit(self.now, &mut self.out) {
                    any = true;
                    let path = Path::udp(transmit.destination, transmit.source);
                    let mut bytes = self.out.as_slice()[..transmit.len].to_vec();
                    for datagram in bytes.chunks_mut(transmit.segment_size) {
                        if through(from, datagram) {
                            self.ends[1 - from].handle_datagram(self.now, path, datagram);
                        }
                    }
                }
                while self.listens[from] {
                    let Some(event) = self.ends[from].poll_event() else {
                        break;
                    };
                    self.events[from].push(event);
                }
            }
            if !any {
                return;
            }
        }
    }

    /// Lets time pass until `done`; how long that took, or `None` if it is not done after `most`.
    fn until(
        &mut self,
        most: Duration,
        through: &dyn Fn(usize, &[u8]) -> bool,
        done: impl Fn(&Self) -> bool,
    ) -> Option<Duration> {
        let begin = self.now;
        while self.now - begin < most {
            self.carry(through);
            if done(self) {
                return Some(self.now - begin);
            }
            self.now += Duration::from_millis(10);
        }
        None
    }

    fn saw(&self, end: usize, event: &Event) -> bool {
        self.events[end].contains(event)
    }

    fn open(&mut self, channel: ChannelId) {
        let opened = self.until(Duration::from_secs(10), &everything, |wire| {
            wire.saw(0, &Event::DataChannelOpen(channel)) && wire.events[1].iter().any(is_open)
        });
        assert!(opened.is_some(), "not open: {:#?}", self.events);
    }
}

fn everything(_: usize, _: &[u8]) -> bool {
    true
}

fn is_open(event: &Event) -> bool {
    matches!(event, Event::DataChannelOpen(_))
}

fn is_dtls(datagram: &[u8]) -> bool {
    matches!(datagram.first(), Some(20..=63))
}

/// It answers each check of ICE, and never the handshake.
#[test]
fn a_peer_that_stalls_in_the_handshake_fails_in_bounded_time() {
    for silent in [0, 1] {
        let mut wire = Wire::new();
        wire.channel();
        wire.negotiate();
        let through = move |from: usize, datagram: &[u8]| from != silent || !is_dtls(datagram);
        let waiting = 1 - silent;
        let failed = Event::ConnectionState(ConnectionState::Failed);
        let took = wire.until(Duration::from_secs(60), &through, |wire| {
            wire.saw(waiting, &failed)
        });
        assert!(took.is_some(), "{:#?}", wire.events[waiting]);
        // `DtlsSettings::handshake_timeout`, and what ICE took.
        assert!(took < Some(Duration::from_secs(32)), "{took:?}");
        assert!(wire.saw(waiting, &Event::DtlsState(DtlsState::Failed)));
        // Nothing goes on behind the failure but ICE.
        wire.events[waiting].clear();
        wire.until(Duration::from_secs(20), &through, |_| false);
        assert_eq!(wire.events[waiting], []);
    }
}

/// The handshake stops halfway: the flight that answers ours never comes whole.
#[test]
fn a_peer_that_sends_half_a_flight_fails_in_bounded_time() {
    let mut wire = Wire::new();
    wire.channel();
    wire.negotiate();
    // Plaintext handshake records come through, protected ones do not.
    let through =
        |from: usize, datagram: &[u8]| from != 0 || !matches!(datagram.first(), Some(32..=63));
    let failed = Event::ConnectionState(ConnectionState::Failed);
    let took = wire.until(Duration::from_secs(60), &through, |wire| {
        wire.saw(1, &failed)
    });
    assert!(
        took.is_some_and(|took| took < Duration::from_secs(32)),
        "{took:?}"
    );
}

/// The application takes nothing: the window closes, and what is held is bounded by it.
#[test]
fn messages_that_nobody_takes_are_held_within_the_window() {
    let mut wire = Wire::new();
    let channel = wire.channel();
    wire.negotiate();
    wire.open(channel);
    wire.listens[1] = false;
    let message = Bytes::from(vec![7; 1000]);
    let mut refused = 0;
    let held = allocation_counter::measure(|| {
        for _ in 0..50_000 {
            let sent = wire.ends[0].send(wire.now, channel, MessageKind::Binary, message.clone());
            if let Err(error) = sent {
                assert_eq!(error.name(), "OperationError");
                refused += 1;
            }
            wire.carry(&everything);
        }
        for _ in 0..100 {
            wire.now += Duration::from_millis(50);
            wire.carry(&everything);
        }
    });
    assert!(refused > 0, "50 MB found room");
    let window = Configuration::default().sctp.receive_window;
    let send = wire.ends[0]
        .data_channels()
        .unwrap()
        .association()
        .config()
        .limits
        .send_buffer;
    // Both ends are measured: what waits here, what waits there, and what keeping it costs.
    let most = 2 * (window + send) + (1 << 20);
    assert!(
        held.bytes_current < most as i64,
        "{held:?}, window {window}"
    );
    // The connection works on: all that was accepted comes.
    wire.listens[1] = true;
    let expected = 50_000 - refused;
    let came = wire.until(Duration::from_secs(60), &everything, |wire| {
        let is_message = |event: &&Event| matches!(event, Event::Message { .. });
        wire.events[1].iter().filter(is_message).count() == expected
    });
    assert!(came.is_some());
}

/// Candidates without end, and each of them a name to resolve or an address to ask.
#[test]
fn floods_of_candidates_are_bounded_and_do_not_keep_the_connection_from_coming_up() {
    let mut wire = Wire::new();
    let channel = wire.channel();
    wire.negotiate();
    let now = wire.now;
    let flood = |pc: &mut PeerConnection, count: u32| {
        for number in 0..count {
            let [a, b, ..] = number.to_be_bytes();
            let address = match number % 3 {
                0 => format!("198.51.{a}.{b}"),
                1 => format!("2001:db8::{number:x}"),
                _ => format!("{number:08x}-0000-4000-8000-000000000000.local"),
            };
            let port = 1024 + number % 60_000;
            let candidate = IceCandidate {
                candidate: format!("candidate:{number} 1 udp 1 {address} {port} typ host"),
                sdp_mid: Some("0".into()),
                ..IceCandidate::default()
            };
            let _ = pc.add_ice_candidate(now, &candidate);
        }
    };
    flood(&mut wire.ends[0], 1000);
    let some = allocation_counter::measure(|| flood(&mut wire.ends[0], 20_000)).bytes_current;
    assert!(some < 1 << 20, "{some} bytes");
    let limits = Configuration::default().ice.limits;
    assert!(wire.ends[0].ice().remote_candidates().count() <= limits.remote_candidates);
    wire.open(channel);
}

/// Thousands of channels: those beyond what was negotiated are refused, and all of them close.
#[test]
fn floods_of_channels_come_and_go() {
    let mut wire = Wire::new();
    let channel = wire.channel();
    wire.negotiate();
    wire.open(channel);
    let mut channels = Vec::new();
    let mut refused = 0;
    for number in 0..3000 {
        let options = ChannelOptions {
            label: format!("{number}"),
            ..ChannelOptions::default()
        };
        match wire.ends[0].create_data_channel(wire.now, options) {
            Ok(channel) => channels.push(channel),
            Err(error) => {
                assert_eq!(error.name(), "OperationError");
                refused += 1;
            }
        }
    }
    let came = wire.until(Duration::from_secs(30), &everything, |wire| {
        let told = wire.events[1].iter();
        told.filter(|event| matches!(event, Event::DataChannel(_)))
            .count()
            > channels.len() / 2
    });
    assert!(came.is_some(), "{} made, {refused} refused", channels.len());
    for channel in channels {
        wire.ends[0].close_data_channel(wire.now, channel);
    }
    let gone = wire.until(Duration::from_secs(120), &everything, |wire| {
        let there = |end: usize| wire.ends[end].data_channels().unwrap().channels().count();
        there(0) == 1 && there(1) == 1
    });
    let left = [0, 1].map(|end| wire.ends[end].data_channels().unwrap().channels().count());
    assert!(gone.is_some(), "{left:?} channels left");
}
