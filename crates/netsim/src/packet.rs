//! Packets under way, kept in one slab whose buffers are reused.

use std::net::SocketAddr;
use std::ops::{Deref, DerefMut};

use visavis_datagram::{Ecn, Protocol};

use crate::tcp::Segment;

/// The bytes of a datagram that has arrived. Give it back with
/// [`Simulation::recycle`](crate::Simulation::recycle), and steady traffic allocates nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Payload(pub(crate) Vec<u8>);

impl Payload {
    /// The bytes as a vector.
    pub fn into_vec(self) -> Vec<u8> {
        self.0
    }
}

impl Deref for Payload {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl DerefMut for Payload {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// What a packet is besides its addresses.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Udp,
    Tcp(Segment),
    /// ICMP "fragmentation needed" or "packet too big", about a packet of the destination's.
    TooBig {
        protocol: Protocol,
        /// Where the packet that was too big was going.
        towards: SocketAddr,
        mtu: usize,
    },
}

#[derive(Debug, Clone)]
pub(crate) struct Packet {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) kind: Kind,
    pub(crate) ecn: Ecn,
    pub(crate) hops: u8,
    /// When its host sent it, in nanoseconds.
    pub(crate) sent: u64,
    pub(crate) payload: Vec<u8>,
}

impl Packet {
    /// Bytes of the IP packet.
    pub(crate) fn size(&self) -> usize {
        let ip = if self.source.is_ipv4() { 20 } else { 40 };
        let transport = match self.kind {
            Kind::Udp => 8,
            Kind::Tcp(_) => 20,
            Kind::TooBig { .. } => 36,
        };
        ip + transport + self.payload.len()
    }

    pub(crate) fn protocol(&self) -> Protocol {
        match self.kind {
            Kind::Udp => Protocol::Udp,
            Kind::Tcp(_) => Protocol::Tcp,
            Kind::TooBig { protocol, .. } => protocol,
        }
    }
}

/// Index of a packet in the [`Slab`].
pub(crate) type PacketId = u32;

/// Spare buffers that are kept for reuse.
const SPARES: usize = 8192;

#[derive(Debug, Default)]
pub(crate) struct Slab {
    packets: Vec<Packet>,
    free: Vec<PacketId>,
    spares: Vec<Vec<u8>>,
}

impl Slab {
    pub(crate) fn insert(
        &mut self,
        source: SocketAddr,
        destination: SocketAddr,
        kind: Kind,
        ecn: Ecn,
        bytes: &[u8],
    ) -> PacketId {
        let mut payload = self.spares.pop().unwrap_or_default();
        payload.clear();
        payload.extend_from_slice(bytes);
        let packet = Packet {
            source,
            destination,
            kind,
            ecn,
            hops: 0,
            sent: 0,
            payload,
        };
        match self.free.pop() {
            Some(id) => {
                self.packets[id as usize] = packet;
                id
            }
            None => {
                self.packets.push(packet);
                (self.packets.len() - 1) as PacketId
            }
        }
    }

    pub(crate) fn duplicate(&mut self, id: PacketId) -> PacketId {
        let packet = &self.packets[id as usize];
        let (source, destination) = (packet.source, packet.destination);
        let (kind, ecn, hops, sent) = (packet.kind, packet.ecn, packet.hops, packet.sent);
        let payload = std::mem::take(&mut self.packets[id as usize].payload);
        let copy = self.insert(source, destination, kind, ecn, &payload);
        self.packets[id as usize].payload = payload;
        self.packets[copy as usize].hops = hops;
        self.packets[copy as usize].sent = sent;
        copy
    }

    pub(crate) fn get(&self, id: PacketId) -> &Packet {
        &self.packets[id as usize]
    }

    pub(crate) fn get_mut(&mut self, id: PacketId) -> &mut Packet {
        &mut self.packets[id as usize]
    }

    /// Frees the packet and gives its bytes away.
    pub(crate) fn take(&mut self, id: PacketId) -> Payload {
        self.free.push(id);
        Payload(std::mem::take(&mut self.packets[id as usize].payload))
    }

    pub(crate) fn drop(&mut self, id: PacketId) {
        let payload = self.take(id);
        self.recycle(payload);
    }

    pub(crate) fn recycle(&mut self, payload: Payload) {
        if self.spares.len() < SPARES && payload.0.capacity() > 0 {
            self.spares.push(payload.0);
        }
    }
}
