//! Taking an offer back (RFC 9429 section 4.1.10.2, webrtc-pc section 4.4.1.5).

use super::apply::Changes;
use super::{Jsep, Outcome, SignalingState};
use crate::error::Error;

impl Jsep {
    /// Back to the stable state.
    pub(super) fn rollback(&mut self, outcome: &mut Outcome) -> Result<(), Error> {
        let remote = match self.state {
            SignalingState::HaveLocalOffer => false,
            SignalingState::HaveRemoteOffer => true,
            _ => return Err(Error::state("there is no offer to roll back")),
        };
        let mut changes = Changes::default();
        self.pending_local = None;
        self.pending_remote = None;
        self.last_offer = None;
        self.last_answer = None;
        self.sections = std::mem::take(&mut self.stable_sections);
        self.data.section = self.data.stable_section;
        // What was offered in vain is needed still, and told again (webrtc-pc section 4.4.1.5).
        self.negotiation_needed = false;
        let mut removed = Vec::new();
        for transceiver in &mut self.transceivers {
            if transceiver.associated_by_pending_offer {
                transceiver.associated_by_pending_offer = false;
                transceiver.section = None;
                transceiver.mid = None;
            }
            if let Some((encodings, sources)) = transceiver.sender.stable_encodings.take() {
                transceiver.sender.encodings = encodings;
                transceiver.sender.sources = sources;
            }
            if !remote {
                continue;
            }
            let before = transceiver
                .current_direction
                .and_then(|direction| direction.to_sdp());
            let fired = transceiver
                .fired_direction
                .is_some_and(visavis_sdp::Direction::receives);
            let received = before.is_some_and(visavis_sdp::Direction::receives);
            let streams = std::mem::take(&mut transceiver.receiver.stable_streams);
            changes.set_streams(transceiver, streams);
            if fired && !received {
                changes.muted.push(transceiver.id);
            } else if received && !fired {
                let streams = transceiver.receiver.streams.clone();
                changes.tracks.push((transceiver.id, streams));
            }
            transceiver.fired_direction = before;
            transceiver.receiver.receptive = received;
            if transceiver.created_by_pending_offer {
                transceiver.created_by_pending_offer = false;
                // One that got a track by addTrack since then stays, without a section.
                if !transceiver.created_by_add_track {
                    transceiver.stop_now();
                    removed.push(transceiver.id);
                }
            }
        }
        changes.ended.extend(&removed);
        self.transceivers
            .retain(|transceiver| !removed.contains(&transceiver.id));
        self.enter(SignalingState::Stable, outcome);
        changes.tell(outcome);
        outcome.rolled_back = true;
        Ok(())
    }
}
