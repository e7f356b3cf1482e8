//! What the application decides about a context.

/// Settings of a [`Context`](crate::Context).
#[derive(Debug, Clone)]
pub struct Options {
    /// How many packets may arrive behind the newest RTP packet of their stream; rounded up to a
    /// power of two from 64 (RFC 3711 section 3.3.2) to 32768. 1024: a second of high-rate video.
    pub rtp_replay_window: u32,
    /// The same for RTCP. 128.
    pub rtcp_replay_window: u32,
    /// The most streams (SSRCs) in each direction, RTP and RTCP counted apart. 2048. A packet of
    /// one more stream is refused; [`Context::remove_stream`](crate::Context::remove_stream) makes
    /// room.
    pub max_streams: usize,
    /// Lets the sender protect one packet index twice, which retransmission on the stream's own
    /// SSRC needs. Only safe if the packet is the same, byte for byte: with AES-GCM a second
    /// header or payload under one index gives the authentication key away (RFC 7714 section 8.4).
    /// False.
    pub allow_index_reuse: bool,
    /// Encrypts outgoing RTCP. True.
    pub encrypt_rtcp: bool,
    /// Accepts RTCP that is authenticated and not encrypted. False: WebRTC always encrypts.
    pub accept_unencrypted_rtcp: bool,
    /// The header extension elements that are encrypted one by one (RFC 6904). None.
    pub encrypted_extensions: ExtensionIds,
    /// Encryption of all header extensions and contributing sources (RFC 9335).
    pub cryptex: Cryptex,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            rtp_replay_window: 1024,
            rtcp_replay_window: 128,
            max_streams: 2048,
            allow_index_reuse: false,
            encrypt_rtcp: true,
            accept_unencrypted_rtcp: false,
            encrypted_extensions: ExtensionIds::default(),
            cryptex: Cryptex::Accept,
        }
    }
}

/// Whether RTP header extensions and contributing sources are encrypted as a whole (RFC 9335). A
/// packet that Cryptex covers is not covered by RFC 6904 too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Cryptex {
    /// Sends in the clear; understands both.
    #[default]
    Accept,
    /// Sends encrypted; understands both: the peer's description has `a=cryptex`.
    Send,
    /// Sends encrypted and refuses a received packet with a header extension or contributing
    /// source in the clear.
    Require,
}

/// A set of RTP header extension identifiers, 1 to 255.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ExtensionIds([u64; 4]);

impl ExtensionIds {
    /// Adds an identifier. 0 is padding and is never a member.
    pub fn insert(&mut self, id: u8) {
        if id != 0 {
            self.0[usize::from(id / 64)] |= 1 << (id % 64);
        }
    }

    /// Whether `id` is a member.
    pub const fn contains(&self, id: u8) -> bool {
        self.0[id as usize / 64] >> (id % 64) & 1 != 0
    }

    /// Whether there is no member.
    pub fn is_empty(&self) -> bool {
        self.0 == [0; 4]
    }
}

impl FromIterator<u8> for ExtensionIds {
    fn from_iter<I: IntoIterator<Item = u8>>(ids: I) -> Self {
        let mut set = Self::default();
        ids.into_iter().for_each(|id| set.insert(id));
        set
    }
}
