//! An allocation that moves to another client address (RFC 8016).
//!
//! Tickets are random and looked up; nothing can be made of one but the allocation it was given for, and only by its user. There
//! is at most one move under way, and the allocation counts for its user until the relay itself is gone.

use std::time::Instant;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use visavis_datagram::{Path, Random};
use visavis_stun::attributes::ErrorCode;

use super::allocation::Allocation;
use super::auth::User;
use super::event::Event;
use super::worker::Server;

/// The worker's number and 136 random bits as text: unguessable, and safe with clients that take a ticket for a C string (coturn's).
pub(super) type Ticket = [u8; 24];

fn new_ticket(worker: u8, random: &mut Random) -> Ticket {
    let mut bytes = random.bytes::<18>();
    bytes[0] = worker;
    let mut ticket = [0; 24];
    // Eighteen bytes are always twenty-four characters.
    let _ = URL_SAFE_NO_PAD.encode_slice(bytes, &mut ticket);
    ticket
}

/// The worker that gave a ticket.
pub(super) fn worker_of_ticket(ticket: &[u8]) -> Option<u8> {
    let mut bytes = [0; 18];
    let written = URL_SAFE_NO_PAD.decode_slice(ticket, &mut bytes).ok()?;
    (written == bytes.len()).then_some(bytes[0])
}

#[derive(Debug)]
pub(super) struct Mobility {
    /// What the client presents when it moves.
    ticket: Ticket,
    /// The move that is under way: data on its path completes it.
    next: Option<(Path, Ticket)>,
    /// The ticket of the last completed move, for a repetition of its request.
    last: Option<Ticket>,
}

impl Mobility {
    pub(super) fn new(worker: u8, random: &mut Random) -> Self {
        Self {
            ticket: new_ticket(worker, random),
            next: None,
            last: None,
        }
    }

    /// The ticket of the allocation as it stands.
    pub(super) fn ticket(&self) -> &Ticket {
        &self.ticket
    }

    /// The ticket to tell a client that asks from `path`.
    pub(super) fn ticket_for(&self, path: Path) -> Option<&Ticket> {
        match &self.next {
            Some((next, ticket)) if *next == path => Some(ticket),
            _ => Some(&self.ticket),
        }
    }

    /// Everything that is registered for the allocation: tickets, and the path of a move.
    pub(super) fn held(&self) -> impl Iterator<Item = (Option<&Path>, &Ticket)> {
        [
            Some((None, &self.ticket)),
            self.last.as_ref().map(|t| (None, t)),
        ]
        .into_iter()
        .flatten()
        .chain(
            self.next
                .as_ref()
                .map(|(path, ticket)| (Some(path), ticket)),
        )
    }
}

impl Server {
    /// A Refresh with a ticket: from now on both paths lead to the allocation (section 3.2.2).
    pub(super) fn move_allocation(
        &mut self,
        now: Instant,
        from: Path,
        ticket: &[u8],
        user: &User,
    ) -> Result<(), ErrorCode<'static>> {
        if !self.config.mobility {
            return Err(ErrorCode::MOBILITY_FORBIDDEN);
        }
        let ticket: Ticket = ticket.try_into().map_err(|_| ErrorCode::BAD_REQUEST)?;
        let id = *self.tickets.get(&ticket).ok_or(ErrorCode::BAD_REQUEST)?;
        let allocation = self.table.get(id).ok_or(ErrorCode::ALLOCATION_MISMATCH)?;
        if allocation.username != user.name || allocation.realm != user.realm {
            return Err(ErrorCode::WRONG_CREDENTIALS);
        }
        let mobility = allocation
            .mobility
            .as_deref()
            .ok_or(ErrorCode::BAD_REQUEST)?;
        let is_next = |path: Path| mobility.next.is_some_and(|(next, _)| next == path);
        // A repetition, of the move that is under way or of the last one.
        if ticket == mobility.ticket && is_next(from)
            || mobility.last == Some(ticket) && allocation.path == from
        {
            return Ok(());
        }
        // Another allocation may have the path; and where it is the same path there is nothing to move.
        if allocation.path == from || self.by_path.contains_key(&from) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        if mobility.last == Some(ticket) {
            return Err(ErrorCode::BAD_REQUEST);
        }
        if let Some((path, next)) = mobility.next {
            if ticket == next {
                // The client moved on before it sent anything from there.
                self.complete_move(now, path);
            } else {
                self.by_path.remove(&path);
                self.tickets.remove(&next);
            }
        }
        let fresh = new_ticket(self.config.worker, &mut self.random);
        let mobility = self
            .table
            .get_mut(id)
            .and_then(|allocation| allocation.mobility.as_deref_mut());
        if let Some(mobility) = mobility {
            mobility.next = Some((from, fresh));
            self.tickets.insert(fresh, id);
            self.by_path.insert(from, id);
        }
        Ok(())
    }

    /// Whether data from a path completes a move.
    pub(super) fn is_move(allocation: &Allocation, from: Path) -> bool {
        allocation.mobility.is_some() && allocation.path != from
    }

    /// Data came on the new path: the old one is forgotten.
    pub(super) fn complete_move(&mut self, now: Instant, from: Path) {
        let Some(&id) = self.by_path.get(&from) else {
            return;
        };
        let Some(allocation) = self.table.get_mut(id) else {
            return;
        };
        let Some(mobility) = allocation.mobility.as_deref_mut() else {
            return;
        };
        let Some((path, fresh)) = mobility.next.take_if(|(path, _)| *path == from) else {
            return;
        };
        let retired = mobility.last.replace(mobility.ticket);
        mobility.ticket = fresh;
        let old = std::mem::replace(&mut allocation.path, path);
        if let Some(retired) = retired {
            self.tickets.remove(&retired);
        }
        self.by_path.remove(&old);
        self.last = None;
        if let Some(allocation) = self.table.get(id) {
            let info = self.info(now, allocation);
            self.event(Event::Moved(info));
        }
    }
}
