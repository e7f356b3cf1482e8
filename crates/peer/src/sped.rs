//! DTLS in STUN (draft-hancke-webrtc-sped): handshake packets ride in Binding requests and responses
//! until there is a path, which saves the round trips that ICE takes.
//!
//! Two attributes: one holds a DTLS packet, the other the CRC-32 of up to four packets that arrived.
//! A peer that sends neither does not do it, and then DTLS waits for the path as usual.

use std::collections::VecDeque;
use std::time::Instant;

use visavis_dtls as dtls;
use visavis_ice::{AttributeWriter, Piggyback};

/// META-DTLS-IN-STUN: one DTLS packet.
const DATA: u16 = 0xC070;
/// META-DTLS-IN-STUN-ACKNOWLEDGEMENT: hashes of packets that arrived; empty for "none yet".
const ACKNOWLEDGEMENT: u16 = 0xC071;
/// Hashes in one acknowledgement.
const MAX_HASHES: usize = 4;
/// DTLS packets of the peer that wait to be read.
const MAX_WAITING: usize = 8;
/// The largest DTLS packet that rides along, in bytes: post-quantum flights fit in two.
pub(crate) const MTU: usize = 900;

/// Whether the peer takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Peer {
    /// Nothing was heard.
    Unknown,
    /// It sends the attributes.
    Takes,
    /// It does not, or there is a path now.
    Off,
}

/// One end's part.
#[derive(Debug)]
pub(crate) struct Sped {
    peer: Peer,
    /// The pieces of the current flight, with their hashes.
    pieces: Vec<(dtls::PieceId, u32, Vec<u8>)>,
    /// How many messages have carried pieces of the current flight.
    turn: usize,
    acknowledged: Vec<dtls::PieceId>,
    /// The latest packets that arrived, newest last.
    arrived: VecDeque<u32>,
    waiting: VecDeque<Vec<u8>>,
    /// Whether the message at hand held an attribute of ours.
    seen: bool,
}

impl Sped {
    pub(crate) fn new() -> Self {
        Self {
            peer: Peer::Unknown,
            pieces: Vec::new(),
            turn: 0,
            acknowledged: Vec::new(),
            arrived: VecDeque::new(),
            waiting: VecDeque::new(),
            seen: false,
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        self.peer != Peer::Off
    }

    pub(crate) fn turn_off(&mut self) {
        self.peer = Peer::Off;
        self.pieces.clear();
    }

    /// Follows the current flight, before a message is written.
    pub(crate) fn follow(&mut self, now: Instant, connection: &mut dtls::Connection) {
        let before = self.pieces.last().map(|(id, ..)| *id);
        self.pieces.clear();
        self.pieces.extend(connection.flight(now).map(|piece| {
            let bytes = piece.bytes.to_vec();
            (piece.id, crc32(&bytes), bytes)
        }));
        if self.pieces.last().map(|(id, ..)| *id) != before {
            self.turn = 0;
        }
    }

    /// Whether a piece of the flight has not been sent yet, so that one more message is welcome.
    pub(crate) fn wants_message(&self) -> bool {
        self.is_on() && self.turn < self.pieces.len()
    }

    /// Pieces that the peer has.
    pub(crate) fn take_acknowledged(&mut self) -> Vec<dtls::PieceId> {
        std::mem::take(&mut self.acknowledged)
    }

    /// The next DTLS packet of the peer.
    pub(crate) fn take_packet(&mut self) -> Option<Vec<u8>> {
        self.waiting.pop_front()
    }
}

impl Piggyback for Sped {
    fn outgoing(&mut self, _: Instant, _: bool, attributes: &mut AttributeWriter<'_>) {
        if !self.is_on() {
            return;
        }
        let mut hashes = [0; 4 * MAX_HASHES];
        for (place, hash) in hashes.chunks_exact_mut(4).zip(&self.arrived) {
            place.copy_from_slice(&hash.to_be_bytes());
        }
        let len = 4 * self.arrived.len().min(MAX_HASHES);
        attributes.add(ACKNOWLEDGEMENT, &hashes[..len]);
        if self.pieces.is_empty() {
            return;
        }
        let (_, _, bytes) = &self.pieces[self.turn % self.pieces.len()];
        self.turn += 1;
        if bytes.len() <= attributes.room() {
            attributes.add(DATA, bytes);
        }
    }

    fn incoming(&mut self, _: Instant, _: bool, kind: u16, value: &[u8]) {
        match kind {
            DATA => {
                self.seen = true;
                if !self.is_on() || value.is_empty() || self.waiting.len() >= MAX_WAITING {
                    return;
                }
                let hash = crc32(value);
                if !self.arrived.contains(&hash) {
                    if self.arrived.len() == MAX_HASHES {
                        self.arrived.pop_front();
                    }
                    self.arrived.push_back(hash);
                }
                self.waiting.push_back(value.to_vec());
            }
            ACKNOWLEDGEMENT => {
                self.seen = true;
                for hash in value.chunks_exact(4).take(MAX_HASHES) {
                    let hash = hash.iter().fold(0, |hash, &b| hash << 8 | u32::from(b));
                    let piece = self.pieces.iter().find(|(_, known, _)| *known == hash);
                    self.acknowledged.extend(piece.map(|(id, ..)| *id));
                }
            }
            _ => {}
        }
    }

    fn arrived(&mut self, _: Instant, _: bool) {
        let seen = std::mem::take(&mut self.seen);
        match self.peer {
            Peer::Unknown if seen => self.peer = Peer::Takes,
            Peer::Unknown => self.turn_off(),
            Peer::Takes | Peer::Off => {}
        }
    }
}

/// CRC-32 of ISO 3309, as Ethernet has it.
fn crc32(bytes: &[u8]) -> u32 {
    !bytes.iter().fold(!0, |crc: u32, &byte| {
        (0..8).fold(crc ^ u32::from(byte), |crc, _| {
            crc >> 1 ^ 0xedb8_8320 & (crc & 1).wrapping_neg()
        })
    })
}

#[cfg(test)]
mod tests {
    use super::crc32;

    /// The check value of the algorithm's catalogue entry.
    #[test]
    fn crc_32_of_the_digits() {
        assert_eq!(crc32(b"123456789"), 0xcbf4_3926);
    }
}
