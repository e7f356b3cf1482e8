//! A connection that outlives the networks it was made over: signalling stays open beside it, so that candidates of new addresses
//! reach the peer and ICE is restarted as soon as the way is lost (RFC 8445 section 9). Where the server is lost with the
//! network, the side that lost it goes there again: the host takes its slot back, the guest comes back to its session.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep, sleep_until};
use visavis::{ConnectionState, Event, IceCandidate, PeerConnection};
use visavis_net::interface::{InterfaceFilter, InterfaceWatcher};

use super::Invitation;
use super::client::{self, RendezvousError};
use super::connect::{ConnectError, Signalling, come_back};
use super::host::ServerArgs;

/// How long a connection may be without its peer before it is given up.
const PATIENCE: Duration = Duration::from_secs(12);
/// How long the host may be silent by signalling that seems to be open when the way is lost, before a guest goes to the server anew.
const ANSWER: Duration = Duration::from_secs(1);
/// How long a restart of ICE may take that the two speak about, before a guest does the same.
const RESTART: Duration = Duration::from_secs(3);
/// How long a guest waits before it goes to the server again: at first, and at most.
const RETRY: [Duration; 2] = [Duration::from_millis(100), Duration::from_secs(5)];

/// This machine's addresses.
#[derive(Debug)]
pub(crate) struct Interfaces(Option<InterfaceWatcher>);

impl Interfaces {
    pub(crate) fn watch() -> Self {
        Self(InterfaceWatcher::new(InterfaceFilter::default()).ok())
    }

    /// Waits until some come or go: for ever, where the system does not tell. Cancel-safe.
    pub(crate) async fn changed(&mut self) {
        if let Some(watcher) = &mut self.0 {
            match watcher.changed().await {
                Ok(_) => return,
                Err(_) => self.0 = None,
            }
        }
        std::future::pending().await
    }
}

/// A guest that came back, and who is to be told once it has shown that it knows the secret.
type Return = (Signalling, oneshot::Sender<()>);

/// The connections of a host that guests can come back to.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sessions(Arc<Mutex<HashMap<String, mpsc::Sender<Return>>>>);

impl Sessions {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, mpsc::Sender<Return>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether there is one of that name.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.lock().contains_key(name)
    }

    /// Hands a guest's signalling over to its session. False if it did not know the secret; `true` also when there is nothing
    /// left to come back to.
    pub(crate) async fn welcome(&self, name: &str, signalling: Signalling) -> bool {
        let session = self.lock().get(name).cloned();
        let Some(session) = session else { return true };
        let (known, shown) = oneshot::channel();
        if session.send((signalling, known)).await.is_err() {
            return true;
        }
        shown.await.is_ok()
    }
}

/// What this side can do when the way to its peer is lost.
pub(crate) enum Role {
    /// A host, whose guests come back. `doubts` hears when the server is worth a look.
    Host {
        sessions: Sessions,
        doubts: mpsc::Sender<()>,
    },
    /// A guest, which finds its host as it did before.
    Guest {
        server: ServerArgs,
        invitation: Invitation,
    },
    /// Nothing but what signalling can do that is still open.
    Plain,
}

/// A connection that is being kept. Dropped, it is left to itself.
#[derive(Debug)]
pub(crate) struct Kept(tokio::task::JoinHandle<()>);

impl Drop for Kept {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Keeps a connection until its peer is gone for good; then it is closed, so that whoever waits on a channel of it wakes up.
/// `session`: what guests come back to, where the host knows them then.
pub(crate) fn keep(
    connection: PeerConnection,
    signalling: Signalling,
    session: Option<String>,
    role: Role,
) -> Kept {
    let (sender, returns) = mpsc::channel(1);
    let registered = match (&role, &session) {
        (Role::Host { sessions, .. }, Some(name)) => {
            sessions.lock().insert(name.clone(), sender);
            Some((sessions.clone(), name.clone()))
        }
        _ => None,
    };
    let keeper = Keeper {
        connection,
        signalling,
        session,
        role,
        reachable: true,
        untold: false,
        shown: None,
        lost: None,
        doubt: None,
        coming: None,
        _registered: Registered(registered),
    };
    Kept(tokio::spawn(keeper.run(returns)))
}

struct Registered(Option<(Sessions, String)>);

impl Drop for Registered {
    fn drop(&mut self) {
        if let Some((sessions, name)) = &self.0 {
            sessions.lock().remove(name);
        }
    }
}

/// A guest on its way to the server: `None` if its session is no more.
type Coming = Pin<Box<dyn Future<Output = Option<Signalling>> + Send>>;

struct Keeper {
    connection: PeerConnection,
    signalling: Signalling,
    session: Option<String>,
    role: Role,
    /// Signalling is open, as far as is known.
    reachable: bool,
    /// Candidates or descriptions may not have reached the peer: nothing was heard from it since.
    untold: bool,
    /// Waits for a guest that came back to show that it knows the secret.
    shown: Option<oneshot::Sender<()>>,
    /// Since when there is no way to the peer.
    lost: Option<Instant>,
    /// When a guest goes to the server anew, if there is still no way then.
    doubt: Option<Instant>,
    coming: Option<Coming>,
    _registered: Registered,
}

impl Keeper {
    async fn run(mut self, mut returns: mpsc::Receiver<Return>) {
        let mut interfaces = Interfaces::watch();
        loop {
            let given_up = self.lost.map(|lost| lost + PATIENCE);
            let doubt = self.doubt.filter(|_| self.coming.is_none());
            tokio::select! {
                event = self.connection.next_event() => match event {
                    Some(Event::IceCandidate(candidate)) => self.tell(candidate).await,
                    Some(Event::ConnectionState(state)) => {
                        tracing::debug!(?state, "connection");
                        match state {
                            ConnectionState::Failed | ConnectionState::Closed => break,
                            ConnectionState::Connected => (self.lost, self.doubt) = (None, None),
                            ConnectionState::Disconnected => self.lose().await,
                            _ => {}
                        }
                    }
                    Some(Event::Other(event)) => tracing::debug!(?event, "connection"),
                    Some(_) => {}
                    None => break,
                },
                said = self.signalling.recv(), if self.reachable => match said {
                    Some(said) => self.hear(&said).await,
                    None => {
                        tracing::debug!("signalling is lost");
                        self.reachable = false;
                        self.go_back();
                    }
                },
                Some((signalling, shown)) = returns.recv() => {
                    tracing::debug!("the guest comes back");
                    (self.signalling, self.shown, self.reachable) = (signalling, Some(shown), true);
                    self.resume().await;
                }
                back = come(&mut self.coming) => match back {
                    Some(signalling) => {
                        (self.signalling, self.reachable) = (signalling, true);
                        self.resume().await;
                    }
                    None => self.session = None,
                },
                // The rest is ICE's: it tells the candidates of what was added, and the loss of what was removed.
                () = interfaces.changed() => if self.signalling.is_cut_off() || self.coming.is_some() {
                    self.go_back();
                },
                () = at(doubt) => self.go_back(),
                () = at(given_up) => break,
            }
        }
        self.connection.close();
    }

    /// There is no way to the peer any more.
    async fn lose(&mut self) {
        if self.lost.is_some() {
            return;
        }
        let now = Instant::now();
        (self.lost, self.doubt) = (Some(now), Some(now + ANSWER));
        if let Role::Host { doubts, .. } = &self.role {
            let _ = doubts.try_send(());
        }
        self.restart().await;
    }

    /// The two speak again: about a new way, if the one that they have is lost, or if there may be a better one.
    async fn resume(&mut self) {
        self.heard();
        if self.untold || self.connection.connection_state() != ConnectionState::Connected {
            self.restart().await;
        }
    }

    /// The peer is there; what it says may lead to a way.
    fn heard(&mut self) {
        self.doubt = self.lost.map(|_| Instant::now() + RESTART);
    }

    async fn tell(&mut self, candidate: Option<IceCandidate>) {
        if self.reachable && self.coming.is_none() && !self.signalling.is_cut_off() {
            self.signalling.send_candidate(candidate).await;
        } else {
            self.untold = true;
        }
    }

    async fn restart(&mut self) {
        tracing::debug!(reachable = self.reachable, "ICE is to restart");
        self.untold = true;
        // A connection that cannot be restarted runs into the end of patience.
        if let Err(error) = self.signalling.restart(&self.connection).await {
            tracing::debug!(%error, "ICE is not restarted");
        }
    }

    async fn hear(&mut self, said: &serde_json::Value) {
        self.heard();
        self.untold = false;
        match self.signalling.take(&self.connection, said).await {
            Ok(()) if self.signalling.authenticated => {
                if let Some(shown) = self.shown.take() {
                    let _ = shown.send(());
                }
            }
            Ok(()) => {}
            Err(error) => {
                tracing::debug!(%error, "signalling ends");
                self.reachable = false;
            }
        }
    }

    /// A guest goes to the server anew, at once.
    fn go_back(&mut self) {
        self.doubt = None;
        if let (Role::Guest { server, invitation }, Some(session)) = (&self.role, &self.session) {
            let (server, invitation) = (server.clone(), invitation.clone());
            let session = session.clone();
            tracing::debug!("goes back to the server");
            self.coming = Some(Box::pin(come_again(server, invitation, session)));
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

async fn come(coming: &mut Option<Coming>) -> Option<Signalling> {
    let back = match coming {
        Some(coming) => coming.await,
        None => std::future::pending().await,
    };
    *coming = None;
    back
}

async fn come_again(
    server: ServerArgs,
    invitation: Invitation,
    session: String,
) -> Option<Signalling> {
    let mut pause = RETRY[0];
    loop {
        sleep(pause).await;
        pause = RETRY[1].min(pause * 2);
        let host = match client::find(&server, &invitation).await {
            Ok(server) => client::join(&server, invitation.slot()).await,
            Err(error) => Err(error),
        };
        let host = match host {
            Ok((host, _)) => host,
            // It may come back too.
            Err(RendezvousError::Refused { code, .. }) if code != "host-away" => return None,
            Err(error) => {
                tracing::debug!(%error, "no way to the server");
                continue;
            }
        };
        match come_back(invitation.slot(), invitation.secret(), host, &session).await {
            Ok(signalling) => {
                tracing::debug!(known = signalling.is_some(), "the guest came back");
                return signalling;
            }
            Err(ConnectError::WrongCode(_)) => return None,
            Err(error) => tracing::debug!(%error, "the host does not answer"),
        }
    }
}
