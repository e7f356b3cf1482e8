//! The negotiation of JSEP (RFC 9429): which description may be set when, and what it changes.
//!
//! Nothing here knows a transport. [`Jsep`] is cloned before each change and put in place when the
//! change has succeeded, so that a refused description changes nothing.

mod answer;
mod apply;
mod groups;
mod local;
mod needed;
mod offer;
mod remote;
mod rollback;
mod section;
mod validate;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use visavis_crypto::{Fingerprint, HashAlgorithm};
use visavis_datagram::Random;
use visavis_sdp::{Media, SessionDescription, Setup};

use crate::codecs::{CodecTable, Kind, PayloadTypes};
use crate::config::{BundlePolicy, DtlsRolePreference};
use crate::error::Error;
use crate::events::Event;
use crate::extensions::{ExtensionIds, HeaderExtension};
use crate::transceiver::{Transceiver, TransceiverId, TransceiverInit};

pub(crate) use self::groups::{SectionGroup, section_groups};

/// W3C `RTCSdpType`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SdpType {
    /// A proposal.
    Offer,
    /// An answer that may still change.
    PrAnswer,
    /// The answer.
    Answer,
    /// Not a description: back to the stable state.
    Rollback,
}

impl SdpType {
    /// The name in JavaScript and in signalling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Offer => "offer",
            Self::PrAnswer => "pranswer",
            Self::Answer => "answer",
            Self::Rollback => "rollback",
        }
    }
}

/// A description with its type (W3C `RTCSessionDescription`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Description {
    /// What it is.
    pub kind: SdpType,
    /// The text; empty for a rollback.
    pub sdp: String,
}

impl Description {
    /// An offer.
    pub fn offer(sdp: impl Into<String>) -> Self {
        Self {
            kind: SdpType::Offer,
            sdp: sdp.into(),
        }
    }

    /// An answer.
    pub fn answer(sdp: impl Into<String>) -> Self {
        Self {
            kind: SdpType::Answer,
            sdp: sdp.into(),
        }
    }

    /// A provisional answer.
    pub fn pranswer(sdp: impl Into<String>) -> Self {
        Self {
            kind: SdpType::PrAnswer,
            sdp: sdp.into(),
        }
    }

    /// The way back to the stable state.
    pub fn rollback() -> Self {
        Self {
            kind: SdpType::Rollback,
            sdp: String::new(),
        }
    }
}

/// W3C `RTCSignalingState`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum SignalingState {
    /// Nothing is pending.
    #[default]
    Stable,
    /// A local offer waits for its answer.
    HaveLocalOffer,
    /// A remote offer waits for its answer.
    HaveRemoteOffer,
    /// A provisional local answer is in force.
    HaveLocalPrAnswer,
    /// A provisional remote answer is in force.
    HaveRemotePrAnswer,
    /// The connection is closed.
    Closed,
}

/// A description that is in force.
#[derive(Debug)]
pub(crate) struct Applied {
    pub(crate) kind: SdpType,
    pub(crate) sdp: SessionDescription,
}

/// A description that was made and may be set.
#[derive(Debug)]
struct Proposal {
    text: String,
    sdp: SessionDescription,
    sections: Vec<Section>,
}

/// Whose a media section is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    Transceiver(TransceiverId),
    Data,
    /// A section of a kind that is always rejected.
    Nobody,
}

/// A media section's place in all descriptions.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Section {
    pub(crate) mid: String,
    pub(crate) owner: Owner,
}

/// What descriptions need to know of one transport below.
#[derive(Debug, Clone)]
pub(crate) struct LocalTransport {
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    /// The role of the DTLS association that is there.
    pub(crate) setup: Option<Setup>,
}

/// What descriptions need to know of what lies below.
#[derive(Debug, Clone)]
pub(crate) struct LocalParameters {
    /// The transport of all sections that have none of their own.
    pub(crate) main: LocalTransport,
    /// Transports apart, with the mids of their sections.
    pub(crate) apart: Vec<(Vec<String>, LocalTransport)>,
    pub(crate) lite: bool,
    pub(crate) ice_options: Vec<String>,
    pub(crate) fingerprints: Vec<visavis_sdp::Fingerprint>,
    /// This end's name for the DTLS association.
    pub(crate) tls_id: String,
    pub(crate) sctp_port: u16,
    pub(crate) max_message_size: u64,
    pub(crate) sctp_init: Option<Vec<u8>>,
}

impl LocalParameters {
    /// The transport of a section.
    fn of(&self, mid: &str) -> &LocalTransport {
        let apart = self
            .apart
            .iter()
            .find(|(mids, _)| mids.iter().any(|of| of == mid));
        apart.map_or(&self.main, |(_, transport)| transport)
    }
}

/// What does not change while a connection lives.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) bundle_policy: BundlePolicy,
    pub(crate) dtls_role: DtlsRolePreference,
    pub(crate) codecs: Arc<CodecTable>,
    pub(crate) audio_extensions: Arc<Vec<HeaderExtension>>,
    pub(crate) video_extensions: Arc<Vec<HeaderExtension>>,
    pub(crate) receive_simulcast: bool,
    pub(crate) sdp_limits: visavis_sdp::Limits,
    pub(crate) max_transceivers: usize,
    pub(crate) max_transports: usize,
}

impl Settings {
    pub(crate) fn extensions(&self, kind: Kind) -> &[HeaderExtension] {
        match kind {
            Kind::Audio => &self.audio_extensions,
            Kind::Video => &self.video_extensions,
        }
    }
}

/// The data channels' section.
#[derive(Debug, Clone, Default)]
pub(crate) struct DataSection {
    /// Whether the application opened a channel.
    pub(crate) requested: bool,
    /// Index of the section.
    pub(crate) section: Option<usize>,
    stable_section: Option<usize>,
}

/// The negotiation.
#[derive(Debug, Clone)]
pub(crate) struct Jsep {
    pub(crate) settings: Arc<Settings>,
    pub(crate) state: SignalingState,
    pub(crate) current_local: Option<Arc<Applied>>,
    pub(crate) pending_local: Option<Arc<Applied>>,
    pub(crate) current_remote: Option<Arc<Applied>>,
    pub(crate) pending_remote: Option<Arc<Applied>>,
    pub(crate) transceivers: Vec<Transceiver>,
    pub(crate) data: DataSection,
    pub(crate) sections: Vec<Section>,
    stable_sections: Vec<Section>,
    last_offer: Option<Arc<Proposal>>,
    last_answer: Option<Arc<Proposal>>,
    session_id: u64,
    version: u64,
    payload_types: PayloadTypes,
    extension_ids: ExtensionIds,
    pub(crate) cname: String,
    next_transceiver: u32,
    next_mid: u32,
    pub(crate) negotiation_needed: bool,
    /// An ICE restart was asked for and not yet negotiated.
    pub(crate) restart_needed: bool,
    random: Random,
}

/// What setting a description did.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// What to tell the application, in order.
    pub(crate) events: Vec<Event>,
    /// An answer was set (final or provisional); whether it is the local one.
    pub(crate) answered: Option<bool>,
    /// A local offer or answer was set: candidates are wanted.
    pub(crate) local_set: bool,
    /// A pending offer was taken back.
    pub(crate) rolled_back: bool,
}

impl Jsep {
    pub(crate) fn new(settings: Settings, mut random: Random) -> Self {
        let cname = random
            .bytes::<12>()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        Self {
            settings: Arc::new(settings),
            state: SignalingState::Stable,
            current_local: None,
            pending_local: None,
            current_remote: None,
            pending_remote: None,
            transceivers: Vec::new(),
            data: DataSection::default(),
            sections: Vec::new(),
            stable_sections: Vec::new(),
            last_offer: None,
            last_answer: None,
            // RFC 9429 section 5.2.1: 63 random bits with the highest bit zero.
            session_id: random.u64() >> 1,
            version: 1,
            payload_types: PayloadTypes::default(),
            extension_ids: ExtensionIds::default(),
            cname,
            next_transceiver: 0,
            next_mid: 0,
            negotiation_needed: false,
            restart_needed: false,
            random,
        }
    }

    pub(crate) fn transceiver(&self, id: TransceiverId) -> Option<&Transceiver> {
        self.transceivers.iter().find(|found| found.id == id)
    }

    pub(crate) fn transceiver_mut(&mut self, id: TransceiverId) -> Option<&mut Transceiver> {
        self.transceivers.iter_mut().find(|found| found.id == id)
    }

    pub(crate) fn random(&mut self) -> &mut Random {
        &mut self.random
    }

    /// Creates a transceiver without a section.
    pub(crate) fn add_transceiver(
        &mut self,
        kind: Kind,
        init: TransceiverInit,
    ) -> Result<TransceiverId, Error> {
        if self.transceivers.len() >= self.settings.max_transceivers {
            return Err(Error::Operation("there are too many transceivers".into()));
        }
        let id = TransceiverId(self.next_transceiver);
        self.next_transceiver += 1;
        let extensions = self.settings.extensions(kind).to_vec();
        let transceiver = Transceiver::new(id, kind, init, extensions, &mut self.random);
        self.transceivers.push(transceiver);
        Ok(id)
    }

    /// The pending description, or the current one (W3C `localDescription`).
    pub(crate) fn local(&self) -> Option<&Arc<Applied>> {
        self.pending_local.as_ref().or(self.current_local.as_ref())
    }

    /// The pending description, or the current one (W3C `remoteDescription`).
    pub(crate) fn remote(&self) -> Option<&Arc<Applied>> {
        self.pending_remote
            .as_ref()
            .or(self.current_remote.as_ref())
    }

    /// The local and the remote description of the latest exchange that has an answer.
    pub(crate) fn exchange(&self) -> Option<(&Applied, &Applied)> {
        match self.state {
            SignalingState::HaveLocalPrAnswer | SignalingState::HaveRemotePrAnswer => Some((
                self.pending_local.as_deref()?,
                self.pending_remote.as_deref()?,
            )),
            _ => Some((
                self.current_local.as_deref()?,
                self.current_remote.as_deref()?,
            )),
        }
    }

    /// The number that the section `index` has as `sdpMLineIndex`, and its mid.
    pub(crate) fn section_of_mid(&self, mid: &str) -> Option<usize> {
        self.sections.iter().position(|section| section.mid == mid)
    }

    /// Whether `section` is rejected in the current local or remote description.
    fn is_rejected_now(&self, section: usize) -> bool {
        [&self.current_local, &self.current_remote]
            .into_iter()
            .flatten()
            .filter_map(|applied| applied.sdp.media.get(section))
            .any(Media::is_rejected)
    }

    /// A mid that no section has or had.
    fn new_mid(&mut self) -> String {
        loop {
            let mid = self.next_mid.to_string();
            self.next_mid += 1;
            let in_use = self.sections.iter().any(|section| section.mid == mid);
            if !in_use {
                return mid;
            }
        }
    }

    /// Moves to `state`, and tells it if it is another one.
    fn enter(&mut self, state: SignalingState, outcome: &mut Outcome) {
        if self.state != state {
            self.state = state;
            outcome.events.push(Event::SignalingState(state));
        }
    }

    /// Gives back the memory that only changes need.
    pub(crate) fn trim(&mut self) {
        self.sections.shrink_to_fit();
        self.stable_sections.shrink_to_fit();
        self.random.rest();
    }

    /// Ends everything.
    pub(crate) fn close(&mut self) {
        self.state = SignalingState::Closed;
        for transceiver in &mut self.transceivers {
            transceiver.stop_now();
        }
    }
}

/// What a description says of the transport: the attributes of the section that carries it, or of
/// the session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TransportDescription {
    /// The index of the section whose transport is used.
    pub(crate) section: usize,
    pub(crate) ufrag: String,
    pub(crate) pwd: String,
    pub(crate) lite: bool,
    pub(crate) ice_options: Vec<String>,
    pub(crate) fingerprints: Vec<visavis_sdp::Fingerprint>,
    pub(crate) tls_id: Option<String>,
    pub(crate) setup: Option<Setup>,
}

/// The section whose transport everybody uses: the first of the BUNDLE group that is not rejected,
/// or the first that is not rejected at all (RFC 9143 section 7.2).
pub(crate) fn transport_section(sdp: &SessionDescription) -> Option<usize> {
    let index_of = |mid: &String| {
        sdp.media
            .iter()
            .position(|media| media.attributes.mid() == Some(mid))
            .filter(|&index| !sdp.media[index].is_rejected())
    };
    sdp.bundle_groups()
        .next()
        .and_then(|mids| mids.iter().find_map(index_of))
        .or_else(|| sdp.media.iter().position(|media| !media.is_rejected()))
}

impl TransportDescription {
    /// Reads a description; `None` if every section is rejected.
    pub(crate) fn of(sdp: &SessionDescription) -> Result<Option<Self>, Error> {
        transport_section(sdp)
            .map(|section| Self::at(sdp, section))
            .transpose()
    }

    /// What a description says of the transport of one section.
    pub(crate) fn at(sdp: &SessionDescription, section: usize) -> Result<Self, Error> {
        let (media, session) = (&sdp.media[section].attributes, &sdp.attributes);
        let ufrag = media.ice_ufrag().or(session.ice_ufrag());
        let pwd = media.ice_pwd().or(session.ice_pwd());
        let (Some(ufrag), Some(pwd)) = (ufrag, pwd) else {
            return Err(Error::access("the description holds no ICE credentials"));
        };
        let mut fingerprints: Vec<_> = media.fingerprints().cloned().collect();
        if fingerprints.is_empty() {
            fingerprints = session.fingerprints().cloned().collect();
        }
        if fingerprints.is_empty() {
            return Err(Error::access("the description holds no fingerprint"));
        }
        let options = session.iter().chain(media.iter());
        Ok(Self {
            section,
            ufrag: ufrag.into(),
            pwd: pwd.into(),
            lite: session.has_ice_lite() || media.has_ice_lite(),
            ice_options: options
                .filter_map(|attribute| match attribute {
                    visavis_sdp::Attribute::IceOptions(options) => Some(options.clone()),
                    _ => None,
                })
                .flatten()
                .collect(),
            fingerprints,
            tls_id: media.tls_id().or(session.tls_id()).map(Into::into),
            setup: media.setup().or(session.setup()),
        })
    }

    /// The same, for a section that may leave it to the one that carries its BUNDLE group.
    pub(crate) fn described(sdp: &SessionDescription, section: usize) -> Result<Self, Error> {
        Self::at(sdp, section).or_else(|error| match Self::of(sdp)? {
            Some(shared) => Ok(Self { section, ..shared }),
            None => Err(error),
        })
    }

    /// The fingerprints that can be checked here. SHA-1 is not among them (RFC 8122 section 5 leaves it to what the peer offers;
    /// collisions are cheap today).
    pub(crate) fn known_fingerprints(&self) -> Vec<Fingerprint> {
        let known = |print: &visavis_sdp::Fingerprint| {
            let algorithm = match print.algorithm {
                visavis_sdp::HashAlgorithm::Sha256 => HashAlgorithm::Sha256,
                visavis_sdp::HashAlgorithm::Sha384 => HashAlgorithm::Sha384,
                visavis_sdp::HashAlgorithm::Sha512 => HashAlgorithm::Sha512,
                _ => return None,
            };
            Fingerprint::new(algorithm, &print.digest).ok()
        };
        self.fingerprints.iter().filter_map(known).collect()
    }
}
