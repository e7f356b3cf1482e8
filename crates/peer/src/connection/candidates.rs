//! Candidates: ours on their way into descriptions and events, the peer's on their way into ICE.

use std::time::Instant;

use visavis_ice as ice;
use visavis_sdp::Attribute;

use super::PeerConnection;
use crate::error::Error;
use crate::events::IceCandidate;
use crate::jsep::{Applied, Description, TransportDescription, transport_section};

/// A candidate's place: its ICE session and its section.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known {
    ufrag: String,
    section: usize,
    text: String,
}

/// What is known of candidates beside what ICE holds.
#[derive(Debug)]
pub(super) struct Candidates {
    local: Vec<Known>,
    remote: Vec<Known>,
    /// Candidates of the peer that ICE cannot take before the answer: `None` for the end.
    waiting: Vec<(String, Option<ice::Candidate>)>,
    max_waiting: usize,
    /// The credentials that ICE has been given.
    pub(super) applied: Option<(String, String)>,
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
            applied: None,
        }
    }

    pub(super) fn add_local(&mut self, ufrag: &str, text: String) {
        self.local.push(Known {
            ufrag: ufrag.into(),
            section: 0,
            text,
        });
    }

    /// A local description with the candidates of its session.
    pub(super) fn with_local(
        &self,
        applied: &Applied,
        gathering: ice::GatheringState,
    ) -> Description {
        let mut sdp = applied.sdp.clone();
        if let Some(index) = transport_section(&sdp) {
            let media = &mut sdp.media[index];
            let ufrag = media.attributes.ice_ufrag().unwrap_or_default().to_owned();
            let ours = self.local.iter().filter(|known| known.ufrag == ufrag);
            let lines: Vec<_> = ours
                .map(|known| Attribute::Candidate(known.text.clone()))
                .collect();
            media.attributes.extend(lines);
            if gathering == ice::GatheringState::Complete {
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
                .filter(|known| known.section == index && known.ufrag == ufrag);
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
                    section,
                    text,
                });
            }
        }
        self.give_candidate(now, ufrag, parsed);
        Ok(())
    }

    /// Hands a candidate to ICE, or keeps it until ICE knows the session.
    fn give_candidate(&mut self, now: Instant, ufrag: String, candidate: Option<ice::Candidate>) {
        let known = self
            .candidates
            .applied
            .as_ref()
            .is_some_and(|(applied, _)| *applied == ufrag);
        if !known {
            if self.candidates.waiting.len() < self.candidates.max_waiting {
                self.candidates.waiting.push((ufrag, candidate));
            }
            return;
        }
        match candidate {
            // RTCP is always multiplexed: what is of the second component leads nowhere.
            Some(candidate) if candidate.component != 1 => {}
            Some(candidate) => self.transport.ice.add_remote_candidate(now, candidate),
            None => self.transport.ice.end_of_remote_candidates(now),
        }
        self.drain(now);
    }

    /// Gives ICE the session of the peer, the candidates of its description, and those that waited.
    pub(super) fn apply_remote_ice(
        &mut self,
        now: Instant,
        remote: &Applied,
        transport: &TransportDescription,
    ) {
        let credentials = (transport.ufrag.clone(), transport.pwd.clone());
        if self.candidates.applied.as_ref() != Some(&credentials) {
            let parameters = ice::RemoteParameters {
                lite: transport.lite,
                renomination: transport.ice_options.iter().any(|o| o == "renomination"),
                ..ice::RemoteParameters::new(ice::Credentials::new(
                    transport.ufrag.as_str(),
                    transport.pwd.as_str(),
                ))
            };
            let set = self.transport.ice.set_remote(now, parameters.clone());
            if set == Err(ice::Error::RestartFirst) {
                // Other credentials in an answer to an offer that had the same, which RFC 8839 section 4.4.2.1 keeps for restarts:
                // Pion does so where a second offer comes before its transport has begun. It knows ours, which stay.
                self.transport.ice.follow_restart(now);
                let _ = self.transport.ice.set_remote(now, parameters);
            }
            self.candidates.applied = Some(credentials);
        }
        let attributes = &remote.sdp.media[transport.section].attributes;
        let ufrag = &transport.ufrag;
        for candidate in attributes.parse_candidates::<ice::Candidate>().flatten() {
            self.give_candidate(now, ufrag.clone(), Some(candidate));
        }
        if attributes.has_end_of_candidates() {
            self.give_candidate(now, ufrag.clone(), None);
        }
        let waiting = std::mem::take(&mut self.candidates.waiting);
        for (session, candidate) in waiting {
            if session == *ufrag {
                self.give_candidate(now, session, candidate);
            }
        }
    }

    /// The mid and the index of the section whose transport is used.
    pub(super) fn candidate_section(&self) -> (Option<String>, Option<u16>) {
        let Some(local) = self.jsep.local() else {
            return (None, None);
        };
        let Some(index) = transport_section(&local.sdp) else {
            return (None, None);
        };
        let mid = local.sdp.media[index].attributes.mid().map(str::to_owned);
        (mid, u16::try_from(index).ok())
    }
}
