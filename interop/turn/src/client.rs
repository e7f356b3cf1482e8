//! A client over TCP that blocks, for tests that need to hold its socket in their hands.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};

use visavis_stun::attributes::{
    AccessToken, Channel, ErrorCode, Nonce, Realm, RequestedTransport, Username, XorPeerAddress,
    XorRelayedAddress,
};
use visavis_stun::{
    Class, IntegrityKey, Message, MessageBuilder, Method, PasswordAlgorithmId, TransactionId,
};

/// What a client proves itself by.
pub enum Secret<'a> {
    /// A password.
    Password(&'a str),
    /// A token, and the session key that is sealed in it (RFC 7635).
    Token {
        /// What the authorization server made.
        token: &'a [u8],
        /// What it told the client.
        key: &'a [u8],
    },
}

/// A client with an allocation, or without.
pub struct Client<'a> {
    /// Its connection to the server.
    pub stream: TcpStream,
    username: &'a str,
    secret: Secret<'a>,
    realm: String,
    nonce: Vec<u8>,
    number: u8,
}

impl<'a> Client<'a> {
    /// Connects.
    pub fn new(server: SocketAddr, username: &'a str, secret: Secret<'a>) -> Self {
        let stream = TcpStream::connect(server).expect("the server accepts");
        stream.set_nodelay(true).expect("no delay");
        Self {
            stream,
            username,
            secret,
            realm: String::new(),
            nonce: Vec::new(),
            number: 0,
        }
    }

    /// Asks for a relay: its address, or the code of the error.
    pub fn allocate(&mut self) -> Result<SocketAddr, u16> {
        let answer = self.ask(Method::ALLOCATE, |builder| {
            builder.add(&RequestedTransport::UDP);
        })?;
        let message = Message::parse(&answer).expect("STUN");
        let XorRelayedAddress(relayed) = message.get().expect("a relayed address");
        Ok(relayed)
    }

    /// Binds a channel to a peer.
    pub fn bind(&mut self, number: u16, peer: SocketAddr) -> Result<(), u16> {
        let answer = self.ask(Method::CHANNEL_BIND, |builder| {
            builder.add(&Channel { number }).add(&XorPeerAddress(peer));
        });
        answer.map(drop)
    }

    fn ask(
        &mut self,
        method: Method,
        add: impl Fn(&mut MessageBuilder<'_>),
    ) -> Result<Vec<u8>, u16> {
        let mut code = 0;
        // Once without credentials, to be told the realm and a nonce.
        for _ in 0..2 {
            self.number += 1;
            let mut buffer = [0; 2048];
            let id = TransactionId([self.number; 12]);
            let mut builder = MessageBuilder::new(&mut buffer, Class::Request, method, id);
            add(&mut builder);
            if !self.nonce.is_empty() {
                self.sign(&mut builder);
            }
            let len = builder.finish().expect("room");
            self.stream.write_all(&buffer[..len]).expect("a request");
            let answer = self.receive();
            let message = Message::parse(&answer).expect("STUN");
            if message.class() == Class::Success {
                return Ok(answer);
            }
            code = message.get::<ErrorCode<'_>>().expect("an error").code;
            if let (Some(Realm(realm)), Some(Nonce(nonce))) = (message.get(), message.get()) {
                self.realm = realm.to_owned();
                self.nonce = nonce.to_vec();
            }
        }
        Err(code)
    }

    fn sign(&self, builder: &mut MessageBuilder<'_>) {
        builder
            .add(&Username(self.username))
            .add(&Realm(&self.realm))
            .add(&Nonce(&self.nonce));
        let key = match &self.secret {
            Secret::Password(password) => {
                let algorithm = PasswordAlgorithmId::MD5;
                IntegrityKey::long_term(self.username, &self.realm, password, algorithm)
                    .expect("a key")
            }
            Secret::Token { token, key } => {
                builder.add(&AccessToken(token));
                IntegrityKey::from_bytes(key)
            }
        };
        builder.integrity(&key);
    }

    /// The next message of the server.
    fn receive(&mut self) -> Vec<u8> {
        let mut answer = vec![0; 20];
        self.stream.read_exact(&mut answer).expect("an answer");
        let rest = usize::from(u16::from_be_bytes([answer[2], answer[3]]));
        answer.resize(20 + rest, 0);
        self.stream.read_exact(&mut answer[20..]).expect("its rest");
        answer
    }
}
