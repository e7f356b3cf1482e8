//! The TURN service relays without allocating, sockets and all: counted over every thread of the process.

#[path = "support/turn.rs"]
mod turn;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};
use visavis_stun::attributes::{
    Channel, Nonce, Realm, RequestedTransport, Username, XorPeerAddress, XorRelayedAddress,
};
use visavis_stun::{
    Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId, TransactionId,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<std::alloc::System> = &INSTRUMENTED_SYSTEM;

const PAYLOAD: usize = 1200;
const FRAME: usize = 4 + PAYLOAD;
const PACKETS: usize = 1000;

enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

impl Link {
    fn send(&mut self, bytes: &[u8]) {
        match self {
            Self::Udp(socket) => drop(socket.send(bytes).unwrap()),
            Self::Tcp(stream) => stream.write_all(bytes).unwrap(),
        }
    }

    /// One message or frame.
    fn receive<'a>(&mut self, buffer: &'a mut [u8]) -> &'a [u8] {
        let len = match self {
            Self::Udp(socket) => socket.recv(buffer).unwrap(),
            Self::Tcp(stream) => {
                stream.read_exact(&mut buffer[..4]).unwrap();
                let body = usize::from(u16::from_be_bytes([buffer[2], buffer[3]]));
                // The length of a STUN message leaves its header out, that of ChannelData its own four bytes.
                let rest = if buffer[0] < 4 { 16 + body } else { body };
                stream.read_exact(&mut buffer[4..4 + rest]).unwrap();
                4 + rest
            }
        };
        &buffer[..len]
    }

    /// Asks twice: to be told the realm and a nonce, and with credentials.
    fn ask(
        &mut self,
        number: u8,
        method: Method,
        add: impl Fn(&mut MessageBuilder<'_>),
    ) -> Vec<u8> {
        let mut challenge: Option<(String, Vec<u8>)> = None;
        loop {
            let mut buffer = [0; 1024];
            let id = TransactionId([number; 12]);
            let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
            add(&mut builder);
            if let Some((realm, nonce)) = &challenge {
                let md5 = PasswordAlgorithmId::MD5;
                let key = IntegrityKey::long_term("alice", realm, "secret", md5).unwrap();
                builder
                    .add(&Username("alice"))
                    .add(&Realm(realm))
                    .add(&Nonce(nonce))
                    .integrity(&key);
            }
            let len = builder.finish().unwrap();
            self.send(&buffer[..len]);
            let mut answer = [0; 1024];
            let answer = self.receive(&mut answer);
            let message = Message::parse(answer).unwrap();
            if message.class() == Class::Success {
                return answer.to_vec();
            }
            assert!(challenge.is_none(), "refused: {answer:?}");
            let (Some(Realm(realm)), Some(Nonce(nonce))) = (message.get(), message.get()) else {
                panic!("no challenge: {answer:?}")
            };
            challenge = Some((realm.to_owned(), nonce.to_vec()));
        }
    }

    fn allocate(&mut self) -> SocketAddr {
        let transport = RequestedTransport::UDP;
        let answer = self.ask(1, Method::ALLOCATE, |builder| {
            builder.add(&transport);
        });
        let XorRelayedAddress(relayed) = Message::parse(&answer).unwrap().get().unwrap();
        relayed
    }

    fn bind(&mut self, peer: SocketAddr) {
        let channel = Channel { number: 0x4000 };
        self.ask(2, Method::CHANNEL_BIND, |builder| {
            builder.add(&channel).add(&XorPeerAddress(peer));
        });
    }
}

fn udp(to: SocketAddr) -> Link {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.connect(to).unwrap();
    let patience = Some(Duration::from_secs(20));
    socket.set_read_timeout(patience).unwrap();
    Link::Udp(socket)
}

fn tcp(to: SocketAddr) -> Link {
    let stream = TcpStream::connect(to).unwrap();
    stream.set_nodelay(true).unwrap();
    let patience = Some(Duration::from_secs(20));
    stream.set_read_timeout(patience).unwrap();
    Link::Tcp(stream)
}

/// One test, so that nothing else allocates meanwhile.
#[tokio::test]
async fn relaying_allocates_nothing_over_udp_and_tcp_and_between_clients() {
    let service = turn::service(1, r#"allow-peer = ["127.0.0.0/8"]"#);
    let (over_udp, over_tcp) = (service.udp_addresses()[0], service.tcp_addresses()[0].0);

    let peer = UdpSocket::bind("127.0.0.2:0").unwrap();
    peer.set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut clients = [udp(over_udp), tcp(over_tcp)].map(|mut client| {
        let relayed = client.allocate();
        client.bind(peer.local_addr().unwrap());
        (client, relayed)
    });
    let mut pair = [udp(over_udp), udp(over_udp)];
    let relayed = pair.each_mut().map(Link::allocate);
    pair[0].bind(relayed[1]);
    pair[1].bind(relayed[0]);

    let mut frame = [7; FRAME];
    frame[..4].copy_from_slice(&[0x40, 0, (PAYLOAD >> 8) as u8, PAYLOAD as u8]);
    let mut buffer = [0; 2048];
    let mut round = || {
        for (client, relayed) in &mut clients {
            client.send(&frame);
            assert_eq!(peer.recv(&mut buffer).unwrap(), PAYLOAD);
            peer.send_to(&frame[4..], *relayed).unwrap();
            assert_eq!(client.receive(&mut buffer).len(), FRAME);
        }
        let [near, far] = &mut pair;
        near.send(&frame);
        assert_eq!(far.receive(&mut buffer).len(), FRAME);
        far.send(&frame);
        assert_eq!(near.receive(&mut buffer).len(), FRAME);
    };
    // Buffers and tables get their sizes; the control side has told of the allocations.
    (0..PACKETS).for_each(|_| round());
    tokio::time::sleep(Duration::from_millis(300)).await;
    (0..PACKETS).for_each(|_| round());
    let region = Region::new(ALLOCATOR);
    (0..PACKETS).for_each(|_| round());
    let counted = region.change();
    // Six packets a round; a timer of the housekeeping may be the odd one.
    assert!(
        counted.allocations + counted.reallocations <= 10,
        "{counted:?} for {} packets",
        6 * PACKETS
    );
    service.stop();
}
