//! A pair of str0m's peer connections as a media flow. Its estimator has no public interface, so
//! the whole stack is driven, without I/O: DTLS, SRTP, its pacer, its padding, its feedback.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::bwe::{Bitrate, BweKind};
use str0m::format::Codec;
use str0m::media::{MediaKind, Mid, Pt};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{RtpWrite, Ssrc};
use str0m::{Candidate, Event, Input, Output, Rtc};
use visavis_datagram::Ecn;

use crate::lab::source::{Source, VIDEO_PAYLOAD};
use crate::lab::{Flow, FlowContext};

/// How long before the scenario the two connect, over a perfect wire.
const HEAD_START: Duration = Duration::from_secs(3);
/// str0m asks to be called at once where it has more to do; this is the least step.
const STEP: Duration = Duration::from_micros(200);
/// RTP header and extensions, which str0m's estimate counts, as it does not count UDP and IP.
const RTP: f64 = 30.0;

pub struct Str0mFlow {
    peers: [Rtc; 2],
    addresses: [SocketAddr; 2],
    due: [Instant; 2],
    out: VecDeque<(bool, Vec<u8>)>,
    source: Source,
    streams: Option<[(Ssrc, Pt, u64); 2]>,
    context: FlowContext,
    estimate: u64,
    origin: Instant,
}

/// Builds a connected pair.
pub fn build(context: FlowContext) -> Box<dyn Flow> {
    let origin = context.now - HEAD_START;
    let builder = || {
        let provider = str0m::crypto::from_feature_flags();
        Rtc::builder()
            .set_crypto_provider(provider.into())
            .set_rtp_mode(true)
    };
    let mut sender = builder()
        .enable_bwe(Some(Bitrate::bps(context.start)))
        .build(origin);
    let mut receiver = builder().build(origin);
    let addresses = [context.ends.sender, context.ends.receiver];
    let candidates =
        addresses.map(|address| Candidate::host(address, "udp").expect("a host candidate"));
    sender.add_local_candidate(candidates[0].clone());
    sender.add_remote_candidate(candidates[1].clone());
    receiver.add_local_candidate(candidates[1].clone());
    receiver.add_remote_candidate(candidates[0].clone());
    let prints =
        [&mut sender, &mut receiver].map(|rtc| rtc.direct_api().local_dtls_fingerprint().clone());
    let credentials =
        [&mut sender, &mut receiver].map(|rtc| rtc.direct_api().local_ice_credentials());
    let [sender_print, receiver_print] = prints;
    let [sender_credentials, receiver_credentials] = credentials;
    let mut api = sender.direct_api();
    api.set_remote_fingerprint(receiver_print);
    api.set_remote_ice_credentials(receiver_credentials);
    api.set_ice_controlling(true);
    api.start_dtls(true).expect("DTLS starts");
    let mut api = receiver.direct_api();
    api.set_remote_fingerprint(sender_print);
    api.set_remote_ice_credentials(sender_credentials);
    api.set_ice_controlling(false);
    api.start_dtls(false).expect("DTLS starts");
    let mut flow = Str0mFlow {
        peers: [sender, receiver],
        addresses,
        due: [origin; 2],
        out: VecDeque::new(),
        source: Source::new(context.seed, context.max),
        streams: None,
        context,
        estimate: context.start,
        origin,
    };
    flow.connect();
    Box::new(flow)
}

impl Str0mFlow {
    /// Runs both ends over a perfect wire until they are connected.
    fn connect(&mut self) {
        let mut now = self.origin;
        while !self.peers.iter().all(Rtc::is_connected) {
            for side in 0..2 {
                self.time(now, side);
            }
            while let Some((by_receiver, mut bytes)) = self.out.pop_front() {
                self.receive(now, !by_receiver, &mut bytes);
            }
            now += Duration::from_millis(1);
            assert!(
                now < self.context.now,
                "no connection within the head start"
            );
        }
    }

    fn declare(&mut self) {
        let [sender, receiver] = &mut self.peers;
        let pt = |rtc: &Rtc, codec| {
            let found = rtc
                .codec_config()
                .find(|params| params.spec().codec == codec);
            found.expect("a default codec").pt()
        };
        let pts = [pt(sender, Codec::Opus), pt(sender, Codec::Vp8)];
        let (audio, video): (Mid, Mid) = ("aud".into(), "vid".into());
        let (a, v, rtx): (Ssrc, Ssrc, Ssrc) = (1.into(), 2.into(), 3.into());
        let mut api = sender.direct_api();
        api.declare_media(audio, MediaKind::Audio);
        api.declare_media(video, MediaKind::Video);
        api.declare_stream_tx(a, None, audio, None);
        api.declare_stream_tx(v, Some(rtx), video, None);
        let mut api = receiver.direct_api();
        api.declare_media(audio, MediaKind::Audio);
        api.declare_media(video, MediaKind::Video);
        api.expect_stream_rx(a, None, audio, None);
        api.expect_stream_rx(v, Some(rtx), video, None);
        api.enable_twcc_feedback();
        let desired = self.context.max * 107 / 100 + 40_000;
        let mut bwe = sender.bwe();
        bwe.reset(Bitrate::bps(self.context.start));
        bwe.set_bitrate(Bitrate::ZERO, Bitrate::bps(desired));
        self.streams = Some([(a, pts[0], 1000), (v, pts[1], 1000)]);
    }

    fn time(&mut self, now: Instant, side: usize) {
        let _ = self.peers[side].handle_input(Input::Timeout(now));
        self.drain(now, side);
    }

    fn receive(&mut self, now: Instant, at_receiver: bool, datagram: &mut [u8]) {
        let side = usize::from(at_receiver);
        let Ok(contents) = (&*datagram).try_into() else {
            return;
        };
        let receive = Receive {
            proto: Protocol::Udp,
            source: self.addresses[1 - side],
            destination: self.addresses[side],
            contents,
        };
        let _ = self.peers[side].handle_input(Input::Receive(now, receive));
        self.drain(now, side);
    }

    fn drain(&mut self, now: Instant, side: usize) {
        loop {
            match self.peers[side].poll_output() {
                Ok(Output::Timeout(due)) => {
                    self.due[side] = due.max(now + STEP);
                    return;
                }
                Ok(Output::Transmit(transmit)) => {
                    self.out.push_back((side == 1, transmit.contents.to_vec()));
                }
                Ok(Output::Event(Event::EgressBitrateEstimate(BweKind::Twcc {
                    estimate, ..
                }))) => {
                    self.estimate = estimate.as_u64();
                    self.follow(now);
                }
                Ok(Output::Event(_)) => {}
                Err(_) => {
                    self.due[side] = now + Duration::from_secs(3600);
                    return;
                }
            }
        }
    }

    fn follow(&mut self, now: Instant) {
        let share = VIDEO_PAYLOAD as f64 / (VIDEO_PAYLOAD as f64 + RTP);
        self.source
            .set_target(now, (self.estimate as f64 * share) as u64);
    }

    fn media(&mut self, now: Instant) {
        self.source.handle_timeout(now);
        let payload = [0x5a; VIDEO_PAYLOAD];
        while let Some(media) = self.source.poll() {
            let Some(streams) = &mut self.streams else {
                return;
            };
            let (ssrc, pt, sequence) = &mut streams[usize::from(!media.audio)];
            let clock = if media.audio { 48_000 } else { 90_000 };
            let time = now.duration_since(self.origin).as_micros() as u64 * clock / 1_000_000;
            *sequence += 1;
            let mut api = self.peers[0].direct_api();
            let Some(stream) = api.stream_tx(ssrc) else {
                return;
            };
            let write = RtpWrite::new(
                *pt,
                (*sequence).into(),
                time as u32,
                now,
                &payload[..media.payload.max(1)],
            );
            stream.write_rtp(write.marker(media.last));
            // It asks to be drained after each packet.
            self.drain(now, 0);
        }
        self.time(now, 0);
    }
}

impl Flow for Str0mFlow {
    fn handle_datagram(&mut self, now: Instant, at_receiver: bool, _ecn: Ecn, datagram: &mut [u8]) {
        self.receive(now, at_receiver, datagram);
    }

    fn handle_timeout(&mut self, now: Instant) {
        if self.source.poll_timeout().is_some_and(|due| due <= now) {
            self.media(now);
        }
        for side in 0..2 {
            if self.due[side] <= now {
                self.time(now, side);
            }
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let dues = self.due.into_iter().chain(self.source.poll_timeout());
        dues.min()
    }

    fn poll_transmit(&mut self, _now: Instant, out: &mut Vec<u8>) -> Option<(bool, Ecn)> {
        let (by_receiver, bytes) = self.out.pop_front()?;
        out.clear();
        out.extend_from_slice(&bytes);
        Some((by_receiver, Ecn::NotEct))
    }

    fn estimate(&self) -> u64 {
        self.estimate
    }

    fn set_active(&mut self, now: Instant, active: bool) {
        if active && self.streams.is_none() {
            self.declare();
            self.time(now, 0);
            self.time(now, 1);
        }
        self.source.set_active(now, active);
        self.follow(now);
    }
}
