//! Setting local descriptions (RFC 9429 section 5.9).

use std::sync::Arc;

use super::apply::Changes;
use super::{Applied, Jsep, Outcome, Owner, Proposal, SdpType, SignalingState};
use crate::error::Error;

impl Jsep {
    /// Sets a description that this end made. An empty `text` stands for the latest one made.
    pub(crate) fn set_local(&mut self, kind: SdpType, text: &str) -> Result<Outcome, Error> {
        use SignalingState::{HaveLocalOffer, HaveLocalPrAnswer, HaveRemoteOffer, Stable};
        let mut outcome = Outcome::default();
        match (kind, self.state) {
            (_, SignalingState::Closed) => return Err(Error::closed()),
            (SdpType::Rollback, _) => self.rollback(&mut outcome)?,
            (SdpType::Offer, Stable | HaveLocalOffer) => {
                let proposal = made(&self.last_offer, text)?;
                self.begin_round();
                self.set_local_offer(&proposal);
                self.enter(HaveLocalOffer, &mut outcome);
                outcome.local_set = true;
            }
            (SdpType::Answer | SdpType::PrAnswer, HaveRemoteOffer | HaveLocalPrAnswer) => {
                let proposal = made(&self.last_answer, text)?;
                let mut changes = Changes::default();
                self.pending_local = Some(Arc::new(Applied {
                    kind,
                    sdp: proposal.sdp.clone(),
                }));
                let state = match kind {
                    SdpType::PrAnswer => HaveLocalPrAnswer,
                    _ => Stable,
                };
                self.apply_answer(true, kind, &mut changes);
                self.enter(state, &mut outcome);
                changes.tell(&mut outcome);
                outcome.local_set = true;
                outcome.answered = Some(true);
            }
            _ => {
                return Err(Error::InvalidState(
                    format!("a local {} does not fit the signaling state", kind.name()).into(),
                ));
            }
        }
        Ok(outcome)
    }

    fn set_local_offer(&mut self, proposal: &Proposal) {
        self.sections.clone_from(&proposal.sections);
        for (index, section) in proposal.sections.iter().enumerate() {
            if let Ok(number) = section.mid.parse::<u32>() {
                self.next_mid = self.next_mid.max(number.saturating_add(1));
            }
            match section.owner {
                Owner::Nobody => {}
                Owner::Data => {
                    if !proposal.sdp.media[index].is_rejected() {
                        self.data.section = Some(index);
                    }
                }
                Owner::Transceiver(id) => {
                    let Some(transceiver) = self.transceiver_mut(id) else {
                        continue;
                    };
                    if transceiver.section.is_none() {
                        transceiver.section = Some(index);
                        transceiver.mid = Some(section.mid.clone());
                        transceiver.associated_by_pending_offer = true;
                    }
                    transceiver.receiver.receptive = transceiver.sdp_direction().receives();
                }
            }
        }
        self.pending_local = Some(Arc::new(Applied {
            kind: SdpType::Offer,
            sdp: proposal.sdp.clone(),
        }));
    }
}

/// The description that was made, if `text` is it.
fn made(latest: &Option<Arc<Proposal>>, text: &str) -> Result<Arc<Proposal>, Error> {
    latest
        .as_ref()
        .filter(|proposal| text.is_empty() || proposal.text == text)
        .cloned()
        .ok_or_else(|| {
            Error::modification("a local description must be the latest one that was made here")
        })
}
