//! What an answer puts in force, whoever gave it.

use std::sync::Arc;

use visavis_sdp::{Direction, RidDirection};

use super::answer::direction_here;
use super::{Jsep, Outcome, Owner, SdpType};
use crate::codecs::{Codec, codecs_of, common_codecs};
use crate::events::Event;
use crate::extensions::negotiated_extensions;
use crate::transceiver::{Transceiver, TransceiverId};

/// Changes of remote tracks, collected as webrtc-pc section 4.4.1.5 collects them.
#[derive(Debug, Default)]
pub(super) struct Changes {
    pub(super) muted: Vec<TransceiverId>,
    removed: Vec<(TransceiverId, String)>,
    added: Vec<(TransceiverId, String)>,
    pub(super) tracks: Vec<(TransceiverId, Vec<String>)>,
    pub(super) ended: Vec<TransceiverId>,
}

impl Changes {
    /// "Set the associated remote streams".
    pub(super) fn set_streams(&mut self, transceiver: &mut Transceiver, streams: Vec<String>) {
        let id = transceiver.id;
        let old = std::mem::replace(&mut transceiver.receiver.streams, streams);
        let new = &transceiver.receiver.streams;
        let gone = old.iter().filter(|stream| !new.contains(stream));
        self.removed.extend(gone.map(|stream| (id, stream.clone())));
        let came = new.iter().filter(|stream| !old.contains(stream));
        self.added.extend(came.map(|stream| (id, stream.clone())));
    }

    /// Tells the application, in the order of the specification's task.
    pub(super) fn tell(self, outcome: &mut Outcome) {
        let events = &mut outcome.events;
        events.extend(self.ended.into_iter().map(Event::TrackEnded));
        events.extend(self.muted.into_iter().map(Event::TrackMuted));
        events.extend(self.removed.into_iter().map(|(transceiver, stream)| {
            Event::StreamRemovedTrack {
                transceiver,
                stream,
            }
        }));
        events.extend(self.added.into_iter().map(|(transceiver, stream)| {
            Event::StreamAddedTrack {
                transceiver,
                stream,
            }
        }));
        events.extend(
            self.tracks
                .into_iter()
                .map(|(transceiver, streams)| Event::Track {
                    transceiver,
                    streams,
                }),
        );
    }
}

impl Jsep {
    /// Puts the pending exchange in force: for the time being, or for good.
    pub(super) fn apply_answer(
        &mut self,
        answer_is_local: bool,
        kind: SdpType,
        changes: &mut Changes,
    ) {
        let (Some(local), Some(remote)) = (self.pending_local.clone(), self.pending_remote.clone())
        else {
            return;
        };
        let is_final = kind == SdpType::Answer;
        for index in 0..self.sections.len() {
            let (Some(local), Some(remote)) =
                (local.sdp.media.get(index), remote.sdp.media.get(index))
            else {
                continue;
            };
            let rejected = local.is_rejected() || remote.is_rejected();
            match self.sections[index].owner {
                Owner::Nobody => {}
                Owner::Data => {
                    if rejected && is_final && self.data.section == Some(index) {
                        self.data.section = None;
                        self.data.requested = false;
                    }
                }
                Owner::Transceiver(id) => {
                    let settings = Arc::clone(&self.settings);
                    let Some(transceiver) = self.transceiver_mut(id) else {
                        continue;
                    };
                    if rejected {
                        if is_final && !transceiver.stopped {
                            transceiver.stop_now();
                            changes.ended.push(id);
                        }
                        continue;
                    }
                    let direction = if answer_is_local {
                        local.direction()
                    } else {
                        direction_here(remote)
                    };
                    let table = settings.codecs.of(transceiver.kind);
                    let exchange = Exchange {
                        local,
                        remote,
                        answer_is_local,
                    };
                    exchange.agree(transceiver, table, direction, changes);
                    let (kinds, numbers) = (
                        transceiver.receiver.codecs.clone(),
                        transceiver.receiver.extensions.clone(),
                    );
                    self.payload_types.learn(&kinds);
                    self.extension_ids.learn(&numbers);
                }
            }
        }
        if is_final {
            self.finish_round();
        }
    }

    /// Pending becomes current; what is over goes away.
    fn finish_round(&mut self) {
        self.current_local = self.pending_local.take();
        self.current_remote = self.pending_remote.take();
        self.last_offer = None;
        self.last_answer = None;
        self.negotiation_needed = false;
        for transceiver in &mut self.transceivers {
            transceiver.created_by_pending_offer = false;
            transceiver.associated_by_pending_offer = false;
            transceiver.sender.stable_encodings = None;
        }
        // webrtc-pc section 4.4.1.5: stopped ones leave the set once their section is rejected.
        self.transceivers.retain(|transceiver| !transceiver.stopped);
    }
}

/// One section in both descriptions.
struct Exchange<'a> {
    local: &'a visavis_sdp::Media,
    remote: &'a visavis_sdp::Media,
    answer_is_local: bool,
}

impl Exchange<'_> {
    fn agree(
        &self,
        transceiver: &mut Transceiver,
        table: &[Codec],
        direction: Direction,
        changes: &mut Changes,
    ) {
        if self.answer_is_local {
            let fired = transceiver.fired_direction.is_some_and(Direction::receives);
            if fired && !direction.receives() {
                changes.set_streams(transceiver, Vec::new());
                changes.muted.push(transceiver.id);
            }
            transceiver.fired_direction = Some(direction);
            transceiver.receiver.receptive = direction.receives();
        }
        transceiver.current_direction = Some(direction.into());
        if direction.sends() {
            transceiver.sender.used = true;
        }
        let kind = transceiver.kind;
        let answer = if self.answer_is_local {
            self.local
        } else {
            self.remote
        };
        let answered = codecs_of(kind, answer);
        let common = |side| {
            let mut codecs = common_codecs(table, &codecs_of(kind, side));
            let place = |codec: &Codec| answered.iter().position(|found| found.matches(codec));
            codecs.sort_by_key(|codec| place(codec).unwrap_or(usize::MAX));
            codecs
        };
        transceiver.sender.codecs = common(self.remote);
        transceiver
            .sender
            .codecs
            .retain(|codec| answered.iter().any(|found| found.matches(codec)));
        // Browsers send what the offer takes, also where their answer does not list it for the
        // other way.
        transceiver.receiver.codecs = common(self.local);
        let extensions = negotiated_extensions(self.local, self.remote, self.answer_is_local);
        transceiver.sender.extensions = extensions
            .iter()
            .filter(|extension| extension.direction.sends())
            .cloned()
            .collect();
        transceiver.receiver.extensions = extensions
            .into_iter()
            .filter(|extension| extension.direction.receives())
            .collect();
        transceiver.receiver.rids = self
            .local
            .attributes
            .rids()
            .filter(|rid| rid.direction == RidDirection::Recv)
            .map(|rid| rid.id.clone())
            .collect();
        self.agree_on_encodings(transceiver);
    }

    /// The encodings that the peer accepts (webrtc-pc section 5.4.1): without simulcast in the
    /// answer, only the first one.
    fn agree_on_encodings(&self, transceiver: &mut Transceiver) {
        let sender = &mut transceiver.sender;
        if self.answer_is_local || sender.encodings.iter().all(|e| e.rid.is_empty()) {
            return;
        }
        let accepted: Vec<&str> = self
            .remote
            .attributes
            .rids()
            .filter(|rid| rid.direction == RidDirection::Recv)
            .map(|rid| rid.id.as_str())
            .collect();
        let old_encodings = std::mem::take(&mut sender.encodings);
        let old_sources = std::mem::take(&mut sender.sources);
        let mut pairs: Vec<_> = old_encodings.into_iter().zip(old_sources).collect();
        if accepted.is_empty() {
            pairs.truncate(1);
            if let Some((encoding, _)) = pairs.first_mut() {
                encoding.rid.clear();
            }
        } else if pairs
            .iter()
            .any(|(encoding, _)| accepted.contains(&encoding.rid.as_str()))
        {
            pairs.retain(|(encoding, _)| accepted.contains(&encoding.rid.as_str()));
        }
        (sender.encodings, sender.sources) = pairs.into_iter().unzip();
    }
}
