//! Making answers (RFC 9429 section 5.3).

use std::sync::Arc;

use visavis_sdp::{Attribute, Direction, Media, RidDirection, SessionDescription, Setup};

use super::section::{RtpSection, data_section, rejected_section};
use super::{Description, Jsep, LocalParameters, Owner, SdpType, SignalingState};
use crate::codecs::{codecs_of, common_codecs};
use crate::config::DtlsRolePreference;
use crate::error::Error;
use crate::extensions::answer_extensions;
use crate::transceiver::Transceiver;

impl Jsep {
    /// W3C `createAnswer`.
    pub(crate) fn create_answer(&mut self, local: &LocalParameters) -> Result<Description, Error> {
        match self.state {
            SignalingState::HaveRemoteOffer | SignalingState::HaveLocalPrAnswer => {}
            SignalingState::Closed => return Err(Error::closed()),
            _ => return Err(Error::state("there is no remote offer to answer")),
        }
        let offer = self
            .pending_remote
            .clone()
            .ok_or_else(|| Error::state("there is no remote offer to answer"))?;
        let groups = self.accepted_groups(SdpType::Offer, &offer.sdp);
        let media: Vec<Media> = offer
            .sdp
            .media
            .iter()
            .enumerate()
            .map(|(index, offered)| {
                let mid = self.sections[index].mid.clone();
                let accepted = groups
                    .iter()
                    .any(|group| group.sections.contains(&index))
                    .then(|| self.answer_section(index, &offer.sdp, offered, local))
                    .flatten();
                accepted.unwrap_or_else(|| {
                    rejected_section(
                        offered.kind.clone(),
                        &offered.protocol,
                        &offered.formats,
                        &mid,
                    )
                })
            })
            .collect();
        // RFC 9143 section 7.3: no group that was not offered.
        let offered_groups = offer.sdp.bundle_groups().map(<[String]>::to_vec).collect();
        let mut sdp = self.session(local, offered_groups, media);
        if !allows_mixed_extensions(&offer.sdp) {
            sdp.attributes
                .retain(|attribute| !matches!(attribute, Attribute::ExtmapAllowMixed));
        }
        let sections = self.sections.clone();
        Ok(self.propose(SdpType::Answer, sdp, sections))
    }

    /// The answer to one section; `None` to reject it.
    fn answer_section(
        &mut self,
        index: usize,
        offer: &SessionDescription,
        offered: &Media,
        local: &LocalParameters,
    ) -> Option<Media> {
        let section = self.sections[index].clone();
        let names_association = super::TransportDescription::of(offer)
            .is_ok_and(|transport| transport.is_some_and(|it| it.tls_id.is_some()));
        let offered_setup = offered.attributes.setup().or(offer.attributes.setup());
        let setup = self.answer_setup(offered_setup, local.of(&section.mid).setup);
        let mut media = match section.owner {
            Owner::Nobody => return None,
            Owner::Data => {
                let mut media = data_section(&section.mid, setup, local);
                if offered.attributes.sctp_init().is_none() {
                    media
                        .attributes
                        .retain(|attribute| !matches!(attribute, Attribute::SctpInit(_)));
                }
                if offered.protocol == "DTLS/SCTP" {
                    // The form of drafts before RFC 8841 is answered in the same form.
                    media.protocol.clone_from(&offered.protocol);
                    media.formats.clone_from(&offered.formats);
                }
                media
            }
            Owner::Transceiver(id) => {
                let transceiver = self.transceiver(id)?.clone();
                self.answer_rtp(&transceiver, &section.mid, offered, setup, local)?
            }
        };
        if !names_association {
            // RFC 8842 section 5.3.
            let attributes = &mut media.attributes;
            attributes.retain(|attribute| !matches!(attribute, Attribute::TlsId(_)));
        }
        // RFC 9429 section 5.3.1: the protocol of the offer.
        media.protocol.clone_from(&offered.protocol);
        Some(media)
    }

    fn answer_rtp(
        &mut self,
        transceiver: &Transceiver,
        mid: &str,
        offered: &Media,
        setup: Setup,
        local: &LocalParameters,
    ) -> Option<Media> {
        if transceiver.is_stopped() {
            return None;
        }
        let settings = Arc::clone(&self.settings);
        let ours = transceiver.preferred_codecs(settings.codecs.of(transceiver.kind));
        let mut codecs = common_codecs(&ours, &codecs_of(transceiver.kind, offered));
        if codecs.is_empty() {
            return None;
        }
        if !transceiver.preferences.is_empty() {
            // RFC 9429 section 5.3.1: the application's order, where it gave one.
            codecs.sort_by_key(|codec| ours.iter().position(|ours| ours.matches(codec)));
        }
        let direction = transceiver
            .sdp_direction()
            .intersection(offered.direction().reversed());
        let receive_rids = match settings.receive_simulcast {
            true => offered_rids(offered, RidDirection::Send),
            false => Vec::new(),
        };
        let mut media = RtpSection {
            transceiver,
            mid,
            direction,
            codecs: &codecs,
            extensions: answer_extensions(&transceiver.extensions, offered),
            receive_rids: &receive_rids,
            send_simulcast: !offered_rids(offered, RidDirection::Recv).is_empty(),
            setup,
            cname: &self.cname,
        }
        .write(local);
        let reduced_size = offered.attributes.has_rtcp_rsize() || offered.port == 0;
        media.attributes.retain(|attribute| match attribute {
            // Only what was offered may be answered.
            Attribute::RtcpRsize => reduced_size,
            Attribute::RtcpMuxOnly => false,
            _ => true,
        });
        Some(media)
    }

    /// RFC 8842 section 5.3: the role that is there, else the client unless the offer takes it.
    fn answer_setup(&self, offered: Option<Setup>, role: Option<Setup>) -> Setup {
        match (offered, role, self.settings.dtls_role) {
            (Some(Setup::Active), ..) => Setup::Passive,
            (Some(Setup::Passive), ..) => Setup::Active,
            (_, Some(role), _) => role,
            (_, None, DtlsRolePreference::Client) => Setup::Active,
            (_, None, DtlsRolePreference::Server) => Setup::Passive,
        }
    }
}

fn allows_mixed_extensions(offer: &SessionDescription) -> bool {
    offer.attributes.has_extmap_allow_mixed()
        || offer
            .media
            .iter()
            .any(|media| media.attributes.has_extmap_allow_mixed())
}

/// The rids of an offered simulcast, of each stream the first alternative that is explained.
pub(super) fn offered_rids(offered: &Media, direction: RidDirection) -> Vec<String> {
    let Some(simulcast) = offered.attributes.simulcast() else {
        return Vec::new();
    };
    simulcast
        .streams(direction)
        .iter()
        .filter_map(|alternatives| {
            alternatives
                .iter()
                .find(|rid| {
                    offered
                        .attributes
                        .rids()
                        .any(|found| found.id == rid.id && found.direction == direction)
                })
                .map(|rid| rid.id.clone())
        })
        .collect()
}

/// The direction of a section as this end sees it, which is the other way round in what the peer
/// wrote.
pub(super) fn direction_here(remote: &Media) -> Direction {
    if remote.is_rejected() {
        Direction::Inactive
    } else {
        remote.direction().reversed()
    }
}
