//! The packet trace: what makes two runs the same.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use visavis_datagram::Ecn;

use crate::hash::fold;

/// What happened to a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TraceKind {
    /// A host sent it.
    Sent,
    /// A host got it.
    Delivered,
    /// It was dropped: queue, loss, MTU, NAT, firewall, no route.
    Dropped,
}

/// One line of the packet trace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceEntry {
    /// When, since the simulation's start.
    pub at: Duration,
    /// What happened.
    pub kind: TraceKind,
    /// The packet's source as it was at this place.
    pub source: SocketAddr,
    /// The packet's destination as it was at this place.
    pub destination: SocketAddr,
    /// Its ECN codepoint.
    pub ecn: Ecn,
    /// Bytes of payload.
    pub len: usize,
    /// A hash of the payload.
    pub content: u64,
}

impl fmt::Display for TraceEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:>12.6} {:<9} {} > {} {:?} {} bytes {:016x}",
            self.at.as_secs_f64(),
            format!("{:?}", self.kind),
            self.source,
            self.destination,
            self.ecn,
            self.len,
            self.content
        )
    }
}

/// Hashes every entry; keeps them only when asked to.
#[derive(Debug, Default)]
pub(crate) struct Trace {
    hash: u64,
    entries: Option<Vec<TraceEntry>>,
}

impl Trace {
    pub(crate) fn record(&mut self) {
        self.entries.get_or_insert_default();
    }

    pub(crate) fn hash(&self) -> u64 {
        self.hash
    }

    pub(crate) fn entries(&self) -> &[TraceEntry] {
        self.entries.as_deref().unwrap_or_default()
    }

    pub(crate) fn add(
        &mut self,
        at: u64,
        kind: TraceKind,
        addresses: (SocketAddr, SocketAddr),
        ecn: Ecn,
        payload: &[u8],
    ) {
        let content = digest(payload);
        let (source, destination) = addresses;
        let mut hash = fold(self.hash ^ at);
        hash = fold(hash ^ (kind as u64) << 8 ^ u64::from(ecn.bits()));
        hash = fold(hash ^ address(source));
        hash = fold(hash ^ address(destination));
        self.hash = fold(hash ^ content);
        if let Some(entries) = &mut self.entries {
            entries.push(TraceEntry {
                at: Duration::from_nanos(at),
                kind,
                source,
                destination,
                ecn,
                len: payload.len(),
                content,
            });
        }
    }
}

fn address(address: SocketAddr) -> u64 {
    let ip = match address {
        SocketAddr::V4(v4) => u64::from(u32::from(*v4.ip())),
        SocketAddr::V6(v6) => {
            let bits = u128::from(*v6.ip());
            fold((bits >> 64) as u64) ^ bits as u64
        }
    };
    fold(ip) ^ u64::from(address.port())
}

fn digest(payload: &[u8]) -> u64 {
    let mut hash = payload.len() as u64;
    let mut chunks = payload.chunks_exact(8);
    for chunk in &mut chunks {
        let word = u64::from_le_bytes(chunk.try_into().expect("eight bytes"));
        hash = fold(hash ^ word);
    }
    for &byte in chunks.remainder() {
        hash = fold(hash ^ u64::from(byte));
    }
    hash
}
