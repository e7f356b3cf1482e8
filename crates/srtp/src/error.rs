//! What can go wrong with a packet.

/// Why a packet was not protected or not unprotected. What a peer or an attacker can cause is
/// counted in [`Stats`](crate::Stats) too; the caller drops the packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A master key or salt has not the profile's length.
    #[error("the key or salt has not the profile's length")]
    InvalidKey,
    /// Not an RTP or RTCP packet, or too short for what its header says.
    #[error("malformed packet")]
    Malformed,
    /// The tag does not belong to the packet.
    #[error("authentication failed")]
    Authentication,
    /// The packet's index was seen before, or is behind the replay window.
    #[error("replayed or too old")]
    Replayed,
    /// An SRTCP packet that is not encrypted, or an RTP header that Cryptex should hide and did not.
    #[error("not encrypted though the options demand it")]
    Unencrypted,
    /// The context has as many streams as [`Options::max_streams`](crate::Options::max_streams)
    /// allows.
    #[error("too many streams")]
    TooManyStreams,
    /// The buffer has not enough room behind the packet.
    #[error("no room for the authentication tag")]
    NoRoom,
    /// The packet's index was used before, so that protecting it would use a nonce twice.
    #[error("the packet index was already used")]
    IndexUsed,
    /// 2^48 SRTP or 2^31 SRTCP packets are sent: the keys must not be used any more (RFC 3711
    /// section 9.2).
    #[error("the keys' lifetime is over")]
    KeyExhausted,
    /// Cryptex cannot hide a header extension that is neither of the forms of RFC 8285; and an
    /// extension that looks like one of Cryptex cannot be sent.
    #[error("the header extension is not of RFC 8285")]
    UnsupportedExtension,
}
