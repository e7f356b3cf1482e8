//! Which relayed addresses of a process are in use: what its workers tell each other. On its own addresses a server relays to
//! these and to nothing else.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU8, Ordering};

use super::event::RelayKind;

const FREE: u8 = 0;
const UDP: u8 = 1;
const TCP: u8 = 2;

/// The relayed addresses that the workers of a process have open. One is shared by all of them.
#[derive(Debug)]
pub struct RelayPool {
    first: u16,
    /// By external address.
    ports: Vec<(IpAddr, Box<[AtomicU8]>)>,
}

impl RelayPool {
    /// For addresses as peers see them, and all workers' ports.
    pub fn new(external: impl IntoIterator<Item = IpAddr>, ports: &RangeInclusive<u16>) -> Self {
        let of_one = || ports.clone().map(|_| AtomicU8::new(FREE)).collect();
        Self {
            first: *ports.start(),
            ports: external.into_iter().map(|ip| (ip, of_one())).collect(),
        }
    }

    /// What is open at an address.
    pub(super) fn kind(&self, address: SocketAddr) -> Option<RelayKind> {
        match self.slot(address)?.load(Ordering::Relaxed) {
            UDP => Some(RelayKind::Udp),
            TCP => Some(RelayKind::Tcp),
            _ => None,
        }
    }

    pub(super) fn set(&self, address: SocketAddr, kind: Option<RelayKind>) {
        let kind = match kind {
            None => FREE,
            Some(RelayKind::Udp) => UDP,
            Some(RelayKind::Tcp) => TCP,
        };
        if let Some(slot) = self.slot(address) {
            slot.store(kind, Ordering::Relaxed);
        }
    }

    fn slot(&self, address: SocketAddr) -> Option<&AtomicU8> {
        let (_, ports) = self.ports.iter().find(|(ip, _)| *ip == address.ip())?;
        ports.get(usize::from(address.port().checked_sub(self.first)?))
    }
}
