//! The operator's HTTP interface: health and metrics for everybody who reaches it, the rest with the token.

use std::time::Duration;

use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use visavis_crypto::constant_time_eq;
use visavis_turn::server::{AllocationId, AllocationInfo};

use super::service::TurnService;

/// How many allocations one answer lists.
const MOST: usize = 10_000;

/// The routes `/health`, `/ready`, `/metrics`, and with the configured token `/api/allocations`, `/api/stats`, `/api/drain` and
/// `/api/credentials`.
pub fn router(service: TurnService) -> Router {
    Router::new()
        .route("/health", get(health))
        .route("/ready", get(ready))
        .route("/metrics", get(metrics))
        .route("/api/stats", get(stats))
        .route("/api/allocations", get(list))
        .route("/api/allocations/{worker}/{id}", get(show))
        .route("/api/allocations/{worker}/{id}", delete(end))
        .route("/api/drain", post(drain).delete(resume))
        .route("/api/credentials", get(mint).post(mint))
        .with_state(service)
}

/// An allocation, as the interface shows it.
#[derive(Serialize)]
struct Shown {
    worker: u8,
    id: String,
    user: String,
    realm: String,
    protocol: String,
    client: String,
    server: String,
    relayed: Vec<String>,
    expires_in_seconds: u64,
    permissions: usize,
    channels: usize,
    bytes_to_peers: u64,
    bytes_to_client: u64,
}

impl Shown {
    fn new(worker: u8, info: &AllocationInfo) -> Self {
        Self {
            worker,
            id: info.id.to_string(),
            user: info.username.clone(),
            realm: info.realm.clone(),
            protocol: info.client.protocol.to_string(),
            client: info.client.remote.to_string(),
            server: info.client.local.to_string(),
            relayed: info.relayed.iter().map(ToString::to_string).collect(),
            expires_in_seconds: info.expires_in.as_secs(),
            permissions: info.permissions,
            channels: info.channels,
            bytes_to_peers: info.bytes_to_peers,
            bytes_to_client: info.bytes_to_client,
        }
    }
}

#[derive(Deserialize)]
struct Filter {
    user: Option<String>,
    limit: Option<usize>,
}

/// The names of draft-uberti-behave-turn-rest too: `service`, `username`, `key`.
#[derive(Deserialize)]
struct Mint {
    username: Option<String>,
    ttl: Option<u64>,
    key: Option<String>,
}

/// Whether the caller has the token.
fn admitted(
    service: &TurnService,
    headers: &HeaderMap,
    key: Option<&str>,
) -> Result<(), Box<Response>> {
    let token = service.with_state(|state| state.config.admin_token.clone());
    let Some(token) = token else {
        let text = "give the server an `admin-token` to use this\n";
        return Err(Box::new((StatusCode::FORBIDDEN, text).into_response()));
    };
    let bearer = headers
        .get(header::AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "));
    match bearer.or(key) {
        Some(given) if constant_time_eq(given.as_bytes(), token.as_bytes()) => Ok(()),
        _ => Err(Box::new(StatusCode::UNAUTHORIZED.into_response())),
    }
}

async fn health(State(service): State<TurnService>) -> Response {
    let expected = service.config().workers;
    if blocking(move || service.metrics().workers()).await == Some(expected) {
        "ok\n".into_response()
    } else {
        (
            StatusCode::SERVICE_UNAVAILABLE,
            "a worker does not answer\n",
        )
            .into_response()
    }
}

async fn ready(State(service): State<TurnService>) -> Response {
    if service.is_draining() {
        (StatusCode::SERVICE_UNAVAILABLE, "draining\n").into_response()
    } else {
        "ready\n".into_response()
    }
}

async fn metrics(State(service): State<TurnService>) -> Response {
    let text = blocking(move || service.metrics().render()).await;
    let kind = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    (kind, text.unwrap_or_default()).into_response()
}

async fn stats(State(service): State<TurnService>, headers: HeaderMap) -> Response {
    if let Err(refusal) = admitted(&service, &headers, None) {
        return *refusal;
    }
    Json(blocking(move || service.metrics().totals()).await).into_response()
}

async fn list(
    State(service): State<TurnService>,
    headers: HeaderMap,
    Query(filter): Query<Filter>,
) -> Response {
    if let Err(refusal) = admitted(&service, &headers, None) {
        return *refusal;
    }
    let limit = filter.limit.unwrap_or(1000).min(MOST);
    let list = blocking(move || service.allocations(MOST))
        .await
        .unwrap_or_default();
    let shown: Vec<Shown> = list
        .iter()
        .filter(|(_, info)| {
            filter
                .user
                .as_ref()
                .is_none_or(|user| *user == info.username)
        })
        .take(limit)
        .map(|(worker, info)| Shown::new(*worker, info))
        .collect();
    Json(shown).into_response()
}

async fn show(
    State(service): State<TurnService>,
    headers: HeaderMap,
    Path((worker, id)): Path<(u8, String)>,
) -> Response {
    if let Err(refusal) = admitted(&service, &headers, None) {
        return *refusal;
    }
    match find(service, worker, id).await {
        Some(info) => Json(Shown::new(worker, &info)).into_response(),
        None => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn end(
    State(service): State<TurnService>,
    headers: HeaderMap,
    Path((worker, id)): Path<(u8, String)>,
) -> Response {
    if let Err(refusal) = admitted(&service, &headers, None) {
        return *refusal;
    }
    let ended = match find(service.clone(), worker, id).await {
        Some(info) => blocking(move || service.end(worker, info.id)).await,
        None => None,
    };
    match ended {
        Some(true) => StatusCode::NO_CONTENT.into_response(),
        _ => StatusCode::NOT_FOUND.into_response(),
    }
}

async fn drain(State(service): State<TurnService>, headers: HeaderMap) -> Response {
    set_draining(&service, &headers, true)
}

async fn resume(State(service): State<TurnService>, headers: HeaderMap) -> Response {
    set_draining(&service, &headers, false)
}

fn set_draining(service: &TurnService, headers: &HeaderMap, draining: bool) -> Response {
    if let Err(refusal) = admitted(service, headers, None) {
        return *refusal;
    }
    service.set_draining(draining);
    StatusCode::NO_CONTENT.into_response()
}

async fn mint(
    State(service): State<TurnService>,
    headers: HeaderMap,
    Query(mint): Query<Mint>,
) -> Response {
    if let Err(refusal) = admitted(&service, &headers, mint.key.as_deref()) {
        return *refusal;
    }
    let user = mint.username.unwrap_or_default();
    match service.mint(&user, mint.ttl.map(Duration::from_secs)) {
        Some(credential) => Json(credential).into_response(),
        None => (
            StatusCode::NOT_FOUND,
            "give the server a `secret` to make credentials from\n",
        )
            .into_response(),
    }
}

async fn find(service: TurnService, worker: u8, id: String) -> Option<AllocationInfo> {
    let is_it = move |found: AllocationId| found.to_string() == id;
    let list = blocking(move || service.allocations(usize::MAX)).await?;
    list.into_iter()
        .find(|(number, info)| *number == worker && is_it(info.id))
        .map(|(_, info)| info)
}

/// Workers are asked over channels that block.
async fn blocking<T: Send + 'static>(ask: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    tokio::task::spawn_blocking(ask).await.ok()
}
