//! WHIP and WHEP over HTTP (RFC 9725; draft-ietf-wish-whep): `/whip/ROOM` and `/whep/ROOM`, and the
//! sessions beneath. A room's name may be left out if the token names it. `/whip/v1` is LiveKit's path.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex},
};

use axum::{
    Router,
    body::Bytes,
    extract::{Path, Query, State},
    http::{HeaderMap, HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
    routing::{get, post},
};
use livekit_protocol as proto;
use tokio::sync::oneshot;
use visavis_crypto::HashAlgorithm;

use crate::{
    engine::{Command, WhepRequest, WhipAnswer, WhipError, WhipRequest},
    ids::{IdKind, new_id, random_text},
    room::{JoinError, Joiner, Mode, ParticipantKey},
    rooms::{RoomError, RoomHandle},
    server::Shared,
    signal::{Refused, token_of},
    token::Claims,
};

/// The largest offer, in bytes.
const MAX_OFFER_BYTES: usize = 64 * 1024;

/// Sessions at a time.
const MAX_SESSIONS: usize = 10_000;

const SDP: &str = "application/sdp";
const FRAGMENT: &str = "application/trickle-ice-sdpfrag";

/// The sessions, by the unguessable part of their URLs.
#[derive(Debug, Default)]
pub(crate) struct Sessions {
    table: Mutex<Table>,
}

#[derive(Debug, Default)]
struct Table {
    sessions: HashMap<String, Session>,
    /// The same by room and participant.
    ids: HashMap<(u32, ParticipantKey), String>,
}

#[derive(Debug, Clone)]
struct Session {
    room: RoomHandle,
    participant: ParticipantKey,
    etag: String,
    owner: Owner,
}

/// Whose a session is.
#[derive(Debug, Clone)]
struct Owner {
    /// The digest of the token that began it: who holds it may end what it began, even after the token expired.
    token: [u8; 32],
    api_key: String,
    identity: String,
}

impl Owner {
    fn new(token: &str, claims: &Claims) -> Self {
        Self {
            token: digest(token),
            api_key: claims.iss.clone(),
            identity: claims.identity.clone(),
        }
    }
}

fn digest(token: &str) -> [u8; 32] {
    let mut digest = [0; 32];
    digest.copy_from_slice(HashAlgorithm::Sha256.hash(token.as_bytes()).as_ref());
    digest
}

/// The session that a request is about, if its bearer token says that it is the bearer's: the token that began
/// it, or a newer one of the same API key for the same identity. Every request but a preflight bears one
/// (RFC 9725, section 4.7); the URL alone, which ends up in logs and histories, opens nothing.
fn authorised(shared: &Shared, headers: &HeaderMap, id: &str) -> Result<Session, Refused> {
    let token = token_of(headers, &HashMap::new())?.ok_or_else(no_token)?;
    let session = shared.sessions.find(id).ok_or(WhipError::Gone)?;
    if visavis_crypto::constant_time_eq(&digest(&token), &session.owner.token) {
        return Ok(session);
    }
    let claims = shared.keys.verify(&token)?;
    let owner = &session.owner;
    if claims.iss == owner.api_key && claims.identity == owner.identity {
        Ok(session)
    } else {
        let text = "the session was begun with another token";
        Err(Refused(StatusCode::FORBIDDEN, text.into()))
    }
}

fn no_token() -> Refused {
    Refused(StatusCode::UNAUTHORIZED, "a bearer token is needed".into())
}

impl Sessions {
    fn lock(&self) -> std::sync::MutexGuard<'_, Table> {
        self.table
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner)
    }

    fn add(&self, session: Session) -> Option<String> {
        let mut table = self.lock();
        if table.sessions.len() >= MAX_SESSIONS {
            return None;
        }
        let id = new_id(IdKind::Session);
        table
            .ids
            .insert((session.room.id, session.participant), id.clone());
        table.sessions.insert(id.clone(), session);
        Some(id)
    }

    fn find(&self, id: &str) -> Option<Session> {
        self.lock().sessions.get(id).cloned()
    }

    fn set_etag(&self, id: &str, etag: &str) {
        if let Some(session) = self.lock().sessions.get_mut(id) {
            etag.clone_into(&mut session.etag);
        }
    }

    /// The participant has gone, and its session with it.
    pub(crate) fn forget(&self, room: u32, participant: ParticipantKey) {
        let mut table = self.lock();
        if let Some(id) = table.ids.remove(&(room, participant)) {
            table.sessions.remove(&id);
        }
    }
}

/// The routes.
pub(crate) fn routes() -> Router<Arc<Shared>> {
    let mut router = Router::new();
    for door in ["/whip", "/whep"] {
        let publishes = door == "/whip";
        let start = move |state, query, headers, path: Option<Path<String>>, body| {
            begin(
                state,
                publishes,
                path.map(|Path(room)| room),
                query,
                headers,
                body,
            )
        };
        router = router
            .route(door, post(start).get(nothing))
            .route(&format!("{door}/{{room}}"), post(start).get(nothing))
            .route(
                &format!("{door}/session/{{id}}"),
                get(nothing)
                    .patch(patch)
                    .delete(end)
                    .post(|| async { StatusCode::METHOD_NOT_ALLOWED }),
            );
    }
    router
}

/// A GET of an endpoint or a session: nothing to see (RFC 9725, section 4.2).
async fn nothing() -> StatusCode {
    StatusCode::NO_CONTENT
}

impl From<WhipError> for Refused {
    fn from(error: WhipError) -> Self {
        let status = match &error {
            WhipError::BadDescription(_) | WhipError::BadFragment(_) => StatusCode::BAD_REQUEST,
            WhipError::TrackCount => StatusCode::NOT_ACCEPTABLE,
            WhipError::Forbidden | WhipError::Join(JoinError::Full) => StatusCode::FORBIDDEN,
            WhipError::NothingToPlay => StatusCode::CONFLICT,
            WhipError::Join(_) => StatusCode::SERVICE_UNAVAILABLE,
            WhipError::Gone => StatusCode::NOT_FOUND,
        };
        Self(status, error.to_string())
    }
}

fn content_type(headers: &HeaderMap) -> &str {
    let value = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    value.split(';').next().unwrap_or_default().trim()
}

/// A POST of an offer.
async fn begin(
    State(shared): State<Arc<Shared>>,
    publishes: bool,
    room: Option<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    match offer(&shared, publishes, room, &query, &headers, &body).await {
        Ok(response) => response,
        Err(refused) => {
            let wait = matches!(
                refused.0,
                StatusCode::CONFLICT | StatusCode::SERVICE_UNAVAILABLE
            );
            let mut response = refused.into_response();
            if wait {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
            }
            response
        }
    }
}

async fn offer(
    shared: &Arc<Shared>,
    publishes: bool,
    room: Option<String>,
    query: &HashMap<String, String>,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<Response, Refused> {
    let token = token_of(headers, query)?.ok_or_else(no_token)?;
    let claims = shared.keys.verify(&token)?;
    let owner = Owner::new(&token, &claims);
    if content_type(headers) != SDP {
        return Err(Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body must be {SDP}"),
        ));
    }
    if body.len() > MAX_OFFER_BYTES {
        return Err(Refused(
            StatusCode::PAYLOAD_TOO_LARGE,
            "the offer is too large".into(),
        ));
    }
    let offer = std::str::from_utf8(body)
        .ok()
        .filter(|text| text.starts_with("v="))
        .ok_or_else(|| {
            Refused(
                StatusCode::BAD_REQUEST,
                "the body is no session description".into(),
            )
        })?
        .to_owned();
    let room = room_of(&claims, room)?;
    let create = claims.room_request(&room);
    let joiner = joiner(shared, claims, publishes, headers)?;
    let handle = match shared.rooms.find(&room) {
        Some(handle) => handle,
        None if !publishes => return Err(WhipError::NothingToPlay.into()),
        None if !shared.config.auto_create => return Err(RoomError::NotFound.into()),
        None => shared.rooms.find_or_create(shared, &create)?,
    };
    let ice_servers = joiner.ice_servers.clone();
    let (sender, answered) = oneshot::channel();
    let command = if publishes {
        Command::Whip(Box::new(WhipRequest {
            joiner,
            offer,
            answer: sender,
        }))
    } else {
        let identity = query.get("identity").cloned().unwrap_or_default();
        Command::Whep(Box::new(WhepRequest {
            joiner,
            offer,
            identity,
            answer: sender,
        }))
    };
    handle.send(command).await?;
    let WhipAnswer { key, sdp } = answered.await.map_err(|_| WhipError::Gone)??;
    let etag = format!("\"{}\"", random_text(12));
    let session = Session {
        room: handle.clone(),
        participant: key,
        etag: etag.clone(),
        owner,
    };
    let Some(id) = shared.sessions.add(session) else {
        let _ = handle
            .with(move |room, now| room.remove(key, proto::DisconnectReason::JoinFailure, now))
            .await;
        return Err(Refused(
            StatusCode::SERVICE_UNAVAILABLE,
            "too many sessions".into(),
        ));
    };
    let door = if publishes { "whip" } else { "whep" };
    let mut response = (StatusCode::CREATED, [(header::CONTENT_TYPE, SDP)], sdp).into_response();
    let headers = response.headers_mut();
    let mut set = |name: header::HeaderName, value: String| {
        if let Ok(value) = HeaderValue::from_str(&value) {
            headers.append(name, value);
        }
    };
    // Relative to the host, without a query: OBS clears the query and keeps the path.
    set(header::LOCATION, format!("/{door}/session/{id}"));
    set(header::ETAG, etag);
    for server in ice_servers {
        for url in &server.urls {
            set(header::LINK, ice_server_link(url, &server));
        }
    }
    Ok(response)
}

/// An ICE server as a link (RFC 9725, section 4.6).
fn ice_server_link(url: &str, server: &proto::IceServer) -> String {
    if server.username.is_empty() {
        return format!("<{url}>; rel=\"ice-server\"");
    }
    format!(
        "<{url}>; rel=\"ice-server\"; username=\"{}\"; credential=\"{}\"; credential-type=\"password\"",
        server.username, server.credential
    )
}

fn room_of(claims: &Claims, room: Option<String>) -> Result<String, Refused> {
    let granted = claims
        .video
        .as_ref()
        .map(|grant| grant.room.clone())
        .unwrap_or_default();
    // `/whip/v1` is LiveKit's path: the token names the room.
    let asked = room.filter(|room| room != "v1").unwrap_or_default();
    match (granted.as_str(), asked.as_str()) {
        ("", "") => Err(Refused(StatusCode::BAD_REQUEST, "no room name".into())),
        ("", _) => Ok(asked),
        (_, "") => Ok(granted),
        (granted, room) if granted == room => Ok(asked),
        _ => Err(Refused(
            StatusCode::FORBIDDEN,
            "the token is for another room".into(),
        )),
    }
}

fn joiner(
    shared: &Shared,
    mut claims: Claims,
    publishes: bool,
    headers: &HeaderMap,
) -> Result<Joiner, Refused> {
    let forbidden = || {
        Refused(
            StatusCode::FORBIDDEN,
            "the token does not allow this".into(),
        )
    };
    let mut grant = claims.video.clone().ok_or_else(forbidden)?;
    let allowed = if publishes {
        grant.may_publish()
    } else {
        grant.may_subscribe()
    };
    if !grant.room_join || !allowed {
        return Err(forbidden());
    }
    // A player is nobody whom others should see, and may come as often as it likes.
    if !publishes {
        grant.hidden = true;
        grant.can_publish = Some(false);
        grant.can_publish_data = Some(false);
        claims.identity = format!("{}#whep-{}", claims.identity, random_text(6));
    }
    if claims.identity.is_empty() {
        claims.identity = format!("whip-{}", random_text(6));
    }
    if publishes && claims.kind.is_empty() {
        claims.kind = "ingress".into();
    }
    claims.video = Some(grant);
    let ice_servers = shared.ice_servers(headers, &claims.identity);
    Ok(Joiner {
        claims,
        client: proto::ClientInfo {
            protocol: 17,
            ..Default::default()
        },
        mode: Mode::Single,
        auto_subscribe: false,
        adaptive_stream: false,
        disable_ice_lite: false,
        ice_servers,
    })
}

/// A PATCH of a session: candidates, or an ICE restart (RFC 9725, section 4.3).
async fn patch(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, Refused> {
    let session = authorised(&shared, &headers, &id)?;
    if content_type(&headers) != FRAGMENT {
        return Err(Refused(
            StatusCode::UNSUPPORTED_MEDIA_TYPE,
            format!("the body must be {FRAGMENT}"),
        ));
    }
    let matches = headers
        .get(header::IF_MATCH)
        .and_then(|value| value.to_str().ok());
    let Some(matches) = matches else {
        return Err(Refused(
            StatusCode::PRECONDITION_REQUIRED,
            "If-Match is needed".into(),
        ));
    };
    if matches != "*" && matches != session.etag {
        return Err(Refused(
            StatusCode::PRECONDITION_FAILED,
            "the session has another ETag by now".into(),
        ));
    }
    let fragment = std::str::from_utf8(&body)
        .map_err(|_| WhipError::BadFragment("it is no text".into()))?
        .to_owned();
    let (answer, answered) = oneshot::channel();
    session
        .room
        .send(Command::Fragment {
            of: session.participant,
            fragment,
            answer,
        })
        .await?;
    match answered.await.map_err(|_| WhipError::Gone)?? {
        None => Ok(StatusCode::NO_CONTENT.into_response()),
        Some(fragment) => {
            let etag = format!("\"{}\"", random_text(12));
            shared.sessions.set_etag(&id, &etag);
            let headers = [
                (header::CONTENT_TYPE, FRAGMENT.to_owned()),
                (header::ETAG, etag),
            ];
            Ok((StatusCode::OK, headers, fragment).into_response())
        }
    }
}

/// A DELETE of a session.
async fn end(
    State(shared): State<Arc<Shared>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<StatusCode, Refused> {
    let session = authorised(&shared, &headers, &id)?;
    shared.sessions.forget(session.room.id, session.participant);
    let reason = proto::DisconnectReason::ClientInitiated;
    let _ = session
        .room
        .with(move |room, now| room.remove(session.participant, reason, now))
        .await;
    Ok(StatusCode::OK)
}
