//! Data to and from peers: ChannelData where there is a channel, Send and Data indications elsewhere
//! (RFC 8656 sections 11 and 12). No copy on the way in, one on the way out, none with
//! [`Client::seal`].

use std::net::SocketAddr;
use std::ops::Range;
use std::time::Instant;

use visavis_datagram::{Framing, Path, TransmitBuf};
use visavis_stun::attributes::{Data, Icmp, XorPeerAddress};
use visavis_stun::{
    CHANNEL_HEADER_LEN, ChannelData, Class, Message, MessageBuilder, Method, TransactionId,
    channel_data_header, pad_to_word,
};

use super::agent::{Client, MAX_WAITING_EVENTS, State};
use super::event::{Error, Event};
use super::peers::Standing;

/// The most bytes that [`Client::wrap`] adds to a payload: header, XOR-PEER-ADDRESS of IPv6, DATA's header and padding.
pub const MAX_OVERHEAD: usize = 20 + 24 + 4 + 3;

/// What a datagram from the server was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Received {
    /// A peer's datagram.
    Data {
        /// Who sent it.
        peer: SocketAddr,
        /// Where it stands in the server's datagram.
        range: Range<usize>,
    },
    /// The client's own business, or refuse: nothing for anybody else.
    Consumed,
    /// Not on this client's path, or something that no TURN server sends.
    NotOurs,
}

impl Client {
    /// Takes a datagram (over streams: one frame) that arrived on `from`.
    pub fn unwrap(&mut self, now: Instant, from: Path, datagram: &[u8]) -> Received {
        let is_data_path = from == self.path || Some(from) == self.old_path;
        if !is_data_path && !self.pending.iter().any(|pending| pending.path == from) {
            return Received::NotOurs;
        }
        match datagram.first() {
            Some(0x40..=0x4f) if is_data_path => self.channel_data(datagram),
            Some(0..=3) => self.message(now, from, datagram),
            _ => {
                self.stats.malformed += 1;
                Received::NotOurs
            }
        }
    }

    /// Takes a datagram whose data nobody wants; see [`unwrap`](Self::unwrap).
    pub fn handle_datagram(&mut self, now: Instant, from: Path, datagram: &mut [u8]) {
        self.unwrap(now, from, datagram);
    }

    /// Adds one datagram for `peer` to `out`: to be sent on [`path`](Self::path). The run in `out` stays one
    /// run, so datagrams for several peers may stand in it.
    ///
    /// # Errors
    /// If there is no allocation or no permission, or the datagram does not fit `out`.
    pub fn wrap(
        &mut self,
        _now: Instant,
        peer: SocketAddr,
        payload: &[u8],
        out: &mut TransmitBuf,
    ) -> Result<(), Error> {
        if self.state != State::Allocated {
            return Err(Error::NotAllocated);
        }
        let is_stream = self.is_stream();
        let binding = self.peers.binding(&peer);
        let written = match binding.filter(|binding| binding.standing.is_granted()) {
            Some(binding) => {
                let length = u16::try_from(payload.len()).map_err(|_| Error::DoesNotFit)?;
                let end = CHANNEL_HEADER_LEN + payload.len();
                let padded = if is_stream { pad_to_word(end) } else { end };
                let slot = out.slot().and_then(|slot| slot.get_mut(..padded));
                let slot = slot.ok_or(Error::DoesNotFit)?;
                slot[..CHANNEL_HEADER_LEN]
                    .copy_from_slice(&channel_data_header(binding.channel, length));
                slot[CHANNEL_HEADER_LEN..end].copy_from_slice(payload);
                slot[end..].fill(0);
                padded
            }
            None => {
                match self.peers.permissions.get(&peer.ip()) {
                    Some(permission) if permission.standing != Standing::Denied => {}
                    _ => return Err(Error::NoPermission),
                }
                let id = TransactionId::random(&mut self.random);
                let slot = out.slot().ok_or(Error::DoesNotFit)?;
                MessageBuilder::new(slot, Class::Indication, Method::SEND, id)
                    .add(&XorPeerAddress(peer))
                    .add(&Data(payload))
                    .finish()
                    .map_err(|_| Error::DoesNotFit)?
            }
        };
        out.commit(written);
        self.stats.bytes_sent += payload.len() as u64;
        Ok(())
    }

    /// How many bytes [`wrap`](Self::wrap) adds to a payload for `peer` at most, padding included.
    pub fn overhead(&self, peer: SocketAddr) -> usize {
        if self.is_bound(peer) {
            return CHANNEL_HEADER_LEN + if self.is_stream() { 3 } else { 0 };
        }
        match peer {
            SocketAddr::V4(_) => MAX_OVERHEAD - 12,
            SocketAddr::V6(_) => MAX_OVERHEAD,
        }
    }

    /// The room to leave around each payload for [`seal`](Self::seal): the way without a copy. `None` where it does not
    /// lead: no channel (yet), or a stream, where each datagram has its own padding.
    pub fn framing(&self, peer: SocketAddr) -> Option<Framing> {
        (self.is_bound(peer) && !self.is_stream()).then_some(Framing {
            header: CHANNEL_HEADER_LEN,
            trailer: 0,
        })
    }

    /// Writes the channel's header at the front of each datagram of `out`, which was filled with
    /// [`framing`](Self::framing) as the outermost room: whatever stands behind those 4 bytes (the payload and what
    /// layers between wrote around it) is the data. False if there is no channel: nothing was written.
    pub fn seal(&mut self, peer: SocketAddr, out: &mut TransmitBuf) -> bool {
        let Some(binding) = self.peers.binding(&peer) else {
            return false;
        };
        if !binding.standing.is_granted() || out.framing().header < CHANNEL_HEADER_LEN {
            return false;
        }
        let channel = binding.channel;
        let mut bytes = 0;
        for (datagram, _) in out.datagrams_mut() {
            // A datagram has at most 65535 bytes.
            let len = datagram.len() - CHANNEL_HEADER_LEN;
            datagram[..CHANNEL_HEADER_LEN]
                .copy_from_slice(&channel_data_header(channel, len as u16));
            bytes += len as u64;
        }
        self.stats.bytes_sent += bytes;
        true
    }

    fn channel_data(&mut self, datagram: &[u8]) -> Received {
        let Some(data) = ChannelData::parse(datagram) else {
            self.stats.malformed += 1;
            return Received::Consumed;
        };
        match self.peers.by_channel(data.channel) {
            // The answer to ChannelBind may still be on its way.
            Some(binding) if binding.standing != Standing::Denied => {
                self.stats.bytes_received += data.payload.len() as u64;
                Received::Data {
                    peer: binding.peer,
                    range: CHANNEL_HEADER_LEN..CHANNEL_HEADER_LEN + data.payload.len(),
                }
            }
            _ => {
                self.stats.unexpected_data += 1;
                Received::Consumed
            }
        }
    }

    fn message(&mut self, now: Instant, from: Path, datagram: &[u8]) -> Received {
        let Ok(message) = Message::parse(datagram) else {
            self.stats.malformed += 1;
            return Received::NotOurs;
        };
        match message.class() {
            // The client never asks for a Binding: somebody else on the same socket did.
            _ if message.method() == Method::BINDING => Received::NotOurs,
            Class::Success | Class::Error => {
                self.handle_response(now, from, &message);
                Received::Consumed
            }
            Class::Indication if message.method() == Method::DATA => self.data_indication(&message),
            // A STUN request from the server's address: nobody's.
            _ => Received::NotOurs,
        }
    }

    /// A Data indication (RFC 8656 section 11.4): a peer's datagram, or an ICMP message about one.
    fn data_indication(&mut self, message: &Message<'_>) -> Received {
        let Some(XorPeerAddress(peer)) = message.get() else {
            self.stats.malformed += 1;
            return Received::Consumed;
        };
        if !self.peers.permissions.contains_key(&peer.ip()) {
            self.stats.unexpected_data += 1;
            return Received::Consumed;
        }
        if let Some(Data(payload)) = message.get() {
            self.stats.bytes_received += payload.len() as u64;
            let start = payload.as_ptr().addr() - message.as_bytes().as_ptr().addr();
            return Received::Data {
                peer,
                range: start..start + payload.len(),
            };
        }
        if let Some(icmp) = message.get::<Icmp>() {
            if self.events.len() < MAX_WAITING_EVENTS {
                self.events.push_back(Event::Icmp { peer, icmp });
            }
        } else {
            self.stats.malformed += 1;
        }
        Received::Consumed
    }
}
