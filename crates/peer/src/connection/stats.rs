//! W3C `getStats`.

use std::time::Instant;

use visavis_crypto::HashAlgorithm;
use visavis_ice as ice;
use visavis_sctp::datachannel::ChannelState;

use super::PeerConnection;
use super::bundle::{Bundle, TransportId};
use crate::codecs::Codec;
use crate::events::DtlsState;
use crate::log::LogEntry;
use crate::stats::{Stats, StatsKind, StatsReport};
use crate::transceiver::TransceiverId;

/// The id of a transport's dictionary.
fn transport_id(bundle: &Bundle) -> String {
    format!("T{}", bundle.id.get())
}

/// What tells ids of dictionaries apart that may be alike on several transports.
fn suffix(bundle: &Bundle) -> String {
    match bundle.id {
        TransportId::MAIN => String::new(),
        _ => transport_id(bundle),
    }
}

impl PeerConnection {
    /// W3C `getStats`: everything.
    pub fn stats(&self, now: Instant) -> StatsReport {
        let mut entries = vec![self.connection_stats()];
        let bundles = || self.bundles.in_force();
        entries.extend(bundles().map(|bundle| self.transport_dictionary(bundle)));
        for bundle in bundles() {
            self.ice_stats(bundle, &mut entries);
        }
        self.certificate_stats(&mut entries);
        self.channel_stats(&mut entries);
        for bundle in bundles() {
            self.inbound_dictionaries(bundle, &mut entries);
        }
        for bundle in bundles() {
            self.outbound_dictionaries(bundle, &mut entries);
        }
        StatsReport {
            timestamp: self.wall_clock + now.saturating_duration_since(self.born),
            entries,
        }
    }

    /// W3C `getStats` with a selector: the streams of one transceiver and what they refer to.
    pub fn transceiver_stats(&self, now: Instant, id: TransceiverId) -> StatsReport {
        let media = &self.bundles.of(&self.jsep.transceivers, id).media;
        let (inbound, outbound) = (media.inbound_stats(), media.outbound_stats());
        let mut ids: Vec<String> = inbound
            .filter(|stream| stream.transceiver == id)
            .map(|stream| format!("I{}", stream.ssrc))
            .collect();
        let sent = outbound.filter(|stream| stream.transceiver == id);
        ids.extend(sent.map(|stream| format!("O{}", stream.ssrc)));
        self.stats(now).select(&ids)
    }

    /// What was decided lately, oldest first.
    pub fn log(&self) -> impl Iterator<Item = &LogEntry> {
        self.log.entries()
    }

    /// Decisions that the log has no more room for.
    pub fn log_dropped(&self) -> u64 {
        self.log.dropped()
    }

    /// A `DOMHighResTimeStamp`: milliseconds since 1970-01-01T00:00:00Z.
    fn milliseconds(&self, at: Instant) -> f64 {
        let since = self.wall_clock + at.saturating_duration_since(self.born);
        since.as_secs_f64() * 1000.0
    }

    fn connection_stats(&self) -> Stats {
        let mut stats = Stats::new(StatsKind::PeerConnection, "P");
        stats
            .set("dataChannelsOpened", self.channels_opened)
            .set("dataChannelsClosed", self.channels_closed);
        stats
    }

    fn transport_dictionary(&self, bundle: &Bundle) -> Stats {
        let transport = &bundle.transport;
        let counters = transport.stats;
        let mut stats = Stats::new(StatsKind::Transport, transport_id(bundle));
        let (mut ice, mut dtls) = (bundle.ice_state, transport.dtls_state);
        if self.closed {
            (ice, dtls) = (ice::ConnectionState::Closed, DtlsState::Closed);
        }
        stats
            .set("packetsSent", counters.packets_sent)
            .set("packetsReceived", counters.packets_received)
            .set("bytesSent", counters.bytes_sent)
            .set("bytesReceived", counters.bytes_received)
            .set(
                "iceRole",
                match transport.ice.role() {
                    ice::Role::Controlling => "controlling",
                    ice::Role::Controlled => "controlled",
                },
            )
            .set(
                "iceLocalUsernameFragment",
                &*transport.ice.local_credentials().ufrag,
            )
            .set("iceState", ice_state(ice))
            .set(
                "dtlsState",
                match dtls {
                    DtlsState::New => "new",
                    DtlsState::Connecting => "connecting",
                    DtlsState::Connected => "connected",
                    DtlsState::Closed => "closed",
                    DtlsState::Failed => "failed",
                },
            )
            .set(
                "selectedCandidatePairChanges",
                transport.ice.stats().selected_pair_changes,
            );
        let pair = transport.ice.selected_pair();
        stats.maybe(
            "selectedCandidatePairId",
            pair.map(|pair| format!("CP{}", pair.id.get())),
        );
        if let Some(dtls) = &transport.dtls {
            stats.set(
                "dtlsRole",
                match dtls.role() {
                    visavis_dtls::Role::Client => "client",
                    visavis_dtls::Role::Server => "server",
                },
            );
            stats.maybe(
                "tlsVersion",
                dtls.version()
                    .map(|version| format!("{:04X}", version.number())),
            );
            stats.maybe("dtlsCipher", dtls.cipher_suite().map(|suite| suite.name()));
            stats.maybe(
                "remoteCertificateId",
                dtls.remote_certificate_der()
                    .map(|_| format!("CFR{}", suffix(bundle))),
            );
        }
        stats.set("localCertificateId", "CFL");
        stats.maybe(
            "srtpCipher",
            transport.srtp_profile().map(|profile| profile.name()),
        );
        stats
    }

    fn ice_stats(&self, bundle: &Bundle, entries: &mut Vec<Stats>) {
        let agent = &bundle.transport.ice;
        for local in agent.local_candidates() {
            let mut stats = candidate(bundle, StatsKind::LocalCandidate, &local.candidate);
            stats.maybe("url", local.url.as_deref());
            stats.maybe(
                "relayProtocol",
                local.relay_protocol.map(|protocol| protocol.to_string()),
            );
            entries.push(stats);
        }
        for remote in agent.remote_candidates() {
            entries.push(candidate(bundle, StatsKind::RemoteCandidate, remote));
        }
        for pair in agent.pair_stats() {
            let counters = &pair.counters;
            let mut stats = Stats::new(StatsKind::CandidatePair, format!("CP{}", pair.id.get()));
            stats
                .set("transportId", transport_id(bundle))
                .set(
                    "localCandidateId",
                    candidate_id(bundle, StatsKind::LocalCandidate, &pair.local),
                )
                .set(
                    "remoteCandidateId",
                    candidate_id(bundle, StatsKind::RemoteCandidate, &pair.remote),
                )
                .set("state", pair_state(pair.state))
                .set("nominated", pair.nominated)
                .set("packetsSent", counters.packets_sent)
                .set("packetsReceived", counters.packets_received)
                .set("bytesSent", counters.bytes_sent)
                .set("bytesReceived", counters.bytes_received)
                .set("totalRoundTripTime", counters.total_round_trip_time)
                .maybe("currentRoundTripTime", counters.current_round_trip_time)
                .set("requestsReceived", counters.requests_received)
                .set("requestsSent", counters.requests_sent)
                .set("responsesReceived", counters.responses_received)
                .set("responsesSent", counters.responses_sent)
                .set("consentRequestsSent", counters.consent_requests_sent)
                .maybe(
                    "lastPacketSentTimestamp",
                    counters.last_packet_sent.map(|at| self.milliseconds(at)),
                )
                .maybe(
                    "lastPacketReceivedTimestamp",
                    counters
                        .last_packet_received
                        .map(|at| self.milliseconds(at)),
                )
                .set("packetsDiscardedOnSend", counters.packets_discarded_on_send)
                .set("bytesDiscardedOnSend", counters.bytes_discarded_on_send);
            if pair.selected {
                let target = bundle.media.target().bitrate;
                stats.set("availableOutgoingBitrate", target as f64);
            }
            entries.push(stats);
        }
    }

    fn certificate_stats(&self, entries: &mut Vec<Stats>) {
        let mut push = |id: &str, der: &[u8]| {
            let print = visavis_crypto::Fingerprint::of(HashAlgorithm::Sha256, der);
            let mut stats = Stats::new(StatsKind::Certificate, id);
            stats
                .set("fingerprint", print.value_string())
                .set("fingerprintAlgorithm", print.algorithm_name())
                .set("base64Certificate", base64(der));
            entries.push(stats);
        };
        if let Some(certificate) = self.certificates.first() {
            push("CFL", certificate.der());
        }
        for bundle in self.bundles.in_force() {
            let dtls = bundle.transport.dtls.as_ref();
            if let Some(der) = dtls.and_then(|dtls| dtls.remote_certificate_der()) {
                push(&format!("CFR{}", suffix(bundle)), der);
            }
        }
    }

    fn channel_stats(&self, entries: &mut Vec<Stats>) {
        let Some(channels) = self.data_channels() else {
            return;
        };
        for channel in channels.channels() {
            let Some(options) = channels.options(channel) else {
                continue;
            };
            let counters = self.channel_counters.get(&channel);
            let counters = counters.copied().unwrap_or_default();
            let number = self.channel_number(channel);
            let mut stats = Stats::new(StatsKind::DataChannel, format!("D{number}"));
            stats
                .set("label", options.label.as_str())
                .set("protocol", options.protocol.as_str())
                .maybe(
                    "dataChannelIdentifier",
                    channels.stream_id(channel).map(u32::from),
                )
                .set(
                    "state",
                    match channels.state(channel) {
                        ChannelState::Connecting => "connecting",
                        ChannelState::Open => "open",
                        ChannelState::Closing => "closing",
                        ChannelState::Closed => "closed",
                    },
                )
                .set("messagesSent", counters.messages_sent)
                .set("bytesSent", counters.bytes_sent)
                .set("messagesReceived", counters.messages_received)
                .set("bytesReceived", counters.bytes_received);
            entries.push(stats);
        }
    }

    fn inbound_dictionaries(&self, bundle: &Bundle, entries: &mut Vec<Stats>) {
        for stream in bundle.media.inbound_stats() {
            let Some(transceiver) = self.jsep.transceiver(stream.transceiver) else {
                continue;
            };
            let codecs = &transceiver.receiver.codecs;
            let codec = codecs
                .iter()
                .find(|codec| codec.payload_type == stream.payload_type);
            let codec_id = codec.map(|codec| codec_stats(bundle, entries, "CI", codec));
            let id = format!("I{}", stream.ssrc);
            let mut stats = Stats::new(StatsKind::InboundRtp, &id);
            let last = self.milliseconds(stream.last_packet);
            stats
                .set("ssrc", stream.ssrc)
                .set("kind", transceiver.kind.name())
                .set("transportId", transport_id(bundle))
                .maybe("codecId", codec_id)
                .set("trackIdentifier", transceiver.receiver.track.as_str())
                .maybe("mid", transceiver.mid.as_deref())
                .set("packetsReceived", stream.packets_received)
                .set("bytesReceived", stream.bytes_received)
                .set("headerBytesReceived", stream.header_bytes_received)
                .set("packetsLost", stream.packets_lost)
                .set("jitter", stream.jitter)
                .set("nackCount", stream.nack_count)
                .set("pliCount", stream.pli_count)
                .set("firCount", stream.fir_count)
                .set(
                    "retransmittedPacketsReceived",
                    stream.retransmitted_packets_received,
                )
                .set(
                    "retransmittedBytesReceived",
                    stream.retransmitted_bytes_received,
                )
                .set("fecPacketsReceived", stream.fec_packets_received)
                .set("fecBytesReceived", stream.fec_bytes_received)
                .maybe("fecSsrc", stream.fec_ssrc)
                .maybe("rtxSsrc", stream.rtx_ssrc)
                .set("packetsReceivedWithCe", stream.packets_with_ce)
                .set("lastPacketReceivedTimestamp", last)
                .maybe(
                    "remoteId",
                    stream.sender_report.map(|_| format!("RO{}", stream.ssrc)),
                );
            if let Some(video) = &stream.video {
                stats
                    .set("framesReceived", video.frames)
                    .set("framesDropped", video.undecodable + video.overflow)
                    .set("packetsDiscarded", video.late + video.duplicates);
            }
            if let Some(audio) = &stream.audio {
                stats
                    .set("concealmentEvents", audio.concealment_events)
                    .set("packetsDiscarded", audio.late + audio.discarded);
            }
            entries.push(stats);
            if let Some((_, report)) = stream.sender_report {
                let mut stats =
                    Stats::new(StatsKind::RemoteOutboundRtp, format!("RO{}", stream.ssrc));
                let remote = report.ntp.to_unix().as_secs_f64() * 1000.0;
                stats
                    .set("ssrc", stream.ssrc)
                    .set("kind", transceiver.kind.name())
                    .set("transportId", transport_id(bundle))
                    .set("localId", id)
                    .set("packetsSent", report.packets)
                    .set("bytesSent", report.octets)
                    .set("remoteTimestamp", remote);
                entries.push(stats);
            }
        }
    }

    fn outbound_dictionaries(&self, bundle: &Bundle, entries: &mut Vec<Stats>) {
        for stream in bundle.media.outbound_stats() {
            let Some(transceiver) = self.jsep.transceiver(stream.transceiver) else {
                continue;
            };
            let codecs = &transceiver.sender.codecs;
            let codec = codecs
                .iter()
                .find(|codec| codec.payload_type == stream.payload_type);
            let codec_id = codec.map(|codec| codec_stats(bundle, entries, "CO", codec));
            let id = format!("O{}", stream.ssrc);
            let encoding = transceiver.sender.encodings.get(stream.encoding);
            let mut stats = Stats::new(StatsKind::OutboundRtp, &id);
            stats
                .set("ssrc", stream.ssrc)
                .set("kind", transceiver.kind.name())
                .set("transportId", transport_id(bundle))
                .maybe("codecId", codec_id.clone())
                .maybe("mid", transceiver.mid.as_deref())
                .maybe(
                    "rid",
                    (!stream.rid.is_empty()).then_some(stream.rid.as_str()),
                )
                .set("encodingIndex", stream.encoding as u64)
                .set("rtxSsrc", stream.rtx_ssrc)
                .set("packetsSent", stream.packets_sent)
                .set("bytesSent", stream.bytes_sent)
                .set("headerBytesSent", stream.header_bytes_sent)
                .set(
                    "retransmittedPacketsSent",
                    stream.retransmitted_packets_sent,
                )
                .set("retransmittedBytesSent", stream.retransmitted_bytes_sent)
                .set("framesSent", stream.frames_sent)
                .set("targetBitrate", stream.target_bitrate as f64)
                .set("nackCount", stream.nacks_received)
                .set("pliCount", stream.key_frames_requested)
                .maybe("active", encoding.map(|encoding| encoding.active))
                .maybe(
                    "scalabilityMode",
                    encoding.and_then(|encoding| encoding.scalability_mode.as_deref()),
                )
                .maybe(
                    "remoteId",
                    stream.report.map(|_| format!("RI{}", stream.ssrc)),
                );
            entries.push(stats);
            if let Some((_, block)) = stream.report {
                let rate = codec.map_or(90_000, |codec| codec.clock_rate);
                let mut stats =
                    Stats::new(StatsKind::RemoteInboundRtp, format!("RI{}", stream.ssrc));
                stats
                    .set("ssrc", stream.ssrc)
                    .set("kind", transceiver.kind.name())
                    .set("transportId", transport_id(bundle))
                    .maybe("codecId", codec_id)
                    .set("localId", id)
                    .set("packetsLost", i64::from(block.cumulative_lost))
                    .set("fractionLost", f64::from(block.fraction_lost) / 256.0)
                    .set("jitter", f64::from(block.jitter) / f64::from(rate))
                    .maybe("roundTripTime", stream.round_trip_time);
                entries.push(stats);
            }
        }
    }
}

/// Adds a codec's dictionary if it is not there yet; its id.
fn codec_stats(bundle: &Bundle, entries: &mut Vec<Stats>, prefix: &str, codec: &Codec) -> String {
    let id = format!("{prefix}{}{}", codec.payload_type, suffix(bundle));
    if entries.iter().all(|entry| entry.id != id) {
        let mut stats = Stats::new(StatsKind::Codec, &id);
        stats
            .set("payloadType", u32::from(codec.payload_type))
            .set("transportId", transport_id(bundle))
            .set("mimeType", codec.mime_type())
            .set("clockRate", codec.clock_rate)
            .maybe("channels", codec.channels.map(u32::from))
            .maybe(
                "sdpFmtpLine",
                (!codec.fmtp.is_empty()).then_some(codec.fmtp.as_str()),
            );
        entries.push(stats);
    }
    id
}

fn candidate_id(bundle: &Bundle, kind: StatsKind, candidate: &ice::Candidate) -> String {
    let side = if kind == StatsKind::LocalCandidate {
        'L'
    } else {
        'R'
    };
    format!(
        "{side}{}-{}-{}-{}{}",
        candidate.foundation,
        candidate.protocol,
        candidate.host,
        candidate.port,
        suffix(bundle)
    )
}

fn candidate(bundle: &Bundle, kind: StatsKind, candidate: &ice::Candidate) -> Stats {
    let mut stats = Stats::new(kind, candidate_id(bundle, kind, candidate));
    stats
        .set("transportId", transport_id(bundle))
        .set("address", candidate.host.to_string())
        .set("port", u32::from(candidate.port))
        .set("protocol", candidate.protocol.to_string())
        .set("candidateType", candidate.kind.as_str())
        .set("priority", candidate.priority)
        .set("foundation", &*candidate.foundation)
        .maybe(
            "relatedAddress",
            candidate.related.map(|related| related.ip().to_string()),
        )
        .maybe(
            "relatedPort",
            candidate.related.map(|related| u32::from(related.port())),
        )
        .maybe("usernameFragment", candidate.ufrag.as_deref())
        .maybe("tcpType", candidate.tcp_type.map(ice::TcpType::as_str));
    stats
}

const fn ice_state(state: ice::ConnectionState) -> &'static str {
    match state {
        ice::ConnectionState::New => "new",
        ice::ConnectionState::Checking => "checking",
        ice::ConnectionState::Connected => "connected",
        ice::ConnectionState::Completed => "completed",
        ice::ConnectionState::Disconnected => "disconnected",
        ice::ConnectionState::Failed => "failed",
        ice::ConnectionState::Closed => "closed",
    }
}

const fn pair_state(state: ice::PairState) -> &'static str {
    match state {
        ice::PairState::Frozen => "frozen",
        ice::PairState::Waiting => "waiting",
        ice::PairState::InProgress => "in-progress",
        ice::PairState::Succeeded => "succeeded",
        ice::PairState::Failed => "failed",
    }
}

fn base64(bytes: &[u8]) -> String {
    use base64::Engine as _;
    base64::engine::general_purpose::STANDARD.encode(bytes)
}
