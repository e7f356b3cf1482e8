//! Candidates: ours on their way into descriptions and events, the peer's on their way into ICE.

use std::time::Instant;

use visavis_ice as ice;
use visavis_sdp::Attribute;

use super::PeerConnection;
use super::bundle::{Bundles, TransportId};
use crate::error::Error;
use crate::events::IceCandidate;
use crate::jsep::{Applied, Description, TransportDescription, transport_section};

/// A candidate with its ICE session.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known<P> {
    ufrag: String,
    /// The transport or the section that it is of.
    place: P,
    text: String,
}

/// A candidate of the peer that ICE cannot take before the answer: `None` for the end.
#[derive(Debug)]
struct Waiting {
    section: usize,
    ufrag: String,
    candidate: Option<ice::Candidate>,
}

/// What is known of candidates beside what ICE holds.
#[derive(Debug)]
pub(super) struct Candidates {
    local: Vec<Known<TransportId>>,
    remote: Vec<Known<usize>>,
    waiting: Vec<Waiting>,
    max_waiting: usize,
}

impl Candidates {
    /// Gives back the room that is not used.
    pub(super) fn trim(&mut self) {
        self.local.shrink_to_fit();
        self.remote.shrink_to_fit();
        self.waiting.shrink_to_fit();
    }

    pub(super) fn new(max_waiting: usize) -> Self {
        Self {
            local: Vec::new(),
            remote: Vec::new(),
            waiting: Vec::new(),
            max_waiting,
        }
    }

    pub(super) fn add_local(&mut self, place: TransportId, ufrag: &str, text: String) {
        self.local.push(Known {
            ufrag: ufrag.into(),
            place,
            text,
        });
    }

    /// A transport is gone.
    pub(super) fn forget_local(&mut self, id: TransportId) {
        self.local.retain(|known| known.place != id);
    }

    /// A local description with the candidates of its session.
    pub(super) fn with_local(&self, applied: &Applied, bundles: &Bundles) -> Description {
        let mut sdp = applied.sdp.clone();
        for bundle in bundles.iter() {
            let Some(index) = bundles.carrier_of(bundle, &sdp) else {
                continue;
            };
            let media = &mut sdp.media[index];
            let ufrag = media.attributes.ice_ufrag().unwrap_or_default().to_owned();
            let ours = self
                .local
                .iter()
                .filter(|known| known.ufrag == ufrag && known.place == bundle.id);
            let lines: Vec<_> = ours
                .map(|known| Attribute::Candidate(known.text.clone()))
                .collect();
            media.attributes.extend(lines);
            if bundle.gathering_state == ice::GatheringState::Complete {
                media.attributes.push(Attribute::EndOfCandidates);
            }
        }
        Description {
            kind: applied.kind,
            sdp: sdp.to_string(),
        }
    }

    /// A remote description with the candidates that came later.
    pub(super) fn with_remote(&self, applied: &Applied) -> Description {
        let mut sdp = applied.sdp.clone();
        let session = sdp.attributes.ice_ufrag().map(str::to_owned);
        for (index, media) in sdp.media.iter_mut().enumerate() {
            let ufrag = media.attributes.ice_ufrag().map(str::to_owned);
            let ufrag = ufrag.or_else(|| session.clone()).unwrap_or_default();
            let theirs = self
                .remote
                .iter()
                .filter(|known| known.place == index && known.ufrag == ufrag);
            let lines: Vec<_> = theirs
                .map(|known| Attribute::Candidate(known.text.clone()))
                .collect();
            media.attributes.extend(lines);
        }
        Description {
            kind: applied.kind,
            sdp: sdp.to_string(),
        }
    }
}

impl PeerConnection {
    /// W3C `addIceCandidate`. An empty text is the end of candidates.
    ///
    /// # Errors
    /// `TypeError` without mid and index, `InvalidStateError` before there is a remote description,
    /// `OperationError` for a section or session that is unknown and for a text that is no candidate.
    pub fn add_ice_candidate(
        &mut self,
        now: Instant,
        candidate: &IceCandidate,
    ) -> Result<(), Error> {
        self.check_open()?;
        self.now = now;
        let is_end = candidate.candidate.is_empty();
        if !is_end && candidate.sdp_mid.is_none() && candidate.sdp_mline_index.is_none() {
            return Err(Error::Type(
                "a candidate needs the mid or the index of its section".into(),
            ));
        }
        let remote = self
            .jsep
            .remote()
            .cloned()
            .ok_or_else(|| Error::state("there is no remote description"))?;
        let section = match (&candidate.sdp_mid, candidate.sdp_mline_index) {
            (Some(mid), _) => self
                .jsep
                .section_of_mid(mid)
                .filter(|&index| index < remote.sdp.media.len()),
            (None, Some(index)) => Some(usize::from(index)),
            (None, None) => transport_section(&remote.sdp).or(Some(0)),
        };
        let media = section
            .and_then(|section| remote.sdp.media.get(section))
            .ok_or_else(|| Error::Operation("no media section is the candidate's".into()))?;
        let section = section.unwrap_or_default();
        let in_section = media
            .attributes
            .ice_ufrag()
            .or(remote.sdp.attributes.ice_ufrag());
        let shared = TransportDescription::of(&remote.sdp).ok().flatten();
        let shared = shared.as_ref().map(|transport| transport.ufrag.as_str());
        let described = in_section.or(shared).unwrap_or_default().to_owned();
        let text = candidate.candidate.trim();
        let parsed = match is_end {
            true => None,
            false => Some(
                text.strip_prefix("a=")
                    .unwrap_or(text)
                    .parse::<ice::Candidate>()
                    .map_err(|error| Error::Operation(error.to_string().into()))?,
            ),
        };
        let named = candidate.username_fragment.clone().or_else(|| {
            let parsed = parsed.as_ref()?;
            parsed.ufrag.as_ref().map(ToString::to_string)
        });
        let current = self
            .jsep
            .current_remote
            .as_ref()
            .and_then(|applied| TransportDescription::of(&applied.sdp).ok().flatten());
        if let Some(named) = &named
            && *named != described
            && current.is_none_or(|current| current.ufrag != *named)
        {
            return Err(Error::Operation(
                "the candidate belongs to an ICE session that is not described".into(),
            ));
        }
        let ufrag = named.unwrap_or(described);
        if let Some(parsed) = &parsed {
            let text = parsed.to_string();
            let text = text.strip_prefix("candidate:").unwrap_or(&text).to_owned();
            if self.candidates.remote.len() < self.candidates.max_waiting {
                self.candidates.remote.push(Known {
                    ufrag: ufrag.clone(),
                    place: section,
                    text,
                });
            }
        }
        let mid = self.jsep.sections.get(section);
        let id = mid.map_or(TransportId::MAIN, |section| {
            self.bundles.of_mid(&section.mid).id
        });
        let waiting = Waiting {
            section,
            ufrag,
            candidate: parsed,
        };
        self.give_candidate(now, id, waiting);
        Ok(())
    }

    /// Hands a candidate to ICE, or keeps it until ICE knows the session.
    fn give_candidate(&mut self, now: Instant, id: TransportId, given: Waiting) {
        let Some(bundle) = self.bundles.get_mut(id) else {
            return;
        };
        let known = bundle
            .remote_credentials
            .as_ref()
            .is_some_and(|(ufrag, _)| *ufrag == given.ufrag);
        if !known {
            if self.candidates.waiting.len() < self.candidates.max_waiting {
                self.candidates.waiting.push(given);
            }
            return;
        }
        let ice = &mut bundle.transport.ice;
        match given.candidate {
            // RTCP is always multiplexed: what is of the second component leads nowhere.
            Some(candidate) if candidate.component != 1 => {}
            Some(candidate) => ice.add_remote_candidate(now, candidate),
            None => ice.end_of_remote_candidates(now),
        }
        self.drain(now);
    }

    /// Gives ICE the session of the peer, the candidates of its description, and those that waited.
    pub(super) fn apply_remote_ice(
        &mut self,
        now: Instant,
        id: TransportId,
        remote: &Applied,
        transport: &TransportDescription,
    ) {
        let Some(bundle) = self.bundles.get_mut(id) else {
            return;
        };
        let credentials = (transport.ufrag.clone(), transport.pwd.clone());
        if bundle.remote_credentials.as_ref() != Some(&credentials) {
            let parameters = ice::RemoteParameters {
                lite: transport.lite,
                renomination: transport.ice_options.iter().any(|o| o == "renomination"),
                ..ice::RemoteParameters::new(ice::Credentials::new(
                    transport.ufrag.as_str(),
                    transport.pwd.as_str(),
                ))
            };
            let ice = &mut bundle.transport.ice;
            let set = ice.set_remote(now, parameters.clone());
            if set == Err(ice::Error::RestartFirst) {
                // Other credentials in an answer to an offer that had the same, which RFC 8839 section 4.4.2.1 keeps for restarts:
                // Pion does so where a second offer comes before its transport has begun. It knows ours, which stay.
                ice.follow_restart(now);
                let _ = ice.set_remote(now, parameters);
            }
            bundle.remote_credentials = Some(credentials);
        }
        let section = transport.section;
        let attributes = &remote.sdp.media[section].attributes;
        let given = |candidate| Waiting {
            section,
            ufrag: transport.ufrag.clone(),
            candidate,
        };
        for candidate in attributes.parse_candidates::<ice::Candidate>().flatten() {
            self.give_candidate(now, id, given(Some(candidate)));
        }
        if attributes.has_end_of_candidates() {
            self.give_candidate(now, id, given(None));
        }
    }

    /// Hands out the candidates that waited for the sessions that are known now. What is of a session that is not in force is not
    /// needed any more.
    pub(super) fn give_waiting(&mut self, now: Instant) {
        for waiting in std::mem::take(&mut self.candidates.waiting) {
            let of = self.jsep.sections.get(waiting.section);
            let bundle = of.map(|section| self.bundles.of_mid(&section.mid));
            let ufrag = bundle.and_then(|bundle| bundle.remote_credentials.as_ref());
            if let Some(bundle) = bundle
                && ufrag.is_some_and(|(ufrag, _)| *ufrag == waiting.ufrag)
            {
                let id = bundle.id;
                self.give_candidate(now, id, waiting);
            }
        }
    }

    /// The mid and the index of the section whose transport this is; `None` for one that is of no use yet.
    pub(super) fn candidate_section(
        &self,
        id: TransportId,
    ) -> Option<(Option<String>, Option<u16>)> {
        let Some(local) = self.jsep.local() else {
            return Some((None, None));
        };
        let bundle = self.bundles.iter().find(|bundle| bundle.id == id)?;
        match self.bundles.carrier_of(bundle, &local.sdp) {
            Some(index) => {
                let mid = local.sdp.media[index].attributes.mid().map(str::to_owned);
                Some((mid, u16::try_from(index).ok()))
            }
            None if self.bundles.apart.is_empty() => Some((None, None)),
            None => None,
        }
    }
}
