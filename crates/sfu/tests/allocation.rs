//! A forwarded packet allocates nothing: neither where it comes in nor at any of its subscribers.

mod common;

use common::{Lab, Member, PUBLISHER, VIEWER, wide};
use visavis_datagram::{Ecn, Path, TransmitBuf};

/// What a client has to send, as the server gets it.
fn datagrams(lab: &mut Lab, member: Member, out: &mut TransmitBuf) -> Vec<(Path, Vec<u8>)> {
    let now = lab.now();
    let client = lab.client(member);
    client.sending = std::mem::take(&mut client.resting);
    client.send_frames(now);
    client.resting = std::mem::take(&mut client.sending);
    let mut datagrams = Vec::new();
    while let Some(transmit) = client.pc.poll_transmit(now, out) {
        let path = Path::udp(transmit.destination, transmit.source);
        for datagram in out.as_slice().chunks(transmit.segment_size) {
            datagrams.push((path, datagram.to_vec()));
        }
    }
    datagrams
}

/// Whether a datagram is RTP: neither a check nor a handshake nor RTCP (RFC 5761 section 4).
fn is_rtp(datagram: &[u8]) -> bool {
    matches!(datagram[0], 128..=191) && !(64..=95).contains(&(datagram[1] & 0x7f))
}

#[test]
fn a_forwarded_packet_allocates_nothing() {
    let mut lab = Lab::new(1, 1);
    let alice = lab.join(0, 1, wide(1), PUBLISHER);
    let viewers: Vec<Member> = (0..10).map(|_| lab.join(0, 1, wide(1), VIEWER)).collect();
    let up = |lab: &mut Lab| {
        let mut all = viewers.iter().chain([&alice]);
        all.all(|&member| lab.client(member).connected())
    };
    assert!(lab.until(10.0, up));
    let tracks = lab.publish(alice);
    for &viewer in &viewers {
        for &track in &tracks {
            lab.subscribe(viewer, track);
        }
        lab.negotiate(viewer);
    }
    // Long enough for histories and queues to have grown.
    lab.run(8.0);
    // From now on frames go when they are asked for, and not before.
    let client = lab.client(alice);
    client.resting = std::mem::take(&mut client.sending);
    let mut out = TransmitBuf::new(64, 1500);
    let (mut packets, mut sent) = (0u64, 0u64);
    let (mut allocations, mut bytes, mut moments) = (0, 0, 0);
    for round in 0..300 {
        // Small steps, in which no feedback falls due.
        lab.run(0.005);
        let datagrams = datagrams(&mut lab, alice, &mut out);
        let now = lab.now();
        let worker = lab.worker(alice.connection);
        for (path, mut datagram) in datagrams {
            if !is_rtp(&datagram) {
                worker.handle_datagram(now, path, Ecn::NotEct, &mut datagram);
                while worker.poll_transmit(now, &mut out).is_some() {}
                continue;
            }
            packets += 1;
            let used = allocation_counter::measure(|| {
                worker.handle_datagram(now, path, Ecn::NotEct, &mut datagram);
                while let Some(transmit) = worker.poll_transmit(now, &mut out) {
                    sent += transmit.len.div_ceil(transmit.segment_size) as u64;
                }
            });
            // The first hundred let what grows by and by have grown.
            if round < 100 {
                continue;
            }
            allocations += used.count_total;
            moments += u64::from(used.count_total > 0);
            bytes += used.bytes_total;
        }
        while worker.poll_event().is_some() {}
    }
    assert!(packets > 200 && sent > 1_000, "{packets} in, {sent} out");
    // Consent checks of ICE (RFC 7675) fall due in between, each few seconds, and a pacer's queue may
    // double up to its bound.
    assert!(
        allocations <= 5 * viewers.len() as u64,
        "{allocations} allocations of {bytes} bytes at {moments} moments for {packets} packets in and {sent} out"
    );
}
