//! WHIP and WHEP clients in a room: participants without a signalling connection, whose one offer and
//! answer go over HTTP (RFC 9725; draft-ietf-wish-whep).

use std::fmt::Write as _;

use livekit_protocol as proto;
use proto::{DisconnectReason, TrackSource, TrackType, signal_request};
use tokio::sync::oneshot;
use visavis_sfu::{Description, IceCandidate, Kind, Section};

use super::Actor;
use crate::room::{JoinError, Joiner, Now, ParticipantKey};

/// Why a WHIP or WHEP request is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum WhipError {
    /// The description makes no sense.
    #[error("the description was refused: {0}")]
    BadDescription(String),
    /// More than one audio or video section, or none (RFC 9725, section 4.4).
    #[error("a session has at most one audio and one video track, and at least one of them")]
    TrackCount,
    /// The token does not allow it.
    #[error("the token does not allow this")]
    Forbidden,
    /// Nobody sends what is to be played.
    #[error("nothing is being sent in this room yet")]
    NothingToPlay,
    /// The room refused.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The session is over.
    #[error("the session is over")]
    Gone,
    /// The candidates make no sense.
    #[error("the fragment was refused: {0}")]
    BadFragment(String),
}

/// The server's answer.
#[derive(Debug)]
pub(crate) struct WhipAnswer {
    pub(crate) key: ParticipantKey,
    pub(crate) sdp: String,
}

/// A client publishes.
pub(crate) struct WhipRequest {
    pub(crate) joiner: Joiner,
    pub(crate) offer: String,
    pub(crate) answer: oneshot::Sender<Result<WhipAnswer, WhipError>>,
}

/// A client plays.
pub(crate) struct WhepRequest {
    pub(crate) joiner: Joiner,
    pub(crate) offer: String,
    /// Whom it wants to see; anyone if empty.
    pub(crate) identity: String,
    pub(crate) answer: oneshot::Sender<Result<WhipAnswer, WhipError>>,
}

impl Actor {
    pub(super) async fn whip(&mut self, request: WhipRequest, now: Now) {
        let outcome = match self.room.join(request.joiner, now) {
            Ok(key) => {
                Box::pin(self.carry_out(now)).await;
                let outcome = self.whip_offer(key, request.offer, now).await;
                self.finish(key, outcome, now)
            }
            Err(error) => Err(error.into()),
        };
        self.reply(request.answer, outcome, now);
    }

    pub(super) async fn whep(&mut self, request: WhepRequest, now: Now) {
        let outcome = match self.room.join(request.joiner, now) {
            Ok(key) => {
                Box::pin(self.carry_out(now)).await;
                let outcome = self
                    .whep_offer(key, request.offer, &request.identity, now)
                    .await;
                self.finish(key, outcome, now)
            }
            Err(error) => Err(error.into()),
        };
        self.reply(request.answer, outcome, now);
    }

    fn finish(
        &mut self,
        key: ParticipantKey,
        outcome: Result<String, WhipError>,
        now: Now,
    ) -> Result<WhipAnswer, WhipError> {
        if outcome.is_err() {
            self.room.remove(key, DisconnectReason::JoinFailure, now);
        }
        outcome.map(|sdp| WhipAnswer { key, sdp })
    }

    fn reply(
        &mut self,
        to: oneshot::Sender<Result<WhipAnswer, WhipError>>,
        outcome: Result<WhipAnswer, WhipError>,
        now: Now,
    ) {
        // Who asked has gone: nobody would ever end the session.
        if let Err(Ok(answer)) = to.send(outcome) {
            self.room
                .remove(answer.key, DisconnectReason::ClientInitiated, now);
        }
    }

    async fn whip_offer(
        &mut self,
        key: ParticipantKey,
        offer: String,
        now: Now,
    ) -> Result<String, WhipError> {
        let sections = self.set_offer(key, offer).await?;
        let sent: Vec<&Section> = sections.iter().filter(|section| section.receives).collect();
        check_count(&sent)?;
        for section in &sent {
            let (kind, source) = match section.kind {
                Kind::Audio => (TrackType::Audio, TrackSource::Microphone),
                Kind::Video => (TrackType::Video, TrackSource::Camera),
            };
            let request = proto::AddTrackRequest {
                cid: format!("whip-{}", section.mid),
                r#type: kind.into(),
                source: source.into(),
                ..proto::AddTrackRequest::default()
            };
            self.room
                .request(key, signal_request::Message::AddTrack(request), now);
        }
        let announced = self
            .room
            .participant(key)
            .map_or(0, |participant| participant.tracks().len());
        if announced < sent.len() {
            return Err(WhipError::Forbidden);
        }
        self.sections_changed(key, &sections, now).await;
        Box::pin(self.carry_out(now)).await;
        let answer = self.answer(key).await?;
        // Only the answer decides on the codecs.
        for section in self.sections(key).await? {
            if let Some(codec) = section.codecs.first().filter(|_| section.receives) {
                self.room.codec_known(key, &section.mid, codec, now);
            }
        }
        Ok(answer)
    }

    async fn sections(&self, key: ParticipantKey) -> Result<Vec<Section>, WhipError> {
        let peer = self
            .links
            .get(&key)
            .and_then(|link| link.publisher.as_ref());
        let connection = peer.ok_or(WhipError::Gone)?.connection;
        let sections = self.shared.media.sfu().sections(connection).await;
        sections.map_err(|error| WhipError::BadDescription(error.to_string()))
    }

    async fn whep_offer(
        &mut self,
        key: ParticipantKey,
        offer: String,
        identity: &str,
        now: Now,
    ) -> Result<String, WhipError> {
        if !self
            .room
            .participant(key)
            .is_some_and(|participant| participant.grants.may_subscribe())
        {
            return Err(WhipError::Forbidden);
        }
        let sids = self.playable(identity);
        if sids.is_empty() {
            return Err(WhipError::NothingToPlay);
        }
        let sections = self.set_offer(key, offer).await?;
        let wanted: Vec<&Section> = sections.iter().filter(|section| section.sends).collect();
        check_count(&wanted)?;
        self.room.media_ready(key);
        let update = proto::UpdateSubscription {
            track_sids: sids,
            subscribe: true,
            ..Default::default()
        };
        self.room
            .request(key, signal_request::Message::Subscription(update), now);
        Box::pin(self.carry_out(now)).await;
        self.answer(key).await
    }

    /// One audio and one video track of the participant named, or of the first who sends video.
    fn playable(&self, identity: &str) -> Vec<String> {
        let candidates = || {
            self.room
                .participants()
                .filter(|p| identity.is_empty() || p.identity == identity)
        };
        let sends = |kind: TrackType| {
            move |participant: &&crate::room::Participant| {
                participant
                    .tracks()
                    .iter()
                    .any(|track| track.published && track.track_type() == kind)
            }
        };
        let chosen = candidates()
            .find(sends(TrackType::Video))
            .or_else(|| candidates().find(sends(TrackType::Audio)));
        let Some(chosen) = chosen else {
            return Vec::new();
        };
        let first = |kind: TrackType| {
            let mut tracks = chosen
                .tracks()
                .iter()
                .filter(|track| track.published && track.track_type() == kind);
            tracks.next().map(|track| track.info.sid.clone())
        };
        [first(TrackType::Audio), first(TrackType::Video)]
            .into_iter()
            .flatten()
            .collect()
    }

    async fn set_offer(
        &mut self,
        key: ParticipantKey,
        offer: String,
    ) -> Result<Vec<Section>, WhipError> {
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.publisher.as_mut())
        else {
            return Err(WhipError::Gone);
        };
        let sfu = self.shared.media.sfu();
        let refused = |error: visavis_sfu::Error| WhipError::BadDescription(error.to_string());
        peer.last_offer.clone_from(&offer);
        peer.described = true;
        sfu.set_remote_description(peer.connection, Description::offer(offer))
            .await
            .map_err(refused)?;
        self.sections(key).await
    }

    async fn answer(&mut self, key: ParticipantKey) -> Result<String, WhipError> {
        let Some(peer) = self
            .links
            .get(&key)
            .and_then(|link| link.publisher.as_ref())
        else {
            return Err(WhipError::Gone);
        };
        let answer = self.shared.media.sfu().create_answer(peer.connection).await;
        answer
            .map(|answer| answer.sdp)
            .map_err(|error| WhipError::BadDescription(error.to_string()))
    }

    /// Candidates of a client, or new credentials of it: then the answer holds the server's (RFC 9725, section 4.3).
    pub(super) async fn fragment(
        &mut self,
        key: ParticipantKey,
        text: &str,
    ) -> Result<Option<String>, WhipError> {
        let fragment = Fragment::parse(text)?;
        let Some(peer) = self
            .links
            .get_mut(&key)
            .and_then(|link| link.publisher.as_mut())
        else {
            return Err(WhipError::Gone);
        };
        let connection = peer.connection;
        let restarts = fragment
            .ufrag
            .as_ref()
            .is_some_and(|ufrag| attribute(&peer.last_offer, "ice-ufrag") != Some(ufrag));
        if !restarts {
            for candidate in fragment.candidates {
                let _ = self
                    .shared
                    .media
                    .sfu()
                    .add_remote_candidate(connection, candidate);
            }
            return Ok(None);
        }
        let offer = with_credentials(&peer.last_offer, &fragment);
        self.set_offer(key, offer).await?;
        for candidate in fragment.candidates {
            let _ = self
                .shared
                .media
                .sfu()
                .add_remote_candidate(connection, candidate);
        }
        let answer = self.answer(key).await?;
        Ok(Some(fragment_of(&answer)))
    }
}

fn check_count(sections: &[&Section]) -> Result<(), WhipError> {
    let count = |kind| {
        sections
            .iter()
            .filter(|section| section.kind == kind)
            .count()
    };
    let (audio, video) = (count(Kind::Audio), count(Kind::Video));
    if audio > 1 || video > 1 || audio + video == 0 {
        Err(WhipError::TrackCount)
    } else {
        Ok(())
    }
}

/// An SDP fragment (RFC 8840, section 9).
#[derive(Debug, Default)]
struct Fragment {
    ufrag: Option<String>,
    password: Option<String>,
    candidates: Vec<IceCandidate>,
}

/// Lines of a fragment that are looked at.
const MAX_FRAGMENT_LINES: usize = 256;

impl Fragment {
    fn parse(text: &str) -> Result<Self, WhipError> {
        let mut fragment = Self::default();
        let mut mid = None;
        let mut index: Option<u16> = None;
        if text.lines().count() > MAX_FRAGMENT_LINES {
            return Err(WhipError::BadFragment("it is too long".into()));
        }
        for line in text
            .lines()
            .map(str::trim_end)
            .filter(|line| !line.is_empty())
        {
            if line.starts_with("m=") {
                mid = None;
                index = Some(index.map_or(0, |index| index.saturating_add(1)));
            } else if let Some(value) = line.strip_prefix("a=mid:") {
                mid = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("a=ice-ufrag:") {
                fragment.ufrag = Some(value.to_owned());
            } else if let Some(value) = line.strip_prefix("a=ice-pwd:") {
                fragment.password = Some(value.to_owned());
            } else if line.starts_with("a=candidate:") || line == "a=end-of-candidates" {
                let candidate = line
                    .strip_prefix("a=")
                    .filter(|text| text.starts_with("candidate:"))
                    .unwrap_or("");
                fragment.candidates.push(IceCandidate {
                    candidate: candidate.to_owned(),
                    sdp_mid: mid.clone(),
                    sdp_mline_index: index.or(Some(0)),
                    username_fragment: fragment.ufrag.clone(),
                });
            } else if !line.starts_with("a=") {
                return Err(WhipError::BadFragment(format!(
                    "{line:.40} is no attribute"
                )));
            }
        }
        if fragment.ufrag.is_some() != fragment.password.is_some() {
            return Err(WhipError::BadFragment(
                "a user name fragment needs a password".into(),
            ));
        }
        Ok(fragment)
    }
}

/// The value of an attribute where it stands first.
fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines()
        .find_map(|line| {
            line.strip_prefix("a=")?
                .strip_prefix(name)?
                .strip_prefix(':')
        })
        .map(str::trim_end)
}

/// An offer with other credentials and without the candidates of the old ones.
fn with_credentials(offer: &str, fragment: &Fragment) -> String {
    let mut out = String::with_capacity(offer.len());
    for line in offer.lines() {
        let line = line.trim_end();
        let _ = match (&fragment.ufrag, &fragment.password) {
            (Some(ufrag), _) if line.starts_with("a=ice-ufrag:") => {
                write!(out, "a=ice-ufrag:{ufrag}\r\n")
            }
            (_, Some(password)) if line.starts_with("a=ice-pwd:") => {
                write!(out, "a=ice-pwd:{password}\r\n")
            }
            _ if line.starts_with("a=candidate:") || line == "a=end-of-candidates" => Ok(()),
            _ => write!(out, "{line}\r\n"),
        };
    }
    out
}

/// Credentials and candidates of a description, as a fragment.
fn fragment_of(sdp: &str) -> String {
    let mut out = String::new();
    for name in ["ice-ufrag", "ice-pwd"] {
        if let Some(value) = attribute(sdp, name) {
            let _ = write!(out, "a={name}:{value}\r\n");
        }
    }
    let mut sections = 0;
    for line in sdp.lines().map(str::trim_end) {
        sections += usize::from(line.starts_with("m="));
        let first = sections == 1;
        if first
            && (line.starts_with("m=")
                || line.starts_with("a=mid:")
                || line.starts_with("a=candidate:"))
        {
            let _ = write!(out, "{line}\r\n");
        }
    }
    out.push_str("a=end-of-candidates\r\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAGMENT: &str = "a=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\nm=audio 9 RTP/AVP 0\r\na=mid:0\r\n\
        a=candidate:1387637174 1 udp 2122260223 192.0.2.1 61764 typ host generation 0 ufrag EsAw network-id 1\r\n\
        a=end-of-candidates\r\n";

    #[test]
    fn a_fragment_is_read_as_in_rfc_9725_section_4_3_1() {
        let fragment = Fragment::parse(FRAGMENT).unwrap();
        assert_eq!(fragment.ufrag.as_deref(), Some("EsAw"));
        assert_eq!(fragment.candidates.len(), 2);
        assert_eq!(fragment.candidates[0].sdp_mid.as_deref(), Some("0"));
        assert!(fragment.candidates[1].candidate.is_empty());
    }

    #[test]
    fn a_fragment_of_something_else_is_refused() {
        for text in ["{}", "a=ice-ufrag:x\r\n", "v=0\r\n", &"a=x\n".repeat(300)] {
            assert!(
                matches!(Fragment::parse(text), Err(WhipError::BadFragment(_))),
                "{text:.20}"
            );
        }
    }

    #[test]
    fn a_restart_offers_the_same_with_new_credentials() {
        let offer = "v=0\r\nm=audio 9 X 0\r\na=ice-ufrag:old\r\na=ice-pwd:oldpassword\r\na=candidate:1 1 udp 1 192.0.2.1 1 typ host\r\n";
        let offer = with_credentials(offer, &Fragment::parse(FRAGMENT).unwrap());
        assert_eq!(attribute(&offer, "ice-ufrag"), Some("EsAw"));
        assert!(!offer.contains("old") && !offer.contains("candidate"));
    }
}
