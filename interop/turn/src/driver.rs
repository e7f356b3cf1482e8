//! A driver of the server's core with plain threads: UDP and TCP towards clients, UDP and TCP towards peers. Enough for
//! tests, not for service.

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use visavis_datagram::{Path, Protocol, Random, TransmitBuf};
use visavis_stun::{StreamDecoder, StreamFraming};
use visavis_turn::server::{
    CLIENT_HEADROOM, CLIENT_TAILROOM, Command, Forward, RelayKind, Server, ServerConfig,
};

enum Input {
    Client(Path, Vec<u8>),
    Peer(SocketAddr, SocketAddr, Vec<u8>),
    Connected(Path, TcpStream),
    Gone(Path),
    Accepted(SocketAddr, SocketAddr, TcpStream),
    Dialled(u32, Option<TcpStream>),
    PeerGone(u32),
    Stop(Sender<visavis_turn::server::ServerStats>),
}

/// A running server.
pub struct Running {
    inputs: Sender<Input>,
}

impl Running {
    /// Starts a server on an address, for UDP and TCP.
    pub fn start(listen: SocketAddr, config: ServerConfig) -> Self {
        let (inputs, received) = channel();
        let udp = UdpSocket::bind(listen).expect("bind");
        let tcp = TcpListener::bind(listen).expect("listen");
        let reader = udp.try_clone().expect("clone");
        let sender = inputs.clone();
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((len, remote)) = reader.recv_from(&mut buffer) {
                let path = Path::udp(listen, remote);
                if sender
                    .send(Input::Client(path, buffer[..len].to_vec()))
                    .is_err()
                {
                    return;
                }
            }
        });
        let sender = inputs.clone();
        thread::spawn(move || {
            for stream in tcp.incoming().flatten() {
                let Ok(remote) = stream.peer_addr() else {
                    continue;
                };
                let path = Path::tcp(listen, remote);
                let reader = stream.try_clone().expect("clone");
                if sender.send(Input::Connected(path, stream)).is_err() {
                    return;
                }
                let sender = sender.clone();
                thread::spawn(move || read_frames(path, reader, &sender));
            }
        });
        let sender = inputs.clone();
        let now = Instant::now();
        let unix = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .expect("a clock")
            .as_secs();
        let server = Server::new(
            now,
            unix,
            config,
            Random::from_u64(now.elapsed().as_nanos() as u64),
        );
        thread::spawn(move || {
            Core {
                server,
                udp,
                inputs: sender,
                streams: HashMap::new(),
                relays: HashMap::new(),
                peers: HashMap::new(),
                out: TransmitBuf::new(1, 1500),
            }
            .run(&received);
        });
        Self { inputs }
    }

    /// Stops it: what it counted.
    pub fn stop(self) -> visavis_turn::server::ServerStats {
        let (sender, receiver) = channel();
        self.inputs
            .send(Input::Stop(sender))
            .expect("a running server");
        receiver.recv().expect("its last word")
    }
}

struct Core {
    server: Server,
    udp: UdpSocket,
    inputs: Sender<Input>,
    streams: HashMap<Path, TcpStream>,
    relays: HashMap<SocketAddr, UdpSocket>,
    /// TCP connections to peers.
    peers: HashMap<u32, TcpStream>,
    out: TransmitBuf,
}

impl Core {
    fn run(mut self, received: &Receiver<Input>) {
        loop {
            let now = Instant::now();
            let wait = self
                .server
                .poll_timeout()
                .map_or(Duration::from_secs(1), |at| {
                    at.saturating_duration_since(now)
                });
            match received.recv_timeout(wait.min(Duration::from_secs(1))) {
                Ok(Input::Stop(done)) => {
                    let _ = done.send(self.server.stats());
                    return;
                }
                Ok(input) => self.take(input),
                Err(_) => self.server.handle_timeout(Instant::now()),
            }
            self.obey();
        }
    }

    fn take(&mut self, input: Input) {
        let now = Instant::now();
        match input {
            Input::Client(path, mut bytes) => {
                let forward = self.server.handle_client(now, path, &mut bytes);
                self.forward(forward, &bytes);
            }
            Input::Peer(relay, peer, mut bytes) => {
                let range = CLIENT_HEADROOM..bytes.len() - CLIENT_TAILROOM;
                let forward = self.server.handle_peer(now, relay, peer, &mut bytes, range);
                self.forward(forward, &bytes);
            }
            Input::Connected(path, stream) => drop(self.streams.insert(path, stream)),
            Input::Gone(path) => {
                self.streams.remove(&path);
                self.server.client_gone(now, path);
            }
            Input::Accepted(relay, peer, stream) => {
                match self.server.peer_accepted(now, relay, peer) {
                    Some(connection) => drop(self.peers.insert(connection, stream)),
                    None => drop(stream.shutdown(Shutdown::Both)),
                }
            }
            Input::Dialled(connection, Some(stream)) => {
                self.peers.insert(connection, stream);
                self.server.peer_connected(now, connection);
            }
            Input::Dialled(connection, None) => self.server.peer_connect_failed(connection),
            Input::PeerGone(connection) => {
                self.peers.remove(&connection);
                self.server.peer_gone(connection);
            }
            Input::Stop(_) => {}
        }
    }

    fn forward(&mut self, forward: Option<Forward>, bytes: &[u8]) {
        match forward {
            Some(Forward::ToPeer {
                relay,
                peer,
                payload,
                ..
            }) => {
                if let Some(socket) = self.relays.get(&relay) {
                    let _ = socket.send_to(&bytes[payload], peer);
                }
            }
            Some(Forward::ToClient { path, datagram }) => self.send(path, &bytes[datagram]),
            None => {}
        }
    }

    fn send(&mut self, path: Path, bytes: &[u8]) {
        match path.protocol {
            Protocol::Udp => drop(self.udp.send_to(bytes, path.remote)),
            _ => {
                if let Some(stream) = self.streams.get_mut(&path) {
                    let _ = stream.write_all(bytes);
                }
            }
        }
    }

    /// Sends the answers, then does what the server wants; opened sockets make new answers.
    fn obey(&mut self) {
        loop {
            let now = Instant::now();
            while let Some(transmit) = self.server.poll_transmit(now, &mut self.out) {
                let bytes = self.out.as_slice().to_vec();
                self.out.clear();
                self.send(transmit.path(), &bytes);
            }
            let Some(command) = self.server.poll_command() else {
                return;
            };
            match command {
                Command::OpenRelay { relay, kind } => {
                    let opened = match kind {
                        RelayKind::Udp => self.open_udp(relay),
                        RelayKind::Tcp => self.open_tcp(relay),
                    };
                    self.server.relay_opened(now, relay, opened);
                }
                // The reading thread ends when the test does.
                Command::CloseRelay { relay } => drop(self.relays.remove(&relay)),
                Command::Connect {
                    peer, connection, ..
                } => {
                    let inputs = self.inputs.clone();
                    thread::spawn(move || {
                        let patience = Duration::from_secs(5);
                        let stream = TcpStream::connect_timeout(&peer, patience).ok();
                        let _ = inputs.send(Input::Dialled(connection, stream));
                    });
                }
                Command::Splice { client, connection } => {
                    let ends = (self.streams.remove(&client), self.peers.get(&connection));
                    if let (Some(client), Some(peer)) = ends {
                        splice(client, peer, connection, &self.inputs);
                    }
                }
                Command::CloseConnection { connection } => {
                    if let Some(stream) = self.peers.remove(&connection) {
                        let _ = stream.shutdown(Shutdown::Both);
                    }
                }
                _ => {}
            }
        }
    }

    fn open_udp(&mut self, relay: SocketAddr) -> bool {
        let Ok(socket) = UdpSocket::bind(relay) else {
            return false;
        };
        let reader = socket.try_clone().expect("clone");
        let inputs = self.inputs.clone();
        thread::spawn(move || {
            let mut buffer = [0; 65536];
            while let Ok((len, peer)) = reader.recv_from(&mut buffer) {
                let mut bytes = vec![0; CLIENT_HEADROOM];
                bytes.extend_from_slice(&buffer[..len]);
                bytes.resize(bytes.len() + CLIENT_TAILROOM, 0);
                if inputs.send(Input::Peer(relay, peer, bytes)).is_err() {
                    return;
                }
            }
        });
        self.relays.insert(relay, socket);
        true
    }

    fn open_tcp(&mut self, relay: SocketAddr) -> bool {
        let Ok(listener) = TcpListener::bind(relay) else {
            return false;
        };
        let inputs = self.inputs.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                if let Ok(peer) = stream.peer_addr()
                    && inputs.send(Input::Accepted(relay, peer, stream)).is_err()
                {
                    return;
                }
            }
        });
        true
    }
}

fn read_frames(path: Path, mut stream: TcpStream, inputs: &Sender<Input>) {
    let mut decoder = StreamDecoder::new(StreamFraming::Turn, 65535);
    let mut buffer = [0; 4096];
    // A spliced connection carries no frames: the first bytes that are none end the reading here.
    while let Ok(len @ 1..) = stream.peek(&mut buffer) {
        let mut taken = decoder.push(&buffer[..len]);
        let mut spliced = false;
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => {
                    spliced |= frame.starts_with(&[0, 0x0b]);
                    let _ = inputs.send(Input::Client(path, frame.to_vec()));
                }
                Ok(None) => break,
                Err(_) => return drop(inputs.send(Input::Gone(path))),
            }
            if spliced {
                taken -= decoder.buffered();
                break;
            }
        }
        if stream.read_exact(&mut buffer[..taken]).is_err() {
            break;
        }
        // A ConnectionBind that is refused leaves the connection useless, which is the client's business.
        if spliced && decoder.buffered() == 0 {
            return;
        }
    }
    let _ = inputs.send(Input::Gone(path));
}

fn splice(client: TcpStream, peer: &TcpStream, connection: u32, inputs: &Sender<Input>) {
    let copy = |mut from: TcpStream, mut to: TcpStream, inputs: Sender<Input>| {
        thread::spawn(move || {
            let _ = std::io::copy(&mut from, &mut to);
            let _ = to.shutdown(Shutdown::Both);
            let _ = inputs.send(Input::PeerGone(connection));
        });
    };
    let clone = |stream: &TcpStream| stream.try_clone().expect("clone");
    copy(clone(&client), clone(peer), inputs.clone());
    copy(clone(peer), client, inputs.clone());
}
