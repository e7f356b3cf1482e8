//! What a client wants.

use std::fmt;
use std::time::Duration;

use visavis_crypto::Zeroizing;
use visavis_stun::TransactionTimers;

/// Which relayed addresses to ask for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Families {
    /// An IPv4 address. What every server gives.
    #[default]
    V4,
    /// An IPv6 address (REQUESTED-ADDRESS-FAMILY).
    V6,
    /// Both in one allocation (ADDITIONAL-ADDRESS-FAMILY); falls back to IPv4 where the server has no
    /// IPv6.
    Dual,
}

/// How to ask a server for an allocation.
#[derive(Clone)]
#[non_exhaustive]
pub struct ClientConfig {
    /// The user's name, after OpaqueString processing (RFC 8265); at most 508 bytes.
    pub username: String,
    /// The password, after OpaqueString processing.
    pub password: Zeroizing<String>,
    /// Which relayed addresses to ask for.
    pub families: Families,
    /// How long the server shall keep the allocation between refreshes. Default 600 s (RFC 8656 section 3.2).
    pub lifetime: Duration,
    /// Whether to ask for a ticket that moves the allocation to another path (RFC 8016). Default off.
    pub mobility: bool,
    /// Timers of each request (RFC 8489 section 6.2.1).
    pub timers: TransactionTimers,
    /// How many peers may have a permission or a channel at once. Default 256, at most 4096 (the number of channels).
    pub max_peers: usize,
    /// How often the client may ask for a new path: for ALTERNATE-SERVER and for 437. Default 4.
    pub max_new_paths: u32,
    /// SOFTWARE to send along. Default none: it tells who is who.
    pub software: Option<String>,
}

impl ClientConfig {
    /// The defaults with long-term credentials.
    pub fn new(username: impl Into<String>, password: impl Into<String>) -> Self {
        Self {
            username: username.into(),
            password: Zeroizing::new(password.into()),
            families: Families::V4,
            lifetime: Duration::from_secs(600),
            mobility: false,
            timers: TransactionTimers::default(),
            max_peers: 256,
            max_new_paths: 4,
            software: None,
        }
    }
}

impl fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientConfig")
            .field("username", &self.username)
            .field("families", &self.families)
            .field("lifetime", &self.lifetime)
            .field("mobility", &self.mobility)
            .finish_non_exhaustive()
    }
}
