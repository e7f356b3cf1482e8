//! One TCP port for the passive candidates of many ICE agents (RFC 6544): strangers connect, and their
//! first frame says whose they are.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::io::AsyncReadExt;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::task::JoinSet;
use visavis_datagram::Path;
use visavis_stun::attributes::Username;
use visavis_stun::{Class, Message, Method, StreamFraming};

use super::{FrameReader, FrameWriter};

/// The largest first frame: a connectivity check with all that may ride in it.
const MAX_CHECK: usize = 2048;

/// Connections that the kernel completes ahead of [`TcpPort::accept`].
const BACKLOG: i32 = 1024;

/// How long nothing is accepted after the system refused (it has no descriptors left, mostly).
const REFUSED_PAUSE: Duration = Duration::from_millis(50);

/// Bounds of a [`TcpPort`].
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct TcpPortOptions {
    /// Connections that have not said yet whose they are. Beyond that new ones wait in the kernel.
    /// Default 256.
    pub pending: usize,
    /// The same per IP address; beyond that they are closed. Default 16.
    pub pending_per_ip: usize,
    /// How long a connection may take to say whose it is. Default 10 s.
    pub first_frame: Duration,
}

impl Default for TcpPortOptions {
    fn default() -> Self {
        Self {
            pending: 256,
            pending_per_ip: 16,
            first_frame: Duration::from_secs(10),
        }
    }
}

/// What a [`TcpPort`] has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TcpPortStats {
    /// Connections accepted from the kernel.
    pub accepted: u64,
    /// Those that began with a connectivity check and were handed out.
    pub identified: u64,
    /// Those that ended, said nothing in time, or began with something else.
    pub rejected: u64,
    /// Those closed because their IP address had too many pending.
    pub over_limit: u64,
    /// Times that the system could not accept.
    pub refused: u64,
}

/// A connection whose first frame was a connectivity check.
#[derive(Debug)]
#[non_exhaustive]
pub struct AcceptedStream {
    /// From the port to the peer.
    pub path: Path,
    /// The username fragment that the check is for: the agent's own.
    pub ufrag: Box<str>,
    /// The check. Not authenticated: the agent does that.
    pub check: Vec<u8>,
    /// What follows it.
    pub reader: FrameReader<OwnedReadHalf>,
    /// Towards the peer.
    pub writer: FrameWriter<OwnedWriteHalf>,
}

/// A listening TCP port that many ICE agents share.
///
/// Owners route [`AcceptedStream::check`] as they route datagrams, with
/// [`Mux::route`](crate::mux::Mux::route), tell the agent of the connection and hand it the check.
#[derive(Debug)]
pub struct TcpPort {
    listener: TcpListener,
    local: SocketAddr,
    options: TcpPortOptions,
    pending: JoinSet<(IpAddr, Option<AcceptedStream>)>,
    per_ip: HashMap<IpAddr, usize>,
    stats: TcpPortStats,
}

impl TcpPort {
    /// Listens. Port 0 picks a free one. Connections may be opened from the same port meanwhile
    /// ([`connect`]). Must be called within a tokio runtime.
    ///
    /// # Errors
    /// If the address is not the host's or the port is taken.
    pub fn bind(address: SocketAddr, options: TcpPortOptions) -> io::Result<Self> {
        let socket = shared_socket(address)?;
        socket.listen(BACKLOG)?;
        let listener = TcpListener::from_std(socket.into())?;
        Ok(Self {
            local: listener.local_addr()?,
            listener,
            options,
            pending: JoinSet::new(),
            per_ip: HashMap::new(),
            stats: TcpPortStats::default(),
        })
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// What was counted.
    pub fn stats(&self) -> TcpPortStats {
        self.stats
    }

    /// The next connection that has said whose it is. Cancel-safe: what is pending stays so.
    pub async fn accept(&mut self) -> AcceptedStream {
        loop {
            let room = self.pending.len() < self.options.pending;
            tokio::select! {
                Some(done) = self.pending.join_next() => {
                    // A task that panicked has no connection; its place is freed with the set.
                    let Ok((ip, stream)) = done else { continue };
                    self.leave(ip);
                    match stream {
                        Some(stream) => {
                            self.stats.identified += 1;
                            return stream;
                        }
                        None => self.stats.rejected += 1,
                    }
                }
                accepted = self.listener.accept(), if room => match accepted {
                    Ok((stream, remote)) => self.greet(stream, remote),
                    Err(error) => {
                        self.stats.refused += 1;
                        tracing::debug!(%error, local = %self.local, "connection not accepted");
                        tokio::time::sleep(REFUSED_PAUSE).await;
                    }
                }
            }
        }
    }

    fn greet(&mut self, stream: TcpStream, remote: SocketAddr) {
        self.stats.accepted += 1;
        let ip = remote.ip();
        let count = self.per_ip.entry(ip).or_default();
        if *count >= self.options.pending_per_ip {
            self.stats.over_limit += 1;
            return;
        }
        *count += 1;
        let limit = self.options.first_frame;
        self.pending.spawn(async move {
            let identified = tokio::time::timeout(limit, identify(stream, remote)).await;
            (ip, identified.ok().and_then(Result::ok).flatten())
        });
    }

    fn leave(&mut self, ip: IpAddr) {
        if let Some(count) = self.per_ip.get_mut(&ip) {
            *count -= 1;
            if *count == 0 {
                self.per_ip.remove(&ip);
            }
        }
    }
}

/// Reads the first frame. `None` if it is no connectivity check.
async fn identify(mut stream: TcpStream, remote: SocketAddr) -> io::Result<Option<AcceptedStream>> {
    let length = usize::from(stream.read_u16().await?);
    if length > MAX_CHECK {
        return Ok(None);
    }
    let mut check = vec![0; length];
    stream.read_exact(&mut check).await?;
    let Some(ufrag) = ufrag_of(&check) else {
        return Ok(None);
    };
    stream.set_nodelay(true)?;
    let path = Path::tcp(stream.local_addr()?, remote);
    let (reader, writer) = stream.into_split();
    Ok(Some(AcceptedStream {
        path,
        ufrag,
        check,
        reader: FrameReader::new(reader, StreamFraming::Rfc4571),
        writer: FrameWriter::new(writer, StreamFraming::Rfc4571),
    }))
}

/// The username fragment of whom a connectivity check is for (RFC 8445 section 7.2.2).
fn ufrag_of(check: &[u8]) -> Option<Box<str>> {
    let message = Message::parse(check).ok()?;
    let is_check = message.class() == Class::Request && message.method() == Method::BINDING;
    let Username(name) = message.get::<Username<'_>>().filter(|_| is_check)?;
    name.split_once(':').map(|(ours, _)| ours.into())
}

/// Opens a connection from `local`, whose port may be that of a [`TcpPort`] and of other connections: for
/// simultaneous-open candidates, and for asking a STUN server how the port is seen (RFC 6544 appendix B).
/// Port 0 takes any.
///
/// # Errors
/// What the system says.
pub async fn connect(local: SocketAddr, remote: SocketAddr) -> io::Result<TcpStream> {
    let socket = if local.port() == 0 {
        let socket = if local.is_ipv4() {
            TcpSocket::new_v4()
        } else {
            TcpSocket::new_v6()
        }?;
        socket.bind(local)?;
        socket
    } else {
        TcpSocket::from_std_stream(shared_socket(local)?.into())
    };
    let stream = socket.connect(remote).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

/// A socket bound to an address that others of this process may be bound to as well.
fn shared_socket(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(
        Domain::for_address(address),
        Type::STREAM,
        Some(Protocol::TCP),
    )?;
    socket.set_nonblocking(true)?;
    if address.port() != 0 {
        socket.set_reuse_address(true)?;
    }
    #[cfg(unix)]
    socket.set_reuse_port(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::Duration;

    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::TcpStream;
    use visavis_datagram::{Ecn, Path, Segments, Transmit};
    use visavis_stun::attributes::Username;
    use visavis_stun::{Class, MessageBuilder, Method, StreamFraming, TransactionId};

    use super::{TcpPort, TcpPortOptions, connect};
    use crate::mux::{Mux, MuxLimits};
    use crate::tcp::{FrameReader, FrameWriter};

    const LOOPBACK: &str = "127.0.0.1:0";

    fn port(options: TcpPortOptions) -> TcpPort {
        TcpPort::bind(LOOPBACK.parse().unwrap(), options).unwrap()
    }

    fn check(username: &str) -> Vec<u8> {
        let mut buffer = [0; 256];
        let id = TransactionId([7; 12]);
        let mut builder = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, id);
        builder.add(&Username(username));
        let length = builder.finish().unwrap();
        let mut frame = (length as u16).to_be_bytes().to_vec();
        frame.extend_from_slice(&buffer[..length]);
        frame
    }

    fn one(path: Path, len: usize) -> Transmit {
        let segments = Segments {
            segment_size: len,
            len,
        };
        Transmit::new(path, Ecn::NotEct, segments)
    }

    /// Whether the other end has closed the connection.
    async fn is_closed(stream: &mut TcpStream) -> bool {
        matches!(stream.read(&mut [0]).await, Ok(0) | Err(_))
    }

    #[tokio::test]
    async fn connections_find_their_agents_by_ufrag_on_one_port() {
        let mut port = port(TcpPortOptions::default());
        let mut mux = Mux::new(MuxLimits::default());
        assert!(mux.add_ufrag("alice", 1) && mux.add_ufrag("bob", 2));
        for (ufrag, owner) in [("bob", 2), ("alice", 1)] {
            let mut client = TcpStream::connect(port.local_addr()).await.unwrap();
            // In two pieces, as a stream may bring it.
            let frame = check(&format!("{ufrag}:peer"));
            client.write_all(&frame[..9]).await.unwrap();
            client.write_all(&frame[9..]).await.unwrap();
            let mut accepted = port.accept().await;
            assert_eq!(*accepted.ufrag, *ufrag);
            assert_eq!(accepted.check, frame[2..]);
            assert_eq!(accepted.path.remote, client.local_addr().unwrap());
            assert_eq!(mux.route(accepted.path, &accepted.check), Some(owner));
            // Frames go on both ways.
            let (read, write) = client.into_split();
            let mut writer = FrameWriter::new(write, StreamFraming::Rfc4571);
            let mut reader = FrameReader::new(read, StreamFraming::Rfc4571);
            let mut frame = Vec::new();
            writer.write(&one(accepted.path, 3), b"abc").await.unwrap();
            assert!(accepted.reader.next(&mut frame).await.unwrap());
            assert_eq!(frame, b"abc");
            let answer = one(accepted.path, 2);
            accepted.writer.write(&answer, b"de").await.unwrap();
            assert!(reader.next(&mut frame).await.unwrap());
            assert_eq!(frame, b"de");
        }
        assert_eq!(port.stats().identified, 2);
    }

    #[tokio::test]
    async fn who_says_nothing_or_nonsense_is_closed_and_holds_nobody_up() {
        let mut port = port(TcpPortOptions {
            first_frame: Duration::from_millis(50),
            ..TcpPortOptions::default()
        });
        let at = port.local_addr();
        let mut silent = TcpStream::connect(at).await.unwrap();
        let mut nonsense = TcpStream::connect(at).await.unwrap();
        nonsense.write_all(b"GET / HTTP/1.1\r\n\r\n").await.unwrap();
        let mut nameless = TcpStream::connect(at).await.unwrap();
        nameless.write_all(&check("nocolon")).await.unwrap();
        let strangers = async {
            is_closed(&mut silent).await
                && is_closed(&mut nonsense).await
                && is_closed(&mut nameless).await
        };
        tokio::select! {
            _ = port.accept() => panic!("nobody was identified"),
            closed = strangers => assert!(closed),
        }
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(&check("alice:peer")).await.unwrap();
        assert_eq!(*port.accept().await.ufrag, *"alice");
        assert_eq!(port.stats().rejected, 3);
    }

    #[tokio::test]
    async fn one_address_cannot_take_all_places() {
        let mut port = port(TcpPortOptions {
            pending_per_ip: 2,
            ..TcpPortOptions::default()
        });
        let at = port.local_addr();
        let _first = TcpStream::connect(at).await.unwrap();
        let mut second = TcpStream::connect(at).await.unwrap();
        let mut third = TcpStream::connect(at).await.unwrap();
        tokio::select! {
            _ = port.accept() => panic!("nobody was identified"),
            closed = is_closed(&mut third) => assert!(closed),
        }
        assert_eq!(port.stats().over_limit, 1);
        // A place is free again once its holder is known.
        second.write_all(&check("alice:peer")).await.unwrap();
        let _accepted = port.accept().await;
        let mut fourth = TcpStream::connect(at).await.unwrap();
        fourth.write_all(&check("bob:peer")).await.unwrap();
        assert_eq!(*port.accept().await.ufrag, *"bob");
    }

    #[tokio::test]
    async fn pending_connections_are_bounded() {
        let mut port = port(TcpPortOptions {
            pending: 3,
            first_frame: Duration::from_millis(30),
            ..TcpPortOptions::default()
        });
        let at = port.local_addr();
        let mut silent = Vec::new();
        for _ in 0..8 {
            silent.push(TcpStream::connect(at).await.unwrap());
        }
        let mut client = TcpStream::connect(at).await.unwrap();
        client.write_all(&check("alice:peer")).await.unwrap();
        // It comes behind them all, three at a time.
        assert_eq!(*port.accept().await.ufrag, *"alice");
        assert!(port.pending.len() <= 3 && port.per_ip.len() <= 1);
    }

    #[tokio::test]
    async fn a_port_that_listens_opens_connections_too() {
        let mut server = port(TcpPortOptions::default());
        let mut shared = port(TcpPortOptions::default());
        let local = shared.local_addr();
        let mut out = connect(local, server.local_addr()).await.unwrap();
        assert_eq!(out.local_addr().unwrap(), local);
        out.write_all(&check("alice:peer")).await.unwrap();
        assert_eq!(server.accept().await.path.remote, local);
        let mut client = connect(SocketAddr::from(([127, 0, 0, 1], 0)), local)
            .await
            .unwrap();
        client.write_all(&check("bob:peer")).await.unwrap();
        assert_eq!(*shared.accept().await.ufrag, *"bob");
    }
}
