//! LiveKit's signalling protocol: what a client says and hears; and its server under the same load as others, with two connections.

use std::io;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use livekit_protocol as proto;
use prost::Message as _;
use proto::{signal_request::Message as Request, signal_response::Message as Response};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use visavis_peer::IceCandidate;

use crate::client::{Ask, Asks};

/// The key that servers are started with.
pub const KEY: &str = "devkey";

/// Its secret.
pub const SECRET: &str = "secret-of-a-benchmark-on-loopback";

/// An access token with these grants.
pub fn token(identity: &str, grants: &Value) -> io::Result<String> {
    let claims = json!({
        "iss": KEY,
        "sub": identity,
        "exp": 4_000_000_000u64,
        "video": grants,
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(io::Error::other)
}

/// A signalling connection.
pub struct Signal(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Signal {
    /// Opens one for two connections, of which the server offers the one that receives; `session` is the one to resume.
    pub async fn open(port: u16, token: &str, session: Option<&str>) -> io::Result<Self> {
        let resumes = session.map_or(String::new(), |sid| format!("&reconnect=1&sid={sid}"));
        let settings = "protocol=13&auto_subscribe=1&sdk=go&version=2.0.0";
        Self::connect(
            port,
            &format!("rtc?access_token={token}&{settings}{resumes}"),
        )
        .await
    }

    /// Opens one for a single connection, which the client offers.
    pub async fn open_single(port: u16, token: &str, session: Option<&str>) -> io::Result<Self> {
        let request = proto::JoinRequest {
            connection_settings: Some(proto::ConnectionSettings {
                auto_subscribe: true,
                ..Default::default()
            }),
            reconnect: session.is_some(),
            participant_sid: session.unwrap_or_default().to_owned(),
            ..Default::default()
        };
        let wrapped = proto::WrappedJoinRequest {
            join_request: request.encode_to_vec(),
            ..Default::default()
        };
        let request = URL_SAFE_NO_PAD.encode(wrapped.encode_to_vec());
        Self::connect(
            port,
            &format!("rtc/v1?access_token={token}&join_request={request}"),
        )
        .await
    }

    async fn connect(port: u16, path: &str) -> io::Result<Self> {
        let url = format!("ws://127.0.0.1:{port}/{path}");
        let (socket, _) = tokio_tungstenite::connect_async(&url)
            .await
            .map_err(io::Error::other)?;
        Ok(Self(socket))
    }

    /// The next message of the server; `None` when it has closed the connection.
    pub async fn next(&mut self) -> Option<Response> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Binary(bytes))) => {
                    let response = proto::SignalResponse::decode(&bytes[..]);
                    if let Some(message) = response.ok().and_then(|response| response.message) {
                        return Some(message);
                    }
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return None,
            }
        }
    }

    /// Says something to the server.
    pub async fn send(&mut self, message: Request) -> io::Result<()> {
        let request = proto::SignalRequest {
            message: Some(message),
        };
        let bytes = request.encode_to_vec();
        self.0
            .send(Message::Binary(bytes.into()))
            .await
            .map_err(io::Error::other)
    }
}

/// A track as it is announced, with so many encodings.
pub fn add_track(cid: &str, video: bool, encodings: i32) -> Request {
    let layers = (0..encodings.max(1)).map(|quality| proto::VideoLayer {
        quality: if encodings < 2 { 2 } else { quality },
        width: 320 << quality,
        height: 180 << quality,
        bitrate: 150_000 << (2 * quality),
        ..Default::default()
    });
    Request::AddTrack(proto::AddTrackRequest {
        cid: cid.to_owned(),
        name: if video { "video" } else { "audio" }.to_owned(),
        r#type: i32::from(video),
        source: if video { 1 } else { 2 },
        width: 1280,
        height: 720,
        layers: if video { layers.collect() } else { Vec::new() },
        ..Default::default()
    })
}

/// A description as it is sent.
pub fn description(kind: &str, sdp: String, id: u32) -> proto::SessionDescription {
    proto::SessionDescription {
        r#type: kind.to_owned(),
        sdp,
        id,
        ..Default::default()
    }
}

/// A candidate as it is sent, of the connection that publishes or of the one that receives.
pub fn trickle(candidate: &IceCandidate, publisher: bool) -> Request {
    let init = json!({
        "candidate": candidate.candidate,
        "sdpMid": candidate.sdp_mid,
        "sdpMLineIndex": candidate.sdp_mline_index,
    });
    Request::Trickle(proto::TrickleRequest {
        candidate_init: init.to_string(),
        target: if publisher { 0 } else { 1 },
        r#final: false,
    })
}

/// A candidate of the server.
pub fn candidate(trickle: &proto::TrickleRequest) -> IceCandidate {
    let init: Value = serde_json::from_str(&trickle.candidate_init).unwrap_or_default();
    let text = |name: &str| init[name].as_str().map(str::to_owned);
    IceCandidate {
        candidate: text("candidate").unwrap_or_default(),
        sdp_mid: text("sdpMid"),
        sdp_mline_index: init["sdpMLineIndex"].as_u64().map(|index| index as u16),
        username_fragment: None,
    }
}

type Trickled = mpsc::UnboundedReceiver<IceCandidate>;

/// Joins a room: with a connection that publishes, or with one that receives.
pub async fn join(
    port: u16,
    room: &str,
    identity: &str,
    publisher: bool,
    asks: Asks,
    mut trickled: Trickled,
) -> io::Result<()> {
    let grants = json!({
        "room": room, "roomJoin": true, "canPublish": publisher, "canSubscribe": !publisher,
    });
    let mut signal = Signal::open(port, &token(identity, &grants)?, None).await?;
    let (ready, joined) = oneshot::channel();
    tokio::spawn(async move {
        let mut ready = Some(ready);
        loop {
            let out = tokio::select! {
                message = signal.next() => match message {
                    Some(message) => take(message, publisher, &asks, &mut ready).await,
                    None => return,
                },
                Some(candidate) = trickled.recv() => vec![trickle(&candidate, publisher)],
                () = tokio::time::sleep(std::time::Duration::from_secs(10)) => {
                    vec![Request::Ping(0)]
                }
            };
            for message in out {
                if signal.send(message).await.is_err() {
                    return;
                }
            }
        }
    });
    joined.await.map_err(io::Error::other)
}

async fn take(
    message: Response,
    publisher: bool,
    asks: &Asks,
    ready: &mut Option<oneshot::Sender<()>>,
) -> Vec<Request> {
    match message {
        Response::Join(_) if publisher => {
            let (reply, offer) = oneshot::channel();
            let _ = asks.send(Ask::Offer(0, 0, reply));
            let Ok(sdp) = offer.await else {
                return Vec::new();
            };
            let mut kind = "";
            let mut rids = 0;
            let mut cids = Vec::new();
            for line in sdp.lines() {
                if let Some(media) = line.strip_prefix("m=") {
                    kind = media.split(' ').next().unwrap_or("");
                }
                if line.starts_with("a=rid:") {
                    rids += 1;
                }
                if let Some(msid) = line.strip_prefix("a=msid:") {
                    let track = msid.split(' ').nth(1).unwrap_or(msid);
                    cids.push((kind == "video", track.to_owned()));
                }
            }
            let mut requests: Vec<Request> = cids
                .iter()
                .map(|(video, cid)| add_track(cid, *video, rids))
                .collect();
            requests.push(Request::Offer(description("offer", sdp, 0)));
            requests
        }
        Response::Join(_) => {
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            Vec::new()
        }
        Response::Answer(answer) => {
            let _ = asks.send(Ask::Answer(answer.sdp));
            if let Some(ready) = ready.take() {
                let _ = ready.send(());
            }
            Vec::new()
        }
        Response::Offer(offer) if !publisher => {
            let (reply, answer) = oneshot::channel();
            let id = offer.id;
            let _ = asks.send(Ask::Accept(offer.sdp, reply));
            let Ok(sdp) = answer.await else {
                return Vec::new();
            };
            vec![Request::Answer(description("answer", sdp, id))]
        }
        Response::Trickle(trickle) if (trickle.target == 0) == publisher => {
            let _ = asks.send(Ask::Candidate(candidate(&trickle)));
            Vec::new()
        }
        _ => Vec::new(),
    }
}
