//! The WebSocket to a rendezvous server, as host and as guest.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use url::Url;
use visavis_net::interface::{InterfaceFilter, addresses};

use super::host::ServerArgs;
use super::{Invitation, lan};
use crate::exit::Exit;
use crate::stream::{self, PATIENCE, Stream, StreamError};

/// The server is pinged when it was silent for so long.
const SILENCE: Duration = Duration::from_secs(45);
/// How long the answer to a ping may take.
const PONG: Duration = Duration::from_secs(5);
/// The same where there is a reason to think that the server cannot be reached any more.
const DOUBT: Duration = Duration::from_secs(1);
/// Messages that wait for one guest.
const QUEUE: usize = 256;

/// Why the server cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RendezvousError {
    #[error("{0:?} is no address of a server: use https://HOST[:PORT]")]
    Address(String),
    #[error("cannot reach {server}: {reason}")]
    Unreachable { server: String, reason: String },
    #[error(
        "cannot trust {server}: {reason}. If it is yours and has no public certificate, add --insecure: what you send stays encrypted end to end"
    )]
    Certificate { server: String, reason: String },
    #[error("{server} is no rendezvous server ({reason}): is it a `visavis serve`?")]
    NotOurs { server: String, reason: String },
    #[error("{message}")]
    Refused { code: String, message: String },
    #[error("the connection to the server was lost")]
    Lost,
    #[error(
        "nobody waits under this code on this network. If the other side is elsewhere, name the server that it uses: --server URL"
    )]
    NotOnLan,
    #[error(
        "this machine is on no network, or on none that carries multicast, so the two sides cannot find each other there. Name a server for both: --server URL"
    )]
    NoLan,
    #[error("cannot listen on this machine: {0}")]
    Listen(String),
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

impl RendezvousError {
    /// What a script is told.
    pub(crate) fn exit(&self) -> Exit {
        match self {
            Self::Address(_) => Exit::Usage,
            Self::Refused { .. } => Exit::Code,
            Self::Listen(_) | Self::Random(_) => Exit::Failure,
            _ => Exit::Unreachable,
        }
    }
}

/// A rendezvous server.
#[derive(Debug, Clone)]
pub(crate) struct Server {
    url: Url,
    insecure: bool,
}

impl Server {
    /// Takes `https://host`, `http://host:port`, or just `host[:port]`.
    pub(crate) fn parse(text: &str, insecure: bool) -> Result<Self, RendezvousError> {
        let fault = || RendezvousError::Address(text.to_owned());
        let full = if text.contains("://") {
            text.to_owned()
        } else {
            format!("https://{text}")
        };
        let url = Url::parse(&full).map_err(|_| fault())?;
        match url.scheme() {
            "http" | "https" if url.has_host() => Ok(Self { url, insecure }),
            _ => Err(fault()),
        }
    }

    /// As people and browsers write it, without a slash at the end.
    pub(crate) fn address(&self) -> &str {
        self.url.as_str().trim_end_matches('/')
    }

    /// The socket, and the address of ours that it stands on.
    async fn open(&self, query: &str) -> Result<(Socket, SocketAddr), RendezvousError> {
        let unreachable = |reason: String| RendezvousError::Unreachable {
            server: self.address().to_owned(),
            reason,
        };
        tracing::debug!(server = self.address(), "to the server");
        let host = self.url.host_str().unwrap_or_default();
        let secure = self.url.scheme() == "https";
        let port = self.url.port_or_known_default().unwrap_or(443);
        let tls = secure.then(|| Arc::new(crate::tls::client_config(self.insecure)));
        let (stream, local, _) =
            stream::connect(host, port, tls, PATIENCE)
                .await
                .map_err(|error| match error {
                    StreamError::Tls(reason) => RendezvousError::Certificate {
                        server: self.address().to_owned(),
                        reason,
                    },
                    error => unreachable(error.to_string()),
                })?;
        let scheme = if secure { "wss" } else { "ws" };
        let path = self.url.path().trim_end_matches('/');
        let request = format!("{scheme}://{host}:{port}{path}/api/rendezvous?{query}");
        let upgrade = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(PATIENCE, upgrade).await {
            Ok(Ok((socket, _))) => Ok((socket, local)),
            Ok(Err(error)) => Err(RendezvousError::NotOurs {
                server: self.address().to_owned(),
                reason: error.to_string(),
            }),
            Err(_) => Err(unreachable(stream::silent(PATIENCE))),
        }
    }
}

type Socket = WebSocketStream<Box<dyn Stream>>;

/// What the server says.
#[derive(Debug, Deserialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
enum FromServer {
    Slot {
        slot: String,
        ice_servers: Vec<visavis_server::rendezvous::IceServer>,
    },
    Joined {
        ice_servers: Vec<visavis_server::rendezvous::IceServer>,
    },
    Guest {
        guest: u32,
    },
    Message {
        guest: Option<u32>,
        message: Value,
    },
    Left {
        guest: Option<u32>,
    },
    Error {
        code: String,
        message: String,
    },
}

/// One peer at the rendezvous: messages pass both ways until it leaves.
#[derive(Debug)]
pub(crate) struct Correspondent {
    guest: Option<u32>,
    /// Where the socket to the server stands.
    local: SocketAddr,
    inbox: mpsc::Receiver<Value>,
    outbox: mpsc::Sender<(Option<u32>, Option<Value>)>,
}

impl Correspondent {
    /// The next message; `None` when the peer left or the server is gone.
    pub(crate) async fn recv(&mut self) -> Option<Value> {
        self.inbox.recv().await
    }

    /// The address that the server was reached from is no longer ours.
    pub(crate) fn is_cut_off(&self) -> bool {
        is_gone(self.local)
    }

    /// Sends a message; nothing happens if the peer has left.
    pub(crate) async fn send(&self, message: Value) {
        let _ = self.outbox.send((self.guest, Some(message))).await;
    }
}

impl Drop for Correspondent {
    fn drop(&mut self) {
        // The server forgets a guest that is dropped, and the socket of one that drops its host.
        let _ = self.outbox.try_send((self.guest, None));
    }
}

/// Whether no interface has the address any more. A stream that stands on it is dead, which TCP alone notices late.
fn is_gone(local: SocketAddr) -> bool {
    let mut all = InterfaceFilter::default();
    (all.loopback, all.link_local) = (true, true);
    addresses(&all).is_ok_and(|known| known.iter().all(|known| known.ip != local.ip()))
}

/// A slot that this process holds.
#[derive(Debug)]
pub(crate) struct Host {
    /// The slot's number.
    pub(crate) slot: String,
    /// ICE servers that the server recommends.
    pub(crate) ice_servers: Vec<visavis::IceServer>,
    local: SocketAddr,
    guests: mpsc::Receiver<Correspondent>,
    checks: mpsc::Sender<()>,
}

impl Host {
    /// Takes a slot: the wanted one, or a free one. `key` proves later that it is ours.
    pub(crate) async fn open(
        server: &Server,
        key: &str,
        wanted: Option<&str>,
    ) -> Result<Self, RendezvousError> {
        let query = match wanted {
            Some(slot) => format!("host={key}&slot={slot}"),
            None => format!("host={key}"),
        };
        let (mut socket, local) = server.open(&query).await?;
        match welcome(&mut socket).await? {
            FromServer::Slot { slot, ice_servers } => {
                let (sender, guests) = mpsc::channel(QUEUE);
                let (checks, asked) = mpsc::channel(1);
                tokio::spawn(attend(socket, local, sender, asked));
                Ok(Self {
                    slot,
                    local,
                    checks,
                    ice_servers: ice_servers.into_iter().map(ice_server).collect(),
                    guests,
                })
            }
            _ => Err(RendezvousError::Lost),
        }
    }

    /// Asks the server whether it is there; if it does not answer soon, there are no more guests.
    pub(crate) fn check(&self) {
        let _ = self.checks.try_send(());
    }

    /// The address that the server was reached from is no longer ours.
    pub(crate) fn is_cut_off(&self) -> bool {
        is_gone(self.local)
    }

    /// The next guest; `None` when the server is gone. Cancel-safe.
    pub(crate) async fn next_guest(&mut self) -> Option<Correspondent> {
        self.guests.recv().await
    }
}

/// The server that a guest is to go to: the one in its link, the one that is named, or the host itself on this network.
pub(crate) async fn find(
    args: &ServerArgs,
    invitation: &Invitation,
) -> Result<Server, RendezvousError> {
    match invitation {
        Invitation::Link(link) => Server::parse(&link.server, args.insecure),
        Invitation::Code(code) => match args.server()? {
            Some(server) => Ok(server),
            None => lan::find(&code.slot).await,
        },
    }
}

/// Joins a slot.
pub(crate) async fn join(
    server: &Server,
    slot: &str,
) -> Result<(Correspondent, Vec<visavis::IceServer>), RendezvousError> {
    let (mut socket, local) = server.open(&format!("slot={slot}")).await?;
    match welcome(&mut socket).await? {
        FromServer::Joined { ice_servers } => {
            let (sender, mut hosts) = mpsc::channel(1);
            tokio::spawn(attend_as_guest(socket, local, sender));
            let host = hosts.recv().await.ok_or(RendezvousError::Lost)?;
            Ok((host, ice_servers.into_iter().map(ice_server).collect()))
        }
        _ => Err(RendezvousError::Lost),
    }
}

/// As connections take it.
pub(crate) fn ice_server(server: visavis_server::rendezvous::IceServer) -> visavis::IceServer {
    visavis::IceServer {
        urls: server.urls,
        username: server.username,
        credential: server.credential,
    }
}

async fn welcome(socket: &mut Socket) -> Result<FromServer, RendezvousError> {
    let first = tokio::time::timeout(PATIENCE, next(socket, &mut Pulse::new())).await;
    match first.ok().flatten() {
        Some(FromServer::Error { code, message }) => {
            Err(RendezvousError::Refused { code, message })
        }
        Some(message) => Ok(message),
        None => Err(RendezvousError::Lost),
    }
}

/// Whether the server is there: it is asked when it was silent for long, or when somebody doubts it.
struct Pulse {
    /// When it is asked; once it was, when it is given up.
    due: Instant,
    asked: bool,
}

impl Pulse {
    fn new() -> Self {
        Self {
            due: Instant::now() + SILENCE,
            asked: false,
        }
    }

    /// Asks for a sign of life.
    async fn ask(&mut self, socket: &mut Socket, patience: Duration) -> Option<()> {
        let due = Instant::now() + patience;
        if self.asked {
            self.due = self.due.min(due);
            return Some(());
        }
        (self.due, self.asked) = (due, true);
        socket.send(Message::Ping(bytes::Bytes::new())).await.ok()
    }
}

/// The next message that makes sense; `None` when there will be none.
async fn next(socket: &mut Socket, pulse: &mut Pulse) -> Option<FromServer> {
    loop {
        let Ok(heard) = tokio::time::timeout_at(pulse.due, socket.next()).await else {
            if pulse.asked {
                return None;
            }
            pulse.ask(socket, PONG).await?;
            continue;
        };
        *pulse = Pulse::new();
        match heard {
            Some(Ok(Message::Text(text))) => return serde_json::from_str(&text).ok(),
            Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            _ => return None,
        }
    }
}

/// Serves a host's socket until the server or the host is gone.
async fn attend(
    mut socket: Socket,
    local: SocketAddr,
    new: mpsc::Sender<Correspondent>,
    mut checks: mpsc::Receiver<()>,
) {
    let (outbox, mut out) = mpsc::channel::<(Option<u32>, Option<Value>)>(QUEUE);
    let mut guests: HashMap<u32, mpsc::Sender<Value>> = HashMap::new();
    let mut pulse = Pulse::new();
    loop {
        tokio::select! {
            heard = next(&mut socket, &mut pulse) => match heard {
                Some(FromServer::Guest { guest }) => {
                    let (sender, inbox) = mpsc::channel(QUEUE);
                    guests.insert(guest, sender);
                    let correspondent = Correspondent { guest: Some(guest), local, inbox, outbox: outbox.clone() };
                    if new.try_send(correspondent).is_err() {
                        guests.remove(&guest);
                    }
                }
                Some(FromServer::Message { guest: Some(guest), message }) => {
                    if guests.get(&guest).is_some_and(|inbox| inbox.try_send(message).is_err()) {
                        guests.remove(&guest);
                    }
                }
                Some(FromServer::Left { guest: Some(guest) }) => drop(guests.remove(&guest)),
                Some(_) => {}
                None => return,
            },
            Some((guest, message)) = out.recv() => {
                let text = match message {
                    Some(message) => serde_json::json!({ "to": guest, "message": message }),
                    None => serde_json::json!({ "drop": guest }),
                };
                if socket.send(Message::text(text.to_string())).await.is_err() {
                    return;
                }
            }
            Some(()) = checks.recv() => {
                if pulse.ask(&mut socket, DOUBT).await.is_none() {
                    return;
                }
            }
            () = new.closed() => {
                let _ = socket.close(None).await;
                return;
            }
        }
    }
}

/// Serves a guest's socket until the server, the host or the guest is gone.
async fn attend_as_guest(mut socket: Socket, local: SocketAddr, new: mpsc::Sender<Correspondent>) {
    let (outbox, mut out) = mpsc::channel::<(Option<u32>, Option<Value>)>(QUEUE);
    let (sender, inbox) = mpsc::channel(QUEUE);
    let host = Correspondent {
        guest: None,
        local,
        inbox,
        outbox,
    };
    if new.send(host).await.is_err() {
        return;
    }
    let mut pulse = Pulse::new();
    loop {
        tokio::select! {
            heard = next(&mut socket, &mut pulse) => match heard {
                Some(FromServer::Message { message, .. }) => {
                    if sender.try_send(message).is_err() {
                        return;
                    }
                }
                _ => return,
            },
            said = out.recv() => match said {
                Some((_, Some(message))) => {
                    let text = serde_json::json!({ "message": message }).to_string();
                    if socket.send(Message::text(text)).await.is_err() {
                        return;
                    }
                }
                _ => {
                    let _ = socket.close(None).await;
                    return;
                }
            },
        }
    }
}
