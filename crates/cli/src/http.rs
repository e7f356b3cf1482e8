//! One HTTP request on a connection of its own.

use std::sync::Arc;

use bytes::Bytes;
use http_body_util::{BodyExt, Full, Limited};
use hyper::header::{self, HeaderMap};
use hyper::{Method, Request};
use hyper_util::rt::TokioIo;
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
    let Question {
        method,
        url,
        token,
        body,
        insecure,
    } = question;
    let host = url.host_str().unwrap_or_default();
    let port = url.port_or_known_default().unwrap_or(443);
    let tls = (url.scheme() == "https").then(|| Arc::new(crate::tls::client_config(insecure)));
    let (stream, _, _) = stream::connect(host, port, tls).await?;
    let fault = |error: &dyn std::fmt::Display| HttpError::Protocol(error.to_string());
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(|error| fault(&error))?;
    let connection = tokio::spawn(connection);
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
    connection.abort();
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body,
    })
}
