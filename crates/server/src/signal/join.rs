//! What a client asks for when it joins, read from its token, its query and the join request in it; and what it is told
//! if it is refused.

use std::{collections::HashMap, io::Read as _};

use axum::{
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use base64::{
    Engine as _, alphabet, engine::DecodePaddingMode, engine::GeneralPurpose,
    engine::GeneralPurposeConfig,
};
use livekit_protocol as proto;
use prost::Message as _;
use proto::signal_request;

use crate::{
    room::{JoinError, Joiner, Mode},
    rooms::RoomError,
    server::Shared,
    token::{Claims, TokenError},
};

/// The largest join request, unpacked (1 MiB, as in LiveKit).
const MAX_JOIN_REQUEST_BYTES: u64 = 1 << 20;

/// Base64 with the letters for URLs; padding may be there or not.
const BASE64_URL: GeneralPurpose = GeneralPurpose::new(
    &alphabet::URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// A refusal: a status and a text.
#[derive(Debug)]
pub(crate) struct Refused(pub(crate) StatusCode, pub(crate) String);

impl IntoResponse for Refused {
    fn into_response(self) -> Response {
        (self.0, self.1).into_response()
    }
}

impl From<TokenError> for Refused {
    fn from(error: TokenError) -> Self {
        Self(StatusCode::UNAUTHORIZED, error.to_string())
    }
}

impl From<RoomError> for Refused {
    fn from(error: RoomError) -> Self {
        let status = match error {
            RoomError::NotFound => StatusCode::NOT_FOUND,
            // Not to be tried again on the older path, which 404 would mean.
            RoomError::Preset => StatusCode::BAD_REQUEST,
            RoomError::Join(JoinError::Full) => StatusCode::FORBIDDEN,
            RoomError::Join(JoinError::Closed | JoinError::UnknownSession) => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            RoomError::Limit | RoomError::Draining | RoomError::Elsewhere(_) => {
                StatusCode::SERVICE_UNAVAILABLE
            }
        };
        Self(status, error.to_string())
    }
}

fn no_permission() -> Refused {
    Refused(
        StatusCode::UNAUTHORIZED,
        "no permissions to access the room".into(),
    )
}

fn bad(text: impl Into<String>) -> Refused {
    Refused(StatusCode::BAD_REQUEST, text.into())
}

/// The token of a request: from the header, or from the query as browsers must send it.
pub(crate) fn token_of(
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<Option<String>, TokenError> {
    match headers.get(header::AUTHORIZATION) {
        Some(value) => {
            let value = value.to_str().map_err(|_| TokenError::MissingBearer)?;
            value
                .strip_prefix("Bearer ")
                .map(|token| Some(token.trim().to_owned()))
                .ok_or(TokenError::MissingBearer)
        }
        None => Ok(query
            .get("access_token")
            .filter(|token| !token.is_empty())
            .cloned()),
    }
}

/// The claims of a request's token, which must be there.
pub(crate) fn claims_of(
    shared: &Shared,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
) -> Result<Option<Claims>, TokenError> {
    token_of(headers, query)?
        .map(|token| shared.keys.verify(&token))
        .transpose()
}

/// What a client asks for, whichever path it came by.
pub(super) struct JoinQuery {
    pub(super) joiner: Joiner,
    /// The session to resume.
    pub(super) session: Option<String>,
    pub(super) room: String,
    pub(super) create: proto::CreateRoomRequest,
    pub(super) first: Vec<signal_request::Message>,
}

/// Reads and checks what a client asks; nothing has changed if it is refused.
pub(super) fn read_query(
    shared: &Shared,
    headers: &HeaderMap,
    query: &HashMap<String, String>,
    needs_request: bool,
    strict: bool,
) -> Result<JoinQuery, Refused> {
    let mut claims = claims_of(shared, headers, query)?.ok_or_else(no_permission)?;
    let mut grant = claims.video.clone().ok_or_else(no_permission)?;

    let request = match query.get("join_request").filter(|text| !text.is_empty()) {
        Some(text) => Some(read_join_request(text)?),
        None if needs_request => return Err(bad("join_request is required")),
        None => None,
    };
    if !grant.room_join {
        return Err(Refused(
            StatusCode::UNAUTHORIZED,
            "permissions denied".into(),
        ));
    }
    let limits = shared.config.room_limits();
    if claims.identity.is_empty() {
        return Err(bad("identity cannot be empty"));
    }
    if claims.identity.len() > limits.identity_bytes {
        return Err(bad(format!(
            "participant identity length exceeds limits: max length {}",
            limits.identity_bytes
        )));
    }
    let room = if grant.room.is_empty() {
        query.get("room").cloned().unwrap_or_default()
    } else {
        grant.room.clone()
    };
    if room.is_empty() {
        return Err(bad("no room name"));
    }
    if room.len() > limits.identity_bytes {
        return Err(bad(format!(
            "room name length exceeds limits: max length {}",
            limits.identity_bytes
        )));
    }
    if let Some(publish) = query.get("publish").filter(|publish| !publish.is_empty()) {
        if !grant.may_publish() {
            return Err(no_permission());
        }
        grant.can_subscribe = Some(false);
        claims.identity = format!("{}#{publish}", claims.identity);
    }

    let flag = |name: &str| query.get(name).map(|value| value == "1" || value == "true");
    let (metadata, attributes) = match &request {
        Some(request) => (
            request.metadata.clone(),
            request.participant_attributes.clone(),
        ),
        None => (String::new(), read_attributes(query, strict)?),
    };
    if (!metadata.is_empty() || !attributes.is_empty()) && !grant.may_update_metadata() {
        return Err(no_permission());
    }
    if !metadata.is_empty() {
        claims.metadata = metadata;
    }
    claims.attributes.extend(
        attributes
            .into_iter()
            .filter(|(_, value)| !value.is_empty()),
    );
    let attributes_bytes: usize = claims
        .attributes
        .iter()
        .map(|(name, value)| name.len() + value.len())
        .sum();
    if claims.metadata.len() > limits.metadata_bytes || attributes_bytes > limits.attributes_bytes {
        return Err(bad("metadata size exceeds limits"));
    }
    claims.video = Some(grant);

    let create = claims.room_request(&room);
    let (joiner, session, first) = match request {
        Some(request) => {
            let settings = request.connection_settings.unwrap_or_default();
            let mut client = request.client_info.unwrap_or_default();
            augment(&mut client, headers);
            let joiner = Joiner {
                claims,
                client,
                mode: Mode::Single,
                auto_subscribe: settings.auto_subscribe,
                adaptive_stream: settings.adaptive_stream,
                disable_ice_lite: settings.disable_ice_lite,
                ice_servers: Vec::new(),
            };
            let tracks = request
                .add_track_requests
                .into_iter()
                .map(signal_request::Message::AddTrack);
            let sync = request.sync_state.map(signal_request::Message::SyncState);
            let offer = request
                .publisher_offer
                .filter(|offer| !offer.sdp.is_empty());
            let offer = offer.map(signal_request::Message::Offer);
            let first = tracks.chain(sync).chain(offer).collect();
            (
                joiner,
                request.reconnect.then_some(request.participant_sid),
                first,
            )
        }
        None => {
            let mut client = read_client(query);
            augment(&mut client, headers);
            let joiner = Joiner {
                claims,
                client,
                mode: Mode::Dual,
                auto_subscribe: flag("auto_subscribe").unwrap_or(true),
                adaptive_stream: flag("adaptive_stream").unwrap_or(false),
                disable_ice_lite: flag("disable_ice_lite").unwrap_or(false),
                ice_servers: Vec::new(),
            };
            let session = flag("reconnect")
                .unwrap_or(false)
                .then(|| query.get("sid").cloned().unwrap_or_default());
            (joiner, session, Vec::new())
        }
    };
    Ok(JoinQuery {
        joiner,
        session,
        room,
        create,
        first,
    })
}

fn read_attributes(
    query: &HashMap<String, String>,
    strict: bool,
) -> Result<HashMap<String, String>, Refused> {
    let Some(text) = query.get("attributes").filter(|text| !text.is_empty()) else {
        return Ok(HashMap::new());
    };
    let attributes = BASE64_URL
        .decode(text)
        .ok()
        .and_then(|json| serde_json::from_slice(&json).ok());
    match attributes {
        Some(attributes) => Ok(attributes),
        None if strict => Err(bad("cannot decode attributes")),
        None => Ok(HashMap::new()),
    }
}

/// The join request of `/rtc/v1`: base64 of a wrapper, whose content may be packed.
fn read_join_request(text: &str) -> Result<proto::JoinRequest, Refused> {
    let wrapped = BASE64_URL
        .decode(text)
        .map_err(|_| bad("cannot base64 decode wrapped join request"))?;
    let wrapped = proto::WrappedJoinRequest::decode(wrapped.as_slice())
        .map_err(|_| bad("cannot unmarshal wrapped join request"))?;
    let too_large = || bad("join request too large");
    let bytes = match wrapped.compression() {
        proto::wrapped_join_request::Compression::None => wrapped.join_request,
        proto::wrapped_join_request::Compression::Gzip => {
            let mut bytes = Vec::new();
            // One byte more than allowed tells too large from just right.
            flate2::read::GzDecoder::new(wrapped.join_request.as_slice())
                .take(MAX_JOIN_REQUEST_BYTES + 1)
                .read_to_end(&mut bytes)
                .map_err(|_| bad("cannot read decompressed join request"))?;
            bytes
        }
    };
    if bytes.len() as u64 > MAX_JOIN_REQUEST_BYTES {
        return Err(too_large());
    }
    proto::JoinRequest::decode(bytes.as_slice()).map_err(|_| bad("cannot unmarshal join request"))
}

/// What the older path says of the client.
fn read_client(query: &HashMap<String, String>) -> proto::ClientInfo {
    use proto::client_info::Sdk;
    let text = |name: &str| query.get(name).cloned().unwrap_or_default();
    let number = |name: &str| {
        query
            .get(name)
            .and_then(|value| value.parse().ok())
            .unwrap_or(0)
    };
    let sdk = match text("sdk").as_str() {
        "js" => Sdk::Js,
        "ios" | "swift" => Sdk::Swift,
        "android" => Sdk::Android,
        "flutter" => Sdk::Flutter,
        "go" => Sdk::Go,
        "unity" => Sdk::Unity,
        "reactnative" => Sdk::ReactNative,
        "rust" => Sdk::Rust,
        "python" => Sdk::Python,
        "cpp" => Sdk::Cpp,
        "unityweb" => Sdk::UnityWeb,
        "node" => Sdk::Node,
        "esp32" => Sdk::Esp32,
        _ => Sdk::Unknown,
    };
    proto::ClientInfo {
        sdk: sdk.into(),
        version: text("version"),
        protocol: number("protocol"),
        client_protocol: number("client_protocol"),
        os: text("os"),
        os_version: text("os_version"),
        device_model: text("device_model"),
        browser: text("browser"),
        browser_version: text("browser_version"),
        network: text("network"),
        ..Default::default()
    }
}

/// What a browser says of itself, where the client did not.
fn augment(client: &mut proto::ClientInfo, headers: &HeaderMap) {
    if !client.browser.is_empty() {
        return;
    }
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default();
    // The order matters: Edge and Chrome also call themselves Safari.
    for (mark, name) in [
        ("Firefox/", "Firefox"),
        ("Edg/", "Edge"),
        ("Chrome/", "Chrome"),
        ("Version/", "Safari"),
    ] {
        if let Some((_, version)) = agent.split_once(mark) {
            name.clone_into(&mut client.browser);
            client.browser_version = version
                .split([' ', '.', ';'])
                .next()
                .unwrap_or_default()
                .to_owned();
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn wrap(
        compression: proto::wrapped_join_request::Compression,
        join_request: Vec<u8>,
    ) -> String {
        let wrapped = proto::WrappedJoinRequest {
            compression: compression.into(),
            join_request,
        };
        BASE64_URL.encode(wrapped.encode_to_vec())
    }

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        use std::io::Write as _;
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    #[test]
    fn join_requests_are_read_packed_and_unpacked() {
        use proto::wrapped_join_request::Compression;
        let request = proto::JoinRequest {
            metadata: "hello".into(),
            ..Default::default()
        };
        let bytes = request.encode_to_vec();
        assert_eq!(
            read_join_request(&wrap(Compression::None, bytes.clone())).unwrap(),
            request
        );
        let packed = wrap(Compression::Gzip, gzip(&bytes));
        assert_eq!(read_join_request(&packed).unwrap(), request);
        assert_eq!(
            read_join_request(packed.trim_end_matches('=')).unwrap(),
            request
        );
    }

    #[test]
    fn malformed_join_requests_are_refused_with_livekits_texts() {
        use proto::wrapped_join_request::Compression;
        let text = |input: &str| {
            let Refused(status, text) = read_join_request(input).unwrap_err();
            assert_eq!(status, StatusCode::BAD_REQUEST);
            text
        };
        assert_eq!(text("!"), "cannot base64 decode wrapped join request");
        assert_eq!(text("____"), "cannot unmarshal wrapped join request");
        assert_eq!(
            text(&wrap(Compression::None, vec![0xff; 9])),
            "cannot unmarshal join request"
        );
        assert_eq!(
            text(&wrap(Compression::Gzip, vec![1, 2, 3])),
            "cannot read decompressed join request"
        );
    }

    #[test]
    fn a_join_request_that_unpacks_to_too_much_is_refused_without_being_unpacked() {
        use proto::wrapped_join_request::Compression;
        let bomb = gzip(&vec![0; 64 << 20]);
        let Refused(_, text) = read_join_request(&wrap(Compression::Gzip, bomb)).unwrap_err();
        assert_eq!(text, "join request too large");
    }

    #[test]
    fn browsers_are_known_by_their_agents() {
        let browser = |agent: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::USER_AGENT, agent.parse().unwrap());
            let mut client = proto::ClientInfo::default();
            augment(&mut client, &headers);
            (client.browser, client.browser_version)
        };
        assert_eq!(
            browser("Mozilla/5.0 (X11; Linux x86_64; rv:153.0) Gecko/20100101 Firefox/153.0"),
            ("Firefox".into(), "153".into())
        );
        assert_eq!(
            browser(
                "Mozilla/5.0 (X11) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/156.0.0.0 Safari/537.36"
            ),
            ("Chrome".into(), "156".into())
        );
    }
}
