//! The UDP sockets of an endpoint: found by address, looked at when the system says that they are
//! ready, each with what it had no room for.

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, Wake, Waker};

use slab::Slab;
use visavis_datagram::Transmit;
use visavis_ice::LocalAddress;
use visavis_net::mdns::PublishedName;
use visavis_net::udp::{ReceiveBatch, UdpSocket};
use visavis_peer::TransportId;

use super::Key;
use crate::endpoint::Shared;

/// The one connection, and the one transport of it, that a socket serves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) key: Key,
    pub(super) transport: TransportId,
}

impl Owner {
    /// The transport that a connection begins with.
    pub(super) const fn main(key: Key) -> Self {
        Self {
            key,
            transport: TransportId::MAIN,
        }
    }
}

/// One UDP socket.
pub(super) struct Socket {
    udp: UdpSocket,
    pub(super) local: LocalAddress,
    /// Whom it serves; all connections if `None`.
    pub(super) owner: Option<Owner>,
    /// Runs that the kernel had no room for. A connection whose run waits here is not asked for
    /// more, so there is one for each at most.
    blocked: VecDeque<(Transmit, Vec<u8>)>,
    /// Who waits for room.
    waiters: Vec<Key>,
    ready: Arc<Ready>,
    waker: Waker,
    /// The name that stands in for the address, answered for as long as this lives.
    _name: Option<PublishedName>,
    /// The port that the router gave, and what keeps it.
    #[cfg(feature = "port-mapping")]
    pub(super) mapped: Option<SocketAddr>,
    #[cfg(feature = "port-mapping")]
    _mapping: Option<super::mapping::Mapping>,
}

/// Whether a socket is to be looked at.
struct Ready {
    index: usize,
    queued: AtomicBool,
    queue: Arc<Queue>,
}

/// The sockets to look at, and whom to wake for them.
struct Queue {
    sockets: Mutex<Vec<usize>>,
    shared: Arc<Shared>,
}

impl Ready {
    fn set(&self) {
        if !self.queued.swap(true, Ordering::AcqRel) {
            lock(&self.queue.sockets).push(self.index);
        }
    }
}

impl Wake for Ready {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.set();
        self.queue.shared.wake();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// All sockets.
pub(super) struct Sockets {
    slots: Slab<Socket>,
    by_local: HashMap<SocketAddr, usize>,
    queue: Arc<Queue>,
    /// Taken in turn with the queue's, for their memory.
    looked_at: Vec<usize>,
}

impl Sockets {
    pub(super) fn new(shared: Arc<Shared>) -> Self {
        Self {
            slots: Slab::new(),
            by_local: HashMap::new(),
            queue: Arc::new(Queue {
                sockets: Mutex::default(),
                shared,
            }),
            looked_at: Vec::new(),
        }
    }

    pub(super) fn add(
        &mut self,
        udp: UdpSocket,
        local: LocalAddress,
        owner: Option<Owner>,
        name: Option<PublishedName>,
    ) {
        let entry = self.slots.vacant_entry();
        let ready = Arc::new(Ready {
            index: entry.key(),
            queued: AtomicBool::new(false),
            queue: Arc::clone(&self.queue),
        });
        // It tells of nothing before it was looked at once.
        ready.wake_by_ref();
        self.by_local.insert(udp.local_addr(), entry.key());
        entry.insert(Socket {
            udp,
            local,
            owner,
            blocked: VecDeque::new(),
            waiters: Vec::new(),
            waker: Waker::from(Arc::clone(&ready)),
            ready,
            _name: name,
            #[cfg(feature = "port-mapping")]
            mapped: None,
            #[cfg(feature = "port-mapping")]
            _mapping: None,
        });
    }

    /// What keeps a socket's port on the router.
    #[cfg(feature = "port-mapping")]
    pub(super) fn set_mapping(&mut self, local: SocketAddr, mapping: super::mapping::Mapping) {
        let index = self.by_local.get(&local).copied();
        if let Some(socket) = index.and_then(|index| self.slots.get_mut(index)) {
            socket._mapping = Some(mapping);
        }
    }

    /// The router gave a socket a port; whose socket it is.
    #[cfg(feature = "port-mapping")]
    pub(super) fn set_mapped(
        &mut self,
        local: SocketAddr,
        external: SocketAddr,
    ) -> Option<Option<Owner>> {
        let socket = self.slots.get_mut(*self.by_local.get(&local)?)?;
        socket.mapped = Some(external);
        Some(socket.owner)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &Socket> {
        self.slots.iter().map(|(_, socket)| socket)
    }

    /// Drops the sockets that are not to be kept; their addresses.
    pub(super) fn retain(&mut self, keep: impl Fn(&Socket) -> bool) -> Vec<SocketAddr> {
        let mut gone = Vec::new();
        self.slots.retain(|_, socket| {
            let keeps = keep(socket);
            if !keeps {
                gone.push(socket.local_addr());
            }
            keeps
        });
        for address in &gone {
            self.by_local.remove(address);
        }
        gone
    }

    /// Begins a look at the sockets that became ready: their number.
    pub(super) fn begin(&mut self) -> usize {
        self.looked_at.clear();
        std::mem::swap(&mut self.looked_at, &mut lock(&self.queue.sockets));
        self.looked_at.len()
    }

    /// One of them, unless it is gone.
    pub(super) fn ready(&mut self, number: usize) -> Option<&mut Socket> {
        let socket = self.slots.get_mut(*self.looked_at.get(number)?)?;
        socket.ready.queued.store(false, Ordering::Release);
        Some(socket)
    }

    /// The same one again.
    pub(super) fn looked_at(&mut self, number: usize) -> Option<&mut Socket> {
        self.slots.get_mut(*self.looked_at.get(number)?)
    }

    /// The socket that a connection sends from.
    pub(super) fn from(&mut self, source: SocketAddr, key: Key) -> Option<&mut Socket> {
        let socket = self.slots.get_mut(*self.by_local.get(&source)?)?;
        socket
            .owner
            .is_none_or(|owner| owner.key == key)
            .then_some(socket)
    }
}

impl Socket {
    pub(super) fn local_addr(&self) -> SocketAddr {
        self.udp.local_addr()
    }

    /// Receives what one call brings. False: there is nothing now, and the socket will be ready when
    /// there is.
    pub(super) fn receive(&mut self, batch: &mut ReceiveBatch) -> bool {
        let mut cx = Context::from_waker(&self.waker);
        match self.udp.poll_recv(&mut cx, batch) {
            Poll::Ready(Ok(_)) => true,
            Poll::Ready(Err(error)) => {
                tracing::debug!(%error, "receive failed");
                self.waker.wake_by_ref();
                false
            }
            Poll::Pending => false,
        }
    }

    /// There is more to receive than one turn takes.
    pub(super) fn again(&self) {
        self.ready.set();
    }

    /// Sends a run. False: the kernel has no room, and `key` is told when there is again.
    pub(super) fn send(&mut self, transmit: &Transmit, bytes: &[u8], key: Key) -> bool {
        let mut rest = *transmit;
        let mut done = 0;
        if self.blocked.is_empty() {
            done = self.udp.try_send(transmit, bytes);
            if done == bytes.len() {
                return true;
            }
            rest.len = bytes.len() - done;
        }
        self.blocked.push_back((rest, bytes[done..].to_vec()));
        if !self.waiters.contains(&key) {
            self.waiters.push(key);
        }
        self.watch_room();
        false
    }

    fn watch_room(&self) {
        let mut cx = Context::from_waker(&self.waker);
        if self.udp.poll_send_ready(&mut cx).is_ready() {
            self.waker.wake_by_ref();
        }
    }

    /// Sends what there was no room for; hands out who waited, once all of it has left.
    pub(super) fn unblock(&mut self, mut wake: impl FnMut(Key)) {
        while let Some((transmit, bytes)) = self.blocked.front_mut() {
            let done = self.udp.try_send(transmit, bytes);
            if done < bytes.len() {
                bytes.drain(..done);
                transmit.len = bytes.len();
                self.watch_room();
                return;
            }
            self.blocked.pop_front();
        }
        self.waiters.drain(..).for_each(&mut wake);
    }
}
