//! A TURN client that blocks: allocations with permissions and channels, for the load generator.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::{Duration, Instant};

use visavis_stun::attributes::{
    Channel, Lifetime, Nonce, Realm, RequestedTransport, Username, XorPeerAddress,
    XorRelayedAddress,
};
use visavis_stun::{
    Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId, TransactionId,
};

pub const USER: (&str, &str) = ("alice", "correct-horse");

/// How a client reaches the server.
pub enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

pub struct Client {
    pub link: Link,
    pub relayed: SocketAddr,
    realm: String,
    nonce: Vec<u8>,
    key: IntegrityKey,
    transaction: u64,
}

impl Client {
    /// An allocation on a fresh socket.
    pub fn allocate(server: SocketAddr, tcp: bool) -> io::Result<Self> {
        let link = if tcp {
            let stream = TcpStream::connect(server)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(Duration::from_secs(3)))?;
            Link::Tcp(stream)
        } else {
            let socket = UdpSocket::bind("127.0.0.1:0")?;
            socket.connect(server)?;
            socket.set_read_timeout(Some(Duration::from_millis(300)))?;
            Link::Udp(socket)
        };
        let mut client = Self {
            link,
            relayed: server,
            realm: String::new(),
            nonce: Vec::new(),
            key: IntegrityKey::short_term(""),
            transaction: u64::from(std::process::id()) << 32,
        };
        let transport = RequestedTransport::UDP;
        for _ in 0..3 {
            let answer = client.ask(Method::ALLOCATE, |builder| {
                builder.add(&transport);
            })?;
            let message = Message::parse(&answer).map_err(|_| bad("no STUN message"))?;
            if message.class() == Class::Success {
                let XorRelayedAddress(relayed) =
                    message.get().ok_or_else(|| bad("no relayed address"))?;
                client.relayed = relayed;
                return Ok(client);
            }
            let (Some(Realm(realm)), Some(Nonce(nonce))) = (message.get(), message.get()) else {
                return Err(bad("refused"));
            };
            client.realm = realm.to_owned();
            client.nonce = nonce.to_vec();
            client.key = IntegrityKey::long_term(USER.0, realm, USER.1, PasswordAlgorithmId::MD5)
                .ok_or_else(|| bad("no key"))?;
        }
        Err(bad("never let in"))
    }

    /// Permits a peer and binds a channel to it.
    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> io::Result<()> {
        let channel = Channel { number };
        let answer = self.ask(Method::CHANNEL_BIND, |builder| {
            builder.add(&channel).add(&XorPeerAddress(peer));
        })?;
        let message = Message::parse(&answer).map_err(|_| bad("no STUN message"))?;
        if message.class() == Class::Success {
            Ok(())
        } else {
            Err(bad(&format!("channel refused: {answer:?}")))
        }
    }

    /// Gives the allocation back.
    pub fn free(&mut self) {
        let _ = self.ask(Method::REFRESH, |builder| {
            builder.add(&Lifetime(0));
        });
    }

    fn ask(
        &mut self,
        method: Method,
        add: impl Fn(&mut MessageBuilder<'_>),
    ) -> io::Result<Vec<u8>> {
        self.transaction += 1;
        let mut id = [0; 12];
        id[..8].copy_from_slice(&self.transaction.to_be_bytes());
        let mut buffer = [0; 1024];
        let mut builder =
            MessageBuilder::new(&mut buffer, Class::Request, method, TransactionId(id));
        add(&mut builder);
        if !self.nonce.is_empty() {
            builder
                .add(&Username(USER.0))
                .add(&Realm(&self.realm))
                .add(&Nonce(&self.nonce))
                .integrity(&self.key);
        }
        let len = builder.finish().map_err(|_| bad("too long"))?;
        let request = &buffer[..len];
        let deadline = Instant::now() + Duration::from_secs(5);
        while Instant::now() < deadline {
            let answer = match &mut self.link {
                Link::Udp(socket) => {
                    socket.send(request)?;
                    let mut answer = vec![0; 2048];
                    match socket.recv(&mut answer) {
                        Ok(len) => answer.truncate(len),
                        Err(_) => continue,
                    }
                    answer
                }
                Link::Tcp(stream) => {
                    stream.write_all(request)?;
                    let mut answer = vec![0; 20];
                    stream.read_exact(&mut answer)?;
                    let rest = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
                    answer.resize(20 + rest, 0);
                    stream.read_exact(&mut answer[20..])?;
                    answer
                }
            };
            if answer.len() >= 20 && answer[8..20] == id {
                return Ok(answer);
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
