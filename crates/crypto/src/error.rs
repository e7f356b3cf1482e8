//! What can go wrong.

/// Why an operation of this crate failed. It never says which byte was wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A key has the wrong length or value for its algorithm.
    #[error("the key is not one of its algorithm")]
    InvalidKey,
    /// A tag, MAC or signature does not belong to the data.
    #[error("authentication failed")]
    Authentication,
    /// A peer's key share has the wrong length or value.
    #[error("the peer's key share is not one of its group")]
    InvalidShare,
    /// A signature scheme does not go with the key.
    #[error("the signature scheme does not fit the key")]
    UnsuitableScheme,
    /// The key type or curve is not one that this crate knows.
    #[error("the algorithm is not supported")]
    Unsupported,
    /// DER, PEM or a fingerprint cannot be parsed.
    #[error("malformed encoding")]
    Malformed,
    /// An output length is beyond what the function can give.
    #[error("more output was asked for than the function can give")]
    OutputLength,
    /// The library failed for a reason of its own, e.g. the system has no randomness.
    #[error("the crypto library failed")]
    Library,
}
