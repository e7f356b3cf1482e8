//! A simple reliable byte stream: what the events and commands are, and each host's connections.

use std::net::SocketAddr;

use visavis_datagram::Path;

use crate::Payload;
use crate::connection::{Connection, Emit};
use crate::hash::Table;

/// What happened to a TCP connection; the [`Path`] beside it says which.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpEvent {
    /// A connection that this host opened stands.
    Connected,
    /// A connection to a listening address of this host stands.
    Accepted,
    /// The peer refused the connection (RST).
    Refused,
    /// The peer does not answer.
    TimedOut,
    /// Bytes, in order. They come in pieces of any size.
    Data(Payload),
    /// The peer will send no more (FIN).
    Finished,
    /// The peer reset the connection.
    Reset,
}

/// What is to be done with TCP on a host.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum TcpCommand {
    /// Accept connections at this address, until [`Unlisten`](Self::Unlisten).
    Listen(SocketAddr),
    /// Accept no more connections at this address.
    Unlisten(SocketAddr),
    /// Connect from the path's local address (port 0 is not replaced: choose one) to its remote one.
    Connect(Path),
    /// Send bytes, which wait until the connection stands. All of them are taken.
    Write(Path, Vec<u8>),
    /// Send no more, once everything written is sent.
    Close(Path),
    /// Forget the connection and reset the peer's end.
    Reset(Path),
}

pub(crate) const SYN: u8 = 1;
pub(crate) const ACK: u8 = 2;
pub(crate) const FIN: u8 = 4;
pub(crate) const RST: u8 = 8;

/// A segment's header. Sequence numbers do not wrap: SYN is byte 0 of a stream.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Segment {
    pub(crate) flags: u8,
    pub(crate) sequence: u64,
    pub(crate) acknowledgement: u64,
    /// Up to three ranges beyond the acknowledgement that have arrived (RFC 2018).
    pub(crate) sack: [(u64, u64); 3],
}

/// The TCP of one host.
#[derive(Debug, Default)]
pub(crate) struct Stack {
    connections: Vec<Option<Connection>>,
    free: Vec<usize>,
    index: Table<(SocketAddr, SocketAddr), usize>,
    listening: Vec<SocketAddr>,
    /// Counts connections, so that a timer of a forgotten one is known as such.
    made: u32,
}

/// Names a connection's timer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TimerId {
    pub(crate) slot: u32,
    pub(crate) made: u32,
}

impl Stack {
    pub(crate) fn command(&mut self, now: u64, command: TcpCommand, out: &mut Vec<Emit>) {
        match command {
            TcpCommand::Listen(address) => {
                if !self.listening.contains(&address) {
                    self.listening.push(address);
                }
            }
            TcpCommand::Unlisten(address) => self.listening.retain(|listen| *listen != address),
            TcpCommand::Connect(path) => {
                if !self.index.contains_key(&(path.local, path.remote)) {
                    let slot = self.add(path.local, path.remote);
                    if let Some(connection) = &mut self.connections[slot] {
                        connection.connect(now, out);
                    }
                    self.settle(slot, out);
                }
            }
            TcpCommand::Write(path, bytes) => self.with(path, out, |connection, out| {
                connection.write(now, &bytes, out);
            }),
            TcpCommand::Close(path) => {
                self.with(path, out, |connection, out| connection.close(now, out));
            }
            TcpCommand::Reset(path) => {
                self.with(path, out, |connection, out| connection.reset(out));
            }
        }
    }

    pub(crate) fn segment(
        &mut self,
        now: u64,
        local: SocketAddr,
        remote: SocketAddr,
        segment: Segment,
        payload: &[u8],
        out: &mut Vec<Emit>,
    ) {
        let slot = match self.index.get(&(local, remote)) {
            Some(&slot) => slot,
            None => {
                let opens = segment.flags & (SYN | ACK | RST) == SYN;
                let any = |listen: &&SocketAddr| {
                    listen.port() == local.port()
                        && (listen.ip() == local.ip() || listen.ip().is_unspecified())
                };
                if !opens || self.listening.iter().find(any).is_none() {
                    if segment.flags & RST == 0 {
                        out.push(Emit::Segment {
                            local,
                            remote,
                            segment: Segment {
                                flags: RST | ACK,
                                sequence: segment.acknowledgement,
                                acknowledgement: segment.sequence + 1,
                                ..Segment::default()
                            },
                            range: None,
                        });
                    }
                    return;
                }
                let slot = self.add(local, remote);
                if let Some(connection) = &mut self.connections[slot] {
                    connection.accept();
                }
                slot
            }
        };
        if let Some(connection) = &mut self.connections[slot] {
            connection.segment(now, segment, payload, out);
        }
        self.settle(slot, out);
    }

    pub(crate) fn timeout(&mut self, now: u64, timer: TimerId, out: &mut Vec<Emit>) {
        let slot = timer.slot as usize;
        match self.connections.get_mut(slot) {
            Some(Some(connection)) if connection.made == timer.made => {
                connection.timeout(now, out);
            }
            _ => return,
        }
        self.settle(slot, out);
    }

    /// The bytes of a segment that is about to leave.
    pub(crate) fn bytes(&self, local: SocketAddr, remote: SocketAddr, range: (u64, u64)) -> &[u8] {
        self.index
            .get(&(local, remote))
            .and_then(|&slot| self.connections[slot].as_ref())
            .map_or(&[], |connection| connection.bytes(range))
    }

    /// Bytes that were written and not yet acknowledged.
    pub(crate) fn unacknowledged(&self, path: Path) -> Option<usize> {
        let slot = *self.index.get(&(path.local, path.remote))?;
        Some(self.connections[slot].as_ref()?.unacknowledged())
    }

    fn add(&mut self, local: SocketAddr, remote: SocketAddr) -> usize {
        self.made = self.made.wrapping_add(1);
        let slot = self.free.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.connections.len() - 1
        });
        self.connections[slot] = Some(Connection::new(local, remote, self.made));
        self.index.insert((local, remote), slot);
        slot
    }

    fn with(
        &mut self,
        path: Path,
        out: &mut Vec<Emit>,
        act: impl FnOnce(&mut Connection, &mut Vec<Emit>),
    ) {
        let Some(&slot) = self.index.get(&(path.local, path.remote)) else {
            return;
        };
        if let Some(connection) = &mut self.connections[slot] {
            act(connection, out);
        }
        self.settle(slot, out);
    }

    /// Sees to the connection's timer, and forgets it once it is over.
    fn settle(&mut self, slot: usize, out: &mut Vec<Emit>) {
        let Some(connection) = &mut self.connections[slot] else {
            return;
        };
        if connection.is_over() {
            let key = (connection.local, connection.remote);
            self.index.remove(&key);
            self.connections[slot] = None;
            self.free.push(slot);
            return;
        }
        if let Some(at) = connection.take_timer() {
            let timer = TimerId {
                slot: slot as u32,
                made: connection.made,
            };
            out.push(Emit::Timer { at, timer });
        }
    }
}
