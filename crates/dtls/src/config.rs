//! What a connection is set up with.

use std::time::Duration;

use visavis_crypto::{Certificate, Group};

use crate::{CipherSuite, SrtpProfile, Version};

/// How the peer's certificate is judged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum PeerVerification {
    /// It must match one of the remote fingerprints (RFC 8122, RFC 8827 section 6.5). While none are
    /// known the handshake goes on retransmitting and does not complete.
    #[default]
    Fingerprint,
    /// Any certificate will do, even none from a client: the caller judges
    /// [`Connection::remote_certificate_der`](crate::Connection::remote_certificate_der) itself.
    Caller,
}

/// Bounds on what a peer can make a connection hold or do. Reaching one is counted in
/// [`Stats`](crate::Stats).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Limits {
    /// The longest handshake message in bytes. Fragments of longer ones are dropped.
    pub message_len: usize,
    /// Bytes of handshake messages that wait for missing pieces, over all messages.
    pub reassembly_bytes: usize,
    /// How many messages ahead of the next expected one are kept.
    pub messages_ahead: u16,
    /// Records kept whose keys are not known yet, because a message before them is missing.
    pub deferred_records: usize,
    /// Bytes of those records.
    pub deferred_bytes: usize,
    /// Events that wait to be polled. Beyond it the oldest that is not `Closed` goes.
    pub events: usize,
    /// Record numbers that wait to be acknowledged, and sent ones that wait for their
    /// acknowledgement.
    pub record_numbers: usize,
    /// How often one flight is sent because the peer sent its own again. Timeouts are not counted.
    pub prompted_retransmissions: u32,
    /// Records that may fail authentication before the connection closes (RFC 9147 section 4.5.3).
    pub forged_records: u64,
    /// Records sent under one key of 1.3 before it is updated (RFC 8446 section 5.5).
    pub records_per_key: u64,
    /// Key updates that the peer may ask for or do in one connection.
    pub key_updates: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            message_len: 16 * 1024,
            reassembly_bytes: 48 * 1024,
            messages_ahead: 8,
            deferred_records: 12,
            deferred_bytes: 16 * 1024,
            events: 64,
            record_numbers: 128,
            prompted_retransmissions: 32,
            forged_records: 1 << 36,
            records_per_key: 1 << 23,
            key_updates: 1 << 16,
        }
    }
}

/// What a connection is set up with. Shared by all connections behind an `Arc`.
///
/// ```
/// use std::sync::Arc;
/// use visavis_crypto::{Certificate, certificate::SelfSigned};
/// use visavis_datagram::Random;
/// use visavis_dtls::{Config, Version};
///
/// let mut random = Random::from_u64(1);
/// let certificate = Certificate::self_signed(&SelfSigned::at(1_800_000_000), &mut random).unwrap();
/// let mut config = Config::new(certificate);
/// config.min_version = Version::Dtls13;
/// let config = Arc::new(config);
/// # drop(config);
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// Our certificates, the preferred first. The first that the peer can verify is used.
    pub certificates: Vec<Certificate>,
    /// The lowest version to accept.
    pub min_version: Version,
    /// The highest version to offer or accept.
    pub max_version: Version,
    /// Key exchange groups, the preferred first.
    pub groups: Vec<Group>,
    /// How many of the groups a client sends a key share of, from the first on. The browsers send
    /// two: X25519MLKEM768 and X25519.
    pub key_shares: usize,
    /// Whether a server asks for its first group with a HelloRetryRequest when the client lists it
    /// but has sent a share of another acceptable one only. Costs a round trip.
    pub insist_on_first_group: bool,
    /// Cipher suites, the preferred first. A server's order decides.
    pub cipher_suites: Vec<CipherSuite>,
    /// SRTP profiles, the preferred first. A server's order decides. Empty: no use_srtp.
    pub srtp_profiles: Vec<SrtpProfile>,
    /// Application protocols (RFC 7301), the preferred first: WebRTC's are `webrtc` and `c-webrtc`
    /// (RFC 8833). Empty: no ALPN.
    pub alpn: Vec<Vec<u8>>,
    /// Whether a server asks for a certificate. WebRTC requires it; without one the client is anybody,
    /// and remote fingerprints have nothing to match.
    pub request_client_certificate: bool,
    /// How the peer's certificate is judged.
    pub verification: PeerVerification,
    /// The largest datagram of a handshake in bytes of UDP payload.
    pub mtu: usize,
    /// The largest datagram once a flight has been sent three times without an answer, in bytes of
    /// UDP payload (RFC 9147 section 4.4).
    pub fallback_mtu: usize,
    /// How long the first flight waits for an answer: 1.5 times ICE's round trip time if there is
    /// one, and 400 ms otherwise (RFC 9147 section 5.8.2).
    pub initial_retransmission_timeout: Duration,
    /// Where doubling the timeout ends. A second by default: RFC 9147 section 5.8.2 lets real-time
    /// profiles choose less than its minute, and whoever calls is waiting.
    pub max_retransmission_timeout: Duration,
    /// How long a handshake may take. Waiting for remote fingerprints does not count.
    pub handshake_timeout: Duration,
    /// How many bytes of connection ID this end wants to receive (RFC 9146): `None` does not speak
    /// of them, 0 uses the peer's and has none of its own. At most 20.
    pub connection_id: Option<usize>,
    /// The largest plaintext that this end wants to receive in bytes, 64 to 16385 (RFC 8449).
    /// `None` does not speak of it unless the client does.
    pub record_size_limit: Option<u16>,
    /// Sizes of the replay windows: how far behind the newest record an old one may be, in records.
    /// 64 to 1024.
    pub replay_window: u64,
    /// Whether keys leave as [`Event::KeyLog`](crate::Event::KeyLog) in the SSLKEYLOGFILE format.
    /// Whoever has those lines can read the connection: for debugging only.
    pub key_log: bool,
    /// Bounds on what a peer can make this end do.
    pub limits: Limits,
}

impl Config {
    /// Whether a connection can work with these settings; an endpoint does not start otherwise.
    ///
    /// # Errors
    /// [`Error::Config`](crate::Error::Config) says what is wrong.
    pub fn check(&self) -> Result<(), crate::Error> {
        crate::connection::check(self)
    }

    /// WebRTC's settings: both versions, all groups and suites, SRTP with AES-128-GCM first, mutual
    /// authentication by fingerprint.
    pub fn new(certificate: Certificate) -> Self {
        Self {
            certificates: vec![certificate],
            min_version: Version::Dtls12,
            max_version: Version::Dtls13,
            groups: Group::ALL.to_vec(),
            key_shares: 2,
            insist_on_first_group: false,
            cipher_suites: CipherSuite::ALL.to_vec(),
            srtp_profiles: vec![
                SrtpProfile::AeadAes128Gcm,
                SrtpProfile::AeadAes256Gcm,
                SrtpProfile::Aes128CmHmacSha1_80,
            ],
            alpn: Vec::new(),
            request_client_certificate: true,
            verification: PeerVerification::Fingerprint,
            mtu: 1200,
            fallback_mtu: 548,
            initial_retransmission_timeout: Duration::from_millis(400),
            max_retransmission_timeout: Duration::from_secs(1),
            handshake_timeout: Duration::from_secs(120),
            connection_id: None,
            record_size_limit: None,
            replay_window: 256,
            key_log: false,
            limits: Limits::default(),
        }
    }

    pub(crate) fn speaks(&self, version: Version) -> bool {
        (self.min_version..=self.max_version).contains(&version)
    }

    /// The suites of a version, in order.
    pub(crate) fn suites(&self, version: Version) -> impl Iterator<Item = CipherSuite> + '_ {
        self.cipher_suites
            .iter()
            .copied()
            .filter(move |suite| suite.version() == version)
    }

    /// The groups of a version, in order.
    pub(crate) fn groups(&self, version: Version) -> impl Iterator<Item = Group> + '_ {
        self.groups
            .iter()
            .copied()
            .filter(move |group| version == Version::Dtls13 || group.is_for_tls12())
    }
}
