//! Making offers (RFC 9429 section 5.2).

use std::sync::Arc;

use visavis_sdp::{Attribute, Group, Media, Origin, SessionDescription, Setup};

use super::section::{RtpSection, data_section, stopped_data_section, stopped_section};
use super::{
    Description, Jsep, LocalParameters, Owner, Proposal, SdpType, Section, SignalingState,
};
use crate::config::BundlePolicy;
use crate::error::Error;
use crate::transceiver::{Transceiver, TransceiverId};

impl Jsep {
    /// W3C `createOffer`.
    pub(crate) fn create_offer(&mut self, local: &LocalParameters) -> Result<Description, Error> {
        match self.state {
            SignalingState::Stable | SignalingState::HaveLocalOffer => {}
            SignalingState::Closed => return Err(Error::closed()),
            _ => {
                return Err(Error::state(
                    "an offer cannot be made in this signaling state",
                ));
            }
        }
        let sections = self.offer_sections();
        let mut media: Vec<Media> = sections
            .iter()
            .enumerate()
            .map(|(index, section)| self.offer_section(index, section, local))
            .collect();
        self.mark_bundle_only(&mut media);
        let all = sections.iter().map(|section| section.mid.clone()).collect();
        let sdp = self.session(local, vec![all], media);
        Ok(self.propose(SdpType::Offer, sdp, sections))
    }

    /// The sections of the next offer: those that are there, then new ones, in the places of
    /// rejected ones where there are any (RFC 9429 section 5.2.2).
    fn offer_sections(&mut self) -> Vec<Section> {
        let mut sections = self.sections.clone();
        let mut free: Vec<usize> = (0..sections.len())
            .filter(|&index| self.is_recyclable(index))
            .rev()
            .collect();
        let mut owners: Vec<Owner> = self
            .transceivers
            .iter()
            .filter(|transceiver| transceiver.section.is_none() && !transceiver.is_stopped())
            .map(|transceiver| Owner::Transceiver(transceiver.id))
            .collect();
        if self.data.requested && self.data.section.is_none() {
            owners.push(Owner::Data);
        }
        let first_new_mid = self.next_mid;
        for owner in owners {
            let mid = self.new_mid();
            let section = Section { mid, owner };
            match free.pop() {
                Some(index) => sections[index] = section,
                None => sections.push(section),
            }
        }
        // Mids are spent when the offer is set, not when it is made.
        self.next_mid = first_new_mid;
        sections
    }

    /// Whether a new section may take the place of the section `index`.
    fn is_recyclable(&self, index: usize) -> bool {
        let over = match self.sections[index].owner {
            Owner::Transceiver(id) => self.transceiver(id).is_none_or(|found| found.stopped),
            Owner::Data => self.data.section != Some(index),
            Owner::Nobody => true,
        };
        over && self.state == SignalingState::Stable && self.is_rejected_now(index)
    }

    fn offer_section(&mut self, index: usize, section: &Section, local: &LocalParameters) -> Media {
        // RFC 8842 section 5.2: actpass in every offer, also where the roles are known.
        let setup = Setup::ActPass;
        match section.owner {
            Owner::Data if self.data.section.is_none_or(|found| found == index) => {
                data_section(&section.mid, setup, local)
            }
            Owner::Data | Owner::Nobody => stopped_data_section(&section.mid),
            Owner::Transceiver(id) => match self.transceiver(id).cloned() {
                Some(transceiver) => self.offer_rtp(&transceiver, &section.mid, setup, local),
                // Gone for good; what it was no longer matters.
                None => match self.old_media(index) {
                    Some(old) => super::section::rejected_section(
                        old.kind.clone(),
                        &old.protocol,
                        &old.formats,
                        &section.mid,
                    ),
                    None => stopped_data_section(&section.mid),
                },
            },
        }
    }

    /// Marks the sections of a first offer that are of no use to a peer that does not bundle (RFC 9429 section 5.2.1).
    fn mark_bundle_only(&self, media: &mut [Media]) {
        if self.current_local.is_some() {
            return;
        }
        for index in 1..media.len() {
            let (before, rest) = media.split_at_mut(index);
            let section = &mut rest[0];
            let bundle_only = match self.settings.bundle_policy {
                BundlePolicy::Balanced => before.iter().any(|other| other.kind == section.kind),
                BundlePolicy::MaxCompat => false,
                BundlePolicy::MaxBundle => true,
            };
            if bundle_only && !section.is_rejected() {
                section.port = 0;
                section.attributes.push(Attribute::BundleOnly);
            }
        }
    }

    fn old_media(&self, index: usize) -> Option<&Media> {
        self.current_local.as_ref()?.sdp.media.get(index)
    }

    fn offer_rtp(
        &mut self,
        transceiver: &Transceiver,
        mid: &str,
        setup: Setup,
        local: &LocalParameters,
    ) -> Media {
        let settings = Arc::clone(&self.settings);
        let mut codecs = transceiver.preferred_codecs(settings.codecs.of(transceiver.kind));
        self.payload_types.assign(&mut codecs);
        if transceiver.is_stopped() {
            return stopped_section(transceiver.kind, mid, &codecs);
        }
        // A second section of this offer must not give these numbers to other codecs.
        self.payload_types.learn(&codecs);
        RtpSection {
            transceiver,
            mid,
            direction: transceiver.sdp_direction(),
            codecs: &codecs,
            extensions: self.extension_ids.offer(&transceiver.extensions),
            receive_rids: &[],
            send_simulcast: true,
            setup,
            cname: &self.cname,
        }
        .write(local)
    }

    /// The session part around `media` (RFC 9429 section 5.2.1). Of `groups`, by mid, those sections are left that are not
    /// rejected.
    pub(super) fn session(
        &mut self,
        local: &LocalParameters,
        groups: Vec<Vec<String>>,
        media: Vec<Media>,
    ) -> SessionDescription {
        self.version += 1;
        let mut sdp = SessionDescription::new(Origin::new(self.session_id, self.version));
        for mut mids in groups {
            mids.retain(|mid| {
                media.iter().any(|media| {
                    media.attributes.mid() == Some(mid.as_str()) && !media.is_rejected()
                })
            });
            if !mids.is_empty() {
                sdp.attributes.push(Attribute::Group(Group {
                    semantics: "BUNDLE".into(),
                    mids,
                }));
            }
        }
        sdp.attributes.push(Attribute::ExtmapAllowMixed);
        if local.lite {
            sdp.attributes.push(Attribute::IceLite);
        }
        sdp.media = media;
        sdp
    }

    /// Keeps a description that may be set later.
    pub(super) fn propose(
        &mut self,
        kind: SdpType,
        sdp: SessionDescription,
        sections: Vec<Section>,
    ) -> Description {
        let text = sdp.to_string();
        let proposal = Arc::new(Proposal {
            text: text.clone(),
            sdp,
            sections,
        });
        match kind {
            SdpType::Offer => self.last_offer = Some(proposal),
            _ => self.last_answer = Some(proposal),
        }
        Description { kind, sdp: text }
    }

    /// The transceiver of a section.
    pub(super) fn section_owner(&self, index: usize) -> Option<TransceiverId> {
        match self.sections.get(index)?.owner {
            Owner::Transceiver(id) => Some(id),
            _ => None,
        }
    }
}
