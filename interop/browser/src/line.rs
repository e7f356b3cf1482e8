//! A bad line in front of a UDP socket: what is sent to its address arrives there later, more slowly, or
//! not at all, and so do the answers. In user space, so that every kernel has it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::net::UdpSocket;
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use tokio::time::Instant;
use visavis_datagram::Random;

/// What a line is like, each way.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Conditions {
    /// The part of the datagrams that get lost.
    pub loss: f64,
    /// Bits per second that pass; any number if 0.
    pub rate: u64,
    /// How long a datagram takes.
    pub delay: Duration,
    /// How long one may wait its turn; beyond, it is dropped.
    pub queue: Duration,
}

impl Default for Conditions {
    fn default() -> Self {
        Self {
            loss: 0.0,
            rate: 0,
            delay: Duration::ZERO,
            queue: Duration::from_millis(300),
        }
    }
}

/// A bad line. It ends when this is dropped.
pub struct Line {
    address: SocketAddr,
    conditions: Arc<Mutex<Conditions>>,
    task: AbortHandle,
}

impl Drop for Line {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Line {
    /// A line in front of `ours`, on the same host.
    pub async fn before(ours: SocketAddr, conditions: Conditions) -> Self {
        let outer = UdpSocket::bind((ours.ip(), 0)).await.expect("a socket");
        let address = outer.local_addr().expect("its address");
        let conditions = Arc::new(Mutex::new(conditions));
        let carry = carry(Arc::new(outer), ours, Arc::clone(&conditions));
        let task = tokio::spawn(carry).abort_handle();
        Self {
            address,
            conditions,
            task,
        }
    }

    /// Where the peer is to send to.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes the line.
    pub fn change(&self, change: impl FnOnce(&mut Conditions)) {
        change(&mut self.conditions.lock().unwrap());
    }
}

/// Each peer that sends has a socket of its own on our side, as with a NAT.
async fn carry(outer: Arc<UdpSocket>, ours: SocketAddr, conditions: Arc<Mutex<Conditions>>) {
    let mut peers: HashMap<SocketAddr, Pipe> = HashMap::new();
    let mut ways = tokio::task::JoinSet::new();
    let mut buffer = vec![0; 2048];
    while let Ok((len, from)) = outer.recv_from(&mut buffer).await {
        if !peers.contains_key(&from) {
            let inner = UdpSocket::bind((ours.ip(), 0)).await.expect("a socket");
            inner.connect(ours).await.expect("an address");
            let inner = Arc::new(inner);
            let seed = 2 * peers.len() as u64;
            let (there, arriving) = Pipe::new(seed, Arc::clone(&conditions));
            ways.spawn(deliver(arriving, Arc::clone(&inner), ours));
            let (mut back, returning) = Pipe::new(seed + 1, Arc::clone(&conditions));
            ways.spawn(deliver(returning, Arc::clone(&outer), from));
            ways.spawn(async move {
                let mut buffer = vec![0; 2048];
                loop {
                    // Refused while our end is not there: that is as good as lost.
                    if let Ok(len) = inner.recv(&mut buffer).await {
                        back.push(&buffer[..len]);
                    }
                }
            });
            peers.insert(from, there);
        }
        if let Some(pipe) = peers.get_mut(&from) {
            pipe.push(&buffer[..len]);
        }
    }
}

/// One way of one peer's datagrams.
struct Pipe {
    conditions: Arc<Mutex<Conditions>>,
    random: Random,
    /// When the last one that passed will have left.
    free: Instant,
    sent: mpsc::UnboundedSender<(Instant, Vec<u8>)>,
}

impl Pipe {
    fn new(
        seed: u64,
        conditions: Arc<Mutex<Conditions>>,
    ) -> (Self, mpsc::UnboundedReceiver<(Instant, Vec<u8>)>) {
        let (sent, received) = mpsc::unbounded_channel();
        let pipe = Self {
            conditions,
            random: Random::from_u64(seed),
            free: Instant::now(),
            sent,
        };
        (pipe, received)
    }

    fn push(&mut self, datagram: &[u8]) {
        let conditions = *self.conditions.lock().unwrap();
        let now = Instant::now();
        let begins = self.free.max(now);
        if self.random.chance(conditions.loss) || begins - now > conditions.queue {
            return;
        }
        let bits = 8 * (datagram.len() + 28) as u64;
        self.free = match (bits * 1_000_000_000).checked_div(conditions.rate) {
            Some(nanos) => begins + Duration::from_nanos(nanos),
            // Without a limit.
            None => now,
        };
        let _ = self
            .sent
            .send((self.free + conditions.delay, datagram.to_vec()));
    }
}

async fn deliver(
    mut arriving: mpsc::UnboundedReceiver<(Instant, Vec<u8>)>,
    socket: Arc<UdpSocket>,
    to: SocketAddr,
) {
    while let Some((due, datagram)) = arriving.recv().await {
        if due > Instant::now() {
            tokio::time::sleep_until(due).await;
        }
        // The inner sockets are connected.
        let _ = match socket.peer_addr() {
            Ok(_) => socket.send(&datagram).await,
            Err(_) => socket.send_to(&datagram, to).await,
        };
    }
}
