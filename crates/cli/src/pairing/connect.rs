//! From a correspondent at the rendezvous to a peer connection whose fingerprints are authenticated.
//!
//! The guest speaks first: `{"version":1,"by":"code"|"link","share","session"}`; the host answers with its share;
//! from then on both send `{"sealed"}`, which hold `{"description":{"type","sdp"}}` or `{"candidate"}`.
//! The host offers, with one data channel. Whoever cannot open what it gets says `{"wrong":true}`. Doctors also send `{"about"}`,
//! what each knows of its network; what is not understood of what was sealed is passed over.
//!
//! A host that keeps connections (`keep`) says `"again":false` with its share. A guest that has lost the server then comes again,
//! with the same `session` (16 random bytes in hex) and `"back":true`: the host answers `{"share","again":true}`, the guest says
//! `{"back":true}`, sealed, and ICE can be restarted under the connection that the two have; or `{"again":false}` alone, if it has that connection no more.

use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use visavis::{
    ChannelOptions, Configuration, ConnectionState, DataChannel, Description, Endpoint, Event,
    IceCandidate, IceServer, PeerConnection, SdpType,
};

use super::client::Correspondent;
use super::host::Guest;
use super::keep::Sessions;
use super::seal::{Exchange, Seal, Secret, Side, WrongCode};
use crate::runtime::DATAGRAM;

/// How long a peer may take for its share of the key, and for its description.
const ANSWER: Duration = Duration::from_secs(30);
/// The same for a host that a guest comes back to: it waits.
const ANSWER_AGAIN: Duration = Duration::from_secs(3);
/// How long the connection may take to come up once descriptions are exchanged.
const CONNECT: Duration = Duration::from_secs(40);
/// Least time between two restarts of ICE by the same signalling.
const RESTART: Duration = Duration::from_secs(2);
/// What DTLS 1.3 adds to a packet: header, content type, tag.
const RECORD: usize = 22;
/// Random bytes in a session's name.
const SESSION: usize = 16;

fn is_session(name: &str) -> bool {
    name.len() == 2 * SESSION && name.bytes().all(|byte| byte.is_ascii_hexdigit())
}

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
    /// Look for packets that are larger than every path carries (RFC 8899). Not for everybody: what was sent in large packets
    /// when the path narrows is lost, and the connection with it. A transfer goes on with the next connection.
    pub(crate) large_packets: bool,
}

impl<'a> From<&'a Endpoint> for Own<'a> {
    fn from(endpoint: &'a Endpoint) -> Self {
        Self {
            endpoint,
            about: None,
            large_packets: false,
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
    /// Still open.
    pub(crate) signalling: Signalling,
    /// What a guest is known by when it comes again; `None` if its host does not know it then.
    pub(crate) session: Option<String>,
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
    #[serde(default)]
    session: String,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    back: bool,
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
    /// From a guest: the way is lost, restart ICE.
    Restart(bool),
    /// From a guest that came back, to show at once that it knows the secret.
    Back(bool),
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

/// A guest that has said who it is and was answered, but has yet to show that it knows the secret.
pub(crate) struct Arrived {
    pub(crate) signalling: Signalling,
    session: Option<String>,
    ice_servers: Vec<IceServer>,
    /// The session that it comes back to.
    pub(crate) back: Option<String>,
}

/// Hears a guest's first word, and answers it. `sessions`: those that guests may come back to, if there can be any.
/// `None`: it came back to a session that is no more, and was told so.
pub(crate) async fn greet(
    secrets: &HostSecrets,
    guest: Guest,
    sessions: Option<&Sessions>,
) -> Result<Option<Arrived>, ConnectError> {
    let Guest {
        correspondent: mut guest,
        slot,
        ice_servers,
    } = guest;
    let first = receive(&mut guest, ANSWER).await?;
    let hello: Hello = serde_json::from_value(first).map_err(|_| ConnectError::Version)?;
    if hello.version != 1 {
        return Err(ConnectError::Version);
    }
    let known = sessions.is_some_and(|sessions| sessions.has(&hello.session));
    if hello.back && !known {
        guest.send(json!({ "again": false })).await;
        return Ok(None);
    }
    let secret = match hello.by {
        By::Code => Secret::Words(&secrets.words),
        By::Link => Secret::Link(&secrets.link),
    };
    let exchange = Exchange::start(Side::Host, &slot, secret)?;
    let answer = match sessions {
        Some(_) => json!({ "share": exchange.share(), "again": hello.back }),
        None => json!({ "share": exchange.share() }),
    };
    guest.send(answer).await;
    let seal = exchange.finish(&hello.share)?;
    let session = Some(hello.session).filter(|session| is_session(session));
    Ok(Some(Arrived {
        signalling: Signalling::new(guest, seal, Side::Host),
        ice_servers,
        back: session.clone().filter(|_| hello.back),
        session,
    }))
}

/// The host's side. A guest that does not know the secret gives [`ConnectError::WrongCode`].
pub(crate) async fn host<'a>(
    own: impl Into<Own<'a>>,
    secrets: &HostSecrets,
    label: &str,
    guest: Guest,
) -> Result<Paired, ConnectError> {
    match greet(secrets, guest, None).await? {
        Some(arrived) => pair(own, label, arrived).await,
        None => Err(ConnectError::Left),
    }
}

/// Connects to a guest that has arrived.
pub(crate) async fn pair<'a>(
    own: impl Into<Own<'a>>,
    label: &str,
    arrived: Arrived,
) -> Result<Paired, ConnectError> {
    let own = own.into();
    let mut signalling = arrived.signalling;
    let connection = connection(&own, &arrived.ice_servers)?;
    let channel = connection.create_data_channel(label, ChannelOptions::default())?;
    connection.set_local_description(None).await?;
    signalling.introduce(own.about).await;
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
        path: path(&connection),
        connection,
        channel,
        signalling,
        session: arrived.session,
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
    let own = own.into();
    let mut session = [0; SESSION];
    getrandom::fill(&mut session)?;
    let session: String = session.iter().map(|byte| format!("{byte:02x}")).collect();
    let (mut signalling, again) = introduce(slot, secret, host, &session, false).await?;
    let connection = connection(&own, ice_servers)?;
    signalling.introduce(own.about).await;
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
        path: path(&connection),
        connection,
        channel,
        signalling,
        session: again.map(|_| session),
    })
}

/// A guest comes back to its session. `None` if the host has it no more.
pub(crate) async fn come_back(
    slot: &str,
    secret: Secret<'_>,
    host: Correspondent,
    session: &str,
) -> Result<Option<Signalling>, ConnectError> {
    match introduce(slot, secret, host, session, true).await {
        Ok((mut signalling, Some(true))) => {
            signalling.send(&Signal::Back(true)).await;
            Ok(Some(signalling))
        }
        Ok(_) | Err(ConnectError::Version) => Ok(None),
        Err(error) => Err(error),
    }
}

/// A guest's first word, and the answer: whether the session goes on, if the host said so.
async fn introduce(
    slot: &str,
    secret: Secret<'_>,
    mut host: Correspondent,
    session: &str,
    back: bool,
) -> Result<(Signalling, Option<bool>), ConnectError> {
    let exchange = Exchange::start(Side::Guest, slot, secret)?;
    let by = match secret {
        Secret::Words(_) => By::Code,
        Secret::Link(_) => By::Link,
    };
    let hello = Hello {
        version: 1,
        by,
        share: exchange.share(),
        session: session.to_owned(),
        back,
    };
    host.send(json!(hello)).await;
    let patience = if back { ANSWER_AGAIN } else { ANSWER };
    let answer = receive(&mut host, patience).await?;
    let share = answer["share"].as_str().ok_or(ConnectError::Version)?;
    let seal = exchange.finish(share)?;
    Ok((
        Signalling::new(host, seal, Side::Guest),
        answer["again"].as_bool(),
    ))
}

fn connection(own: &Own<'_>, ice_servers: &[IceServer]) -> Result<PeerConnection, visavis::Error> {
    let mut configuration = Configuration {
        ice_servers: ice_servers.to_vec(),
        ..Configuration::default()
    };
    // Two of ours are connected two round trips sooner; browsers ignore it.
    configuration.advanced.snap = true;
    // There is one channel, whose messages wait for each other anyway: four bytes of each packet for nothing.
    configuration.advanced.sctp.interleaving = false;
    if own.large_packets {
        configuration.advanced.sctp.packet_sizes.max = DATAGRAM - RECORD;
    }
    own.endpoint.peer_connection(configuration)
}

async fn receive(
    correspondent: &mut Correspondent,
    patience: Duration,
) -> Result<Value, ConnectError> {
    match tokio::time::timeout(patience, correspondent.recv()).await {
        Ok(Some(message)) => Ok(message),
        Ok(None) => Err(ConnectError::Left),
        Err(_) => Err(ConnectError::Silent),
    }
}

/// Passes descriptions and candidates, sealed.
#[derive(Debug)]
pub(crate) struct Signalling {
    correspondent: Correspondent,
    seal: Seal,
    side: Side,
    /// Takes the channel that the peer opens.
    channel: Option<tokio::sync::oneshot::Sender<DataChannel>>,
    /// The peer has sealed something with our key.
    pub(crate) authenticated: bool,
    /// When ICE was restarted last.
    restarted: Option<Instant>,
    /// Candidates that came before the description they belong to.
    early: Vec<IceCandidate>,
    /// What the peer told of its network.
    theirs: Option<About>,
}

impl Signalling {
    fn new(correspondent: Correspondent, seal: Seal, side: Side) -> Self {
        Self {
            correspondent,
            seal,
            side,
            restarted: None,
            channel: None,
            authenticated: false,
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

    pub(crate) async fn send_candidate(&mut self, candidate: Option<IceCandidate>) {
        self.send(&Signal::Candidate(candidate.map(Into::into)))
            .await;
    }

    /// The next message of the peer; `None` when it or the server is gone. Cancel-safe.
    pub(crate) async fn recv(&mut self) -> Option<Value> {
        self.correspondent.recv().await
    }

    /// The server was reached from an address that is no longer ours.
    pub(crate) fn is_cut_off(&self) -> bool {
        self.correspondent.is_cut_off()
    }

    /// Looks for a new way under the connection: the host offers it, a guest asks for that. Once for both, where both ask.
    pub(crate) async fn restart(
        &mut self,
        connection: &PeerConnection,
    ) -> Result<(), ConnectError> {
        if self.restarted.is_some_and(|at| at.elapsed() < RESTART) {
            return Ok(());
        }
        self.restarted = Some(Instant::now());
        match self.side {
            Side::Guest => self.send(&Signal::Restart(true)).await,
            Side::Host => {
                connection.restart_ice();
                connection.set_local_description(None).await?;
                self.send_description(connection).await;
            }
        }
        Ok(())
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
                    Some(Event::IceCandidate(candidate)) => self.send_candidate(candidate).await,
                    Some(Event::DataChannel(channel)) => {
                        if let Some(taker) = self.channel.take() {
                            let _ = taker.send(channel);
                        }
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

    /// Does what the peer said.
    pub(crate) async fn take(
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
            Signal::Restart(_) if self.side == Side::Host => self.restart(connection).await?,
            Signal::Restart(_) | Signal::Back(_) => {}
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

/// The way that a connection takes, in words.
fn path(connection: &PeerConnection) -> Option<String> {
    let transport = connection.sctp()?.transport().ice_transport();
    let pair = transport.selected_candidate_pair()?;
    let (local, remote) = (pair.local.kind, pair.remote.kind);
    let (local, remote) = (kind(local.as_str()), kind(remote.as_str()));
    let addresses = (pair.path.local, pair.path.remote);
    Some(format!(
        "this side {local} ({}), the other side {remote} ({}), by {:?}",
        addresses.0, addresses.1, pair.path.protocol,
    ))
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
