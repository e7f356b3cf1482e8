//! The client of LiveKit's signalling: a WebSocket with messages of `livekit-protocol`. What they do to connections is the
//! business of whoever holds it.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt};
use hyper::Method;
use livekit_protocol as proto;
use prost::Message as _;
use proto::{signal_request, signal_response};
use serde::Deserialize;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::{self, Message};
use url::Url;
use visavis::IceCandidate;

use crate::http::{Question, ask};
use crate::stream::{self, PATIENCE, Stream, StreamError};

/// The version of the protocol that is spoken.
const PROTOCOL: u32 = 16;
/// How often the server is pinged if it does not say.
const PING: Duration = Duration::from_secs(5);
/// How long the server may be silent if it does not say; it answers pings.
const SILENCE: Duration = Duration::from_secs(15);

/// Why the room cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SignalError {
    #[error("{0:?} is no address of a server: use https://HOST[:PORT]")]
    Address(String),
    #[error("cannot reach the server: {0}")]
    Unreachable(String),
    #[error("the server refuses: {0}")]
    Refused(String),
    #[error("this is no LiveKit or Visavis server: {0}")]
    NotOurs(String),
    #[error("the connection to the server was lost")]
    Lost,
    #[error("the server does not know the session any more")]
    Forgotten,
}

/// A server's address: `https://host`, `wss://host`, or just `host[:port]`.
pub(crate) fn parse_server(text: &str) -> Result<Url, SignalError> {
    let fault = || SignalError::Address(text.to_owned());
    let full = match text.split_once("://") {
        Some(("wss", rest)) => format!("https://{rest}"),
        Some(("ws", rest)) => format!("http://{rest}"),
        Some(_) => text.to_owned(),
        None => format!("https://{text}"),
    };
    let url = Url::parse(&full).map_err(|_| fault())?;
    let fits = matches!(url.scheme(), "http" | "https") && url.has_host();
    fits.then_some(url).ok_or_else(fault)
}

/// A room's name as it stands in a path.
pub(crate) fn room_of_path(text: &str) -> String {
    let pair = format!("room={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map_or_else(String::new, |(_, room)| room.into_owned())
}

/// Asks a `visavis serve` for a token, as its page does.
pub(crate) async fn invitation(
    server: &Url,
    room: &str,
    name: &str,
    insecure: bool,
) -> Result<String, SignalError> {
    #[derive(Deserialize)]
    struct Invitation {
        token: String,
    }
    #[derive(Deserialize)]
    struct Refusal {
        error: String,
    }
    let url = server
        .join("/api/join")
        .map_err(|_| SignalError::Address(server.to_string()))?;
    let body = serde_json::json!({ "room": room, "name": name }).to_string();
    let answer = ask(Question {
        method: Method::POST,
        url: &url,
        token: None,
        body: Some(("application/json", body)),
        insecure,
        patience: PATIENCE,
    })
    .await
    .map_err(|error| SignalError::Unreachable(error.to_string()))?;
    if let Ok(Invitation { token }) = serde_json::from_slice(&answer.body) {
        return Ok(token);
    }
    match serde_json::from_slice(&answer.body) {
        Ok(Refusal { error }) => Err(SignalError::Refused(error)),
        Err(_) => Err(SignalError::NotOurs(format!(
            "{url} answers {}; give a token by --token",
            answer.status
        ))),
    }
}

/// A connection to a server, in a room.
pub(crate) struct Signal {
    socket: WebSocketStream<Box<dyn Stream>>,
    ping: tokio::time::Interval,
    /// When the server was last heard.
    heard: Instant,
    /// How long it may be silent.
    silence: Duration,
}

impl Signal {
    /// Joins the room that the token is for.
    pub(crate) async fn join(
        server: &Url,
        token: &str,
        insecure: bool,
    ) -> Result<(Self, proto::JoinResponse), SignalError> {
        let (mut signal, first) = Self::open(server, token, None, insecure).await?;
        match first {
            signal_response::Message::Join(join) => {
                if let Some(interval) = seconds(join.ping_interval) {
                    signal.ping = tokio::time::interval(interval);
                }
                if let Some(silence) = seconds(join.ping_timeout) {
                    signal.silence = silence;
                }
                Ok((signal, join))
            }
            signal_response::Message::Leave(_) => {
                Err(SignalError::Refused("it ends the session at once".into()))
            }
            _ => Err(SignalError::NotOurs(
                "its first message is no welcome".into(),
            )),
        }
    }

    /// Takes up the session of a participant whose signalling was lost. Its connections want an ICE restart.
    pub(crate) async fn resume(
        server: &Url,
        token: &str,
        sid: &str,
        insecure: bool,
    ) -> Result<Self, SignalError> {
        match Self::open(server, token, Some(sid), insecure).await? {
            (signal, signal_response::Message::Reconnect(_)) => Ok(signal),
            _ => Err(SignalError::Forgotten),
        }
    }

    /// Connects; what the server says first.
    async fn open(
        server: &Url,
        token: &str,
        session: Option<&str>,
        insecure: bool,
    ) -> Result<(Self, signal_response::Message), SignalError> {
        let host = server.host_str().unwrap_or_default();
        let secure = server.scheme() == "https";
        let port = server.port_or_known_default().unwrap_or(443);
        let tls = secure.then(|| Arc::new(crate::tls::client_config(insecure)));
        let (stream, _, _) = stream::connect(host, port, tls, PATIENCE)
            .await
            .map_err(|error: StreamError| SignalError::Unreachable(error.to_string()))?;
        let mut request = server.clone();
        let scheme = if secure { "wss" } else { "ws" };
        request
            .set_scheme(scheme)
            .map_err(|()| SignalError::Address(server.to_string()))?;
        request.set_path("/rtc");
        request
            .query_pairs_mut()
            .clear()
            .append_pair("access_token", token)
            .append_pair("protocol", &PROTOCOL.to_string())
            .append_pair("sdk", "rust")
            .append_pair("version", env!("CARGO_PKG_VERSION"))
            .append_pair("auto_subscribe", "1");
        if let Some(sid) = session {
            request
                .query_pairs_mut()
                .append_pair("reconnect", "1")
                .append_pair("sid", sid);
        }
        let upgrade = tokio_tungstenite::client_async(request.as_str(), stream);
        let upgraded = tokio::time::timeout(PATIENCE, upgrade)
            .await
            .map_err(|_| SignalError::Unreachable(stream::silent(PATIENCE)))?;
        let (socket, _) = upgraded.map_err(|error| match error {
            tungstenite::Error::Http(response) => {
                let body = response.body().clone().unwrap_or_default();
                let reason = String::from_utf8_lossy(&body).trim().to_owned();
                match response.status().as_u16() {
                    401 | 403 | 503 => SignalError::Refused(reason),
                    status => SignalError::NotOurs(format!("status {status} {reason}")),
                }
            }
            error => SignalError::NotOurs(error.to_string()),
        })?;
        let mut signal = Self {
            socket,
            ping: tokio::time::interval(PING),
            heard: Instant::now(),
            silence: SILENCE,
        };
        let first = tokio::time::timeout(PATIENCE, signal.next()).await;
        let first = first.map_err(|_| SignalError::Unreachable(stream::silent(PATIENCE)))?;
        Ok((signal, first?))
    }

    /// Sends a request.
    pub(crate) async fn send(
        &mut self,
        message: signal_request::Message,
    ) -> Result<(), SignalError> {
        let request = proto::SignalRequest {
            message: Some(message),
        };
        let frame = Message::Binary(request.encode_to_vec().into());
        self.socket.send(frame).await.map_err(|_| SignalError::Lost)
    }

    /// Sends a candidate of one of the two connections.
    pub(crate) async fn trickle(
        &mut self,
        target: proto::SignalTarget,
        candidate: &IceCandidate,
    ) -> Result<(), SignalError> {
        let init = serde_json::json!({
            "candidate": candidate.candidate,
            "sdpMid": candidate.sdp_mid,
            "sdpMLineIndex": candidate.sdp_mline_index,
            "usernameFragment": candidate.username_fragment,
        });
        self.send(signal_request::Message::Trickle(proto::TrickleRequest {
            candidate_init: init.to_string(),
            target: target.into(),
            r#final: false,
        }))
        .await
    }

    /// The next message. Cancelling loses nothing; pings are sent meanwhile.
    pub(crate) async fn next(&mut self) -> Result<signal_response::Message, SignalError> {
        loop {
            let frame = tokio::select! {
                frame = self.socket.next() => frame,
                _ = self.ping.tick() => {
                    if self.heard.elapsed() > self.silence {
                        return Err(SignalError::Lost);
                    }
                    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
                    let timestamp = now.map_or(0, |now| now.as_millis() as i64);
                    let ping = proto::Ping { timestamp, rtt: 0 };
                    self.send(signal_request::Message::PingReq(ping)).await?;
                    continue;
                }
            };
            self.heard = Instant::now();
            match frame {
                Some(Ok(Message::Binary(bytes))) => {
                    let response = proto::SignalResponse::decode(bytes)
                        .map_err(|error| SignalError::NotOurs(error.to_string()))?;
                    if let Some(message) = response.message {
                        return Ok(message);
                    }
                }
                Some(Ok(Message::Close(_)) | Err(_)) | None => return Err(SignalError::Lost),
                Some(Ok(_)) => {}
            }
        }
    }

    /// Leaves the room.
    pub(crate) async fn leave(mut self) {
        let leave = proto::LeaveRequest {
            reason: proto::DisconnectReason::ClientInitiated.into(),
            ..proto::LeaveRequest::default()
        };
        let _ = self.send(signal_request::Message::Leave(leave)).await;
        let _ = self.socket.close(None).await;
    }
}

fn seconds(number: i32) -> Option<Duration> {
    let number = u64::try_from(number).ok().filter(|number| *number > 0)?;
    Some(Duration::from_secs(number))
}

/// A candidate as the server sends it.
pub(crate) fn candidate(trickle: &proto::TrickleRequest) -> Option<IceCandidate> {
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Init {
        candidate: String,
        sdp_mid: Option<String>,
        #[serde(rename = "sdpMLineIndex")]
        sdp_mline_index: Option<u16>,
        username_fragment: Option<String>,
    }
    let init: Init = serde_json::from_str(&trickle.candidate_init).ok()?;
    Some(IceCandidate {
        candidate: init.candidate,
        sdp_mid: init.sdp_mid,
        sdp_mline_index: init.sdp_mline_index,
        username_fragment: init.username_fragment,
    })
}

#[cfg(test)]
mod tests {
    use super::{parse_server, room_of_path};

    #[test]
    fn rooms_of_links_are_read() {
        assert_eq!(room_of_path("a%20b+c"), "a b+c");
        assert_eq!(room_of_path("lobby"), "lobby");
    }

    #[test]
    fn servers_are_written_in_many_ways() {
        let read = |text| parse_server(text).map(String::from).ok();
        let secure = Some("https://h.example/".to_owned());
        for text in ["h.example", "https://h.example", "wss://h.example"] {
            assert_eq!(read(text), secure);
        }
        assert_eq!(
            read("ws://h.example:7880"),
            Some("http://h.example:7880/".into())
        );
        for text in ["", "ftp://h.example", "https://", "a b"] {
            assert_eq!(read(text), None, "{text}");
        }
    }
}
