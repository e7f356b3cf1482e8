//! What a connection tells its owner.

use visavis_crypto::Group;

use crate::{AlertDescription, CipherSuite, SrtpKeys, Version};

/// What happened, in order: poll with [`Connection::poll_event`](crate::Connection::poll_event).
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The peer's certificate came and it holds the private key:
    /// [`Connection::remote_certificate_der`](crate::Connection::remote_certificate_der).
    PeerCertificate,
    /// The handshake waits for [`Connection::set_remote_fingerprints`](crate::Connection::set_remote_fingerprints).
    FingerprintsNeeded,
    /// The handshake is complete and the peer is authenticated. Application data may flow.
    Connected(Box<Connected>),
    /// Application data of a record that overtook the end of the handshake and was kept.
    ApplicationData(Vec<u8>),
    /// This end sends with new keys (1.3).
    LocalKeysUpdated,
    /// The peer sends with new keys (1.3).
    RemoteKeysUpdated,
    /// A line for an SSLKEYLOGFILE; only with [`Config::key_log`](crate::Config::key_log).
    KeyLog(String),
    /// The connection is over. Nothing follows.
    Closed(CloseReason),
}

/// What the handshake agreed on.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Connected {
    /// The version.
    pub version: Version,
    /// The cipher suite.
    pub cipher_suite: CipherSuite,
    /// The group of the key exchange.
    pub group: Group,
    /// SRTP's profile and keys, if use_srtp was agreed on.
    pub srtp: Option<SrtpKeys>,
    /// The application protocol, if ALPN was agreed on.
    pub alpn: Option<Vec<u8>>,
}

/// Why a connection is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum CloseReason {
    /// This end called [`Connection::close`](crate::Connection::close).
    Local,
    /// The peer sent close_notify.
    Remote,
    /// The peer gave up with a fatal alert.
    RemoteAlert(AlertDescription),
    /// This end gave up and told the peer why.
    LocalAlert(AlertDescription),
    /// The peer's certificate matches none of its announced fingerprints.
    FingerprintMismatch,
    /// The handshake took longer than [`Config::handshake_timeout`](crate::Config::handshake_timeout).
    Timeout,
    /// More records failed authentication than the AEAD can stand (RFC 9147 section 4.5.3).
    TooManyForgeries,
}
