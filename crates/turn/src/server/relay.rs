//! The path of a packet: from a client to a peer, from a peer to a client, and from one client to another without leaving the
//! process. Nothing is copied and nothing allocated.

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use visavis_datagram::Path;
use visavis_stun::attributes::{Data, DontFragment, Icmp, XorPeerAddress};
use visavis_stun::{
    AttributeType, CHANNEL_HEADER_LEN, ChannelData, Class, Message, MessageBuilder, Method,
    TransactionId, channel_data_header, pad_to_word,
};

use super::allocation::AllocationId;
use super::config::Limits;
use super::event::RelayKind;
use super::worker::Server;

/// Room that has to be in front of a peer's datagram: a Data indication's header, XOR-PEER-ADDRESS and DATA.
pub const CLIENT_HEADROOM: usize = 48;

/// Room that has to be behind it: padding.
pub const CLIENT_TAILROOM: usize = 3;

/// Where bytes of the handed-in buffer go.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// To a peer, from a relay socket.
    ToPeer {
        /// What the socket is bound to.
        relay: SocketAddr,
        /// The destination.
        peer: SocketAddr,
        /// The payload.
        payload: Range<usize>,
        /// Whether to set the DF bit (DONT-FRAGMENT).
        dont_fragment: bool,
    },
    /// To a client.
    ToClient {
        /// The client.
        path: Path,
        /// The whole datagram, header and padding included.
        datagram: Range<usize>,
    },
}

/// What stands around a peer's datagram on its way to a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ToClient {
    /// The client.
    pub path: Path,
    bytes: [u8; CLIENT_HEADROOM],
    len: usize,
    /// How many zeroes follow it, up to 3.
    pub padding: usize,
}

impl ToClient {
    /// What goes in front of it.
    pub fn header(&self) -> &[u8] {
        &self.bytes[..self.len]
    }
}

/// How a datagram for another client of this worker fared.
enum Shortcut {
    /// It has to take the way through the kernel.
    None,
    /// The receiver's rate is used up.
    Dropped,
    Taken(Forward),
}

impl Server {
    pub(super) fn relay_channel_data(
        &mut self,
        now: Instant,
        from: Path,
        datagram: &mut [u8],
    ) -> Option<Forward> {
        let Some(data) = ChannelData::parse(datagram) else {
            self.stats.malformed += 1;
            return None;
        };
        let (number, len) = (data.channel, data.payload.len());
        let id = self.client(now, from)?;
        let allocation = self.table.get(id)?;
        let channel = allocation
            .channel(now, number)
            .filter(|channel| channel.permitted > now);
        let Some(channel) = channel else {
            self.stats.unexpected_data += 1;
            return None;
        };
        let peer = channel.peer;
        let relay = allocation.relay_for(peer.ip())?;
        let (relay, source) = (relay.bind, relay.external);
        if !self.charge(now, id, len, true) {
            return None;
        }
        let payload = CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + len;
        match self.short_circuit(now, source, peer, datagram, payload.clone()) {
            Shortcut::Taken(forward) => Some(forward),
            Shortcut::Dropped => None,
            Shortcut::None => Some(Forward::ToPeer {
                relay,
                peer: self.inside(peer),
                payload,
                dont_fragment: false,
            }),
        }
    }

    /// A Send indication (RFC 8656 section 11.2).
    pub(super) fn relay_send(
        &mut self,
        now: Instant,
        from: Path,
        message: &Message<'_>,
    ) -> Option<Forward> {
        let id = self.client(now, from)?;
        let unknown = message.unknown_required(AttributeType::is_known).count();
        let (Some(XorPeerAddress(peer)), Some(Data(payload)), 0) =
            (message.get(), message.get(), unknown)
        else {
            self.stats.malformed += 1;
            return None;
        };
        let dont_fragment = message.get::<DontFragment>().is_some();
        let allocation = self.table.get(id)?;
        let relay = allocation.relay_for(peer.ip()).map(|relay| relay.bind);
        let permitted = allocation.is_permitted(now, peer.ip()) && allocation.tcp.is_none();
        let (Some(relay), true) = (relay, permitted) else {
            self.stats.unexpected_data += 1;
            return None;
        };
        // The permission was for the address; the port is looked at here.
        if !self.config.allows_peer(peer, RelayKind::Udp)
            || dont_fragment && !self.config.dont_fragment
        {
            self.stats.forbidden_peers += 1;
            return None;
        }
        if !self.charge(now, id, payload.len(), true) {
            return None;
        }
        let start = payload.as_ptr().addr() - message.as_bytes().as_ptr().addr();
        Some(Forward::ToPeer {
            relay,
            peer: self.inside(peer),
            payload: start..start + payload.len(),
            dont_fragment,
        })
    }

    /// Takes a datagram that a relay socket received: it stands in `buffer` at `payload`, with
    /// [`CLIENT_HEADROOM`] bytes in front and [`CLIENT_TAILROOM`] behind, which are written to.
    pub fn handle_peer(
        &mut self,
        now: Instant,
        relay: SocketAddr,
        peer: SocketAddr,
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Option<Forward> {
        let Some(id) = self.allocation_at(relay) else {
            self.stats.unexpected_data += 1;
            return None;
        };
        let peer = self.outside(peer);
        self.deliver(now, id, peer, buffer, payload)
    }

    /// As [`handle_peer`](Self::handle_peer), for a datagram of `len` bytes that has no room around it (one of a run that
    /// the kernel coalesced): says what goes in front and behind.
    pub fn route_peer(
        &mut self,
        now: Instant,
        relay: SocketAddr,
        peer: SocketAddr,
        len: usize,
    ) -> Option<ToClient> {
        let Some(id) = self.allocation_at(relay) else {
            self.stats.unexpected_data += 1;
            return None;
        };
        let peer = self.outside(peer);
        self.wrap(now, id, peer, len)
    }

    /// An ICMP message about a datagram that was sent from `relay` to `peer` (RFC 8656 section 11.5). The client is told by a Data
    /// indication in [`poll_transmit`](Self::poll_transmit).
    pub fn handle_icmp(&mut self, now: Instant, relay: SocketAddr, peer: SocketAddr, icmp: Icmp) {
        let wanted: &[u8] = if peer.is_ipv4() { &[3, 11] } else { &[1, 2, 3] };
        let Some(id) = self.allocation_at(relay) else {
            return;
        };
        let Some(allocation) = self.table.get(id) else {
            return;
        };
        if !wanted.contains(&icmp.kind) || !allocation.is_permitted(now, peer.ip()) {
            return;
        }
        let path = allocation.path;
        let transaction = TransactionId::random(&mut self.random);
        let limit = self.config.limits.waiting_reply_bytes;
        self.replies.push(limit, path, |buffer| {
            MessageBuilder::new(buffer, Class::Indication, Method::DATA, transaction)
                .add(&XorPeerAddress(peer))
                .add(&icmp)
                .finish()
        });
    }

    /// The allocation of a client that sends data.
    fn client(&mut self, now: Instant, from: Path) -> Option<AllocationId> {
        let id = match self.last {
            Some((path, id)) if path == from => id,
            _ => {
                let Some(&id) = self.by_path.get(&from) else {
                    self.stats.unexpected_data += 1;
                    return None;
                };
                self.last = Some((from, id));
                id
            }
        };
        if Self::is_move(self.table.get(id)?, from) {
            self.complete_move(now, from);
        }
        Some(id)
    }

    /// Counts a datagram against every rate. False: it is dropped.
    fn charge(&mut self, now: Instant, id: AllocationId, len: usize, to_peer: bool) -> bool {
        let Some(allocation) = self.table.get_mut(id) else {
            return false;
        };
        let limits: &Limits = &self.config.limits;
        let mut allowed = allocation.meter.allows(now, &limits.allocation_rate, len)
            && self.total.allows(now, &limits.total_rate, len);
        if limits.user_rate != Default::default()
            && let Some(user) = self.users.get_mut(allocation.user)
        {
            allowed = allowed && user.meter.allows(now, &limits.user_rate, len);
        }
        if limits.address_rate != Default::default()
            && let Some(source) = self.sources.get_mut(allocation.source)
        {
            allowed = allowed && source.meter.allows(now, &limits.address_rate, len);
        }
        if !allowed {
            self.stats.over_rate += 1;
            return false;
        }
        let bytes = len as u64;
        if to_peer {
            allocation.bytes_to_peers += bytes;
            self.stats.bytes_to_peers += bytes;
            self.stats.packets_to_peers += 1;
        } else {
            allocation.bytes_to_client += bytes;
            self.stats.bytes_to_clients += bytes;
            self.stats.packets_to_clients += 1;
        }
        true
    }

    /// From one client of this worker to another: the sender's header becomes the receiver's, in place. Not where the peer is no
    /// such client, or has no channel for the sender (a longer header would not fit).
    fn short_circuit(
        &mut self,
        now: Instant,
        source: SocketAddr,
        peer: SocketAddr,
        datagram: &mut [u8],
        payload: Range<usize>,
    ) -> Shortcut {
        let receiver = self
            .relay_index(peer, true)
            .and_then(|address| self.ports[address].owner(peer.port()))
            .and_then(|index| self.table.at_mut(index))
            .filter(|allocation| !allocation.opening && !allocation.path.protocol.is_stream());
        let Some(allocation) = receiver else {
            return Shortcut::None;
        };
        let number = match allocation.channel_to(now, source) {
            Some(channel) if channel.permitted > now => channel.number,
            _ => return Shortcut::None,
        };
        let (id, path) = (allocation.id, allocation.path);
        if !self.charge(now, id, payload.len(), false) {
            return Shortcut::Dropped;
        }
        let start = payload.start - CHANNEL_HEADER_LEN;
        // A datagram has at most 65535 bytes.
        let header = channel_data_header(number, payload.len() as u16);
        datagram[start..payload.start].copy_from_slice(&header);
        self.stats.short_circuits += 1;
        Shortcut::Taken(Forward::ToClient {
            path,
            datagram: start..payload.end,
        })
    }

    /// Writes the header of a peer's datagram in front of it.
    fn deliver(
        &mut self,
        now: Instant,
        id: AllocationId,
        peer: SocketAddr,
        buffer: &mut [u8],
        payload: Range<usize>,
    ) -> Option<Forward> {
        // Whether it fits is known before it is counted.
        if payload.start < CLIENT_HEADROOM || payload.end + CLIENT_TAILROOM > buffer.len() {
            return None;
        }
        let wrapped = self.wrap(now, id, peer, payload.len())?;
        let header = wrapped.header();
        let start = payload.start - header.len();
        buffer[start..payload.start].copy_from_slice(header);
        let end = payload.end + wrapped.padding;
        buffer[payload.end..end].fill(0);
        Some(Forward::ToClient {
            path: wrapped.path,
            datagram: start..end,
        })
    }

    /// Whether a peer's datagram of `len` bytes goes to an allocation's client, and what stands around it there.
    fn wrap(
        &mut self,
        now: Instant,
        id: AllocationId,
        peer: SocketAddr,
        len: usize,
    ) -> Option<ToClient> {
        let header_len = u16::try_from(len).ok()?;
        let allocation = self.table.get_mut(id)?;
        let path = allocation.path;
        let is_stream = path.protocol.is_stream();
        let channel = allocation
            .channel_to(now, peer)
            .filter(|channel| channel.permitted > now)
            .map(|channel| channel.number);
        if channel.is_none() && !allocation.is_permitted(now, peer.ip()) {
            self.stats.unexpected_data += 1;
            return None;
        }
        let padded = if channel.is_some() && !is_stream {
            len
        } else {
            pad_to_word(len)
        };
        if !self.charge(now, id, len, false) {
            return None;
        }
        let mut wrapped = ToClient {
            path,
            bytes: [0; CLIENT_HEADROOM],
            len: CHANNEL_HEADER_LEN,
            padding: padded - len,
        };
        match channel {
            Some(number) => {
                let header = channel_data_header(number, header_len);
                wrapped.bytes[..CHANNEL_HEADER_LEN].copy_from_slice(&header);
            }
            None => {
                wrapped.len = if peer.is_ipv4() { 36 } else { 48 };
                let transaction = TransactionId::random(&mut self.random);
                let (head, data) = wrapped.bytes[..wrapped.len].split_at_mut(wrapped.len - 4);
                MessageBuilder::new(head, Class::Indication, Method::DATA, transaction)
                    .add(&XorPeerAddress(peer))
                    .finish()
                    .ok()?;
                // DATA stands behind it: its header, and the message's length with it.
                let total = u16::try_from(head.len() - 20 + 4 + padded).ok()?;
                head[2..4].copy_from_slice(&total.to_be_bytes());
                data[..2].copy_from_slice(&AttributeType::DATA.0.to_be_bytes());
                data[2..].copy_from_slice(&header_len.to_be_bytes());
            }
        }
        Some(wrapped)
    }

    /// A relayed address as the kernel knows it, where a 1:1 NAT stands in front; any other as it is.
    pub(super) fn inside(&self, peer: SocketAddr) -> SocketAddr {
        match self.relay_index(peer, true) {
            Some(index) => SocketAddr::new(self.relay_ips[index].0, peer.port()),
            None => peer,
        }
    }

    /// The reverse: another client of this host, as its peers see it.
    pub(super) fn outside(&self, peer: SocketAddr) -> SocketAddr {
        match self.relay_index(peer, false) {
            Some(index) if self.config.pool_ports().contains(&peer.port()) => {
                SocketAddr::new(self.relay_ips[index].1, peer.port())
            }
            _ => peer,
        }
    }
}
