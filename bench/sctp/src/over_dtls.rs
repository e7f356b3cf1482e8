//! The association where it lives: every packet is a DTLS record, sealed in the datagram that SCTP
//! wrote it to and opened in the datagram that arrived, both ends in one thread.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bench_crypto::cpu_nanoseconds;
use bytes::Bytes;
use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, HashAlgorithm};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config as DtlsConfig, Connection, Version};
use visavis_sctp::{Association, Ppid, SendOptions, State, StreamId};

use crate::{ALLOCATIONS, Measured, config};

/// Datagrams of one run, as a driver with segmentation offload takes them.
const RUN: usize = 48;

struct End {
    dtls: Connection,
    sctp: Association,
}

impl End {
    /// One run of records to the other end; how many there were.
    fn carry(&mut self, to: &mut Self, out: &mut TransmitBuf) -> usize {
        let now = Instant::now();
        out.clear();
        out.set_framing(self.dtls.framing());
        if self.sctp.poll_transmit(now, out).is_none() {
            return 0;
        }
        for (datagram, payload) in out.datagrams_mut() {
            self.dtls.seal(datagram, payload).expect("connected");
            let received = to.dtls.handle_datagram(now, datagram);
            for content in received.iter() {
                to.sctp.handle_packet(now, &datagram[content]);
            }
        }
        out.datagrams()
    }
}

/// What belongs to DTLS alone: flights and key updates.
fn carry_records(from: &mut Connection, to: &mut Connection, out: &mut TransmitBuf) -> bool {
    let now = Instant::now();
    let mut any = false;
    loop {
        out.clear();
        out.set_framing(visavis_datagram::Framing::default());
        if from.poll_transmit(now, out).is_none() {
            return any;
        }
        for (datagram, _) in out.datagrams_mut() {
            to.handle_datagram(now, datagram);
            any = true;
        }
    }
}

fn connected(version: Version, checksum: bool) -> (End, End, TransmitBuf) {
    let now = Instant::now();
    let mut random = Random::from_u64(1);
    let certificate = Certificate::self_signed(&SelfSigned::at(1_800_000_000), &mut random)
        .expect("a certificate");
    let fingerprint = certificate.fingerprint(HashAlgorithm::Sha256);
    let mut settings = DtlsConfig::new(certificate);
    settings.max_version = version;
    let settings = Arc::new(settings);
    let client = Connection::client(settings.clone(), random.fork(), now).expect("settings");
    let server = Connection::server(settings, random.fork(), now).expect("settings");
    let end = |mut dtls: Connection, seed| {
        dtls.set_remote_fingerprints(now, [fingerprint]);
        let sctp = Association::new(config(checksum, true), Random::from_u64(seed));
        End { dtls, sctp }
    };
    let (mut a, mut b) = (end(client, 1), end(server, 2));
    let mut out = TransmitBuf::new(RUN, 1500);
    while carry_records(&mut a.dtls, &mut b.dtls, &mut out)
        | carry_records(&mut b.dtls, &mut a.dtls, &mut out)
    {}
    a.sctp.connect(now).expect("not connected yet");
    while a.sctp.state() != State::Established || b.sctp.state() != State::Established {
        a.carry(&mut b, &mut out);
        b.carry(&mut a, &mut out);
    }
    (a, b, out)
}

/// Sends for `span`, and for a fifth of it before to warm up.
pub(crate) fn transfer(version: Version, checksum: bool, size: usize, span: Duration) -> Measured {
    let (mut a, mut b, mut out) = connected(version, checksum);
    let message = Bytes::from(vec![0x5a; size]);
    let start = Instant::now();
    let mut begun: Option<(Instant, f64, u64)> = None;
    let (mut bytes, mut packets) = (0u64, 0u64);
    loop {
        let now = Instant::now();
        if now >= start + span / 5 && begun.is_none() {
            begun = Some((now, cpu_nanoseconds(), ALLOCATIONS.load(Ordering::Relaxed)));
            (bytes, packets) = (0, 0);
        }
        if let Some((at, cpu, allocations)) = begun
            && now >= at + span
        {
            let allocated = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
            return Measured {
                bytes_per_second: bytes as f64 * 1e9 / (cpu_nanoseconds() - cpu),
                allocations_per_packet: allocated as f64 / packets.max(1) as f64,
            };
        }
        for _ in 0..(262_144 / size).max(1) {
            let sent = a.sctp.send(
                now,
                StreamId(1),
                Ppid::BINARY,
                message.clone(),
                SendOptions::default(),
            );
            if sent.is_err() {
                break;
            }
        }
        loop {
            let count = a.carry(&mut b, &mut out);
            if count == 0 {
                break;
            }
            packets += count as u64;
            while let Some(message) = b.sctp.recv() {
                bytes += message.data.len() as u64;
            }
        }
        while b.carry(&mut a, &mut out) != 0 {}
        // The updates of keys that the AEAD's limits ask for.
        carry_records(&mut a.dtls, &mut b.dtls, &mut out);
        carry_records(&mut b.dtls, &mut a.dtls, &mut out);
        for end in [&mut a, &mut b] {
            if end.sctp.poll_timeout().is_some_and(|at| at <= now) {
                end.sctp.handle_timeout(now);
            }
            while end.sctp.poll_event().is_some() {}
        }
    }
}
