//! Trickle ICE over a WebSocket: descriptions leave at once, candidates follow as they are found, so that
//! nothing waits for the slowest server. Each message is a JSON object, as browsers print it:
//! `{"description":{"type":…,"sdp":…}}` or `{"candidate":{"candidate":…,"sdpMid":…,…}}`.
//!
//!     cargo run --release -p visavis --example trickle [ADDRESS]
//!
//! listens, answers whoever connects, and sends back what comes over data channels;
//!
//!     cargo run --release -p visavis --example trickle ws://ADDRESS
//!
//! connects to such a one and says hello.
#![allow(clippy::print_stdout, reason = "the program tells what came")]

#[path = "common/mod.rs"]
mod common;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio_tungstenite::tungstenite::Message as Frame;
use tokio_tungstenite::{WebSocketStream, accept_async, connect_async};
use visavis::{
    ChannelOptions, Configuration, Description, Endpoint, Event, IceCandidate, Message,
    PeerConnection, SdpType, Settings,
};

/// Carries descriptions and candidates both ways until either end is gone. Channels that the peer opens
/// send back what comes.
pub(crate) async fn signal<S: AsyncRead + AsyncWrite + Unpin>(
    mut socket: WebSocketStream<S>,
    connection: &PeerConnection,
) -> common::Result<()> {
    loop {
        tokio::select! {
            frame = socket.next() => match frame {
                Some(Ok(Frame::Text(text))) => {
                    if let Some(answer) = hear(connection, &serde_json::from_str(&text)?).await? {
                        socket.send(Frame::text(answer.to_string())).await?;
                    }
                }
                Some(Ok(Frame::Close(_))) | None => return Ok(()),
                Some(frame) => drop(frame?),
            },
            event = connection.next_event() => match event {
                Some(Event::NegotiationNeeded) => {
                    connection.set_local_description(None).await?;
                    socket.send(Frame::text(ours(connection)?.to_string())).await?;
                }
                Some(Event::IceCandidate(candidate)) => {
                    // The end of candidates is an empty one.
                    let candidate = to_json(&candidate.unwrap_or_default());
                    socket.send(Frame::text(candidate.to_string())).await?;
                }
                Some(Event::DataChannel(mut channel)) => drop(tokio::spawn(async move {
                    while let Some(message) = channel.recv().await {
                        if channel.feed(message).await.is_err() {
                            return;
                        }
                    }
                })),
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// Takes a message of the peer; the answer to its offer.
async fn hear(connection: &PeerConnection, message: &Value) -> common::Result<Option<Value>> {
    if let Some(description) = message.get("description") {
        let text = |key: &str| {
            description[key]
                .as_str()
                .ok_or("a description lacks a part")
        };
        let description = Description::from_parts(text("type")?, text("sdp")?)?;
        connection.set_remote_description(&description)?;
        if description.kind == SdpType::Offer {
            connection.set_local_description(None).await?;
            return Ok(Some(ours(connection)?));
        }
    }
    if let Some(candidate) = message.get("candidate").filter(|it| !it.is_null()) {
        let text = |key: &str| candidate[key].as_str().map(str::to_owned);
        let index = candidate["sdpMLineIndex"].as_u64();
        connection.add_ice_candidate(&IceCandidate {
            candidate: text("candidate").unwrap_or_default(),
            sdp_mid: text("sdpMid"),
            sdp_mline_index: index.and_then(|index| index.try_into().ok()),
            username_fragment: text("usernameFragment"),
        })?;
    }
    Ok(None)
}

fn ours(connection: &PeerConnection) -> common::Result<Value> {
    let description = connection.local_description().ok_or("closed")?;
    Ok(json!({ "description": { "type": description.kind.name(), "sdp": description.sdp } }))
}

fn to_json(candidate: &IceCandidate) -> Value {
    json!({ "candidate": {
        "candidate": candidate.candidate,
        "sdpMid": candidate.sdp_mid,
        "sdpMLineIndex": candidate.sdp_mline_index.or(Some(0)),
        "usernameFragment": candidate.username_fragment,
    } })
}

/// Answers whoever connects.
pub(crate) async fn listen(listener: TcpListener, endpoint: Endpoint) -> common::Result<()> {
    loop {
        let (stream, _) = listener.accept().await?;
        let connection = endpoint.peer_connection(Configuration::default())?;
        tokio::spawn(async move {
            let socket = accept_async(stream).await?;
            signal(socket, &connection).await?;
            // Signalling is over; the connection goes on for as long as the peer is there.
            while connection.next_event().await.is_some() {}
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>(())
        });
    }
}

/// Connects, says hello, and hands on what comes back.
pub(crate) async fn hello(url: &str, endpoint: &Endpoint) -> common::Result<Message> {
    let (socket, _) = connect_async(url).await?;
    let connection = endpoint.peer_connection(Configuration::default())?;
    let mut channel = connection.create_data_channel("hello", ChannelOptions::default())?;
    let exchange = async {
        channel.feed("hello").await?;
        let message = channel.recv().await.ok_or("the channel closed")?;
        common::Result::Ok(message)
    };
    tokio::select! {
        result = signal(socket, &connection) => {
            result?;
            Err("signalling ended too soon".into())
        }
        message = exchange => message,
    }
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let argument = std::env::args().nth(1).unwrap_or("127.0.0.1:8081".into());
    let mut settings = Settings::default();
    // Both ends may be on this very host.
    settings.interfaces.loopback = true;
    let endpoint = Endpoint::new(settings)?;
    if argument.starts_with("ws://") {
        println!("{:?}", hello(&argument, &endpoint).await?);
        return Ok(());
    }
    let listener = TcpListener::bind(&argument).await?;
    println!("listening at ws://{argument}; Ctrl-C ends");
    listen(listener, endpoint).await
}
