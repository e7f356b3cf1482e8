//! Offers, answers and candidates between a client and the media plane: the room knows tracks, the media
//! plane knows sections.

use std::collections::HashMap;

use livekit_protocol as proto;
use proto::{DisconnectReason, SignalTarget, leave_request::Action, signal_response::Message};
use visavis_sfu::{ConnectionId, Description, IceCandidate, OfferOptions};

use super::Actor;
use crate::room::{Now, ParticipantKey};

/// Candidates of a client that are kept until its description comes.
const EARLY_CANDIDATES: usize = 64;

impl Actor {
    pub(super) async fn description(
        &mut self,
        key: ParticipantKey,
        description: proto::SessionDescription,
        now: Now,
    ) {
        let outcome = match description.r#type.as_str() {
            "offer" => match self.take_offer(key, description.sdp, now).await {
                Ok((answer, mids)) => {
                    let answer = proto::SessionDescription {
                        r#type: "answer".into(),
                        sdp: answer.sdp,
                        id: description.id,
                        mid_to_track_id: mids,
                    };
                    self.send_message(key, Message::Answer(answer), now);
                    Ok(())
                }
                Err(error) => Err(error),
            },
            "answer" => self.take_answer(key, description, now).await,
            other => Err(format!("a description of type {other:?}")),
        };
        if let Err(error) = outcome {
            metrics::counter!("visavis_refused_descriptions_total").increment(1);
            self.note_of(key, format!("sent a description that was refused: {error}"));
            // With another description the client may do better; with this one nothing can be done.
            self.room
                .remove_with(key, DisconnectReason::StateMismatch, Action::Reconnect, now);
        }
    }

    /// Takes a client's offer: what it publishes becomes tracks, what it waits for goes into the answer.
    pub(super) async fn take_offer(
        &mut self,
        key: ParticipantKey,
        sdp: String,
        now: Now,
    ) -> Result<(Description, HashMap<String, String>), String> {
        let sfu = self.shared.media.sfu().clone();
        let Some(link) = self.links.get_mut(&key) else {
            return Err("it has no connection".into());
        };
        let single = link.subscriber.is_none();
        let Some(peer) = &mut link.publisher else {
            return Err("it has no connection".into());
        };
        let (connection, tcp_only) = (peer.connection, peer.tcp_only);
        let sdp = reachable(sdp, tcp_only);
        sfu.set_remote_description(connection, Description::offer(sdp))
            .await
            .map_err(|error| error.to_string())?;
        peer.described = true;
        for candidate in std::mem::take(&mut peer.early) {
            let _ = sfu.add_remote_candidate(connection, candidate);
        }
        (link.needed, link.asked, link.wants_offer) = Default::default();

        let sections = sfu
            .sections(connection)
            .await
            .map_err(|error| error.to_string())?;
        self.sections_changed(key, &sections, now).await;
        if single {
            self.room.media_ready(key);
        }
        // What the offer changed for the others, and what this client gets, before its answer is made.
        Box::pin(self.carry_out(now)).await;
        let answer = sfu
            .create_answer(connection)
            .await
            .map_err(|error| error.to_string())?;
        let sdp = self.with_announced_codecs(key, reachable(answer.sdp, tcp_only));
        let mids = self.mids(key, connection).await;
        Ok((Description::answer(sdp), mids))
    }

    /// The answer with the codec first that was announced for each section: browsers send with the first one,
    /// whatever order they offered.
    fn with_announced_codecs(&self, key: ParticipantKey, mut sdp: String) -> String {
        let peer = self
            .links
            .get(&key)
            .and_then(|link| link.publisher.as_ref());
        let participant = self.room.participant(key);
        let (Some(peer), Some(participant)) = (peer, participant) else {
            return sdp;
        };
        for (mid, (track_sid, _)) in &peer.published {
            let codecs = participant.track(track_sid).map(|track| &track.info.codecs);
            let codec = codecs.into_iter().flatten().find(|codec| codec.mid == *mid);
            if let Some((_, name)) = codec.and_then(|codec| codec.mime_type.split_once('/')) {
                sdp = prefer_codec(&sdp, mid, name);
            }
        }
        sdp
    }

    /// Which track each section of a connection brings to the client.
    async fn mids(&self, key: ParticipantKey, connection: ConnectionId) -> HashMap<String, String> {
        let Ok(sections) = self.shared.media.sfu().sections(connection).await else {
            return HashMap::new();
        };
        let sid_of = |subscription| {
            let ours = self
                .subscriptions
                .iter()
                .find(|((subscriber, _), id)| *subscriber == key && **id == subscription);
            ours.map(|((_, sid), _)| sid.clone())
        };
        let placed = sections
            .into_iter()
            .filter_map(|section| Some((section.mid, sid_of(section.subscription?)?)));
        placed.collect()
    }

    async fn take_answer(
        &mut self,
        key: ParticipantKey,
        description: proto::SessionDescription,
        now: Now,
    ) -> Result<(), String> {
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.subscriber.as_mut())
        else {
            return Err("an answer without an offer".into());
        };
        // An answer to an offer that was replaced meanwhile.
        if !peer.offered || (description.id != 0 && description.id != peer.offer_id) {
            return Ok(());
        }
        let sfu = self.shared.media.sfu();
        let answer = Description::answer(reachable(description.sdp, peer.tcp_only));
        sfu.set_remote_description(peer.connection, answer)
            .await
            .map_err(|error| error.to_string())?;
        peer.offered = false;
        peer.described = true;
        for candidate in std::mem::take(&mut peer.early) {
            let _ = sfu.add_remote_candidate(peer.connection, candidate);
        }
        if std::mem::take(&mut peer.offer_again) {
            let restart = std::mem::take(&mut peer.restart_again);
            self.offer(key, restart, now).await;
        }
        Ok(())
    }

    /// Offers the connection that the server offers, now or when the last offer was answered.
    pub(super) async fn offer(&mut self, key: ParticipantKey, ice_restart: bool, now: Now) {
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.subscriber.as_mut())
        else {
            return;
        };
        if peer.offered {
            peer.offer_again = true;
            peer.restart_again |= ice_restart;
            return;
        }
        let connection = peer.connection;
        match self
            .shared
            .media
            .sfu()
            .create_offer(connection, OfferOptions { ice_restart })
            .await
        {
            Ok(offer) => {
                peer.offered = true;
                peer.offer_id += 1;
                let id = peer.offer_id;
                let sdp = reachable(offer.sdp, peer.tcp_only);
                let mid_to_track_id = self.mids(key, connection).await;
                let description = proto::SessionDescription {
                    r#type: "offer".into(),
                    sdp,
                    id,
                    mid_to_track_id,
                };
                self.send_message(key, Message::Offer(description), now);
            }
            Err(error) => self.note_of(key, format!("cannot be offered anything: {error}")),
        }
    }

    pub(super) async fn restart(&mut self, key: ParticipantKey, now: Now) {
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.subscriber.as_mut())
        else {
            return;
        };
        // The answer to an offer of before may have been lost with the old signalling connection.
        if std::mem::take(&mut peer.offered) {
            let _ = self.shared.media.sfu().rollback(peer.connection).await;
        }
        self.offer(key, true, now).await;
    }

    pub(super) fn candidate(&mut self, key: ParticipantKey, trickle: &proto::TrickleRequest) {
        let Some(link) = self.links.get_mut(&key) else {
            return;
        };
        let peer = match SignalTarget::try_from(trickle.target) {
            Ok(SignalTarget::Subscriber) if link.subscriber.is_some() => &mut link.subscriber,
            _ => &mut link.publisher,
        };
        let (Some(peer), Some(candidate)) = (peer, parse_candidate(&trickle.candidate_init)) else {
            metrics::counter!("visavis_refused_candidates_total").increment(1);
            return;
        };
        if peer.tcp_only && is_udp(&candidate.candidate) {
            return;
        }
        if peer.described {
            let _ = self
                .shared
                .media
                .sfu()
                .add_remote_candidate(peer.connection, candidate);
        } else if peer.early.len() < EARLY_CANDIDATES {
            peer.early.push(candidate);
        }
    }

    /// Asks clients that make the offers for one: with sections for what waits, or to tell them what changed.
    pub(super) fn ask_for_sections(&mut self) {
        let now = Now::read();
        let mut asking = Vec::new();
        for (key, link) in &mut self.links {
            let audio = link.needed.0.saturating_sub(link.asked.0);
            let video = link.needed.1.saturating_sub(link.asked.1);
            if audio + video > 0 || std::mem::take(&mut link.wants_offer) {
                link.wants_offer = false;
                link.asked = (link.asked.0 + audio, link.asked.1 + video);
                asking.push((*key, audio, video));
            }
        }
        for (key, audio, video) in asking {
            let requirement = proto::MediaSectionsRequirement {
                num_audios: u32::try_from(audio).unwrap_or(0),
                num_videos: u32::try_from(video).unwrap_or(0),
            };
            self.send_message(key, Message::MediaSectionsRequirement(requirement), now);
        }
    }
}

/// A description in which the payload types of `codec` go first in the section of that mid.
fn prefer_codec(sdp: &str, mid: &str, codec: &str) -> String {
    let mut sections: Vec<String> = Vec::new();
    for line in sdp.split_inclusive('\n') {
        match sections.last_mut() {
            Some(section) if !line.starts_with("m=") => section.push_str(line),
            _ => sections.push(line.to_owned()),
        }
    }
    let is_meant = |section: &String| {
        section.lines().any(|line| {
            line.strip_prefix("a=mid:")
                .is_some_and(|found| found.trim_end() == mid)
        })
    };
    if let Some(section) = sections.iter_mut().find(|section| is_meant(section)) {
        let preferred = |payload_type: &str| {
            section.lines().any(|line| {
                let map = line
                    .strip_prefix("a=rtpmap:")
                    .and_then(|map| map.split_once(' '));
                map.is_some_and(|(number, map)| {
                    let name = map.split('/').next().unwrap_or_default();
                    number == payload_type && name.eq_ignore_ascii_case(codec)
                })
            })
        };
        let (head, rest) = section.split_once('\n').unwrap_or((section.as_str(), ""));
        let words: Vec<&str> = head.trim_end().split(' ').collect();
        let (fixed, payload_types) = words.split_at(words.len().min(3));
        let (first, last): (Vec<&str>, Vec<&str>) = payload_types
            .iter()
            .copied()
            .partition(|payload_type| preferred(payload_type));
        let line = [fixed, &first, &last].concat().join(" ");
        *section = format!("{line}\r\n{rest}");
    }
    sections.concat()
}

/// A description whose candidates are of TCP alone, if that is wanted.
fn reachable(sdp: String, tcp_only: bool) -> String {
    if !tcp_only {
        return sdp;
    }
    let of_udp = |line: &str| line.strip_prefix("a=").is_some_and(is_udp);
    sdp.split_inclusive('\n')
        .filter(|line| !of_udp(line))
        .collect()
}

/// Whether the text is a candidate of UDP (RFC 8839, section 5.1).
fn is_udp(candidate: &str) -> bool {
    let protocol = candidate
        .strip_prefix("candidate:")
        .and_then(|text| text.split(' ').nth(2));
    protocol.is_some_and(|protocol| protocol.eq_ignore_ascii_case("udp"))
}

/// A candidate as clients send it: the JSON of the browser's `RTCIceCandidate`.
fn parse_candidate(json: &str) -> Option<IceCandidate> {
    #[derive(serde::Deserialize)]
    #[serde(rename_all = "camelCase", default)]
    #[derive(Default)]
    struct Candidate {
        candidate: String,
        sdp_mid: Option<String>,
        sdp_m_line_index: Option<u16>,
        username_fragment: Option<String>,
    }
    let candidate: Candidate = serde_json::from_str(json).ok()?;
    Some(IceCandidate {
        candidate: candidate.candidate,
        // Some know no mid, and say so by an empty one.
        sdp_mid: candidate.sdp_mid.filter(|mid| !mid.is_empty()),
        sdp_mline_index: candidate.sdp_m_line_index,
        username_fragment: candidate.username_fragment,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_are_read_as_browsers_write_them() {
        let json = r#"{"candidate":"candidate:1 1 udp 1 192.0.2.2 9 typ host","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}"#;
        let candidate = parse_candidate(json).unwrap();
        assert_eq!(candidate.sdp_mline_index, Some(0));
        assert_eq!(candidate.username_fragment.as_deref(), Some("x"));
        let json = r#"{"candidate":"candidate:1 1 UDP 1 192.0.2.2 9 typ host","sdpMid":"","sdpMLineIndex":0}"#;
        let candidate = parse_candidate(json).unwrap();
        assert_eq!(
            (candidate.sdp_mid, candidate.sdp_mline_index),
            (None, Some(0))
        );
        assert!(parse_candidate("{").is_none());
        assert!(parse_candidate("[]").is_none_or(|candidate| candidate.candidate.is_empty()));
    }

    #[test]
    fn candidates_of_udp_are_left_out_where_tcp_alone_is_wanted() {
        let udp = "a=candidate:1 1 UDP 1 192.0.2.2 9 typ host\r\n";
        let tcp = "a=candidate:2 1 tcp 1 192.0.2.2 9 typ host tcptype passive\r\n";
        let sdp = format!("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\n{udp}{tcp}");
        let left = format!("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 96\r\n{tcp}");
        assert_eq!(reachable(sdp.clone(), true), left);
        assert_eq!(reachable(sdp.clone(), false), sdp);
    }

    #[test]
    fn an_announced_codec_goes_first_in_its_section_alone() {
        let section = |mid: &str, order: &str| {
            format!(
                "m=video 9 UDP/TLS/RTP/SAVPF {order}\r\na=mid:{mid}\r\na=rtpmap:96 VP8/90000\r\n\
                 a=rtpmap:97 rtx/90000\r\na=rtpmap:98 VP9/90000\r\n"
            )
        };
        let sdp = format!(
            "v=0\r\n{}{}",
            section("1", "96 97 98"),
            section("2", "96 97 98")
        );
        let expected = format!(
            "v=0\r\n{}{}",
            section("1", "96 97 98"),
            section("2", "98 96 97")
        );
        assert_eq!(prefer_codec(&sdp, "2", "vp9"), expected);
        assert_eq!(prefer_codec(&sdp, "3", "vp9"), sdp);
    }
}
