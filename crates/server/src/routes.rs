//! The paths of the HTTP port, and what the page, operators and peer-to-peer pages ask there.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{Arc, PoisonError},
    time::Instant,
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
use serde::{Deserialize, Serialize};
use tower_http::cors::{Any, CorsLayer};

use crate::{
    engine::Command,
    ice::RtcIceServer,
    ids::random_text,
    inspect,
    listener::Origin,
    p2p, page,
    rendezvous::ClientAddress,
    server::Shared,
    signal,
    token::{Claims, VideoGrant},
    twirp, whip,
};

/// For how long the page's token is valid, in seconds.
const PAGE_TOKEN_SECONDS: u64 = 6 * 3600;

/// All of them.
pub(crate) fn all(shared: Arc<Shared>) -> Router {
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

/// Where two programs with a short code find each other.
fn rendezvous(shared: &Arc<Shared>) -> Router {
    let weak = Arc::downgrade(shared);
    let servers = move |headers: &HeaderMap| {
        let Some(shared) = weak.upgrade() else {
            return Vec::new();
        };
        let servers = shared.rtc_ice_servers(headers, &random_text(8));
        let as_theirs = |server: RtcIceServer| crate::rendezvous::IceServer {
            urls: server.urls,
            username: server.username,
            credential: server.credential,
        };
        servers.into_iter().map(as_theirs).collect()
    };
    crate::rendezvous::Rendezvous::new(crate::rendezvous::Limits::default(), Arc::new(servers))
        .routes()
        .layer(middleware::from_fn(
            async |mut request: Request, next: Next| {
                if let Some(ip) = client_address(request.headers(), request.extensions().get()) {
                    request.extensions_mut().insert(ClientAddress(ip));
                }
                next.run(request).await
            },
        ))
}

/// Who asks. A proxy on this machine names whom it speaks for; what others say of themselves counts for nothing.
fn client_address(headers: &HeaderMap, origin: Option<&Origin>) -> Option<IpAddr> {
    let remote = origin?.remote.ip().to_canonical();
    let named = headers
        .get_all("x-forwarded-for")
        .iter()
        .next_back()
        .filter(|_| remote.is_loopback())
        .and_then(|value| value.to_str().ok()?.rsplit(',').next()?.trim().parse().ok());
    Some(named.unwrap_or(remote))
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
    let address = client_address(request.headers(), request.extensions().get());
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
    if let Some(address) = address {
        let network = ClientAddress(address).network();
        let mut joins = shared.joins.lock().unwrap_or_else(PoisonError::into_inner);
        if !joins.take(network, Instant::now()) {
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
    let mut identity = random_text(12);
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
    if host {
        // Nobody can give this to themselves, as they can attributes.
        identity.insert_str(0, "host-");
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
        "tcpPort": port(shared.tcp_addresses()),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_proxy_of_this_machine_alone_says_who_asks() {
        let asked = |remote: &str, forwarded: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in forwarded {
                headers.append("x-forwarded-for", value.parse().unwrap());
            }
            let origin = Origin {
                remote: remote.parse().unwrap(),
                secure: false,
            };
            client_address(&headers, Some(&origin)).unwrap().to_string()
        };
        assert_eq!(asked("203.0.113.7:9", &["198.51.100.1"]), "203.0.113.7");
        assert_eq!(asked("127.0.0.1:9", &[]), "127.0.0.1");
        // The last is what the proxy itself saw; the others are what it was told.
        let told = ["192.0.2.1", "192.0.2.2, 198.51.100.1"];
        assert_eq!(asked("127.0.0.1:9", &told), "198.51.100.1");
        assert_eq!(asked("[::ffff:127.0.0.1]:9", &["noise"]), "127.0.0.1");
    }
}
