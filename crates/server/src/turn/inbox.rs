//! What reaches a worker from outside: from the control side, and from other workers.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustls::ServerConnection;
use visavis_datagram::{Ecn, Path};
use visavis_net::direct::ExchangeStats;
use visavis_turn::server::{AllocationId, AllocationInfo, ServerConfig, ServerStats};

use super::streams::StreamStats;

/// How many datagrams of other workers wait, at most; what comes beyond is dropped.
const MOST_WAITING: usize = 4096;

/// A stream that somebody accepted for a worker.
pub(super) struct HandedStream {
    pub(super) socket: TcpStream,
    pub(super) tls: Option<Box<ServerConnection>>,
    pub(super) path: Path,
    /// What was read of it, decrypted.
    pub(super) received: Vec<u8>,
}

/// What changes by a reload.
#[derive(Clone)]
pub(super) struct Reloaded {
    pub(super) core: ServerConfig,
    pub(super) gather: Duration,
    pub(super) tls: Option<Arc<rustls::ServerConfig>>,
    pub(super) dtls: Option<Arc<visavis_dtls::Config>>,
}

/// What a worker tells of itself.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Report {
    pub(super) core: ServerStats,
    pub(super) exchange: ExchangeStats,
    pub(super) streams: StreamStats,
    pub(super) allocations: usize,
    pub(super) users: usize,
    pub(super) free_ports: usize,
    pub(super) tcp_clients: usize,
    pub(super) dtls_clients: usize,
    pub(super) dtls_accepted: u64,
    pub(super) dtls_refused: u64,
    pub(super) passes: u64,
    pub(super) waits: u64,
    pub(super) handed_over: u64,
}

pub(super) enum Message {
    /// A client's datagram that another worker's socket received.
    Datagram {
        path: Path,
        ecn: Ecn,
        bytes: Vec<u8>,
        from: u8,
    },
    /// The datagrams of a client are another worker's from now on.
    Adopted {
        path: Path,
        by: u8,
    },
    Stream(Box<HandedStream>),
    Reload(Box<Reloaded>),
    Drain(bool),
    LookupDone {
        realm: String,
        username: String,
        password: Option<String>,
    },
    Report(Sender<(u8, Report)>),
    List {
        most: usize,
        to: Sender<(u8, AllocationInfo)>,
    },
    End {
        id: AllocationId,
        to: Sender<bool>,
    },
    /// Ends every allocation and the thread.
    Stop,
}

/// A bounded queue with a bell.
pub(super) struct Inbox {
    messages: Mutex<Vec<Message>>,
    waker: mio::Waker,
}

impl Inbox {
    pub(super) fn new(waker: mio::Waker) -> Self {
        Self {
            messages: Mutex::new(Vec::new()),
            waker,
        }
    }

    pub(super) fn send(&self, message: Message) {
        let mut messages = self.lock();
        if messages.len() >= MOST_WAITING && matches!(message, Message::Datagram { .. }) {
            return;
        }
        messages.push(message);
        let first = messages.len() == 1;
        drop(messages);
        if first && let Err(error) = self.waker.wake() {
            tracing::error!(%error, "a worker cannot be woken");
        }
    }

    pub(super) fn take(&self, into: &mut Vec<Message>) {
        std::mem::swap(&mut *self.lock(), into);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Message>> {
        self.messages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Where a stream goes from and to.
pub(super) fn stream_path(socket: &TcpStream, has_tls: bool) -> io::Result<Path> {
    let plain = |address: SocketAddr| SocketAddr::new(address.ip().to_canonical(), address.port());
    Ok(Path {
        protocol: super::streams::protocol(has_tls),
        local: plain(socket.local_addr()?),
        remote: plain(socket.peer_addr()?),
    })
}
