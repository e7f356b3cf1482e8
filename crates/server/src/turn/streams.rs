//! TCP: clients over TCP and TLS, and the peers of RFC 6062. Sockets, TLS, and what waits to be written; what the bytes mean is
//! the worker's business.

use std::collections::HashMap;
use std::io::{self, Read, Write};
use std::net::{IpAddr, Shutdown, SocketAddr};
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use rustls::ServerConnection;
use slab::Slab;
use visavis_datagram::{Path, Protocol};
use visavis_stun::turn_frame_len;

use super::deadlines::Deadlines;
use super::network_of;

/// How long a client has for the TLS handshake.
const HANDSHAKE_PATIENCE: Duration = Duration::from_secs(10);
/// How long a client may stay without an allocation, and how long it may take for the rest of a frame.
const IDLE_PATIENCE: Duration = Duration::from_secs(30);
/// How often a client that has one is looked at.
const LOOK: Duration = Duration::from_secs(60);
/// How long a stream may take none of what waits for it.
const STUCK_PATIENCE: Duration = Duration::from_secs(10);
/// A spliced stream is not read from while so many bytes wait to be written to the other.
const SPLICE_WAITING: usize = 128 << 10;
/// Bytes of a spliced stream that are encrypted at once.
const TLS_CHUNK: usize = 16 << 10;

/// What a stream is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    /// A client that sends STUN messages and ChannelData.
    Client,
    /// A peer's connection (RFC 6062) that is being made.
    Dialling(u32),
    /// A peer's connection that no client has fetched: nothing is read from it.
    Waiting(u32),
    /// Spliced to another stream.
    Spliced { connection: u32, other: usize },
}

/// One stream.
pub(super) struct Stream {
    pub(super) socket: TcpStream,
    tls: Option<Box<ServerConnection>>,
    pub(super) path: Path,
    pub(super) role: Role,
    /// The beginning of a frame whose rest has not come.
    pub(super) partial: Vec<u8>,
    partial_since: Option<Instant>,
    out: Vec<u8>,
    written: usize,
    stuck_since: Option<Instant>,
    dirty: bool,
    /// The other side of a splice is full: this one was not read to the end.
    pub(super) paused: bool,
    /// No byte more will come; what waits is still written.
    closing: bool,
    generation: u32,
    since: Instant,
}

/// What reading gave.
pub(super) enum Input {
    Data(usize),
    Blocked,
    Closed,
}

/// What became of a stream that was looked at.
pub(super) enum Look {
    Fine,
    TooLate,
}

/// Bounds on streams.
#[derive(Debug, Clone, Copy)]
pub(super) struct StreamLimits {
    /// Streams in all.
    pub(super) streams: usize,
    /// Streams of one client address.
    pub(super) per_address: usize,
    /// Bytes that wait to be written to one stream.
    pub(super) waiting: usize,
}

/// What was counted.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct StreamStats {
    pub(super) accepted: u64,
    pub(super) refused: u64,
    pub(super) tls_failures: u64,
    pub(super) desynchronised: u64,
    pub(super) oversized: u64,
    pub(super) too_slow: u64,
    pub(super) dropped: u64,
}

pub(super) struct Streams {
    slots: Slab<Stream>,
    by_path: HashMap<Path, usize>,
    by_connection: HashMap<u32, usize>,
    per_address: HashMap<IpAddr, usize>,
    dirty: Vec<usize>,
    deadlines: Deadlines,
    generation: u32,
    pub(super) limits: StreamLimits,
    pub(super) stats: StreamStats,
}

impl Streams {
    pub(super) fn new(limits: StreamLimits) -> Self {
        Self {
            slots: Slab::new(),
            by_path: HashMap::new(),
            by_connection: HashMap::new(),
            per_address: HashMap::new(),
            dirty: Vec::new(),
            deadlines: Deadlines::default(),
            generation: 0,
            limits,
            stats: StreamStats::default(),
        }
    }

    /// The number that the next stream gets.
    pub(super) fn next_index(&self) -> usize {
        self.slots.vacant_key()
    }

    pub(super) fn len(&self) -> usize {
        self.slots.len()
    }

    /// Whether one stream more from an address may come.
    pub(super) fn has_room(&mut self, ip: IpAddr) -> bool {
        let key = network_of(ip);
        let of_address = self.per_address.get(&key).copied().unwrap_or(0);
        let room = self.slots.len() < self.limits.streams && of_address < self.limits.per_address;
        self.stats.refused += u64::from(!room);
        room
    }

    /// Takes a client's stream.
    pub(super) fn add_client(
        &mut self,
        now: Instant,
        socket: TcpStream,
        tls: Option<Box<ServerConnection>>,
        path: Path,
    ) -> usize {
        self.stats.accepted += 1;
        *self
            .per_address
            .entry(network_of(path.remote.ip()))
            .or_default() += 1;
        let patience = match &tls {
            Some(tls) if tls.is_handshaking() => HANDSHAKE_PATIENCE,
            _ => IDLE_PATIENCE,
        };
        let index = self.add(now, socket, tls, path, Role::Client);
        self.by_path.insert(path, index);
        self.look_at(now + patience, index);
        index
    }

    /// Takes a peer's stream.
    pub(super) fn add_peer(
        &mut self,
        now: Instant,
        socket: TcpStream,
        local: SocketAddr,
        remote: SocketAddr,
        role: Role,
    ) -> usize {
        let index = self.add(now, socket, None, Path::tcp(local, remote), role);
        if let Role::Dialling(connection) | Role::Waiting(connection) = role {
            self.by_connection.insert(connection, index);
        }
        index
    }

    fn add(
        &mut self,
        now: Instant,
        socket: TcpStream,
        tls: Option<Box<ServerConnection>>,
        path: Path,
        role: Role,
    ) -> usize {
        let _ = socket.set_nodelay(true);
        self.generation = self.generation.wrapping_add(1);
        self.slots.insert(Stream {
            socket,
            tls,
            path,
            role,
            partial: Vec::new(),
            partial_since: None,
            out: Vec::new(),
            written: 0,
            stuck_since: None,
            dirty: false,
            paused: false,
            closing: false,
            generation: self.generation,
            since: now,
        })
    }

    pub(super) fn get(&self, index: usize) -> Option<&Stream> {
        self.slots.get(index)
    }

    pub(super) fn get_mut(&mut self, index: usize) -> Option<&mut Stream> {
        self.slots.get_mut(index)
    }

    pub(super) fn of_client(&self, path: Path) -> Option<usize> {
        self.by_path.get(&path).copied()
    }

    /// The host that a client over TLS asked for.
    pub(super) fn host(&self, path: Path) -> Option<&str> {
        if path.protocol != Protocol::Tls {
            return None;
        }
        let stream = self.slots.get(self.of_client(path)?)?;
        stream.tls.as_ref()?.server_name()
    }

    pub(super) fn of_connection(&self, connection: u32) -> Option<usize> {
        self.by_connection.get(&connection).copied()
    }

    /// Joins a client's stream and a peer's; false if either is gone.
    pub(super) fn splice(&mut self, client: Path, connection: u32) -> Option<(usize, usize)> {
        let near = self.of_client(client)?;
        let far = self.of_connection(connection)?;
        self.slots[near].role = Role::Spliced {
            connection,
            other: far,
        };
        self.slots[far].role = Role::Spliced {
            connection,
            other: near,
        };
        Some((near, far))
    }

    /// Takes a stream out.
    pub(super) fn remove(&mut self, index: usize) -> Option<Stream> {
        let stream = self.slots.try_remove(index)?;
        if self.by_path.get(&stream.path) == Some(&index) {
            self.by_path.remove(&stream.path);
            let key = network_of(stream.path.remote.ip());
            if let Some(count) = self.per_address.get_mut(&key) {
                *count -= 1;
                if *count == 0 {
                    self.per_address.remove(&key);
                }
            }
        }
        if let Role::Dialling(connection)
        | Role::Waiting(connection)
        | Role::Spliced { connection, .. } = stream.role
            && self.by_connection.get(&connection) == Some(&index)
        {
            self.by_connection.remove(&connection);
        }
        Some(stream)
    }

    /// Reads what is there, decrypted, up to the size of the buffer.
    pub(super) fn read(&mut self, index: usize, buffer: &mut [u8]) -> Input {
        let Some(stream) = self.slots.get_mut(index) else {
            return Input::Closed;
        };
        let Some(tls) = &mut stream.tls else {
            loop {
                return match stream.socket.read(buffer) {
                    Ok(0) => Input::Closed,
                    Ok(len) => Input::Data(len),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => Input::Blocked,
                    Err(_) => Input::Closed,
                };
            }
        };
        loop {
            match tls.reader().read(buffer) {
                Ok(0) => return Input::Closed,
                Ok(len) => return Input::Data(len),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(_) => return Input::Closed,
            }
            match tls.read_tls(&mut stream.socket) {
                Ok(0) => return Input::Closed,
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Input::Blocked,
                Err(_) => return Input::Closed,
            }
            let processed = tls.process_new_packets();
            if tls.wants_write() && !stream.dirty {
                stream.dirty = true;
                self.dirty.push(index);
            }
            if processed.is_err() {
                self.stats.tls_failures += 1;
                // The alert says why.
                let _ = tls.write_tls(&mut stream.socket);
                return Input::Closed;
            }
        }
    }

    /// Keeps the beginning of a frame.
    pub(super) fn keep(&mut self, now: Instant, index: usize, rest: &[u8]) {
        let Some(stream) = self.slots.get_mut(index) else {
            return;
        };
        stream.partial.clear();
        if rest.is_empty() {
            // An idle stream holds no memory.
            stream.partial = Vec::new();
            stream.partial_since = None;
            return;
        }
        stream.partial.extend_from_slice(rest);
        if stream.partial_since.is_none() {
            stream.partial_since = Some(now);
            self.look_at(now + IDLE_PATIENCE, index);
        }
    }

    /// Queues a frame for a client. What does not fit is dropped, as a router drops what its queue has no room for: data
    /// that comes late is worth nothing, and the queue is bounded.
    pub(super) fn send(&mut self, path: Path, header: &[u8], body: &[u8], padding: usize) {
        let Some(&index) = self.by_path.get(&path) else {
            return;
        };
        let limit = self.limits.waiting;
        let stream = &mut self.slots[index];
        if stream.role != Role::Client
            || stream.out.len() - stream.written + header.len() + body.len() > limit
        {
            self.stats.dropped += 1;
            return;
        }
        stream.out.extend_from_slice(header);
        stream.out.extend_from_slice(body);
        stream.out.extend_from_slice(&[0; 3][..padding.min(3)]);
        self.touch(index);
    }

    /// Queues bytes for a spliced stream; true if no more should come for now.
    pub(super) fn pass_on(&mut self, index: usize, bytes: &[u8]) -> bool {
        let Some(stream) = self.slots.get_mut(index) else {
            return false;
        };
        stream.out.extend_from_slice(bytes);
        let full = stream.out.len() - stream.written > SPLICE_WAITING;
        self.touch(index);
        full
    }

    fn touch(&mut self, index: usize) {
        let stream = &mut self.slots[index];
        if !stream.dirty {
            stream.dirty = true;
            self.dirty.push(index);
        }
    }

    /// Writes what waits, after a socket became writable.
    pub(super) fn writable(&mut self, index: usize) {
        if self.slots.contains(index) {
            self.touch(index);
        }
    }

    /// Lets what waits be written, then closes.
    pub(super) fn close_after_writing(&mut self, index: usize) {
        if let Some(stream) = self.slots.get_mut(index) {
            stream.closing = true;
            self.touch(index);
        }
    }

    /// Writes to every stream for which something waits. Calls `closed` for those that are over, and `drained` for
    /// streams whose splice can go on reading from the other.
    pub(super) fn flush(
        &mut self,
        now: Instant,
        mut closed: impl FnMut(usize),
        mut drained: impl FnMut(usize),
    ) {
        let mut at = 0;
        while at < self.dirty.len() {
            let index = self.dirty[at];
            at += 1;
            let Some(stream) = self.slots.get_mut(index) else {
                continue;
            };
            stream.dirty = false;
            if matches!(stream.role, Role::Dialling(_)) {
                continue;
            }
            let before = stream.written;
            let result = stream.write();
            let waiting = stream.waits();
            if result.is_err() || !waiting && stream.closing {
                if stream.closing {
                    if let Some(tls) = &mut stream.tls {
                        tls.send_close_notify();
                        let _ = tls.write_tls(&mut stream.socket);
                    }
                    let _ = stream.socket.shutdown(Shutdown::Write);
                }
                closed(index);
                continue;
            }
            if !waiting {
                stream.stuck_since = None;
            } else if stream.stuck_since.is_none() || stream.written != before {
                let was = stream.stuck_since.replace(now);
                if was.is_none() {
                    self.look_at(now + STUCK_PATIENCE, index);
                }
            }
            let stream = &self.slots[index];
            if let Role::Spliced { other, .. } = stream.role
                && stream.out.len() - stream.written <= SPLICE_WAITING / 2
                && self.slots.get(other).is_some_and(|other| other.paused)
            {
                drained(other);
            }
        }
        self.dirty.clear();
    }

    fn look_at(&mut self, at: Instant, index: usize) {
        let generation = self.slots[index].generation;
        self.deadlines
            .add(at, u64::from(generation) << 32 | index as u64);
    }

    pub(super) fn next_deadline(&self) -> Option<Instant> {
        self.deadlines.next()
    }

    /// A stream that is due to be looked at.
    pub(super) fn pop_due(&mut self, now: Instant) -> Option<usize> {
        loop {
            let who = self.deadlines.pop(now)?;
            let index = (who & 0xffff_ffff) as usize;
            if self
                .slots
                .get(index)
                .is_some_and(|stream| u64::from(stream.generation) == who >> 32)
            {
                return Some(index);
            }
        }
    }

    /// Looks whether a stream took too long for something.
    pub(super) fn look(&mut self, now: Instant, index: usize, has_allocation: bool) -> Look {
        let Some(stream) = self.slots.get(index) else {
            return Look::Fine;
        };
        let over = |since: Option<Instant>, patience: Duration| {
            since.is_some_and(|since| now.saturating_duration_since(since) >= patience)
        };
        let handshaking = stream.tls.as_ref().is_some_and(|tls| tls.is_handshaking());
        let idle = stream.role == Role::Client && !has_allocation;
        let too_late = handshaking && over(Some(stream.since), HANDSHAKE_PATIENCE)
            || idle && over(Some(stream.since), IDLE_PATIENCE)
            || over(stream.partial_since, IDLE_PATIENCE)
            || over(stream.stuck_since, STUCK_PATIENCE);
        if too_late {
            self.stats.too_slow += 1;
            return Look::TooLate;
        }
        let next = [
            stream.partial_since.map(|since| since + IDLE_PATIENCE),
            stream.stuck_since.map(|since| since + STUCK_PATIENCE),
            idle.then(|| stream.since + IDLE_PATIENCE),
            Some(now + LOOK),
        ];
        if let Some(at) = next.into_iter().flatten().min() {
            self.look_at(at, index);
        }
        Look::Fine
    }

    pub(super) fn indices(&self) -> Vec<usize> {
        self.slots.iter().map(|(index, _)| index).collect()
    }
}

impl Stream {
    /// The TLS state, for another worker.
    pub(super) fn take_tls(&mut self) -> Option<Box<ServerConnection>> {
        self.tls.take()
    }

    fn waits(&self) -> bool {
        self.written < self.out.len() || self.tls.as_ref().is_some_and(|tls| tls.wants_write())
    }

    fn write(&mut self) -> io::Result<()> {
        let result = self.write_some();
        if self.written == self.out.len() {
            self.out.clear();
            self.written = 0;
            // A burst leaves no memory behind.
            if self.out.capacity() > 64 << 10 {
                self.out = Vec::new();
            }
        } else if self.written > 64 << 10 {
            self.out.drain(..self.written);
            self.written = 0;
        }
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
            result => result,
        }
    }

    fn write_some(&mut self) -> io::Result<()> {
        loop {
            let result = match &mut self.tls {
                None if self.written == self.out.len() => return Ok(()),
                None => self
                    .socket
                    .write(&self.out[self.written..])
                    .inspect(|len| self.written += len),
                Some(tls) if tls.wants_write() => tls.write_tls(&mut self.socket),
                Some(_) if self.written == self.out.len() => return Ok(()),
                Some(tls) => {
                    let end = self.written + tls_chunk(self.role, &self.out[self.written..]);
                    tls.writer()
                        .write(&self.out[self.written..end])
                        .inspect(|len| self.written += len)
                }
            };
            match result {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How many of the bytes go into the next record. A frame has one for itself: clients that take a record for a message
/// (coturn's) would lose the others.
fn tls_chunk(role: Role, bytes: &[u8]) -> usize {
    let whole = match (role, turn_frame_len(bytes)) {
        (Role::Client, Ok(Some((_, whole)))) => whole,
        _ => TLS_CHUNK,
    };
    whole.min(bytes.len())
}

/// The protocol of a path over TCP.
pub(super) const fn protocol(has_tls: bool) -> Protocol {
    if has_tls {
        Protocol::Tls
    } else {
        Protocol::Tcp
    }
}
