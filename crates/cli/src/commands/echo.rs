//! `visavis echo`.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use visavis::{
    Configuration, ConnectionState, DataChannel, Description, Direction, Endpoint, Event,
    OutgoingFrame, PeerConnection, RtpTransceiver,
};

use crate::exit::{self, Exit, with_exit_codes};
use crate::output::{err, out};

/// The longest offer, in bytes.
const MAX_OFFER: usize = 64 << 10;

/// Send back whatever a peer sends: messages, sound and pictures.
///
/// Serves a page for browsers. A program posts its offer to /offer, as `application/sdp`, and gets the answer; both have all
/// their candidates inside.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// Where to serve the page. Browsers give cameras to pages of localhost and of HTTPS only.
    #[arg(long, value_name = "ADDRESS", default_value = "127.0.0.1:8080", value_parser = super::address)]
    listen: SocketAddr,
    /// Peers at a time.
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    peers: usize,
}

const LONG_HELP: &str = with_exit_codes!(
    "\
Examples:
  visavis echo                                    then open http://localhost:8080
  visavis echo --listen 0.0.0.0:8080              for other machines: messages only, unless HTTPS is in front

"
);

const PAGE: &str = include_str!("echo.html");

struct Echo {
    endpoint: Endpoint,
    peers: Arc<Semaphore>,
}

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::block_on(async move {
        let listener = match tokio::net::TcpListener::bind(args.listen).await {
            Ok(listener) => listener,
            Err(error) => {
                err!(
                    "cannot listen on {}: {error}; choose another address by --listen",
                    args.listen
                );
                return Exit::Failure;
            }
        };
        let endpoint = match crate::runtime::endpoint() {
            Ok(endpoint) => endpoint,
            Err(error) => {
                err!("{error}");
                return Exit::Failure;
            }
        };
        let address = listener.local_addr().unwrap_or(args.listen);
        let mut interrupt = crate::runtime::Interrupt::new();
        out!("open http://{address} in a browser; Ctrl-C ends");
        let state = Arc::new(Echo {
            endpoint,
            peers: Arc::new(Semaphore::new(args.peers)),
        });
        let app = Router::new()
            .route("/", get(|| async { Html(PAGE) }))
            .route("/offer", post(answer))
            .layer(DefaultBodyLimit::max(MAX_OFFER))
            .with_state(state);
        tokio::select! {
            _ = axum::serve(listener, app) => Exit::Failure,
            () = interrupt.arrives() => Exit::Success,
        }
    })
}

async fn answer(
    State(echo): State<Arc<Echo>>,
    offer: String,
) -> Result<String, (StatusCode, String)> {
    let refuse = |error: visavis::Error| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let Ok(place) = Arc::clone(&echo.peers).try_acquire_owned() else {
        let text = "too many peers are here; try again later\n";
        return Err((StatusCode::SERVICE_UNAVAILABLE, text.to_owned()));
    };
    let connection = echo
        .endpoint
        .peer_connection(Configuration::default())
        .map_err(refuse)?;
    connection
        .set_remote_description(&Description::offer(offer))
        .map_err(refuse)?;
    for transceiver in connection.transceivers() {
        transceiver
            .set_direction(Direction::SendRecv)
            .map_err(refuse)?;
    }
    connection
        .set_local_description(None)
        .await
        .map_err(refuse)?;
    let answer = connection.gathered().await.ok_or((
        StatusCode::INTERNAL_SERVER_ERROR,
        "the connection closed\n".to_owned(),
    ))?;
    tokio::spawn(async move {
        serve(connection).await;
        drop(place);
    });
    Ok(answer.sdp)
}

async fn serve(connection: PeerConnection) {
    while let Some(event) = connection.next_event().await {
        match event {
            Event::DataChannel(channel) => drop(tokio::spawn(messages(channel))),
            Event::Track { transceiver, .. } => drop(tokio::spawn(media(transceiver))),
            Event::KeyFrameRequested { sender, .. } => {
                sender.transceiver().receiver().request_key_frame(None);
            }
            Event::ConnectionState(ConnectionState::Failed | ConnectionState::Closed) => return,
            _ => {}
        }
    }
}

async fn messages(mut channel: DataChannel) {
    while let Some(message) = channel.recv().await {
        if channel.feed(message).await.is_err() {
            return;
        }
    }
}

/// Frames go back as they come, out of the jitter buffer.
async fn media(transceiver: RtpTransceiver) {
    let (receiver, sender) = (transceiver.receiver(), transceiver.sender());
    while let Some(frame) = receiver.recv_frame().await {
        if frame.data.is_empty() {
            continue;
        }
        let mut back = OutgoingFrame::new(frame.timestamp, frame.is_key(), &frame.data);
        back.payload_type = Some(frame.payload_type);
        // Until the peer takes it there is nobody to send it to.
        let _ = sender.send_frame(&back);
    }
}
