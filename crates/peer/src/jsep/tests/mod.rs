//! Negotiation without transports: what is said, and what is told.

mod descriptions;
mod recorded;
mod simulcast;
mod states;
mod tracks;

use visavis_datagram::Random;
use visavis_sdp::SessionDescription;

use super::{Description, Jsep, LocalParameters, LocalTransport, Outcome, SdpType, Settings};
use crate::codecs::{CodecTable, Kind};
use crate::config::{BundlePolicy, DtlsRolePreference};
use crate::error::Error;
use crate::events::Event;
use crate::extensions::shared_extensions;
use crate::transceiver::{TransceiverId, TransceiverInit};

/// One end: a negotiation, and what its transport would say.
struct End {
    jsep: Jsep,
    local: LocalParameters,
    /// Everything that was told, in order.
    events: Vec<Event>,
}

fn settings() -> Settings {
    Settings {
        bundle_policy: BundlePolicy::Balanced,
        dtls_role: DtlsRolePreference::Client,
        codecs: CodecTable::shared(),
        audio_extensions: shared_extensions(Kind::Audio),
        video_extensions: shared_extensions(Kind::Video),
        receive_simulcast: true,
        sdp_limits: visavis_sdp::Limits::default(),
        max_transceivers: 64,
        max_transports: 16,
    }
}

impl End {
    fn new(seed: u64) -> Self {
        Self::with(settings(), seed)
    }

    fn with(settings: Settings, seed: u64) -> Self {
        Self {
            jsep: Jsep::new(settings, Random::from_u64(seed)),
            local: LocalParameters {
                main: LocalTransport {
                    ufrag: format!("uf{seed:02}"),
                    pwd: "a password of this end".replace(' ', "+"),
                    setup: None,
                },
                apart: Vec::new(),
                lite: false,
                ice_options: vec!["trickle".into()],
                fingerprints: vec![visavis_sdp::Fingerprint {
                    algorithm: visavis_sdp::HashAlgorithm::Sha256,
                    digest: vec![seed as u8; 32],
                }],
                tls_id: format!("{seed:020}"),
                sctp_port: 5000,
                max_message_size: 262_144,
                sctp_init: None,
            },
            events: Vec::new(),
        }
    }

    fn add(&mut self, kind: Kind) -> TransceiverId {
        let init = TransceiverInit {
            streams: vec!["stream".into()],
            ..TransceiverInit::default()
        };
        self.jsep.add_transceiver(kind, init).unwrap()
    }

    /// As `addTrack` does where no sender is free.
    fn add_track(&mut self, kind: Kind) -> TransceiverId {
        let id = self.add(kind);
        self.jsep.transceiver_mut(id).unwrap().created_by_add_track = true;
        id
    }

    fn offer(&mut self) -> Description {
        let local = self.local.clone();
        self.jsep.create_offer(&local).unwrap()
    }

    fn answer(&mut self) -> Description {
        let local = self.local.clone();
        self.jsep.create_answer(&local).unwrap()
    }

    fn try_local(&mut self, description: &Description) -> Result<(), Error> {
        let mut next = self.jsep.clone();
        let outcome = next.set_local(description.kind, &description.sdp)?;
        self.take(next, outcome);
        Ok(())
    }

    fn try_remote(&mut self, description: &Description) -> Result<(), Error> {
        let mut next = self.jsep.clone();
        let outcome = next.set_remote(description.kind, &description.sdp)?;
        self.take(next, outcome);
        Ok(())
    }

    fn take(&mut self, next: Jsep, outcome: Outcome) {
        self.jsep = next;
        self.events.extend(outcome.events);
    }

    fn set_local(&mut self, description: &Description) {
        self.try_local(description).unwrap();
    }

    fn set_remote(&mut self, description: &Description) {
        self.try_remote(description).unwrap();
    }

    fn told(&mut self) -> Vec<Event> {
        std::mem::take(&mut self.events)
    }

    /// Whether `negotiationneeded` would be told now.
    fn needs(&self) -> bool {
        self.jsep.is_negotiation_needed()
    }
}

/// One whole exchange, offered by `a`.
fn negotiate(a: &mut End, b: &mut End) -> (SessionDescription, SessionDescription) {
    let offer = a.offer();
    a.set_local(&offer);
    b.set_remote(&offer);
    let answer = b.answer();
    b.set_local(&answer);
    a.set_remote(&answer);
    (parse(&offer), parse(&answer))
}

fn parse(description: &Description) -> SessionDescription {
    SessionDescription::parse(&description.sdp)
        .unwrap_or_else(|error| panic!("{error} in\n{}", description.sdp))
}

fn with_kind(kind: SdpType, description: &Description) -> Description {
    Description {
        kind,
        sdp: description.sdp.clone(),
    }
}

fn mids(sdp: &SessionDescription) -> Vec<&str> {
    sdp.media
        .iter()
        .filter_map(|media| media.attributes.mid())
        .collect()
}
