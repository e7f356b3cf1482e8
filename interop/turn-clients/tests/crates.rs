//! Clients in Rust that others wrote: the crates `turn-client-proto` (over UDP and TCP, with SHA-1 and SHA-256, TCP
//! connections of RFC 6062) and `turn` of webrtc-rs.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use interop_turn::service::{Service, USER};
use turn_client_proto::api::{
    Socket5Tuple, Transmit, TurnClientApi, TurnConfig, TurnEvent, TurnPollRet, TurnRecvRet,
};
use turn_client_proto::client::TurnClient;
use turn_client_proto::stun::types::TransportType;
use turn_client_proto::tcp::TurnClientTcp;
use turn_client_proto::types::TurnCredentials;
use turn_client_proto::types::stun::message::IntegrityAlgorithm;
use turn_client_proto::udp::TurnClientUdp;
use webrtc_util::conn::Conn;

const PATIENCE: Duration = Duration::from_secs(20);

fn service() -> Service {
    Service::start(
        [127, 0, 0, 1].into(),
        &["--allow-peer", "127.0.0.0/8", "--tcp-relay"],
    )
}

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Socket {
    /// What is there; `None` while there is nothing.
    fn receive(&mut self, buffer: &mut [u8]) -> Option<usize> {
        let read = match self {
            Self::Udp(socket) => socket.recv(buffer),
            Self::Tcp(stream) => stream.read(buffer),
        };
        match read {
            Ok(len) => Some(len),
            Err(error) => {
                let empty = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut);
                assert!(empty, "{error}");
                None
            }
        }
    }
}

/// `turn-client-proto` on sockets.
struct Driver {
    client: TurnClient,
    /// By local address: the one to the server, and one for each TCP connection to a peer.
    sockets: HashMap<SocketAddr, Socket>,
    server: SocketAddr,
    begun: Instant,
    events: Vec<TurnEvent>,
    received: Vec<(SocketAddr, Vec<u8>)>,
}

impl Driver {
    fn new(server: SocketAddr, transport: TransportType, config: TurnConfig) -> Self {
        let patience = Some(Duration::from_millis(5));
        let (socket, local) = match transport {
            TransportType::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
                socket.connect(server).expect("connected");
                socket.set_read_timeout(patience).expect("a time limit");
                let local = socket.local_addr().expect("its address");
                (Socket::Udp(socket), local)
            }
            TransportType::Tcp => {
                let stream = connect(server);
                let local = stream.local_addr().expect("its address");
                (Socket::Tcp(stream), local)
            }
        };
        let client = match transport {
            TransportType::Udp => TurnClientUdp::allocate(local, server, config).into(),
            TransportType::Tcp => TurnClientTcp::allocate(local, server, config).into(),
        };
        Self {
            client,
            sockets: HashMap::from([(local, socket)]),
            server,
            begun: Instant::now(),
            events: Vec::new(),
            received: Vec::new(),
        }
    }

    fn now(&self) -> turn_client_proto::stun::Instant {
        turn_client_proto::stun::Instant::from_nanos(self.begun.elapsed().as_nanos() as i64)
    }

    fn step(&mut self) {
        let now = self.now();
        if let TurnPollRet::AllocateTcpSocket {
            id,
            socket,
            peer_addr,
        } = self.client.poll(now)
        {
            self.connect_for_peer(id, socket, peer_addr);
        }
        while let Some(transmit) = self.client.poll_transmit(now) {
            let socket = self.sockets.get_mut(&transmit.from).expect("its socket");
            send(socket, transmit.data.as_ref());
        }
        let mut buffer = [0; 4096];
        for (local, socket) in &mut self.sockets {
            let Some(len) = socket.receive(&mut buffer) else {
                continue;
            };
            let transport = match socket {
                Socket::Udp(_) => TransportType::Udp,
                Socket::Tcp(_) => TransportType::Tcp,
            };
            let transmit = Transmit {
                data: buffer[..len].to_vec(),
                transport,
                from: self.server,
                to: *local,
            };
            match self.client.recv(transmit, now) {
                TurnRecvRet::PeerData(data) => {
                    self.received.push((data.peer, data.data().to_vec()));
                }
                TurnRecvRet::Ignored(_) => panic!("ignored"),
                _ => {}
            }
        }
        while let Some(data) = self.client.poll_recv(now) {
            self.received.push((data.peer, data.data().to_vec()));
        }
        while let Some(event) = self.client.poll_event() {
            self.events.push(event);
        }
    }

    fn connect_for_peer(&mut self, id: u32, tuple: Socket5Tuple, peer: SocketAddr) {
        let stream = connect(tuple.to);
        let local = stream.local_addr().expect("its address");
        self.sockets.insert(local, Socket::Tcp(stream));
        let now = self.now();
        self.client
            .allocated_tcp_socket(id, tuple, peer, Some(local), now)
            .expect("wanted");
    }

    /// Goes on until `find` finds something.
    fn until<T>(&mut self, what: &str, mut find: impl FnMut(&mut Self) -> Option<T>) -> T {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(found) = find(self) {
                return found;
            }
            assert!(Instant::now() < deadline, "{what}: {:?}", self.events);
            self.step();
        }
    }

    fn event<T>(&mut self, what: &str, find: impl Fn(&TurnEvent) -> Option<T>) -> T {
        self.until(what, |driver| driver.events.iter().find_map(&find))
    }

    fn allocate(&mut self) -> SocketAddr {
        self.event("an allocation", |event| match event {
            TurnEvent::AllocationCreated(_, relayed) => Some(*relayed),
            _ => None,
        })
    }

    fn permit(&mut self, transport: TransportType, peer: SocketAddr) {
        let now = self.now();
        self.client
            .create_permission(transport, peer.ip(), now)
            .expect("permitted");
        self.event("a permission", |event| {
            matches!(event, TurnEvent::PermissionCreated(..)).then_some(())
        });
    }

    fn send(&mut self, transport: TransportType, peer: SocketAddr, data: &[u8]) {
        let now = self.now();
        let built = self.client.send_to(transport, peer, data.to_vec(), now);
        if let Some(transmit) = built.expect("sent") {
            let transmit = transmit.build();
            let socket = self.sockets.get_mut(&transmit.from).expect("its socket");
            send(socket, &transmit.data);
        }
    }

    fn receive(&mut self) -> (SocketAddr, Vec<u8>) {
        self.until("data", |driver| driver.received.pop())
    }
}

fn connect(to: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(to).expect("connected");
    stream.set_nodelay(true).expect("no delay");
    let patience = Some(Duration::from_millis(5));
    stream.set_read_timeout(patience).expect("a time limit");
    stream
}

fn send(socket: &mut Socket, bytes: &[u8]) {
    match socket {
        Socket::Udp(socket) => drop(socket.send(bytes).expect("sent")),
        Socket::Tcp(stream) => stream.write_all(bytes).expect("sent"),
    }
}

fn config() -> TurnConfig {
    TurnConfig::new(TurnCredentials::new(USER.0, USER.1))
}

/// Indications, then a channel, both ways. Messages have a multiple of four bytes: the client does not pad ChannelData over TCP, as
/// RFC 8656 section 12.5 says that it must.
fn relays(transport: TransportType, config: TurnConfig) {
    let service = service();
    let peer = UdpSocket::bind("127.0.0.2:0").expect("a socket");
    peer.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let peer_address = peer.local_addr().expect("its address");
    let mut driver = Driver::new(service.plain, transport, config);
    let relayed = driver.allocate();
    driver.permit(TransportType::Udp, peer_address);
    for round in 0..2 {
        driver.send(TransportType::Udp, peer_address, b"to the peer!");
        let mut buffer = [0; 100];
        let (len, from) = peer.recv_from(&mut buffer).expect("a datagram");
        assert_eq!((&buffer[..len], from), (&b"to the peer!"[..], relayed));
        peer.send_to(b"and back", relayed).expect("sent");
        assert_eq!(driver.receive(), (peer_address, b"and back".to_vec()));
        if round == 0 {
            let now = driver.now();
            driver
                .client
                .bind_channel(TransportType::Udp, peer_address, now)
                .expect("bound");
            driver.event("a channel", |event| {
                matches!(event, TurnEvent::ChannelCreated(..)).then_some(())
            });
        }
    }
    let now = driver.now();
    driver.client.delete(now).expect("given back");
    driver.until("the end", |_| {
        (service.metric("visavis_turn_allocations") == 0).then_some(())
    });
}

#[test]
fn turn_client_proto_over_udp() {
    relays(TransportType::Udp, config());
}

#[test]
fn turn_client_proto_over_tcp() {
    relays(TransportType::Tcp, config());
}

/// MESSAGE-INTEGRITY-SHA256 and PASSWORD-ALGORITHMS (RFC 8489 sections 9.2.3.2, 14.6).
#[test]
fn turn_client_proto_with_sha_256() {
    for transport in [TransportType::Udp, TransportType::Tcp] {
        let mut config = config();
        config.add_supported_integrity(IntegrityAlgorithm::Sha256);
        relays(transport, config);
    }
}

/// RFC 6062: the client connects to a peer through the server.
#[test]
fn turn_client_proto_connects_to_a_peer_over_tcp() {
    let service = service();
    let listener = TcpListener::bind("127.0.0.2:0").expect("a port");
    let peer = listener.local_addr().expect("its address");
    let echo = std::thread::spawn(move || {
        let (mut stream, _) = listener.accept().expect("a connection");
        let mut buffer = [0; 11];
        stream.read_exact(&mut buffer).expect("data");
        stream.write_all(&buffer).expect("sent");
    });
    let mut config = config();
    config.set_allocation_transport(TransportType::Tcp);
    let mut driver = Driver::new(service.plain, TransportType::Tcp, config);
    driver.allocate();
    driver.permit(TransportType::Tcp, peer);
    let now = driver.now();
    driver.client.tcp_connect(peer, now).expect("asked");
    driver.event("a connection", |event| match event {
        TurnEvent::TcpConnected(_) => Some(()),
        TurnEvent::TcpConnectFailed(peer) => panic!("no connection to {peer}"),
        _ => None,
    });
    driver.send(TransportType::Tcp, peer, b"to the peer");
    assert_eq!(driver.receive(), (peer, b"to the peer".to_vec()));
    echo.join().expect("the peer");
}

/// The crate `turn` of webrtc-rs, which the crate `webrtc` uses.
#[tokio::test]
async fn webrtc_rs_over_udp() {
    let service = service();
    let socket = tokio::net::UdpSocket::bind("127.0.0.1:0").await;
    let client = turn::client::Client::new(turn::client::ClientConfig {
        stun_serv_addr: service.plain.to_string(),
        turn_serv_addr: service.plain.to_string(),
        username: USER.0.to_owned(),
        password: USER.1.to_owned(),
        realm: String::new(),
        software: String::new(),
        rto_in_ms: 0,
        conn: Arc::new(socket.expect("a socket")),
        vnet: None,
    });
    let client = client.await.expect("a client");
    client.listen().await.expect("it listens");
    let mapped = client.send_binding_request().await.expect("an answer");
    assert_eq!(mapped.ip().to_string(), "127.0.0.1");
    let relay = client.allocate().await.expect("a relay");
    let relayed = relay.local_addr().expect("its address");
    let peer = tokio::net::UdpSocket::bind("127.0.0.2:0").await;
    let peer = peer.expect("a socket");
    let address = peer.local_addr().expect("its address");
    let mut buffer = [0; 1500];
    // It sends indications first, and over a channel once that is bound.
    for size in [1, 100, 1200] {
        let message = vec![7; size];
        let round = async {
            relay.send_to(&message, address).await.expect("sent");
            let (len, from) = peer.recv_from(&mut buffer).await.expect("a datagram");
            assert_eq!((len, from), (size, relayed));
            peer.send_to(&message, relayed).await.expect("sent");
            let (len, from) = relay.recv_from(&mut buffer).await.expect("a datagram");
            assert_eq!((len, from), (size, address));
        };
        tokio::time::timeout(PATIENCE, round)
            .await
            .expect("in time");
    }
    relay.close().await.expect("given back");
    client.close().await.expect("closed");
}
