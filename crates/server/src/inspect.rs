//! What operators see: rooms, participants and connections as they are now, in one JSON, with a diagnosis
//! in words; and the event log.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use crate::{engine::Command, room::Now, rooms::count, routes::is_operator, server::Shared};

/// Events that the view shows.
const SHOWN_EVENTS: usize = 500;

fn refused() -> Response {
    (
        StatusCode::UNAUTHORIZED,
        "for operators: send the operator token as a bearer token",
    )
        .into_response()
}

/// `GET /api/inspect`.
pub(crate) async fn view(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !is_operator(&shared, request.headers(), request.extensions().get()) {
        return refused();
    }
    let mut rooms = Vec::new();
    for handle in shared.rooms.all() {
        let (answer, answered) = oneshot::channel();
        if handle.send(Command::Inspect(answer)).await.is_ok() {
            rooms.extend(answered.await);
        }
    }
    let workers = shared.media.sfu().worker_stats().await.unwrap_or_default();
    let workers: Vec<Value> = workers
        .iter()
        .enumerate()
        .map(|(id, worker)| json!({"id": id, "load": worker.load, "connections": worker.connections, "forwarded": worker.forwarded}))
        .collect();
    let text = |addresses: &[std::net::SocketAddr]| {
        addresses
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
    };
    let view = json!({
        "version": env!("CARGO_PKG_VERSION"),
        "now": Now::read().unix_millis,
        "startedAt": shared.started.unix_millis,
        "draining": shared.is_draining(),
        "node": {
            "udp": text(shared.media.sfu().local_addresses()),
            "tcp": text(shared.tcp_addresses()),
            "turn": shared.config.turn,
            "workers": workers,
        },
        "rooms": rooms,
        "events": shared.events.last(SHOWN_EVENTS),
    });
    ([(header::CACHE_CONTROL, "no-store")], Json(view)).into_response()
}

/// `GET /api/inspect/events`: the whole log, one JSON a line.
pub(crate) async fn events(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    if !is_operator(&shared, request.headers(), request.extensions().get()) {
        return refused();
    }
    let mut lines = String::new();
    for event in shared.events.last(usize::MAX) {
        lines.push_str(&serde_json::to_string(&event).unwrap_or_default());
        lines.push('\n');
    }
    let headers = [
        (header::CONTENT_TYPE, "application/x-ndjson"),
        (
            header::CONTENT_DISPOSITION,
            "attachment; filename=\"visavis-events.jsonl\"",
        ),
    ];
    (headers, lines).into_response()
}

/// Reads what is counted elsewhere into the metrics, before they are shown.
pub(crate) async fn measure(shared: &Shared) {
    let mut participants = 0;
    for handle in shared.rooms.all() {
        participants += handle
            .with(|room, _| room.participants().count())
            .await
            .unwrap_or(0);
    }
    metrics::gauge!("visavis_participants").set(count(participants));
    for (index, worker) in shared
        .media
        .sfu()
        .worker_stats()
        .await
        .unwrap_or_default()
        .iter()
        .enumerate()
    {
        let label = index.to_string();
        let counters: [(&'static str, u64); 8] = [
            ("visavis_rtp_received_total", worker.received),
            ("visavis_rtp_forwarded_total", worker.forwarded),
            ("visavis_rtp_retransmitted_total", worker.retransmitted),
            ("visavis_pacer_dropped_total", worker.pacer_dropped),
            ("visavis_datagrams_unrouted_total", worker.unrouted),
            ("visavis_rtp_malformed_total", worker.malformed),
            ("visavis_rtcp_malformed_total", worker.malformed_rtcp),
            ("visavis_media_events_dropped_total", worker.events_dropped),
        ];
        for (name, value) in counters {
            metrics::counter!(name, "worker" => label.clone()).absolute(value);
        }
        metrics::gauge!("visavis_media_load", "worker" => label.clone()).set(worker.load);
        #[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
        metrics::gauge!("visavis_media_connections", "worker" => label)
            .set(worker.connections as f64);
    }
}
