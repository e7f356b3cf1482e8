//! A room as operators see it.

use livekit_protocol as proto;
use serde_json::{Value, json};
use visavis_sfu::{ConnectionState, ConnectionStats, SubscriptionStats};

use super::Actor;
use crate::room::Participant;

impl Actor {
    pub(super) async fn inspect(&self) -> Value {
        let stats = self
            .shared
            .media
            .sfu()
            .room_stats(visavis_sfu::RoomId(self.id.into()))
            .await
            .unwrap_or_default();
        let info = self.room.info();
        let participants: Vec<Value> = self
            .room
            .participants()
            .map(|participant| self.inspect_participant(participant, &stats))
            .collect();
        json!({
            "name": info.name,
            "sid": info.sid,
            "createdAt": info.creation_time_ms,
            "participants": participants,
        })
    }

    fn inspect_participant(&self, participant: &Participant, stats: &[ConnectionStats]) -> Value {
        let info = participant.info();
        let client = &participant.client;
        let own: Vec<&ConnectionStats> = stats
            .iter()
            .filter(|connection| {
                self.connections.get(&connection.connection) == Some(&participant.key)
            })
            .collect();
        let role = |connection: &ConnectionStats| {
            let link = self.links.get(&participant.key);
            match link.map(|link| (&link.publisher, &link.subscriber)) {
                Some((Some(_), None)) => "both",
                Some((_, Some(peer))) if peer.connection == connection.connection => "subscriber",
                _ => "publisher",
            }
        };
        let connections: Vec<Value> = own
            .iter()
            .map(|connection| inspect_connection(connection, role(connection)))
            .collect();
        let tracks: Vec<Value> = info
            .tracks
            .iter()
            .map(|track| {
                let media = self.tracks.get(&track.sid);
                let measured = own
                    .iter()
                    .flat_map(|connection| &connection.tracks)
                    .find(|one| Some(&one.track) == media);
                let layers: Vec<Value> = measured
                    .map_or(&[][..], |one| &one.encodings)
                    .iter()
                    .enumerate()
                    .map(|(index, layer)| {
                        // Newer clients name them per codec.
                        #[allow(deprecated)]
                        let sizes = match track.codecs.first() {
                            Some(codec) if !codec.layers.is_empty() => &codec.layers,
                            _ => &track.layers,
                        };
                        let size = sizes.get(index);
                        json!({
                            "rid": layer.rid,
                            "bps": layer.bitrate,
                            "active": layer.bitrate > 0,
                            "width": size.map(|size| size.width),
                            "height": size.map(|size| size.height),
                        })
                    })
                    .collect();
                json!({
                    "sid": track.sid,
                    "kind": if track.r#type == 0 { "audio" } else { "video" },
                    "source": source_name(track.source),
                    "codec": track.mime_type.rsplit('/').next(),
                    "muted": track.muted,
                    "layers": layers,
                })
            })
            .collect();
        let subscriptions: Vec<Value> = own
            .iter()
            .flat_map(|connection| {
                connection
                    .subscriptions
                    .iter()
                    .map(|one| (*connection, one))
            })
            .filter_map(|(connection, subscription)| {
                self.inspect_subscription(participant, connection, subscription, stats)
            })
            .collect();
        json!({
            "identity": info.identity,
            "sid": info.sid,
            "name": info.name,
            "state": info.state().as_str_name().to_ascii_lowercase(),
            "joinedAt": info.joined_at_ms,
            "client": {
                "sdk": client.sdk().as_str_name(),
                "version": client.version,
                "browser": format!("{} {}", client.browser, client.browser_version).trim(),
                "os": client.os,
            },
            "connections": connections,
            "tracks": tracks,
            "subscriptions": subscriptions,
            "diagnosis": diagnosis(participant, &own),
        })
    }
}

/// How a viewer wants a track, in a few words.
fn wanted(settings: Option<&proto::UpdateTrackSettings>) -> String {
    match settings {
        None => "any size".into(),
        Some(settings) if settings.disabled => "nothing: it is not on screen".into(),
        Some(settings) if settings.width > 0 => format!("{}×{}", settings.width, settings.height),
        Some(settings) => {
            let quality = proto::VideoQuality::try_from(settings.quality).unwrap_or_default();
            quality.as_str_name().to_ascii_lowercase()
        }
    }
}

/// What is known of a subscription, to say why it is as it is.
struct Forwarding<'a> {
    muted: bool,
    settings: Option<&'a proto::UpdateTrackSettings>,
    paused: bool,
    current: Option<(u8, u8, u8)>,
    target: Option<(u8, u8, u8)>,
    /// What arrives of each encoding, in bits per second; empty where that is not known.
    arriving: Vec<u64>,
    /// What may be sent towards the viewer, in bits per second.
    estimate: u64,
}

impl Forwarding<'_> {
    /// Why a viewer gets what it gets; empty where there is nothing to explain.
    fn why(&self) -> String {
        let kilobits = self.estimate / 1000;
        let highest = self.arriving.iter().rposition(|bitrate| *bitrate > 0);
        if self.muted {
            return "its sender has muted it".into();
        }
        if self.settings.is_some_and(|settings| settings.disabled) {
            return "its viewer does not show it".into();
        }
        if !self.arriving.is_empty() && highest.is_none() {
            return "nothing comes from its sender".into();
        }
        if self.paused {
            return format!("of {kilobits} kbit/s that fit the link nothing is left for it");
        }
        match (self.current, self.target) {
            (None, _) => "waits for a key frame of its sender".into(),
            (Some(current), Some(target)) if current != target => {
                "changes its layer: waits for a key frame or a switching point".into()
            }
            (Some((layer, ..)), _)
                if highest.is_some_and(|highest| usize::from(layer) < highest) =>
            {
                if self.settings.is_some_and(|settings| settings.width > 0) {
                    format!("as large as its viewer shows it, or as {kilobits} kbit/s allow")
                } else {
                    format!("as much as fits {kilobits} kbit/s")
                }
            }
            _ => String::new(),
        }
    }
}

impl Actor {
    fn inspect_subscription(
        &self,
        viewer: &Participant,
        connection: &ConnectionStats,
        subscription: &SubscriptionStats,
        stats: &[ConnectionStats],
    ) -> Option<Value> {
        let sid = self.track_sids.get(&subscription.track)?;
        let (publisher, track) = self.room.track(sid)?;
        let source = stats
            .iter()
            .flat_map(|connection| &connection.tracks)
            .find(|one| one.track == subscription.track);
        let settings = self.room.settings_of(viewer.key, sid);
        let layer = subscription.current.map_or("-", |(layer, ..)| {
            ["q", "h", "f"][usize::from(layer.min(2))]
        });
        let is_video = track.track_type() == proto::TrackType::Video;
        let encodings = source.filter(|_| is_video).map(|source| &source.encodings);
        let forwarding = Forwarding {
            muted: track.info.muted,
            settings,
            paused: subscription.paused,
            current: subscription.current,
            target: subscription.target,
            arriving: encodings
                .into_iter()
                .flatten()
                .map(|encoding| encoding.bitrate)
                .collect(),
            estimate: connection.estimate,
        };
        Some(json!({
            "track": sid,
            "from": publisher.identity,
            "source": source_name(track.info.source),
            "wanted": is_video.then(|| wanted(settings)),
            "layer": is_video.then_some(layer),
            "paused": subscription.paused,
            "loss": subscription.loss,
            "packets": subscription.packets,
            "bytes": subscription.bytes,
            "why": forwarding.why(),
        }))
    }
}

/// The share of packets from the client that were lost, over all its sections.
fn received_loss(connection: &ConnectionStats) -> Option<f64> {
    let mut sums = (0, 0);
    let entries = connection.report.entries.iter();
    for entry in entries.filter(|entry| entry.kind.name() == "inbound-rtp") {
        sums.0 += entry.count("packetsLost").unwrap_or(0);
        sums.1 += entry.count("packetsReceived").unwrap_or(0);
    }
    let all = sums.0 + sums.1;
    #[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
    (all > 0).then(|| sums.0 as f64 / all as f64)
}

fn inspect_connection(connection: &ConnectionStats, role: &str) -> Value {
    let of = |kind: &str| {
        connection
            .report
            .entries
            .iter()
            .find(|entry| entry.kind.name() == kind)
    };
    let transport = of("transport");
    let text = |name: &str| transport.and_then(|entry| entry.text(name));
    let pair = text("selectedCandidatePairId").and_then(|id| connection.report.get(id));
    let end = |name: &str| {
        let candidate = connection.report.get(pair?.text(name)?)?;
        Some(json!({
            "type": candidate.text("candidateType"),
            "protocol": candidate.text("protocol"),
            "address": candidate.text("address"),
            "port": candidate.count("port"),
        }))
    };
    let candidates = |kind: &str| -> Vec<String> {
        let entries = connection
            .report
            .entries
            .iter()
            .filter(|entry| entry.kind.name() == kind);
        entries
            .map(|entry| {
                let word = |name| entry.text(name).unwrap_or("?");
                let port = entry.count("port").unwrap_or(0);
                let (protocol, kind, address) =
                    (word("protocol"), word("candidateType"), word("address"));
                format!("{protocol} {kind} {address}:{port}")
            })
            .collect()
    };
    json!({
        "id": format!("{:?}", connection.connection),
        "role": role,
        "state": state_name(connection.state),
        // Version numbers of DTLS count down (RFC 9147, section 5.3).
        "dtls": text("tlsVersion").map(|version| match version {
            "FEFC" => "1.3",
            "FEFD" => "1.2",
            other => other,
        }),
        "srtp": text("srtpCipher"),
        "group": text("tlsGroup"),
        "pair": end("localCandidateId").zip(end("remoteCandidateId")).map(|(local, remote)| {
            json!({"local": local, "remote": remote})
        }),
        "candidates": {"local": candidates("local-candidate"), "remote": candidates("remote-candidate")},
        "rttMs": connection.round_trip_ms,
        "sendEstimateBps": connection.estimate,
        "sentBps": connection.sending,
        "sentLoss": connection.loss,
        "receivedLoss": received_loss(connection),
    })
}

fn state_name(state: ConnectionState) -> &'static str {
    match state {
        ConnectionState::New => "new",
        ConnectionState::Connecting => "connecting",
        ConnectionState::Connected => "connected",
        ConnectionState::Disconnected => "disconnected",
        ConnectionState::Failed => "failed",
        ConnectionState::Closed => "closed",
    }
}

fn source_name(source: i32) -> String {
    let source = livekit_protocol::TrackSource::try_from(source).unwrap_or_default();
    source.as_str_name().to_ascii_lowercase()
}

/// Why a connection is as it is, and what helps, in a paragraph.
fn diagnosis(participant: &Participant, connections: &[&ConnectionStats]) -> String {
    if participant.is_signal_lost() {
        return "The signalling connection is lost; the participant has a few seconds to come back. If this happens \
            often, look for a proxy that closes WebSockets, or for a network that changes."
            .into();
    }
    let Some(worst) = connections
        .iter()
        .min_by_key(|connection| rank(connection.state))
    else {
        return "There is no media connection: the client has made no offer yet.".into();
    };
    match worst.state {
        ConnectionState::New => {
            "The client's offer or answer has not come yet. If it stays so, the client failed before WebRTC: its \
             console says why."
                .into()
        }
        ConnectionState::Connecting => {
            "Connectivity checks are under way. If they do not end within some seconds, UDP towards the server is \
             blocked: open the UDP port, set --public-ip if the server is behind a NAT, or let clients use TURN over TLS."
                .into()
        }
        ConnectionState::Failed => {
            "No path between client and server works any more. The client tries again with an ICE restart; if that \
             fails too, its network blocks UDP and TCP to the server's ports, or the addresses in the server's candidates \
             cannot be reached from there (--public-ip)."
                .into()
        }
        ConnectionState::Disconnected => {
            "Nothing was heard from the client for some seconds: its network is gone or changing. It comes back by \
             itself or with an ICE restart."
                .into()
        }
        ConnectionState::Closed => "The connection was closed.".into(),
        ConnectionState::Connected => {
            let mut faults = Vec::new();
            if worst.loss > 0.05 {
                faults.push(format!("{:.0} % of the packets towards it are lost", worst.loss * 100.0));
            }
            if let Some(millis) = worst.round_trip_ms.filter(|millis| *millis > 300) {
                faults.push(format!("the round trip takes {millis} ms"));
            }
            let paused = worst.subscriptions.iter().filter(|subscription| subscription.paused).count();
            if paused > 0 {
                let kilobits = worst.estimate / 1000;
                faults.push(format!("{paused} tracks are paused because only {kilobits} kbit/s fit its link"));
            }
            if faults.is_empty() {
                "The connection is well.".into()
            } else {
                format!("The connection is up, but {}: its access network is the likely cause.", faults.join(", "))
            }
        }
    }
}

fn rank(state: ConnectionState) -> u8 {
    match state {
        ConnectionState::Failed => 0,
        ConnectionState::Closed => 1,
        ConnectionState::Disconnected => 2,
        ConnectionState::Connecting => 3,
        ConnectionState::New => 4,
        ConnectionState::Connected => 5,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reason_of_a_missing_picture_is_told() {
        let hidden = proto::UpdateTrackSettings {
            disabled: true,
            ..Default::default()
        };
        let flowing = |current: Option<u8>| Forwarding {
            muted: false,
            settings: None,
            paused: false,
            current: current.map(|layer| (layer, 0, 0)),
            target: current.map(|layer| (layer, 0, 0)),
            arriving: vec![100_000, 500_000, 0],
            estimate: 300_000,
        };
        let cases = [
            (
                Forwarding {
                    muted: true,
                    ..flowing(None)
                },
                "muted",
            ),
            (
                Forwarding {
                    settings: Some(&hidden),
                    ..flowing(None)
                },
                "does not show",
            ),
            (
                Forwarding {
                    paused: true,
                    ..flowing(None)
                },
                "of 300 kbit/s",
            ),
            (
                Forwarding {
                    arriving: vec![0, 0],
                    ..flowing(None)
                },
                "nothing comes",
            ),
            (flowing(None), "key frame"),
            (
                Forwarding {
                    target: Some((1, 0, 0)),
                    ..flowing(Some(0))
                },
                "switching",
            ),
            (flowing(Some(0)), "fits 300 kbit/s"),
        ];
        for (forwarding, expected) in cases {
            let why = forwarding.why();
            assert!(why.contains(expected), "{why}");
        }
        assert_eq!(flowing(Some(1)).why(), "");
    }
}
