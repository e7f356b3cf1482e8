//! LiveKit's RoomService over Twirp: `POST /twirp/livekit.RoomService/METHOD`, bodies in protobuf or JSON.

use std::{collections::HashMap, sync::Arc, time::Duration};

use axum::{
    body::Bytes,
    extract::{Path, State},
    http::{HeaderMap, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use livekit_protocol as proto;
use proto::{DisconnectReason, RoomEndReason};
use serde::{Serialize, de::DeserializeOwned};

use crate::{
    ids::random_text,
    room::AdminError,
    rooms::{RoomError, RoomHandle},
    server::Shared,
    signal::claims_of,
    token::{Claims, VideoGrant},
};

/// The largest body, in bytes (10 MiB, as in LiveKit).
pub(crate) const MAX_BODY_BYTES: usize = 10 << 20;

/// How long a participant may take to answer a call of the application's server, if that says nothing.
const RPC_TIMEOUT: Duration = Duration::from_secs(15);

/// A Twirp error: a code and a text.
#[derive(Debug)]
struct TwirpError {
    code: &'static str,
    text: String,
}

impl TwirpError {
    fn new(code: &'static str, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
        }
    }

    /// The status of a code (Twirp specification, version 7).
    fn status(&self) -> StatusCode {
        match self.code {
            "invalid_argument" | "malformed" => StatusCode::BAD_REQUEST,
            "deadline_exceeded" => StatusCode::REQUEST_TIMEOUT,
            "not_found" | "bad_route" => StatusCode::NOT_FOUND,
            "already_exists" | "aborted" => StatusCode::CONFLICT,
            "permission_denied" => StatusCode::FORBIDDEN,
            "unauthenticated" => StatusCode::UNAUTHORIZED,
            "resource_exhausted" => StatusCode::TOO_MANY_REQUESTS,
            "failed_precondition" => StatusCode::PRECONDITION_FAILED,
            "unimplemented" => StatusCode::NOT_IMPLEMENTED,
            "unavailable" => StatusCode::SERVICE_UNAVAILABLE,
            _ => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }
}

impl IntoResponse for TwirpError {
    fn into_response(self) -> Response {
        let status = self.status();
        let body = serde_json::json!({"code": self.code, "msg": self.text});
        (status, axum::Json(body)).into_response()
    }
}

impl From<RoomError> for TwirpError {
    fn from(error: RoomError) -> Self {
        let code = match error {
            RoomError::NotFound => "not_found",
            RoomError::Preset => "invalid_argument",
            RoomError::Join(_) => "failed_precondition",
            RoomError::Limit => "resource_exhausted",
            RoomError::Draining | RoomError::Elsewhere(_) => "unavailable",
        };
        Self::new(code, error.to_string())
    }
}

impl From<AdminError> for TwirpError {
    fn from(error: AdminError) -> Self {
        let code = match error {
            AdminError::NoParticipant | AdminError::NoTrack => "not_found",
            AdminError::RemoteUnmute => "failed_precondition",
            AdminError::Limit(_) => "invalid_argument",
        };
        Self::new(code, error.to_string())
    }
}

/// The two forms of bodies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Form {
    Protobuf,
    Json,
}

impl Form {
    fn of(headers: &HeaderMap) -> Option<Self> {
        let value = headers.get(header::CONTENT_TYPE)?.to_str().ok()?;
        match value
            .split(';')
            .next()?
            .trim()
            .to_ascii_lowercase()
            .as_str()
        {
            "application/protobuf" => Some(Self::Protobuf),
            "application/json" => Some(Self::Json),
            _ => None,
        }
    }

    fn decode<T: prost::Message + Default + DeserializeOwned>(
        self,
        body: &[u8],
    ) -> Result<T, TwirpError> {
        match self {
            Self::Protobuf => T::decode(body).map_err(|error| error.to_string()),
            Self::Json => serde_json::from_slice(body).map_err(|error| error.to_string()),
        }
        .map_err(|error| {
            TwirpError::new(
                "malformed",
                format!("the request could not be decoded: {error}"),
            )
        })
    }

    fn encode<T: prost::Message + Serialize>(self, message: &T) -> Response {
        match self {
            Self::Protobuf => (
                [(header::CONTENT_TYPE, "application/protobuf")],
                message.encode_to_vec(),
            )
                .into_response(),
            Self::Json => axum::Json(message).into_response(),
        }
    }
}

/// Handles a call.
pub(crate) async fn call(
    State(shared): State<Arc<Shared>>,
    Path((service, method)): Path<(String, String)>,
    verb: Method,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let form = Form::of(&headers);
    let (Method::POST, Some(form)) = (verb, form) else {
        return TwirpError::new(
            "bad_route",
            "a call is a POST of application/protobuf or application/json",
        )
        .into_response();
    };
    let claims = match claims_of(&shared, &headers, &HashMap::new()) {
        Ok(claims) => claims.unwrap_or_default(),
        // LiveKit refuses a bad token before it looks at the call, in plain text.
        Err(error) => return (StatusCode::UNAUTHORIZED, error.to_string()).into_response(),
    };
    metrics::counter!("visavis_api_calls_total", "method" => method_label(&method)).increment(1);
    let call = Call {
        shared,
        claims,
        form,
        body,
    };
    let outcome = match service.as_str() {
        "livekit.RoomService" => call.room_service(&method).await,
        "livekit.Egress" | "livekit.Ingress" | "livekit.SIP" | "livekit.AgentDispatchService" => {
            Err(TwirpError::new(
                "unimplemented",
                format!("{service} is not part of this server"),
            ))
        }
        _ => Err(TwirpError::new(
            "bad_route",
            format!("no service {service}"),
        )),
    };
    outcome.unwrap_or_else(IntoResponse::into_response)
}

/// The method as a label of a metric: names that clients make up are not let in.
fn method_label(method: &str) -> &'static str {
    const METHODS: [&str; 14] = [
        "CreateRoom",
        "ListRooms",
        "DeleteRoom",
        "ListParticipants",
        "GetParticipant",
        "RemoveParticipant",
        "MutePublishedTrack",
        "UpdateParticipant",
        "UpdateSubscriptions",
        "SendData",
        "UpdateRoomMetadata",
        "ForwardParticipant",
        "MoveParticipant",
        "PerformRpc",
    ];
    METHODS
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("other")
}

struct Call {
    shared: Arc<Shared>,
    claims: Claims,
    form: Form,
    body: Bytes,
}

impl Call {
    fn allow(&self, allowed: impl FnOnce(&VideoGrant) -> bool) -> Result<(), TwirpError> {
        if self.claims.video.as_ref().is_some_and(allowed) {
            Ok(())
        } else {
            Err(TwirpError::new("unauthenticated", "permissions denied"))
        }
    }

    fn allow_admin(&self, room: &str) -> Result<(), TwirpError> {
        self.allow(|grant| grant.room_admin && grant.room == room)
    }

    fn room(&self, name: &str) -> Result<RoomHandle, TwirpError> {
        self.shared
            .rooms
            .find(name)
            .ok_or_else(|| RoomError::NotFound.into())
    }

    /// The room of a call about a participant: LiveKit does not tell a missing room from a missing participant.
    fn room_of_participant(&self, name: &str) -> Result<RoomHandle, TwirpError> {
        self.shared
            .rooms
            .find(name)
            .ok_or_else(|| AdminError::NoParticipant.into())
    }

    fn read<T: prost::Message + Default + DeserializeOwned>(&self) -> Result<T, TwirpError> {
        self.form.decode(&self.body)
    }

    async fn room_service(&self, method: &str) -> Result<Response, TwirpError> {
        let form = self.form;
        match method {
            "CreateRoom" => Ok(form.encode(&self.create_room().await?)),
            "ListRooms" => Ok(form.encode(&self.list_rooms().await?)),
            "DeleteRoom" => {
                let request: proto::DeleteRoomRequest = self.read()?;
                self.allow(|grant| grant.room_create)?;
                let close = |room: &mut crate::room::Room, now| {
                    room.close(
                        DisconnectReason::RoomDeleted,
                        RoomEndReason::RoomEndApiDelete,
                        now,
                    );
                };
                self.room(&request.room)?.with(close).await?;
                Ok(form.encode(&proto::DeleteRoomResponse {}))
            }
            "ListParticipants" => {
                let request: proto::ListParticipantsRequest = self.read()?;
                self.allow_admin(&request.room)?;
                // A room that is not there has nobody in it.
                let participants = match self.shared.rooms.find(&request.room) {
                    Some(handle) => {
                        handle
                            .with(|room, _| room.participants().map(|one| one.info()).collect())
                            .await?
                    }
                    None => Vec::new(),
                };
                Ok(form.encode(&proto::ListParticipantsResponse { participants }))
            }
            "GetParticipant" => {
                let request: proto::RoomParticipantIdentity = self.read()?;
                self.allow_admin(&request.room)?;
                let handle = self.room_of_participant(&request.room)?;
                let info = handle
                    .with(move |room, _| room.by_identity(&request.identity).map(|one| one.info()))
                    .await?
                    .ok_or(AdminError::NoParticipant)?;
                Ok(form.encode(&info))
            }
            "RemoveParticipant" => {
                let request: proto::RoomParticipantIdentity = self.read()?;
                self.allow_admin(&request.room)?;
                let handle = self.room_of_participant(&request.room)?;
                handle
                    .with(move |room, now| room.remove_identity(&request.identity, now))
                    .await??;
                Ok(form.encode(&proto::RemoveParticipantResponse {}))
            }
            "MutePublishedTrack" => {
                let request: proto::MuteRoomTrackRequest = self.read()?;
                self.allow_admin(&request.room)?;
                let unmute = self.shared.config.remote_unmute;
                let handle = self.room_of_participant(&request.room)?;
                let mute = move |room: &mut crate::room::Room, now| {
                    room.mute_track(
                        &request.identity,
                        &request.track_sid,
                        request.muted,
                        unmute,
                        now,
                    )
                };
                let track = handle.with(mute).await??;
                Ok(form.encode(&proto::MuteRoomTrackResponse { track: Some(track) }))
            }
            "UpdateParticipant" => {
                let request: proto::UpdateParticipantRequest = self.read()?;
                self.allow_admin(&request.room)?;
                let handle = self.room_of_participant(&request.room)?;
                let info = handle
                    .with(move |room, now| room.update_participant(&request, now))
                    .await??;
                Ok(form.encode(&info))
            }
            "UpdateSubscriptions" => {
                let request: proto::UpdateSubscriptionsRequest = self.read()?;
                self.allow_admin(&request.room)?;
                let handle = self.room_of_participant(&request.room)?;
                handle
                    .with(move |room, _| room.update_subscriptions(request))
                    .await??;
                Ok(form.encode(&proto::UpdateSubscriptionsResponse {}))
            }
            "SendData" => {
                let request: proto::SendDataRequest = self.read()?;
                self.allow_admin(&request.room)?;
                if !matches!(request.nonce.len(), 0 | 16) {
                    let text = format!(
                        "nonce should be 16-bytes or not present, got: {} bytes",
                        request.nonce.len()
                    );
                    return Err(TwirpError::new("invalid_argument", text));
                }
                self.room(&request.room)?
                    .with(move |room, now| room.send_data(request, now))
                    .await?;
                Ok(form.encode(&proto::SendDataResponse {}))
            }
            "UpdateRoomMetadata" => {
                let request: proto::UpdateRoomMetadataRequest = self.read()?;
                self.allow_admin(&request.room)?;
                let handle = self.room(&request.room)?;
                let room = handle
                    .with(move |room, now| room.update_metadata(&request.metadata, now))
                    .await??;
                Ok(form.encode(&room))
            }
            "PerformRpc" => Ok(form.encode(&self.perform_rpc().await?)),
            // Nor does LiveKit's open server implement them.
            "ForwardParticipant" | "MoveParticipant" => Err(TwirpError::new(
                "unimplemented",
                format!("{method} is not part of this server"),
            )),
            _ => Err(TwirpError::new(
                "bad_route",
                format!("no method {method} in livekit.RoomService"),
            )),
        }
    }

    async fn create_room(&self) -> Result<proto::Room, TwirpError> {
        let request: proto::CreateRoomRequest = self.read()?;
        self.allow(|grant| grant.room_create)?;
        let limits = self.shared.config.room_limits();
        if request.name.is_empty() {
            return Err(TwirpError::new("invalid_argument", "no room name"));
        }
        if request.name.len() > limits.identity_bytes {
            return Err(TwirpError::new(
                "invalid_argument",
                "room name length exceeds limits",
            ));
        }
        if request.metadata.len() > limits.metadata_bytes {
            return Err(TwirpError::new(
                "invalid_argument",
                "metadata size exceeds limits",
            ));
        }
        let handle = self.shared.rooms.find_or_create(&self.shared, &request)?;
        Ok(handle.with(|room, _| room.info()).await?)
    }

    async fn list_rooms(&self) -> Result<proto::ListRoomsResponse, TwirpError> {
        let request: proto::ListRoomsRequest = self.read()?;
        self.allow(|grant| grant.room_list)?;
        let handles = if request.names.is_empty() {
            self.shared.rooms.all()
        } else {
            request
                .names
                .iter()
                .filter_map(|name| self.shared.rooms.find(name))
                .collect()
        };
        let mut rooms = Vec::with_capacity(handles.len());
        for handle in handles {
            // One that closes meanwhile is not listed.
            rooms.extend(handle.with(|room, _| room.info()).await);
        }
        Ok(proto::ListRoomsResponse { rooms })
    }

    async fn perform_rpc(&self) -> Result<proto::PerformRpcResponse, TwirpError> {
        let request: proto::PerformRpcRequest = self.read()?;
        self.allow_admin(&request.room)?;
        if request.destination_identity.is_empty() {
            return Err(TwirpError::new(
                "invalid_argument",
                "destination identity is required",
            ));
        }
        let timeout = match request.response_timeout_ms {
            0 => RPC_TIMEOUT,
            millis => Duration::from_millis(millis.into()),
        };
        let (answer, answered) = tokio::sync::oneshot::channel();
        let id = random_text(16);
        let handle = self.room_of_participant(&request.room)?;
        handle
            .with(move |room, now| room.perform_rpc(&id, request, answer, now))
            .await??;
        match tokio::time::timeout(timeout, answered).await {
            Err(_) => Err(TwirpError::new(
                "deadline_exceeded",
                "the participant did not answer in time",
            )),
            Ok(Err(_)) => Err(AdminError::NoParticipant.into()),
            Ok(Ok(Ok(payload))) => Ok(proto::PerformRpcResponse { payload }),
            Ok(Ok(Err(error))) => Err(TwirpError::new("unknown", error)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bodies_are_read_in_both_forms() {
        use prost::Message as _;
        let request = proto::CreateRoomRequest {
            name: "atrium".into(),
            max_participants: 3,
            ..Default::default()
        };
        let read: proto::CreateRoomRequest =
            Form::Protobuf.decode(&request.encode_to_vec()).unwrap();
        assert_eq!(read, request);
        for json in [
            r#"{"name":"atrium","maxParticipants":3}"#,
            r#"{"name":"atrium","max_participants":3}"#,
        ] {
            let read: proto::CreateRoomRequest = Form::Json.decode(json.as_bytes()).unwrap();
            assert_eq!(read, request, "{json}");
        }
        assert_eq!(
            Form::Json
                .decode::<proto::CreateRoomRequest>(b"{")
                .unwrap_err()
                .code,
            "malformed"
        );
        assert_eq!(
            Form::Protobuf
                .decode::<proto::CreateRoomRequest>(&[0xff])
                .unwrap_err()
                .code,
            "malformed"
        );
    }

    #[test]
    fn errors_have_the_codes_that_clients_match_on() {
        assert_eq!(TwirpError::from(RoomError::NotFound).code, "not_found");
        assert_eq!(
            TwirpError::from(AdminError::NoParticipant).status(),
            StatusCode::NOT_FOUND
        );
        assert_eq!(
            TwirpError::from(AdminError::RemoteUnmute).status(),
            StatusCode::PRECONDITION_FAILED
        );
    }
}
