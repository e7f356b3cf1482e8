//! From a correspondent at the rendezvous to a peer connection whose fingerprints are authenticated.
//!
//! The guest speaks first: `{"version":1,"by":"code"|"link","share"}`; the host answers with its share;
//! from then on both send `{"sealed"}`, which hold `{"description":{"type","sdp"}}` or `{"candidate"}`.
//! The host offers, with one data channel. Whoever cannot open what it gets says `{"wrong":true}`. Doctors also send `{"about"}`,
//! what each knows of its network; what is not understood of what was sealed is passed over.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use visavis::{
    ChannelOptions, Configuration, ConnectionState, DataChannel, Description, Endpoint, Event,
    IceCandidate, IceServer, PeerConnection, SdpType,
};
use visavis_peer::Event as PeerEvent;

use super::client::Correspondent;
use super::host::Guest;
use super::seal::{Exchange, Seal, Secret, Side, WrongCode};

/// How long a peer may take for its share of the key, and for its description.
const ANSWER: Duration = Duration::from_secs(30);
/// How long the connection may take to come up once descriptions are exchanged.
const CONNECT: Duration = Duration::from_secs(40);

/// Why no connection came of it.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error(transparent)]
    WrongCode(#[from] WrongCode),
    #[error("the other side left")]
    Left,
    #[error("the other side does not answer")]
    Silent,
    #[error("the other side speaks another version of this: update both")]
    Version,
    #[error("no way was found between the two sides. {0}")]
    NoPath(NoPath),
    #[error("WebRTC: {0}")]
    WebRtc(#[from] visavis::Error),
    #[error("no randomness: {0}")]
    Random(#[from] getrandom::Error),
}

/// What is known of two sides that found no way.
#[derive(Debug, Clone)]
pub(crate) struct NoPath {
    /// In one paragraph, by the candidates alone.
    pub(crate) words: String,
    /// What the other side told of its network.
    pub(crate) theirs: Option<About>,
}

impl std::fmt::Display for NoPath {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.words)
    }
}

/// What one side knows of its network, for the other side to explain a failure with. `None`: it could not be found out.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct About {
    /// UDP passes.
    pub(crate) udp: Option<bool>,
    /// The NAT's mapping depends on the destination ("symmetric").
    pub(crate) symmetric: Option<bool>,
    /// The NAT lets in only whom something was sent to at that address and port.
    pub(crate) port_restricted: Option<bool>,
    /// A relay was reached.
    pub(crate) relay: bool,
}

/// This side of a pairing.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) endpoint: &'a Endpoint,
    /// Told to the other side.
    pub(crate) about: Option<About>,
}

impl<'a> From<&'a Endpoint> for Own<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        Self {
            endpoint,
            about: None,
        }
    }
}

/// Two ends that know each other.
#[derive(Debug)]
pub(crate) struct Paired {
    /// The connection.
    pub(crate) connection: PeerConnection,
    /// The data channel, open.
    pub(crate) channel: DataChannel,
    /// The way between them, in words.
    pub(crate) path: Option<String>,
}

/// What a host hands out.
#[derive(Clone)]
pub(crate) struct HostSecrets {
    /// The code's words.
    pub(crate) words: String,
    /// The link's secret.
    pub(crate) link: [u8; 16],
}

#[derive(Serialize, Deserialize)]
struct Hello {
    version: u32,
    by: By,
    share: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum By {
    Code,
    Link,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Signal {
    Description {
        #[serde(rename = "type")]
        kind: String,
        sdp: String,
    },
    /// `None` for the end of candidates.
    Candidate(Option<Candidate>),
    About(About),
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Candidate {
    candidate: String,
    sdp_mid: Option<String>,
    #[serde(rename = "sdpMLineIndex")]
    sdp_mline_index: Option<u16>,
    username_fragment: Option<String>,
}

impl From<IceCandidate> for Candidate {
    fn from(candidate: IceCandidate) -> Self {
        Self {
            candidate: candidate.candidate,
            sdp_mid: candidate.sdp_mid,
            sdp_mline_index: candidate.sdp_mline_index,
            username_fragment: candidate.username_fragment,
        }
    }
}

impl From<Candidate> for IceCandidate {
    fn from(candidate: Candidate) -> Self {
        Self {
            candidate: candidate.candidate,
            sdp_mid: candidate.sdp_mid,
            sdp_mline_index: candidate.sdp_mline_index,
            username_fragment: candidate.username_fragment,
        }
    }
}

/// The host's side. A guest that does not know the secret gives [`ConnectError::WrongCode`].
pub(crate) async fn host<'a>(
    own: impl Into<Own<'a>>,
    secrets: &HostSecrets,
    label: &str,
    guest: Guest,
) -> Result<Paired, ConnectError> {
    let Own { endpoint, about } = own.into();
    let Guest {
        correspondent: mut guest,
        slot,
        ice_servers,
    } = guest;
    let first = receive(&mut guest).await?;
    let hello: Hello = serde_json::from_value(first).map_err(|_| ConnectError::Version)?;
    if hello.version != 1 {
        return Err(ConnectError::Version);
    }
    let secret = match hello.by {
        By::Code => Secret::Words(&secrets.words),
        By::Link => Secret::Link(&secrets.link),
    };
    let exchange = Exchange::start(Side::Host, &slot, secret)?;
    guest.send(json!({ "share": exchange.share() })).await;
    let seal = exchange.finish(&hello.share)?;
    let connection = connection(endpoint, &ice_servers)?;
    let channel = connection.create_data_channel(label, ChannelOptions::default())?;
    connection.set_local_description(None).await?;
    let mut signalling = Signalling::new(guest, seal);
    signalling.introduce(about).await;
    signalling.send_description(&connection).await;
    let opened = signalling
        .run(&connection, async { channel.opened().await })
        .await;
    // Who was given something sealed and never showed that it could be opened has had a guess, whatever
    // was said on leaving.
    if opened.is_err() && !signalling.authenticated {
        return Err(WrongCode.into());
    }
    opened?;
    Ok(Paired {
        connection,
        channel,
        path: signalling.path,
    })
}

/// The guest's side.
pub(crate) async fn guest<'a>(
    own: impl Into<Own<'a>>,
    ice_servers: &[IceServer],
    slot: &str,
    secret: Secret<'_>,
    host: Correspondent,
) -> Result<Paired, ConnectError> {
    let Own { endpoint, about } = own.into();
    let mut host = host;
    let exchange = Exchange::start(Side::Guest, slot, secret)?;
    let by = match secret {
        Secret::Words(_) => By::Code,
        Secret::Link(_) => By::Link,
    };
    let hello = Hello {
        version: 1,
        by,
        share: exchange.share(),
    };
    host.send(json!(hello)).await;
    let answer = receive(&mut host).await?;
    let share = answer["share"].as_str().ok_or(ConnectError::Version)?;
    let seal = exchange.finish(share)?;
    let connection = connection(endpoint, ice_servers)?;
    let mut signalling = Signalling::new(host, seal);
    signalling.introduce(about).await;
    let (channel, mut channels) = tokio::sync::oneshot::channel();
    signalling.channel = Some(channel);
    let channel = signalling
        .run(&connection, async {
            let channel: DataChannel = (&mut channels).await.map_err(|_| visavis::Error::Closed)?;
            channel.opened().await?;
            Ok(channel)
        })
        .await?;
    Ok(Paired {
        connection,
        channel,
        path: signalling.path,
    })
}

fn connection(
    endpoint: &Endpoint,
    ice_servers: &[IceServer],
) -> Result<PeerConnection, visavis::Error> {
    endpoint.peer_connection(Configuration {
        ice_servers: ice_servers.to_vec(),
        ..Configuration::default()
    })
}

async fn receive(correspondent: &mut Correspondent) -> Result<Value, ConnectError> {
    match tokio::time::timeout(ANSWER, correspondent.recv()).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(ConnectError::Left),
        Err(_) => Err(ConnectError::Silent),
    }
}

/// Passes descriptions and candidates, sealed, until the connection is up.
struct Signalling {
    correspondent: Correspondent,
    seal: Seal,
    /// Takes the channel that the peer opens.
    channel: Option<tokio::sync::oneshot::Sender<DataChannel>>,
    /// The peer has sealed something with our key.
    authenticated: bool,
    /// The pair of candidates that is used.
    path: Option<String>,
    /// Candidates that came before the description they belong to.
    early: Vec<IceCandidate>,
    /// What the peer told of its network.
    theirs: Option<About>,
}

impl Signalling {
    fn new(correspondent: Correspondent, seal: Seal) -> Self {
        Self {
            correspondent,
            seal,
            channel: None,
            authenticated: false,
            path: None,
            early: Vec::new(),
            theirs: None,
        }
    }

    async fn introduce(&mut self, about: Option<About>) {
        if let Some(about) = about {
            self.send(&Signal::About(about)).await;
        }
    }

    fn no_path(&self, connection: &PeerConnection) -> ConnectError {
        ConnectError::NoPath(NoPath {
            words: explain(connection),
            theirs: self.theirs,
        })
    }

    async fn send(&mut self, signal: &Signal) {
        let plain = serde_json::to_vec(signal).unwrap_or_default();
        let sealed = self.seal.seal(&plain);
        self.correspondent.send(json!({ "sealed": sealed })).await;
    }

    async fn send_description(&mut self, connection: &PeerConnection) {
        if let Some(Description { kind, sdp }) = connection.local_description() {
            let kind = if kind == SdpType::Offer {
                "offer"
            } else {
                "answer"
            };
            let signal = Signal::Description {
                kind: kind.into(),
                sdp,
            };
            self.send(&signal).await;
        }
    }

    async fn run<T>(
        &mut self,
        connection: &PeerConnection,
        until: impl Future<Output = Result<T, visavis::Error>>,
    ) -> Result<T, ConnectError> {
        tokio::pin!(until);
        let deadline = tokio::time::sleep(ANSWER + CONNECT);
        tokio::pin!(deadline);
        let mut reachable = true;
        loop {
            tokio::select! {
                done = &mut until => return done.map_err(|error| {
                    // The channel may notice before the event is here.
                    match connection.connection_state() {
                        ConnectionState::Failed => self.no_path(connection),
                        _ => error.into(),
                    }
                }),
                event = connection.next_event() => match event {
                    Some(Event::IceCandidate(candidate)) => {
                        self.send(&Signal::Candidate(candidate.map(Into::into))).await;
                    }
                    Some(Event::DataChannel(channel)) => {
                        if let Some(taker) = self.channel.take() {
                            let _ = taker.send(channel);
                        }
                    }
                    Some(Event::Other(PeerEvent::SelectedPair(pair))) => {
                        let (local, remote) = (pair.local.kind, pair.remote.kind);
                        let (local, remote) = (kind(local.as_str()), kind(remote.as_str()));
                        let addresses = (pair.path.local, pair.path.remote);
                        self.path = Some(format!(
                            "this side {local} ({}), the other side {remote} ({}), by {:?}",
                            addresses.0, addresses.1, pair.path.protocol,
                        ));
                    }
                    Some(Event::ConnectionState(ConnectionState::Failed)) | None => {
                        return Err(self.no_path(connection));
                    }
                    Some(_) => {}
                },
                message = self.correspondent.recv(), if reachable => match message {
                    Some(message) => self.take(connection, &message).await?,
                    // Once descriptions are exchanged the server is not needed any more.
                    None if connection.remote_description().is_some() => reachable = false,
                    None => return Err(ConnectError::Left),
                },
                () = &mut deadline => return Err(match connection.remote_description() {
                    Some(_) => self.no_path(connection),
                    None => ConnectError::Silent,
                }),
            }
        }
    }

    async fn take(
        &mut self,
        connection: &PeerConnection,
        message: &Value,
    ) -> Result<(), ConnectError> {
        if message["wrong"] == true {
            return Err(WrongCode.into());
        }
        let sealed = message["sealed"].as_str().ok_or(ConnectError::Version)?;
        let plain = match self.seal.open(sealed) {
            Ok(plain) => plain,
            Err(wrong) => {
                self.correspondent.send(json!({ "wrong": true })).await;
                return Err(wrong.into());
            }
        };
        self.authenticated = true;
        // A later version may say more.
        let Ok(signal) = serde_json::from_slice(&plain) else {
            return Ok(());
        };
        match signal {
            Signal::About(about) => self.theirs = Some(about),
            Signal::Description { kind, sdp } if kind == "offer" => {
                connection.set_remote_description(&Description::offer(sdp))?;
                connection.set_local_description(None).await?;
                self.send_description(connection).await;
            }
            Signal::Description { sdp, .. } => {
                connection.set_remote_description(&Description::answer(sdp))?;
            }
            Signal::Candidate(candidate) => {
                self.early
                    .push(candidate.map_or_else(IceCandidate::default, Into::into));
            }
        }
        if connection.remote_description().is_some() {
            for candidate in self.early.drain(..) {
                // One that cannot be used does not spoil the others.
                let _ = connection.add_ice_candidate(&candidate);
            }
        }
        Ok(())
    }
}

/// What is known of a connection that failed, in one paragraph.
fn explain(connection: &PeerConnection) -> String {
    let candidates = |description: Option<Description>| {
        let sdp = description.map_or_else(String::new, |d| d.sdp);
        let mut kinds: Vec<&str> = Vec::new();
        for line in sdp.lines().filter(|line| line.starts_with("a=candidate:")) {
            let mut words = line.split(' ').skip_while(|word| *word != "typ");
            let Some(kind) = words.nth(1).map(kind) else {
                continue;
            };
            if !kinds.contains(&kind) {
                kinds.push(kind);
            }
        }
        match kinds.is_empty() {
            true => "not at all".to_owned(),
            false => kinds.join(", "),
        }
    };
    let (ours, theirs) = (
        candidates(connection.local_description()),
        candidates(connection.remote_description()),
    );
    let relay = if ours.contains("relay") || theirs.contains("relay") {
        "The relay did not help either: firewalls in between may block it; `visavis doctor` tells."
    } else {
        "A relay would help: use a server with TURN (--server)."
    };
    format!("This side can be reached {ours}; the other side {theirs}. {relay}")
}

/// A candidate's type in words.
fn kind(token: &str) -> &'static str {
    match token {
        "host" => "at an address of its own",
        "relay" => "through a relay",
        _ => "through its NAT",
    }
}
