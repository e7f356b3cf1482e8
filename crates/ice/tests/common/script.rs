//! A peer that speaks STUN by script, to say what no honest agent would.

use std::net::SocketAddr;
use std::time::Instant;

use visavis_datagram::{Path, TransmitBuf};
use visavis_ice::{Agent, Credentials, Received};
use visavis_stun::attributes::{
    ErrorCode, IceControlled, IceControlling, Nomination, Priority, UseCandidate, Username,
    XorMappedAddress,
};
use visavis_stun::{
    AttributeType, Class, IntegrityKey, Message, MessageBuilder, Method, TransactionId,
};

/// How a check differs from a good one.
#[derive(Clone)]
pub struct Check {
    pub id: u8,
    pub username: String,
    pub password: String,
    pub controlling: Option<u64>,
    pub controlled: Option<u64>,
    pub use_candidate: bool,
    pub nomination: Option<u32>,
    pub fingerprint: bool,
    pub integrity: bool,
    pub extra: Vec<(u16, Vec<u8>)>,
}

impl Check {
    /// A good check to an agent with `local` credentials from one with the fragment `remote`.
    pub fn to(local: &Credentials, remote: &str) -> Self {
        Self {
            id: 1,
            username: format!("{}:{}", local.ufrag, remote),
            password: local.pwd.to_string(),
            controlling: Some(1),
            controlled: None,
            use_candidate: false,
            nomination: None,
            fingerprint: true,
            integrity: true,
            extra: Vec::new(),
        }
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = vec![0; 1500];
        let id = TransactionId([self.id; 12]);
        let key = IntegrityKey::short_term(&self.password);
        let mut builder = MessageBuilder::new(&mut out, Class::Request, Method::BINDING, id);
        builder
            .add(&Username(&self.username))
            .add(&Priority(0x6e00_01ff));
        if let Some(tie_breaker) = self.controlling {
            builder.add(&IceControlling(tie_breaker));
        }
        if let Some(tie_breaker) = self.controlled {
            builder.add(&IceControlled(tie_breaker));
        }
        if self.use_candidate {
            builder.add(&UseCandidate);
        }
        if let Some(nomination) = self.nomination {
            builder.add(&Nomination(nomination));
        }
        for (kind, value) in &self.extra {
            builder.add_raw(AttributeType(*kind), value);
        }
        if self.integrity {
            builder.integrity(&key);
        }
        if self.fingerprint {
            builder.fingerprint();
        }
        let len = builder.finish().unwrap();
        out.truncate(len);
        out
    }
}

/// Everything that an agent wants to send now.
pub fn drain(agent: &mut Agent, now: Instant) -> Vec<(Path, Vec<u8>)> {
    let mut out = TransmitBuf::new(1, 1400);
    let mut sent = Vec::new();
    while let Some(transmit) = agent.poll_transmit(now, &mut out) {
        sent.push((transmit.path(), out.as_slice().to_vec()));
        assert!(sent.len() < 1000, "never stops sending");
    }
    sent
}

/// Lets time pass in the agent, collecting what it sends.
pub fn pass(agent: &mut Agent, from: Instant, to: Instant) -> Vec<(Instant, Path, Vec<u8>)> {
    let mut sent = Vec::new();
    let mut now = from;
    let mut rounds = 0;
    loop {
        for (path, bytes) in drain(agent, now) {
            sent.push((now, path, bytes));
        }
        match agent.poll_timeout() {
            Some(next) if next <= to => now = next.max(now),
            _ => return sent,
        }
        agent.handle_timeout(now);
        rounds += 1;
        assert!(rounds < 1_000_000, "a timeout is always due");
    }
}

pub fn give(agent: &mut Agent, now: Instant, from: Path, bytes: &[u8]) -> Received {
    agent.handle_datagram(now, from, &mut bytes.to_vec())
}

/// The answer of an honest peer with `password` to a request that was seen from `mapped`.
pub fn answer(request: &[u8], password: &str, mapped: SocketAddr) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut out = vec![0; 200];
    let len = MessageBuilder::response(&mut out, Class::Success, &request)
        .add(&XorMappedAddress(mapped))
        .integrity(&IntegrityKey::short_term(password))
        .fingerprint()
        .finish()
        .unwrap();
    out.truncate(len);
    out
}

/// The answer of a peer that does not say from where it saw the request.
pub fn bare_answer(request: &[u8], password: &str) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut out = vec![0; 200];
    let len = MessageBuilder::response(&mut out, Class::Success, &request)
        .integrity(&IntegrityKey::short_term(password))
        .fingerprint()
        .finish()
        .unwrap();
    out.truncate(len);
    out
}

/// An error response.
pub fn refuse(request: &[u8], password: &str, code: ErrorCode<'static>) -> Vec<u8> {
    let request = Message::parse(request).unwrap();
    let mut out = vec![0; 200];
    let len = MessageBuilder::response(&mut out, Class::Error, &request)
        .add(&code)
        .integrity(&IntegrityKey::short_term(password))
        .fingerprint()
        .finish()
        .unwrap();
    out.truncate(len);
    out
}

pub fn is_request(bytes: &[u8]) -> bool {
    Message::parse(bytes).is_ok_and(|message| message.class() == Class::Request)
}

pub fn class(bytes: &[u8]) -> Option<Class> {
    Message::parse(bytes).ok().map(|message| message.class())
}

/// The error code of a response.
pub fn code(bytes: &[u8]) -> Option<u16> {
    Message::parse(bytes)
        .ok()?
        .get::<ErrorCode<'_>>()
        .map(|error| error.code)
}
