//! A client's connection to a server: UDP, TCP or TLS, frame by frame.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned};
use visavis_datagram::{Path, Protocol};
use visavis_stun::{StreamDecoder, StreamFraming};

enum Socket {
    Udp(UdpSocket),
    Tcp(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// A connection to a server.
pub struct Link {
    socket: Socket,
    path: Path,
    decoder: StreamDecoder,
}

impl Link {
    /// Connects.
    pub fn open(protocol: Protocol, server: SocketAddr) -> Self {
        let (socket, local) = match protocol {
            Protocol::Udp => {
                let socket = UdpSocket::bind("127.0.0.1:0").expect("bind");
                socket.connect(server).expect("connect");
                let local = socket.local_addr().expect("address");
                (Socket::Udp(socket), local)
            }
            _ => {
                let stream = TcpStream::connect(server).expect("connect");
                stream.set_nodelay(true).expect("nodelay");
                let local = stream.local_addr().expect("address");
                let socket = if protocol == Protocol::Tls {
                    Socket::Tls(Box::new(tls(stream)))
                } else {
                    Socket::Tcp(stream)
                };
                (socket, local)
            }
        };
        let path = Path {
            protocol,
            local,
            remote: server,
        };
        Self {
            socket,
            path,
            decoder: StreamDecoder::new(StreamFraming::Turn, 2000),
        }
    }

    /// The 5-tuple.
    pub fn path(&self) -> Path {
        self.path
    }

    /// Sends one message.
    pub fn send(&mut self, bytes: &[u8]) {
        match &mut self.socket {
            Socket::Udp(socket) => drop(socket.send(bytes)),
            Socket::Tcp(stream) => stream.write_all(bytes).expect("write"),
            Socket::Tls(stream) => {
                stream.write_all(bytes).expect("write");
                stream.flush().expect("flush");
            }
        }
    }

    /// Waits for one message; `None` when nothing came in time.
    pub fn receive(&mut self, patience: Duration) -> Option<Vec<u8>> {
        let patience = patience.max(Duration::from_millis(1));
        let mut buffer = [0; 4096];
        if let Socket::Udp(socket) = &self.socket {
            socket.set_read_timeout(Some(patience)).expect("timeout");
            let len = socket.recv(&mut buffer).ok()?;
            return Some(buffer[..len].to_vec());
        }
        loop {
            if let Some(frame) = self.decoder.next_frame().expect("frames") {
                return Some(frame.to_vec());
            }
            let stream = match &self.socket {
                Socket::Tcp(stream) => stream,
                Socket::Tls(stream) => &stream.sock,
                Socket::Udp(_) => return None,
            };
            stream.set_read_timeout(Some(patience)).expect("timeout");
            // As much as one read may give fits behind an unfinished frame.
            let read = match &mut self.socket {
                Socket::Tcp(stream) => stream.read(&mut buffer[..512]),
                Socket::Tls(stream) => stream.read(&mut buffer[..512]),
                Socket::Udp(_) => return None,
            };
            match read {
                Ok(0) => panic!("the server closed the connection"),
                Ok(len) => {
                    let mut bytes = &buffer[..len];
                    while !bytes.is_empty() {
                        let taken = self.decoder.push(bytes);
                        assert_ne!(taken, 0, "the decoder has room for a read");
                        bytes = &bytes[taken..];
                    }
                }
                Err(error)
                    if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) =>
                {
                    return None;
                }
                Err(error) => panic!("read: {error}"),
            }
        }
    }
}

/// What a TLS client is set up with that believes every server of this host.
pub fn any_certificate() -> Arc<ClientConfig> {
    let config = ClientConfig::builder_with_provider(provider())
        .with_safe_default_protocol_versions()
        .expect("versions")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(AnyCertificate))
        .with_no_client_auth();
    Arc::new(config)
}

fn tls(mut stream: TcpStream) -> StreamOwned<ClientConnection, TcpStream> {
    let name = ServerName::try_from("localhost").expect("a name");
    let mut connection = ClientConnection::new(any_certificate(), name).expect("TLS");
    // Here, where reading blocks: later a write would meet the patience of `receive`.
    connection.complete_io(&mut stream).expect("a handshake");
    StreamOwned::new(connection, stream)
}

pub(crate) fn provider() -> Arc<rustls::crypto::CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Whoever answers on loopback is believed.
#[derive(Debug)]
struct AnyCertificate;

impl ServerCertVerifier for AnyCertificate {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider()
            .signature_verification_algorithms
            .supported_schemes()
    }
}
