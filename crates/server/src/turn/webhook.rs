//! Users whom another service knows: `POST {"realm","username"}`, answered by `{"password"}`, or 404 for a stranger.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::{Method, Request, StatusCode, header};
use hyper_rustls::HttpsConnector;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;
use url::Url;

use super::service::TurnService;

/// How long the service may take; the client asks again meanwhile.
const PATIENCE: Duration = Duration::from_secs(5);
/// Questions that are asked at once.
const AT_ONCE: usize = 32;
/// The longest answer in bytes.
const LONGEST: usize = 16 << 10;

#[derive(Serialize)]
struct Question<'a> {
    realm: &'a str,
    username: &'a str,
}

#[derive(Deserialize)]
struct Answer {
    password: Option<String>,
}

pub(super) struct Webhook {
    url: Url,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    at_once: Arc<Semaphore>,
}

impl Webhook {
    pub(super) fn new(url: Url) -> Self {
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut http = HttpConnector::new();
        http.enforce_http(false);
        let builder = hyper_rustls::HttpsConnectorBuilder::new();
        let connector = match builder.with_provider_and_webpki_roots(Arc::clone(&provider)) {
            Ok(builder) => builder.https_or_http().enable_http1().wrap_connector(http),
            // The provider speaks TLS 1.2 and 1.3; nothing else could be wrong.
            Err(error) => {
                tracing::error!(%error, "webhook without TLS");
                hyper_rustls::HttpsConnectorBuilder::new()
                    .with_webpki_roots()
                    .https_or_http()
                    .enable_http1()
                    .wrap_connector(HttpConnector::new())
            }
        };
        Self {
            url,
            client: Client::builder(TokioExecutor::new()).build(connector),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
        }
    }

    pub(super) fn url(&self) -> &Url {
        &self.url
    }

    /// Asks, and gives the worker the answer. A service that does not answer is no service that denies: the request is
    /// not answered then, and the client asks again.
    pub(super) fn ask(&self, service: TurnService, worker: u8, realm: String, username: String) {
        let Ok(permit) = Arc::clone(&self.at_once).try_acquire_owned() else {
            tracing::warn!("the webhook is too slow: questions are dropped");
            return;
        };
        let (client, url) = (self.client.clone(), self.url.clone());
        tokio::spawn(async move {
            let asked = tokio::time::timeout(PATIENCE, ask(&client, &url, &realm, &username)).await;
            match asked {
                Ok(Ok(password)) => service.answer_lookup(worker, realm, username, password),
                Ok(Err(error)) => tracing::warn!(%error, %url, "the webhook failed"),
                Err(_) => tracing::warn!(%url, "the webhook did not answer"),
            }
            drop(permit);
        });
    }
}

async fn ask(
    client: &Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    url: &Url,
    realm: &str,
    username: &str,
) -> Result<Option<String>, Box<dyn std::error::Error + Send + Sync>> {
    let body = serde_json::to_vec(&Question { realm, username })?;
    let request = Request::builder()
        .method(Method::POST)
        .uri(url.as_str())
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = client.request(request).await?;
    match response.status() {
        StatusCode::NOT_FOUND | StatusCode::FORBIDDEN => Ok(None),
        StatusCode::OK => {
            let body = Limited::new(response.into_body(), LONGEST)
                .collect()
                .await?;
            let answer: Answer = serde_json::from_slice(&body.to_bytes())?;
            Ok(answer.password)
        }
        status => Err(format!("status {status}").into()),
    }
}
