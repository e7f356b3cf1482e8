//! Access tokens: JSON Web Tokens (RFC 7519) signed with HMAC-SHA-256 by the holder of an API key.
//!
//! The claims are LiveKit's, so that tokens of its server SDKs are accepted unchanged. What a token
//! leaves out is decided in one place: [`VideoGrant`]'s methods.

use std::{
    collections::HashMap,
    sync::{PoisonError, RwLock, RwLockReadGuard},
    time::{SystemTime, UNIX_EPOCH},
};

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use livekit_protocol as proto;
use serde::{Deserialize, Serialize};

/// How far the clocks of a token's maker and this server may differ, in seconds.
pub const LEEWAY_SECONDS: u64 = 60;

/// The largest token that is looked at, in bytes. Attributes and metadata ride in tokens, and a
/// request line holds them, so that more than this never arrives from an honest client.
pub const MAX_TOKEN_BYTES: usize = 64 * 1024;

/// Why a token was refused. The texts are LiveKit's: clients show them.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// The `Authorization` header does not hold a bearer token.
    #[error("invalid authorization header. Must start with Bearer ")]
    MissingBearer,
    /// Not a token at all.
    #[error("invalid authorization token")]
    Malformed,
    /// No such API key.
    #[error("invalid API key")]
    UnknownKey,
    /// Forged, expired, or not yet valid.
    #[error("invalid authorization token: {0}")]
    Invalid(String),
}

/// The API keys and their secrets, which may be replaced while the server runs.
#[derive(Default)]
pub struct Keys {
    secrets: RwLock<HashMap<String, String>>,
}

impl std::fmt::Debug for Keys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Secrets stay out of logs.
        f.debug_set().entries(self.read().keys()).finish()
    }
}

impl Keys {
    /// Keys from (key, secret) pairs.
    pub fn new(pairs: impl IntoIterator<Item = (String, String)>) -> Self {
        Self {
            secrets: RwLock::new(pairs.into_iter().collect()),
        }
    }

    fn read(&self) -> RwLockReadGuard<'_, HashMap<String, String>> {
        self.secrets.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Other keys from now on. Tokens of a key that is gone are refused; who is inside stays.
    pub fn replace(&self, pairs: impl IntoIterator<Item = (String, String)>) {
        let secrets = pairs.into_iter().collect();
        *self.secrets.write().unwrap_or_else(PoisonError::into_inner) = secrets;
    }

    /// The secret of `key`.
    pub fn secret(&self, key: &str) -> Option<String> {
        self.read().get(key).cloned()
    }

    /// The key that the server itself signs with, and its secret: the first in alphabetical order.
    pub fn first(&self) -> Option<(String, String)> {
        let secrets = self.read();
        secrets
            .iter()
            .min()
            .map(|(key, secret)| (key.clone(), secret.clone()))
    }

    /// Checks `token` and returns what it grants.
    ///
    /// # Errors
    /// [`TokenError`] with the text for the client.
    pub fn verify(&self, token: &str) -> Result<Claims, TokenError> {
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenError::Malformed);
        }
        let unverified: Issuer = jsonwebtoken::dangerous::insecure_decode(token)
            .map_err(|_| TokenError::Malformed)?
            .claims;
        let secret = self.secret(&unverified.iss).ok_or(TokenError::UnknownKey)?;
        let mut validation = Validation::new(Algorithm::HS256);
        validation.leeway = LEEWAY_SECONDS;
        validation.validate_nbf = true;
        validation.validate_aud = false;
        let key = DecodingKey::from_secret(secret.as_bytes());
        let mut said: serde_json::Value = jsonwebtoken::decode(token, &key, &validation)
            .map_err(|error| TokenError::Invalid(error.to_string()))?
            .claims;
        leave_out_nulls(&mut said);
        let mut claims: Claims =
            serde_json::from_value(said).map_err(|error| TokenError::Invalid(error.to_string()))?;
        if claims.identity.is_empty() {
            claims.identity = if claims.sub.is_empty() {
                claims.jti.clone()
            } else {
                claims.sub.clone()
            };
        }
        Ok(claims)
    }

    /// Signs `claims` with `key`, valid from now for `seconds`.
    ///
    /// # Errors
    /// [`TokenError::UnknownKey`].
    pub fn sign(&self, key: &str, claims: &Claims, seconds: u64) -> Result<String, TokenError> {
        let secret = self.secret(key).ok_or(TokenError::UnknownKey)?;
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs();
        let mut claims = claims.clone();
        claims.iss = key.to_owned();
        claims.sub = claims.identity.clone();
        claims.nbf = now;
        claims.exp = now + seconds;
        jsonwebtoken::encode(
            &Header::default(),
            &claims,
            &EncodingKey::from_secret(secret.as_bytes()),
        )
        .map_err(|error| TokenError::Invalid(error.to_string()))
    }
}

#[derive(Deserialize)]
struct Issuer {
    #[serde(default)]
    iss: String,
}

/// Takes out what is null. Applications write it for what they have no value for (an attribute of Python's `None`), and LiveKit's
/// server, in Go, reads it as left out.
fn leave_out_nulls(value: &mut serde_json::Value) {
    if let serde_json::Value::Object(fields) = value {
        fields.retain(|_, value| !value.is_null());
        fields.values_mut().for_each(leave_out_nulls);
    }
}

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// What a token says.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Claims {
    /// The API key that signed.
    pub iss: String,
    /// The identity.
    #[serde(skip_serializing_if = "is_default")]
    pub sub: String,
    /// The identity in tokens of old SDKs.
    #[serde(skip_serializing_if = "is_default")]
    pub jti: String,
    /// When the token ends, in seconds since 1970.
    pub exp: u64,
    /// When the token begins, in seconds since 1970.
    #[serde(skip_serializing_if = "is_default")]
    pub nbf: u64,
    /// The participant's identity, unique in its room. Filled from `sub`.
    #[serde(skip_serializing_if = "is_default")]
    pub identity: String,
    /// The participant's name, for people.
    #[serde(skip_serializing_if = "is_default")]
    pub name: String,
    /// `standard`, `ingress`, `egress`, `sip`, `agent`, `connector` or `bridge`.
    #[serde(skip_serializing_if = "is_default")]
    pub kind: String,
    /// What kind it is in particular, as `cloud_agent`, `forwarded` or `bridge_rtsp`. Names that are not known are left out.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub kind_details: Vec<String>,
    /// What may be done with rooms.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub video: Option<VideoGrant>,
    /// The SHA-256 of a request's body, in base64 (webhooks).
    #[serde(skip_serializing_if = "is_default")]
    pub sha256: String,
    /// The participant's metadata.
    #[serde(skip_serializing_if = "is_default")]
    pub metadata: String,
    /// The participant's attributes.
    #[serde(skip_serializing_if = "HashMap::is_empty")]
    pub attributes: HashMap<String, String>,
    /// The room's settings, if this participant's join creates it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub room_config: Option<proto::RoomConfiguration>,
    /// The name of settings that the server is to know. This one knows none.
    #[serde(skip_serializing_if = "is_default")]
    pub room_preset: String,
}

impl Claims {
    /// The participant's kind.
    pub fn participant_kind(&self) -> proto::participant_info::Kind {
        use proto::participant_info::Kind;
        match self.kind.to_ascii_lowercase().as_str() {
            "ingress" => Kind::Ingress,
            "egress" => Kind::Egress,
            "sip" => Kind::Sip,
            "agent" => Kind::Agent,
            "connector" => Kind::Connector,
            "bridge" => Kind::Bridge,
            _ => Kind::Standard,
        }
    }

    /// What kind the participant is in particular.
    pub fn kind_details(&self) -> Vec<proto::participant_info::KindDetail> {
        use proto::participant_info::KindDetail;
        let known = |name: &String| KindDetail::from_str_name(&name.to_ascii_uppercase());
        self.kind_details.iter().filter_map(known).collect()
    }

    /// The settings of `room`, if this participant's join creates it.
    pub fn room_request(&self, room: &str) -> proto::CreateRoomRequest {
        let config = self.room_config.clone().unwrap_or_default();
        proto::CreateRoomRequest {
            name: room.to_owned(),
            empty_timeout: config.empty_timeout,
            departure_timeout: config.departure_timeout,
            max_participants: config.max_participants,
            metadata: config.metadata,
            room_preset: self.room_preset.clone(),
            ..proto::CreateRoomRequest::default()
        }
    }
}

/// What a token grants. A permission that is `None` was left out of the token; the methods say what
/// that means.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[allow(missing_docs)] // Each field is the claim of its name in LiveKit's documentation.
pub struct VideoGrant {
    #[serde(skip_serializing_if = "is_default")]
    pub room_create: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub room_list: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub room_record: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub room_admin: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub room_join: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub room: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_publish_data: Option<bool>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub can_publish_sources: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_update_own_metadata: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub ingress_admin: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub hidden: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub recorder: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub agent: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_subscribe_metrics: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub can_manage_agent_session: Option<bool>,
    #[serde(skip_serializing_if = "is_default")]
    pub destination_room: String,
}

/// The name of a track source in tokens.
fn source_name(source: proto::TrackSource) -> &'static str {
    use proto::TrackSource;
    match source {
        TrackSource::Camera => "camera",
        TrackSource::Microphone => "microphone",
        TrackSource::ScreenShare => "screen_share",
        TrackSource::ScreenShareAudio => "screen_share_audio",
        TrackSource::Unknown => "unknown",
    }
}

impl VideoGrant {
    /// Whether tracks may be published; left out means yes.
    pub fn may_publish(&self) -> bool {
        self.can_publish.unwrap_or(true)
    }

    /// Whether a track of `source` may be published; an empty list of sources means all.
    pub fn may_publish_source(&self, source: proto::TrackSource) -> bool {
        self.may_publish()
            && (self.can_publish_sources.is_empty()
                || self
                    .can_publish_sources
                    .iter()
                    .any(|name| name.eq_ignore_ascii_case(source_name(source))))
    }

    /// Whether data may be sent; left out means the same as for tracks.
    pub fn may_publish_data(&self) -> bool {
        self.can_publish_data.unwrap_or_else(|| self.may_publish())
    }

    /// Whether tracks may be subscribed to; left out means yes.
    pub fn may_subscribe(&self) -> bool {
        self.can_subscribe.unwrap_or(true)
    }

    /// Whether the participant may change its own name, metadata and attributes; left out means no.
    pub fn may_update_metadata(&self) -> bool {
        self.can_update_own_metadata.unwrap_or(false)
    }

    /// The same as a message, which clients show their buttons by.
    pub fn permission(&self) -> proto::ParticipantPermission {
        use proto::TrackSource;
        let sources = [
            TrackSource::Camera,
            TrackSource::Microphone,
            TrackSource::ScreenShare,
            TrackSource::ScreenShareAudio,
        ];
        let named = |source: &TrackSource| {
            self.can_publish_sources
                .iter()
                .any(|name| name.eq_ignore_ascii_case(source_name(*source)))
        };
        #[allow(deprecated)]
        proto::ParticipantPermission {
            can_subscribe: self.may_subscribe(),
            can_publish: self.may_publish(),
            can_publish_data: self.may_publish_data(),
            can_publish_sources: sources.into_iter().filter(named).map(i32::from).collect(),
            hidden: self.hidden,
            recorder: self.recorder,
            can_update_metadata: self.may_update_metadata(),
            agent: self.agent,
            can_subscribe_metrics: self.can_subscribe_metrics.unwrap_or(false),
            can_manage_agent_session: self.can_manage_agent_session.unwrap_or(false),
        }
    }

    /// Takes over a permission that the application's server has set.
    pub fn set_permission(&mut self, permission: &proto::ParticipantPermission) {
        self.can_subscribe = Some(permission.can_subscribe);
        self.can_publish = Some(permission.can_publish);
        self.can_publish_data = Some(permission.can_publish_data);
        self.can_publish_sources = permission
            .can_publish_sources
            .iter()
            .filter_map(|source| proto::TrackSource::try_from(*source).ok())
            .map(|source| source_name(source).to_owned())
            .collect();
        self.can_update_own_metadata = Some(permission.can_update_metadata);
        self.can_subscribe_metrics = Some(permission.can_subscribe_metrics);
        self.can_manage_agent_session = Some(permission.can_manage_agent_session);
        self.hidden = permission.hidden;
        #[allow(deprecated)]
        {
            self.recorder = permission.recorder;
            self.agent = permission.agent;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys() -> Keys {
        Keys::new([(
            "devkey".to_owned(),
            "a secret that is long enough to be one".to_owned(),
        )])
    }

    fn claims() -> Claims {
        Claims {
            identity: "alice".into(),
            video: Some(VideoGrant {
                room_join: true,
                room: "atrium".into(),
                ..VideoGrant::default()
            }),
            ..Claims::default()
        }
    }

    #[test]
    fn a_signed_token_is_accepted() {
        let token = keys().sign("devkey", &claims(), 60).unwrap();
        let verified = keys().verify(&token).unwrap();
        assert_eq!(verified.identity, "alice");
        assert!(verified.video.unwrap().room_join);
    }

    #[test]
    fn a_forged_token_is_refused() {
        let other = Keys::new([(
            "devkey".to_owned(),
            "another secret that is long enough to be one".to_owned(),
        )]);
        let token = other.sign("devkey", &claims(), 60).unwrap();
        assert_eq!(
            keys().verify(&token),
            Err(TokenError::Invalid("InvalidSignature".into()))
        );
    }

    #[test]
    fn a_token_without_a_signature_is_refused() {
        use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
        let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"none","typ":"JWT"}"#);
        let body = URL_SAFE_NO_PAD.encode(r#"{"iss":"devkey","sub":"mallory","exp":99999999999}"#);
        assert!(keys().verify(&format!("{header}.{body}.")).is_err());
    }

    #[test]
    fn an_expired_token_is_refused_after_the_leeway() {
        let key = EncodingKey::from_secret(keys().secret("devkey").unwrap().as_bytes());
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let expired_by = |seconds: u64| {
            let claims = Claims {
                iss: "devkey".into(),
                exp: now - seconds,
                ..claims()
            };
            jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap()
        };
        assert!(keys().verify(&expired_by(LEEWAY_SECONDS / 2)).is_ok());
        assert_eq!(
            keys().verify(&expired_by(LEEWAY_SECONDS + 5)),
            Err(TokenError::Invalid("ExpiredSignature".into()))
        );
    }

    #[test]
    fn a_token_without_an_end_is_refused() {
        let key = EncodingKey::from_secret(keys().secret("devkey").unwrap().as_bytes());
        let claims = serde_json::json!({"iss": "devkey", "sub": "alice"});
        let token = jsonwebtoken::encode(&Header::default(), &claims, &key).unwrap();
        assert!(matches!(
            keys().verify(&token),
            Err(TokenError::Invalid(_) | TokenError::Malformed)
        ));
    }

    #[test]
    fn what_is_null_is_left_out() {
        let key = EncodingKey::from_secret(keys().secret("devkey").unwrap().as_bytes());
        let said = serde_json::json!({
            "iss": "devkey", "sub": "alice", "exp": 99_999_999_999_u64, "name": null, "metadata": null,
            "attributes": {"color": "red", "room_role": null},
            "video": {"roomJoin": true, "room": "atrium", "canPublish": null, "canPublishSources": null},
        });
        let token = jsonwebtoken::encode(&Header::default(), &said, &key).unwrap();
        let claims = keys().verify(&token).unwrap();
        assert_eq!(
            claims.attributes,
            [("color".to_owned(), "red".to_owned())].into()
        );
        assert!(claims.name.is_empty() && claims.video.unwrap().may_publish());
    }

    #[test]
    fn a_token_of_an_unknown_key_is_refused() {
        let other = Keys::new([(
            "other".to_owned(),
            "another secret that is long enough to be one".to_owned(),
        )]);
        let token = other.sign("other", &claims(), 60).unwrap();
        assert_eq!(keys().verify(&token), Err(TokenError::UnknownKey));
    }

    #[test]
    fn kinds_in_particular_and_room_settings_are_read_as_sdks_write_them() {
        let key = EncodingKey::from_secret(keys().secret("devkey").unwrap().as_bytes());
        let said = serde_json::json!({
            "iss": "devkey", "sub": "camera", "exp": 99_999_999_999_u64, "kind": "bridge",
            "kindDetails": ["bridge_rtsp", "FORWARDED", "of tomorrow"],
            "roomConfig": {"emptyTimeout": 9, "departureTimeout": 8, "maxParticipants": 7, "metadata": "m"},
            "roomPreset": "large",
        });
        let token = jsonwebtoken::encode(&Header::default(), &said, &key).unwrap();
        let claims = keys().verify(&token).unwrap();
        use proto::participant_info::KindDetail;
        assert_eq!(
            claims.kind_details(),
            [KindDetail::BridgeRtsp, KindDetail::Forwarded]
        );
        let request = claims.room_request("atrium");
        assert_eq!((request.empty_timeout, request.departure_timeout), (9, 8));
        assert_eq!(request.max_participants, 7);
        assert_eq!((&*request.name, &*request.metadata), ("atrium", "m"));
        assert_eq!(request.room_preset, "large");
        // Tokens that are refreshed say the same.
        let again = keys().sign("devkey", &claims, 60).unwrap();
        let again = keys().verify(&again).unwrap();
        assert_eq!(again.kind_details(), claims.kind_details());
        assert_eq!(again.room_preset, "large");
    }

    #[test]
    fn noise_is_not_a_token() {
        for noise in ["", "x", "x.y.z", "...", &"a".repeat(MAX_TOKEN_BYTES + 1)] {
            assert_eq!(
                keys().verify(noise),
                Err(TokenError::Malformed),
                "{noise:.20}"
            );
        }
    }

    #[test]
    fn what_a_token_leaves_out_is_granted_but_metadata_is_not() {
        let grant = VideoGrant::default();
        assert!(grant.may_publish() && grant.may_subscribe() && grant.may_publish_data());
        assert!(!grant.may_update_metadata());
        let silent = VideoGrant {
            can_publish: Some(false),
            ..VideoGrant::default()
        };
        assert!(!silent.may_publish_data(), "data follows tracks");
        let microphone = VideoGrant {
            can_publish_sources: vec!["microphone".into()],
            ..VideoGrant::default()
        };
        assert!(microphone.may_publish_source(proto::TrackSource::Microphone));
        assert!(!microphone.may_publish_source(proto::TrackSource::Camera));
        assert_eq!(
            microphone.permission().can_publish_sources,
            [i32::from(proto::TrackSource::Microphone)]
        );
    }
}
