//! One worker: a thread with sockets, allocations and timers of its own. Nothing on the path of a packet is locked,
//! allocated or copied.
//!
//! A pass: wait for sockets that are ready, receive, let the core say where each datagram goes, send all of it. What the
//! core wants done (open and close relays, answers) is done between receiving and sending.

mod dtls;
mod tcp;
mod udp;

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use visavis_datagram::{Ecn, Path, Protocol, Random, TransmitBuf};
use visavis_net::direct::{DirectOptions, DirectSocket, Exchange, Full, Incoming};
use visavis_turn::server::{Command, RelayKind, Server, ServerConfig};

use super::control::Events as ControlEvents;
use super::dtls::Dtls;
use super::gather::Gather;
use super::inbox::{HandedStream, Inbox, Message, Reloaded, Report, stream_path};
use super::quiet::Quiet;
use super::relays::Relays;
use super::service::unix_time;
use super::streams::{Look, Role, StreamLimits, Streams};

/// Buffers of 64 KiB that one pass receives into before it sends.
const BUFFERS: usize = 64;
/// How many of them one socket fills before the next has its turn.
const BUFFERS_PER_SOCKET: usize = 32;
/// Kernel memory for what one relay socket has received: calls, not floods.
const RELAY_BUFFER: usize = 512 << 10;
/// Clients whose datagrams are handed to another worker.
const MOST_FOREIGN: usize = 4096;
/// How long a silent one of them is remembered.
const FOREIGN_PATIENCE: Duration = Duration::from_secs(900);
/// How often receive buffers are sized and silent foreigners forgotten.
const HOUSEKEEPING: Duration = Duration::from_secs(1);

const WAKER: usize = 0;
const LISTENER: usize = 1;
const RELAY: usize = 2;
const TCP_LISTENER: usize = 3;
const STREAM: usize = 4;
const RELAY_LISTENER: usize = 5;
/// Kinds stand in the low bits, indices above.
const KINDS: usize = 8;

const fn token(kind: usize, index: usize) -> Token {
    Token(index * KINDS + kind)
}

/// How a worker is set up.
pub(super) struct Setup {
    pub(super) core: ServerConfig,
    /// Where UDP and DTLS clients come to.
    pub(super) udp: Vec<SocketAddr>,
    /// Where TCP clients come to, and whether over TLS alone.
    pub(super) tcp: Vec<(SocketAddr, bool)>,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) dtls: Option<Arc<visavis_dtls::Config>>,
    pub(super) limits: StreamLimits,
    pub(super) gather: Duration,
    pub(super) offload: bool,
    /// How long a packet may wait in the socket's buffer.
    pub(super) queue: Duration,
    pub(super) redact: bool,
    pub(super) unix_time: u64,
    pub(super) started: Instant,
    pub(super) random: Random,
}

pub(super) struct Worker {
    number: u8,
    poll: Poll,
    core: Server,
    exchange: Exchange,
    listeners: Vec<DirectSocket>,
    tcp_listeners: Vec<(TcpListener, bool)>,
    relays: Relays,
    /// TCP relays (RFC 6062) that peers connect to.
    relay_listeners: slab::Slab<(TcpListener, SocketAddr)>,
    streams: Streams,
    dtls: Dtls,
    tls: Option<Arc<rustls::ServerConfig>>,
    inbox: Arc<Inbox>,
    others: Vec<Arc<Inbox>>,
    foreign: HashMap<Path, (u8, Instant)>,
    events: ControlEvents,
    gather: Gather,
    ready: Vec<Token>,
    messages: Vec<Message>,
    incoming: Vec<Incoming>,
    out: TransmitBuf,
    deadline: Option<Instant>,
    quiet: Quiet,
    queue: Duration,
    housekeeping: Instant,
    /// When the wall clock was read last: it may be corrected while the service runs.
    clock: Instant,
    busy: Duration,
    busy_bytes: usize,
    receive_buffer: usize,
    datagrams: usize,
    report: Report,
    now: Instant,
    stopped: bool,
}

impl Worker {
    /// Binds every socket, so that faults are known before anybody is told that the service runs.
    pub(super) fn new(
        number: u8,
        poll: Poll,
        inbox: Arc<Inbox>,
        setup: Setup,
        events: ControlEvents,
    ) -> io::Result<Self> {
        let Setup {
            core,
            udp,
            tcp,
            tls,
            dtls,
            limits,
            gather,
            offload,
            queue,
            redact,
            unix_time,
            started,
            mut random,
        } = setup;
        let receive_buffer = 1 << 20;
        let mut options = DirectOptions::default();
        options.reuse_port = true;
        options.receive_buffer = receive_buffer;
        options.send_buffer = 4 << 20;
        let registry = poll.registry();
        let mut listeners = Vec::new();
        for address in udp {
            let socket = DirectSocket::bind(address, &options).map_err(at(address))?;
            let readable = Interest::READABLE;
            let which = token(LISTENER, listeners.len());
            SourceFd(&socket.as_raw_fd()).register(registry, which, readable)?;
            listeners.push(socket);
        }
        let mut tcp_listeners = Vec::new();
        for (address, is_tls) in tcp {
            let mut listener = listen(address).map_err(at(address))?;
            let which = token(TCP_LISTENER, tcp_listeners.len());
            registry.register(&mut listener, which, Interest::READABLE)?;
            tcp_listeners.push((listener, is_tls));
        }
        let relay_ips = core.relays.iter().map(|relay| relay.bind);
        let relays = Relays::new(relay_ips, &core.ports);
        let dtls = Dtls::new(
            started,
            dtls,
            limits.streams,
            limits.per_address,
            random.fork(),
        );
        Ok(Self {
            number,
            core: Server::new(started, unix_time, core, random),
            exchange: Exchange::new(BUFFERS, offload),
            listeners,
            tcp_listeners,
            relays,
            relay_listeners: slab::Slab::new(),
            streams: Streams::new(limits),
            dtls,
            tls,
            inbox,
            others: Vec::new(),
            foreign: HashMap::new(),
            events,
            gather: Gather::new(started, gather),
            ready: Vec::new(),
            messages: Vec::new(),
            incoming: Vec::with_capacity(BUFFERS),
            out: TransmitBuf::new(1, 1500),
            deadline: None,
            quiet: Quiet::new(redact),
            queue,
            housekeeping: started + HOUSEKEEPING,
            clock: started,
            busy: Duration::ZERO,
            busy_bytes: 0,
            receive_buffer,
            datagrams: 0,
            report: Report::default(),
            now: started,
            stopped: false,
            poll,
        })
    }

    /// The token of the waker that an inbox rings.
    pub(super) const fn waker_token() -> Token {
        token(WAKER, 0)
    }

    /// The addresses that were bound: UDP, and TCP with whether it is for TLS alone.
    pub(super) fn addresses(&self) -> (Vec<SocketAddr>, Vec<(SocketAddr, bool)>) {
        let udp = self
            .listeners
            .iter()
            .map(DirectSocket::local_addr)
            .collect();
        let tcp = self
            .tcp_listeners
            .iter()
            .filter_map(|(listener, is_tls)| Some((listener.local_addr().ok()?, *is_tls)))
            .collect();
        (udp, tcp)
    }

    /// Runs until it is told to stop. `others` are all workers' inboxes, by number.
    pub(super) fn run(mut self, others: Vec<Arc<Inbox>>) {
        self.others = others;
        let mut events = Events::with_capacity(512);
        while !self.stopped {
            let timeout = if self.ready.is_empty() {
                self.timeout()
            } else {
                Some(Duration::ZERO)
            };
            if let Err(error) = self.poll.poll(&mut events, timeout)
                && error.kind() != io::ErrorKind::Interrupted
            {
                tracing::error!(%error, "a worker cannot wait for its sockets");
                return;
            }
            self.now = Instant::now();
            if self.now.saturating_duration_since(self.clock) >= HOUSEKEEPING {
                self.clock = self.now;
                self.core.set_clock(self.now, unix_time());
            }
            self.datagrams = 0;
            let ready = std::mem::take(&mut self.ready);
            for token in ready {
                self.handle(token, true, false);
            }
            for event in &events {
                let writable = event.is_writable();
                let readable = event.is_readable() || event.is_read_closed() || event.is_error();
                self.handle(event.token(), readable, writable);
            }
            self.time_passes();
            self.obey();
            self.finish();
            self.report.passes += 1;
            let end = Instant::now();
            if self.datagrams > 0 {
                self.busy += end - self.now;
            }
            if self.ready.is_empty()
                && let Some(wait) = self.gather.passed(self.now, self.datagrams)
            {
                self.report.waits += 1;
                // What the pass took counts: packets gathered meanwhile.
                std::thread::sleep(wait.saturating_sub(end - self.now));
            }
        }
    }

    fn timeout(&self) -> Option<Duration> {
        let next = [
            self.deadline,
            self.streams.next_deadline(),
            self.dtls.next_deadline(),
            (!self.is_idle()).then_some(self.housekeeping),
        ];
        let next = next.into_iter().flatten().min()?;
        Some(next.saturating_duration_since(Instant::now()))
    }

    /// Whether nobody is there: then not even the house is kept.
    fn is_idle(&self) -> bool {
        self.core.is_empty() && self.foreign.is_empty() && self.busy_bytes == 0
    }

    fn handle(&mut self, token: Token, readable: bool, writable: bool) {
        let index = token.0 / KINDS;
        match token.0 % KINDS {
            WAKER => self.read_inbox(),
            LISTENER if readable => self.read_listener(index),
            RELAY if readable => self.read_relay(index),
            TCP_LISTENER => self.accept(index),
            RELAY_LISTENER => self.accept_peers(index),
            STREAM => {
                if writable {
                    self.stream_writable(index);
                }
                if readable {
                    self.read_stream(index);
                }
            }
            _ => {}
        }
    }

    // What the core wants.

    fn obey(&mut self) {
        let mut changed = false;
        loop {
            while let Some(transmit) = self.core.poll_transmit(self.now, &mut self.out) {
                changed = true;
                let path = transmit.path();
                // The answer is copied: it is short, and no payload.
                match path.protocol {
                    Protocol::Udp => {
                        if let Some(to) = self.outgoing(path, Ecn::NotEct)
                            && self.exchange.queue(to, self.out.as_slice(), 0..0, 0) == Err(Full)
                        {
                            flush(&mut self.exchange, &self.listeners, &self.relays);
                            let _ = self.exchange.queue(to, self.out.as_slice(), 0..0, 0);
                        }
                    }
                    Protocol::Tcp | Protocol::Tls => {
                        self.streams.send(path, self.out.as_slice(), &[], 0);
                    }
                    Protocol::Dtls => {
                        if let Some(to) = self.outgoing(path, Ecn::NotEct)
                            && let Some(sealed) = self.dtls.seal(path, self.out.as_slice(), &[], 0)
                        {
                            let _ = self.exchange.queue(to, sealed, 0..0, 0);
                        }
                    }
                }
                self.out.clear();
            }
            let Some(command) = self.core.poll_command() else {
                break;
            };
            changed = true;
            self.execute(command);
        }
        while let Some(event) = self.core.poll_event() {
            changed = true;
            self.events.send(self.number, event);
        }
        if changed {
            self.deadline = self.core.poll_timeout();
        }
    }

    fn execute(&mut self, command: Command) {
        match command {
            Command::OpenRelay { relay, kind } => {
                let opened = match kind {
                    RelayKind::Udp => self.open_relay(relay),
                    RelayKind::Tcp => self.listen_for_peers(relay),
                };
                if let Err(error) = &opened {
                    tracing::debug!(%error, %relay, "relay socket not to be had");
                }
                self.core.relay_opened(self.now, relay, opened.is_ok());
            }
            Command::CloseRelay { relay } => {
                self.flush();
                self.relays.remove(relay);
                self.relay_listeners
                    .retain(|_, (_, address)| *address != relay);
            }
            Command::Connect {
                relay,
                peer,
                connection,
            } => {
                if let Err(error) = self.dial(relay, peer, connection) {
                    tracing::debug!(%error, %peer, "peer not to be reached");
                    self.core.peer_connect_failed(connection);
                }
            }
            Command::Splice { client, connection } => {
                if let Some((near, far)) = self.streams.splice(client, connection) {
                    // What came early waits to be passed on, both ways.
                    self.ready.push(token(STREAM, far));
                    self.ready.push(token(STREAM, near));
                } else {
                    self.core.peer_gone(connection);
                }
            }
            Command::CloseConnection { connection } => {
                if let Some(far) = self.streams.of_connection(connection) {
                    let near = match self.streams.get(far).map(|stream| stream.role) {
                        Some(Role::Spliced { other, .. }) => Some(other),
                        _ => None,
                    };
                    self.streams.remove(far);
                    if let Some(near) = near {
                        self.streams.close_after_writing(near);
                    }
                }
            }
            _ => {}
        }
    }

    fn open_relay(&mut self, relay: SocketAddr) -> io::Result<()> {
        let mut options = DirectOptions::default();
        options.receive_buffer = RELAY_BUFFER;
        options.errors = true;
        options.fragment = true;
        let socket = DirectSocket::bind(relay, &options)?;
        let fd = socket.as_raw_fd();
        let index = self.relays.insert(socket, relay);
        SourceFd(&fd).register(
            self.poll.registry(),
            token(RELAY, index),
            Interest::READABLE,
        )
    }

    // Time.

    fn time_passes(&mut self) {
        let now = self.now;
        if self.deadline.is_some_and(|at| at <= now) {
            self.core.handle_timeout(now);
            self.deadline = self.core.poll_timeout();
        }
        while let Some(index) = self.streams.pop_due(now) {
            let has_allocation = self
                .streams
                .get(index)
                .is_some_and(|stream| self.core.has_client(stream.path));
            if let Look::TooLate = self.streams.look(now, index, has_allocation) {
                self.stream_gone(index);
            }
        }
        while let Some(index) = self.dtls.pop_due(now) {
            let idle = self.dtls.is_idle(now, index)
                && self
                    .dtls
                    .path(index)
                    .is_some_and(|path| !self.core.has_client(path));
            if idle {
                self.dtls.close(now, index);
            }
            self.drive_dtls(index);
        }
        if self.housekeeping <= now {
            self.keep_house();
        }
    }

    fn keep_house(&mut self) {
        let now = self.now;
        self.housekeeping = now + HOUSEKEEPING;
        self.foreign
            .retain(|_, (_, last)| now.saturating_duration_since(*last) < FOREIGN_PATIENCE);
        // A buffer that holds what is relayed in `queue`: a larger one would only make packets older.
        if self.busy > Duration::from_millis(50) {
            let rate = self.busy_bytes as f64 / self.busy.as_secs_f64();
            // The kernel counts its own memory, about twice the bytes.
            let wanted = (rate * self.queue.as_secs_f64() * 2.0) as usize;
            let wanted = wanted.clamp(256 << 10, 16 << 20);
            if wanted.abs_diff(self.receive_buffer) > self.receive_buffer / 4 {
                self.receive_buffer = wanted;
                for listener in &self.listeners {
                    listener.set_receive_buffer(wanted);
                }
            }
        }
        self.busy = Duration::ZERO;
        self.busy_bytes = 0;
    }

    // The inbox.

    fn read_inbox(&mut self) {
        let mut messages = std::mem::take(&mut self.messages);
        self.inbox.take(&mut messages);
        for message in messages.drain(..) {
            self.read_message(message);
        }
        self.messages = messages;
    }

    fn read_message(&mut self, message: Message) {
        match message {
            Message::Datagram {
                path,
                ecn,
                bytes,
                from,
            } => {
                if self.exchange.free() == 0 {
                    self.finish();
                }
                let Some(buffer) = self.exchange.take_buffer() else {
                    return;
                };
                let range = buffer.start..buffer.start + bytes.len().min(buffer.len());
                self.exchange.bytes_mut()[range.clone()].copy_from_slice(&bytes);
                let had = self.core.has_client(path);
                self.take_client(path, range, ecn);
                // Whoever is a client here now is one whose datagrams arrive there.
                if !had
                    && self.core.has_client(path)
                    && let Some(inbox) = self.others.get(usize::from(from))
                {
                    inbox.send(Message::Adopted {
                        path,
                        by: self.number,
                    });
                }
            }
            Message::Adopted { path, by } => {
                if self.foreign.len() < MOST_FOREIGN {
                    self.foreign.insert(path, (by, self.now));
                }
            }
            Message::Stream(stream) => {
                let HandedStream {
                    socket,
                    tls,
                    path,
                    received,
                } = *stream;
                if self.streams.has_room(path.remote.ip()) && socket.set_nonblocking(true).is_ok() {
                    self.add_client_stream(TcpStream::from_std(socket), tls, path, &received);
                }
            }
            Message::Reload(reloaded) => {
                let Reloaded {
                    core,
                    gather,
                    tls,
                    dtls,
                } = *reloaded;
                self.core.reconfigure(core);
                self.gather.set_longest(gather);
                self.tls = tls;
                self.dtls.set_config(self.now, dtls);
                self.deadline = self.core.poll_timeout();
            }
            Message::Drain(draining) => self.core.drain(draining),
            Message::LookupDone {
                realm,
                username,
                password,
            } => {
                self.core
                    .lookup_done(self.now, &realm, &username, password.as_deref());
            }
            Message::Report(to) => {
                let report = Report {
                    core: self.core.stats(),
                    exchange: self.exchange.stats(),
                    streams: self.streams.stats,
                    allocations: self.core.len(),
                    users: self.core.users(),
                    free_ports: self.core.free_ports(),
                    tcp_clients: self.streams.len(),
                    dtls_clients: self.dtls.len(),
                    dtls_accepted: self.dtls.accepted,
                    dtls_refused: self.dtls.refused,
                    ..self.report
                };
                let _ = to.send((self.number, report));
            }
            Message::List { most, to } => {
                for info in self.core.allocations(self.now).take(most) {
                    if to.send((self.number, info)).is_err() {
                        break;
                    }
                }
            }
            Message::End { id, to } => {
                let _ = to.send(self.core.end(self.now, id));
            }
            Message::Stop => {
                for index in self.dtls.indices() {
                    self.dtls.close(self.now, index);
                    self.drive_dtls(index);
                }
                for index in self.streams.indices() {
                    self.streams.close_after_writing(index);
                }
                self.stopped = true;
            }
        }
    }
}

fn flush(exchange: &mut Exchange, listeners: &[DirectSocket], relays: &Relays) {
    exchange.flush(|number| {
        let number = number as usize;
        match listeners.get(number) {
            Some(listener) => Some(listener),
            None => relays
                .get(number - listeners.len())
                .map(|relay| &relay.socket),
        }
    });
}

/// A listener that shares its port with those of the other workers.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let kind = Type::STREAM.nonblocking().cloexec();
    let socket = Socket::new_raw(Domain::for_address(address), kind, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    socket.listen(1024)?;
    Ok(TcpListener::from_std(StdListener::from(socket)))
}

fn at(address: SocketAddr) -> impl Fn(io::Error) -> io::Error {
    move |error| io::Error::new(error.kind(), format!("cannot listen on {address}: {error}"))
}

/// Prepares a stream that somebody else accepted.
pub(super) fn handed(
    socket: std::net::TcpStream,
    tls: Option<rustls::ServerConnection>,
    received: Vec<u8>,
) -> io::Result<HandedStream> {
    let path = stream_path(&socket, tls.is_some())?;
    Ok(HandedStream {
        socket,
        tls: tls.map(Box::new),
        path,
        received,
    })
}
