//! A page that a browser connects to by WebRTC, and a program that sends each message back.
//!
//!     cargo run --release -p visavis --example echo [ADDRESS]
//!
//! Signalling is one HTTP request: the page posts its offer, the answer comes back, both with all
//! their candidates inside.
#![allow(clippy::print_stdout, reason = "the program tells where its page is")]

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use visavis::{Configuration, DataChannel, Description, Endpoint, Event, PeerConnection, Settings};

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width">
<title>Visavis echo</title>
<style>body { font: 1rem system-ui; max-width: 40rem; margin: 2rem auto; padding: 0 1rem }</style>
<h1>Echo</h1>
<p id="state" role="status">connecting …</p>
<form id="form"><input id="text" aria-label="Message" autofocus> <button disabled>Send</button></form>
<ol id="log"></ol>
<script type="module">
  const show = (text) => { state.textContent = text; };
  const pc = new RTCPeerConnection();
  const dc = pc.createDataChannel('echo');
  dc.onopen = () => { form.querySelector('button').disabled = false; show('connected'); };
  dc.onclose = () => show('closed');
  dc.onmessage = (event) => { log.append(Object.assign(document.createElement('li'), { textContent: event.data })); };
  pc.onconnectionstatechange = () => { if (pc.connectionState === 'failed') show('no way was found between the two ends'); };
  form.onsubmit = (event) => { event.preventDefault(); dc.send(text.value); text.value = ''; };
  await pc.setLocalDescription();
  if (pc.iceGatheringState !== 'complete') {
    await new Promise((done) => { pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done(); });
  }
  const response = await fetch('offer', { method: 'POST', headers: { 'content-type': 'application/sdp' }, body: pc.localDescription.sdp });
  if (response.ok) await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  else show(await response.text());
</script>
"#;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let argument = std::env::args().nth(1);
    let address: SocketAddr = argument
        .as_deref()
        .unwrap_or("127.0.0.1:8080")
        .parse()
        .map_err(|_| "usage: echo [ADDRESS], e.g. 0.0.0.0:8080")?;
    let listener = tokio::net::TcpListener::bind(address).await?;
    println!(
        "open http://{} in a browser; Ctrl-C ends",
        listener.local_addr()?
    );
    tokio::select! {
        ended = listen(listener) => ended,
        _ = tokio::signal::ctrl_c() => Ok(()),
    }
}

/// Serves the page, and answers it.
pub async fn listen(listener: tokio::net::TcpListener) -> Result<(), Box<dyn std::error::Error>> {
    let mut settings = Settings::default();
    // A browser on this very host may have no other address in common.
    settings.interfaces.loopback = true;
    let endpoint = Arc::new(Endpoint::new(settings)?);
    let app = Router::new()
        .route("/", get(|| async { Html(PAGE) }))
        .route("/offer", post(answer))
        .with_state(endpoint);
    axum::serve(listener, app).await?;
    Ok(())
}

async fn answer(
    State(endpoint): State<Arc<Endpoint>>,
    offer: String,
) -> Result<String, (StatusCode, String)> {
    let refuse = |error: visavis::Error| (StatusCode::BAD_REQUEST, format!("{error}\n"));
    let connection = endpoint
        .peer_connection(Configuration::default())
        .map_err(refuse)?;
    connection
        .set_remote_description(&Description::offer(offer))
        .map_err(refuse)?;
    connection
        .set_local_description(None)
        .await
        .map_err(refuse)?;
    let answer = connection.gathered().await.ok_or((
        StatusCode::INTERNAL_SERVER_ERROR,
        "the connection closed\n".to_owned(),
    ))?;
    tokio::spawn(serve(connection));
    Ok(answer.sdp)
}

async fn serve(connection: PeerConnection) {
    while let Some(event) = connection.next_event().await {
        match event {
            Event::DataChannel(channel) => drop(tokio::spawn(echo(channel))),
            Event::ConnectionState(
                visavis::ConnectionState::Failed | visavis::ConnectionState::Closed,
            ) => return,
            _ => {}
        }
    }
}

async fn echo(mut channel: DataChannel) {
    while let Some(message) = channel.recv().await {
        if channel.feed(message).await.is_err() {
            return;
        }
    }
}
