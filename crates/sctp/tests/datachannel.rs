//! Data channels between two ends (RFC 8831, RFC 8832, webrtc-pc).

use std::time::{Duration, Instant};

use bytes::Bytes;
use visavis_datagram::{Random, TransmitBuf};
use visavis_sctp::datachannel::{
    ChannelEvent, ChannelId, ChannelOptions, ChannelState, DataChannels, DtlsRole, MessageKind,
};
use visavis_sctp::{Config, Error};

struct Pair {
    now: Instant,
    a: DataChannels,
    b: DataChannels,
    events_a: Vec<ChannelEvent>,
    events_b: Vec<ChannelEvent>,
}

fn deliver(now: Instant, from: &mut DataChannels, to: &mut DataChannels) -> bool {
    let mut out = TransmitBuf::new(16, 1400);
    let mut any = false;
    loop {
        out.clear();
        if from.poll_transmit(now, &mut out).is_none() {
            return any;
        }
        any = true;
        for (datagram, payload) in out.datagrams_mut() {
            to.handle_packet(now, &datagram[payload]);
        }
    }
}

impl Pair {
    fn new(a: Config, b: Config) -> Self {
        Self {
            now: Instant::now(),
            a: DataChannels::new(a, Random::from_u64(3)),
            b: DataChannels::new(b, Random::from_u64(4)),
            events_a: Vec::new(),
            events_b: Vec::new(),
        }
    }

    fn connected() -> Self {
        let mut pair = Self::new(Config::default(), Config::default());
        pair.connect();
        pair
    }

    fn connect(&mut self) {
        self.a.set_role(self.now, DtlsRole::Client);
        self.b.set_role(self.now, DtlsRole::Server);
        self.a.connect(self.now).unwrap();
        self.b.connect(self.now).unwrap();
        self.run();
    }

    fn run(&mut self) {
        for _ in 0..400 {
            let mut any = deliver(self.now, &mut self.a, &mut self.b);
            any |= deliver(self.now, &mut self.b, &mut self.a);
            while let Some(event) = self.a.poll_event(self.now) {
                self.events_a.push(event);
                any = true;
            }
            while let Some(event) = self.b.poll_event(self.now) {
                self.events_b.push(event);
                any = true;
            }
            self.now += Duration::from_millis(1);
            self.a.handle_timeout(self.now);
            self.b.handle_timeout(self.now);
            let _ = any;
        }
    }

    fn incoming(&self) -> ChannelId {
        self.events_b
            .iter()
            .rev()
            .find_map(|event| match event {
                ChannelEvent::Incoming(id) => Some(*id),
                _ => None,
            })
            .expect("an incoming channel")
    }
}

fn named(label: &str) -> ChannelOptions {
    ChannelOptions {
        label: label.to_owned(),
        ..ChannelOptions::default()
    }
}

#[test]
fn a_channel_opened_before_the_connection_reaches_the_peer_with_its_options() {
    let mut pair = Pair::new(Config::default(), Config::default());
    let options = ChannelOptions {
        label: "spiel".to_owned(),
        protocol: "v2".to_owned(),
        ordered: false,
        max_packet_lifetime: Some(150),
        priority: 512,
        ..ChannelOptions::default()
    };
    let channel = pair.a.open(pair.now, options.clone()).unwrap();
    assert_eq!(pair.a.stream_id(channel), None);
    assert_eq!(
        pair.a.send(
            pair.now,
            channel,
            MessageKind::Text,
            Bytes::from_static(b"x")
        ),
        Err(Error::ChannelConnecting)
    );
    pair.connect();
    assert_eq!(pair.a.stream_id(channel), Some(0), "the client's are even");
    assert!(pair.events_a.contains(&ChannelEvent::Open(channel)));
    let incoming = pair.incoming();
    assert_eq!(pair.b.options(incoming), Some(&options));
    let own = pair.b.open(pair.now, named("b")).unwrap();
    assert_eq!(pair.b.stream_id(own), Some(1), "the server's are odd");
}

#[test]
fn messages_keep_their_kind_and_may_be_empty() {
    let mut pair = Pair::connected();
    let channel = pair.a.open(pair.now, named("x")).unwrap();
    let messages = [
        (MessageKind::Text, Bytes::from_static("grüß".as_bytes())),
        (MessageKind::Text, Bytes::new()),
        (MessageKind::Binary, Bytes::new()),
        (MessageKind::Binary, Bytes::from(vec![3; 60_000])),
    ];
    for (kind, data) in &messages {
        pair.a.send(pair.now, channel, *kind, data.clone()).unwrap();
    }
    pair.run();
    let got: Vec<_> = pair
        .events_b
        .iter()
        .filter_map(|event| match event {
            ChannelEvent::Message { kind, data, .. } => Some((*kind, data.clone())),
            _ => None,
        })
        .collect();
    assert_eq!(got, messages);
    assert_eq!(
        pair.a.send(
            pair.now,
            channel,
            MessageKind::Binary,
            Bytes::from(vec![0; 65_537])
        ),
        Err(Error::MessageTooLarge {
            size: 65_537,
            limit: 65_536
        })
    );
    pair.a.set_remote_max_message_size(0);
    pair.a
        .send(
            pair.now,
            channel,
            MessageKind::Binary,
            Bytes::from(vec![0; 65_537]),
        )
        .unwrap();
}

#[test]
fn closing_sends_what_waits_resets_both_sides_and_frees_the_identifier() {
    let mut pair = Pair::connected();
    let channel = pair.a.open(pair.now, named("x")).unwrap();
    pair.run();
    let incoming = pair.incoming();
    for _ in 0..20 {
        pair.a
            .send(
                pair.now,
                channel,
                MessageKind::Binary,
                Bytes::from(vec![1; 5000]),
            )
            .unwrap();
    }
    pair.a.close(pair.now, channel);
    assert_eq!(pair.a.state(channel), ChannelState::Closing);
    assert_eq!(
        pair.a.send(
            pair.now,
            channel,
            MessageKind::Text,
            Bytes::from_static(b"x")
        ),
        Err(Error::ChannelClosed)
    );
    pair.run();
    let messages = pair
        .events_b
        .iter()
        .filter(|event| matches!(event, ChannelEvent::Message { .. }))
        .count();
    assert_eq!(messages, 20);
    let tail = &pair.events_b[pair.events_b.len() - 2..];
    assert_eq!(
        tail,
        [
            ChannelEvent::Closing(incoming),
            ChannelEvent::Closed(incoming)
        ]
    );
    assert_eq!(pair.events_a.last(), Some(&ChannelEvent::Closed(channel)));
    assert_eq!(pair.a.state(channel), ChannelState::Closed);
    for round in 0..3 {
        let again = pair.a.open(pair.now, named("again")).unwrap();
        assert_ne!(again, channel);
        assert_eq!(pair.a.stream_id(again), Some(0));
        pair.a
            .send(
                pair.now,
                again,
                MessageKind::Text,
                Bytes::from_static(b"hi"),
            )
            .unwrap();
        pair.run();
        let incoming = pair.incoming();
        assert!(matches!(
            pair.events_b.last(),
            Some(ChannelEvent::Message { channel, .. }) if *channel == incoming
        ));
        // The peer closes, or both at once.
        pair.b.close(pair.now, incoming);
        if round == 1 {
            pair.a.close(pair.now, again);
        }
        pair.run();
        assert_eq!(pair.b.state(incoming), ChannelState::Closed);
        assert_eq!(pair.a.state(again), ChannelState::Closed);
    }
    assert_eq!(pair.a.channels().count() + pair.b.channels().count(), 0);
}

#[test]
fn negotiated_channels_open_without_a_word() {
    let mut pair = Pair::connected();
    let options = ChannelOptions {
        negotiated: Some(42),
        ..ChannelOptions::default()
    };
    let a = pair.a.open(pair.now, options.clone()).unwrap();
    let b = pair.b.open(pair.now, options.clone()).unwrap();
    assert_eq!(pair.a.open(pair.now, options), Err(Error::NoFreeStream));
    assert_eq!(pair.a.state(a), ChannelState::Open);
    pair.b
        .send(pair.now, b, MessageKind::Text, Bytes::from_static(b"hi"))
        .unwrap();
    pair.run();
    assert!(matches!(
        pair.events_a.last(),
        Some(ChannelEvent::Message { channel, .. }) if *channel == a
    ));
    assert!(
        !pair
            .events_b
            .iter()
            .any(|event| matches!(event, ChannelEvent::Incoming(_)))
    );
}

#[test]
fn buffered_amount_falls_and_tells() {
    let mut pair = Pair::connected();
    let channel = pair.a.open(pair.now, named("x")).unwrap();
    pair.run();
    pair.a.set_remote_max_message_size(1 << 30);
    pair.a.set_buffered_amount_low_threshold(channel, 100_000);
    pair.a
        .send(
            pair.now,
            channel,
            MessageKind::Binary,
            Bytes::from(vec![0; 2_000_000]),
        )
        .unwrap();
    assert_eq!(pair.a.buffered_amount(channel), 2_000_000);
    let low = ChannelEvent::BufferedAmountLow(channel);
    assert!(!pair.events_a.contains(&low));
    pair.run();
    pair.run();
    assert_eq!(pair.a.buffered_amount(channel), 0);
    let times = pair.events_a.iter().filter(|e| **e == low).count();
    assert_eq!(times, 1);
}

#[test]
fn a_full_send_buffer_blocks_and_tells_when_there_is_room() {
    let mut config = Config::default();
    config.limits.send_buffer = 100_000;
    let mut pair = Pair::new(config, Config::default());
    pair.connect();
    let channel = pair.a.open(pair.now, named("x")).unwrap();
    let mut sent = 0;
    loop {
        match pair.a.send(
            pair.now,
            channel,
            MessageKind::Binary,
            Bytes::from(vec![0; 10_000]),
        ) {
            Ok(()) => sent += 1,
            Err(error) => {
                assert_eq!(error, Error::WouldBlock);
                break;
            }
        }
    }
    assert_eq!(sent, 10);
    pair.run();
    assert!(pair.events_a.contains(&ChannelEvent::Writable));
}

#[test]
fn the_end_of_the_association_closes_every_channel() {
    let mut pair = Pair::connected();
    let channel = pair.a.open(pair.now, named("x")).unwrap();
    pair.run();
    let incoming = pair.incoming();
    pair.a.abort(pair.now);
    pair.run();
    assert!(pair.events_a.contains(&ChannelEvent::Closed(channel)));
    assert!(pair.events_b.contains(&ChannelEvent::Closed(incoming)));
    assert!(matches!(
        pair.events_b.last(),
        Some(ChannelEvent::AssociationDown(_))
    ));
    assert_eq!(pair.a.open(pair.now, named("y")), Err(Error::NotOpen));
}

#[test]
fn a_message_given_up_half_way_does_not_arrive_torn() {
    let mut pair = Pair::connected();
    let channel = pair.a.open(pair.now, named("x")).unwrap();
    pair.run();
    let part = Bytes::from(vec![1; 20_000]);
    pair.a
        .send_part(pair.now, channel, MessageKind::Binary, part.clone(), false)
        .unwrap();
    pair.a
        .send_part(pair.now, channel, MessageKind::Binary, part, false)
        .unwrap();
    pair.run();
    pair.a.close(pair.now, channel);
    pair.run();
    assert_eq!(pair.a.state(channel), ChannelState::Closed);
    assert!(
        !pair
            .events_b
            .iter()
            .any(|event| matches!(event, ChannelEvent::Message { .. }))
    );
}

#[test]
fn a_peer_that_breaks_the_rules_of_opening_is_answered_by_closing() {
    let mut config = Config::default();
    config.limits.channel_names = 1000;
    let mut pair = Pair::new(Config::default(), config);
    // Both think that they are the client: the parity is wrong.
    pair.a.set_role(pair.now, DtlsRole::Client);
    pair.b.set_role(pair.now, DtlsRole::Client);
    pair.a.connect(pair.now).unwrap();
    let channel = pair.a.open(pair.now, named("x")).unwrap();
    pair.run();
    assert_eq!(pair.a.state(channel), ChannelState::Closed);
    assert_eq!(pair.b.channels().count(), 0);
    assert_eq!(pair.b.messages_dropped(), 1);
    // Names beyond the limit.
    let mut config = Config::default();
    config.limits.channel_names = 1000;
    let mut pair = Pair::new(Config::default(), config);
    pair.connect();
    let long = "x".repeat(600);
    let first = pair.a.open(pair.now, named(&long)).unwrap();
    let second = pair.a.open(pair.now, named(&long)).unwrap();
    pair.run();
    assert_eq!(pair.a.state(first), ChannelState::Open);
    assert_eq!(pair.a.state(second), ChannelState::Closed);
    pair.a.close(pair.now, first);
    pair.run();
    let third = pair.a.open(pair.now, named(&long)).unwrap();
    pair.run();
    assert_eq!(
        pair.a.state(third),
        ChannelState::Open,
        "the name was freed"
    );
}
