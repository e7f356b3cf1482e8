//! What a connection is told at its birth.

use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::Certificate;

use crate::codecs::{CodecTable, Kind};
use crate::extensions::{HeaderExtension, shared_extensions};

/// What becomes of media sections with a peer that does not let them share a transport (W3C `RTCBundlePolicy`,
/// RFC 9429 section 4.1.1). All are offered as one BUNDLE group, and share one transport with a peer that bundles. A transport
/// more is made when a description of the peer asks for it, and not before: an offer costs one, whatever the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum BundlePolicy {
    /// The first section of each kind (audio, video, data) gets a transport; further ones are offered as bundle-only, and
    /// rejected.
    #[default]
    Balanced,
    /// Each section gets a transport.
    MaxCompat,
    /// Only the first section is of use; all others are offered as bundle-only, and rejected.
    MaxBundle,
}

/// Which role an answer takes when the offer leaves the choice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DtlsRolePreference {
    /// DTLS client: the handshake starts half a round trip earlier (RFC 8842 section 5.3).
    #[default]
    Client,
    /// DTLS server.
    Server,
}

/// Bounds on queues and tables of a connection itself; the protocols below have their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Descriptions of the peer.
    pub sdp: visavis_sdp::Limits,
    /// Transceivers. Default 1024.
    pub transceivers: usize,
    /// Transports, where the peer does not bundle. With 1 each section must share the first one's. Default 16.
    pub transports: usize,
    /// Candidates of the peer that wait for the answer. Default 256.
    pub waiting_candidates: usize,
    /// DTLS datagrams of the peer that wait for the answer. Default 8.
    pub early_datagrams: usize,
    /// RTP and RTCP packets that wait to be sent. Default 2048; the newest is refused beyond.
    pub outgoing_packets: usize,
    /// Incoming RTP streams (SSRCs) that are told apart. Default 1024.
    pub incoming_streams: usize,
    /// Entries of the log. Default 256; the oldest goes first.
    pub log: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sdp: visavis_sdp::Limits::default(),
            transceivers: 1024,
            transports: 16,
            waiting_candidates: 256,
            early_datagrams: 8,
            outgoing_packets: 2048,
            incoming_streams: 1024,
            log: 256,
        }
    }
}

/// What a connection is told at its birth (W3C `RTCConfiguration`, and what a library needs beside
/// it).
#[derive(Debug, Clone)]
pub struct Configuration {
    /// ICE: servers, policies, timers, filters. `role` and `credentials` are set by negotiation.
    pub ice: visavis_ice::Config,
    /// BUNDLE.
    pub bundle_policy: BundlePolicy,
    /// Certificates, the preferred one first; one is made if there is none.
    pub certificates: Vec<Certificate>,
    /// Time since 1970-01-01T00:00:00Z at the connection's birth. Used for a certificate that is
    /// made, for RTCP and for statistics.
    pub wall_clock: Duration,
    /// The role of answers.
    pub dtls_role: DtlsRolePreference,
    /// What to change in DTLS beyond its defaults.
    pub dtls: DtlsSettings,
    /// SCTP. The ports are set by negotiation.
    pub sctp: visavis_sctp::Config,
    /// The largest message that is received, in bytes, as `a=max-message-size` says it. Default
    /// 262,144, as browsers.
    pub max_message_size: u64,
    /// Whether the first offer has a section for data channels even if none was opened
    /// (webrtc-extensions `alwaysNegotiateDataChannels`).
    pub always_negotiate_data_channels: bool,
    /// Codecs, in order of preference. Connections with the same table share it: give each a clone of
    /// one `Arc`. [`Arc::make_mut`] changes a default one.
    pub codecs: Arc<CodecTable>,
    /// RTP header extensions for audio; shared likewise.
    pub audio_extensions: Arc<Vec<HeaderExtension>>,
    /// RTP header extensions for video; shared likewise.
    pub video_extensions: Arc<Vec<HeaderExtension>>,
    /// Whether answers accept an offered simulcast. Default true.
    pub receive_simulcast: bool,
    /// What is done for media.
    pub media: MediaSettings,
    /// What decides the bit rate of media.
    pub congestion: CongestionControl,
    /// Whether the SCTP handshake rides in descriptions (`a=sctp-init`, draft-hancke-tsvwg-snap): saves
    /// two round trips where the peer does it too. Default false.
    pub snap: bool,
    /// Whether the DTLS handshake rides in STUN (draft-hancke-webrtc-sped). Default false.
    pub sped: bool,
    /// Bounds.
    pub limits: Limits,
}

/// What the connection does for media by itself. Who brings an engine of its own for a part of it
/// turns that part off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MediaSettings {
    /// Retransmits what the peer asks for, where retransmission was negotiated. Default true.
    pub answer_nacks: bool,
    /// Sends NACKs for missing packets, and transport-wide feedback, where they were negotiated.
    /// Default true.
    pub send_feedback: bool,
    /// Sends sender and receiver reports. Default true.
    pub send_reports: bool,
    /// Paces packets by congestion control, where the peer gives transport-wide feedback. Default
    /// true.
    pub pacing: bool,
    /// Estimates what may be sent. Off for who sends by
    /// [`poll_transmit_with`](crate::PeerConnection::poll_transmit_with) alone, and paces there. Default true.
    pub congestion_control: bool,
    /// Bounds of the bit rate.
    pub bitrate: visavis_congestion::Limits,
    /// NACKs for one packet; the round-trip time decides how far apart. Default 10.
    pub nack_attempts: u8,
    /// Missing packets of one stream that are asked for; beyond, a key frame is. Default 500.
    pub max_missing: usize,
    /// Sent packets of one video stream that are kept for retransmission; a frame may have half as
    /// many. Default 1024.
    pub history_packets: usize,
    /// The longest packet that a frame is cut into, in bytes, header and all, before encryption.
    /// Default 1150, which leaves room for SRTP and a TURN channel in 1200.
    pub max_packet: usize,
    /// The least delay of jitter buffers, where frames are received. Default 0.
    pub min_delay: Duration,
    /// The largest delay of jitter buffers. Default 2 s.
    pub max_delay: Duration,
}

/// What decides the bit rate of media.
#[derive(Debug, Clone, Default)]
#[non_exhaustive]
pub enum CongestionControl {
    /// Google Congestion Control, as browsers have it.
    #[default]
    GoogCc,
    /// SCReAM (RFC 8298), for L4S.
    Scream,
    /// One of the application's.
    Custom(Arc<dyn ControllerFactory>),
}

/// Makes the congestion controller of a connection.
pub trait ControllerFactory: std::fmt::Debug + Send + Sync {
    /// A controller for a path of which nothing is known yet.
    fn controller(
        &self,
        now: Instant,
        limits: visavis_congestion::Limits,
    ) -> Box<dyn visavis_congestion::Controller + Send>;
}

impl Default for MediaSettings {
    fn default() -> Self {
        Self {
            answer_nacks: true,
            send_feedback: true,
            send_reports: true,
            pacing: true,
            congestion_control: true,
            bitrate: visavis_congestion::Limits::default(),
            nack_attempts: 10,
            max_missing: 500,
            history_packets: 1024,
            max_packet: 1150,
            min_delay: Duration::ZERO,
            max_delay: Duration::from_secs(2),
        }
    }
}

/// What can be chosen in DTLS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DtlsSettings {
    /// The lowest version.
    pub min_version: visavis_dtls::Version,
    /// The highest version.
    pub max_version: visavis_dtls::Version,
    /// SRTP profiles, the preferred first.
    pub srtp_profiles: Vec<visavis_dtls::SrtpProfile>,
    /// Key exchange groups, the preferred first; empty for the default.
    pub groups: Vec<visavis_crypto::Group>,
    /// How long the handshake may take. Default 30 s.
    pub handshake_timeout: Duration,
    /// Whether keys leave as log lines. For debugging only.
    pub key_log: bool,
}

impl Default for DtlsSettings {
    fn default() -> Self {
        Self {
            min_version: visavis_dtls::Version::Dtls12,
            max_version: visavis_dtls::Version::Dtls13,
            srtp_profiles: vec![
                visavis_dtls::SrtpProfile::AeadAes128Gcm,
                visavis_dtls::SrtpProfile::AeadAes256Gcm,
                visavis_dtls::SrtpProfile::Aes128CmHmacSha1_80,
            ],
            groups: Vec::new(),
            handshake_timeout: Duration::from_secs(30),
            key_log: false,
        }
    }
}

impl Default for Configuration {
    fn default() -> Self {
        Self {
            ice: visavis_ice::Config::default(),
            bundle_policy: BundlePolicy::default(),
            certificates: Vec::new(),
            wall_clock: Duration::ZERO,
            dtls_role: DtlsRolePreference::default(),
            dtls: DtlsSettings::default(),
            sctp: visavis_sctp::Config::default(),
            max_message_size: 262_144,
            always_negotiate_data_channels: false,
            codecs: CodecTable::shared(),
            audio_extensions: shared_extensions(Kind::Audio),
            video_extensions: shared_extensions(Kind::Video),
            receive_simulcast: true,
            media: MediaSettings::default(),
            congestion: CongestionControl::default(),
            snap: false,
            sped: false,
            limits: Limits::default(),
        }
    }
}
