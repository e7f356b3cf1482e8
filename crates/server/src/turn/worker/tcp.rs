//! TCP and TLS clients, and TCP to peers (RFC 6062).

use std::io;
use std::net::SocketAddr;
use std::ops::Range;
use std::sync::Arc;

use mio::Interest;
use mio::net::TcpStream;
use socket2::{Domain, Socket, Type};
use visavis_datagram::{Ecn, Path};
use visavis_stun::turn_frame_len;
use visavis_turn::server::Server;

use super::super::inbox::{HandedStream, Message};
use super::super::streams::{Input, Role, protocol};
use super::{RELAY_LISTENER, STREAM, TCP_LISTENER, Worker, listen, token};

/// Reads from one stream before the next has its turn.
const READS_PER_STREAM: usize = 8;
/// Streams taken from one listener before the next has its turn.
const ACCEPTS: usize = 64;
/// The longest frame in bytes, padding included.
const LONGEST: usize = 65_535;
/// The longest frame of a client without an allocation, in bytes: requests are short, and strangers fill no memory.
const LONGEST_OF_STRANGERS: usize = 8 << 10;
/// EINPROGRESS: a connection is being made.
const IN_PROGRESS: i32 = 115;

impl Worker {
    pub(super) fn accept(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some((listener, is_tls)) = self.tcp_listeners.get(index) else {
                return;
            };
            let is_tls = *is_tls;
            match listener.accept() {
                Ok((socket, remote)) => {
                    let Ok(local) = socket.local_addr() else {
                        continue;
                    };
                    if !self.streams.has_room(remote.ip()) {
                        continue;
                    }
                    let tls = match (is_tls, &self.tls) {
                        (false, _) => None,
                        (true, Some(config)) => {
                            match rustls::ServerConnection::new(Arc::clone(config)) {
                                Ok(tls) => Some(Box::new(tls)),
                                Err(_) => continue,
                            }
                        }
                        (true, None) => continue,
                    };
                    let path = Path {
                        protocol: protocol(is_tls),
                        local,
                        remote,
                    };
                    self.add_client_stream(socket, tls, path, &[]);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    // No descriptor is left, or the client is gone already.
                    tracing::debug!(%error, "cannot accept");
                    break;
                }
            }
        }
        self.ready.push(token(TCP_LISTENER, index));
    }

    pub(super) fn add_client_stream(
        &mut self,
        mut socket: TcpStream,
        tls: Option<Box<rustls::ServerConnection>>,
        path: Path,
        received: &[u8],
    ) {
        // Registered before it is stored, so that the number is known: slabs give the next free one.
        let index = self.streams.next_index();
        let interest = Interest::READABLE | Interest::WRITABLE;
        if self
            .poll
            .registry()
            .register(&mut socket, token(STREAM, index), interest)
            .is_err()
        {
            return;
        }
        let index = self.streams.add_client(self.now, socket, tls, path);
        self.streams.keep(self.now, index, received);
        self.ready.push(token(STREAM, index));
    }

    pub(super) fn read_stream(&mut self, index: usize) {
        for _ in 0..READS_PER_STREAM {
            let Some(stream) = self.streams.get(index) else {
                return;
            };
            match stream.role {
                Role::Dialling(_) | Role::Waiting(_) => return,
                Role::Client | Role::Spliced { .. } => {}
            }
            if self.exchange.free() == 0 {
                self.finish();
            }
            let Some(buffer) = self.exchange.take_buffer() else {
                return;
            };
            let Some(stream) = self.streams.get_mut(index) else {
                return;
            };
            stream.paused = false;
            let role = stream.role;
            let kept = stream.partial.len().min(buffer.len());
            self.exchange.bytes_mut()[buffer.start..buffer.start + kept]
                .copy_from_slice(&stream.partial[..kept]);
            let whole = &mut self.exchange.bytes_mut()[buffer.start + kept..buffer.end];
            let read = self.streams.read(index, whole);
            let len = match read {
                Input::Data(len) => kept + len,
                Input::Blocked if kept > 0 && self.may_have_frame(buffer.start, kept) => kept,
                Input::Blocked => return,
                Input::Closed => {
                    return self.stream_closed(index);
                }
            };
            let range = buffer.start..buffer.start + len;
            self.busy_bytes += len;
            match role {
                Role::Spliced { other, .. } => {
                    self.streams.keep(self.now, index, &[]);
                    let bytes = self.exchange.bytes(range);
                    if self.streams.pass_on(other, bytes)
                        && let Some(stream) = self.streams.get_mut(index)
                    {
                        stream.paused = true;
                        return;
                    }
                }
                _ => {
                    if !self.frames(index, range) {
                        return;
                    }
                }
            }
            if matches!(read, Input::Blocked) {
                return;
            }
        }
        self.ready.push(token(STREAM, index));
    }

    /// Whether bytes that were kept are more than the beginning of a frame: a stream that was handed over.
    pub(super) fn may_have_frame(&self, start: usize, kept: usize) -> bool {
        let bytes = self.exchange.bytes(start..start + kept);
        matches!(turn_frame_len(bytes), Ok(Some((_, whole))) if whole <= kept)
    }

    /// Takes the frames of a client's stream; false if it is a client's no more.
    pub(super) fn frames(&mut self, index: usize, range: Range<usize>) -> bool {
        let Some(path) = self.streams.get(index).map(|stream| stream.path) else {
            return false;
        };
        let mut start = range.start;
        while start < range.end {
            let (len, whole) = match turn_frame_len(self.exchange.bytes(start..range.end)) {
                Ok(Some(frame)) => frame,
                Ok(None) => break,
                Err(_) => {
                    self.streams.stats.desynchronised += 1;
                    self.quiet
                        .say(self.now, path, "no STUN message and no ChannelData");
                    self.stream_closed(index);
                    return false;
                }
            };
            let longest = match self.core.has_client(path) {
                true => LONGEST,
                false => LONGEST_OF_STRANGERS,
            };
            if whole > longest {
                self.streams.stats.oversized += 1;
                self.quiet
                    .say(self.now, path, "a frame that is too long for it");
                self.stream_closed(index);
                return false;
            }
            if start + whole > range.end {
                break;
            }
            self.datagrams += 1;
            let frame = start..start + len;
            let bytes = self.exchange.bytes(frame.clone());
            let is_bind = matches!(bytes, [0, 0x0b, ..]);
            if self.others.len() > 1
                && let Some(home) = Server::home_of(bytes)
                && home != self.number
                && !self.core.has_client(path)
            {
                let rest = self.exchange.bytes(start..range.end).to_vec();
                self.hand_stream_over(index, home, rest);
                return false;
            }
            self.take_client(path, frame, Ecn::NotEct);
            start += whole;
            if is_bind {
                self.obey();
                let spliced = self
                    .streams
                    .get(index)
                    .is_some_and(|stream| stream.role != Role::Client);
                if spliced {
                    break;
                }
            }
        }
        let rest = self.exchange.bytes(start..range.end);
        self.streams.keep(self.now, index, rest);
        true
    }

    /// A stream that speaks of something another worker gave.
    pub(super) fn hand_stream_over(&mut self, index: usize, home: u8, received: Vec<u8>) {
        let Some(mut stream) = self.streams.remove(index) else {
            return;
        };
        let Some(inbox) = self.others.get(usize::from(home)) else {
            return;
        };
        let _ = self.poll.registry().deregister(&mut stream.socket);
        self.report.handed_over += 1;
        inbox.send(Message::Stream(Box::new(HandedStream {
            tls: stream.take_tls(),
            path: stream.path,
            socket: stream.socket.into(),
            received,
        })));
    }

    pub(super) fn stream_writable(&mut self, index: usize) {
        let Some(stream) = self.streams.get_mut(index) else {
            return;
        };
        if let Role::Dialling(connection) = stream.role {
            match stream.socket.take_error() {
                Ok(None) if stream.socket.peer_addr().is_ok() => {
                    stream.role = Role::Waiting(connection);
                    self.core.peer_connected(self.now, connection);
                }
                Ok(None) => {}
                _ => {
                    self.streams.remove(index);
                    self.core.peer_connect_failed(connection);
                }
            }
            return;
        }
        self.streams.writable(index);
    }

    pub(super) fn flush_streams(&mut self) {
        let mut closed = Vec::new();
        let ready = &mut self.ready;
        self.streams.flush(
            self.now,
            |index| closed.push(index),
            |index| ready.push(token(STREAM, index)),
        );
        for index in closed {
            self.stream_gone(index);
        }
    }

    /// A stream's other end is silent from now on.
    pub(super) fn stream_closed(&mut self, index: usize) {
        match self.streams.get(index).map(|stream| stream.role) {
            // What it sent before is still passed on.
            Some(Role::Spliced { other, .. }) => {
                self.streams.close_after_writing(other);
                self.stream_gone(index);
            }
            _ => self.stream_gone(index),
        }
    }

    pub(super) fn stream_gone(&mut self, index: usize) {
        let Some(stream) = self.streams.remove(index) else {
            return;
        };
        match stream.role {
            Role::Client => self.core.client_gone(self.now, stream.path),
            Role::Dialling(connection) => self.core.peer_connect_failed(connection),
            Role::Waiting(connection) => self.core.peer_gone(connection),
            Role::Spliced { connection, other } => {
                self.core.peer_gone(connection);
                self.streams.close_after_writing(other);
            }
        }
    }

    pub(super) fn listen_for_peers(&mut self, relay: SocketAddr) -> io::Result<()> {
        let mut listener = listen(relay)?;
        let entry = self.relay_listeners.vacant_entry();
        self.poll.registry().register(
            &mut listener,
            token(RELAY_LISTENER, entry.key()),
            Interest::READABLE,
        )?;
        entry.insert((listener, relay));
        Ok(())
    }

    pub(super) fn accept_peers(&mut self, index: usize) {
        for _ in 0..ACCEPTS {
            let Some((listener, relay)) = self.relay_listeners.get(index) else {
                return;
            };
            let relay = *relay;
            match listener.accept() {
                Ok((socket, peer)) => {
                    if let Some(connection) = self.core.peer_accepted(self.now, relay, peer) {
                        self.add_peer_stream(socket, relay, peer, Role::Waiting(connection));
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
        self.ready.push(token(RELAY_LISTENER, index));
    }

    pub(super) fn dial(
        &mut self,
        relay: SocketAddr,
        peer: SocketAddr,
        connection: u32,
    ) -> io::Result<()> {
        let kind = Type::STREAM.nonblocking().cloexec();
        let socket = Socket::new_raw(Domain::for_address(peer), kind, None)?;
        // The relay listens on the same address.
        socket.set_reuse_address(true)?;
        socket.set_reuse_port(true)?;
        socket.bind(&relay.into())?;
        match socket.connect(&peer.into()) {
            Err(error)
                if error.kind() != io::ErrorKind::WouldBlock
                    && error.raw_os_error() != Some(IN_PROGRESS) =>
            {
                return Err(error);
            }
            _ => {}
        }
        let socket = TcpStream::from_std(socket.into());
        self.add_peer_stream(socket, relay, peer, Role::Dialling(connection));
        Ok(())
    }

    pub(super) fn add_peer_stream(
        &mut self,
        mut socket: TcpStream,
        relay: SocketAddr,
        peer: SocketAddr,
        role: Role,
    ) {
        let which = token(STREAM, self.streams.next_index());
        let interest = Interest::READABLE | Interest::WRITABLE;
        let registered = self.poll.registry().register(&mut socket, which, interest);
        if registered.is_ok() {
            self.streams.add_peer(self.now, socket, relay, peer, role);
        }
    }
}
