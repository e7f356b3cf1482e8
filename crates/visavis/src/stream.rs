//! TCP and TLS connections that ICE asks for: each has a task that reads and one that writes.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::AbortHandle;
use visavis_datagram::{Path, Protocol, Transmit};
use visavis_ice::Connect;
use visavis_net::tcp::{FrameReader, FrameWriter};
use visavis_stun::StreamFraming;

use crate::driver::{Key, Note};

/// How long a connection may take to open, TLS included.
const OPEN: Duration = Duration::from_secs(10);
/// Runs that wait for a slow stream; the newest are dropped beyond, as a full router would.
const WAITING: usize = 256;

/// The sending half of a stream. The stream ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Handle {
    path: Path,
    sender: mpsc::Sender<(Transmit, Vec<u8>)>,
    reader: AbortHandle,
}

impl Handle {
    /// Reads and writes a stream for the connection `key`.
    pub(crate) fn new<R, W>(
        key: Key,
        path: Path,
        mut reader: FrameReader<R>,
        mut writer: FrameWriter<W>,
        notes: mpsc::Sender<Note>,
    ) -> Self
    where
        R: AsyncRead + Send + Unpin + 'static,
        W: AsyncWrite + Send + Unpin + 'static,
    {
        let (sender, mut runs) = mpsc::channel::<(Transmit, Vec<u8>)>(WAITING);
        tokio::spawn(async move {
            // Ends when the handle is dropped, or the stream fails: then the reader tells.
            while let Some((transmit, bytes)) = runs.recv().await {
                if writer.write(&transmit, &bytes).await.is_err() {
                    break;
                }
            }
        });
        let task = tokio::spawn(async move {
            let mut frame = Vec::new();
            while let Ok(true) = reader.next(&mut frame).await {
                let note = Note::Frame {
                    key,
                    path,
                    frame: std::mem::take(&mut frame),
                };
                if notes.send(note).await.is_err() {
                    return;
                }
            }
            let _ = notes.send(Note::Disconnected { key, path }).await;
        });
        Self {
            path,
            sender,
            reader: task.abort_handle(),
        }
    }

    pub(crate) fn path(&self) -> Path {
        self.path
    }

    /// Queues a run; drops it if the stream is too slow.
    pub(crate) fn send(&self, transmit: &Transmit, bytes: &[u8]) {
        let _ = self.sender.try_send((*transmit, bytes.to_vec()));
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Opens a connection and tells the driver how it went.
pub(crate) async fn connect(
    key: Key,
    connect: Connect,
    tls: Option<Arc<rustls::ClientConfig>>,
    notes: mpsc::Sender<Note>,
) {
    let id = connect.id;
    let opened = tokio::time::timeout(OPEN, open(&connect, tls)).await;
    let note = match opened.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into())) {
        Ok((path, stream)) => {
            let framing = framing(connect.framing);
            let (reader, writer) = tokio::io::split(stream);
            let reader = FrameReader::new(reader, framing);
            let writer = FrameWriter::new(writer, framing);
            let stream = Handle::new(key, path, reader, writer, notes.clone());
            Note::Connected { key, id, stream }
        }
        Err(error) => {
            tracing::debug!(%error, remote = %connect.remote, "connection not opened");
            Note::ConnectFailed { key, id }
        }
    };
    // The driver may be gone.
    let _ = notes.send(note).await;
}

/// TLS with the Mozilla roots and RFC 7443's name for TURN.
pub(crate) fn default_tls() -> rustls::ClientConfig {
    let roots = rustls::RootCertStore {
        roots: webpki_roots::TLS_SERVER_ROOTS.to_vec(),
    };
    let mut config = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"stun.turn".to_vec()];
    config
}

trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

async fn open(
    connect: &Connect,
    tls: Option<Arc<rustls::ClientConfig>>,
) -> io::Result<(Path, Box<dyn Stream>)> {
    let stream = visavis_net::tcp::connect(connect.local, connect.remote).await?;
    let path = Path {
        protocol: connect.protocol,
        local: stream.local_addr()?,
        remote: connect.remote,
    };
    if connect.protocol != Protocol::Tls {
        return Ok((path, Box::new(stream)));
    }
    let config =
        tls.ok_or_else(|| io::Error::new(io::ErrorKind::Unsupported, "no TLS settings"))?;
    let name = match &connect.server_name {
        Some(name) => ServerName::try_from(name.to_string())
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?,
        None => ServerName::from(connect.remote.ip()),
    };
    let stream = tokio_rustls::TlsConnector::from(config)
        .connect(name, stream)
        .await?;
    Ok((path, Box::new(stream)))
}

fn framing(framing: visavis_ice::StreamFraming) -> StreamFraming {
    match framing {
        visavis_ice::StreamFraming::Rfc4571 => StreamFraming::Rfc4571,
        visavis_ice::StreamFraming::Turn => StreamFraming::Turn,
    }
}
