//! A page for a browser, and its signalling: the page posts an offer, the answer comes back, both with
//! all their candidates inside.

use std::future::Future;
use std::sync::Arc;

use axum::Router;
use axum::http::StatusCode;
use axum::response::Html;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use visavis::{Configuration, Description, Endpoint, PeerConnection, Settings};

use super::common::Result;

/// VP8 and no other codec, as the files are.
pub(crate) fn vp8() -> Configuration {
    let mut configuration = Configuration::default();
    let codecs = &mut Arc::make_mut(&mut configuration.advanced.codecs).video;
    codecs.retain(|codec| codec.is("VP8"));
    configuration
}

/// Serves a page. Each connection that a browser offers goes to `prepare` before it is answered, and to
/// `run` after that.
pub(crate) async fn serve<F>(
    listener: TcpListener,
    page: &'static str,
    configuration: Configuration,
    prepare: impl Fn(&PeerConnection) -> Result<()> + Send + Sync + 'static,
    run: impl Fn(PeerConnection) -> F + Send + Sync + 'static,
) -> Result<()>
where
    F: Future<Output = Result<()>> + Send + 'static,
{
    let mut settings = Settings::default();
    // A browser on this very host may have no other address in common.
    settings.interfaces.loopback = true;
    let shared = Arc::new((Endpoint::new(settings)?, configuration, prepare, run));
    let answer = move |offer: String| {
        let shared = Arc::clone(&shared);
        async move {
            let (endpoint, configuration, prepare, run) = &*shared;
            let answered = answer(endpoint, configuration.clone(), offer, prepare).await;
            let (connection, sdp) =
                answered.map_err(|error| (StatusCode::BAD_REQUEST, format!("{error}\n")))?;
            tokio::spawn(run(connection));
            Ok::<_, (StatusCode, String)>(sdp)
        }
    };
    let app = Router::new()
        .route("/", get(move || async move { Html(page) }))
        .route("/offer", post(answer));
    Ok(axum::serve(listener, app).await?)
}

async fn answer(
    endpoint: &Endpoint,
    configuration: Configuration,
    offer: String,
    prepare: &impl Fn(&PeerConnection) -> Result<()>,
) -> Result<(PeerConnection, String)> {
    let connection = endpoint.peer_connection(configuration)?;
    connection.set_remote_description(&Description::offer(offer))?;
    prepare(&connection)?;
    connection.set_local_description(None).await?;
    let answer = connection.gathered().await.ok_or("closed")?;
    Ok((connection, answer.sdp))
}
