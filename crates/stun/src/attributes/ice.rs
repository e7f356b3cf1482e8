//! What ICE agents say in checks (RFC 8445 section 7.1, and what libwebrtc adds).

use super::simple::{bytes, flag, number};
use crate::{Attribute, AttributeType, TransactionId};

number!(
    /// PRIORITY: of the peer-reflexive candidate that the check may create (RFC 8445 section 7.1.1).
    Priority, PRIORITY, u32
);
number!(
    /// ICE-CONTROLLED: the sender's tie-breaker (RFC 8445 section 7.1.3).
    IceControlled, ICE_CONTROLLED, u64
);
number!(
    /// ICE-CONTROLLING: the sender's tie-breaker (RFC 8445 section 7.1.3).
    IceControlling, ICE_CONTROLLING, u64
);
number!(
    /// NOMINATION: the highest number wins (draft-thatcher-ice-renomination).
    Nomination, NOMINATION, u32
);
flag!(
    /// USE-CANDIDATE: the controlling agent nominates (RFC 8445 section 7.1.2).
    UseCandidate, USE_CANDIDATE
);
bytes!(
    /// META-DTLS-IN-STUN: one DTLS packet (draft-hancke-webrtc-sped).
    DtlsInStun, DTLS_IN_STUN
);

/// GOOG-NETWORK-INFO: the sender's interface, as libwebrtc tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GoogNetworkInfo {
    /// A number that changes with the interface.
    pub network_id: u16,
    /// 0 (wired) to 999; 10 Wi-Fi, 900 cellular.
    pub network_cost: u16,
}

impl Attribute<'_> for GoogNetworkInfo {
    const TYPE: AttributeType = AttributeType::GOOG_NETWORK_INFO;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let &[i0, i1, c0, c1] = value else {
            return None;
        };
        Some(Self {
            network_id: u16::from_be_bytes([i0, i1]),
            network_cost: u16::from_be_bytes([c0, c1]),
        })
    }

    fn encoded_len(&self) -> usize {
        4
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out[..2].copy_from_slice(&self.network_id.to_be_bytes());
        out[2..].copy_from_slice(&self.network_cost.to_be_bytes());
    }
}

/// GOOG-MISC-INFO: 16-bit values; the first is the GOOG-PING version that the sender speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct GoogMiscInfo {
    /// 1 or more: the sender takes GOOG-PING requests.
    pub goog_ping_version: u16,
}

impl Attribute<'_> for GoogMiscInfo {
    const TYPE: AttributeType = AttributeType::GOOG_MISC_INFO;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let (version, _) = value.split_first_chunk()?;
        Some(Self {
            goog_ping_version: u16::from_be_bytes(*version),
        })
    }

    fn encoded_len(&self) -> usize {
        2
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        out.copy_from_slice(&self.goog_ping_version.to_be_bytes());
    }
}

/// META-DTLS-IN-STUN-ACKNOWLEDGEMENT: hashes of DTLS packets that arrived, at most four. None: "I can
/// read META-DTLS-IN-STUN" (draft-hancke-webrtc-sped).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct DtlsInStunAck {
    hashes: [u32; Self::MAX],
    len: u8,
}

impl DtlsInStunAck {
    /// How many hashes the attribute carries at most.
    pub const MAX: usize = 4;

    /// The first [`MAX`](Self::MAX) of `hashes`.
    pub fn new(hashes: &[u32]) -> Self {
        let mut ack = Self::default();
        for (slot, &hash) in ack.hashes.iter_mut().zip(hashes) {
            *slot = hash;
            ack.len += 1;
        }
        ack
    }

    /// The hashes.
    pub fn hashes(&self) -> &[u32] {
        &self.hashes[..usize::from(self.len)]
    }
}

impl Attribute<'_> for DtlsInStunAck {
    const TYPE: AttributeType = AttributeType::DTLS_IN_STUN_ACK;

    fn decode(value: &[u8], _: &TransactionId) -> Option<Self> {
        let (words, rest) = value.as_chunks();
        if words.len() > Self::MAX || !rest.is_empty() {
            return None;
        }
        let mut ack = Self::default();
        for (slot, word) in ack.hashes.iter_mut().zip(words) {
            *slot = u32::from_be_bytes(*word);
            ack.len += 1;
        }
        Some(ack)
    }

    fn encoded_len(&self) -> usize {
        4 * usize::from(self.len)
    }

    fn encode(&self, out: &mut [u8], _: &TransactionId) {
        for (word, hash) in out.chunks_exact_mut(4).zip(self.hashes()) {
            word.copy_from_slice(&hash.to_be_bytes());
        }
    }
}
