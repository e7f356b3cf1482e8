//! A server on free ports of loopback, a client of its signalling, and plain HTTP.

#![allow(dead_code)]

use std::{collections::BTreeMap, time::Duration};

use futures_util::{SinkExt as _, StreamExt as _};
use livekit_protocol as proto;
use prost::Message as _;
use proto::{signal_request, signal_response::Message};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};
use tokio_tungstenite::{
    MaybeTlsStream, WebSocketStream,
    tungstenite::{self, Bytes, Message as Frame},
};
use visavis_server::{
    Config, Server,
    config::Tls,
    token::{Claims, Keys, VideoGrant},
};

pub(crate) const KEY: &str = "testkey";
pub(crate) const SECRET: &str = "a secret that is long enough for tests";

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);

pub(crate) fn config() -> Config {
    Config {
        listen: vec!["127.0.0.1:0".parse().expect("an address")],
        udp: vec!["127.0.0.1:0".parse().expect("an address")],
        workers: 1,
        tls: Tls::Off,
        turn: false,
        keys: BTreeMap::from([(KEY.to_owned(), SECRET.to_owned())]),
        ..Config::default()
    }
}

pub(crate) async fn server() -> Server {
    Server::start(config()).await.expect("the server starts")
}

pub(crate) fn host(server: &Server) -> String {
    server.addresses()[0].to_string()
}

pub(crate) fn keys() -> Keys {
    Keys::new([(KEY.to_owned(), SECRET.to_owned())])
}

pub(crate) fn sign(claims: &Claims) -> String {
    keys().sign(KEY, claims, 600).expect("the key is there")
}

pub(crate) fn token(room: &str, identity: &str) -> String {
    token_with(room, identity, VideoGrant::default())
}

pub(crate) fn token_with(room: &str, identity: &str, grant: VideoGrant) -> String {
    let grant = VideoGrant {
        room_join: true,
        room: room.into(),
        ..grant
    };
    sign(&Claims {
        identity: identity.into(),
        video: Some(grant),
        ..Claims::default()
    })
}

/// One HTTP request on a connection of its own: the status, and everything after it.
pub(crate) async fn http(
    server: &Server,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> (u16, String) {
    let mut stream = TcpStream::connect(host(server))
        .await
        .expect("the server listens");
    let mut request = format!(
        "{method} {path} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n",
        host(server)
    );
    request.push_str(&format!("content-length: {}\r\n", body.len()));
    for (name, value) in headers {
        request.push_str(&format!("{name}: {value}\r\n"));
    }
    request.push_str("\r\n");
    stream.write_all(request.as_bytes()).await.expect("written");
    // A server that refuses early closes while the body is being written.
    let _ = stream.write_all(body).await;
    let mut answer = Vec::new();
    let _ = timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .expect("an answer in time");
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let status = answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0);
    (status, answer)
}

/// A signalling connection.
pub(crate) struct Client {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
}

impl Client {
    /// Joins by the older path; the first message has been read.
    pub(crate) async fn join(server: &Server, token: &str) -> (Self, proto::JoinResponse) {
        let mut client = Self::connect(server, &format!("/rtc?access_token={token}&protocol=17"))
            .await
            .expect("joined");
        match client.next().await {
            Some(Message::Join(join)) => (client, join),
            other => panic!("the first message is no join: {other:?}"),
        }
    }

    pub(crate) async fn connect(server: &Server, path: &str) -> Result<Self, (u16, String)> {
        let url = format!("ws://{}{path}", host(server));
        match timeout(PATIENCE, tokio_tungstenite::connect_async(url))
            .await
            .expect("an answer in time")
        {
            Ok((socket, _)) => Ok(Self { socket }),
            Err(tungstenite::Error::Http(response)) => {
                let body = response.body().clone().unwrap_or_default();
                Err((
                    response.status().as_u16(),
                    String::from_utf8_lossy(&body).into_owned(),
                ))
            }
            Err(error) => panic!("{error}"),
        }
    }

    pub(crate) async fn send(&mut self, request: signal_request::Message) {
        let bytes = proto::SignalRequest {
            message: Some(request),
        }
        .encode_to_vec();
        self.raw(Frame::Binary(Bytes::from(bytes))).await;
    }

    pub(crate) async fn raw(&mut self, frame: Frame) {
        // A server that has closed already is what some tests are about.
        let _ = self.socket.send(frame).await;
    }

    /// The next message; `None` when the connection is over.
    pub(crate) async fn next(&mut self) -> Option<Message> {
        loop {
            match self.frame().await? {
                Frame::Binary(bytes) => {
                    return proto::SignalResponse::decode(bytes)
                        .expect("protobuf")
                        .message;
                }
                Frame::Text(text) => {
                    let response: proto::SignalResponse =
                        serde_json::from_str(&text).expect("JSON");
                    return response.message;
                }
                Frame::Close(_) => return None,
                _ => {}
            }
        }
    }

    /// The next frame; `None` when the connection is over.
    pub(crate) async fn frame(&mut self) -> Option<Frame> {
        timeout(PATIENCE, self.socket.next())
            .await
            .expect("a message in time")
            .and_then(Result::ok)
    }

    /// Reads until a message for which `wanted` gives something.
    pub(crate) async fn until<T>(&mut self, wanted: impl Fn(&Message) -> Option<T>) -> T {
        loop {
            let message = self.next().await.expect("the connection is alive");
            if let Some(found) = wanted(&message) {
                return found;
            }
        }
    }

    /// The code with which the server closes the connection.
    pub(crate) async fn close_code(&mut self) -> Option<u16> {
        loop {
            match self.frame().await {
                Some(Frame::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Some(_) => {}
                None => return None,
            }
        }
    }
}
