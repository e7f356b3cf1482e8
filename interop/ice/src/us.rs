//! Our agent, its sockets, and a loop that serves them.

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use interop_turn::link::Link;
use visavis_datagram::{Ecn, Path, Protocol, Random, Transmit, TransmitBuf};
use visavis_ice::{
    Agent, Config, ConnectionState, Credentials, Event, GatheringState, LocalAddress, Received,
    RemoteParameters, SelectedPair, StreamFraming,
};
use visavis_stun::StreamDecoder;

use crate::Peer;

/// How long a call may take to come up and to pass data.
const PATIENCE: Duration = Duration::from_secs(30);
const PAYLOAD: &[u8] = b"\x80 hello";

/// A stream of the agent.
enum Wire {
    /// To a TURN server, over TCP or TLS.
    Server(Box<Link>),
    /// To the peer, in RFC 4571 frames.
    Peer(TcpStream, StreamDecoder),
}

/// Our agent on one address of this host.
pub struct Us {
    /// The agent.
    pub agent: Agent,
    udp: UdpSocket,
    local: SocketAddr,
    listener: Option<TcpListener>,
    wires: HashMap<Path, Wire>,
    out: TransmitBuf,
    echoes: usize,
    signalled: bool,
    log: Vec<String>,
}

/// The address that this host's default route leaves from.
pub fn host_address() -> SocketAddr {
    let probe = UdpSocket::bind("0.0.0.0:0").expect("bind");
    probe.connect("192.0.2.1:9").expect("a default route");
    SocketAddr::new(probe.local_addr().expect("bound").ip(), 0)
}

impl Us {
    /// An agent with UDP, and TCP candidates of these types.
    pub fn new(config: Config, passive: bool, active: bool) -> Self {
        let now = Instant::now();
        let udp = udp_socket();
        let local = udp.local_addr().expect("bound");
        let seed = u64::from(local.port());
        println!("seed {seed}");
        let mut agent = Agent::new(config, Random::from_u64(seed), now);
        agent
            .add_local_address(now, LocalAddress::udp(local))
            .expect("a good address");
        let listener = passive.then(|| {
            let listener = TcpListener::bind(host_address()).expect("bind");
            listener.set_nonblocking(true).expect("nonblocking");
            let at = listener.local_addr().expect("bound");
            agent
                .add_local_address(now, LocalAddress::tcp_passive(at))
                .expect("a good address");
            listener
        });
        if active {
            agent
                .add_local_address(now, LocalAddress::tcp_active(local.ip()))
                .expect("a good address");
        }
        agent.gather(now);
        Self {
            agent,
            udp,
            local,
            listener,
            wires: HashMap::new(),
            out: TransmitBuf::new(1, 1400),
            echoes: 0,
            signalled: false,
            log: Vec::new(),
        }
    }

    /// Signals, connects, and has data echoed by the peer until `enough` says so of the selected pair. Panics
    /// with what happened if it takes too long.
    pub fn call(
        &mut self,
        peer: &mut Peer,
        enough: impl Fn(&SelectedPair) -> bool,
    ) -> SelectedPair {
        if !std::mem::replace(&mut self.signalled, true) {
            self.say_credentials(peer);
        }
        let began = Instant::now();
        let mut next_word = began;
        let mut echoed = 0;
        while began.elapsed() < PATIENCE {
            self.turn(peer);
            let now = Instant::now();
            let good = self.agent.selected_pair().filter(|pair| enough(pair));
            if let Some(pair) = good {
                // Two echoes after the pair is there.
                if self.echoes >= echoed + 2 {
                    return pair;
                }
            } else {
                echoed = self.echoes;
            }
            if now >= next_word {
                next_word = now + Duration::from_millis(20);
                self.out.clear();
                self.out.set_framing(self.agent.framing());
                assert!(self.out.push(PAYLOAD));
                if let Some(transmit) = self.agent.send(now, Ecn::NotEct, &mut self.out) {
                    let bytes = self.out.as_slice().to_vec();
                    self.send(&transmit, &bytes);
                }
            }
        }
        let pairs: Vec<_> = self
            .agent
            .pair_stats()
            .map(|pair| format!("{:?} {} -> {}", pair.state, pair.local, pair.remote))
            .collect();
        panic!(
            "no call within {PATIENCE:?}, {} echoes\n{}\n{}\n{:?}",
            self.echoes,
            self.log.join("\n"),
            pairs.join("\n"),
            self.agent.stats()
        );
    }

    fn say_credentials(&self, peer: &mut Peer) {
        let credentials = self.agent.local_credentials();
        let (ufrag, pwd) = (&credentials.ufrag, &credentials.pwd);
        peer.say(&format!("credentials {ufrag} {pwd}"));
    }

    /// Both restart (RFC 8445 section 9), and signal anew.
    pub fn restart(&mut self, peer: &mut Peer) {
        self.agent.restart(Instant::now());
        peer.say("restart");
        self.say_credentials(peer);
    }

    /// The UDP socket goes, and another comes, as when the host's address changes.
    pub fn change_socket(&mut self) {
        let now = Instant::now();
        let old = std::mem::replace(&mut self.udp, udp_socket());
        let gone = std::mem::replace(&mut self.local, self.udp.local_addr().expect("bound"));
        drop(old);
        self.agent.remove_local_address(now, gone, Protocol::Udp);
        self.agent
            .add_local_address(now, LocalAddress::udp(self.local))
            .expect("a good address");
    }

    /// Stays in the call for a while; whether it is still connected then.
    pub fn stay(&mut self, peer: &mut Peer, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            self.turn(peer);
        }
        matches!(
            self.agent.connection_state(),
            ConnectionState::Connected | ConnectionState::Completed
        )
    }

    fn turn(&mut self, peer: &mut Peer) {
        while let Some(line) = peer.hear() {
            self.hear(&line);
        }
        let now = Instant::now();
        if self.agent.poll_timeout().is_some_and(|due| due <= now) {
            self.agent.handle_timeout(now);
        }
        let mut out = std::mem::replace(&mut self.out, TransmitBuf::new(1, 1400));
        while let Some(transmit) = self.agent.poll_transmit(now, &mut out) {
            self.send(&transmit, out.as_slice());
        }
        self.out = out;
        while let Some(event) = self.agent.poll_event() {
            self.event(peer, event);
        }
        self.receive();
    }

    fn hear(&mut self, line: &str) {
        self.log.push(format!("< {line}"));
        let now = Instant::now();
        match line.split_once(' ').unwrap_or((line, "")) {
            ("credentials", rest) => {
                let (ufrag, pwd) = rest.split_once(' ').expect("two words");
                let parameters = RemoteParameters::new(Credentials::new(ufrag, pwd));
                self.agent
                    .set_remote(now, parameters)
                    .expect("good credentials");
            }
            ("candidate", rest) => {
                let candidate = rest.parse().expect("a good line");
                self.agent.add_remote_candidate(now, candidate);
            }
            ("complete", _) => self.agent.end_of_remote_candidates(now),
            ("unreadable", rest) => panic!("the peer cannot read {rest}"),
            _ => {}
        }
    }

    fn event(&mut self, peer: &mut Peer, event: Event) {
        let now = Instant::now();
        self.log.push(format!("{event:?}"));
        match event {
            Event::Candidate(candidate) => peer.say(&format!("candidate {candidate}")),
            Event::GatheringState(GatheringState::Complete) => peer.say("complete"),
            Event::Connect(connect) => {
                let (local, wire) = match connect.framing {
                    StreamFraming::Turn => {
                        let link = Link::open(connect.protocol, connect.remote);
                        (link.path().local, Wire::Server(Box::new(link)))
                    }
                    StreamFraming::Rfc4571 => match TcpStream::connect(connect.remote) {
                        Ok(stream) => (stream.local_addr().expect("bound"), frames(stream)),
                        Err(_) => return self.agent.connect_failed(now, connect.id),
                    },
                };
                let path = Path {
                    protocol: connect.protocol,
                    local,
                    remote: connect.remote,
                };
                self.wires.insert(path, wire);
                self.agent.connected(now, connect.id, local);
            }
            Event::Disconnect(path) => drop(self.wires.remove(&path)),
            _ => {}
        }
    }

    fn send(&mut self, transmit: &Transmit, bytes: &[u8]) {
        if transmit.protocol == Protocol::Udp {
            // A host or network that cannot be reached is an error of some candidates' sends.
            let _ = self.udp.send_to(bytes, transmit.destination);
            return;
        }
        match self.wires.get_mut(&transmit.path()) {
            Some(Wire::Server(link)) => {
                // ChannelData is padded on streams (RFC 8656 section 12.5); STUN is whole words already.
                let mut bytes = bytes.to_vec();
                bytes.resize(bytes.len().next_multiple_of(4), 0);
                link.send(&bytes);
            }
            Some(Wire::Peer(stream, _)) => {
                let length = u16::try_from(bytes.len()).expect("a datagram");
                let frame = [&length.to_be_bytes()[..], bytes].concat();
                // A lost connection is seen when reading.
                let _ = stream.write_all(&frame);
            }
            None => {}
        }
    }

    fn receive(&mut self) {
        let mut buffer = [0; 2048];
        let now = Instant::now();
        if let Some(listener) = &self.listener
            && let Ok((stream, remote)) = listener.accept()
        {
            let path = Path::tcp(stream.local_addr().expect("bound"), remote);
            if self.agent.accepted(path) {
                self.wires.insert(path, frames(stream));
            }
        }
        // Waits for a millisecond at most.
        while let Ok((length, from)) = self.udp.recv_from(&mut buffer) {
            self.take(Path::udp(self.local, from), &mut buffer[..length]);
        }
        let mut arrived = Vec::new();
        let mut lost = Vec::new();
        for (path, wire) in &mut self.wires {
            match wire {
                Wire::Server(link) => {
                    while let Some(frame) = link.receive(Duration::from_millis(1)) {
                        arrived.push((*path, frame));
                    }
                }
                Wire::Peer(stream, decoder) => match stream.read(&mut buffer) {
                    Ok(0) => lost.push(*path),
                    Ok(length) => {
                        let mut rest = &buffer[..length];
                        while !rest.is_empty() {
                            rest = &rest[decoder.push(rest)..];
                            while let Some(frame) = decoder.next_frame().expect("frames") {
                                arrived.push((*path, frame.to_vec()));
                            }
                        }
                    }
                    Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                    Err(_) => lost.push(*path),
                },
            }
        }
        for (path, mut frame) in arrived {
            self.take(path, &mut frame);
        }
        for path in lost {
            self.wires.remove(&path);
            self.agent.disconnected(now, path);
        }
    }

    fn take(&mut self, path: Path, datagram: &mut [u8]) {
        let received = self.agent.handle_datagram(Instant::now(), path, datagram);
        if let Received::Data { payload, .. } = received {
            assert_eq!(&datagram[payload], PAYLOAD);
            self.echoes += 1;
        }
    }
}

fn udp_socket() -> UdpSocket {
    let udp = UdpSocket::bind(host_address()).expect("bind");
    udp.set_read_timeout(Some(Duration::from_millis(1)))
        .expect("not zero");
    udp
}

fn frames(stream: TcpStream) -> Wire {
    stream.set_nonblocking(true).expect("nonblocking");
    stream.set_nodelay(true).expect("nodelay");
    let framing = visavis_stun::StreamFraming::Rfc4571;
    Wire::Peer(stream, StreamDecoder::new(framing, 65535))
}
