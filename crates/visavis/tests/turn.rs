//! Connections that are reached by a TURN server alone, over UDP, TCP and TLS.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UdpSocket};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;
use visavis::{
    ChannelOptions, Configuration, Endpoint, Event, IceServer, Settings, TransportPolicy,
};
use visavis_datagram::{Ecn, Path, Protocol, Random, Segments, Transmit, TransmitBuf};
use visavis_net::tcp::{FrameReader, FrameWriter};
use visavis_stun::StreamFraming;
use visavis_turn::server::{
    CLIENT_HEADROOM, CLIENT_TAILROOM, Command, Credentials, Forward, Realm, RelayAddress, Server,
    ServerConfig,
};

const NAME: &str = "user";
const PASSWORD: &str = "a password";

/// What a relay socket got: where, from whom, and the bytes with room around them.
type Arrived = (SocketAddr, SocketAddr, Vec<u8>, usize);

struct Relays {
    sockets: HashMap<SocketAddr, Arc<UdpSocket>>,
    arrived: mpsc::Sender<Arrived>,
}

impl Relays {
    async fn open(&mut self, relay: SocketAddr) -> bool {
        let Ok(socket) = UdpSocket::bind(relay).await else {
            return false;
        };
        let socket = Arc::new(socket);
        self.sockets.insert(relay, Arc::clone(&socket));
        let arrived = self.arrived.clone();
        tokio::spawn(async move {
            let mut buffer = [0; 2000];
            while let Ok((len, peer)) = socket.recv_from(&mut buffer).await {
                let mut bytes = vec![0; CLIENT_HEADROOM + len + CLIENT_TAILROOM];
                bytes[CLIENT_HEADROOM..][..len].copy_from_slice(&buffer[..len]);
                if arrived.send((relay, peer, bytes, len)).await.is_err() {
                    return;
                }
            }
        });
        true
    }
}

/// What a client sent: by which path, and the message with the room that a relay needs.
type Asked = (Path, Vec<u8>);

/// How clients reach the server.
#[derive(Clone, Copy, PartialEq)]
enum Way {
    Udp,
    Tcp,
    Tls,
}

/// A TURN server over one way; where it listens. Its address is not that of the peers: on its own one
/// it relays to nothing but relayed addresses.
async fn turn_server(way: Way) -> (SocketAddr, Option<Arc<rustls::ClientConfig>>) {
    let mut config = ServerConfig::default();
    config.realms = vec![Realm::new("test", Credentials::new().user(NAME, PASSWORD))];
    config.relays = vec![RelayAddress::new([127, 0, 0, 2].into())];
    // The peers of this test are on the loopback interface.
    config.filter.deny.clear();
    let server = Server::new(Instant::now(), 1_700_000_000, config, Random::from_u64(1));
    let (asked_sender, asked) = mpsc::channel::<Asked>(256);
    let (answers, answer_queue) = mpsc::unbounded_channel();
    tokio::spawn(serve(server, asked, answers));
    let mut trust = None;
    let local = match way {
        Way::Udp => listen_udp(asked_sender, answer_queue).await,
        Way::Tcp => listen_tcp(asked_sender, answer_queue, None).await,
        Way::Tls => {
            let (acceptor, client) = tls();
            trust = Some(client);
            listen_tcp(asked_sender, answer_queue, Some(acceptor)).await
        }
    };
    (local, trust)
}

/// A certificate for the server's address, and who trusts it.
fn tls() -> (TlsAcceptor, Arc<rustls::ClientConfig>) {
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.2".into()]).unwrap();
    let certificate = made.cert.der().clone();
    let key = rustls::pki_types::PrivateKeyDer::try_from(made.signing_key.serialize_der()).unwrap();
    let server = rustls::ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(vec![certificate.clone()], key)
        .unwrap();
    let mut roots = rustls::RootCertStore::empty();
    roots.add(certificate).unwrap();
    let client = rustls::ClientConfig::builder()
        .with_root_certificates(roots)
        .with_no_client_auth();
    (TlsAcceptor::from(Arc::new(server)), Arc::new(client))
}

async fn listen_udp(
    asked: mpsc::Sender<Asked>,
    mut answers: mpsc::UnboundedReceiver<Asked>,
) -> SocketAddr {
    let listener = UdpSocket::bind("127.0.0.2:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut buffer = [0; 2000];
        loop {
            tokio::select! {
                Ok((len, client)) = listener.recv_from(&mut buffer) => {
                    let path = Path::udp(local, client);
                    let _ = asked.send((path, buffer[..len].to_vec())).await;
                }
                Some((path, bytes)) = answers.recv() => {
                    let _ = listener.send_to(&bytes, path.remote).await;
                }
            }
        }
    });
    local
}

async fn listen_tcp(
    asked: mpsc::Sender<Asked>,
    mut answers: mpsc::UnboundedReceiver<Asked>,
    tls: Option<TlsAcceptor>,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.2:0").await.unwrap();
    let local = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let mut clients: HashMap<Path, mpsc::UnboundedSender<Vec<u8>>> = HashMap::new();
        loop {
            tokio::select! {
                Ok((stream, remote)) = listener.accept() => {
                    let protocol = if tls.is_some() { Protocol::Tls } else { Protocol::Tcp };
                    let path = Path { protocol, local, remote };
                    let (sender, queue) = mpsc::unbounded_channel();
                    clients.insert(path, sender);
                    let (asked, tls) = (asked.clone(), tls.clone());
                    tokio::spawn(async move {
                        match tls {
                            Some(tls) => {
                                let stream = tls.accept(stream).await.expect("a TLS handshake");
                                converse(path, stream, asked, queue).await;
                            }
                            None => converse(path, stream, asked, queue).await,
                        }
                    });
                }
                Some((path, bytes)) = answers.recv() => {
                    if let Some(client) = clients.get(&path) {
                        let _ = client.send(bytes);
                    }
                }
            }
        }
    });
    local
}

/// Carries what one client says and is told.
async fn converse(
    path: Path,
    stream: impl AsyncRead + AsyncWrite,
    asked: mpsc::Sender<Asked>,
    mut queue: mpsc::UnboundedReceiver<Vec<u8>>,
) {
    let (reader, writer) = tokio::io::split(stream);
    let mut reader = FrameReader::new(reader, StreamFraming::Turn);
    let mut writer = FrameWriter::new(writer, StreamFraming::Turn);
    let mut frame = Vec::new();
    loop {
        tokio::select! {
            read = reader.next(&mut frame) => {
                if !matches!(read, Ok(true)) {
                    return;
                }
                let _ = asked.send((path, frame.clone())).await;
            }
            Some(bytes) = queue.recv() => {
                let segments = Segments { segment_size: bytes.len(), len: bytes.len() };
                let transmit = Transmit::new(path, Ecn::NotEct, segments);
                if writer.write(&transmit, &bytes).await.is_err() {
                    return;
                }
            }
        }
    }
}

/// The server between its clients and its relayed addresses.
async fn serve(
    mut server: Server,
    mut asked: mpsc::Receiver<Asked>,
    answers: mpsc::UnboundedSender<Asked>,
) {
    let (sender, mut arrived) = mpsc::channel::<Arrived>(256);
    let mut relays = Relays {
        sockets: HashMap::new(),
        arrived: sender,
    };
    let mut out = TransmitBuf::new(1, 2000);
    loop {
        let (forward, bytes) = tokio::select! {
            Some((path, mut bytes)) = asked.recv() => {
                (server.handle_client(Instant::now(), path, &mut bytes), bytes)
            }
            Some((relay, peer, mut bytes, len)) = arrived.recv() => {
                let payload = CLIENT_HEADROOM..CLIENT_HEADROOM + len;
                (server.handle_peer(Instant::now(), relay, peer, &mut bytes, payload), bytes)
            }
        };
        match forward {
            Some(Forward::ToPeer {
                relay,
                peer,
                payload,
                ..
            }) => {
                if let Some(socket) = relays.sockets.get(&relay) {
                    let _ = socket.send_to(&bytes[payload], peer).await;
                }
            }
            Some(Forward::ToClient { path, datagram }) => {
                let _ = answers.send((path, bytes[datagram].to_vec()));
            }
            None => {}
        }
        while let Some(command) = server.poll_command() {
            match command {
                Command::OpenRelay { relay, .. } => {
                    let opened = relays.open(relay).await;
                    server.relay_opened(Instant::now(), relay, opened);
                }
                Command::CloseRelay { relay } => {
                    relays.sockets.remove(&relay);
                }
                _ => {}
            }
        }
        out.clear();
        while let Some(transmit) = server.poll_transmit(Instant::now(), &mut out) {
            let bytes = out.as_slice()[..transmit.len].to_vec();
            let _ = answers.send((transmit.path(), bytes));
            out.clear();
        }
    }
}

async fn within<T>(what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(Duration::from_secs(20), future).await {
        Ok(value) => value,
        Err(_) => panic!("{what} did not come within 20 s"),
    }
}

/// A connection of which one end has nothing but a relay.
async fn relayed(way: Way, url: impl Fn(SocketAddr) -> String) {
    let (server, tls) = turn_server(way).await;
    let mut settings = Settings::loopback();
    settings.tls = tls;
    let near = Endpoint::new(settings).unwrap();
    let near = near
        .peer_connection(Configuration {
            ice_servers: vec![IceServer::turn(url(server), NAME, PASSWORD)],
            ice_transport_policy: TransportPolicy::Relay,
            ..Configuration::default()
        })
        .unwrap();
    let far = Endpoint::new(Settings::loopback()).unwrap();
    let far = far.peer_connection(Configuration::default()).unwrap();
    let channel = near
        .create_data_channel("relayed", ChannelOptions::default())
        .unwrap();
    near.set_local_description(None).await.unwrap();
    let offer = within("an offer", near.gathered()).await.unwrap();
    assert!(offer.sdp.contains("typ relay"), "{}", offer.sdp);
    assert!(!offer.sdp.contains("typ host"), "{}", offer.sdp);
    far.set_remote_description(&offer).unwrap();
    far.set_local_description(None).await.unwrap();
    let answer = within("an answer", far.gathered()).await.unwrap();
    near.set_remote_description(&answer).unwrap();
    within("open", channel.opened()).await.unwrap();
    channel.feed("by way of the relay").await.unwrap();
    let mut incoming = loop {
        if let Some(Event::DataChannel(channel)) = within("a channel", far.next_event()).await {
            break channel;
        }
    };
    let message = within("a message", incoming.recv()).await;
    assert_eq!(message, Some("by way of the relay".into()));
    // What is longer than a datagram, and back.
    let long = vec![7; 100_000];
    incoming.feed(Bytes::from(long.clone())).await.unwrap();
    let mut channel = channel;
    let message = within("a long message", channel.recv()).await;
    assert_eq!(message, Some(Bytes::from(long).into()));
    let pair = near.with_core(|core| core.ice().selected_pair().unwrap());
    assert_eq!(pair.local.kind.as_str(), "relay");
}

/// The connection has sockets of its own, which nothing but the driver looks at.
#[tokio::test]
async fn a_relay_over_udp_is_enough() {
    relayed(Way::Udp, |server| format!("turn:{server}?transport=udp")).await;
}

#[tokio::test]
async fn a_relay_over_tcp_is_enough() {
    relayed(Way::Tcp, |server| format!("turn:{server}?transport=tcp")).await;
}

#[tokio::test]
async fn a_relay_over_tls_is_enough() {
    relayed(Way::Tls, |server| format!("turns:{server}?transport=tcp")).await;
}
