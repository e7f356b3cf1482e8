//! One worker: a thread with sockets, allocations and timers of its own. Nothing on the path of a packet is locked,
//! allocated or copied.
//!
//! A pass: wait for sockets that are ready, receive, let the core say where each datagram goes, send all of it. What the
//! core wants done (open and close relays, answers) is done between receiving and sending.

use std::collections::HashMap;
use std::io;
use std::net::{SocketAddr, TcpListener as StdListener};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mio::event::Source;
use mio::net::{TcpListener, TcpStream};
use mio::unix::SourceFd;
use mio::{Events, Interest, Poll, Token};
use socket2::{Domain, Socket, Type};
use visavis_datagram::{Ecn, Path, Protocol, Random, TransmitBuf};
use visavis_net::direct::{DirectOptions, DirectSocket, Exchange, Full, Incoming, Outgoing};
use visavis_stun::attributes::Icmp;
use visavis_stun::turn_frame_len;
use visavis_turn::server::{Command, Event, Forward, RelayKind, Server, ServerConfig};

use super::dtls::{Dtls, Opened};
use super::gather::Gather;
use super::inbox::{HandedStream, Inbox, Message, Reloaded, Report, stream_path};
use super::quiet::Quiet;
use super::relays::Relays;
use super::streams::{Look, Read_, Role, StreamLimits, Streams};

/// Buffers of 64 KiB that one pass receives into before it sends.
const BUFFERS: usize = 64;
/// How many of them one socket fills before the next has its turn.
const BUFFERS_PER_SOCKET: usize = 32;
/// Kernel memory for what one relay socket has received: calls, not floods.
const RELAY_BUFFER: usize = 512 << 10;
/// Reads from one stream before the next has its turn.
const READS_PER_STREAM: usize = 8;
/// Streams taken from one listener before the next has its turn.
const ACCEPTS: usize = 64;
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

/// What reaches the control side: everything that is no packet.
pub(super) type Events_ = tokio::sync::mpsc::Sender<(u8, Event)>;

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
    events: Events_,
    gather: Gather,
    ready: Vec<Token>,
    messages: Vec<Message>,
    incoming: Vec<Incoming>,
    out: TransmitBuf,
    deadline: Option<Instant>,
    quiet: Quiet,
    queue: Duration,
    housekeeping: Instant,
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
        events: Events_,
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

    // UDP clients.

    fn read_listener(&mut self, index: usize) {
        let Some(listener) = self.listeners.get(index) else {
            return;
        };
        let address = listener.local_addr();
        let most = self.make_room();
        let mut runs = std::mem::take(&mut self.incoming);
        let received = self
            .exchange
            .receive(&self.listeners[index], most, |run| runs.push(run));
        match received {
            Ok(count) if count == most => self.ready.push(token(LISTENER, index)),
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, %address, "cannot receive"),
        }
        for run in runs.drain(..) {
            let local = match run.local {
                Some(ip) => SocketAddr::new(ip, address.port()),
                None => address,
            };
            let path = Path::udp(local, run.from);
            self.busy_bytes += run.range.len();
            let mut start = run.range.start;
            while start < run.range.end {
                let end = run.range.end.min(start + run.segment);
                self.client_datagram(path, start..end, run.ecn);
                start = end;
            }
        }
        self.incoming = runs;
    }

    fn client_datagram(&mut self, path: Path, range: Range<usize>, ecn: Ecn) {
        self.datagrams += 1;
        let bytes = &mut self.exchange.bytes_mut()[range.clone()];
        match bytes.first() {
            Some(20..=63) => return self.dtls_datagram(path, range, ecn),
            Some(0..=3) if self.others.len() > 1 => {
                if let Some(home) = Server::home_of(bytes)
                    && home != self.number
                    && !self.core.has_client(path)
                {
                    return self.hand_over(path, range, ecn, home);
                }
            }
            _ => {}
        }
        if !self.foreign.is_empty()
            && let Some((home, last)) = self.foreign.get_mut(&path)
        {
            *last = self.now;
            let home = *home;
            return self.hand_over(path, range, ecn, home);
        }
        self.take_client(path, range, ecn);
    }

    /// A client's datagram or frame that is this worker's.
    fn take_client(&mut self, path: Path, range: Range<usize>, ecn: Ecn) {
        let start = range.start;
        let bytes = &mut self.exchange.bytes_mut()[range];
        // Send indications and ChannelData are the relay path: no log there.
        let is_request = matches!(bytes, [0..=3, kind, ..] if *kind != 0x16);
        if !is_request {
            let forward = self.core.handle_client(self.now, path, bytes);
            return self.forward(forward, start, ecn);
        }
        let before = self.core.stats();
        let forward = self.core.handle_client(self.now, path, bytes);
        self.quiet
            .compare(self.now, path, &before, &self.core.stats());
        self.forward(forward, start, ecn);
    }

    fn hand_over(&mut self, path: Path, range: Range<usize>, ecn: Ecn, home: u8) {
        let Some(inbox) = self.others.get(usize::from(home)) else {
            return;
        };
        self.report.handed_over += 1;
        inbox.send(Message::Datagram {
            path,
            ecn,
            bytes: self.exchange.bytes(range).to_vec(),
            from: self.number,
        });
    }

    fn forward(&mut self, forward: Option<Forward>, start: usize, ecn: Ecn) {
        match forward {
            Some(Forward::ToPeer {
                relay,
                peer,
                payload,
                dont_fragment,
            }) => {
                let Some(index) = self.relays.find(relay) else {
                    return;
                };
                let body = start + payload.start..start + payload.end;
                if dont_fragment {
                    return self.send_unfragmented(index, peer, body);
                }
                let to = Outgoing {
                    socket: (self.listeners.len() + index) as u32,
                    destination: peer,
                    source: None,
                    ecn,
                };
                self.queue(to, &[], body, 0);
            }
            Some(Forward::ToClient { path, datagram }) => {
                let body = start + datagram.start..start + datagram.end;
                self.to_client(path, &[], body, 0, ecn);
            }
            None => {}
        }
    }

    /// In order with what went before, and by itself: the DF bit is the socket's.
    fn send_unfragmented(&mut self, index: usize, peer: SocketAddr, body: Range<usize>) {
        self.flush();
        if let Some(relay) = self.relays.get(index)
            && let Err(error) = relay
                .socket
                .send_unfragmented(self.exchange.bytes(body), peer)
        {
            tracing::debug!(%error, %peer, "datagram refused");
        }
    }

    // Peers over UDP.

    fn read_relay(&mut self, index: usize) {
        let most = self.make_room();
        let Some(relay) = self.relays.get(index) else {
            return;
        };
        let address = relay.address;
        let mut runs = std::mem::take(&mut self.incoming);
        let received = self
            .exchange
            .receive(&relay.socket, most, |run| runs.push(run));
        match received {
            Ok(count) if count == most => self.ready.push(token(RELAY, index)),
            Ok(0) => {
                // Nothing to read: the error queue rang.
                while let Some(error) = relay.socket.take_error() {
                    let icmp = Icmp {
                        kind: error.kind,
                        code: error.code,
                        data: error.data,
                    };
                    self.core
                        .handle_icmp(self.now, address, error.destination, icmp);
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, relay = %address, "cannot receive"),
        }
        for run in runs.drain(..) {
            self.busy_bytes += run.range.len();
            let mut start = run.range.start;
            while start < run.range.end {
                let end = run.range.end.min(start + run.segment);
                self.datagrams += 1;
                let routed = self
                    .core
                    .route_peer(self.now, address, run.from, end - start);
                if let Some(wrapped) = routed {
                    let (path, padding) = (wrapped.path, wrapped.padding);
                    self.to_client(path, wrapped.header(), start..end, padding, run.ecn);
                }
                start = end;
            }
        }
        self.incoming = runs;
    }

    // What goes out.

    fn to_client(
        &mut self,
        path: Path,
        header: &[u8],
        body: Range<usize>,
        padding: usize,
        ecn: Ecn,
    ) {
        match path.protocol {
            Protocol::Udp => {
                if let Some(to) = self.outgoing(path, ecn) {
                    self.queue(to, header, body, padding);
                }
            }
            Protocol::Tcp | Protocol::Tls => {
                let body = self.exchange.bytes(body);
                self.streams.send(path, header, body, padding);
            }
            Protocol::Dtls => {
                let Some(to) = self.outgoing(path, ecn) else {
                    return;
                };
                let body = self.exchange.bytes(body);
                let Some(sealed) = self.dtls.seal(path, header, body, padding) else {
                    return;
                };
                if self.exchange.queue(to, sealed, 0..0, 0) == Err(Full) {
                    flush(&mut self.exchange, &self.listeners, &self.relays);
                    let _ = self.exchange.queue(to, sealed, 0..0, 0);
                }
            }
        }
    }

    /// The socket that a client's datagrams leave by.
    fn outgoing(&self, path: Path, ecn: Ecn) -> Option<Outgoing> {
        let is_it = |listener: &DirectSocket| {
            let address = listener.local_addr();
            address.port() == path.local.port()
                && address.is_ipv4() == path.local.is_ipv4()
                && (address.ip() == path.local.ip() || address.ip().is_unspecified())
        };
        let socket = self.listeners.iter().position(is_it)?;
        let wildcard = self.listeners[socket].local_addr().ip().is_unspecified();
        Some(Outgoing {
            socket: socket as u32,
            destination: path.remote,
            source: wildcard.then(|| path.local.ip()),
            ecn,
        })
    }

    fn queue(&mut self, to: Outgoing, header: &[u8], body: Range<usize>, padding: usize) {
        let queued = self.exchange.queue(to, header, body.clone(), padding);
        if queued == Err(Full) {
            self.flush();
            let _ = self.exchange.queue(to, header, body, padding);
        }
    }

    fn flush(&mut self) {
        flush(&mut self.exchange, &self.listeners, &self.relays);
    }

    /// Makes sure that a buffer is free; answers how many may be filled.
    fn make_room(&mut self) -> usize {
        if self.exchange.free() < BUFFERS_PER_SOCKET {
            self.finish();
        }
        self.exchange.free().min(BUFFERS_PER_SOCKET)
    }

    /// Sends everything and forgets what was received.
    fn finish(&mut self) {
        self.flush();
        self.exchange.clear();
        self.flush_streams();
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
            // A control side that is too slow loses the story, not the service.
            let _ = self.events.try_send((self.number, event));
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

    // TCP and TLS clients.

    fn accept(&mut self, index: usize) {
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
                        protocol: super::streams::protocol(is_tls),
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

    fn add_client_stream(
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

    fn read_stream(&mut self, index: usize) {
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
                Read_::Data(len) => kept + len,
                Read_::Blocked if kept > 0 && self.may_have_frame(buffer.start, kept) => kept,
                Read_::Blocked => return,
                Read_::Closed => {
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
            if matches!(read, Read_::Blocked) {
                return;
            }
        }
        self.ready.push(token(STREAM, index));
    }

    /// Whether bytes that were kept are more than the beginning of a frame: a stream that was handed over.
    fn may_have_frame(&self, start: usize, kept: usize) -> bool {
        let bytes = self.exchange.bytes(start..start + kept);
        matches!(turn_frame_len(bytes), Ok(Some((_, whole))) if whole <= kept)
    }

    /// Takes the frames of a client's stream; false if it is a client's no more.
    fn frames(&mut self, index: usize, range: Range<usize>) -> bool {
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
            if whole > 65_535 {
                self.streams.stats.desynchronised += 1;
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
    fn hand_stream_over(&mut self, index: usize, home: u8, received: Vec<u8>) {
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

    fn stream_writable(&mut self, index: usize) {
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

    fn flush_streams(&mut self) {
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
    fn stream_closed(&mut self, index: usize) {
        match self.streams.get(index).map(|stream| stream.role) {
            // What it sent before is still passed on.
            Some(Role::Spliced { other, .. }) => {
                self.streams.close_after_writing(other);
                self.stream_gone(index);
            }
            _ => self.stream_gone(index),
        }
    }

    fn stream_gone(&mut self, index: usize) {
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

    // Peers over TCP (RFC 6062).

    fn listen_for_peers(&mut self, relay: SocketAddr) -> io::Result<()> {
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

    fn accept_peers(&mut self, index: usize) {
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

    fn dial(&mut self, relay: SocketAddr, peer: SocketAddr, connection: u32) -> io::Result<()> {
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

    fn add_peer_stream(
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

    // DTLS clients.

    fn dtls_datagram(&mut self, path: Path, range: Range<usize>, ecn: Ecn) {
        let path = Path {
            protocol: Protocol::Dtls,
            ..path
        };
        let start = range.start;
        // Opened in place; where the pieces stand is kept, since the core needs the memory they stand in.
        let mut pieces = [(0, 0); 8];
        let mut count = 0;
        let bytes = &mut self.exchange.bytes_mut()[range];
        let base = bytes.as_ptr().addr();
        let opened = self.dtls.handle(self.now, path, bytes, |piece| {
            if let Some(slot) = pieces.get_mut(count) {
                let from = piece.as_ptr().addr() - base;
                *slot = (from, from + piece.len());
                count += 1;
            }
        });
        match opened {
            Opened::Nothing => {}
            Opened::Reply => {
                if let Some(to) = self.outgoing(path, Ecn::NotEct) {
                    let reply = std::mem::take(&mut self.dtls.reply);
                    self.queue(to, &reply, 0..0, 0);
                    self.dtls.reply = reply;
                }
            }
            Opened::Anew(index) => {
                self.core.client_gone(self.now, path);
                self.drive_dtls(index);
            }
            Opened::Client(index) => {
                for &(from, to) in &pieces[..count] {
                    self.take_client(path, start + from..start + to, ecn);
                }
                self.drive_dtls(index);
            }
        }
    }

    /// Sends what a DTLS connection has to say, and looks whether it is over.
    fn drive_dtls(&mut self, index: usize) {
        let Some(path) = self.dtls.path(index) else {
            return;
        };
        let Some(to) = self.outgoing(path, Ecn::NotEct) else {
            return;
        };
        while self.dtls.transmit(self.now, index, &mut self.out).is_some() {
            if self.exchange.queue(to, self.out.as_slice(), 0..0, 0) == Err(Full) {
                flush(&mut self.exchange, &self.listeners, &self.relays);
                let _ = self.exchange.queue(to, self.out.as_slice(), 0..0, 0);
            }
            self.out.clear();
        }
        let mut early = Vec::new();
        let over = self.dtls.settle(self.now, index, |bytes| early.push(bytes));
        for bytes in early {
            if self.exchange.free() == 0 {
                self.finish();
            }
            if let Some(buffer) = self.exchange.take_buffer()
                && bytes.len() <= buffer.len()
            {
                let range = buffer.start..buffer.start + bytes.len();
                self.exchange.bytes_mut()[range.clone()].copy_from_slice(&bytes);
                self.take_client(path, range, Ecn::NotEct);
            }
        }
        if over {
            self.dtls.remove(index);
            self.core.client_gone(self.now, path);
        }
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

/// EINPROGRESS: a connection is being made.
const IN_PROGRESS: i32 = 115;

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
