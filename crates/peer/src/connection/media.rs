//! Transceivers and what flows through them.

use std::ops::Range;
use std::time::{Duration, Instant};

use visavis_datagram::Ecn;
use visavis_rtp::ExtensionMap;
use visavis_rtp::extension::ExtensionKind;
use visavis_sdp::{Direction, Media};

use super::PeerConnection;
use super::bundle::TransportId;
use super::doors::ReceivedRtp;
use crate::codecs::{Codec, Kind};
use crate::error::Error;
use crate::extensions::{HeaderExtension, NegotiatedExtension};
use crate::media::{
    EncodedFrame, EncodingRoute, InboundStats, MediaStats, OutboundStats, OutgoingFrame,
    OutgoingRtp, ReceiveMode, Route,
};
use crate::parameters::{SendParameters, check_encodings};
use crate::sframe::FrameTransform;
use crate::transceiver::{
    EncodingSources, Transceiver, TransceiverDirection, TransceiverId, TransceiverInit, check_msid,
    unique,
};

impl PeerConnection {
    /// W3C `addTransceiver`.
    ///
    /// # Errors
    /// `InvalidStateError`, `TypeError`, `RangeError` and `OperationError` as the specification has them.
    pub fn add_transceiver(
        &mut self,
        kind: Kind,
        init: TransceiverInit,
    ) -> Result<TransceiverId, Error> {
        self.check_open()?;
        check_encodings(kind, &init.send_encodings)?;
        for id in init.streams.iter().chain(&init.track) {
            check_msid(id)?;
        }
        let id = self.jsep.add_transceiver(kind, init)?;
        self.update_negotiation_needed = true;
        Ok(id)
    }

    /// W3C `addTrack`: takes a sender that never sent, or makes a transceiver.
    ///
    /// # Errors
    /// `InvalidStateError` when closed, `InvalidAccessError` if the track is being sent already.
    pub fn add_track(
        &mut self,
        kind: Kind,
        track: &str,
        streams: &[String],
    ) -> Result<TransceiverId, Error> {
        self.check_open()?;
        check_msid(track)?;
        for stream in streams {
            check_msid(stream)?;
        }
        let sending = |transceiver: &Transceiver| {
            !transceiver.is_stopped() && transceiver.sender.track.as_deref() == Some(track)
        };
        if self.jsep.transceivers.iter().any(sending) {
            return Err(Error::access("the track is being sent already"));
        }
        let free = self.jsep.transceivers.iter_mut().find(|transceiver| {
            transceiver.kind == kind
                && transceiver.sender.track.is_none()
                && !transceiver.is_stopped()
                && !transceiver.sender.used
        });
        let id = match free {
            Some(transceiver) => {
                transceiver.sender.track = Some(track.into());
                transceiver.sender.msid_track = track.into();
                transceiver.sender.streams = unique(streams.to_vec());
                transceiver.direction = match transceiver.direction {
                    TransceiverDirection::RecvOnly => TransceiverDirection::SendRecv,
                    TransceiverDirection::Inactive => TransceiverDirection::SendOnly,
                    other => other,
                };
                transceiver.created_by_add_track = true;
                transceiver.id
            }
            None => {
                let init = TransceiverInit {
                    streams: streams.to_vec(),
                    track: Some(track.into()),
                    ..TransceiverInit::default()
                };
                let id = self.jsep.add_transceiver(kind, init)?;
                if let Some(transceiver) = self.jsep.transceiver_mut(id) {
                    transceiver.created_by_add_track = true;
                }
                id
            }
        };
        self.update_negotiation_needed = true;
        Ok(id)
    }

    /// Sends a track on one transceiver, whatever it carried before: `addTrack` for who chooses the section
    /// himself, as forwarders do with sections that the peer offered for receiving. A transceiver that sent
    /// before gets new sources: numbers that begin anew under an old source would be taken for replays.
    ///
    /// # Errors
    /// `InvalidStateError` when closed or stopped, `TypeError` for ids that SDP cannot carry.
    pub fn send_on(
        &mut self,
        id: TransceiverId,
        track: &str,
        streams: &[String],
    ) -> Result<(), Error> {
        self.check_open()?;
        for id in streams.iter().map(String::as_str).chain([track]) {
            check_msid(id)?;
        }
        let mut random = self.jsep.random().fork();
        let transceiver = self.live(id)?;
        if transceiver.sender.used {
            for sources in &mut transceiver.sender.sources {
                *sources = EncodingSources::draw(&mut random);
            }
        }
        transceiver.sender.track = Some(track.into());
        transceiver.sender.msid_track = track.into();
        transceiver.sender.streams = unique(streams.to_vec());
        transceiver.direction = match transceiver.direction {
            TransceiverDirection::RecvOnly => TransceiverDirection::SendRecv,
            TransceiverDirection::Inactive => TransceiverDirection::SendOnly,
            other => other,
        };
        self.update_negotiation_needed = true;
        Ok(())
    }

    /// W3C `removeTrack`: the sender stops sending.
    ///
    /// # Errors
    /// `InvalidStateError` when closed, `InvalidAccessError` for a transceiver that is not of this
    /// connection.
    pub fn remove_track(&mut self, id: TransceiverId) -> Result<(), Error> {
        self.check_open()?;
        let transceiver = self
            .jsep
            .transceiver_mut(id)
            .ok_or_else(|| Error::access("the sender is not of this connection"))?;
        if transceiver.is_stopped() || transceiver.sender.track.take().is_none() {
            return Ok(());
        }
        transceiver.direction = match transceiver.direction {
            TransceiverDirection::SendRecv => TransceiverDirection::RecvOnly,
            TransceiverDirection::SendOnly => TransceiverDirection::Inactive,
            other => other,
        };
        self.update_negotiation_needed = true;
        Ok(())
    }

    /// W3C `replaceTrack`: needs no negotiation.
    ///
    /// # Errors
    /// `InvalidStateError` if the transceiver is stopped.
    pub fn replace_track(&mut self, id: TransceiverId, track: Option<&str>) -> Result<(), Error> {
        self.check_open()?;
        if let Some(track) = track {
            check_msid(track)?;
        }
        let transceiver = self.live(id)?;
        transceiver.sender.track = track.map(Into::into);
        Ok(())
    }

    /// W3C `RTCRtpSender.setStreams`.
    ///
    /// # Errors
    /// `InvalidStateError` when closed or stopped.
    pub fn set_streams(&mut self, id: TransceiverId, streams: &[String]) -> Result<(), Error> {
        self.check_open()?;
        for stream in streams {
            check_msid(stream)?;
        }
        self.live(id)?.sender.streams = unique(streams.to_vec());
        self.update_negotiation_needed = true;
        Ok(())
    }

    /// Sets W3C `RTCRtpTransceiver.direction`.
    ///
    /// # Errors
    /// `InvalidStateError` when closed or stopped.
    pub fn set_direction(&mut self, id: TransceiverId, direction: Direction) -> Result<(), Error> {
        self.check_open()?;
        let transceiver = self.live(id)?;
        if transceiver.direction != direction.into() {
            transceiver.direction = direction.into();
            self.update_negotiation_needed = true;
        }
        Ok(())
    }

    /// W3C `RTCRtpTransceiver.stop`.
    ///
    /// # Errors
    /// `InvalidStateError` when closed.
    pub fn stop_transceiver(&mut self, id: TransceiverId) -> Result<(), Error> {
        self.check_open()?;
        if self.jsep.stop(id)? {
            self.events.push_back(crate::events::Event::TrackEnded(id));
            self.update_negotiation_needed = true;
        }
        Ok(())
    }

    /// W3C `setCodecPreferences`; empty for the default.
    ///
    /// # Errors
    /// `InvalidModificationError` for codecs that are not among the capabilities.
    pub fn set_codec_preferences(
        &mut self,
        id: TransceiverId,
        codecs: &[Codec],
    ) -> Result<(), Error> {
        let settings = std::sync::Arc::clone(&self.jsep.settings);
        let transceiver = self.live(id)?;
        transceiver.set_codec_preferences(codecs, settings.codecs.of(transceiver.kind))
    }

    /// webrtc-extensions `getHeaderExtensionsToNegotiate`.
    pub fn header_extensions_to_negotiate(&self, id: TransceiverId) -> Vec<HeaderExtension> {
        self.jsep
            .transceiver(id)
            .map(|transceiver| transceiver.extensions.clone())
            .unwrap_or_default()
    }

    /// webrtc-extensions `setHeaderExtensionsToNegotiate`.
    ///
    /// # Errors
    /// `InvalidModificationError` if the list holds others than
    /// [`header_extensions_to_negotiate`](Self::header_extensions_to_negotiate), or stops `mid`.
    pub fn set_header_extensions_to_negotiate(
        &mut self,
        id: TransceiverId,
        extensions: &[HeaderExtension],
    ) -> Result<(), Error> {
        let transceiver = self.live(id)?;
        let known = &transceiver.extensions;
        let same = known.len() == extensions.len()
            && known.iter().zip(extensions).all(|(a, b)| a.uri == b.uri);
        if !same {
            return Err(Error::modification(
                "header extensions were added, removed or moved",
            ));
        }
        let stops_mid = extensions.iter().any(|extension| {
            extension.uri == crate::extensions::uri::MID
                && extension.direction != TransceiverDirection::SendRecv
        });
        if stops_mid {
            return Err(Error::modification("the extension `mid` cannot be stopped"));
        }
        transceiver.extensions = extensions.to_vec();
        self.update_negotiation_needed = true;
        Ok(())
    }

    /// W3C `RTCRtpSender.getParameters`.
    pub fn parameters(&mut self, id: TransceiverId) -> Option<SendParameters> {
        let cname = self.jsep.cname.clone();
        let mut random = self.jsep.random().fork();
        Some(
            self.jsep
                .transceiver_mut(id)?
                .parameters(&cname, &mut random),
        )
    }

    /// W3C `RTCRtpSender.setParameters`.
    ///
    /// # Errors
    /// `InvalidStateError` if they were not read before, `InvalidModificationError`, `RangeError`.
    pub fn set_parameters(
        &mut self,
        id: TransceiverId,
        parameters: SendParameters,
    ) -> Result<(), Error> {
        self.live(id)?.set_parameters(parameters)?;
        self.configure_media();
        Ok(())
    }

    /// W3C `getTransceivers`, in order of creation.
    pub fn transceivers(&self) -> &[Transceiver] {
        &self.jsep.transceivers
    }

    /// One transceiver; `None` once it is over.
    pub fn transceiver(&self, id: TransceiverId) -> Option<&Transceiver> {
        self.jsep.transceiver(id)
    }

    fn live(&mut self, id: TransceiverId) -> Result<&mut Transceiver, Error> {
        self.jsep
            .transceiver_mut(id)
            .filter(|transceiver| !transceiver.is_stopped())
            .ok_or_else(|| Error::state("the transceiver is stopped"))
    }

    // ---- packets

    /// Sends an RTP packet of a transceiver's encoding.
    ///
    /// While there is no path, packets wait: of sound 128, of pictures
    /// [`history_packets`](crate::MediaSettings::history_packets) (512 where none are sent again). One more,
    /// and all of its stream that wait are dropped but this one: the newest is worth most.
    ///
    /// # Errors
    /// `InvalidStateError` before DTLS is up and while the encoding is not being sent, `InvalidAccessError`
    /// for a payload type that was not negotiated, `RangeError` for a packet that is too large,
    /// `OperationError` if too much waits on a path.
    pub fn send_rtp(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        packet: &OutgoingRtp<'_>,
    ) -> Result<(), Error> {
        self.check_open()?;
        self.now = now;
        let bundle = self.bundles.of_mut(&self.jsep.transceivers, id);
        if !bundle.transport.has_media_keys() {
            return Err(Error::state("media cannot flow yet"));
        }
        let has_path = bundle.transport.has_path();
        bundle.media.send_rtp(now, id, encoding, packet, has_path)
    }

    /// Sends an RTCP compound packet as it is, over the first transport. False if it cannot be sent now.
    pub fn send_rtcp(&mut self, now: Instant, compound: &[u8]) -> bool {
        self.now = now;
        let main = &mut self.bundles.main;
        main.transport.has_media_keys() && main.media.send_rtcp(compound)
    }

    /// Sends an encoded frame of a transceiver's encoding: cut into packets by the codec's payload
    /// format, paced, kept for retransmission. A [`FrameTransform`] sees it before.
    ///
    /// # Errors
    /// `InvalidStateError` before DTLS is up and while the encoding is not being sent, `InvalidAccessError`
    /// for a payload type that was not negotiated, `RangeError` for a frame that the payload format or the
    /// history cannot carry, `OperationError` if too much waits or the transform refuses. What waits
    /// without a path gives way as in [`send_rtp`](Self::send_rtp).
    pub fn send_frame(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: usize,
        frame: &OutgoingFrame<'_>,
    ) -> Result<(), Error> {
        self.check_open()?;
        self.now = now;
        let bundle = self.bundles.of_mut(&self.jsep.transceivers, id);
        if !bundle.transport.has_media_keys() {
            return Err(Error::state("media cannot flow yet"));
        }
        let has_path = bundle.transport.has_path();
        bundle.media.send_frame(now, id, encoding, frame, has_path)
    }

    /// Whether what a transceiver receives is handed out as packets (with
    /// [`Received::Rtp`](crate::Received)) or as frames (by [`poll_frame`](Self::poll_frame)).
    pub fn set_receive_mode(&mut self, id: TransceiverId, mode: ReceiveMode) {
        self.media_of(id).set_receive_mode(id, mode);
    }

    /// The next frame of a transceiver in [`ReceiveMode::Frames`], if one is due. To be asked until
    /// `None` when [`Event::FrameReady`](crate::Event) has come.
    pub fn poll_frame(&mut self, now: Instant, id: TransceiverId) -> Option<EncodedFrame<'_>> {
        self.media_of(id).poll_frame(now, id)
    }

    /// When [`poll_frame`](Self::poll_frame) has the next frame of a transceiver; `None` while none
    /// waits.
    pub fn next_frame(&self, id: TransceiverId) -> Option<Instant> {
        self.bundles
            .of(&self.jsep.transceivers, id)
            .media
            .next_frame_of(id)
    }

    /// Sets what changes the frames of a transceiver on their way out (webrtc-encoded-transform
    /// `RTCRtpSender.transform`), between codec and packets. Packet formats that look into frames (H.264,
    /// H.265, AV1, and VP8's and VP9's key frames) must be left what they look at.
    pub fn set_sender_transform(
        &mut self,
        id: TransceiverId,
        transform: Option<Box<dyn FrameTransform>>,
    ) {
        self.media_of(id).set_sender_transform(id, transform);
    }

    /// Sets what changes the frames of a transceiver on their way in (webrtc-encoded-transform
    /// `RTCRtpReceiver.transform`). A picture that it
    /// refuses is given as [`FrameKind::Lost`](crate::FrameKind), sound is as if it had not come.
    pub fn set_receiver_transform(
        &mut self,
        id: TransceiverId,
        transform: Option<Box<dyn FrameTransform>>,
    ) {
        self.media_of(id).set_receiver_transform(id, transform);
    }

    /// Asks the peer for a key frame (RTCP PLI) of a received track, of one of its encodings if one
    /// is named. False if nothing was received of it.
    pub fn request_key_frame(
        &mut self,
        now: Instant,
        id: TransceiverId,
        encoding: Option<usize>,
    ) -> bool {
        self.now = now;
        self.media_of(id).request_key_frame(now, id, encoding)
    }

    /// W3C `insertDTMF` on the sender of a transceiver: replaces what was not played yet. Each tone
    /// lasts `duration` (40 ms to 6 s) with `gap` (30 ms to 6 s) behind it; a comma waits 2 s.
    ///
    /// # Errors
    /// `InvalidStateError` if nothing is sent or key presses were not negotiated, `SyntaxError` for other
    /// characters than `0-9A-D#*,`.
    pub fn insert_dtmf(
        &mut self,
        now: Instant,
        id: TransceiverId,
        tones: &str,
        duration: Duration,
        gap: Duration,
    ) -> Result<(), Error> {
        self.check_open()?;
        self.now = now;
        self.media_of(id).insert_dtmf(now, id, tones, duration, gap)
    }

    /// W3C `toneBuffer`.
    pub fn tone_buffer(&self, id: TransceiverId) -> String {
        self.bundles
            .of(&self.jsep.transceivers, id)
            .media
            .tone_buffer(id)
    }

    /// What may be sent, as congestion control sees it. With several transports, their sum.
    pub fn target(&self) -> visavis_congestion::Target {
        let first = self.bundles.first();
        let mut sum = first.media.target();
        for bundle in self
            .bundles
            .in_force()
            .filter(|bundle| bundle.id != first.id)
        {
            let target = bundle.media.target();
            sum.bitrate += target.bitrate;
            sum.pacing += target.pacing;
            sum.window = sum.window.zip(target.window).map(|(a, b)| a + b);
        }
        sum
    }

    /// What one encoding may use of the target, in bits per second: audio first, then video by
    /// priority, simulcast encodings from the lowest up; 0 for one that is better paused.
    pub fn encoding_target(&self, id: TransceiverId, encoding: usize) -> Option<u64> {
        self.bundles
            .of(&self.jsep.transceivers, id)
            .media
            .encoding_target(id, encoding)
    }

    /// What congestion control sees and does, once something is sent: on the first transport that sends.
    pub fn congestion_stats(&self) -> Option<visavis_congestion::Stats> {
        let mut bundles = self.bundles.in_force();
        bundles.find_map(|bundle| bundle.media.congestion_stats())
    }

    /// Sets other bounds of the bit rate, of each transport.
    pub fn set_bitrate_limits(&mut self, now: Instant, limits: visavis_congestion::Limits) {
        self.now = now;
        for bundle in self.bundles.iter_mut() {
            bundle.media.set_bitrate_limits(now, limits);
        }
    }

    /// Says how much would be sent if the network bore it, in bits per second, so that probes go no
    /// further.
    pub fn set_bitrate_demand(&mut self, now: Instant, bitrate: u64) {
        self.now = now;
        for bundle in self.bundles.iter_mut() {
            bundle.media.set_demand(now, bitrate);
        }
    }

    /// What was dropped of the media that came.
    pub fn media_stats(&self) -> MediaStats {
        let mut sum = MediaStats::default();
        for bundle in self.bundles.iter() {
            let stats = bundle.media.stats();
            sum.unroutable += stats.unroutable;
            sum.malformed_rtcp += stats.malformed_rtcp;
            sum.refused_frames += stats.refused_frames;
        }
        sum
    }

    /// Received streams.
    pub fn inbound_stats(&self) -> impl Iterator<Item = InboundStats> + '_ {
        self.bundles
            .iter()
            .flat_map(|bundle| bundle.media.inbound_stats())
    }

    /// Sent streams.
    pub fn outbound_stats(&self) -> impl Iterator<Item = OutboundStats> + '_ {
        self.bundles
            .iter()
            .flat_map(|bundle| bundle.media.outbound_stats())
    }

    /// The negotiated numbers of header extensions in packets that come by the first transport.
    pub fn receive_extensions(&self) -> &ExtensionMap {
        self.bundles.first().media.extensions()
    }

    fn media_of(&mut self, id: TransceiverId) -> &mut crate::media::Media {
        &mut self.bundles.of_mut(&self.jsep.transceivers, id).media
    }

    /// Lets media follow what was negotiated.
    pub(super) fn configure_media(&mut self) {
        let now = self.now;
        if let Some(direct) = &self.direct {
            let routes = direct.iter().filter_map(|direct| {
                let transceiver = self.jsep.transceiver(direct.transceiver)?;
                let current = transceiver.current_direction?.to_sdp()?;
                let mid = transceiver.mid.as_deref()?;
                Some(route(transceiver, mid, current, direct.sources.clone()))
            });
            self.bundles
                .main
                .media
                .configure(now, routes.collect(), true);
            return;
        }
        let Some((local, remote)) = self.jsep.exchange() else {
            return;
        };
        let bundles = &mut self.bundles;
        for place in 0..=bundles.apart.len() {
            let mut routes = Vec::new();
            let mut reduced_size = true;
            for transceiver in &self.jsep.transceivers {
                let sections = transceiver.section.and_then(|index| {
                    Some((local.sdp.media.get(index)?, remote.sdp.media.get(index)?))
                });
                let (Some((_, remote)), Some(mid), Some(current)) = (
                    sections,
                    &transceiver.mid,
                    transceiver
                        .current_direction
                        .and_then(TransceiverDirection::to_sdp),
                ) else {
                    continue;
                };
                if !bundles.is_at(place, mid) {
                    continue;
                }
                bundles.hand_over(place, transceiver.id);
                reduced_size &= remote.attributes.has_rtcp_rsize();
                let sources = described_sources(transceiver, remote);
                routes.push(route(transceiver, mid, current, sources));
            }
            if let Some(bundle) = bundles.nth_mut(place) {
                bundle.media.configure(now, routes, reduced_size);
            }
        }
    }

    pub(super) fn receive_rtp(
        &mut self,
        now: Instant,
        id: TransportId,
        arrival: (Instant, Ecn),
        packet: &mut [u8],
        range: Range<usize>,
    ) -> Option<ReceivedRtp> {
        let events = &mut self.events;
        let media = &mut self.bundles.get_mut(id)?.media;
        let mut tell = |event| events.push_back(event);
        let routed = media.receive_rtp(now, arrival, packet, &mut tell)?;
        Some(ReceivedRtp {
            packet: range.start + routed.moved..range.end,
            transceiver: routed.transceiver,
            ssrc: routed.ssrc,
            encoding: routed.encoding,
            recovered: routed.recovered,
        })
    }

    pub(super) fn receive_rtcp(&mut self, now: Instant, id: TransportId, packet: &[u8]) {
        let events = &mut self.events;
        if let Some(bundle) = self.bundles.get_mut(id) {
            let mut tell = |event| events.push_back(event);
            bundle.media.receive_rtcp(now, packet, &mut tell);
        }
    }
}

/// The sources that the peer's description names, with those of their retransmissions.
fn described_sources(transceiver: &Transceiver, remote: &Media) -> Vec<(u32, Option<u32>)> {
    let attributes = &remote.attributes;
    let pairs: Vec<(u32, u32)> = attributes
        .ssrc_groups()
        .filter(|group| group.semantics == "FID")
        .filter_map(|group| Some((*group.ssrcs.first()?, *group.ssrcs.get(1)?)))
        .collect();
    let mut remote_sources: Vec<(u32, Option<u32>)> = Vec::new();
    // With rids the sources' order says nothing: packets name their encoding themselves.
    if transceiver.receiver.rids.is_empty() {
        // Parity tells by itself what it protects.
        let parity: Vec<u32> = attributes
            .ssrc_groups()
            .filter(|group| group.semantics == "FEC-FR")
            .flat_map(|group| group.ssrcs.iter().skip(1).copied())
            .collect();
        for ssrc in attributes.ssrcs().map(|ssrc| ssrc.ssrc) {
            let repairs = pairs.iter().any(|&(_, rtx)| rtx == ssrc) || parity.contains(&ssrc);
            if !repairs && remote_sources.iter().all(|&(known, _)| known != ssrc) {
                let rtx = pairs.iter().find(|&&(base, _)| base == ssrc);
                remote_sources.push((ssrc, rtx.map(|&(_, rtx)| rtx)));
            }
        }
    }
    remote_sources
}

fn route(
    transceiver: &Transceiver,
    mid: &str,
    current: Direction,
    remote_sources: Vec<(u32, Option<u32>)>,
) -> Route {
    let map = |extensions: &[NegotiatedExtension]| {
        let mut map = ExtensionMap::new();
        for extension in extensions {
            if let Some(kind) = ExtensionKind::from_uri(&extension.uri) {
                // Numbers 0 and 15 were refused in negotiation.
                let _ = map.insert(extension.id, kind);
            }
        }
        map
    };
    let sender = &transceiver.sender;
    Route {
        id: transceiver.id,
        kind: transceiver.kind,
        mid: mid.into(),
        sends: current.sends(),
        receives: current.receives(),
        receive_codecs: transceiver.receiver.codecs.clone(),
        rids: transceiver.receiver.rids.clone(),
        remote_sources,
        receive_extensions: map(&transceiver.receiver.extensions),
        send_codecs: sender.codecs.clone(),
        encodings: sender
            .encodings
            .iter()
            .zip(&sender.sources)
            .map(|(encoding, sources)| EncodingRoute {
                rid: encoding.rid.clone(),
                sources: *sources,
                active: encoding.active,
                codec: encoding.codec.clone(),
                max_bitrate: encoding.max_bitrate,
                weight: encoding.priority.weight(),
            })
            .collect(),
        send_extensions: map(&sender.extensions),
    }
}
