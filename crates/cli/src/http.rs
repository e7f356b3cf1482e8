//! One HTTP request on a connection of its own.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
use tokio::task::JoinSet;
use url::Url;

use crate::stream::{self, StreamError};

/// The longest answer that is read.
const MAX_BODY: usize = 1 << 20;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HttpError {
    #[error(transparent)]
    Stream(#[from] StreamError),
    #[error("{0}")]
    Protocol(String),
}

/// What is asked.
pub(crate) struct Question<'a> {
    pub(crate) method: Method,
    pub(crate) url: &'a Url,
    /// Sent as `Authorization: Bearer`.
    pub(crate) token: Option<&'a str>,
    /// The body's type, and the body.
    pub(crate) body: Option<(&'a str, String)>,
    /// Whether any certificate will do.
    pub(crate) insecure: bool,
    /// How long the name may take, and the rest as long again.
    pub(crate) patience: Duration,
}

/// What came back.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: header::HeaderName) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The body as text, without what would drive a terminal.
    pub(crate) fn text(&self) -> String {
        let text = String::from_utf8_lossy(&self.body);
        text.chars().filter(|c| !c.is_control()).take(500).collect()
    }
}

/// Asks a question. Redirects are answers.
pub(crate) async fn ask(question: Question<'_>) -> Result<Answer, HttpError> {
    let (host, patience) = (
        question.url.host_str().unwrap_or_default(),
        question.patience,
    );
    let port = question.url.port_or_known_default().unwrap_or(443);
    let addresses = stream::resolve(host, port, patience).await?;
    match tokio::time::timeout(patience, exchange(question, host, &addresses)).await {
        Ok(answer) => answer,
        Err(_) => Err(StreamError::Connect(stream::silent(patience)).into()),
    }
}

async fn exchange(
    question: Question<'_>,
    host: &str,
    addresses: &[SocketAddr],
) -> Result<Answer, HttpError> {
    let Question {
        method,
        url,
        token,
        body,
        insecure,
        patience: _,
    } = question;
    let tls = (url.scheme() == "https").then(|| Arc::new(crate::tls::client_config(insecure)));
    let (stream, _, _) = stream::open(addresses, host, tls).await?;
    let fault = |error: &dyn std::fmt::Display| HttpError::Protocol(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| fault(&error))?;
    // Ends with this, however it ends.
    let mut task = JoinSet::new();
    task.spawn(connection);
    let path = match url.query() {
        Some(query) => format!("{}?{query}", url.path()),
        None => url.path().to_owned(),
    };
    let authority = match url.port() {
        Some(port) => format!("{host}:{port}"),
        None => host.to_owned(),
    };
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, authority)
        .header(header::CONNECTION, "close");
    if let Some(token) = token {
        request = request.header(header::AUTHORIZATION, format!("Bearer {token}"));
    }
    let mut content = Bytes::new();
    if let Some((kind, text)) = body {
        request = request.header(header::CONTENT_TYPE, kind);
        content = text.into();
    }
    let request = request
        .body(Full::new(content))
        .map_err(|error| fault(&error))?;
    let response = sender
        .send_request(request)
        .await
        .map_err(|error| fault(&error))?;
    let (head, body) = response.into_parts();
    let body = Limited::new(body, MAX_BODY)
        .collect()
        .await
        .map_err(|error| fault(&error))?
        .to_bytes()
        .to_vec();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}
