//! What a peer may send that breaks the rules: each case counted, answered as the RFC says, and
//! bounded in memory. And the packets of real peers.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use visavis_datagram::{Random, TransmitBuf};
use visavis_sctp::{Association, CloseReason, Config, Event, State};

/// An association that is open by signalling, with a peer that the test plays. First TSN of the
/// peer is 1, tag 1, 64 streams.
struct Victim {
    now: Instant,
    association: Association,
    tag: [u8; 4],
    tsn: u32,
    events: Vec<Event>,
}

fn chunk(kind: u8, flags: u8, body: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind, flags];
    bytes.extend_from_slice(&(body.len() as u16 + 4).to_be_bytes());
    bytes.extend_from_slice(body);
    bytes.resize(bytes.len().div_ceil(4) * 4, 0);
    bytes
}

fn words(numbers: &[u32]) -> Vec<u8> {
    numbers.iter().flat_map(|n| n.to_be_bytes()).collect()
}

fn data(tsn: u32, stream: u16, ssn: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    let mut body = words(&[tsn, u32::from(stream) << 16 | u32::from(ssn), 53]);
    body.extend_from_slice(payload);
    chunk(0, flags, &body)
}

fn init(extensions: &[u8]) -> Vec<u8> {
    let mut body = words(&[1, 100_000, 64 << 16 | 64, 1]);
    body.extend_from_slice(&[0xc0, 0, 0, 4]);
    body.extend_from_slice(&chunk(0x80, 0x08, extensions));
    body.extend_from_slice(&[0x80, 1, 0, 8, 0, 0, 0, 1]);
    chunk(1, 0, &body)
}

impl Victim {
    fn new(config: Config) -> Self {
        let now = Instant::now();
        let mut association = Association::new(config, Random::from_u64(5));
        let own = association.init_chunk();
        association
            .connect_with_remote_init(now, &init(&[0x82, 0xc0, 0x40, 0xc2]))
            .unwrap();
        Self {
            now,
            tag: own[4..8].try_into().unwrap(),
            tsn: u32::from_be_bytes(own[16..20].try_into().unwrap()),
            association,
            events: Vec::new(),
        }
    }

    fn without_interleaving() -> Self {
        Self::new(Config {
            interleaving: false,
            receive_window: 100_000,
            ..Config::default()
        })
    }

    fn feed_tagged(&mut self, tag: [u8; 4], chunks: &[Vec<u8>]) {
        let mut packet = vec![0x13, 0x88, 0x13, 0x88];
        packet.extend_from_slice(&tag);
        packet.extend_from_slice(&[0; 4]);
        packet.extend(chunks.iter().flatten());
        let sum = crc32c::crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        self.association.handle_packet(self.now, &packet);
        while let Some(event) = self.association.poll_event() {
            self.events.push(event);
        }
    }

    fn feed(&mut self, chunks: &[Vec<u8>]) {
        self.feed_tagged(self.tag, chunks);
    }

    /// The chunks that it answers: type and body.
    fn answers(&mut self) -> Vec<(u8, Vec<u8>)> {
        let mut out = TransmitBuf::new(8, 1500);
        let mut chunks = Vec::new();
        loop {
            out.clear();
            if self.association.poll_transmit(self.now, &mut out).is_none() {
                return chunks;
            }
            for (datagram, payload) in out.datagrams_mut() {
                let mut rest = &datagram[payload][12..];
                while rest.len() >= 4 {
                    let length = usize::from(u16::from_be_bytes([rest[2], rest[3]]));
                    chunks.push((rest[0], rest[4..length].to_vec()));
                    rest = &rest[length.div_ceil(4) * 4..];
                }
            }
        }
    }

    fn closed(&self) -> Option<CloseReason> {
        self.events.iter().find_map(|event| match event {
            Event::Closed(reason) => Some(*reason),
            _ => None,
        })
    }
}

#[test]
fn gap_reports_beyond_what_was_sent_are_ignored() {
    let mut victim = Victim::new(Config::default());
    let last = victim.tsn.wrapping_sub(1);
    for (cumulative, gaps) in [
        (last.wrapping_add(1), vec![]),
        (last, vec![2 << 16 | 5]),
        (last, vec![0xffff_ffff]),
        (last.wrapping_sub(7), vec![]),
        (last, vec![5 << 16 | 2]),
    ] {
        let mut body = words(&[cumulative, 100_000, (gaps.len() as u32) << 16]);
        body.extend(words(&gaps));
        victim.feed(&[chunk(3, 0, &body)]);
    }
    assert_eq!(victim.association.stats().sacks_ignored, 5);
    assert_eq!(victim.association.state(), State::Established);
    // A SACK that claims more blocks than it has is malformed.
    victim.feed(&[chunk(3, 0, &words(&[last, 1000, 0xffff_0000]))]);
    assert_eq!(victim.association.stats().dropped_malformed, 1);
}

#[test]
fn duplicates_are_reported_once_each_and_never_delivered_again() {
    let mut victim = Victim::without_interleaving();
    for _ in 0..50 {
        victim.feed(&[data(1, 1, 0, 3, b"x")]);
    }
    assert!(victim.association.recv().is_some());
    assert!(victim.association.recv().is_none());
    let answers = victim.answers();
    assert_eq!(answers[0].0, 3);
    let duplicates = u16::from_be_bytes([answers[0].1[10], answers[0].1[11]]);
    assert_eq!(duplicates, 16, "as many as are remembered");
    assert_eq!(victim.association.stats().chunks_duplicate, 49);
}

#[test]
fn fragments_that_never_complete_stay_within_the_window_and_end_the_association() {
    // Middle fragments of one byte, from the second on: nothing can ever be delivered.
    let mut victim = Victim::without_interleaving();
    let mut tsn = 2;
    for _ in 0..3000 {
        let chunks: Vec<_> = (0..40).map(|i| data(tsn + i, 1, 0, 0, b"x")).collect();
        tsn += 40;
        victim.feed(&chunks);
        assert!(victim.association.received_waiting() <= 200_000);
    }
    assert!(victim.association.stats().refused_by_limit > 0);
    // First fragments on many streams: handed out in parts, so that memory stays bounded too.
    let mut victim = Victim::without_interleaving();
    for tsn in 1..60_000u32 {
        victim.feed(&[data(tsn, (tsn % 64) as u16, 0, 2, &[0; 100])]);
        assert!(victim.association.received_waiting() <= 210_000);
        if victim.closed().is_some() {
            return;
        }
        while victim.association.recv().is_some() {}
    }
}

#[test]
fn a_second_beginning_of_the_same_message_is_a_violation() {
    let mut victim = Victim::without_interleaving();
    victim.feed(&[data(1, 1, 0, 2, b"a"), data(2, 1, 0, 2, b"b")]);
    assert_eq!(victim.closed(), Some(CloseReason::ProtocolViolation));
    assert_eq!(victim.answers()[0].0, 6, "ABORT");
}

#[test]
fn streams_beyond_the_negotiated_are_acknowledged_and_reported() {
    let mut victim = Victim::without_interleaving();
    victim.feed(&[data(1, 64, 0, 3, b"x")]);
    assert!(victim.association.recv().is_none());
    let answers = victim.answers();
    let error = answers.iter().find(|(kind, _)| *kind == 9).unwrap();
    assert_eq!(
        error.1,
        [0, 1, 0, 8, 0, 64, 0, 0],
        "invalid stream identifier"
    );
    victim.now += Duration::from_millis(50);
    victim.association.handle_timeout(victim.now);
    assert_eq!(victim.association.stats().invalid_stream, 1);
}

#[test]
fn data_without_payload_and_of_the_wrong_kind_abort() {
    let mut victim = Victim::without_interleaving();
    victim.feed(&[data(1, 1, 0, 3, b"")]);
    assert_eq!(victim.closed(), Some(CloseReason::ProtocolViolation));
    assert_eq!(victim.answers()[0].1[..2], [0, 9], "no user data");
    let mut victim = Victim::new(Config::default());
    victim.feed(&[data(1, 1, 0, 3, b"x")]);
    assert_eq!(victim.closed(), Some(CloseReason::ProtocolViolation));
}

#[test]
fn parameters_of_length_zero_end_the_reading() {
    let mut body = words(&[1, 100_000, 64 << 16 | 64, 1]);
    body.extend_from_slice(&[0xc0, 0, 0, 0]);
    let mut association = Association::new(Config::default(), Random::from_u64(1));
    assert!(
        association
            .connect_with_remote_init(Instant::now(), &chunk(1, 0, &body))
            .is_err()
    );
    let mut victim = Victim::new(Config::default());
    victim.feed(&[chunk(130, 0, &[0, 13, 0, 0, 0, 0, 0, 1])]);
    assert_eq!(victim.association.stats().dropped_chunks, 1);
    assert_eq!(victim.association.state(), State::Established);
}

#[test]
fn forged_and_stale_cookies_are_refused() {
    let mut victim = Victim::new(Config::default());
    victim.feed(&[chunk(10, 0, &[7; 16])]);
    assert_eq!(victim.association.stats().cookies_refused, 1);
    assert!(victim.answers().is_empty());
    // A restart whose cookie comes a minute late.
    let mut restart = init(&[0x82, 0xc0]);
    restart[4..8].copy_from_slice(&[9; 4]);
    victim.feed_tagged([0; 4], &[restart.clone()]);
    let answers = victim.answers();
    let ack = &answers.iter().find(|(kind, _)| *kind == 2).unwrap().1;
    let new_tag: [u8; 4] = ack[..4].try_into().unwrap();
    assert_ne!(new_tag, victim.tag, "section 5.2.2: a new tag");
    let at = ack.windows(4).position(|w| w == [0, 7, 0, 20]).unwrap();
    let cookie = ack[at + 4..at + 20].to_vec();
    victim.now += Duration::from_secs(61);
    victim.feed_tagged(new_tag, &[chunk(10, 0, &cookie)]);
    assert_eq!(victim.association.stats().cookies_refused, 2);
    let answers = victim.answers();
    let error = answers.iter().find(|(kind, _)| *kind == 9).unwrap();
    assert_eq!(error.1[..4], [0, 3, 0, 8], "stale cookie");
    // In time it restarts the association.
    victim.feed_tagged([0; 4], &[restart]);
    let answers = victim.answers();
    let ack = &answers.iter().find(|(kind, _)| *kind == 2).unwrap().1;
    let new_tag: [u8; 4] = ack[..4].try_into().unwrap();
    let at = ack.windows(4).position(|w| w == [0, 7, 0, 20]).unwrap();
    let cookie = ack[at + 4..at + 20].to_vec();
    victim.feed_tagged(victim.tag, &[chunk(10, 0, &cookie)]);
    assert_eq!(victim.association.stats().cookies_refused, 3, "wrong tag");
    victim.feed_tagged(new_tag, &[chunk(10, 0, &cookie)]);
    assert!(matches!(victim.events.last(), Some(Event::Restarted(_))));
}

#[test]
fn wrong_tags_checksums_and_ports_are_counted_and_dropped() {
    let mut victim = Victim::new(Config::default());
    victim.feed_tagged([3; 4], &[chunk(6, 0, &[])]);
    assert_eq!(victim.association.stats().dropped_tag, 1);
    let mut packet = vec![0x13, 0x88, 0x13, 0x88];
    packet.extend_from_slice(&victim.tag);
    packet.extend_from_slice(&[1, 2, 3, 4]);
    packet.extend_from_slice(&chunk(6, 0, &[]));
    victim.association.handle_packet(victim.now, &packet);
    assert_eq!(victim.association.stats().dropped_checksum, 1);
    packet[0] = 0;
    victim.association.handle_packet(victim.now, &packet);
    victim.association.handle_packet(victim.now, &packet[..11]);
    assert_eq!(victim.association.stats().dropped_malformed, 2);
    assert_eq!(victim.association.state(), State::Established);
}

#[test]
fn unknown_chunks_are_treated_by_their_high_bits() {
    let mut victim = Victim::new(Config::default());
    // 0xFE: skip and report; 0xBF: skip; 0x7F: stop and report; then nothing more is read.
    victim.feed(&[
        chunk(0xfe, 0, &[1]),
        chunk(0xbf, 0, &[2]),
        chunk(0x7f, 0, &[3]),
        chunk(6, 0, &[]),
    ]);
    assert_eq!(victim.association.stats().unknown, 3);
    assert_eq!(victim.association.state(), State::Established);
    let errors = victim.answers();
    assert_eq!(errors.iter().filter(|(kind, _)| *kind == 9).count(), 2);
}

#[test]
fn packets_of_real_peers_parse_and_are_answered() {
    let read = |name: &str| std::fs::read(format!("tests/fixtures/{name}.bin")).unwrap();
    let now = Instant::now();
    let mut association = Association::new(Config::default(), Random::from_u64(1));
    association.handle_packet(now, &read("sctp_init_bad_verification"));
    assert_eq!(association.stats().dropped_tag, 1);
    association.handle_packet(now, &read("sctp_init"));
    let mut out = TransmitBuf::new(4, 1500);
    association.poll_transmit(now, &mut out).unwrap();
    let packet = out.as_slice().to_vec();
    assert_eq!(
        (&packet[4..8], packet[12]),
        (&[0x24, 0x52, 0x17, 0x03][..], 2)
    );
    // Echo its cookie: the association opens, and speaks no I-DATA, which usrsctp did not offer.
    let tag: [u8; 4] = packet[16..20].try_into().unwrap();
    let at = packet.windows(4).position(|w| w == [0, 7, 0, 20]).unwrap();
    let mut echo = vec![0x13, 0x88, 0x13, 0x88];
    echo.extend_from_slice(&tag);
    echo.extend_from_slice(&[0; 4]);
    echo.extend_from_slice(&chunk(10, 0, &packet[at + 4..at + 20]));
    let sum = crc32c::crc32c(&echo);
    echo[8..12].copy_from_slice(&sum.to_le_bytes());
    association.handle_packet(now, &echo);
    assert_eq!(association.state(), State::Established);
    let negotiated = association.negotiated().unwrap();
    assert!(!negotiated.interleaving && negotiated.partial_reliability && !negotiated.ecn);
    for name in [
        "sctp_abort",
        "sctp_cookie_echo",
        "sctp_data",
        "sctp_data_padding",
        "sctp_data_truncated",
        "sctp_data_zero_length",
        "sctp_error",
        "sctp_forward_tsn",
        "sctp_heartbeat",
        "sctp_reconfig_add_out",
        "sctp_reconfig_reset_out",
        "sctp_reconfig_response",
        "sctp_sack",
        "sctp_shutdown",
        "sctp_shutdown_ack",
    ] {
        let mut packet = read(name);
        let chunks = visavis_sctp::fuzzing::parse_packet(&packet);
        let is_whole = !matches!(name, "sctp_data_truncated" | "sctp_data_zero_length");
        assert_eq!(chunks > 0, is_whole, "{name}");
        let before = association.stats();
        association.handle_packet(now, &packet);
        let after = association.stats();
        let dropped =
            |s: &visavis_sctp::Stats| s.dropped_tag + s.dropped_malformed + s.cookies_refused;
        assert_eq!(dropped(&after), dropped(&before) + 1, "{name}");
        // With the tag of this association they are heard.
        packet[4..8].copy_from_slice(&tag);
        packet[8..12].fill(0);
        let sum = crc32c::crc32c(&packet);
        packet[8..12].copy_from_slice(&sum.to_le_bytes());
        if !matches!(name, "sctp_abort" | "sctp_cookie_echo") {
            association.handle_packet(now, &packet);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_chunks_leave_it_sound(
        bodies in prop::collection::vec(
            (
                prop::sample::select(vec![0u8, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 64, 130, 132, 192, 194, 255]),
                any::<u8>(),
                prop::collection::vec(any::<u8>(), 0..60),
            ),
            0..20,
        ),
        interleaving: bool,
    ) {
        let mut victim = Victim::new(Config { interleaving, receive_window: 10_000, ..Config::default() });
        for (kind, flags, mut body) in bodies {
            // Small TSNs, so that some of them are taken.
            if matches!(kind, 0 | 64 | 192 | 194) && body.len() >= 4 {
                body[..3].fill(0);
            }
            victim.feed(&[chunk(kind, flags, &body)]);
            victim.now += Duration::from_millis(30);
            victim.association.handle_timeout(victim.now);
            victim.answers();
            prop_assert!(victim.association.received_waiting() <= 24_096);
            if let Some(at) = victim.association.poll_timeout() {
                prop_assert!(at > victim.now, "a timeout in the past");
            }
        }
    }

    #[test]
    fn any_bytes_are_a_packet_or_none(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        visavis_sctp::fuzzing::parse_packet(&bytes);
        let mut victim = Victim::new(Config::default());
        victim.association.handle_packet(victim.now, &bytes);
    }
}
