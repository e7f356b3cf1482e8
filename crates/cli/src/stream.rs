//! TCP and TLS connections to servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// How long one step may take where nobody waits for a diagnosis: a name, a connection with its TLS, an answer.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A stream of bytes, whatever protects it.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<T: AsyncRead + AsyncWrite + Unpin + Send> Stream for T {}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StreamError {
    #[error("the name {host} has no address ({reason})")]
    Name { host: String, reason: String },
    #[error("no connection ({0})")]
    Connect(String),
    #[error("{0}")]
    Tls(String),
}

/// What is said of who does not answer.
pub(crate) fn silent(patience: Duration) -> String {
    format!("no answer within {} s", patience.as_secs())
}

/// A host as names and addresses are written outside of URLs, which put IPv6 addresses in brackets.
pub(crate) fn bare(host: &str) -> &str {
    host.trim_start_matches('[').trim_end_matches(']')
}

/// The addresses of a name, or of an address in text.
pub(crate) async fn resolve(
    host: &str,
    port: u16,
    patience: Duration,
) -> Result<Vec<SocketAddr>, StreamError> {
    let host = bare(host);
    // A name server that is silent is not a server that is silent: each has its own words.
    let reason = match timeout(patience, tokio::net::lookup_host((host, port))).await {
        Ok(Ok(found)) => return Ok(found.collect()),
        Ok(Err(error)) => error.to_string(),
        Err(_) => "no name server answers".to_owned(),
    };
    Err(StreamError::Name {
        host: host.to_owned(),
        reason,
    })
}

/// A stream, its local and its remote address.
type Opened = (Box<dyn Stream>, SocketAddr, SocketAddr);

/// Connects. The name may take as long as `patience`, and the connection with its TLS as long again.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
    patience: Duration,
) -> Result<Opened, StreamError> {
    let addresses = resolve(host, port, patience).await?;
    match timeout(patience, open(&addresses, host, tls)).await {
        Ok(result) => result,
        Err(_) => Err(StreamError::Connect(silent(patience))),
    }
}

/// Connects to the first of the addresses that answers, however long it takes.
pub(crate) async fn open(
    addresses: &[SocketAddr],
    host: &str,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<Opened, StreamError> {
    let stream = TcpStream::connect(addresses)
        .await
        .map_err(|error| StreamError::Connect(error.to_string()))?;
    let _ = stream.set_nodelay(true);
    let ends = stream
        .local_addr()
        .and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, remote) = ends.map_err(|error| StreamError::Connect(error.to_string()))?;
    let Some(config) = tls else {
        return Ok((Box::new(stream), local, remote));
    };
    let fault = |reason: String| StreamError::Tls(reason);
    let name = rustls::pki_types::ServerName::try_from(bare(host).to_owned())
        .map_err(|error| fault(error.to_string()))?;
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await
        .map_err(|error| fault(error.to_string()))?;
    Ok((Box::new(stream), local, remote))
}
