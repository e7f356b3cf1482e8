//! What connections share: sockets, and the task that drives them.

use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::task::Waker;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use tokio::task::AbortHandle;
use visavis_datagram::Random;
use visavis_ice::ProcessPace;
use visavis_net::interface::{
    InterfaceAddress, InterfaceKind, InterfaceWatcher, addresses, default_route_addresses,
};

use crate::Error;
use crate::connection::Connection;
use crate::driver::{Driver, Key, Note};
use crate::ice_server::ServerUrl;
use crate::peer_connection::{Configuration, PeerConnection};
use crate::settings::{Binding, Settings};

/// The pace that the ICE agents of all endpoints keep together (RFC 8445 section 14.2).
fn process_pace() -> ProcessPace {
    static PACE: OnceLock<ProcessPace> = OnceLock::new();
    PACE.get_or_init(ProcessPace::default).clone()
}

/// Randomness that the system has seeded.
pub(crate) fn system_random() -> Result<Random, Error> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(std::io::Error::other)?;
    Ok(Random::from_seed(seed))
}

/// Time since 1970-01-01T00:00:00Z.
pub(crate) fn wall_clock() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// Sockets and the task that drives them, for any number of connections. Cheap to clone.
///
/// A program that makes a few connections needs none of its own: [`PeerConnection::new`] makes one. A
/// server makes one per core and thousands of connections on each.
///
/// Connections of one endpoint share its ports, so they cannot talk to each other, nor two of them to
/// two of another endpoint's over one pair of ports: a 5-tuple belongs to one connection.
#[derive(Debug, Clone)]
pub struct Endpoint {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    shared: Arc<Shared>,
    settings: Settings,
    local_addresses: Vec<SocketAddr>,
    random: Mutex<Random>,
    watcher: Option<AbortHandle>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        if let Some(watcher) = &self.watcher {
            watcher.abort();
        }
        self.shared.close();
    }
}

impl Endpoint {
    /// Binds the sockets and starts the task. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If no socket can be bound.
    pub fn new(settings: Settings) -> Result<Self, Error> {
        // The first connection is not kept waiting for it.
        tokio::task::spawn_blocking(visavis_crypto::warm_up);
        let mut random = system_random()?;
        let (found, watcher) = local_addresses(&settings)?;
        let shared = Arc::new(Shared {
            work: Mutex::default(),
            waker: Mutex::new(None),
            closed: AtomicBool::new(false),
            default_route: default_route_addresses(),
        });
        let driver = Driver::new(settings.clone(), Arc::clone(&shared), found, random.fork())?;
        let notes = driver.notes_sender();
        let bound = driver.local_addresses();
        tokio::spawn(driver);
        let watcher = watcher.map(|watcher| tokio::spawn(watch(watcher, notes)).abort_handle());
        let inner = Inner {
            shared,
            settings,
            local_addresses: bound,
            random: Mutex::new(random),
            watcher,
        };
        Ok(Self {
            inner: Arc::new(inner),
        })
    }

    /// The addresses that the sockets were bound to at the start.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.inner.local_addresses
    }

    /// The settings.
    pub fn settings(&self) -> &Settings {
        &self.inner.settings
    }

    /// Makes a connection that uses this endpoint's sockets.
    ///
    /// # Errors
    /// What the configuration has wrong: a server's URL, a certificate.
    pub fn peer_connection(&self, configuration: Configuration) -> Result<PeerConnection, Error> {
        let mut servers = Vec::new();
        for server in &configuration.ice_servers {
            for url in &server.urls {
                servers.push((ServerUrl::parse(url)?, server.clone()));
            }
        }
        let own_sockets = servers.iter().any(|(url, _)| url.is_turn);
        let random = lock(&self.inner.random).fork();
        let now = Instant::now();
        let mut peer = configuration.into_peer();
        peer.ice.process_pace.get_or_insert_with(process_pace);
        peer.wall_clock = wall_clock();
        let core = visavis_peer::PeerConnection::new(peer, random, now)?;
        let connection = Connection::new(core, Arc::clone(&self.inner.shared), own_sockets);
        self.inner.shared.add(Arc::clone(&connection));
        for (url, server) in servers {
            let connection = Arc::downgrade(&connection);
            tokio::spawn(async move {
                for server in url.resolve(&server).await {
                    let Some(connection) = connection.upgrade() else {
                        return;
                    };
                    let added =
                        connection.with(|state, now| state.core.add_ice_server(now, server));
                    if let Err(error) = added {
                        tracing::warn!(url = url.url, %error, "ICE server not used");
                    }
                }
            });
        }
        Ok(PeerConnection::from_parts(connection, self.clone()))
    }
}

/// The addresses to bind, and what watches them for changes.
fn local_addresses(
    settings: &Settings,
) -> Result<(Vec<InterfaceAddress>, Option<InterfaceWatcher>), Error> {
    match &settings.binding {
        Binding::Interfaces { .. } if settings.watch_interfaces => {
            let watcher = InterfaceWatcher::new(settings.interfaces.clone())?;
            Ok((watcher.addresses().cloned().collect(), Some(watcher)))
        }
        Binding::Interfaces { .. } => Ok((addresses(&settings.interfaces)?, None)),
        Binding::Addresses(fixed) => {
            let mut all = settings.interfaces.clone();
            (all.loopback, all.link_local) = (true, true);
            let known = addresses(&all).unwrap_or_default();
            let named = fixed.iter().map(|address| {
                let ip = address.ip();
                let interface = known.iter().find(|known| known.ip == ip);
                interface.cloned().unwrap_or(InterfaceAddress {
                    name: String::new(),
                    kind: if ip.is_loopback() {
                        InterfaceKind::Loopback
                    } else {
                        InterfaceKind::Unknown
                    },
                    ip,
                    index: None,
                })
            });
            Ok((named.collect(), None))
        }
    }
}

/// Tells the driver of changes.
async fn watch(mut watcher: InterfaceWatcher, notes: tokio::sync::mpsc::Sender<Note>) {
    while let Ok(change) = watcher.changed().await {
        let note = Note::Interfaces {
            added: change.added,
            removed: change.removed,
        };
        if notes.send(note).await.is_err() {
            return;
        }
    }
}

/// What users and the driver of one endpoint share.
#[derive(Debug)]
pub(crate) struct Shared {
    work: Mutex<Work>,
    waker: Mutex<Option<Waker>>,
    closed: AtomicBool,
    pub(crate) default_route: Vec<IpAddr>,
}

/// What users have put down for the driver.
#[derive(Debug, Default)]
pub(crate) struct Work {
    pub(crate) new: Vec<Arc<Connection>>,
    pub(crate) touched: Vec<Key>,
}

impl Shared {
    pub(crate) fn work(&self) -> MutexGuard<'_, Work> {
        lock(&self.work)
    }

    fn add(&self, connection: Arc<Connection>) {
        self.work().new.push(connection);
        self.wake();
    }

    pub(crate) fn touch(&self, key: Key) {
        self.work().touched.push(key);
        self.wake();
    }

    fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.wake();
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    /// The driver asks to be woken.
    pub(crate) fn register(&self, waker: &Waker) {
        let mut registered = lock(&self.waker);
        if !registered
            .as_ref()
            .is_some_and(|known| known.will_wake(waker))
        {
            *registered = Some(waker.clone());
        }
    }

    pub(crate) fn wake(&self) {
        if let Some(waker) = &*lock(&self.waker) {
            waker.wake_by_ref();
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
