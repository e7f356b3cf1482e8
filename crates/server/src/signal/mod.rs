//! LiveKit's signalling connection: `/rtc` and `/rtc/v1` over WebSocket, and the endpoints by which a
//! client learns why it was refused.
//!
//! `/rtc` is the older path: settings as query parameters, two peer connections. `/rtc/v1` carries a join
//! request in one parameter, with the client's first offer inside, and uses one peer connection. Status
//! codes and texts are LiveKit's: clients decide by them whether to try again, and how.

mod join;

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use axum::{
    extract::{
        FromRequestParts, Query, State,
        ws::{Message as Frame, WebSocket, WebSocketUpgrade, rejection::WebSocketUpgradeRejection},
    },
    http::{HeaderMap, StatusCode, request::Parts},
    response::Response,
};
use livekit_protocol as proto;
use prost::Message as _;
use proto::{DisconnectReason, leave_request::Action, signal_request, signal_response::Message};
use tokio::sync::mpsc;

use self::join::{JoinQuery, read_query};
pub(crate) use self::join::{Refused, claims_of, token_of};
use crate::{
    bucket::{Bucket, Rate},
    engine::{Command, SignalOut},
    room::{JoinError, ParticipantKey},
    rooms::{RoomError, RoomHandle},
    server::Shared,
    websocket::{NORMAL, bounded, close, send},
    wire::Outgoing,
};

/// How often clients ping, in seconds.
pub(crate) const PING_INTERVAL_SECONDS: i32 = 5;

/// After how many seconds without an answer they give up.
pub(crate) const PING_TIMEOUT_SECONDS: i32 = 15;

/// How long a client may be silent before its connection is closed.
const SILENCE: Duration = Duration::from_secs(20);

/// After how long a silent client that has not pinged is asked by a ping of WebSocket, which any must answer (RFC 6455 section 5.5.2).
const ASK: Duration = Duration::from_secs(10);

/// Messages that wait for a client's connection; beyond, it is too slow and has to come back.
const SIGNAL_QUEUE: usize = 1024;

/// The largest message of a client, in bytes. Offers of large meetings have some 100 kB.
pub(crate) const MAX_MESSAGE_BYTES: usize = 512 * 1024;

/// How fast one client may send requests.
const REQUEST_RATE: Rate = Rate {
    burst: 2000,
    per_second: 200,
};

/// `/rtc/validate` and `/rtc/v1/validate`.
pub(crate) async fn validate(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    uri: axum::http::Uri,
    Query(query): Query<HashMap<String, String>>,
) -> Result<&'static str, Refused> {
    let needs_request = uri.path().contains("/v1");
    let asked = read_query(&shared, &headers, &query, needs_request, true)?;
    check_room(&shared, &asked).await?;
    Ok("success")
}

/// Whether the room would take the client: what the WebSocket path would answer before its upgrade.
async fn check_room(shared: &Arc<Shared>, asked: &JoinQuery) -> Result<(), Refused> {
    match shared.rooms.find(&asked.room) {
        Some(handle) => {
            let identity = asked.joiner.claims.identity.clone();
            let full = handle
                .with(move |room, _| room.is_full_for(&identity))
                .await
                .unwrap_or(false);
            if full {
                Err(RoomError::from(JoinError::Full).into())
            } else {
                Ok(())
            }
        }
        None if !shared.config.auto_create => Err(RoomError::NotFound.into()),
        None => Ok(()),
    }
}

/// The upgrade, if the request is one.
pub(crate) struct Upgrade(Result<WebSocketUpgrade, WebSocketUpgradeRejection>);

impl<S: Send + Sync> FromRequestParts<S> for Upgrade {
    type Rejection = std::convert::Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Self::Rejection> {
        Ok(Self(
            WebSocketUpgrade::from_request_parts(parts, state).await,
        ))
    }
}

/// `/rtc` and `/rtc/v1`.
pub(crate) async fn connect(
    State(shared): State<Arc<Shared>>,
    headers: HeaderMap,
    uri: axum::http::Uri,
    Query(query): Query<HashMap<String, String>>,
    Upgrade(upgrade): Upgrade,
) -> Result<Response, Refused> {
    let upgrade = upgrade.map_err(|_| Refused(StatusCode::NOT_FOUND, String::new()))?;
    let mut asked = read_query(&shared, &headers, &query, uri.path().contains("/v1"), false)?;
    asked.joiner.ice_servers = shared.ice_servers(&headers, &asked.joiner.claims.identity);
    let upgrade = bounded(upgrade, MAX_MESSAGE_BYTES);

    let (sender, outbox) = mpsc::channel(SIGNAL_QUEUE);
    let handle = match shared.rooms.find(&asked.room) {
        Some(handle) => handle,
        None if asked.session.is_some() => return Ok(upgrade.on_upgrade(state_mismatch)),
        None if !shared.config.auto_create => return Err(RoomError::NotFound.into()),
        None => match shared.rooms.find_or_create(&shared, &asked.create) {
            Err(RoomError::Elsewhere(url)) => {
                return Ok(upgrade.on_upgrade(|socket| elsewhere(socket, url)));
            }
            other => other?,
        },
    };
    let resumes = asked.session.is_some();
    let joined = handle.join(asked.joiner, asked.session, Some(sender)).await;
    let (key, connection) = match joined {
        Ok(joined) => joined,
        Err(RoomError::Join(JoinError::UnknownSession) | RoomError::NotFound) if resumes => {
            return Ok(upgrade.on_upgrade(state_mismatch));
        }
        Err(error) => {
            metrics::counter!("visavis_joins_refused_total").increment(1);
            return Err(error.into());
        }
    };
    metrics::counter!("visavis_joins_total").increment(1);
    // From here on the participant's place is given back if the upgrade never happens.
    let guard = SignalGuard {
        handle,
        key,
        connection,
    };
    for request in asked.first {
        let command = Command::Request {
            from: key,
            request: Box::new(request),
        };
        guard.handle.send(command).await?;
    }
    Ok(upgrade.on_upgrade(move |socket| pump(socket, outbox, guard)))
}

/// Tells the room when a signalling connection is over, however it ended.
struct SignalGuard {
    handle: RoomHandle,
    key: ParticipantKey,
    connection: u64,
}

impl Drop for SignalGuard {
    fn drop(&mut self) {
        let (handle, of, connection) = (self.handle.clone(), self.key, self.connection);
        tokio::spawn(async move {
            let _ = handle.send(Command::SignalLost { of, connection }).await;
        });
    }
}

async fn leave_at_once(mut socket: WebSocket, message: Message) {
    let frame = Frame::Binary(Outgoing::new(message).binary());
    send(&mut socket, frame).await;
    close(socket, NORMAL, "").await;
}

/// The session to resume is not known: the client has to begin anew.
async fn state_mismatch(socket: WebSocket) {
    let leave = proto::LeaveRequest {
        can_reconnect: true,
        reason: DisconnectReason::StateMismatch.into(),
        action: Action::Reconnect.into(),
        regions: None,
    };
    leave_at_once(socket, Message::Leave(leave)).await;
}

/// The room is on another node.
async fn elsewhere(socket: WebSocket, alternative_url: String) {
    leave_at_once(
        socket,
        Message::Join(proto::JoinResponse {
            alternative_url,
            ..Default::default()
        }),
    )
    .await;
}

/// Carries messages both ways until either side ends it.
async fn pump(mut socket: WebSocket, mut outbox: mpsc::Receiver<SignalOut>, guard: SignalGuard) {
    // A client that speaks JSON is answered in JSON.
    let mut json = false;
    let mut pings = false;
    // When something came last: what is sent to a client says nothing about whether it is there.
    let mut heard = tokio::time::Instant::now();
    let mut asked = false;
    let mut bucket = Bucket::new(REQUEST_RATE, Instant::now());
    let end = loop {
        let patience = if pings || asked { SILENCE } else { ASK };
        tokio::select! {
            out = outbox.recv() => {
                let frame = match out {
                    Some(SignalOut::Message(message)) if json => Frame::Text(message.text().into()),
                    Some(SignalOut::Message(message)) => Frame::Binary(message.binary()),
                    Some(SignalOut::Close) | None => break None,
                };
                if !send(&mut socket, frame).await {
                    return;
                }
            }
            frame = socket.recv() => {
                // An answer to a ping comes from where the client may hang.
                if !(pings && matches!(frame, Some(Ok(Frame::Pong(_))))) {
                    heard = tokio::time::Instant::now();
                    asked = false;
                }
                if matches!(frame, Some(Ok(_))) && !bucket.take(Instant::now()) {
                    metrics::counter!("visavis_signal_flooded_total").increment(1);
                    break Some((1008, "too many requests"));
                }
                let request = match frame {
                    Some(Ok(Frame::Binary(bytes))) => proto::SignalRequest::decode(bytes).ok(),
                    Some(Ok(Frame::Text(text))) => {
                        json = true;
                        serde_json::from_str(&text).ok()
                    }
                    Some(Ok(Frame::Ping(_) | Frame::Pong(_))) => continue,
                    Some(Ok(Frame::Close(_))) => break None,
                    None => return,
                    Some(Err(error)) => {
                        tracing::debug!("a signalling connection broke: {error}");
                        return;
                    }
                };
                let Some(request) = request else {
                    metrics::counter!("visavis_signal_malformed_total").increment(1);
                    break Some((1007, "the message is malformed"));
                };
                // A message of a later protocol has a field that is not known here: nothing to do.
                let Some(request) = request.message else { continue };
                pings |= matches!(request, signal_request::Message::PingReq(_));
                let command = Command::Request { from: guard.key, request: Box::new(request) };
                if guard.handle.send(command).await.is_err() {
                    break None;
                }
            }
            () = tokio::time::sleep_until(heard + patience) => {
                if pings || asked {
                    break Some((1001, "nothing came"));
                }
                asked = true;
                if !send(&mut socket, Frame::Ping(axum::body::Bytes::new())).await {
                    return;
                }
            }
        }
    };
    // An end as it should be has a code too: without one, clients call it unexpected.
    let (code, reason) = end.unwrap_or((NORMAL, ""));
    drop(guard);
    close(socket, code, reason).await;
}
