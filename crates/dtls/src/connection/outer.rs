//! Flights that something else carries: DTLS in STUN (draft-hancke-webrtc-sped).

use std::time::Instant;

use super::{Connection, Phase};
use crate::record::RecordNumber;

/// Which piece of a flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PieceId(u32);

/// A datagram-sized piece of the current flight.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FlightPiece<'a> {
    /// Its name for [`Connection::flight_acknowledged`].
    pub id: PieceId,
    /// Whole DTLS records: the same bytes each time, so that a carrier can name them by a hash.
    pub bytes: &'a [u8],
}

/// The pieces of the current flight, as far as somebody asked for them.
#[derive(Debug, Default)]
pub(super) struct OuterCarrier {
    active: bool,
    pieces: Vec<Piece>,
    /// Whether the pieces are those of the current flight.
    current: bool,
    next_id: u32,
}

#[derive(Debug)]
struct Piece {
    id: PieceId,
    bytes: Vec<u8>,
    numbers: Vec<RecordNumber>,
    acknowledged: bool,
}

impl OuterCarrier {
    pub(super) fn carries_flights(&self) -> bool {
        self.active
    }

    pub(super) fn flight_changed(&mut self) {
        self.pieces.clear();
        self.current = false;
    }
}

impl Connection {
    /// Whether an outer carrier takes the handshake flights: `poll_transmit` then leaves them out,
    /// and no timeout sends them again. ACKs and alerts still leave by `poll_transmit`.
    pub fn set_outer_carrier(&mut self, outer: bool) {
        if self.outer.active && !outer && !self.flight.is_empty() && !self.flight.is_acknowledged()
        {
            self.flight.resend(false);
        }
        if outer {
            self.timers.retransmit = None;
        }
        self.outer.active = outer;
    }

    /// The datagram-sized pieces of the current flight that are not acknowledged yet, each of at
    /// most [`set_mtu`](Self::set_mtu)'s bytes.
    pub fn flight(&mut self, now: Instant) -> impl Iterator<Item = FlightPiece<'_>> {
        if self.phase != Phase::Closed && !self.outer.current {
            self.outer.current = true;
            self.write_pieces(now);
        }
        self.outer
            .pieces
            .iter()
            .filter(|piece| !piece.acknowledged)
            .map(|piece| FlightPiece {
                id: piece.id,
                bytes: &piece.bytes,
            })
    }

    /// The outer carrier knows that a piece of the flight arrived. Other pieces' names are ignored.
    pub fn flight_acknowledged(&mut self, now: Instant, piece: PieceId) {
        let Some(piece) = self.outer.pieces.iter_mut().find(|known| known.id == piece) else {
            return;
        };
        piece.acknowledged = true;
        for number in std::mem::take(&mut piece.numbers) {
            self.flight.acknowledge(number);
        }
        if !self.flight.is_empty() && self.flight.is_acknowledged() {
            self.timers.retransmit = None;
            self.flight_complete(now);
        }
    }

    fn write_pieces(&mut self, now: Instant) {
        if self.flight.is_empty() || self.flight.is_acknowledged() {
            return;
        }
        if !self.flight.is_sending() {
            self.flight.resend(false);
        }
        loop {
            let mut bytes = Vec::new();
            let known = self.flight.sent_len();
            // Pieces must all be known until they are acknowledged.
            if !self
                .flight
                .write_datagram(now, &mut self.records, self.mtu, usize::MAX, &mut bytes)
            {
                break;
            }
            self.outer.pieces.push(Piece {
                id: PieceId(self.outer.next_id),
                bytes,
                numbers: self.flight.sent_since(known),
                acknowledged: false,
            });
            self.outer.next_id = self.outer.next_id.wrapping_add(1);
        }
    }
}
