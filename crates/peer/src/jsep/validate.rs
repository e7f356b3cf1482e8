//! Judging descriptions of the peer before they change anything (RFC 9429 sections 5.8 and 5.9).

use visavis_sdp::{Media, MediaKind, SessionDescription, Setup};

use super::{Jsep, TransportDescription, transport_section};
use crate::error::Error;

impl Jsep {
    /// What must hold of every description of the peer.
    fn check_remote(sdp: &SessionDescription) -> Result<(), Error> {
        if sdp.is_plan_b() {
            return Err(Error::access(
                "the description is Plan B: several tracks stand in one media section; \
                 only Unified Plan is supported",
            ));
        }
        let mids: Vec<&str> = sdp
            .media
            .iter()
            .filter_map(|media| media.attributes.mid())
            .collect();
        for (i, mid) in mids.iter().enumerate() {
            if mid.len() > 255 {
                return Err(Error::access("a mid is longer than 255 bytes"));
            }
            if mids[..i].contains(mid) {
                return Err(Error::access(format!(
                    "two media sections have the mid {mid}"
                )));
            }
        }
        for group in sdp.bundle_groups() {
            for mid in group {
                if !mids.contains(&mid.as_str()) {
                    return Err(Error::access(format!(
                        "the BUNDLE group names the mid {mid}, which no section has"
                    )));
                }
            }
        }
        for media in sdp.media.iter().filter(|media| !media.is_rejected()) {
            if media.is_rtp() && !media.protocol.contains("SAVP") {
                return Err(Error::access(format!(
                    "a media section has the protocol {}, which does not encrypt",
                    media.protocol
                )));
            }
        }
        TransportDescription::of(sdp)?;
        Ok(())
    }

    /// An offer that follows what is there.
    pub(super) fn check_offer(&self, sdp: &SessionDescription) -> Result<(), Error> {
        Self::check_remote(sdp)?;
        if sdp.media.len() < self.sections.len() {
            return Err(Error::access(
                "the offer has fewer media sections than were there",
            ));
        }
        for (index, (section, offered)) in self.sections.iter().zip(&sdp.media).enumerate() {
            let same = offered
                .attributes
                .mid()
                .is_none_or(|mid| mid == section.mid);
            if !same && !self.is_rejected_now(index) {
                return Err(Error::access(format!(
                    "the media section {index} has the mid {}, and was {}",
                    offered.attributes.mid().unwrap_or_default(),
                    section.mid
                )));
            }
            let old = self
                .remote()
                .or(self.local())
                .and_then(|applied| applied.sdp.media.get(index));
            if same && old.is_some_and(|old| old.kind != offered.kind) {
                return Err(Error::access(format!(
                    "the media section {index} changed its kind"
                )));
            }
        }
        Ok(())
    }

    /// An answer to the pending local offer.
    pub(super) fn check_answer(&self, sdp: &SessionDescription) -> Result<(), Error> {
        Self::check_remote(sdp)?;
        let offer = self
            .pending_local
            .as_ref()
            .ok_or_else(|| Error::state("there is no local offer to answer"))?;
        if sdp.media.len() != offer.sdp.media.len() {
            return Err(Error::access(format!(
                "the answer has {} media sections, and the offer {}",
                sdp.media.len(),
                offer.sdp.media.len()
            )));
        }
        for (index, (offered, answered)) in offer.sdp.media.iter().zip(&sdp.media).enumerate() {
            check_answered_section(index, offered, answered)?;
        }
        let Some(transport) = transport_section(sdp) else {
            return Ok(());
        };
        let carrier = &sdp.media[transport];
        // The sections that share its transport share this too (RFC 9143 section 9.3).
        if carrier.is_rtp() && !carrier.attributes.has_rtcp_mux() {
            return Err(Error::access("the answer does not multiplex RTCP"));
        }
        let setup = carrier.attributes.setup().or(sdp.attributes.setup());
        if !matches!(setup, None | Some(Setup::Active | Setup::Passive)) {
            return Err(Error::access("an answer must be active or passive"));
        }
        Ok(())
    }
}

fn check_answered_section(index: usize, offered: &Media, answered: &Media) -> Result<(), Error> {
    if offered.kind != answered.kind {
        return Err(Error::access(format!(
            "the media section {index} has another kind than in the offer"
        )));
    }
    let mid = answered.attributes.mid();
    if mid.is_some() && mid != offered.attributes.mid() {
        return Err(Error::access(format!(
            "the media section {index} has another mid than in the offer"
        )));
    }
    if answered.is_rejected() {
        return Ok(());
    }
    if offered.is_rejected() {
        return Err(Error::access(format!(
            "the media section {index} was rejected in the offer and is accepted in the answer"
        )));
    }
    if answered.kind == MediaKind::Application && !answered.is_data_channel() {
        return Err(Error::access(format!(
            "the media section {index} carries no data channels"
        )));
    }
    Ok(())
}
