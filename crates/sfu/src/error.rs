//! What can go wrong for the control plane.

/// Why a command failed. What peers do wrong is no error: it is counted.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The connection is closed, or never was.
    #[error("there is no such connection: it was closed, or its participant left")]
    NoConnection,
    /// The track is over, or never was.
    #[error("there is no such track: it was unpublished, or its publisher left")]
    NoTrack,
    /// The subscription is over, or never was.
    #[error("there is no such subscription: it was ended, or its connection closed")]
    NoSubscription,
    /// The connection has no received section of this name.
    #[error("the connection has no section {0:?} that the peer sends on")]
    NoSection(String),
    /// The section carries a track already.
    #[error("section {0:?} carries a track already; unpublish that one first")]
    SectionTaken(String),
    /// A bound of [`Limits`](crate::Limits) is reached.
    #[error(
        "the limit of {what} ({limit}) is reached; raise `limits.{what}` if the machine can bear it"
    )]
    Limit {
        /// The bound's name in [`Limits`](crate::Limits).
        what: &'static str,
        /// Its value.
        limit: usize,
    },
    /// The connection cannot go to another worker.
    #[error(
        "the connection goes over TCP, or shares a track with another one: it stays on its worker"
    )]
    Tied,
    /// The worker has more commands waiting than it can hold.
    #[error("the worker is overloaded: try again, or add workers")]
    Overloaded,
    /// The media plane was shut down.
    #[error("the media plane was shut down")]
    ShutDown,
    /// The peer connection refused; W3C names stand in the text.
    #[error(transparent)]
    Peer(#[from] visavis_peer::Error),
}

/// The result of a command.
pub type Result<T> = std::result::Result<T, Error>;
