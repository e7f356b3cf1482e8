//! The server put together: what all parts share, start and drain.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::http::{HeaderMap, header};
use livekit_protocol as proto;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proto::{DisconnectReason, RoomEndReason};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use visavis_net::memory::HeapTrim;

use crate::{
    bucket::{Buckets, Rate},
    config::{Config, ConfigError},
    embedded_turn,
    events::EventLog,
    ice::{IceSettings, RtcIceServer},
    listener::Front,
    media::{self, MediaPlane},
    p2p::{peerjs::PeerServer, relay::Relay},
    room::Now,
    rooms::{Registry, Rooms, SingleNode},
    routes, tls,
    token::Keys,
    turn::TurnService,
    webhook::Webhooks,
    whip::Sessions,
};

/// For how long TURN credentials are valid, in seconds.
const TURN_SECONDS: u64 = 12 * 3600;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

/// How often freed memory is looked at.
const MEMORY_LOOK: Duration = Duration::from_secs(60);

/// How often certificate files are looked at.
const CERTIFICATE_LOOK: Duration = Duration::from_secs(60);

/// Addresses whose joins are counted at a time.
const COUNTED_ADDRESSES: usize = 10_000;

/// What all parts of the server share.
pub struct Shared {
    pub(crate) config: Config,
    pub(crate) keys: Arc<Keys>,
    pub(crate) rooms: Rooms,
    pub(crate) media: MediaPlane,
    pub(crate) webhooks: Webhooks,
    pub(crate) events: EventLog,
    pub(crate) sessions: Sessions,
    pub(crate) started: Now,
    ice: IceSettings,
    turn: Option<TurnService>,
    pub(crate) relay: Arc<Relay>,
    pub(crate) peers: Arc<PeerServer>,
    pub(crate) joins: Mutex<Buckets<IpAddr>>,
    draining: AtomicBool,
    pub(crate) metrics: PrometheusHandle,
    tcp: Vec<SocketAddr>,
    tls: RwLock<Option<Arc<rustls::ServerConfig>>>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared")
            .field("tcp", &self.tcp)
            .finish_non_exhaustive()
    }
}

/// Why the server does not start. The texts say what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Settings that cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// A port that is taken, mostly.
    #[error("cannot listen on {address}: {error}; choose another with {flag}")]
    Listen {
        /// Where.
        address: String,
        /// The setting.
        flag: &'static str,
        /// What the system says.
        error: io::Error,
    },
    /// Certificates that cannot be used.
    #[error("TLS: {0}")]
    Tls(io::Error),
    /// The state directory.
    #[error("the state directory cannot be used: {0}")]
    State(io::Error),
}

impl Shared {
    /// Whether the server is about to stop: it takes no new rooms.
    pub fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Relaxed)
    }

    /// The ICE servers for `identity`, whose request had these headers.
    pub(crate) fn ice_servers(&self, headers: &HeaderMap, identity: &str) -> Vec<proto::IceServer> {
        self.rtc_ice_servers(headers, identity)
            .into_iter()
            .map(Into::into)
            .collect()
    }

    pub(crate) fn rtc_ice_servers(&self, headers: &HeaderMap, identity: &str) -> Vec<RtcIceServer> {
        let seconds = u64::try_from(Now::read().unix_millis / 1000).unwrap_or(0);
        self.ice.servers(host_of(headers), identity, seconds)
    }

    /// The addresses at which the front listener listens.
    pub(crate) fn tcp_addresses(&self) -> &[SocketAddr] {
        &self.tcp
    }

    /// How TLS is spoken at present, if it is.
    pub(crate) fn tls(&self) -> Option<Arc<rustls::ServerConfig>> {
        self.tls
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn set_tls(&self, tls: Arc<rustls::ServerConfig>) {
        *self.tls.write().unwrap_or_else(PoisonError::into_inner) = Some(tls);
    }

    /// Takes a client of TURN over TCP or TLS, with what was read of it, decrypted.
    pub(crate) fn accept_turn(
        &self,
        stream: tokio::net::TcpStream,
        tls: Option<rustls::ServerConnection>,
        received: &[u8],
    ) -> io::Result<()> {
        let Some(turn) = &self.turn else {
            return Err(io::Error::other("TURN is off"));
        };
        turn.accept(stream.into_std()?, tls, received.to_vec())
            .map_err(io::Error::other)
    }
}

/// The host by which a client reached the server, without its port.
fn host_of(headers: &HeaderMap) -> &str {
    let host = headers
        .get(header::HOST)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    match host.rfind(':') {
        // The colons of an IPv6 address stand in brackets.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

fn metrics_handle() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE
        .get_or_init(|| {
            let recorder = PrometheusBuilder::new().build_recorder();
            let handle = recorder.handle();
            // A program that has a recorder of its own keeps it; `/metrics` is empty then.
            let _ = metrics::set_global_recorder(recorder);
            handle
        })
        .clone()
}

/// A running server.
#[derive(Debug)]
pub struct Server {
    shared: Arc<Shared>,
    stop: CancellationToken,
    development: bool,
}

impl Server {
    /// Starts a server on one node.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start(config: Config) -> Result<Self, StartError> {
        Self::start_with(config, Box::new(SingleNode)).await
    }

    /// Starts a server that shares `registry` with others.
    ///
    /// # Errors
    /// [`StartError`].
    pub async fn start_with(
        mut config: Config,
        registry: Box<dyn Registry>,
    ) -> Result<Self, StartError> {
        let machine = machine_addresses();
        let development = config.check(&machine)?;
        let metrics = metrics_handle();

        let Sockets {
            listeners,
            tcp,
            media: (media, events),
        } = Sockets::open(&config)?;
        let tls = tls::start(&config, &machine).map_err(StartError::Tls)?;
        let keys = Arc::new(Keys::new(config.keys.clone()));
        let webhook_key = config
            .webhook_key
            .clone()
            .or_else(|| keys.first().map(|(key, _)| key));
        let webhooks = Webhooks::start(
            config.webhook_urls.clone(),
            Arc::clone(&keys),
            webhook_key.unwrap_or_default(),
            config
                .state_dir
                .as_ref()
                .map(|directory| directory.join("webhooks")),
        )
        .map_err(StartError::State)?;
        let turn = start_turn(&config, &machine, media.sfu().local_addresses());
        let front = tcp.first().map(SocketAddr::port).filter(|_| turn.is_some());
        let ice = IceSettings {
            secret: config.turn_secret.clone(),
            host: config.domain.clone(),
            // The port that was bound: 0 is anyone's.
            udp_port: turn
                .as_ref()
                .and_then(|turn| turn.udp_addresses().first())
                .map(SocketAddr::port),
            tcp_port: front,
            // Browsers check the certificate, and give up on one that a server made for itself.
            tls_port: front.filter(|_| {
                !matches!(
                    config.tls,
                    crate::config::Tls::Off | crate::config::Tls::SelfSigned
                )
            }),
            lifetime: TURN_SECONDS,
        };
        let joins = Rate {
            burst: config.joins_per_minute,
            per_second: config.joins_per_minute.div_ceil(60),
        };
        let shared = Arc::new(Shared {
            keys,
            rooms: Rooms::new(registry),
            media,
            webhooks,
            events: EventLog::new(config.log_events),
            sessions: Sessions::default(),
            started: Now::read(),
            ice,
            turn,
            relay: Arc::default(),
            peers: Arc::default(),
            joins: Mutex::new(Buckets::new(joins, COUNTED_ADDRESSES)),
            draining: AtomicBool::new(false),
            metrics,
            tcp,
            tls: RwLock::new(tls),
            config,
        });
        let stop = CancellationToken::new();
        tokio::spawn(media::dispatch(Arc::clone(&shared), events));
        tokio::spawn(watch_certificate(Arc::clone(&shared), stop.clone()));
        tokio::spawn(give_memory_back(stop.clone()));
        let router = routes::all(Arc::clone(&shared));
        for listener in listeners {
            let front = Front {
                shared: Arc::clone(&shared),
                router: router.clone(),
            };
            tokio::spawn(front.run(listener, stop.clone()));
        }
        Ok(Self {
            shared,
            stop,
            development,
        })
    }

    /// Takes over API keys and certificate files from `config` while meetings go on: new tokens and new TLS
    /// connections use them. Everything else of `config` waits for a restart. Nothing changes if it fails.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn reload(&self, mut config: Config) -> Result<(), StartError> {
        let machine = machine_addresses();
        let made_keys = config.check(&machine)?;
        if let Some(tls) = tls::reload(&self.shared.config, &config).map_err(StartError::Tls)? {
            self.shared.set_tls(tls);
        }
        // Development keys stay those that were printed.
        if !made_keys {
            self.shared.keys.replace(config.keys);
        }
        Ok(())
    }

    /// The addresses at which the server listens for TCP.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.shared.tcp
    }

    /// The addresses at which it takes media over UDP.
    pub fn media_addresses(&self) -> &[SocketAddr] {
        self.shared.media.sfu().local_addresses()
    }

    /// The development key and its secret, if no keys were set.
    pub fn development_key(&self) -> Option<(String, String)> {
        self.shared.keys.first().filter(|_| self.development)
    }

    /// Whether TLS is spoken.
    pub fn is_secure(&self) -> bool {
        self.shared.config.tls != crate::config::Tls::Off
    }

    /// Participants there are.
    pub async fn participants(&self) -> usize {
        let mut count = 0;
        for handle in self.shared.rooms.all() {
            count += handle
                .with(|room, _| room.participants().count())
                .await
                .unwrap_or(0);
        }
        count
    }

    /// Takes no new rooms, waits until the present ones are empty, at most as long as the settings say, and
    /// then asks who is left to come back. Webhooks get a moment to arrive.
    pub async fn drain(&self) {
        self.shared.draining.store(true, Ordering::Relaxed);
        let deadline = Instant::now() + self.shared.config.drain;
        while Instant::now() < deadline && self.participants().await > 0 {
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
        for handle in self.shared.rooms.all() {
            let close = |room: &mut crate::room::Room, now| {
                room.close(
                    DisconnectReason::ServerShutdown,
                    RoomEndReason::RoomEndServerShutdown,
                    now,
                );
            };
            let _ = handle.with(close).await;
        }
        // The last messages are on their way through the sockets.
        tokio::time::sleep(Duration::from_millis(300)).await;
        self.stop.cancel();
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// The front listener's and those of media.
struct Sockets {
    listeners: Vec<TcpListener>,
    /// Where they listen.
    tcp: Vec<SocketAddr>,
    media: (MediaPlane, visavis_sfu::Events),
}

impl Sockets {
    /// How many ports are tried where the system chooses it: TCP has it free, and UDP is to have it too.
    const PORTS_TRIED: usize = 16;

    fn open(config: &Config) -> Result<Self, StartError> {
        let is_chosen =
            config.udp.is_empty() && config.listen.iter().all(|address| address.port() == 0);
        let mut tries = if is_chosen { Self::PORTS_TRIED } else { 1 };
        loop {
            tries -= 1;
            let mut listeners = Vec::new();
            for address in &config.listen {
                let listener = listen(*address).map_err(|error| StartError::Listen {
                    address: address.to_string(),
                    flag: "--listen",
                    error,
                })?;
                listeners.push(listener);
            }
            let tcp: Vec<SocketAddr> = listeners
                .iter()
                .filter_map(|listener| listener.local_addr().ok())
                .collect();
            match MediaPlane::start(config, tcp.clone()) {
                Ok(media) => {
                    return Ok(Self {
                        listeners,
                        tcp,
                        media,
                    });
                }
                Err(error) if tries > 0 && error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => {
                    let addresses = MediaPlane::addresses(config, &tcp);
                    let addresses: Vec<String> =
                        addresses.iter().map(SocketAddr::to_string).collect();
                    return Err(StartError::Listen {
                        address: format!("{} over UDP", addresses.join(", ")),
                        flag: "--udp",
                        error,
                    });
                }
            }
        }
    }
}

/// Listens for TCP. An address of IPv6 is for IPv6 alone, so that both families may have the same port.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    use socket2::{Domain, Socket, Type};
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // Elsewhere it would let two servers have one port.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

/// Reads certificate files again when they change, until `stop`: whatever renews them need not tell the server.
async fn watch_certificate(shared: Arc<Shared>, stop: CancellationToken) {
    let Some(mut seen) = tls::changed(&shared.config) else {
        return;
    };
    loop {
        tokio::select! {
            () = tokio::time::sleep(CERTIFICATE_LOOK) => {}
            () = stop.cancelled() => return,
        }
        let Some(now) = tls::changed(&shared.config).filter(|now| *now != seen) else {
            continue;
        };
        match tls::reload(&shared.config, &shared.config) {
            Ok(tls) => {
                seen = now;
                tls.into_iter().for_each(|tls| shared.set_tls(tls));
                tracing::info!("the certificate was read again");
            }
            // A file that is being written: the next look is soon.
            Err(error) => tracing::warn!("the certificate changed and cannot be used: {error}"),
        }
    }
}

/// Gives freed memory back to the system now and then, until `stop`: rooms that are over leave holes behind.
async fn give_memory_back(stop: CancellationToken) {
    let mut heap = HeapTrim::new();
    while stop
        .run_until_cancelled(tokio::time::sleep(MEMORY_LOOK))
        .await
        .is_some()
    {
        let look = move || {
            let given = heap.look();
            (heap, given)
        };
        let Ok((looked, given)) = tokio::task::spawn_blocking(look).await else {
            return;
        };
        heap = looked;
        if given > 0 {
            tracing::debug!("{} KiB of freed memory went back", given >> 10);
        }
    }
}

/// The TURN service, if it is wanted and can run: without it clients that reach the media ports still meet.
fn start_turn(config: &Config, machine: &[IpAddr], media: &[SocketAddr]) -> Option<TurnService> {
    if !config.turn {
        return None;
    }
    match embedded_turn::start(config, machine, media) {
        Ok(turn) => Some(turn),
        Err(error) => {
            tracing::warn!(
                "TURN is off: {error}; choose another port with --turn-port, or switch it off with --turn false"
            );
            None
        }
    }
}

/// The addresses of this machine that others can reach it by.
fn machine_addresses() -> Vec<IpAddr> {
    let found =
        visavis_net::interface::addresses(&visavis_net::interface::InterfaceFilter::default());
    found
        .unwrap_or_default()
        .into_iter()
        .map(|address| address.ip)
        .collect()
}
