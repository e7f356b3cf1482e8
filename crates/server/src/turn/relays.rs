//! The relay sockets of a worker, found by number and by address.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;

use slab::Slab;
use visavis_net::direct::DirectSocket;

const NONE: u32 = u32::MAX;

/// One relay socket.
#[derive(Debug)]
pub(super) struct Relay {
    pub(super) socket: DirectSocket,
    pub(super) address: SocketAddr,
}

/// All of them. An address is found by its IP, of which there are few, and its port.
#[derive(Debug)]
pub(super) struct Relays {
    relays: Slab<Relay>,
    first_port: u16,
    by_address: Vec<(IpAddr, Box<[u32]>)>,
}

impl Relays {
    pub(super) fn new(ips: impl Iterator<Item = IpAddr>, ports: &RangeInclusive<u16>) -> Self {
        let len = ports.clone().count();
        Self {
            relays: Slab::new(),
            first_port: *ports.start(),
            by_address: ips
                .map(|ip| (ip, vec![NONE; len].into_boxed_slice()))
                .collect(),
        }
    }

    pub(super) fn insert(&mut self, socket: DirectSocket, address: SocketAddr) -> usize {
        let index = self.relays.insert(Relay { socket, address });
        if let Some(slot) = self.slot(address) {
            *slot = index as u32;
        }
        index
    }

    pub(super) fn remove(&mut self, address: SocketAddr) -> Option<Relay> {
        let index = std::mem::replace(self.slot(address)?, NONE);
        self.relays.try_remove(index as usize)
    }

    pub(super) fn get(&self, index: usize) -> Option<&Relay> {
        self.relays.get(index)
    }

    pub(super) fn find(&self, address: SocketAddr) -> Option<usize> {
        let (_, ports) = self.by_address.iter().find(|(ip, _)| *ip == address.ip())?;
        let offset = address.port().checked_sub(self.first_port)?;
        let index = *ports.get(usize::from(offset))?;
        (index != NONE).then_some(index as usize)
    }

    fn slot(&mut self, address: SocketAddr) -> Option<&mut u32> {
        let (_, ports) = self
            .by_address
            .iter_mut()
            .find(|(ip, _)| *ip == address.ip())?;
        let offset = address.port().checked_sub(self.first_port)?;
        ports.get_mut(usize::from(offset))
    }
}
