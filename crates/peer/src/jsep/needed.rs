//! Whether negotiation is needed (webrtc-pc section 4.7.3).

use visavis_sdp::{Attribute, Media};

use super::section::msids;
use super::{Jsep, SdpType, SignalingState};
use crate::transceiver::Transceiver;

impl Jsep {
    /// The task that updates the flag: true if the application must be told.
    pub(crate) fn update_negotiation_needed(&mut self) -> bool {
        if self.state != SignalingState::Stable {
            // Checked again when the state is stable.
            return false;
        }
        let needed = self.is_negotiation_needed();
        let newly = needed && !self.negotiation_needed;
        self.negotiation_needed = needed;
        newly
    }

    /// "Check if negotiation is needed".
    pub(crate) fn is_negotiation_needed(&self) -> bool {
        let data_needed = self.data.requested && self.data.section.is_none();
        (self.restart_needed && self.has_sections())
            || data_needed
            || self
                .transceivers
                .iter()
                .any(|transceiver| self.needs_negotiation(transceiver))
    }

    /// Whether an offer would have a section that is not stopped.
    pub(crate) fn has_sections(&self) -> bool {
        let stopped = |transceiver: &Transceiver| transceiver.stopping || transceiver.stopped;
        self.data.requested || !self.transceivers.iter().all(stopped)
    }

    fn needs_negotiation(&self, transceiver: &Transceiver) -> bool {
        if transceiver.stopping && !transceiver.stopped {
            return true;
        }
        let section = |description: &Option<std::sync::Arc<super::Applied>>| -> Option<Media> {
            let index = transceiver.section?;
            description.as_ref()?.sdp.media.get(index).cloned()
        };
        let (local, remote) = (section(&self.current_local), section(&self.current_remote));
        if transceiver.stopped {
            let still_there = |media: &Option<Media>| {
                media.as_ref().is_some_and(|media| {
                    media.attributes.mid() == transceiver.mid.as_deref() && !media.is_rejected()
                })
            };
            return transceiver.section.is_some() && still_there(&local) && still_there(&remote);
        }
        let Some(local) = local else {
            return true;
        };
        let wanted = transceiver.sdp_direction();
        if wanted.sends() {
            let written: Vec<_> = local
                .attributes
                .iter()
                .filter(|attribute| matches!(attribute, Attribute::Msid(_)))
                .cloned()
                .collect();
            if written != msids(transceiver) {
                return true;
            }
        }
        let is_offer = self
            .current_local
            .as_ref()
            .is_some_and(|applied| applied.kind == SdpType::Offer);
        let remote_direction = remote.as_ref().map(|media| media.direction().reversed());
        if is_offer {
            local.direction() != wanted && remote_direction != Some(wanted)
        } else {
            let offered = remote_direction.unwrap_or_default();
            local.direction() != wanted.intersection(offered)
        }
    }
}
