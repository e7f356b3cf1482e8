//! The task that moves datagrams: one for all connections of an endpoint, with their shared sockets.
//!
//! Each turn it reads what the sockets hold, hands it to the connections that it belongs to, and then
//! looks only at connections to which something happened: a datagram, a timer, a call of their user.

#[cfg(feature = "port-mapping")]
mod mapping;
mod sockets;
mod tcp_ports;

use std::cmp::Reverse;
use std::collections::{BinaryHeap, HashMap, HashSet, VecDeque};
use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Instant;

use slab::Slab;
use tokio::sync::mpsc;
use visavis_datagram::{Arrival, Ecn, Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_ice::{ConnectionId, LocalAddress, MAX_RELAY_OVERHEAD, Network};
use visavis_net::interface::{InterfaceAddress, InterfaceKind};
use visavis_net::mdns::{Mdns, PublishedName};
use visavis_net::mux::{Mux, MuxLimits};
use visavis_net::tcp::AcceptedStream;
use visavis_net::udp::{ReceiveBatch, Received, UdpSocket};
use visavis_peer::TransportId;
use visavis_stun::{PacketKind, classify};

use self::sockets::{Owner, Sockets};
use self::tcp_ports::TcpPorts;
use crate::connection::Connection;
use crate::endpoint::{Shared, Work};
use crate::settings::Settings;
use crate::stream;

/// A connection's number in its endpoint.
pub(crate) type Key = usize;

/// Receive calls per socket and turn, so that one socket does not starve the others.
const RECEIVES_PER_TURN: usize = 8;
/// Runs sent per connection and turn.
const TRANSMITS_PER_TURN: usize = 32;
/// The most datagrams in one run.
const RUN: usize = 54;
/// Messages from helper tasks that wait; beyond that the helpers wait.
pub(crate) const NOTES: usize = 1024;

/// What helper tasks tell the driver.
#[derive(Debug)]
pub(crate) enum Note {
    /// A connection that ICE asked for is open.
    Connected {
        key: Key,
        id: ConnectionId,
        stream: stream::Handle,
    },
    /// It could not be opened.
    ConnectFailed { key: Key, id: ConnectionId },
    /// A peer has connected.
    Accepted(Box<AcceptedStream>),
    /// A message from a byte stream.
    Frame {
        key: Key,
        path: Path,
        frame: Vec<u8>,
    },
    /// A byte stream ended.
    Disconnected { key: Key, path: Path },
    /// Multicast DNS has answered, or has not.
    Resolved {
        key: Key,
        name: Box<str>,
        ip: Option<IpAddr>,
    },
    /// The router leads what comes to `external` to the socket bound to `local`.
    #[cfg(feature = "port-mapping")]
    Mapped {
        local: SocketAddr,
        external: SocketAddr,
    },
    /// The addresses of the interfaces changed.
    Interfaces {
        added: Vec<InterfaceAddress>,
        removed: Vec<InterfaceAddress>,
    },
}

struct Entry {
    connection: Arc<Connection>,
    /// When the connection's timer is due, as the heap knows it.
    due: Option<Instant>,
    queued: bool,
    streams: HashMap<Path, stream::Handle>,
    /// Whether some sockets are its alone.
    has_sockets: bool,
}

pub(crate) struct Driver {
    settings: Settings,
    shared: Arc<Shared>,
    sockets: Sockets,
    tcp_ports: TcpPorts,
    addresses: Vec<InterfaceAddress>,
    mux: Mux<Key>,
    connections: Slab<Entry>,
    timers: BinaryHeap<Reverse<(Instant, Key)>>,
    sleep: Pin<Box<tokio::time::Sleep>>,
    /// Connections to look at.
    queue: VecDeque<Key>,
    /// Taken while it is read from.
    batch: Option<ReceiveBatch>,
    /// Connections that waited for a socket which has room again.
    freed: Vec<Key>,
    /// Empty; kept for its memory.
    work: Work,
    out: TransmitBuf,
    notes: mpsc::Receiver<Note>,
    notes_sender: mpsc::Sender<Note>,
    mdns: Option<Mdns>,
    random: Random,
    /// Made when the first server asks for TLS.
    tls: Option<Arc<rustls::ClientConfig>>,
}

impl Driver {
    pub(crate) fn new(
        settings: Settings,
        shared: Arc<Shared>,
        addresses: Vec<InterfaceAddress>,
        random: Random,
    ) -> std::io::Result<Self> {
        let (notes_sender, notes) = mpsc::channel(NOTES);
        let mdns = if settings.mdns_candidates || settings.mdns_resolve {
            Mdns::new(settings.mdns.clone())
                .inspect_err(|error| tracing::debug!(%error, "no multicast DNS"))
                .ok()
        } else {
            None
        };
        // With room for what a relay wraps around a datagram.
        let mut out = TransmitBuf::new(RUN, settings.mtu + MAX_RELAY_OVERHEAD);
        out.set_mtu(settings.mtu);
        let mut driver = Self {
            out,
            sockets: Sockets::new(Arc::clone(&shared)),
            tcp_ports: TcpPorts::new(notes_sender.clone()),
            shared,
            addresses: Vec::new(),
            mux: Mux::new(MuxLimits::default()),
            connections: Slab::new(),
            timers: BinaryHeap::new(),
            sleep: Box::pin(tokio::time::sleep_until(tokio::time::Instant::now())),
            queue: VecDeque::new(),
            batch: Some(ReceiveBatch::new(8)),
            freed: Vec::new(),
            work: Work::default(),
            notes,
            notes_sender,
            mdns,
            random,
            tls: None,
            settings,
        };
        let mut refused = None;
        for address in addresses {
            if let Err(error) = driver.add_address(&address, None) {
                tracing::debug!(%error, ip = %address.ip, "address not used");
                refused = Some(error);
            }
            driver.addresses.push(address);
        }
        match refused {
            Some(error) if driver.sockets.iter().next().is_none() => Err(error),
            _ => Ok(driver),
        }
    }

    pub(crate) fn notes_sender(&self) -> mpsc::Sender<Note> {
        self.notes_sender.clone()
    }

    pub(crate) fn local_addresses(&self) -> Vec<SocketAddr> {
        self.sockets
            .iter()
            .map(sockets::Socket::local_addr)
            .collect()
    }

    /// Where a socket on an address may be bound, best first.
    fn wanted(&self, address: &InterfaceAddress, owner: Option<Owner>) -> Vec<SocketAddr> {
        match (&self.settings.binding, owner) {
            (crate::settings::Binding::Addresses(fixed), None) => fixed
                .iter()
                .copied()
                .filter(|fixed| fixed.ip() == address.ip)
                .collect(),
            _ => self.settings.candidates(address.ip),
        }
    }

    /// Binds a socket on an address, for all connections or for one.
    fn add_address(
        &mut self,
        address: &InterfaceAddress,
        owner: Option<Owner>,
    ) -> std::io::Result<()> {
        if self.settings.tcp_passive && owner.is_none() {
            let wanted = self.wanted(address, None);
            if let Err(error) = self.tcp_ports.add(&wanted) {
                tracing::debug!(%error, ip = %address.ip, "no TCP port");
            }
        }
        let wanted = self.wanted(address, owner);
        let mut refused = std::io::Error::from(std::io::ErrorKind::AddrNotAvailable);
        for wanted in wanted {
            match UdpSocket::bind_with(wanted, &self.settings.udp) {
                Ok(udp) => {
                    let (name, local) = self.describe(address, udp.local_addr());
                    #[cfg(feature = "port-mapping")]
                    let bound = udp.local_addr();
                    self.sockets.add(udp, local, owner, name);
                    #[cfg(feature = "port-mapping")]
                    self.ask_for_port(bound);
                    return Ok(());
                }
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// Asks the router for a port that leads to a socket, if that is wanted.
    #[cfg(feature = "port-mapping")]
    fn ask_for_port(&mut self, bound: SocketAddr) {
        if let Some(options) = self
            .settings
            .port_mapping
            .clone()
            .filter(|_| bound.is_ipv4())
        {
            let mapping = mapping::Mapping::ask(bound, options, self.notes_sender.clone());
            self.sockets.set_mapping(bound, mapping);
        }
    }

    /// Tells the connections of a socket which port the router has given it.
    #[cfg(feature = "port-mapping")]
    fn port_mapped(&mut self, now: Instant, local: SocketAddr, external: SocketAddr) {
        let Some(owner) = self.sockets.set_mapped(local, external) else {
            return;
        };
        let mut users = Vec::new();
        for (key, entry) in &self.connections {
            let own = entry.connection.needs_own_sockets();
            if owner.map_or(!own, |owner| owner.key == key) {
                entry
                    .connection
                    .lock()
                    .core
                    .ice_mapped(now, local, external);
                users.push(key);
            }
        }
        for key in users {
            self.enqueue(key);
        }
    }

    fn describe(
        &mut self,
        address: &InterfaceAddress,
        bound: SocketAddr,
    ) -> (Option<PublishedName>, LocalAddress) {
        let name = match &self.mdns {
            Some(mdns) if self.settings.mdns_candidates => {
                mdns.publish(&random_name(&mut self.random), address.ip)
            }
            _ => None,
        };
        let mut local = LocalAddress::udp(bound);
        local.network = network(address);
        local.default_route = self.shared.default_route.contains(&address.ip)
            || address.kind == InterfaceKind::Loopback;
        local.mdns_name = name.as_ref().map(|name| name.name().into());
        (name, local)
    }

    /// Where TCP connections are opened from, and where they are accepted, on an address.
    fn tcp_locals(&self, address: &InterfaceAddress) -> Vec<LocalAddress> {
        let active = self.settings.tcp_active;
        let active = active.then(|| LocalAddress::tcp_active(address.ip));
        let port = self.tcp_ports.of(address.ip);
        let passive = port.map(LocalAddress::tcp_passive);
        let describe = |mut local: LocalAddress| {
            local.network = network(address);
            local.default_route = self.shared.default_route.contains(&address.ip);
            local.mdns_name = self.mdns_name(address.ip);
            local
        };
        active.into_iter().chain(passive).map(describe).collect()
    }

    /// The name that stands in for an address.
    fn mdns_name(&self, ip: IpAddr) -> Option<Box<str>> {
        let socket = self
            .sockets
            .iter()
            .find(|socket| socket.local_addr().ip() == ip);
        socket?.local.mdns_name.clone()
    }

    /// Takes in what users of the endpoint have put down: new connections, and calls that changed one.
    fn take_work(&mut self) {
        // The buffers change places, for their memory.
        let mut work = std::mem::take(&mut self.work);
        std::mem::swap(&mut work, &mut *self.shared.work());
        for connection in work.new.drain(..) {
            self.add_connection(connection);
        }
        for key in work.touched.drain(..) {
            self.enqueue(key);
        }
        self.work = work;
    }

    fn add_connection(&mut self, connection: Arc<Connection>) {
        let now = Instant::now();
        let entry = self.connections.vacant_entry();
        let key = entry.key();
        connection.set_key(key);
        entry.insert(Entry {
            connection: Arc::clone(&connection),
            due: None,
            queued: false,
            streams: HashMap::new(),
            has_sockets: connection.needs_own_sockets(),
        });
        // An allocation of a TURN server is bound to the client's 5-tuple: whoever relays needs
        // sockets of its own.
        if connection.needs_own_sockets() {
            for address in self.addresses.clone() {
                if let Err(error) = self.add_address(&address, Some(Owner::main(key))) {
                    tracing::debug!(%error, ip = %address.ip, "address not used");
                }
            }
        }
        let owner = Some(Owner::main(key));
        let own = self.sockets.iter().any(|socket| socket.owner == owner);
        let owner = owner.filter(|_| own);
        let mut locals: Vec<LocalAddress> = self
            .sockets
            .iter()
            .filter(|socket| socket.owner == owner)
            .map(|socket| socket.local.clone())
            .collect();
        let addresses = self.addresses.iter();
        locals.extend(addresses.flat_map(|address| self.tcp_locals(address)));
        {
            let mut state = connection.lock();
            for local in locals {
                // Beyond the agent's bound on addresses there is nothing to gain.
                let _ = state.core.add_local_address(now, local);
            }
            #[cfg(feature = "port-mapping")]
            for socket in self.sockets.iter().filter(|socket| socket.owner == owner) {
                if let Some(external) = socket.mapped {
                    state.core.ice_mapped(now, socket.local_addr(), external);
                }
            }
        }
        connection.ready();
        self.enqueue(key);
    }

    fn enqueue(&mut self, key: Key) {
        if let Some(entry) = self.connections.get_mut(key)
            && !entry.queued
        {
            entry.queued = true;
            self.queue.push_back(key);
        }
    }

    /// Looks at the sockets that are ready: sends what they had no room for, and reads them. True if
    /// something arrived.
    fn receive(&mut self) -> bool {
        let mut any = false;
        let Some(mut batch) = self.batch.take() else {
            return false;
        };
        for number in 0..self.sockets.begin() {
            let Some(socket) = self.sockets.ready(number) else {
                continue;
            };
            let owner = socket.owner.map(|owner| owner.key);
            let freed = &mut self.freed;
            socket.unblock(|key| freed.push(key));
            for count in 0.. {
                let Some(socket) = self.sockets.looked_at(number) else {
                    break;
                };
                if count == RECEIVES_PER_TURN {
                    socket.again();
                    break;
                }
                if !socket.receive(&mut batch) {
                    break;
                }
                any = true;
                let now = Instant::now();
                for run in batch.runs() {
                    self.deliver_run(now, owner, run);
                }
            }
        }
        while let Some(key) = self.freed.pop() {
            self.enqueue(key);
        }
        self.batch = Some(batch);
        any
    }

    /// Hands a run of datagrams of one flow to the connections that they belong to: all to one, but for
    /// checks of several that share a path. The lock is taken once for as long as the owner stays.
    fn deliver_run(&mut self, now: Instant, owner: Option<Key>, mut run: Received<'_>) {
        let (path, arrival) = (run.path, run.arrival());
        let mut datagrams = run.datagrams().peekable();
        while let Some(first) = datagrams.next() {
            let key = owner.or_else(|| self.mux.route(path, first));
            let Some(entry) = key.and_then(|key| self.connections.get(key)) else {
                continue;
            };
            let mut state = entry.connection.lock();
            state.receive(now, arrival, first);
            // Whatever is not STUN goes by its 5-tuple.
            while let Some(next) = datagrams.next_if(|next| {
                owner.is_some()
                    || classify(next) != PacketKind::Stun && self.mux.owner_of(path) == key
            }) {
                state.receive(now, arrival, next);
            }
            drop(state);
            if let Some(key) = key {
                self.enqueue(key);
            }
        }
    }

    /// Takes in what helper tasks tell. True if there was something.
    fn take_notes(&mut self, cx: &mut Context<'_>) -> bool {
        let mut any = false;
        let now = Instant::now();
        for _ in 0..64 {
            let Poll::Ready(Some(note)) = self.notes.poll_recv(cx) else {
                break;
            };
            any = true;
            match note {
                Note::Connected { key, id, stream } => {
                    let Some(entry) = self.connections.get_mut(key) else {
                        continue;
                    };
                    let path = stream.path();
                    entry.streams.insert(path, stream);
                    entry
                        .connection
                        .lock()
                        .core
                        .ice_connected(now, id, path.local);
                    self.enqueue(key);
                }
                Note::ConnectFailed { key, id } => {
                    let Some(entry) = self.connections.get(key) else {
                        continue;
                    };
                    entry.connection.lock().core.ice_connect_failed(now, id);
                    self.enqueue(key);
                }
                Note::Accepted(stream) => self.accept(now, *stream),
                Note::Frame {
                    key,
                    path,
                    mut frame,
                } => {
                    let Some(entry) = self.connections.get(key) else {
                        continue;
                    };
                    let mut state = entry.connection.lock();
                    let (ecn, at) = (Ecn::NotEct, now);
                    state.receive(now, Arrival { path, ecn, at }, &mut frame);
                    drop(state);
                    self.enqueue(key);
                }
                Note::Disconnected { key, path } => {
                    let Some(entry) = self.connections.get_mut(key) else {
                        continue;
                    };
                    entry.streams.remove(&path);
                    entry.connection.lock().core.ice_disconnected(now, path);
                    self.enqueue(key);
                }
                Note::Resolved { key, name, ip } => {
                    let Some(entry) = self.connections.get(key) else {
                        continue;
                    };
                    entry.connection.lock().core.ice_resolved(now, &name, ip);
                    self.enqueue(key);
                }
                #[cfg(feature = "port-mapping")]
                Note::Mapped { local, external } => self.port_mapped(now, local, external),
                Note::Interfaces { added, removed } => {
                    self.interfaces_changed(now, added, &removed)
                }
            }
        }
        any
    }

    /// A peer has connected: its first check says to whom.
    fn accept(&mut self, now: Instant, mut stream: AcceptedStream) {
        let path = stream.path;
        let Some(key) = self.mux.route(path, &stream.check) else {
            return;
        };
        let Some(entry) = self.connections.get_mut(key) else {
            return;
        };
        let mut state = entry.connection.lock();
        if !state.core.ice_accepted(now, path) {
            return;
        }
        let notes = self.notes_sender.clone();
        let handle = stream::Handle::new(key, path, stream.reader, stream.writer, notes);
        entry.streams.insert(path, handle);
        let (ecn, at) = (Ecn::NotEct, now);
        state.receive(now, Arrival { path, ecn, at }, &mut stream.check);
        drop(state);
        self.enqueue(key);
    }

    fn interfaces_changed(
        &mut self,
        now: Instant,
        added: Vec<InterfaceAddress>,
        removed: &[InterfaceAddress],
    ) {
        for gone in removed {
            self.addresses.retain(|address| address != gone);
            let lost = self
                .sockets
                .retain(|socket| socket.local_addr().ip() != gone.ip);
            if let Some(port) = self.tcp_ports.remove(gone.ip) {
                for (_, entry) in &self.connections {
                    let mut state = entry.connection.lock();
                    state.core.remove_local_address(now, port, Protocol::Tcp);
                }
            }
            for local in lost {
                for (_, entry) in &self.connections {
                    let mut state = entry.connection.lock();
                    state.core.remove_local_address(now, local, Protocol::Udp);
                }
            }
        }
        for address in added {
            let before: HashSet<SocketAddr> = self
                .sockets
                .iter()
                .map(sockets::Socket::local_addr)
                .collect();
            let owners: Vec<Option<Owner>> = std::iter::once(None)
                .chain(
                    self.connections
                        .iter()
                        .filter(|(_, entry)| entry.connection.needs_own_sockets())
                        .map(|(key, _)| Some(Owner::main(key))),
                )
                .collect();
            for owner in owners {
                if let Err(error) = self.add_address(&address, owner) {
                    tracing::debug!(%error, ip = %address.ip, "address not used");
                }
            }
            let is_new = |socket: &&sockets::Socket| !before.contains(&socket.local_addr());
            for socket in self.sockets.iter().filter(is_new) {
                for (key, entry) in &self.connections {
                    let own = entry.connection.needs_own_sockets();
                    if socket.owner == own.then_some(Owner::main(key)) {
                        let mut state = entry.connection.lock();
                        let _ = state.core.add_local_address(now, socket.local.clone());
                    }
                }
            }
            for local in self.tcp_locals(&address) {
                for (_, entry) in &self.connections {
                    let mut state = entry.connection.lock();
                    let _ = state.core.add_local_address(now, local.clone());
                }
            }
            self.addresses.push(address);
        }
        let keys: Vec<Key> = self.connections.iter().map(|(key, _)| key).collect();
        for key in keys {
            self.enqueue(key);
        }
    }

    /// Enqueues the connections whose timer is due.
    fn expire(&mut self) {
        let now = Instant::now();
        while let Some(&Reverse((at, key))) = self.timers.peek() {
            if at > now {
                break;
            }
            self.timers.pop();
            let Some(entry) = self.connections.get_mut(key) else {
                continue;
            };
            // An entry that was moved to an earlier time leaves its old note in the heap.
            if entry.due != Some(at) {
                continue;
            }
            entry.due = None;
            {
                let mut state = entry.connection.lock();
                // One that was moved to a later time is noted anew when it is looked at.
                if state.core.poll_timeout().is_some_and(|due| due <= now) {
                    state.core.handle_timeout(now);
                }
            }
            self.enqueue(key);
        }
    }

    /// Looks at the connections to which something happened. True if some of them want more.
    fn serve(&mut self) -> bool {
        let mut again = false;
        for _ in 0..self.queue.len() {
            let Some(key) = self.queue.pop_front() else {
                break;
            };
            let Some(entry) = self.connections.get_mut(key) else {
                continue;
            };
            entry.queued = false;
            let connection = Arc::clone(&entry.connection);
            if self.serve_one(key, &connection) {
                self.enqueue(key);
                again = true;
            }
        }
        again
    }

    fn serve_one(&mut self, key: Key, connection: &Arc<Connection>) -> bool {
        let now = Instant::now();
        connection.untouch();
        let mut state = connection.lock();
        let requests = state.drain_events(self.settings.receive_buffer);
        let (mut more, mut blocked) = (false, false);
        for count in 0.. {
            if count == TRANSMITS_PER_TURN {
                more = true;
                break;
            }
            self.out.clear();
            let Some(transmit) = state.core.poll_transmit(now, &mut self.out) else {
                break;
            };
            if !self.send(key, &transmit) {
                // The socket is full: the rest waits for it.
                blocked = true;
                break;
            }
        }
        let late = state.drain_events(self.settings.receive_buffer);
        let due = state.core.poll_timeout();
        let finished = state.core.is_closed() && !more && !blocked;
        for (ufrag, add) in state.take_ufrag_changes() {
            if add {
                if !self.mux.add_ufrag(&ufrag, key) {
                    tracing::warn!("two connections chose the same username fragment");
                }
            } else {
                self.mux.remove_ufrag(&ufrag);
            }
        }
        drop(state);
        for request in requests.into_iter().chain(late) {
            self.start(key, request);
        }
        if finished {
            self.remove_connection(key);
            return false;
        }
        if let Some(entry) = self.connections.get_mut(key)
            && let Some(at) = due
            && entry.due.is_none_or(|known| at < known)
        {
            entry.due = Some(at);
            self.timers.push(Reverse((at, key)));
        }
        more
    }

    /// Sends a run that stands in the buffer. False if its socket is full.
    fn send(&mut self, key: Key, transmit: &Transmit) -> bool {
        let bytes = &self.out.as_slice()[..transmit.len];
        if transmit.protocol != Protocol::Udp {
            if let Some(stream) = self
                .connections
                .get(key)
                .and_then(|entry| entry.streams.get(&transmit.path()))
            {
                stream.send(transmit, bytes);
            }
            return true;
        }
        let Some(socket) = self.sockets.from(transmit.source, key) else {
            return true;
        };
        if socket.owner.is_none() {
            if classify(bytes) == PacketKind::Stun {
                for datagram in bytes.chunks(transmit.segment_size.max(1)) {
                    self.mux.sent(transmit.path(), datagram, key);
                }
            } else {
                self.mux.sent(transmit.path(), bytes, key);
            }
        }
        socket.send(transmit, bytes, key)
    }

    /// Starts what a connection asks of the outside world.
    fn start(&mut self, key: Key, request: Request) {
        match request {
            Request::Connect(connect) => {
                let tls = (connect.protocol == Protocol::Tls).then(|| self.tls());
                tokio::spawn(stream::connect(
                    key,
                    connect,
                    tls,
                    self.notes_sender.clone(),
                ));
            }
            Request::Disconnect(path) => {
                if let Some(entry) = self.connections.get_mut(key) {
                    entry.streams.remove(&path);
                }
            }
            Request::OpenSockets(transport) => self.open_sockets(key, transport),
            Request::CloseSockets(transport) => {
                let owner = Some(Owner { key, transport });
                self.sockets.retain(|socket| socket.owner != owner);
            }
            Request::Resolve(name) => {
                let (notes, mdns) = (self.notes_sender.clone(), self.mdns.clone());
                let wanted = self.settings.mdns_resolve;
                tokio::spawn(async move {
                    let ip = match mdns.filter(|_| wanted) {
                        Some(mdns) => mdns.resolve(&name).await.ok(),
                        None => None,
                    };
                    // The driver may be gone.
                    let _ = notes.send(Note::Resolved { key, name, ip }).await;
                });
            }
        }
    }

    /// Binds sockets for one transport of a connection alone, and lets it open TCP connections.
    fn open_sockets(&mut self, key: Key, transport: TransportId) {
        let Some(entry) = self.connections.get_mut(key) else {
            return;
        };
        entry.has_sockets = true;
        let connection = Arc::clone(&entry.connection);
        let owner = Some(Owner { key, transport });
        for address in self.addresses.clone() {
            if let Err(error) = self.add_address(&address, owner) {
                tracing::debug!(%error, ip = %address.ip, "address not used");
            }
        }
        let sockets = self.sockets.iter().filter(|socket| socket.owner == owner);
        let udp = sockets.map(|socket| socket.local.clone());
        let tcp = self.addresses.iter().flat_map(|it| self.tcp_locals(it));
        // A port on which TCP is accepted is shared, and would not tell for which transport.
        let active = tcp.filter(|local| local.tcp_type == Some(visavis_ice::TcpType::Active));
        let locals: Vec<LocalAddress> = udp.chain(active).collect();
        let now = Instant::now();
        connection
            .lock()
            .core
            .set_transport_addresses(now, transport, locals);
        self.enqueue(key);
    }

    fn tls(&mut self) -> Arc<rustls::ClientConfig> {
        let settings = &self.settings;
        Arc::clone(self.tls.get_or_insert_with(|| {
            settings
                .tls
                .clone()
                .unwrap_or_else(|| Arc::new(stream::default_tls()))
        }))
    }

    fn remove_connection(&mut self, key: Key) {
        self.mux.remove(key);
        if self.has_own_sockets(key) {
            let of_another = |owner: Owner| owner.key != key;
            self.sockets
                .retain(|socket| socket.owner.is_none_or(of_another));
        }
        if self.connections.contains(key) {
            self.connections.remove(key).connection.finished();
        }
    }

    fn has_own_sockets(&self, key: Key) -> bool {
        let entry = self.connections.get(key);
        entry.is_some_and(|entry| entry.has_sockets)
    }

    /// Whether nobody can ask anything of this driver any more.
    fn is_done(&self) -> bool {
        self.shared.is_closed() && self.connections.is_empty()
    }
}

/// What a connection asks of the outside world.
#[derive(Debug)]
pub(crate) enum Request {
    Connect(visavis_ice::Connect),
    Disconnect(Path),
    Resolve(Box<str>),
    OpenSockets(TransportId),
    CloseSockets(TransportId),
}

impl Future for Driver {
    type Output = ();

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<()> {
        let this = self.get_mut();
        this.shared.register(cx.waker());
        let mut busy = this.receive();
        busy |= this.take_notes(cx);
        this.take_work();
        this.expire();
        busy |= this.serve();
        if this.is_done() {
            return Poll::Ready(());
        }
        if busy {
            // Others on this thread get their turn, then this goes on.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        if let Some(Reverse((at, _))) = this.timers.peek() {
            let at = tokio::time::Instant::from_std(*at);
            if this.sleep.deadline() != at {
                this.sleep.as_mut().reset(at);
            }
            if this.sleep.as_mut().poll(cx).is_ready() {
                cx.waker().wake_by_ref();
            }
        }
        Poll::Pending
    }
}

/// A name that tells nothing: a random UUID (draft-ietf-mmusic-mdns-ice-candidates section 3.1.1).
fn random_name(random: &mut Random) -> String {
    let bits = u128::from_be_bytes(random.bytes());
    // Version 4, variant 1 (RFC 9562 section 5.4).
    let bits = bits & !(0xf << 76) & !(0x3 << 62) | 0x4 << 76 | 0x2 << 62;
    let hex = format!("{bits:032x}");
    let (a, b, c, d, e) = (
        &hex[..8],
        &hex[8..12],
        &hex[12..16],
        &hex[16..20],
        &hex[20..],
    );
    format!("{a}-{b}-{c}-{d}-{e}.local")
}

fn network(address: &InterfaceAddress) -> Network {
    Network {
        name: address.name.as_str().into(),
        id: address
            .index
            .and_then(|index| u16::try_from(index).ok())
            .unwrap_or(0),
        cost: address.kind.cost(),
    }
}
