//! A TURN client: allocations with permissions and channels, for the load generator.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use visavis_stun::attributes::{
    Channel, Lifetime, Nonce, Realm, RequestedTransport, Username, XorPeerAddress,
    XorRelayedAddress,
};
use visavis_stun::{
    Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId, TransactionId,
};

pub const USER: (&str, &str) = ("alice", "correct-horse");

/// What a client knows of the server, and its last question.
#[derive(Default)]
pub struct Session {
    realm: String,
    nonce: Vec<u8>,
    key: Option<IntegrityKey>,
    id: [u8; 12],
}

/// What an answer says.
pub enum Answer {
    Success(Option<SocketAddr>),
    /// To ask again, with what was learnt.
    Challenge,
    Refused,
    /// No answer to the last question.
    Another,
}

impl Session {
    /// Writes a request, signed once a challenge was seen.
    pub fn request(
        &mut self,
        buffer: &mut [u8],
        method: Method,
        add: impl Fn(&mut MessageBuilder<'_>),
    ) -> usize {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        self.id[..8].copy_from_slice(&number.to_be_bytes());
        self.id[8..].copy_from_slice(&std::process::id().to_be_bytes());
        let id = TransactionId(self.id);
        let mut builder = MessageBuilder::new(buffer, Class::Request, method, id);
        add(&mut builder);
        if let Some(key) = &self.key {
            builder
                .add(&Username(USER.0))
                .add(&Realm(&self.realm))
                .add(&Nonce(&self.nonce))
                .integrity(key);
        }
        builder.finish().expect("room for a request")
    }

    /// An Allocate request, for UDP.
    pub fn allocate(&mut self, buffer: &mut [u8]) -> usize {
        let transport = RequestedTransport::UDP;
        self.request(buffer, Method::ALLOCATE, |builder| {
            builder.add(&transport);
        })
    }

    pub fn read(&mut self, bytes: &[u8]) -> Answer {
        if bytes.len() < 20 || bytes[8..20] != self.id {
            return Answer::Another;
        }
        let Ok(message) = Message::parse(bytes) else {
            return Answer::Refused;
        };
        if message.class() == Class::Success {
            let relayed = message.get().map(|XorRelayedAddress(relayed)| relayed);
            return Answer::Success(relayed);
        }
        let (Some(Realm(realm)), Some(Nonce(nonce))) = (message.get(), message.get()) else {
            return Answer::Refused;
        };
        self.realm = realm.to_owned();
        self.nonce = nonce.to_vec();
        let md5 = PasswordAlgorithmId::MD5;
        self.key = IntegrityKey::long_term(USER.0, realm, USER.1, md5);
        Answer::Challenge
    }
}

/// How a client reaches the server.
pub enum Link {
    Udp(UdpSocket),
    Tcp(TcpStream),
}

/// A client that blocks.
pub struct Client {
    pub link: Link,
    pub relayed: SocketAddr,
    session: Session,
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
            session: Session::default(),
        };
        let relayed = client.ask(Session::allocate)?;
        client.relayed = relayed.ok_or_else(|| refused("no relayed address"))?;
        Ok(client)
    }

    /// Permits a peer and binds a channel to it.
    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> io::Result<()> {
        let channel = Channel { number };
        let bind = |session: &mut Session, buffer: &mut [u8]| {
            session.request(buffer, Method::CHANNEL_BIND, |builder| {
                builder.add(&channel).add(&XorPeerAddress(peer));
            })
        };
        self.ask(bind).map(drop)
    }

    /// Gives the allocation back.
    pub fn free(&mut self) {
        let _ = self.ask(|session, buffer| {
            session.request(buffer, Method::REFRESH, |builder| {
                builder.add(&Lifetime(0));
            })
        });
    }

    /// Asks until it is answered, with credentials where they are wanted.
    fn ask(
        &mut self,
        write: impl Fn(&mut Session, &mut [u8]) -> usize,
    ) -> io::Result<Option<SocketAddr>> {
        let mut buffer = [0; 1024];
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut challenges = 0;
        while Instant::now() < deadline {
            let len = write(&mut self.session, &mut buffer);
            let Some(answer) = self.exchange(&buffer[..len])? else {
                continue;
            };
            match self.session.read(&answer) {
                Answer::Success(relayed) => return Ok(relayed),
                Answer::Challenge if challenges < 2 => challenges += 1,
                Answer::Challenge | Answer::Refused => return Err(refused("refused")),
                Answer::Another => {}
            }
        }
        Err(io::ErrorKind::TimedOut.into())
    }

    fn exchange(&mut self, request: &[u8]) -> io::Result<Option<Vec<u8>>> {
        let mut answer = vec![0; 2048];
        match &mut self.link {
            Link::Udp(socket) => {
                socket.send(request)?;
                match socket.recv(&mut answer) {
                    Ok(len) => answer.truncate(len),
                    Err(_) => return Ok(None),
                }
            }
            Link::Tcp(stream) => {
                stream.write_all(request)?;
                stream.read_exact(&mut answer[..20])?;
                let rest = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
                answer.resize(20 + rest, 0);
                stream.read_exact(&mut answer[20..])?;
            }
        }
        Ok(Some(answer))
    }
}

fn refused(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what.to_owned())
}
