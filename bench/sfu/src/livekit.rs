//! LiveKit's server under the same load, by its own signalling protocol with two connections.

use std::io;

use futures_util::{SinkExt, StreamExt};
use jsonwebtoken::{EncodingKey, Header};
use livekit_protocol as proto;
use prost::Message as _;
use serde_json::{Value, json};
use tokio::sync::{mpsc, oneshot};
use tokio_tungstenite::tungstenite::Message;
use visavis_peer::IceCandidate;

use crate::client::{Ask, Asks};

/// The secret that the server is started with.
pub(crate) const SECRET: &str = "secret-of-a-benchmark-on-loopback";

type Trickled = mpsc::UnboundedReceiver<IceCandidate>;

/// Joins a room: with a connection that publishes, or with one that receives.
pub(crate) async fn join(
    port: u16,
    room: &str,
    identity: &str,
    publisher: bool,
    asks: Asks,
    mut trickled: Trickled,
) -> io::Result<()> {
    let claims = json!({
        "iss": "devkey",
        "sub": identity,
        "exp": 4_000_000_000u64,
        "video": {
            "room": room, "roomJoin": true, "canPublish": publisher, "canSubscribe": !publisher,
        },
    });
    let key = EncodingKey::from_secret(SECRET.as_bytes());
    let token =
        jsonwebtoken::encode(&Header::default(), &claims, &key).map_err(io::Error::other)?;
    let url = format!(
        "ws://127.0.0.1:{port}/rtc?access_token={token}&protocol=13&auto_subscribe=1&sdk=go&version=2.0.0"
    );
    let (mut socket, _) = tokio_tungstenite::connect_async(&url)
        .await
        .map_err(io::Error::other)?;
    let (ready, joined) = oneshot::channel();
    tokio::spawn(async move {
        let mut ready = Some(ready);
        loop {
            let out = tokio::select! {
                message = socket.next() => match message {
                    Some(Ok(Message::Binary(bytes))) => {
                        let Ok(response) = proto::SignalResponse::decode(&bytes[..]) else { continue };
                        let Some(message) = response.message else { continue };
                        take(message, publisher, &asks, &mut ready).await
                    }
                    Some(Ok(_)) => continue,
                    _ => return,
                },
                Some(candidate) = trickled.recv() => {
                    let init = json!({
                        "candidate": candidate.candidate,
                        "sdpMid": candidate.sdp_mid,
                        "sdpMLineIndex": candidate.sdp_mline_index,
                    });
                    vec![proto::signal_request::Message::Trickle(proto::TrickleRequest {
                        candidate_init: init.to_string(),
                        target: if publisher { 0 } else { 1 },
                        r#final: false,
                    })]
                }
                () = tokio::time::sleep(std::time::Duration::from_secs(10)) => {
                    vec![proto::signal_request::Message::Ping(0)]
                }
            };
            for message in out {
                let request = proto::SignalRequest {
                    message: Some(message),
                };
                let sent = socket
                    .send(Message::Binary(request.encode_to_vec().into()))
                    .await;
                if sent.is_err() {
                    return;
                }
            }
        }
    });
    joined.await.map_err(io::Error::other)
}

async fn take(
    message: proto::signal_response::Message,
    publisher: bool,
    asks: &Asks,
    ready: &mut Option<oneshot::Sender<()>>,
) -> Vec<proto::signal_request::Message> {
    use proto::signal_request::Message as Request;
    use proto::signal_response::Message as Response;
    match message {
        Response::Join(_) if publisher => {
            let (reply, offer) = oneshot::channel();
            let _ = asks.send(Ask::Offer(0, 0, reply));
            let Ok(sdp) = offer.await else {
                return Vec::new();
            };
            let mut requests = Vec::new();
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
                    cids.push((kind.to_owned(), track.to_owned()));
                }
            }
            for (kind, cid) in cids {
                let video = kind == "video";
                let layers = (0..rids.max(1)).map(|quality| proto::VideoLayer {
                    quality: if rids == 0 { 2 } else { quality },
                    width: 320 << quality,
                    height: 180 << quality,
                    bitrate: 150_000 << (2 * quality),
                    ..Default::default()
                });
                requests.push(Request::AddTrack(proto::AddTrackRequest {
                    cid,
                    name: kind,
                    r#type: i32::from(video),
                    source: if video { 1 } else { 2 },
                    width: 1280,
                    height: 720,
                    layers: if video { layers.collect() } else { Vec::new() },
                    ..Default::default()
                }));
            }
            requests.push(Request::Offer(proto::SessionDescription {
                r#type: "offer".into(),
                sdp,
                ..Default::default()
            }));
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
            vec![Request::Answer(proto::SessionDescription {
                r#type: "answer".into(),
                sdp,
                id,
                ..Default::default()
            })]
        }
        Response::Trickle(trickle) if (trickle.target == 0) == publisher => {
            let init: Value = serde_json::from_str(&trickle.candidate_init).unwrap_or_default();
            let text = |name: &str| init[name].as_str().map(str::to_owned);
            let _ = asks.send(Ask::Candidate(IceCandidate {
                candidate: text("candidate").unwrap_or_default(),
                sdp_mid: text("sdpMid"),
                sdp_mline_index: init["sdpMLineIndex"].as_u64().map(|index| index as u16),
                username_fragment: None,
            }));
            Vec::new()
        }
        _ => Vec::new(),
    }
}
