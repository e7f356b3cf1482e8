//! Why a call of the async API failed.

use std::io;

/// A call that failed. What the W3C names is [`Error::Peer`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection refused the call, by the W3C's error names.
    #[error("{name}: {0}", name = .0.name())]
    Peer(#[from] visavis_peer::Error),
    /// The system refused a socket, an address or a thread.
    #[error("network: {0}")]
    Io(#[from] io::Error),
    /// A URL of an ICE server is not one of RFC 7064 or RFC 7065.
    #[error("{url:?} is no ICE server URL: {reason}")]
    ServerUrl {
        /// The text.
        url: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// The connection or the channel is closed.
    #[error("closed")]
    Closed,
}
