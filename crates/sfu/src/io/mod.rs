//! Worker threads: sockets, clocks and queues around [`Worker`].

mod streams;
mod thread;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::{Bytes, BytesMut};
use tokio::io::AsyncReadExt;
use tokio::sync::mpsc;
use visavis_datagram::Random;
use visavis_ice::{AddressRewrite, CandidateKind, LocalAddress, RewriteMode, TcpType};
use visavis_net::interface::{self, InterfaceFilter};

use crate::config::{Balance, Config, Limits};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::handle::Stream;
use crate::ids::{ConnectionId, RoomId, SubscriptionId, TrackId, WorkerIndex};
use crate::worker::{Relocation, Settings, Worker};

/// What the control plane has a worker do.
pub(crate) type Command = Box<dyn FnOnce(&mut Worker, Instant) + Send>;

/// How one worker is reached.
pub(crate) struct WorkerHandle {
    pub(crate) commands: mpsc::Sender<Command>,
    /// Commands that must not be refused: the ends of things. Bounded by the number of things.
    pub(crate) last_words: mpsc::UnboundedSender<Command>,
    peers: mpsc::Sender<FromPeer>,
    pub(crate) load: Arc<Load>,
}

/// How busy a worker is.
#[derive(Debug, Default)]
pub(crate) struct Load {
    /// The share of the last while that its thread had a processor, as a float's bits.
    share: AtomicU32,
    connections: AtomicUsize,
}

impl Load {
    /// Notes that share, 0.0 to 1.0.
    fn set(&self, share: f32) {
        self.share.store(share.to_bits(), Ordering::Relaxed);
    }

    pub(crate) fn share(&self) -> f32 {
        // Who has nothing to do does not say so.
        match self.connections() {
            0 => 0.0,
            _ => f32::from_bits(self.share.load(Ordering::Relaxed)),
        }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::Relaxed)
    }

    fn joined(&self) {
        self.connections.fetch_add(1, Ordering::Relaxed);
    }

    fn left(&self) {
        self.connections.fetch_sub(1, Ordering::Relaxed);
    }

    /// How many connections worker `index` should give away now, and to which worker: half of what would make it as busy as
    /// the one with the least to do. The rest follows when that has shown.
    fn crowd(loads: &[Arc<Self>], index: usize, balance: &Balance) -> Option<(usize, usize)> {
        let own = loads.get(index)?;
        let share = own.share();
        let all = loads.iter().map(|load| load.share()).enumerate();
        let (coolest, least) = all.min_by(|(_, one), (_, other)| one.total_cmp(other))?;
        if share <= balance.hot || least >= balance.cool {
            return None;
        }
        let part = (share - least) / share / 4.0;
        let count = (own.connections() as f32 * part).ceil() as usize;
        Some((count.min(balance.moves), coolest))
    }
}

/// What one worker has another one do, and what the front listener gives.
pub(crate) enum FromPeer {
    /// What its state machine says.
    Message(crate::worker::Message),
    /// A stream that was accepted.
    Stream {
        stream: Box<dyn Stream>,
        first: Bytes,
        local: SocketAddr,
        remote: SocketAddr,
    },
}

/// What all handles share.
pub(crate) struct Shared {
    pub(crate) addresses: Vec<SocketAddr>,
    pub(crate) workers: Vec<WorkerHandle>,
    pub(crate) limits: Limits,
    balance: Balance,
    next: AtomicU64,
    rooms: Mutex<HashMap<RoomId, Placement>>,
    owners: Mutex<HashMap<ConnectionId, Open>>,
    moved: RwLock<Moved>,
}

/// A connection that nobody has ended.
#[derive(Debug)]
struct Open {
    room: RoomId,
    /// How many messages it was given to send.
    messages: u64,
}

/// What lives elsewhere than its name says.
#[derive(Debug, Default)]
struct Moved {
    connections: HashMap<ConnectionId, Belongings>,
    subscriptions: HashMap<SubscriptionId, WorkerIndex>,
    tracks: HashMap<TrackId, WorkerIndex>,
}

/// Where a connection is that has moved, and what went with it when it did last.
#[derive(Debug, Default)]
struct Belongings {
    home: WorkerIndex,
    subscriptions: Vec<SubscriptionId>,
    tracks: Vec<TrackId>,
}

impl Moved {
    fn insert(&mut self, relocation: &Relocation, home: WorkerIndex) {
        self.remove(relocation.connection());
        let theirs = Belongings {
            home,
            subscriptions: relocation.subscriptions().collect(),
            tracks: relocation.tracks().collect(),
        };
        let subscriptions = theirs.subscriptions.iter().map(|&id| (id, home));
        self.subscriptions.extend(subscriptions);
        let tracks = theirs.tracks.iter().map(|&id| (id, home));
        self.tracks.extend(tracks);
        self.connections.insert(relocation.connection(), theirs);
    }

    fn remove(&mut self, id: ConnectionId) {
        let Some(theirs) = self.connections.remove(&id) else {
            return;
        };
        for subscription in theirs.subscriptions {
            self.subscriptions.remove(&subscription);
        }
        for track in theirs.tracks {
            self.tracks.remove(&track);
        }
    }
}

/// Where a room's connections are.
#[derive(Debug, Default)]
struct Placement {
    /// Connections per worker, in the order in which the room spread.
    workers: Vec<(WorkerIndex, usize)>,
}

impl Placement {
    fn joined(&mut self, worker: WorkerIndex) {
        match self.workers.iter_mut().find(|(index, _)| *index == worker) {
            Some((_, count)) => *count += 1,
            None => self.workers.push((worker, 1)),
        }
    }

    fn left(&mut self, worker: WorkerIndex) {
        if let Some((_, count)) = self.workers.iter_mut().find(|(index, _)| *index == worker) {
            *count = count.saturating_sub(1);
        }
    }
}

impl Shared {
    fn moved(&self) -> std::sync::RwLockReadGuard<'_, Moved> {
        self.moved.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn owners(&self) -> std::sync::MutexGuard<'_, HashMap<ConnectionId, Open>> {
        self.owners.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The worker that has a connection.
    pub(crate) fn home_of(&self, id: ConnectionId) -> WorkerIndex {
        let moved = self.moved();
        let theirs = moved.connections.get(&id);
        theirs.map_or(id.worker(), |theirs| theirs.home)
    }

    /// The worker that has a subscription.
    pub(crate) fn home_of_subscription(&self, id: SubscriptionId) -> WorkerIndex {
        let moved = self.moved();
        moved.subscriptions.get(&id).copied().unwrap_or(id.worker())
    }

    /// The worker that has a track.
    pub(crate) fn home_of_track(&self, id: TrackId) -> WorkerIndex {
        let moved = self.moved();
        moved.tracks.get(&id).copied().unwrap_or(id.worker())
    }

    /// Whether nobody has ended a connection. What is on its way to a worker asks when it is there: who ends a connection says
    /// so here first, and then to the worker that has it.
    pub(crate) fn is_open(&self, id: ConnectionId) -> bool {
        self.owners().contains_key(&id)
    }

    /// The number of the next message for a connection; `None` if that was ended.
    pub(crate) fn next_message(&self, id: ConnectionId) -> Option<u64> {
        let mut owners = self.owners();
        let messages = &mut owners.get_mut(&id)?.messages;
        *messages += 1;
        Some(*messages - 1)
    }

    /// A connection goes to another worker, to which `send` hands it. Nobody is told where it is before it is on its way there.
    pub(crate) fn moves(
        &self,
        relocation: Relocation,
        from: WorkerIndex,
        to: WorkerIndex,
        send: impl FnOnce(Relocation),
    ) {
        let (id, room) = (relocation.connection(), relocation.room());
        // Nobody ends it meanwhile.
        let owners = self.owners();
        if !owners.contains_key(&id) {
            return send(relocation);
        }
        let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
        moved.insert(&relocation, to);
        send(relocation);
        drop(moved);
        for (index, load) in self.workers.iter().enumerate() {
            match index as WorkerIndex {
                index if index == from => load.load.left(),
                index if index == to => load.load.joined(),
                _ => {}
            }
        }
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        let placement = rooms.entry(room).or_default();
        placement.left(from);
        placement.joined(to);
    }

    /// Chooses a worker for one more connection of a room.
    pub(crate) fn place(&self, room: RoomId) -> Result<ConnectionId> {
        let mut rooms = self.rooms.lock().map_err(|_| Error::ShutDown)?;
        let placement = rooms.entry(room).or_default();
        let spread = self.limits.room_spread.max(1);
        let is_hot = |index: WorkerIndex| {
            let share = |worker: &WorkerHandle| worker.load.share();
            self.workers
                .get(usize::from(index))
                .is_some_and(|worker| share(worker) > self.balance.hot)
                && self
                    .workers
                    .iter()
                    .any(|worker| share(worker) < self.balance.cool)
        };
        let open = placement
            .workers
            .iter()
            .position(|&(index, count)| count < spread && !is_hot(index));
        let at = match open {
            Some(at) => at,
            None => {
                // Those that are too busy come last, whatever they have.
                let load = |index: usize| {
                    let count = self.workers[index].load.connections();
                    (is_hot(index as WorkerIndex), count)
                };
                let unused = (0..self.workers.len()).filter(|&index| {
                    let index = index as WorkerIndex;
                    placement.workers.iter().all(|&(used, _)| used != index)
                });
                match unused.min_by_key(|&index| load(index)) {
                    Some(index) => {
                        placement.workers.push((index as WorkerIndex, 0));
                        placement.workers.len() - 1
                    }
                    // All workers have their share: the one with the fewest takes more.
                    None => (0..placement.workers.len())
                        .min_by_key(|&at| {
                            let (index, count) = placement.workers[at];
                            (is_hot(index), count)
                        })
                        .ok_or(Error::ShutDown)?,
                }
            }
        };
        let (worker, count) = &mut placement.workers[at];
        *count += 1;
        let worker = *worker;
        self.workers[usize::from(worker)].load.joined();
        let id = ConnectionId::new(worker, self.next.fetch_add(1, Ordering::Relaxed));
        drop(rooms);
        self.owners().insert(id, Open { room, messages: 0 });
        Ok(id)
    }

    /// A connection is gone. Answers where it was, unless that was known before.
    pub(crate) fn left(&self, id: ConnectionId) -> Option<WorkerIndex> {
        let room = self.owners().remove(&id)?.room;
        // It does not move any more.
        let home = self.home_of(id);
        let mut moved = self.moved.write().unwrap_or_else(PoisonError::into_inner);
        moved.remove(id);
        drop(moved);
        if let Some(worker) = self.workers.get(usize::from(home)) {
            worker.load.left();
        }
        let mut rooms = self.rooms.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(placement) = rooms.get_mut(&room) {
            placement.left(home);
            if placement.workers.iter().all(|&(_, count)| count == 0) {
                rooms.remove(&room);
            }
        }
        Some(home)
    }

    /// A room is gone with all its connections.
    pub(crate) fn forget_room(&self, room: RoomId) {
        let theirs = |(id, open): (&ConnectionId, &Open)| (open.room == room).then_some(*id);
        let gone: Vec<ConnectionId> = self.owners().iter().filter_map(theirs).collect();
        for id in gone {
            self.left(id);
        }
    }

    /// Gives a stream to the worker that its first check names, or drops it.
    pub(crate) async fn accept_tcp(
        &self,
        mut stream: Box<dyn Stream>,
        first: Bytes,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        let mut first = BytesMut::from(first);
        let whole = async {
            loop {
                if let Some(check) = first_datagram(&first) {
                    return crate::worker::owner_of_check(check);
                }
                if first.len() > MAX_FIRST {
                    return None;
                }
                match stream.read_buf(&mut first).await {
                    Ok(1..) => {}
                    _ => return None,
                }
            }
        };
        let owner = tokio::time::timeout(FIRST_CHECK, whole).await;
        let owner = owner.ok().flatten();
        let worker = owner.and_then(|index| self.workers.get(usize::from(index)));
        if let Some(worker) = worker {
            let _ = worker.peers.try_send(FromPeer::Stream {
                stream,
                first: first.freeze(),
                local,
                remote,
            });
        }
    }
}

/// The first datagram of what was read of a stream (RFC 4571: its length stands before it in two bytes), if all of it was.
fn first_datagram(read: &[u8]) -> Option<&[u8]> {
    let (len, rest) = read.split_first_chunk()?;
    rest.get(..usize::from(u16::from_be_bytes(*len)))
}

/// How long a stream may take to bring its first connectivity check.
const FIRST_CHECK: Duration = Duration::from_secs(10);
/// So much is read of a stream in the hope of its first check.
const MAX_FIRST: usize = 2048;

/// Binds the sockets and starts the threads.
pub(crate) fn start(config: Config) -> io::Result<(Shared, mpsc::Receiver<Event>)> {
    let count = match config.workers {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        count => count,
    };
    let seed = match config.seed {
        Some(seed) => Random::from_u64(seed),
        None => {
            let mut seed = [0; 32];
            getrandom::fill(&mut seed).map_err(io::Error::other)?;
            Random::from_seed(seed)
        }
    };
    let mut random = seed;
    let wall_clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let certificate = visavis_peer::generate_certificate(
        visavis_peer::CertificateKind::EcdsaP256,
        wall_clock,
        &mut random,
    )
    .map_err(io::Error::other)?;

    let mut bound: Vec<std::net::UdpSocket> = Vec::new();
    let mut sockets: Vec<Vec<std::net::UdpSocket>> = Vec::new();
    for index in 0..count {
        let mut own = Vec::new();
        for (at, &address) in config.udp.iter().enumerate() {
            // The first worker's port is everybody's.
            let address = match bound.get(at) {
                Some(first) => first.local_addr()?,
                None => address,
            };
            let socket = thread::bind(address)?;
            if index == 0 {
                bound.push(socket.try_clone()?);
            }
            own.push(socket);
        }
        sockets.push(own);
    }
    let udp: Vec<SocketAddr> = bound
        .iter()
        .map(std::net::UdpSocket::local_addr)
        .collect::<io::Result<_>>()?;
    let udp = concrete(&udp, config.loopback)?;
    let tcp = concrete(&config.tcp, config.loopback)?;
    let mut addresses: Vec<LocalAddress> = udp.iter().copied().map(LocalAddress::udp).collect();
    addresses.extend(tcp.iter().map(|&address| LocalAddress {
        protocol: visavis_datagram::Protocol::Tcp,
        tcp_type: Some(TcpType::Passive),
        ..LocalAddress::udp(address)
    }));
    let rewrites = config.advertised.iter().map(|&external| AddressRewrite {
        external,
        local: None,
        interface: None,
        mode: RewriteMode::Replace,
        kind: CandidateKind::Host,
    });
    let rewrites: Vec<AddressRewrite> = rewrites.collect();

    let (events, receiver) = mpsc::channel(config.limits.events.max(1));
    let codecs = Arc::new(config.codecs.clone());
    let mut workers = Vec::new();
    let (peers, peer_queues): (Vec<_>, Vec<_>) = (0..count)
        .map(|_| mpsc::channel(config.limits.handover.max(1)))
        .unzip();
    let loads: Vec<Arc<Load>> = (0..count).map(|_| Arc::default()).collect();
    let queues = sockets.into_iter().zip(peer_queues);
    for (index, (sockets, peer_queue)) in queues.enumerate() {
        let (commands, command_queue) = mpsc::channel(config.limits.commands.max(1));
        let (last_words, last_queue) = mpsc::unbounded_channel();
        let settings = Settings {
            index: index as u16,
            workers: count as u16,
            addresses: addresses.clone(),
            rewrites: rewrites.clone(),
            certificate: certificate.clone(),
            codecs: Arc::clone(&codecs),
            limits: config.limits,
            forwarding: config.forwarding,
            wall_clock,
        };
        let start = thread::Start {
            settings,
            sockets,
            random: random.fork(),
            commands: command_queue,
            last_words: last_queue,
            from_peers: peer_queue,
            peers: peers.clone(),
            events: events.clone(),
            loads: loads.clone(),
            balance: config.balance,
        };
        thread::spawn(start)?;
        workers.push(WorkerHandle {
            commands,
            last_words,
            peers: peers[index].clone(),
            load: Arc::clone(&loads[index]),
        });
    }
    let shared = Shared {
        addresses: udp,
        workers,
        limits: config.limits,
        balance: config.balance,
        next: AtomicU64::new(1),
        rooms: Mutex::default(),
        owners: Mutex::default(),
        moved: RwLock::default(),
    };
    Ok((shared, receiver))
}

/// Each unspecified address as those of the interfaces.
fn concrete(bound: &[SocketAddr], loopback: bool) -> io::Result<Vec<SocketAddr>> {
    let mut addresses = Vec::new();
    for &address in bound {
        if !address.ip().is_unspecified() {
            addresses.push(address);
            continue;
        }
        let mut filter = InterfaceFilter::default();
        filter.loopback = loopback;
        let fits = |ip: &IpAddr| ip.is_ipv4() == address.is_ipv4();
        let found = interface::addresses(&filter)?
            .into_iter()
            .map(|found| found.ip);
        addresses.extend(
            found
                .filter(fits)
                .map(|ip| SocketAddr::new(ip, address.port())),
        );
    }
    Ok(addresses)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Workers that do not run.
    fn shared(count: usize, limits: Limits) -> Shared {
        let worker = |_| WorkerHandle {
            commands: mpsc::channel(1).0,
            last_words: mpsc::unbounded_channel().0,
            peers: mpsc::channel(1).0,
            load: Arc::default(),
        };
        Shared {
            addresses: Vec::new(),
            workers: (0..count).map(worker).collect(),
            limits,
            balance: Balance::default(),
            next: AtomicU64::new(1),
            rooms: Mutex::default(),
            owners: Mutex::default(),
            moved: RwLock::default(),
        }
    }

    #[test]
    fn a_room_stays_together_until_its_worker_is_hot_and_another_is_not() {
        let limits = Limits {
            room_spread: 100,
            ..Limits::default()
        };
        let shared = shared(3, limits);
        let place = |room| shared.place(RoomId(room)).unwrap().worker();
        let first = place(1);
        assert_eq!([place(1), place(1)], [first, first]);
        let other = place(2);
        assert_ne!(other, first, "another room goes to another worker");
        shared.workers[usize::from(first)].load.set(0.9);
        let third = place(1);
        assert!(third != first && third != other, "the one with the fewest");
        assert_eq!(place(1), third, "and the room goes on there");
        shared.workers[usize::from(first)].load.set(0.3);
        assert_eq!(place(1), first);
        // Where all are hot, nobody is spared.
        for worker in &shared.workers {
            worker.load.set(0.95);
        }
        assert_eq!(place(1), first);
    }

    #[test]
    fn a_hot_worker_gives_some_away_while_another_is_cool() {
        let shared = shared(2, Limits::default());
        let loads: Vec<_> = shared
            .workers
            .iter()
            .map(|worker| Arc::clone(&worker.load))
            .collect();
        let crowd = |index| Load::crowd(&loads, index, &Balance::default());
        for _ in 0..40 {
            loads[0].joined();
        }
        loads[1].joined();
        loads[0].set(0.7);
        assert_eq!(crowd(0), None, "busy is not hot");
        loads[0].set(0.9);
        loads[1].set(0.3);
        // A third would make them equal: half of that.
        assert_eq!(crowd(0), Some((7, 1)));
        assert_eq!(crowd(1), None);
        loads[1].set(0.7);
        assert_eq!(crowd(0), None, "nobody is cool");
    }
}
