//! Which sections share a transport (RFC 9143), and which of them this end takes part in (RFC 9429 section 4.1.1,
//! "bundle policy").

use visavis_sdp::{Media, SessionDescription, Setup};

use super::{Jsep, SdpType, TransportDescription, transport_section};
use crate::config::BundlePolicy;

/// Sections that share a transport.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SectionGroup {
    /// The section whose attributes describe the transport.
    pub(crate) carrier: usize,
    /// All of them by index, the carrier among them.
    pub(crate) sections: Vec<usize>,
}

/// How a description shares transports: its BUNDLE groups, and each section outside them by itself. The group of
/// [`transport_section`] comes first. Rejected sections are in none.
pub(crate) fn section_groups(sdp: &SessionDescription) -> Vec<SectionGroup> {
    let live = |index: &usize| !sdp.media[*index].is_rejected();
    let mut groups: Vec<SectionGroup> = Vec::new();
    for mids in sdp.bundle_groups() {
        let index_of = |mid: &String| {
            let with_mid = |media: &Media| media.attributes.mid() == Some(mid.as_str());
            sdp.media.iter().position(with_mid)
        };
        let taken = |index: &usize| groups.iter().any(|group| group.sections.contains(index));
        let sections: Vec<usize> = mids
            .iter()
            .filter_map(index_of)
            .filter(|index| live(index) && !taken(index))
            .collect();
        if let Some(&carrier) = sections.first() {
            groups.push(SectionGroup { carrier, sections });
        }
    }
    for index in (0..sdp.media.len()).filter(live) {
        if !groups.iter().any(|group| group.sections.contains(&index)) {
            groups.push(SectionGroup {
                carrier: index,
                sections: vec![index],
            });
        }
    }
    let first = transport_section(sdp);
    groups.sort_by_key(|group| Some(group.carrier) != first);
    groups
}

impl Jsep {
    /// Those groups of the peer's description whose transports this end takes part in: the first, and others as far as the
    /// bundle policy lets them (RFC 9429 section 5.3.1), they describe a transport, and there is room.
    pub(crate) fn accepted_groups(
        &self,
        kind: SdpType,
        sdp: &SessionDescription,
    ) -> Vec<SectionGroup> {
        let mut accepted: Vec<SectionGroup> = Vec::new();
        for (place, mut group) in section_groups(sdp).into_iter().enumerate() {
            if !multiplexes_rtcp(sdp, &group) {
                continue;
            }
            if place > 0 {
                group
                    .sections
                    .retain(|&section| self.may_stand_apart(sdp, section));
                let is_usable = accepted.len() < self.settings.max_transports
                    && group.sections.contains(&group.carrier)
                    && describes_transport(kind, sdp, group.carrier);
                if !is_usable {
                    continue;
                }
            }
            accepted.push(group);
        }
        accepted
    }

    /// Whether the bundle policy lets a section have another transport than the first.
    fn may_stand_apart(&self, sdp: &SessionDescription, section: usize) -> bool {
        match self.settings.bundle_policy {
            BundlePolicy::MaxBundle => false,
            BundlePolicy::Balanced => {
                let kind = &sdp.media[section].kind;
                let of_kind = |media: &Media| media.kind == *kind && !media.is_rejected();
                sdp.media.iter().position(of_kind) == Some(section)
            }
            BundlePolicy::MaxCompat => true,
        }
    }
}

/// Whether RTCP shares the transport's port, which is the only way here. Sections that are bundled follow the one that
/// carries the transport (RFC 9143 section 9.3).
fn multiplexes_rtcp(sdp: &SessionDescription, group: &SectionGroup) -> bool {
    let media = &sdp.media[group.carrier];
    !media.is_rtp() || media.attributes.has_rtcp_mux()
}

/// Whether a section says all that a transport of its own needs.
fn describes_transport(kind: SdpType, sdp: &SessionDescription, section: usize) -> bool {
    let Ok(transport) = TransportDescription::at(sdp, section) else {
        return false;
    };
    let has_role = kind == SdpType::Offer
        || matches!(transport.setup, None | Some(Setup::Active | Setup::Passive));
    has_role
        && !sdp.media[section].attributes.has_bundle_only()
        && !transport.known_fingerprints().is_empty()
}

/// Takes sections of an answer as rejected whose transports this end takes no part in.
pub(super) fn keep(groups: &[SectionGroup], sdp: &mut SessionDescription) {
    for (index, media) in sdp.media.iter_mut().enumerate() {
        if !groups.iter().any(|group| group.sections.contains(&index)) {
            media.port = 0;
        }
    }
}
