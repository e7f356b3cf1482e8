//! The door of the service: start, reload, drain, stop; credentials; streams that somebody else accepted.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::ServerConnection;
use serde::Serialize;
use socket2::{Domain, Socket, Type};
use visavis_crypto::{HashAlgorithm, hmac};
use visavis_datagram::Random;
use visavis_net::direct::{DirectOptions, DirectSocket, raise_descriptor_limit};
use visavis_turn::server::{
    AllocationId, AllocationInfo, Limits, RelayPool, ServerConfig, SharedQuota,
};

use super::certificates::Loaded;
use super::config::{TurnConfig, TurnError};
use super::control;
use super::inbox::{Inbox, Message, Reloaded, Report};
use super::metrics::Metrics;
use super::streams::StreamLimits;
use super::worker::{Setup, Worker, handed};

/// How long the control side waits for a worker's answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// A running STUN and TURN service. Clones are the same service; it ends with [`TurnService::stop`], or when the last
/// clone is dropped.
#[derive(Clone)]
pub struct TurnService(Arc<Inner>);

pub(super) struct Inner {
    inboxes: Vec<Arc<Inbox>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    control: Mutex<Option<tokio::task::JoinHandle<()>>>,
    udp: Vec<SocketAddr>,
    tcp: Vec<(SocketAddr, bool)>,
    next: AtomicUsize,
    state: Mutex<State>,
    started: Instant,
}

pub(super) struct State {
    pub(super) config: TurnConfig,
    pub(super) loaded: Loaded,
    pub(super) random: Random,
    pub(super) draining: bool,
}

/// Time-limited credentials for a client, as RTCPeerConnection's `iceServers` takes them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Credential {
    /// The time when they end, in seconds since 1970, a colon, and whose they are.
    pub username: String,
    /// Base64 of the HMAC-SHA1 over the name.
    pub password: String,
    /// How long they are good, in seconds.
    pub ttl: u64,
    /// Where the server is: `stun:`, `turn:` and `turns:` addresses.
    pub uris: Vec<String>,
}

impl TurnService {
    /// Binds every socket and starts the workers. Within a tokio runtime, which the control side runs on.
    ///
    /// # Errors
    /// A wrong setting, a certificate that cannot be read, an address that cannot be had.
    pub fn start(mut config: TurnConfig) -> Result<Self, TurnError> {
        config.check()?;
        // Each allocation has a socket.
        match raise_descriptor_limit() {
            Ok(limit) if limit < config.core.limits.allocations as u64 => {
                let words = "the system permits fewer open files than `allocations`: raise it (LimitNOFILE)";
                // Whoever did not ask for a number is not troubled with it.
                if config.core.limits.allocations == Limits::default().allocations {
                    tracing::debug!(limit, "{words}");
                } else {
                    tracing::warn!(limit, "{words}");
                }
            }
            Ok(_) => {}
            Err(error) => tracing::warn!(%error, "cannot raise the limit on open files"),
        }
        let mut random = Random::from_seed(seed()?);
        let (loaded, acme) = config.certificates.load(&mut random)?;
        let (events, received) = control::events();
        let started = Instant::now();
        let nonce_key = random.bytes::<32>();
        let external = config.core.relays.iter().map(|relay| relay.external);
        config.core.quota = Some(Arc::new(SharedQuota::default()));
        config.core.pool = Some(Arc::new(RelayPool::new(external, &config.core.ports)));
        are_usable(&config)?;
        let mut workers = Vec::new();
        let mut inboxes = Vec::new();
        let (mut udp, mut tcp) = (Vec::new(), Vec::new());
        for number in 0..config.workers {
            let poll = mio::Poll::new()?;
            let waker = mio::Waker::new(poll.registry(), Worker::waker_token())?;
            let inbox = Arc::new(Inbox::new(waker));
            // The others share the ports that the first was given.
            let addresses = if number == 0 {
                let plain = config.listen.iter().map(|address| (*address, false));
                let tls = config.tls_listen.iter().map(|address| (*address, true));
                (config.udp_addresses(), plain.chain(tls).collect())
            } else {
                (udp.clone(), tcp.clone())
            };
            let setup = Setup {
                core: core_config(&config, number, &udp, nonce_key),
                udp: addresses.0,
                tcp: addresses.1,
                tls: Some(Arc::clone(&loaded.tls)),
                dtls: Some(Arc::clone(&loaded.dtls)),
                limits: StreamLimits {
                    streams: config.connections,
                    per_address: config.connections_per_address,
                    waiting: config.stream_queue,
                },
                gather: config.gather,
                offload: config.offload,
                queue: config.queue,
                redact: config.redact,
                unix_time: unix_time(),
                started,
                random: random.fork(),
            };
            let number = number as u8;
            let worker = Worker::new(number, poll, Arc::clone(&inbox), setup, events.clone())?;
            if number == 0 {
                (udp, tcp) = worker.addresses();
            }
            workers.push(worker);
            inboxes.push(inbox);
        }
        let mut threads = Vec::new();
        for (number, worker) in workers.into_iter().enumerate() {
            let others = inboxes.clone();
            let thread = std::thread::Builder::new()
                .name(format!("turn-{number}"))
                .spawn(move || worker.run(others))?;
            threads.push(thread);
        }
        // What port 0 became is known now, and with it which addresses are never peers.
        config
            .listen
            .retain(|address| address.port() != 0 || address.ip().is_unspecified());
        let service = Self(Arc::new(Inner {
            inboxes,
            threads: Mutex::new(threads),
            control: Mutex::new(None),
            udp,
            tcp,
            next: AtomicUsize::new(0),
            state: Mutex::new(State {
                config,
                loaded,
                random,
                draining: false,
            }),
            started,
        }));
        service.send_config();
        let task = tokio::spawn(control::run(Arc::downgrade(&service.0), received, acme));
        *lock(&service.0.control) = Some(task);
        Ok(service)
    }

    /// Where UDP and DTLS clients come to.
    pub fn udp_addresses(&self) -> &[SocketAddr] {
        &self.0.udp
    }

    /// Where TCP clients come to, and whether over TLS.
    pub fn tcp_addresses(&self) -> &[(SocketAddr, bool)] {
        &self.0.tcp
    }

    /// The configuration.
    pub fn config(&self) -> TurnConfig {
        lock(&self.0.state).config.clone()
    }

    /// Makes credentials for a client: for `user`, whoever that is to the caller. `None` without a shared secret.
    pub fn mint(&self, user: &str, lifetime: Option<Duration>) -> Option<Credential> {
        let state = lock(&self.0.state);
        let config = &state.config;
        let secret = config.secret.as_ref()?;
        let ttl = lifetime.unwrap_or(config.credential_lifetime).as_secs();
        let username = format!("{}:{user}", unix_time() + ttl);
        let mac =
            hmac::Key::new(HashAlgorithm::Sha1, secret.as_bytes()).sign(&[username.as_bytes()]);
        Some(Credential {
            password: STANDARD.encode(mac),
            username,
            ttl,
            uris: self.uris(config),
        })
    }

    /// Takes a client's stream that somebody else accepted: `received` is what was read of it, decrypted if it is over TLS.
    /// The stream may be blocking.
    ///
    /// # Errors
    /// If the stream is not connected any more.
    pub fn accept(
        &self,
        socket: TcpStream,
        tls: Option<ServerConnection>,
        received: Vec<u8>,
    ) -> Result<(), TurnError> {
        let stream = handed(socket, tls, received)?;
        let next = self.0.next.fetch_add(1, Ordering::Relaxed) % self.0.inboxes.len();
        self.0.inboxes[next].send(Message::Stream(Box::new(stream)));
        Ok(())
    }

    /// Takes another configuration without dropping anybody. Addresses, workers and the relay's ports stay as they were: the
    /// names of those that the new configuration would change are answered.
    ///
    /// # Errors
    /// A wrong setting or certificate: then everything stays as it was.
    pub fn reload(&self, mut config: TurnConfig) -> Result<Vec<&'static str>, TurnError> {
        config.check()?;
        let mut state = lock(&self.0.state);
        let old = &state.config;
        let mut fixed = Vec::new();
        let mut keep = |name, differs: bool| {
            if differs {
                fixed.push(name);
            }
        };
        keep("listen", config.listen != old.listen);
        keep("tls-listen", config.tls_listen != old.tls_listen);
        keep("relay-ip", config.core.relays != old.core.relays);
        keep("ports", config.core.ports != old.core.ports);
        keep("workers", config.workers != old.workers);
        keep(
            "other-address",
            config.core.other_address != old.core.other_address,
        );
        config.listen = old.listen.clone();
        config.tls_listen = old.tls_listen.clone();
        config.core.relays = old.core.relays.clone();
        config.core.ports = old.core.ports.clone();
        config.core.other_address = old.core.other_address;
        config.workers = old.workers;
        // ACME goes on by itself, and its names are fixed too.
        if !matches!(config.certificates, super::Certificates::Acme { .. })
            && config.certificates != super::Certificates::SelfSigned
        {
            let mut random = state.random.fork();
            state.loaded = config.certificates.load(&mut random)?.0;
        }
        state.config = config;
        drop(state);
        self.send_config();
        Ok(fixed)
    }

    /// Takes no new allocations from now on (300 or 508), or takes them again.
    pub fn set_draining(&self, draining: bool) {
        lock(&self.0.state).draining = draining;
        self.send_all(|| Message::Drain(draining));
    }

    /// Whether no new allocations are taken.
    pub fn is_draining(&self) -> bool {
        lock(&self.0.state).draining
    }

    /// Takes no new allocations and waits until the last has ended, or the configured limit.
    pub async fn drain(&self) {
        self.set_draining(true);
        let limit = Instant::now() + lock(&self.0.state).config.drain;
        while Instant::now() < limit && self.metrics().allocations() > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Ends everything: sockets, threads, tasks.
    pub fn stop(&self) {
        self.0.stop();
    }

    /// What the workers count.
    pub fn metrics(&self) -> Metrics {
        let (to, from) = mpsc::channel();
        self.send_all(|| Message::Report(to.clone()));
        drop(to);
        let mut reports: Vec<(u8, Report)> = Vec::new();
        while let Ok(report) = from.recv_timeout(PATIENCE) {
            reports.push(report);
        }
        reports.sort_by_key(|(number, _)| *number);
        Metrics::new(reports, self.0.started.elapsed(), self.is_draining())
    }

    /// Allocations, at most so many of each worker, with the worker's number.
    pub fn allocations(&self, most: usize) -> Vec<(u8, AllocationInfo)> {
        let (to, from) = mpsc::channel();
        self.send_all(|| Message::List {
            most,
            to: to.clone(),
        });
        drop(to);
        let mut list = Vec::new();
        while let Ok(entry) = from.recv_timeout(PATIENCE) {
            list.push(entry);
        }
        list
    }

    /// Ends an allocation. False if there is none.
    pub fn end(&self, worker: u8, id: AllocationId) -> bool {
        let Some(inbox) = self.0.inboxes.get(usize::from(worker)) else {
            return false;
        };
        let (to, from) = mpsc::channel();
        inbox.send(Message::End { id, to });
        from.recv_timeout(PATIENCE).unwrap_or(false)
    }

    pub(super) fn of(inner: Arc<Inner>) -> Self {
        Self(inner)
    }

    pub(super) fn with_state<T>(&self, with: impl FnOnce(&mut State) -> T) -> T {
        with(&mut lock(&self.0.state))
    }

    pub(super) fn answer_lookup(
        &self,
        worker: u8,
        realm: String,
        username: String,
        password: Option<String>,
    ) {
        if let Some(inbox) = self.0.inboxes.get(usize::from(worker)) {
            inbox.send(Message::LookupDone {
                realm,
                username,
                password,
            });
        }
    }

    /// Tells the workers what the configuration is.
    pub(super) fn send_config(&self) {
        let state = lock(&self.0.state);
        for (number, inbox) in self.0.inboxes.iter().enumerate() {
            let core = core_config(&state.config, number, &self.0.udp, [0; 32]);
            inbox.send(Message::Reload(Box::new(Reloaded {
                core,
                gather: state.config.gather,
                tls: Some(Arc::clone(&state.loaded.tls)),
                dtls: Some(Arc::clone(&state.loaded.dtls)),
            })));
        }
    }

    fn send_all(&self, mut message: impl FnMut() -> Message) {
        for inbox in &self.0.inboxes {
            inbox.send(message());
        }
    }

    fn uris(&self, config: &TurnConfig) -> Vec<String> {
        let hosts: Vec<String> = if config.names.is_empty() {
            let external = config.core.relays.iter().map(|relay| relay.external);
            external
                .map(|ip| match ip {
                    std::net::IpAddr::V4(ip) => ip.to_string(),
                    std::net::IpAddr::V6(ip) => format!("[{ip}]"),
                })
                .collect()
        } else {
            config.names.clone()
        };
        let port = |is_tls: bool| {
            self.0
                .tcp
                .iter()
                .find(|(_, tls)| *tls == is_tls)
                .map(|(address, _)| address.port())
        };
        let mut uris = Vec::new();
        for host in hosts {
            if let Some(port) = port(false) {
                uris.push(format!("stun:{host}:{port}"));
                uris.push(format!("turn:{host}:{port}?transport=udp"));
                uris.push(format!("turn:{host}:{port}?transport=tcp"));
            }
            if let Some(port) = port(true) {
                uris.push(format!("turns:{host}:{port}?transport=tcp"));
            }
        }
        uris
    }
}

impl std::fmt::Debug for TurnService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnService")
            .field("udp", &self.0.udp)
            .field("tcp", &self.0.tcp)
            .finish_non_exhaustive()
    }
}

impl Inner {
    fn stop(&self) {
        for inbox in &self.inboxes {
            inbox.send(Message::Stop);
        }
        for thread in lock(&self.threads).drain(..) {
            // A worker that panicked has said so.
            let _ = thread.join();
        }
        if let Some(control) = lock(&self.control).take() {
            control.abort();
        }
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Whether the addresses can be had: those to relay from are this host's, and nobody else has those to listen on. Workers share theirs, and the kernel would let a second server of the same user share them
/// too: each would get half of the clients.
fn are_usable(config: &TurnConfig) -> Result<(), TurnError> {
    let taken = |address: SocketAddr, error: io::Error| {
        let text = format!(
            "cannot listen on {address}: {error}; does another server run? choose other addresses by `listen` and `tls-listen`"
        );
        TurnError::Socket(io::Error::new(error.kind(), text))
    };
    for address in config.udp_addresses() {
        DirectSocket::bind(address, &DirectOptions::default())
            .map_err(|error| taken(address, error))?;
    }
    for &address in config.listen.iter().chain(&config.tls_listen) {
        probe_tcp(address).map_err(|error| taken(address, error))?;
    }
    for ip in config.core.relays.iter().map(|relay| relay.bind) {
        std::net::UdpSocket::bind((ip, 0)).map_err(|error| {
            TurnError::Setting(format!(
                "cannot relay from {ip}: {error}; `relay-ip` wants an address of this host, or behind a NAT BIND/EXTERNAL"
            ))
        })?;
    }
    Ok(())
}

fn probe_tcp(address: SocketAddr) -> io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_reuse_address(true)?;
    socket.bind(&address.into())?;
    socket.listen(1)
}

/// What one worker's core is made with.
fn core_config(
    config: &TurnConfig,
    number: usize,
    bound: &[SocketAddr],
    nonce_key: [u8; 32],
) -> ServerConfig {
    let mut core = config.core.clone();
    core.listening = config.own_addresses(bound);
    core.all_ports = Some(config.core.ports.clone());
    core.ports = config.share(number);
    core.worker = number as u8;
    core.nonce_key = Some(nonce_key);
    core
}

/// Seconds since 1970.
pub(super) fn unix_time() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// Randomness of the system.
pub(super) fn seed() -> Result<[u8; 32], TurnError> {
    let mut seed = [0; 32];
    getrandom::fill(&mut seed)
        .map_err(|error| io::Error::other(format!("the system gives no randomness: {error}")))?;
    Ok(seed)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
