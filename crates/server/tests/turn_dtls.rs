//! Clients of the TURN service over DTLS 1.3, also with a post-quantum key share: their hello comes in two fragments.

#[path = "support/turn.rs"]
mod turn;

use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use visavis_crypto::Certificate;
use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::kx::Group;
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config, Connected, Connection, Event, PeerVerification, Version};

struct Client {
    socket: UdpSocket,
    dtls: Connection,
    /// How many datagrams its first flight had.
    hello: usize,
}

impl Client {
    fn new(to: SocketAddr, groups: &[Group], seed: u64) -> Self {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        let options = SelfSigned::at(unix.as_secs() as i64);
        let mut random = Random::from_u64(seed);
        let certificate = Certificate::self_signed(&options, &mut random).unwrap();
        let mut config = Config::new(certificate);
        config.groups = groups.to_vec();
        config.key_shares = 1;
        config.srtp_profiles = Vec::new();
        // The server's certificate is its own; who it is belongs to other tests.
        config.verification = PeerVerification::Caller;
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        socket.connect(to).unwrap();
        let dtls = Connection::client(Arc::new(config), random, Instant::now()).unwrap();
        let mut client = Self {
            socket,
            dtls,
            hello: 0,
        };
        client.hello = client.flush();
        client
    }

    fn flush(&mut self) -> usize {
        let mut out = TransmitBuf::new(10, 1500);
        let mut sent = 0;
        while self.dtls.poll_transmit(Instant::now(), &mut out).is_some() {
            for (datagram, _) in out.datagrams_mut() {
                self.socket.send(datagram).unwrap();
                sent += 1;
            }
            out.clear();
        }
        sent
    }

    /// Takes one datagram, or what time brings: application data.
    fn step(&mut self) -> Vec<u8> {
        let mut buffer = [0; 2048];
        let mut data = Vec::new();
        let patience = Some(Duration::from_millis(20));
        self.socket.set_read_timeout(patience).unwrap();
        if let Ok(len) = self.socket.recv(&mut buffer) {
            let now = Instant::now();
            for range in self.dtls.handle_datagram(now, &mut buffer[..len]) {
                data.extend_from_slice(&buffer[range]);
            }
        }
        self.dtls.handle_timeout(Instant::now());
        self.flush();
        data
    }

    fn connect(&mut self) -> Connected {
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            while let Some(event) = self.dtls.poll_event() {
                match event {
                    Event::Connected(connected) => return *connected,
                    Event::Closed(reason) => panic!("closed: {reason:?}"),
                    _ => {}
                }
            }
            assert!(Instant::now() < deadline, "{:?}", self.dtls);
            self.step();
        }
    }

    /// Sends a Binding request: the answer.
    fn ask(&mut self) -> Vec<u8> {
        let mut request = [0; 20];
        request[..8].copy_from_slice(&[0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42]);
        let framing = self.dtls.framing();
        let mut datagram = vec![0; framing.header];
        datagram.extend_from_slice(&request);
        datagram.resize(datagram.len() + framing.trailer, 0);
        let body = framing.header..framing.header + request.len();
        self.dtls.seal(&mut datagram, body).unwrap();
        self.socket.send(&datagram).unwrap();
        let deadline = Instant::now() + Duration::from_secs(20);
        loop {
            let data = self.step();
            if !data.is_empty() {
                return data;
            }
            assert!(Instant::now() < deadline, "no answer");
        }
    }
}

#[tokio::test]
async fn a_client_with_a_post_quantum_key_share_is_answered() {
    let service = turn::service(2, "");
    let hybrid = [Group::X25519MlKem768, Group::X25519];
    for seed in 0..4 {
        let mut client = Client::new(service.udp_addresses()[0], &hybrid, seed);
        assert!(client.hello > 1, "its hello does not fit a datagram");
        let connected = client.connect();
        assert_eq!(connected.version, Version::Dtls13);
        assert_eq!(connected.group, Group::X25519MlKem768);
        assert_eq!(client.ask()[..2], [1, 1]);
    }
    service.stop();
}

#[tokio::test]
async fn a_client_whose_hello_is_short_is_answered() {
    let service = turn::service(2, "");
    let mut client = Client::new(service.udp_addresses()[0], &[Group::X25519], 1);
    assert_eq!(client.hello, 1);
    assert_eq!(client.connect().group, Group::X25519);
    assert_eq!(client.ask()[..2], [1, 1]);
    service.stop();
}
