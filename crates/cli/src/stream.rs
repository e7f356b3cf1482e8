//! TCP and TLS connections to servers.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout_at};

/// How long connecting may take, TLS included.
pub(crate) const CONNECT: Duration = Duration::from_secs(10);

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

/// Connects; gives the local address with the stream.
pub(crate) async fn connect(
    host: &str,
    port: u16,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> Result<(Box<dyn Stream>, SocketAddr, SocketAddr), StreamError> {
    let deadline = Instant::now() + CONNECT;
    let bare = host.trim_start_matches('[').trim_end_matches(']');
    let unnamed = |reason: String| StreamError::Name {
        host: bare.to_owned(),
        reason,
    };
    // A name server that is silent is not a server that is silent: each has its own words.
    let addresses: Vec<SocketAddr> =
        match timeout_at(deadline, tokio::net::lookup_host((bare, port))).await {
            Ok(Ok(found)) => found.collect(),
            Ok(Err(error)) => return Err(unnamed(error.to_string())),
            Err(_) => return Err(unnamed("no name server answers".into())),
        };
    let connecting = async {
        let stream = TcpStream::connect(addresses.as_slice())
            .await
            .map_err(|error| StreamError::Connect(error.to_string()))?;
        let _ = stream.set_nodelay(true);
        let ends = stream
            .local_addr()
            .and_then(|local| Ok((local, stream.peer_addr()?)));
        let (local, remote) = ends.map_err(|error| StreamError::Connect(error.to_string()))?;
        let Some(config) = tls else {
            return Ok((Box::new(stream) as Box<dyn Stream>, local, remote));
        };
        let fault = |reason: String| StreamError::Tls(reason);
        let name = rustls::pki_types::ServerName::try_from(bare.to_owned())
            .map_err(|error| fault(error.to_string()))?;
        let stream = tokio_rustls::TlsConnector::from(config)
            .connect(name, stream)
            .await
            .map_err(|error| fault(error.to_string()))?;
        Ok((Box::new(stream) as Box<dyn Stream>, local, remote))
    };
    match timeout_at(deadline, connecting).await {
        Ok(result) => result,
        Err(_) => Err(StreamError::Connect("no answer within 10 s".into())),
    }
}
