//! Setting remote descriptions (RFC 9429 section 5.10).

use std::sync::Arc;

use visavis_sdp::{Media, MediaKind, RidDirection, SessionDescription};

use super::answer::{direction_here, offered_rids};
use super::apply::Changes;
use super::groups::keep;
use super::{Applied, Jsep, Outcome, Owner, SdpType, Section, SignalingState};
use crate::codecs::{Kind, codecs_of};
use crate::error::Error;
use crate::parameters::Encoding;
use crate::transceiver::{EncodingSources, TransceiverDirection, TransceiverId, TransceiverInit};

impl Jsep {
    /// Sets a description of the peer.
    pub(crate) fn set_remote(&mut self, kind: SdpType, text: &str) -> Result<Outcome, Error> {
        use SignalingState::{HaveLocalOffer, HaveRemoteOffer, HaveRemotePrAnswer, Stable};
        let mut outcome = Outcome::default();
        if self.state == SignalingState::Closed {
            return Err(Error::closed());
        }
        if kind == SdpType::Rollback {
            self.rollback(&mut outcome)?;
            return Ok(outcome);
        }
        let mut sdp = SessionDescription::parse_within(text, &self.settings.sdp_limits)?;
        // It is kept as long as it is in force.
        sdp.shrink_to_fit();
        let mut changes = Changes::default();
        match (kind, self.state) {
            (SdpType::Offer, Stable | HaveRemoteOffer | HaveLocalOffer) => {
                if self.state == HaveLocalOffer {
                    // Perfect negotiation: the polite end takes its own offer back.
                    self.rollback(&mut outcome)?;
                }
                self.check_offer(&sdp)?;
                self.begin_round();
                self.take_offered_sections(&sdp)?;
                self.pending_remote = Some(Arc::new(Applied { kind, sdp }));
                self.follow_remote_directions(&mut changes);
                self.enter(HaveRemoteOffer, &mut outcome);
            }
            (SdpType::Answer | SdpType::PrAnswer, HaveLocalOffer | HaveRemotePrAnswer) => {
                self.check_answer(&sdp)?;
                keep(&self.accepted_groups(kind, &sdp), &mut sdp);
                self.pending_remote = Some(Arc::new(Applied { kind, sdp }));
                self.follow_remote_directions(&mut changes);
                let state = match kind {
                    SdpType::PrAnswer => HaveRemotePrAnswer,
                    _ => Stable,
                };
                self.apply_answer(false, kind, &mut changes);
                self.enter(state, &mut outcome);
                outcome.answered = Some(false);
            }
            _ => {
                return Err(Error::InvalidState(
                    format!("a remote {} does not fit the signaling state", kind.name()).into(),
                ));
            }
        }
        changes.tell(&mut outcome);
        Ok(outcome)
    }

    /// Finds or makes an owner for each section of an offer.
    fn take_offered_sections(&mut self, sdp: &SessionDescription) -> Result<(), Error> {
        for (index, offered) in sdp.media.iter().enumerate() {
            let old = self.sections.get(index).cloned();
            let mid = match (offered.attributes.mid(), &old) {
                (Some(mid), _) => mid.to_owned(),
                (None, Some(old)) => old.mid.clone(),
                (None, None) => self.new_mid(),
            };
            let owner = match old {
                Some(old) if old.mid == mid => old.owner,
                _ => self.new_owner(index, &mid, offered)?,
            };
            let section = Section { mid, owner };
            match self.sections.get_mut(index) {
                Some(place) => *place = section,
                None => self.sections.push(section),
            }
            if let Owner::Transceiver(id) = owner {
                self.take_offered_media(id, offered);
            }
        }
        Ok(())
    }

    fn new_owner(&mut self, index: usize, mid: &str, offered: &Media) -> Result<Owner, Error> {
        let kind = match offered.kind {
            MediaKind::Audio => Kind::Audio,
            MediaKind::Video => Kind::Video,
            MediaKind::Application
                if offered.is_data_channel()
                    && self.data.section.is_none()
                    && !offered.is_rejected() =>
            {
                self.data.requested = true;
                self.data.section = Some(index);
                return Ok(Owner::Data);
            }
            _ => return Ok(Owner::Nobody),
        };
        if offered.is_rejected() || !offered.is_rtp() {
            return Ok(Owner::Nobody);
        }
        let id = match self.transceiver_for(kind, offered) {
            Some(id) => id,
            None => {
                let init = TransceiverInit {
                    direction: visavis_sdp::Direction::RecvOnly,
                    ..TransceiverInit::default()
                };
                let id = self.add_transceiver(kind, init)?;
                if let Some(transceiver) = self.transceiver_mut(id) {
                    transceiver.created_by_pending_offer = true;
                }
                id
            }
        };
        if let Some(transceiver) = self.transceiver_mut(id) {
            transceiver.section = Some(index);
            transceiver.mid = Some(mid.into());
            transceiver.associated_by_pending_offer = true;
        }
        Ok(Owner::Transceiver(id))
    }

    /// RFC 9429 section 5.10: a transceiver that `addTrack` made takes an offered section that wants
    /// to receive.
    fn transceiver_for(&self, kind: Kind, offered: &Media) -> Option<TransceiverId> {
        if !offered.direction().receives() {
            return None;
        }
        self.transceivers
            .iter()
            .find(|transceiver| {
                transceiver.kind == kind
                    && transceiver.created_by_add_track
                    && transceiver.section.is_none()
                    && !transceiver.is_stopped()
            })
            .map(|transceiver| transceiver.id)
    }

    /// What an offered section says about tracks, numbers and simulcast.
    fn take_offered_media(&mut self, id: TransceiverId, offered: &Media) {
        let Some(position) = self.transceivers.iter().position(|found| found.id == id) else {
            return;
        };
        let kind = self.transceivers[position].kind;
        self.payload_types.learn(&codecs_of(kind, offered));
        let numbers: Vec<_> = offered
            .attributes
            .extmaps()
            .filter_map(|map| {
                Some(crate::extensions::NegotiatedExtension {
                    uri: map.uri.clone(),
                    id: u8::try_from(map.id).ok()?,
                    direction: map.direction.unwrap_or_default(),
                })
            })
            .collect();
        self.extension_ids.learn(&numbers);
        let transceiver = &mut self.transceivers[position];
        if transceiver.created_by_pending_offer
            && let Some(track) = offered
                .attributes
                .msids()
                .find_map(|msid| msid.track.clone())
        {
            transceiver.receiver.track = track;
        }
        // webrtc-pc section 4.4.1.5: an offer to receive simulcast shapes a sender that was not
        // used so far.
        let rids = offered_rids(offered, RidDirection::Recv);
        let sender = &mut transceiver.sender;
        let plain = sender.encodings.len() == 1 && sender.encodings[0].rid.is_empty();
        if rids.len() > 1 && plain && !sender.used && kind == Kind::Video {
            let sources = rids
                .iter()
                .map(|_| EncodingSources::draw(&mut self.random))
                .collect();
            let shape = sender.encodings[0].clone();
            let encodings = rids.into_iter().map(|rid| Encoding {
                rid,
                ..shape.clone()
            });
            let old = (
                std::mem::replace(&mut sender.encodings, encodings.collect()),
                std::mem::replace(&mut sender.sources, sources),
            );
            sender.stable_encodings.get_or_insert(old);
        }
    }

    /// Streams, and the tracks that come and go, as the pending remote description has them.
    fn follow_remote_directions(&mut self, changes: &mut Changes) {
        let Some(remote) = self.pending_remote.clone() else {
            return;
        };
        for (index, media) in remote.sdp.media.iter().enumerate() {
            let Some(id) = self.section_owner(index) else {
                continue;
            };
            let Some(transceiver) = self.transceiver_mut(id) else {
                continue;
            };
            if transceiver.stopped {
                continue;
            }
            let direction = direction_here(media);
            let receives = direction.receives();
            let fired = transceiver
                .fired_direction
                .is_some_and(visavis_sdp::Direction::receives);
            let streams = if receives {
                streams_of(media)
            } else {
                Vec::new()
            };
            changes.set_streams(transceiver, streams);
            transceiver.receiver.receptive = receives;
            if receives && !fired {
                changes
                    .tracks
                    .push((id, transceiver.receiver.streams.clone()));
            } else if !receives && fired {
                changes.muted.push(id);
            }
            transceiver.fired_direction = Some(direction);
        }
    }

    /// Remembers what a rollback goes back to.
    pub(super) fn begin_round(&mut self) {
        if self.state != SignalingState::Stable {
            return;
        }
        self.stable_sections.clone_from(&self.sections);
        self.data.stable_section = self.data.section;
        for transceiver in &mut self.transceivers {
            transceiver
                .receiver
                .stable_streams
                .clone_from(&transceiver.receiver.streams);
        }
    }
}

/// The streams that a section names: by `msid`, or in the old form by its first source.
fn streams_of(media: &Media) -> Vec<String> {
    let attributes = &media.attributes;
    let mut streams: Vec<String> = attributes
        .msids()
        .filter_map(|msid| msid.stream_id().map(Into::into))
        .collect();
    if attributes.msids().next().is_none() {
        let old = attributes
            .ssrcs()
            .filter(|ssrc| ssrc.attribute == "msid")
            .find_map(|ssrc| ssrc.value.as_deref()?.split_whitespace().next());
        streams.extend(old.filter(|&stream| stream != "-").map(Into::into));
    }
    crate::transceiver::unique(streams)
}

impl Jsep {
    /// Whether a transceiver's direction, as the application set it, was ever told to the peer.
    pub(crate) fn stop(&mut self, id: TransceiverId) -> Result<bool, Error> {
        let transceiver = self
            .transceiver_mut(id)
            .ok_or_else(|| Error::state("the transceiver is gone"))?;
        if transceiver.is_stopped() {
            return Ok(false);
        }
        transceiver.stopping = true;
        transceiver.direction = TransceiverDirection::Stopped;
        transceiver.receiver.receptive = false;
        Ok(true)
    }
}
