//! The front listener: web, WebSocket, media over TCP and TURN on one port. What a connection is shows in
//! its first bytes (RFC 7983 does the same for datagrams), and within TLS in ALPN or the first bytes again.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{Router, body::Body};
use bytes::{Buf as _, Bytes, BytesMut};
use hyper::{Request, body::Incoming, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::server::Shared;

/// Connections at a time.
const MAX_CONNECTIONS: usize = 20_000;

/// How long a client may take to say what it wants, and for the handshake of TLS.
const PATIENCE: Duration = Duration::from_secs(10);

/// The bytes that tell STUN from framed STUN: a frame's length, a header, and the magic cookie.
const TELLING_BYTES: usize = 10;

/// STUN's magic cookie (RFC 8489, section 5).
const MAGIC_COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];

/// What a connection is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nature {
    /// TLS; what is within shows later.
    Tls,
    Http,
    /// STUN or TURN, without a frame (RFC 8656, section 3.1).
    Turn,
    /// Media in frames (RFC 4571), which begins with a connectivity check (RFC 6544).
    Media,
}

/// What the first bytes say; `None`: more are needed.
fn nature(first: &[u8]) -> Option<Nature> {
    match first {
        [] => None,
        // A handshake record (RFC 8446, section 5.1).
        [22, ..] => Some(Nature::Tls),
        [letter, ..] if letter.is_ascii_uppercase() => Some(Nature::Http),
        // ChannelData never comes first, so that only messages have to be told apart.
        bytes if bytes.len() < TELLING_BYTES => None,
        bytes if bytes[4..8] == MAGIC_COOKIE => Some(Nature::Turn),
        bytes if bytes[6..10] == MAGIC_COOKIE => Some(Nature::Media),
        // HTTP's errors are the ones that anybody can read.
        _ => Some(Nature::Http),
    }
}

/// A stream of which something was read already.
#[derive(Debug)]
pub(crate) struct Prefixed<S> {
    first: Bytes,
    stream: S,
}

impl<S> Prefixed<S> {
    /// The stream and what was read of it.
    pub(crate) fn into_parts(self) -> (S, Bytes) {
        (self.stream, self.first)
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Prefixed<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.first.is_empty() {
            return Pin::new(&mut self.stream).poll_read(context, buffer);
        }
        let length = self.first.len().min(buffer.remaining());
        buffer.put_slice(&self.first[..length]);
        self.first.advance(length);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Prefixed<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

/// Reads until the first bytes say what the connection is.
async fn tell<S: AsyncRead + Unpin>(mut stream: S) -> io::Result<(Nature, Prefixed<S>)> {
    let mut first = BytesMut::with_capacity(512);
    loop {
        if stream.read_buf(&mut first).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        if let Some(nature) = nature(&first) {
            return Ok((
                nature,
                Prefixed {
                    first: first.freeze(),
                    stream,
                },
            ));
        }
    }
}

/// Where a request came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Origin {
    /// The other end.
    pub(crate) remote: SocketAddr,
    /// Whether it came over TLS.
    pub(crate) secure: bool,
}

/// What the listener does with connections.
#[derive(Clone)]
pub(crate) struct Front {
    pub(crate) shared: Arc<Shared>,
    pub(crate) router: Router,
}

impl Front {
    /// Takes connections until `stop`.
    pub(crate) async fn run(self, listener: TcpListener, stop: CancellationToken) {
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = stop.cancelled() => return,
            };
            let (stream, remote) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Out of file descriptors, mostly: the next one would fail as well.
                    tracing::warn!("a connection could not be taken: {error}");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                metrics::counter!("visavis_connections_refused_total").increment(1);
                continue;
            };
            let front = self.clone();
            tokio::spawn(async move {
                if let Err(error) = front.take(stream, remote).await {
                    tracing::debug!("connection of {remote}: {error}");
                }
                drop(place);
            });
        }
    }

    async fn take(self, stream: TcpStream, remote: SocketAddr) -> io::Result<()> {
        let local = stream.local_addr()?;
        stream.set_nodelay(true)?;
        let origin = |secure| Origin { remote, secure };
        let (nature, stream) = within(tell(stream)).await?;
        match nature {
            Nature::Http => self.http(stream, origin(false)).await,
            Nature::Turn => {
                let (stream, first) = stream.into_parts();
                self.shared.accept_turn(stream, None, &first)
            }
            Nature::Media => {
                let (stream, first) = stream.into_parts();
                self.shared
                    .media
                    .sfu()
                    .accept_tcp(stream, first, local, remote);
                Ok(())
            }
            Nature::Tls => {
                let Some(tls) = self.shared.tls() else {
                    return Err(io::Error::other("TLS is off"));
                };
                let stream = within(TlsAcceptor::from(tls).accept(stream)).await?;
                match stream.get_ref().1.alpn_protocol() {
                    // The authority has seen what it wanted in the handshake.
                    Some(b"acme-tls/1") => return Ok(()),
                    Some(b"http/1.1") => {
                        return self.http(stream, origin(true)).await;
                    }
                    _ => {}
                }
                let (nature, stream) = within(tell(stream)).await?;
                match nature {
                    Nature::Turn => {
                        let (stream, received) = stream.into_parts();
                        let (stream, tls) = stream.into_inner();
                        // What came after the handshake was decrypted or is within `tls`.
                        let (stream, _) = stream.into_parts();
                        self.shared.accept_turn(stream, Some(tls), &received)?;
                    }
                    Nature::Media => {
                        let (stream, first) = stream.into_parts();
                        self.shared
                            .media
                            .sfu()
                            .accept_tcp(stream, first, local, remote);
                    }
                    Nature::Http | Nature::Tls => {
                        return self.http(stream, origin(true)).await;
                    }
                }
                Ok(())
            }
        }
    }

    async fn http(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        origin: Origin,
    ) -> io::Result<()> {
        let router = self.router.clone();
        let service = service_fn(move |mut request: Request<Incoming>| {
            request.extensions_mut().insert(origin);
            router.clone().oneshot(request.map(Body::new))
        });
        hyper::server::conn::http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(PATIENCE)
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades()
            .await
            .map_err(io::Error::other)
    }
}

async fn within<T>(work: impl Future<Output = io::Result<T>>) -> io::Result<T> {
    tokio::time::timeout(PATIENCE, work)
        .await
        .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_bytes_tell_what_a_connection_is() {
        assert_eq!(nature(b"GET / HTTP/1.1"), Some(Nature::Http));
        assert_eq!(nature(&[22, 3, 1, 2, 0]), Some(Nature::Tls));
        let allocate = [0, 3, 0, 8, 0x21, 0x12, 0xa4, 0x42, 1, 2, 3, 4];
        assert_eq!(nature(&allocate), Some(Nature::Turn));
        let framed = [0, 100, 0, 1, 0, 80, 0x21, 0x12, 0xa4, 0x42, 1, 2];
        assert_eq!(nature(&framed), Some(Nature::Media));
        assert_eq!(nature(&framed[..9]), None);
        assert_eq!(nature(&[]), None);
        assert_eq!(nature(&[0xff; 10]), Some(Nature::Http));
    }

    #[tokio::test]
    async fn a_connection_that_comes_byte_by_byte_is_told_and_loses_nothing() {
        use tokio::io::AsyncWriteExt as _;
        let framed = [0, 100, 0, 1, 0, 80, 0x21, 0x12, 0xa4, 0x42, 1, 2];
        let (mut client, server) = tokio::io::duplex(1);
        let write = tokio::spawn(async move { client.write_all(&framed).await });
        let (nature, mut stream) = tell(server).await.unwrap();
        assert_eq!(nature, Nature::Media);
        let mut read = Vec::new();
        stream.read_to_end(&mut read).await.unwrap();
        write.await.unwrap().unwrap();
        assert_eq!(read, framed);
    }
}
