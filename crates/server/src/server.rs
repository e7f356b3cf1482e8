//! The server put together: what all parts share, the routes, start and drain.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex, OnceLock, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use axum::{
    Json, Router,
    extract::{
        DefaultBodyLimit, FromRequestParts as _, Path, Query, Request, State, ws::WebSocketUpgrade,
    },
    http::{HeaderMap, Method, StatusCode, header},
    middleware::{self, Next},
    response::{IntoResponse, Redirect, Response},
    routing::{any, get, post},
};
use livekit_protocol as proto;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use proto::{DisconnectReason, RoomEndReason};
use serde::{Deserialize, Serialize};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tower_http::cors::{Any, CorsLayer};

use crate::{
    bucket::{Buckets, Rate},
    config::{Config, ConfigError},
    embedded_turn,
    engine::Command,
    events::EventLog,
    ice::{IceSettings, RtcIceServer},
    ids::random_text,
    inspect,
    listener::{Front, Origin},
    media::{self, MediaPlane},
    p2p::{self, peerjs::PeerServer, relay::Relay},
    page,
    room::Now,
    rooms::{Registry, Rooms, SingleNode},
    signal, tls,
    token::{Claims, Keys, VideoGrant},
    turn::TurnService,
    twirp,
    webhook::Webhooks,
    whip::{self, Sessions},
};

/// For how long the page's token is valid, in seconds.
const PAGE_TOKEN_SECONDS: u64 = 6 * 3600;

/// For how long TURN credentials are valid, in seconds.
const TURN_SECONDS: u64 = 12 * 3600;

/// Connections that wait to be accepted.
const BACKLOG: i32 = 1024;

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
    relay: Arc<Relay>,
    peers: Arc<PeerServer>,
    joins: Mutex<Buckets<IpAddr>>,
    draining: AtomicBool,
    metrics: PrometheusHandle,
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

    fn rtc_ice_servers(&self, headers: &HeaderMap, identity: &str) -> Vec<RtcIceServer> {
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
        let (media, events) =
            MediaPlane::start(&config, tcp.clone()).map_err(|error| StartError::Listen {
                address: format!("{:?}", config.udp),
                flag: "--udp",
                error,
            })?;
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
        let router = routes(Arc::clone(&shared));
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

fn routes(shared: Arc<Shared>) -> Router {
    let cors = CorsLayer::new()
        .allow_origin(Any)
        .allow_headers(Any)
        .expose_headers(Any)
        .allow_methods([
            Method::OPTIONS,
            Method::HEAD,
            Method::GET,
            Method::POST,
            Method::PATCH,
            Method::DELETE,
        ]);
    Router::new()
        .route("/rtc", any(signal::connect))
        .route("/rtc/v1", any(signal::connect))
        .route("/rtc/validate", get(signal::validate))
        .route("/rtc/v1/validate", get(signal::validate))
        .route("/twirp/{service}/{method}", any(twirp::call))
        .route("/api/join", post(join))
        .route("/api/config", get(page_config))
        .route("/api/inspect", get(inspect::view))
        .route("/api/inspect/events", get(inspect::events))
        .route("/api/record/{room}", post(record).delete(record))
        .route("/ice-servers", get(ice_servers))
        .route("/legacy-shim.js", get(p2p::shim))
        .route("/healthz", get(|| async { "OK" }))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics_page))
        .merge(whip::routes())
        .fallback(other)
        .with_state(Arc::clone(&shared))
        .merge(rendezvous(&shared))
        .layer(DefaultBodyLimit::max(twirp::MAX_BODY_BYTES))
        .layer(cors)
        .layer(middleware::from_fn(accept_post))
}

/// Where two programs with a short code find each other. Who asks is not told by which host, so that only a
/// configured name is of use in URLs.
fn rendezvous(shared: &Arc<Shared>) -> Router {
    let weak = Arc::downgrade(shared);
    let servers = move || {
        let Some(shared) = weak.upgrade() else {
            return Vec::new();
        };
        let servers = shared.rtc_ice_servers(&HeaderMap::new(), &random_text(8));
        let as_theirs = |server: RtcIceServer| crate::rendezvous::IceServer {
            urls: server.urls,
            username: server.username,
            credential: server.credential,
        };
        servers.into_iter().map(as_theirs).collect()
    };
    crate::rendezvous::Rendezvous::new(crate::rendezvous::Limits::default(), Arc::new(servers))
        .routes()
}

/// Says what WHIP and WHEP endpoints take (RFC 9725, section 4.2), also in answers to preflights.
async fn accept_post(request: Request, next: Next) -> Response {
    let path = request.uri().path();
    let says = request.method() == Method::OPTIONS
        && (path.starts_with("/whip") || path.starts_with("/whep"));
    let mut response = next.run(request).await;
    if says {
        let headers = response.headers_mut();
        let mut set = |name, value| {
            headers.insert(name, header::HeaderValue::from_static(value));
        };
        set(
            header::HeaderName::from_static("accept-post"),
            "application/sdp",
        );
        // Pages ask by an OPTIONS of their own whether candidates may trickle.
        set(header::ACCESS_CONTROL_EXPOSE_HEADERS, "*");
    }
    response
}

async fn ready(State(shared): State<Arc<Shared>>) -> (StatusCode, &'static str) {
    if shared.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining")
    } else {
        (StatusCode::OK, "OK")
    }
}

/// Whether a request is an operator's: it bears the token, or comes from this machine where there is none.
pub(crate) fn is_operator(shared: &Shared, headers: &HeaderMap, origin: Option<&Origin>) -> bool {
    match &shared.config.operator_token {
        Some(token) => {
            let value = headers
                .get(header::AUTHORIZATION)
                .and_then(|value| value.to_str().ok())
                .unwrap_or_default();
            let given = value.strip_prefix("Bearer ").unwrap_or_default();
            visavis_crypto::constant_time_eq(given.as_bytes(), token.as_bytes())
        }
        // A proxy on this machine would make everyone an operator: it names whom it speaks for.
        None => {
            let proxied =
                headers.contains_key("x-forwarded-for") || headers.contains_key("forwarded");
            !proxied && origin.is_some_and(|origin| origin.remote.ip().to_canonical().is_loopback())
        }
    }
}

async fn metrics_page(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !is_operator(&shared, request.headers(), request.extensions().get()) {
        return (
            StatusCode::UNAUTHORIZED,
            "for operators: send the operator token as a bearer token",
        )
            .into_response();
    }
    inspect::measure(&shared).await;
    (
        [(header::CONTENT_TYPE, "text/plain; version=0.0.4")],
        shared.metrics.render(),
    )
        .into_response()
}

/// `POST /api/record/ROOM` begins a recording, `DELETE` ends it. For operators, and for tokens that grant
/// `roomRecord`.
async fn record(
    State(shared): State<Arc<Shared>>,
    Path(room): Path<String>,
    request: Request,
) -> Response {
    let headers = request.headers();
    let granted = signal::claims_of(&shared, headers, &HashMap::new())
        .ok()
        .flatten()
        .and_then(|claims| claims.video)
        .is_some_and(|grant| grant.room_record && (grant.room.is_empty() || grant.room == room));
    if !granted && !is_operator(&shared, headers, request.extensions().get()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let Some(handle) = shared.rooms.find(&room) else {
        return (StatusCode::NOT_FOUND, "requested room does not exist").into_response();
    };
    let (answer, answered) = tokio::sync::oneshot::channel();
    let on = request.method() == Method::POST;
    if handle.send(Command::Record { on, answer }).await.is_err() {
        return (StatusCode::NOT_FOUND, "requested room does not exist").into_response();
    }
    match answered.await {
        Ok(Ok((directory, files))) => {
            Json(serde_json::json!({"directory": directory, "files": files})).into_response()
        }
        Ok(Err(text)) => (StatusCode::CONFLICT, text).into_response(),
        Err(_) => StatusCode::NOT_FOUND.into_response(),
    }
}

/// `GET /ice-servers`: what `new RTCPeerConnection({iceServers: …})` takes.
async fn ice_servers(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
) -> Json<Vec<RtcIceServer>> {
    Json(shared.rtc_ice_servers(&headers, &random_text(8)))
}

/// What the page asks to join.
#[derive(Debug, Deserialize)]
struct JoinRequest {
    #[serde(default)]
    room: String,
    #[serde(default)]
    name: String,
}

/// What it gets.
#[derive(Debug, Serialize)]
struct JoinAnswer {
    url: String,
    token: String,
    room: String,
    identity: String,
    host: bool,
}

/// An error that the page shows.
fn page_error(status: StatusCode, code: &str, text: &str) -> Response {
    (
        status,
        Json(serde_json::json!({"code": code, "error": text})),
    )
        .into_response()
}

/// `POST /api/join`: lets a person into a room, with a token of the server's own key.
async fn join(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let origin: Option<Origin> = request.extensions().get().copied();
    let Ok(bytes) = axum::body::to_bytes(request.into_body(), 16 * 1024).await else {
        return page_error(
            StatusCode::PAYLOAD_TOO_LARGE,
            "bad_name",
            "The request is too large.",
        );
    };
    let Ok(asked) = serde_json::from_slice::<JoinRequest>(&bytes) else {
        return page_error(
            StatusCode::BAD_REQUEST,
            "bad_name",
            "The request is no JSON with a room and a name.",
        );
    };
    if !shared.config.join_open {
        let text = "This server lets in only who has an invitation from its application.";
        return page_error(StatusCode::FORBIDDEN, "join_closed", text);
    }
    if shared.is_draining() {
        return page_error(
            StatusCode::SERVICE_UNAVAILABLE,
            "draining",
            "The server is about to restart. Try again soon.",
        );
    }
    if let Some(origin) = origin {
        let mut joins = shared.joins.lock().unwrap_or_else(PoisonError::into_inner);
        if !joins.take(origin.remote.ip(), Instant::now()) {
            let text = "Too many joins from your address. Try again in a minute.";
            return page_error(StatusCode::TOO_MANY_REQUESTS, "rate_limited", text);
        }
    }
    let (room, name) = (asked.room.trim(), asked.name.trim());
    let limits = shared.config.room_limits();
    if room.is_empty() || room.len() > limits.identity_bytes || room.chars().any(char::is_control) {
        return page_error(
            StatusCode::BAD_REQUEST,
            "bad_name",
            "The room's name is empty or too long.",
        );
    }
    if name.is_empty() || name.len() > limits.name_bytes || name.chars().any(char::is_control) {
        return page_error(
            StatusCode::BAD_REQUEST,
            "bad_name",
            "Your name is empty or too long.",
        );
    }
    let identity = random_text(12);
    let mut host = true;
    if let Some(handle) = shared.rooms.find(room) {
        let asking = identity.clone();
        let look =
            move |room: &mut crate::room::Room, _| (room.is_full_for(&asking), room.has_host());
        let (full, has_host) = handle.with(look).await.unwrap_or_default();
        if full {
            return page_error(StatusCode::FORBIDDEN, "room_full", "The room is full.");
        }
        host = !has_host;
    }
    let grant = VideoGrant {
        room_join: true,
        // Whoever comes while nobody rules the room may mute and remove others: the first to come.
        room_admin: host,
        room: room.to_owned(),
        can_update_own_metadata: Some(true),
        ..VideoGrant::default()
    };
    let claims = Claims {
        identity: identity.clone(),
        name: name.to_owned(),
        attributes: host
            .then(|| ("role".to_owned(), "host".to_owned()))
            .into_iter()
            .collect(),
        video: Some(grant),
        ..Claims::default()
    };
    let token = shared
        .keys
        .first()
        .and_then(|(key, _)| shared.keys.sign(&key, &claims, PAGE_TOKEN_SECONDS).ok());
    let Some(token) = token else {
        return page_error(
            StatusCode::INTERNAL_SERVER_ERROR,
            "join_closed",
            "The server has no key.",
        );
    };
    Json(JoinAnswer {
        url: String::new(),
        token,
        room: room.to_owned(),
        identity,
        host,
    })
    .into_response()
}

/// `GET /api/config`: what the page has to know.
async fn page_config(State(shared): State<Arc<Shared>>, headers: HeaderMap) -> Response {
    let port = |addresses: &[SocketAddr]| addresses.first().map(SocketAddr::port);
    let config = serde_json::json!({
        "version": env!("CARGO_PKG_VERSION"),
        "joinOpen": shared.config.join_open,
        "iceServers": shared.rtc_ice_servers(&headers, &random_text(8)),
        "udpPort": port(shared.media.sfu().local_addresses()),
        "tcpPort": port(&shared.tcp),
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(config)).into_response()
}

/// Everything else: relays and PeerJS on any path, and the page.
async fn other(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let origin: Option<Origin> = request.extensions().get().copied();
    let (mut parts, body) = request.into_parts();
    if shared.config.relay {
        if let Ok(upgrade) = WebSocketUpgrade::from_request_parts(&mut parts, &shared).await {
            if path.ends_with("/peerjs") {
                let query = Query::<HashMap<String, String>>::try_from_uri(&parts.uri);
                let query = query.map(|Query(query)| query).unwrap_or_default();
                return p2p::peerjs::accept(
                    Arc::clone(&shared.peers),
                    upgrade,
                    &shared.config.peerjs_keys,
                    &query,
                );
            }
            let wraps = shared
                .config
                .relay_envelope
                .iter()
                .any(|prefix| path.starts_with(prefix));
            let envelope = wraps.then(|| "guest".to_owned());
            return p2p::relay::accept(Arc::clone(&shared.relay), upgrade, path, envelope);
        }
        let segments: Vec<&str> = path
            .split('/')
            .filter(|segment| !segment.is_empty())
            .collect();
        match (&parts.method, segments.as_slice()) {
            (&Method::GET, [.., "id"]) if segments.len() >= 2 => {
                return shared.peers.new_id().into_response();
            }
            // Who is there is nobody's business.
            (&Method::GET, [_, "peers"]) => return StatusCode::UNAUTHORIZED.into_response(),
            (&Method::GET, [.., "ice"]) => {
                return ice_servers(State(shared), parts.headers)
                    .await
                    .into_response();
            }
            (
                &Method::POST,
                [
                    ..,
                    key,
                    id,
                    token,
                    "offer" | "answer" | "candidate" | "leave",
                ],
            ) => {
                let Ok(bytes) = axum::body::to_bytes(body, p2p::MAX_MESSAGE_BYTES).await else {
                    return StatusCode::PAYLOAD_TOO_LARGE.into_response();
                };
                let text = String::from_utf8_lossy(&bytes);
                return shared.peers.post(key, id, token, &text).into_response();
            }
            _ => {}
        }
    }
    if parts.method != Method::GET && parts.method != Method::HEAD {
        return StatusCode::NOT_FOUND.into_response();
    }
    // Browsers open camera and microphone on secure pages alone; on this machine they do without TLS.
    let insecure = origin
        .is_some_and(|origin| !origin.secure && !origin.remote.ip().to_canonical().is_loopback());
    let has_tls = shared.config.tls != crate::config::Tls::Off;
    if let Some(host) = parts
        .headers
        .get(header::HOST)
        .and_then(|host| host.to_str().ok())
        && insecure
        && has_tls
        && page::is_view(&path)
    {
        return Redirect::temporary(&format!("https://{host}{path}")).into_response();
    }
    page::answer(&path, &parts.headers)
}
