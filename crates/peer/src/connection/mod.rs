//! The connection: the W3C's operations over one negotiation and its transports.

mod bundle;
mod candidates;
mod configure;
mod data;
mod direct;
mod doors;
mod media;
mod states;
mod stats;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, HashAlgorithm, KeyAlgorithm};
use visavis_datagram::Random;
use visavis_ice as ice;
use visavis_sctp::datachannel::ChannelId;

use self::bundle::{Bundle, Bundles};
pub use self::bundle::{TransportId, TransportRef};
use self::candidates::Candidates;
use self::direct::DirectSources;
pub use self::direct::{DirectData, DirectMedia, DirectParameters, DirectRemote};
use self::doors::Idle;
pub use self::doors::{Received, ReceivedRtp};
use crate::config::Configuration;
use crate::error::Error;
use crate::events::{ConnectionState, DtlsState, Event, SctpState};
use crate::jsep::{
    Description, Jsep, LocalParameters, LocalTransport, SdpType, Settings, SignalingState,
    TransportDescription,
};
use crate::log::{Decision, Log};
use crate::media::Media;
use crate::transceiver::TransceiverId;
use crate::transport::{Transport, TransportStats};

/// Options of [`PeerConnection::create_offer`] (W3C `RTCOfferOptions`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct OfferOptions {
    /// New ICE credentials, as after [`PeerConnection::restart_ice`].
    pub ice_restart: bool,
}

/// The key of a certificate (W3C `generateCertificate`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum CertificateKind {
    /// ECDSA on P-256 with SHA-256: what browsers make unless told otherwise.
    #[default]
    EcdsaP256,
    /// RSASSA-PKCS1-v1_5, 2048 bits, with SHA-256.
    Rsa2048,
}

/// Makes a certificate (W3C `RTCPeerConnection.generateCertificate`), valid for 30 days from
/// `wall_clock`, the time since 1970-01-01T00:00:00Z.
pub fn generate_certificate(
    kind: CertificateKind,
    wall_clock: Duration,
    random: &mut Random,
) -> Result<Certificate, Error> {
    let seconds = i64::try_from(wall_clock.as_secs()).unwrap_or(i64::MAX / 2);
    let mut options = SelfSigned::at(seconds);
    options.algorithm = match kind {
        CertificateKind::EcdsaP256 => KeyAlgorithm::EcdsaP256,
        CertificateKind::Rsa2048 => KeyAlgorithm::Rsa,
    };
    Certificate::self_signed(&options, random).map_err(|error| {
        Error::NotSupported(format!("no certificate could be made: {error}").into())
    })
}

/// One end of a WebRTC connection (W3C `RTCPeerConnection`).
#[derive(Debug)]
pub struct PeerConnection {
    jsep: Jsep,
    bundles: Bundles,
    events: VecDeque<Event>,
    candidates: Candidates,
    certificates: Vec<Certificate>,
    sctp: Arc<visavis_sctp::Config>,
    max_message_size: u64,
    snap: bool,
    sped: bool,
    lite: bool,
    /// The time of the latest call, for calls that have none.
    now: Instant,
    ice_state: ice::ConnectionState,
    gathering_state: ice::GatheringState,
    dtls_state: DtlsState,
    sctp_state: Option<SctpState>,
    connection_state: ConnectionState,
    /// This end's name for the DTLS association, and that of the one that an answer may start.
    tls_id: String,
    next_tls_id: Option<String>,
    /// The negotiation-needed flag is to be updated when the events so far are told.
    update_negotiation_needed: bool,
    closed: bool,
    /// Started without descriptions: the sources that each transceiver expects.
    direct: Option<Vec<DirectSources>>,
    born: Instant,
    wall_clock: Duration,
    log: Log,
    idle: Idle,
    channel_counters: HashMap<ChannelId, ChannelCounters>,
    channel_numbers: u64,
    channels_opened: u64,
    channels_closed: u64,
}

/// Counters of a data channel.
#[derive(Debug, Clone, Copy, Default)]
struct ChannelCounters {
    /// Counted from 0 in order of creation.
    number: u64,
    messages_sent: u64,
    bytes_sent: u64,
    messages_received: u64,
    bytes_received: u64,
}

impl PeerConnection {
    /// A connection on which nothing has happened.
    ///
    /// # Errors
    /// `InvalidAccessError` for an expired certificate, `NotSupportedError` if none can be made, or for
    /// settings of DTLS that exclude each other.
    pub fn new(
        configuration: Configuration,
        mut random: Random,
        now: Instant,
    ) -> Result<Self, Error> {
        let wall_clock = configuration.wall_clock;
        let mut certificates = configuration.certificates;
        if certificates.is_empty() {
            certificates.push(generate_certificate(
                CertificateKind::default(),
                wall_clock,
                &mut random,
            )?);
        }
        let seconds = i64::try_from(wall_clock.as_secs()).unwrap_or(i64::MAX);
        if certificates
            .iter()
            .any(|certificate| certificate.not_after() < seconds)
        {
            return Err(Error::access("a certificate has expired"));
        }
        let mut dtls = visavis_dtls::Config::new(certificates[0].clone());
        dtls.certificates.clone_from(&certificates);
        dtls.min_version = configuration.dtls.min_version;
        dtls.max_version = configuration.dtls.max_version;
        dtls.srtp_profiles = configuration.dtls.srtp_profiles;
        dtls.handshake_timeout = configuration.dtls.handshake_timeout;
        dtls.key_log = configuration.dtls.key_log;
        if !configuration.dtls.groups.is_empty() {
            dtls.groups = configuration.dtls.groups;
        }
        dtls.check()
            .map_err(|error| Error::NotSupported(error.to_string().into()))?;
        let settings = Settings {
            bundle_policy: configuration.bundle_policy,
            dtls_role: configuration.dtls_role,
            codecs: configuration.codecs,
            audio_extensions: configuration.audio_extensions,
            video_extensions: configuration.video_extensions,
            receive_simulcast: configuration.receive_simulcast,
            sdp_limits: configuration.limits.sdp,
            max_transceivers: configuration.limits.transceivers,
            max_transports: configuration.limits.transports,
        };
        let mut jsep = Jsep::new(settings, random.fork());
        jsep.data.requested = configuration.always_negotiate_data_channels;
        let lite = configuration.ice.lite;
        let media = Media::new(
            configuration.media,
            configuration.congestion,
            configuration.limits,
            wall_clock,
            jsep.cname.clone(),
            random.fork(),
            now,
        );
        let tls_id = new_tls_id(&mut random);
        let mut transport =
            Transport::new(configuration.ice, dtls, configuration.limits, random, now);
        if configuration.sped {
            transport.carry_handshake();
        }
        Ok(Self {
            jsep,
            bundles: Bundles::new(transport, media),
            events: VecDeque::new(),
            candidates: Candidates::new(configuration.limits.waiting_candidates),
            certificates,
            sctp: Arc::new(configuration.sctp),
            max_message_size: configuration.max_message_size,
            snap: configuration.snap,
            sped: configuration.sped,
            lite,
            now,
            ice_state: ice::ConnectionState::New,
            gathering_state: ice::GatheringState::New,
            dtls_state: DtlsState::New,
            sctp_state: None,
            connection_state: ConnectionState::New,
            tls_id,
            next_tls_id: None,
            update_negotiation_needed: false,
            closed: false,
            direct: None,
            born: now,
            wall_clock,
            log: Log::new(configuration.limits.log),
            idle: Idle::new(now),
            channel_counters: HashMap::new(),
            channel_numbers: 0,
            channels_opened: 0,
            channels_closed: 0,
        })
    }

    // ---- descriptions

    /// W3C `createOffer`.
    ///
    /// # Errors
    /// `InvalidStateError`.
    pub fn create_offer(
        &mut self,
        now: Instant,
        options: OfferOptions,
    ) -> Result<Description, Error> {
        self.check_described()?;
        self.now = now;
        if options.ice_restart {
            self.want_restart();
        }
        // The peer hears of a restart in a section, and only where there is one.
        if self.jsep.has_sections() {
            for bundle in self.bundles.iter_mut() {
                if bundle.replaced_ufrag.as_deref() == Some(bundle.local_ufrag()) {
                    bundle.transport.ice.restart(now);
                }
            }
        }
        let local = self.local_parameters();
        self.jsep.create_offer(&local)
    }

    /// W3C `createAnswer`.
    ///
    /// # Errors
    /// `InvalidStateError`.
    pub fn create_answer(&mut self, now: Instant) -> Result<Description, Error> {
        self.check_described()?;
        self.now = now;
        self.follow_remote_restart(now);
        self.propose_transports(now);
        let local = self.local_parameters();
        self.jsep.create_answer(&local)
    }

    /// W3C `setLocalDescription`; without a description the right one is made. One with an empty text
    /// stands for the latest one made.
    ///
    /// # Errors
    /// `InvalidStateError`, and `InvalidModificationError` for a text that was not made here.
    pub fn set_local_description(
        &mut self,
        now: Instant,
        description: Option<&Description>,
    ) -> Result<(), Error> {
        self.check_described()?;
        let made;
        let description = match description {
            Some(description) => description,
            None => {
                made = match self.jsep.state {
                    SignalingState::Stable
                    | SignalingState::HaveLocalOffer
                    | SignalingState::HaveRemotePrAnswer => {
                        self.create_offer(now, OfferOptions::default())?
                    }
                    _ => self.create_answer(now)?,
                };
                &made
            }
        };
        self.now = now;
        let mut next = self.jsep.clone();
        let outcome = next.set_local(description.kind, &description.sdp)?;
        self.jsep = next;
        self.note_description(true, description.kind);
        self.follow(now, outcome);
        Ok(())
    }

    /// W3C `setRemoteDescription`. An offer while a local one is pending takes that one back.
    ///
    /// # Errors
    /// `InvalidStateError`, a syntax error with its line, and `InvalidAccessError` for a description
    /// that does not fit. Nothing has changed then.
    pub fn set_remote_description(
        &mut self,
        now: Instant,
        description: &Description,
    ) -> Result<(), Error> {
        self.check_described()?;
        self.now = now;
        let mut next = self.jsep.clone();
        let outcome = next
            .set_remote(description.kind, &description.sdp)
            .and_then(|outcome| {
                if outcome.answered.is_some() {
                    Self::check_exchange(&next)?;
                }
                Ok(outcome)
            });
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(error) => {
                let (name, reason) = (error.name(), error.to_string());
                self.log.note(now, Decision::Refused { name, reason });
                return Err(error);
            }
        };
        self.jsep = next;
        self.note_description(false, description.kind);
        self.follow(now, outcome);
        Ok(())
    }

    fn note_description(&mut self, local: bool, kind: SdpType) {
        let state = self.jsep.state;
        let what = Decision::Description { local, kind, state };
        self.log.note(self.now, what);
    }

    /// W3C `localDescription`: the pending one or else the current one, with the candidates so far.
    pub fn local_description(&self) -> Option<Description> {
        self.pending_local_description()
            .or_else(|| self.current_local_description())
    }

    /// W3C `currentLocalDescription`.
    pub fn current_local_description(&self) -> Option<Description> {
        let applied = self.jsep.current_local.as_ref()?;
        Some(self.candidates.with_local(applied, &self.bundles))
    }

    /// W3C `pendingLocalDescription`.
    pub fn pending_local_description(&self) -> Option<Description> {
        let applied = self.jsep.pending_local.as_ref()?;
        Some(self.candidates.with_local(applied, &self.bundles))
    }

    /// W3C `remoteDescription`: the pending one or else the current one, with the candidates so far.
    pub fn remote_description(&self) -> Option<Description> {
        self.pending_remote_description()
            .or_else(|| self.current_remote_description())
    }

    /// W3C `currentRemoteDescription`.
    pub fn current_remote_description(&self) -> Option<Description> {
        let applied = self.jsep.current_remote.as_ref()?;
        Some(self.candidates.with_remote(applied))
    }

    /// W3C `pendingRemoteDescription`.
    pub fn pending_remote_description(&self) -> Option<Description> {
        let applied = self.jsep.pending_remote.as_ref()?;
        Some(self.candidates.with_remote(applied))
    }

    /// The sections of [`remote_description`](Self::remote_description), parsed; empty before there is one.
    pub fn remote_sections(&self) -> &[visavis_sdp::Media] {
        self.jsep.remote().map_or(&[], |applied| &applied.sdp.media)
    }

    /// The canonical name that this end has in RTCP (RFC 3550 section 6.5.1).
    pub fn cname(&self) -> &str {
        &self.jsep.cname
    }

    /// W3C `restartIce`: the next offer has new credentials.
    pub fn restart_ice(&mut self) {
        if self.closed {
            return;
        }
        self.want_restart();
        self.update_negotiation_needed = true;
    }

    /// W3C `setConfiguration`: other servers, their names resolved, and another policy for candidates.
    /// They count from the next gathering on, which an ICE restart begins. The rest of `configuration`
    /// must be as it was.
    ///
    /// # Errors
    /// `InvalidStateError` when closed, `InvalidModificationError` for another BUNDLE policy or other
    /// certificates, `OperationError` for too many servers.
    pub fn set_configuration(&mut self, configuration: &Configuration) -> Result<(), Error> {
        self.check_open()?;
        if configuration.bundle_policy != self.jsep.settings.bundle_policy {
            return Err(Error::modification("the BUNDLE policy cannot be changed"));
        }
        let others = &configuration.certificates;
        let same = others.len() == self.certificates.len()
            && (self.certificates.iter().zip(others)).all(|(own, other)| own.der() == other.der());
        if !others.is_empty() && !same {
            return Err(Error::modification("the certificates cannot be changed"));
        }
        let (servers, policy) = (
            &configuration.ice.servers,
            configuration.ice.transport_policy,
        );
        let mut set = Ok(());
        for bundle in self.bundles.iter_mut() {
            let ice = &mut bundle.transport.ice;
            set = set.and(ice.set_servers(servers.clone(), policy));
        }
        set.map_err(|error| Error::Operation(error.to_string().into()))
    }

    fn want_restart(&mut self) {
        if self.jsep.local().is_none() {
            return;
        }
        for bundle in self.bundles.iter_mut() {
            if bundle.replaced_ufrag.is_none() {
                bundle.replaced_ufrag = Some(bundle.local_ufrag().to_owned());
                self.jsep.restart_needed = true;
            }
        }
    }

    // ---- what can be seen

    /// W3C `signalingState`.
    pub fn signaling_state(&self) -> SignalingState {
        self.jsep.state
    }

    /// W3C `iceGatheringState`.
    pub fn ice_gathering_state(&self) -> ice::GatheringState {
        self.gathering_state
    }

    /// W3C `iceConnectionState`.
    pub fn ice_connection_state(&self) -> ice::ConnectionState {
        self.ice_state
    }

    /// W3C `connectionState`.
    pub fn connection_state(&self) -> ConnectionState {
        self.connection_state
    }

    /// W3C `RTCDtlsTransport.state`; of several, the worst.
    pub fn dtls_state(&self) -> DtlsState {
        self.dtls_state
    }

    /// W3C `RTCSctpTransport.state`; `None` while no data channels are negotiated.
    pub fn sctp_state(&self) -> Option<SctpState> {
        self.sctp_state
    }

    /// W3C `canTrickleIceCandidates`; `None` before there is a remote description.
    pub fn can_trickle_ice_candidates(&self) -> Option<bool> {
        let remote = self.jsep.remote()?;
        let session = remote.sdp.attributes.has_ice_option("trickle");
        let media = &remote.sdp.media;
        Some(session || media.iter().any(|m| m.attributes.has_ice_option("trickle")))
    }

    /// The certificates.
    pub fn certificates(&self) -> &[Certificate] {
        &self.certificates
    }

    /// The peer's certificate in DER (W3C `getRemoteCertificates`), once it has come.
    pub fn remote_certificate(&self) -> Option<&[u8]> {
        self.dtls()?.remote_certificate_der()
    }

    /// The ICE agent, to look at: that of the first transport, where the peer does not bundle.
    pub fn ice(&self) -> &ice::Agent {
        &self.bundles.first().transport.ice
    }

    /// All transports, to look at, those on their way in and out among them; [`TransportId::MAIN`] first. With a peer that bundles
    /// there is that one alone.
    pub fn transports(&self) -> impl Iterator<Item = TransportRef<'_>> {
        self.bundles.iter().map(Bundle::as_ref)
    }

    /// The transport of a transceiver (W3C `RTCRtpSender.transport`).
    pub fn transport_of(&self, id: TransceiverId) -> TransportId {
        self.bundles.of(&self.jsep.transceivers, id).id
    }

    /// The transport of the data channels (W3C `RTCSctpTransport.transport`).
    pub fn sctp_transport(&self) -> TransportId {
        self.bundles.with_channels().id
    }

    /// The DTLS association of the first transport, to look at, once there is one.
    pub fn dtls(&self) -> Option<&visavis_dtls::Connection> {
        self.bundles.first().transport.dtls.as_ref()
    }

    /// Counters of the first transport.
    pub fn transport_stats(&self) -> TransportStats {
        self.bundles.first().transport.stats
    }

    // ---- the end

    /// W3C `close`. The peer is told as far as [`poll_transmit`](Self::poll_transmit) is still
    /// called; no events follow.
    pub fn close(&mut self, now: Instant) {
        if self.closed {
            return;
        }
        self.closed = true;
        self.jsep.close();
        for bundle in self.bundles.iter_mut() {
            bundle.media.goodbye();
            bundle.transport.close(now);
        }
        self.ice_state = ice::ConnectionState::Closed;
        self.dtls_state = DtlsState::Closed;
        self.connection_state = ConnectionState::Closed;
        if self.sctp_state.is_some() {
            self.sctp_state = Some(SctpState::Closed);
        }
        self.events.clear();
    }

    /// Whether the connection was closed here.
    pub fn is_closed(&self) -> bool {
        self.closed
    }

    fn check_open(&self) -> Result<(), Error> {
        if self.closed {
            Err(Error::closed())
        } else {
            Ok(())
        }
    }

    /// What descriptions say of this end.
    fn local_parameters(&mut self) -> LocalParameters {
        let wants_data = self.jsep.data.requested || self.jsep.data.section.is_some();
        let sctp_init = if self.snap && wants_data {
            let chunk = self.channels().init_chunk();
            (!chunk.is_empty()).then(|| chunk.to_vec())
        } else {
            None
        };
        let tls_id = self.local_tls_id();
        let transport_of = |bundle: &Bundle| {
            let credentials = bundle.transport.ice.local_credentials();
            LocalTransport {
                ufrag: credentials.ufrag.to_string(),
                pwd: credentials.pwd.to_string(),
                setup: bundle.transport.role().map(|role| match role {
                    visavis_dtls::Role::Client => visavis_sdp::Setup::Active,
                    visavis_dtls::Role::Server => visavis_sdp::Setup::Passive,
                }),
            }
        };
        let apart = self.bundles.apart.iter();
        let fingerprint = self.certificates[0].fingerprint(HashAlgorithm::Sha256);
        LocalParameters {
            tls_id,
            main: transport_of(&self.bundles.main),
            apart: apart
                .map(|bundle| (bundle.mids.clone(), transport_of(bundle)))
                .collect(),
            lite: self.lite,
            ice_options: self.ice_options(),
            fingerprints: vec![visavis_sdp::Fingerprint {
                algorithm: visavis_sdp::HashAlgorithm::Sha256,
                digest: fingerprint.value().to_vec(),
            }],
            sctp_port: self.sctp.local_port,
            max_message_size: self.max_message_size,
            sctp_init,
        }
    }

    /// This end's name for the DTLS association: a new one in the answer to an offer that wants a new
    /// association (RFC 8842 section 5.3).
    fn local_tls_id(&mut self) -> String {
        let offer = self.jsep.pending_remote.as_ref();
        let offered = offer
            .and_then(|offer| TransportDescription::of(&offer.sdp).ok().flatten())
            .and_then(|transport| transport.tls_id);
        if !self.bundles.main.transport.is_renamed(offered.as_deref()) {
            return self.tls_id.clone();
        }
        let random = self.bundles.main.transport.random();
        let next = self.next_tls_id.get_or_insert_with(|| new_tls_id(random));
        next.clone()
    }

    fn ice_options(&self) -> Vec<String> {
        // Every spelling that the draft and its implementations have had.
        let sped = ["sped", "googspedv1", "goog-sped-v1"];
        let options = std::iter::once("trickle");
        options
            .chain(sped.into_iter().filter(|_| self.sped))
            .map(Into::into)
            .collect()
    }

    /// Whether a description is an answer, for those who only forward signalling.
    pub fn expects_answer(&self) -> bool {
        matches!(
            self.jsep.state,
            SignalingState::HaveLocalOffer | SignalingState::HaveRemotePrAnswer
        )
    }
}

/// 128 random bits (RFC 8842 section 4).
fn new_tls_id(random: &mut Random) -> String {
    format!("{:016x}{:016x}", random.u64(), random.u64())
}

impl Description {
    /// From a type's name and a text, as signalling brings them.
    ///
    /// # Errors
    /// `TypeError` for an unknown name.
    pub fn from_parts(kind: &str, sdp: impl Into<String>) -> Result<Self, Error> {
        let kind = [
            SdpType::Offer,
            SdpType::PrAnswer,
            SdpType::Answer,
            SdpType::Rollback,
        ]
        .into_iter()
        .find(|known| known.name() == kind)
        .ok_or_else(|| Error::Type("the type of the description is unknown".into()))?;
        Ok(Self {
            kind,
            sdp: sdp.into(),
        })
    }
}
