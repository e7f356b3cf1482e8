//! The pipe: what an end sends, the other gets, as the link allows.

use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Segments, TransmitBuf};
use visavis_netsim::{LinkConfig, Pipe, PipeEnd, Side};

/// Sends a counter every 10 ms; keeps what arrives.
#[derive(Default)]
struct Ticker {
    next: Option<Instant>,
    due: bool,
    sent: u32,
    got: Vec<u32>,
}

impl PipeEnd for Ticker {
    fn handle_datagram(&mut self, _now: Instant, _ecn: Ecn, datagram: &mut [u8]) {
        self.got
            .push(u32::from_be_bytes((&*datagram).try_into().unwrap()));
    }
    fn handle_timeout(&mut self, now: Instant) {
        self.due = true;
        self.next = Some(now + Duration::from_millis(10));
    }
    fn poll_timeout(&self) -> Option<Instant> {
        self.next
    }
    fn poll_transmit(&mut self, _now: Instant, out: &mut TransmitBuf) -> Option<(Segments, Ecn)> {
        if !std::mem::take(&mut self.due) {
            return None;
        }
        out.push(&self.sent.to_be_bytes());
        self.sent += 1;
        Some((out.segments()?, Ecn::Ect1))
    }
}

#[test]
fn two_ends_run_until_a_condition_or_the_deadline() {
    let start = Instant::now();
    let link = LinkConfig::new().delay(Duration::from_millis(25));
    let mut pipe = Pipe::new(start, 1, link);
    let (mut a, mut b) = (Ticker::default(), Ticker::default());
    a.next = Some(start);
    let deadline = start + Duration::from_secs(1);
    assert!(pipe.run(&mut a, &mut b, deadline, |_, _, b| b.got.len() == 5));
    // The fifth leaves at 40 ms.
    assert_eq!(pipe.now() - start, Duration::from_millis(65));
    assert_eq!(b.got, [0, 1, 2, 3, 4]);
    assert!(!pipe.run(&mut a, &mut b, deadline, |_, _, _| false));
    assert_eq!(pipe.now(), deadline);
}

#[test]
fn a_datagram_beyond_the_mtu_is_told_to_its_sender() {
    let start = Instant::now();
    let mut pipe = Pipe::new(start, 1, LinkConfig::new().mtu(1280));
    pipe.send(Side::B, Ecn::NotEct, &[0; 1252]);
    pipe.send(Side::B, Ecn::NotEct, &[0; 1253]);
    let got = pipe.step(start).unwrap();
    assert_eq!((got.side, got.payload.len()), (Side::A, 1252));
    assert!(pipe.step(start + Duration::from_secs(1)).is_none());
    assert_eq!(pipe.take_packet_too_big(), [(Side::B, 1280)]);
    assert_eq!(pipe.link_stats(Side::B).too_big, 1);
}
