//! Data channels: RFC 8831 and RFC 8832 with the semantics of webrtc-pc.

//!
//! A channel exists from `open` on, before association, DTLS role and stream identifier are known.
//! What lives here: channels and their states. DCEP's bytes are in `dcep`, what happens when the
//! association speaks in `inbound`.

mod dcep;
mod inbound;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::{Bytes, BytesMut};
use visavis_datagram::{Ecn, Random, Segments, TransmitBuf};

pub use dcep::Dcep;

use crate::stream_table::StreamTable;
use crate::{
    Association, CloseReason, Config, Error, Negotiated, Ppid, Reliability, SendOptions, StreamId,
};

/// `a=max-message-size` of a peer that gives none (RFC 8841 section 6.1).
const DEFAULT_REMOTE_MAX: u64 = 65_536;
/// Stream identifiers are 0..=65534 (RFC 8831 section 6.5).
const MAX_STREAM: u16 = 65_534;

/// A channel of one [`DataChannels`]. Never reused, and known before the stream identifier is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ChannelId(pub(crate) u64);

/// Which end of the DTLS connection this is: the client takes even stream identifiers, the server
/// odd ones (RFC 8832 section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtlsRole {
    /// Even identifiers.
    Client,
    /// Odd identifiers.
    Server,
}

/// What a channel is opened with (webrtc-pc `RTCDataChannelInit`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChannelOptions {
    /// Up to 65535 bytes.
    pub label: String,
    /// The subprotocol, up to 65535 bytes.
    pub protocol: String,
    /// Whether messages arrive in order. Default true.
    pub ordered: bool,
    /// At most so many retransmissions. Excludes `max_packet_lifetime`.
    pub max_retransmits: Option<u16>,
    /// Retransmissions for so many milliseconds. Excludes `max_retransmits`.
    pub max_packet_lifetime: Option<u16>,
    /// RFC 8831 section 6.4: 128 below normal, 256 normal (default), 512 high, 1024 extra high.
    pub priority: u16,
    /// The stream identifier, 0..=65534, if both applications agreed on the channel out of band.
    pub negotiated: Option<u16>,
}

impl Default for ChannelOptions {
    fn default() -> Self {
        Self {
            label: String::new(),
            protocol: String::new(),
            ordered: true,
            max_retransmits: None,
            max_packet_lifetime: None,
            priority: 256,
            negotiated: None,
        }
    }
}

/// Where a channel stands (webrtc-pc `RTCDataChannelState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChannelState {
    /// Not open yet.
    Connecting,
    /// Messages may flow.
    Open,
    /// The closing procedure runs.
    Closing,
    /// Over.
    Closed,
}

/// What a message is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MessageKind {
    /// UTF-8 text. Received bytes are not checked.
    Text,
    /// Bytes.
    Binary,
}

/// What data channels have to tell.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum ChannelEvent {
    /// The association is open.
    AssociationUp(Negotiated),
    /// The association is over; every channel has told `Closed` before.
    AssociationDown(CloseReason),
    /// The peer opened a channel; it is open.
    Incoming(ChannelId),
    /// A channel that this end opened is open.
    Open(ChannelId),
    /// A whole message.
    Message {
        /// Where.
        channel: ChannelId,
        /// What it is.
        kind: MessageKind,
        /// The bytes; may be empty.
        data: Bytes,
    },
    /// A part of a message that is larger than
    /// [`Limits::whole_message`](crate::Limits::whole_message), or that came while the receive
    /// window was full. On an unordered channel, whole messages may stand between the parts of one.
    MessagePart {
        /// Where.
        channel: ChannelId,
        /// What it is.
        kind: MessageKind,
        /// The bytes.
        data: Bytes,
        /// Whether this is the beginning. What came before without `last` was abandoned.
        first: bool,
        /// Whether this is the end.
        last: bool,
    },
    /// The bytes that wait fell to the channel's threshold.
    BufferedAmountLow(ChannelId),
    /// There is room again, after `send` answered `WouldBlock`.
    Writable,
    /// The peer began to close the channel.
    Closing(ChannelId),
    /// The channel is closed, and its stream identifier is free.
    Closed(ChannelId),
}

/// How far the reset of the sending side is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reset {
    No,
    Asked,
    Done,
}

#[derive(Debug)]
struct Channel {
    options: ChannelOptions,
    state: ChannelState,
    stream: Option<u16>,
    /// The ACK of the peer, or any message of it, has arrived: unordered messages may leave
    /// unordered (RFC 8832 section 6).
    acknowledged: bool,
    low_threshold: usize,
    /// Bytes of the open message in parts.
    part_bytes: u64,
    part_open: bool,
    outgoing_reset: Reset,
    incoming_reset: bool,
    /// A message in the deprecated partial form.
    partial: Option<Partial>,
    /// Opened by the peer.
    incoming: bool,
}

/// A message that comes in pieces by deprecated PPIDs (RFC 8831 section 6.6).
#[derive(Debug, Default)]
struct Partial {
    bytes: BytesMut,
    partly_out: bool,
}

#[derive(Debug)]
struct Slot {
    generation: u32,
    channel: Option<Channel>,
}

/// All data channels of one peer connection.
#[derive(Debug)]
pub struct DataChannels {
    association: Association,
    role: Option<DtlsRole>,
    remote_max: u64,
    up: bool,
    over: bool,
    slots: Vec<Slot>,
    free: Vec<u32>,
    /// Channels by stream.
    streams: StreamTable<u32>,
    events: VecDeque<ChannelEvent>,
    dropped: u64,
    /// Bytes of labels and protocols of the peer's channels.
    names: usize,
}

impl DataChannels {
    /// No channels on an association that is not started.
    pub fn new(config: impl Into<Arc<Config>>, random: Random) -> Self {
        Self {
            association: Association::new(config, random),
            role: None,
            remote_max: DEFAULT_REMOTE_MAX,
            up: false,
            over: false,
            slots: Vec::new(),
            free: Vec::new(),
            streams: StreamTable::default(),
            events: VecDeque::new(),
            dropped: 0,
            names: 0,
        }
    }

    /// Gives back the memory of a burst that is over. The association does so by itself when it sends
    /// heartbeats; this is for an owner who knows earlier.
    pub fn trim(&mut self) {
        self.association.trim();
        self.events.shrink_to_fit();
    }

    /// Tells the DTLS role, which decides the parity of stream identifiers. Channels opened before
    /// get theirs now. Told again, it changes nothing.
    pub fn set_role(&mut self, now: Instant, role: DtlsRole) {
        if self.role.is_some() {
            return;
        }
        self.role = Some(role);
        self.advance_openings(now);
    }

    /// Tells the peer's `a=max-message-size` in bytes; 0 means any size (RFC 8841 section 6).
    /// 65536 until told.
    pub fn set_remote_max_message_size(&mut self, bytes: u64) {
        self.remote_max = if bytes == 0 { u64::MAX } else { bytes };
    }

    /// The largest message that `send` takes, in bytes.
    pub fn max_message_size(&self) -> u64 {
        let own = self.association.config().limits.max_send_message as u64;
        self.remote_max.min(own)
    }

    /// The INIT chunk of this end for `a=sctp-init`.
    pub fn init_chunk(&mut self) -> Bytes {
        self.association.init_chunk()
    }

    /// Starts the association.
    ///
    /// # Errors
    /// As [`Association::connect`].
    pub fn connect(&mut self, now: Instant) -> Result<(), Error> {
        self.association.connect(now)
    }

    /// Opens the association with the INIT chunk that signalling brought.
    ///
    /// # Errors
    /// As [`Association::connect_with_remote_init`].
    pub fn connect_with_remote_init(&mut self, now: Instant, init: &[u8]) -> Result<(), Error> {
        self.association.connect_with_remote_init(now, init)
    }

    /// Opens a channel. Before role and association are known it waits.
    ///
    /// # Errors
    /// [`Error::InvalidOptions`], [`Error::NoFreeStream`] or, once the association is over,
    /// [`Error::NotOpen`].
    pub fn open(&mut self, now: Instant, options: ChannelOptions) -> Result<ChannelId, Error> {
        if self.over {
            return Err(Error::NotOpen);
        }
        if options.label.len() > 65_535
            || options.protocol.len() > 65_535
            || (options.max_retransmits.is_some() && options.max_packet_lifetime.is_some())
        {
            return Err(Error::InvalidOptions);
        }
        let count = self.slots.len() - self.free.len();
        if count >= self.association.config().limits.channels {
            return Err(Error::NoFreeStream);
        }
        if let Some(stream) = options.negotiated
            && (stream > MAX_STREAM || self.streams.get(stream).is_some())
        {
            return Err(Error::NoFreeStream);
        }
        let negotiated = options.negotiated;
        let stream = match (negotiated, self.role) {
            (Some(stream), _) => Some(stream),
            (None, Some(role)) => Some(self.free_stream(role).ok_or(Error::NoFreeStream)?),
            (None, None) => None,
        };
        let id = self.insert(options, stream);
        self.advance_opening(now, id.slot());
        Ok(id)
    }

    /// Sends a message, which may be empty.
    ///
    /// # Errors
    /// [`Error::ChannelConnecting`], [`Error::ChannelClosed`], [`Error::MessageTooLarge`], or
    /// [`Error::WouldBlock`] until [`ChannelEvent::Writable`].
    pub fn send(
        &mut self,
        now: Instant,
        channel: ChannelId,
        kind: MessageKind,
        data: Bytes,
    ) -> Result<(), Error> {
        if self.channel(channel).is_some_and(|c| c.part_open) {
            return Err(Error::PartialMessage);
        }
        self.send_part(now, channel, kind, data, true)
    }

    /// Sends a message in parts: the first call opens it, `last` ends it.
    ///
    /// # Errors
    /// As [`send`](Self::send). An empty part is an error unless it is the last.
    pub fn send_part(
        &mut self,
        now: Instant,
        channel: ChannelId,
        kind: MessageKind,
        data: Bytes,
        last: bool,
    ) -> Result<(), Error> {
        let limit = self.max_message_size();
        let entry = self.channel(channel).ok_or(Error::ChannelClosed)?;
        let stream = match (entry.state, entry.stream) {
            (ChannelState::Open, Some(stream)) => StreamId(stream),
            (ChannelState::Connecting, _) => return Err(Error::ChannelConnecting),
            _ => return Err(Error::ChannelClosed),
        };
        let total = entry.part_bytes + data.len() as u64;
        if total > limit {
            return Err(Error::MessageTooLarge {
                size: usize::try_from(total).unwrap_or(usize::MAX),
                limit: usize::try_from(limit).unwrap_or(usize::MAX),
            });
        }
        let options = SendOptions {
            ordered: entry.options.ordered || !entry.acknowledged,
            reliability: entry.options.reliability(),
        };
        let is_empty = data.is_empty() && !entry.part_open;
        if is_empty && last {
            let ppid = match kind {
                MessageKind::Text => Ppid::STRING_EMPTY,
                MessageKind::Binary => Ppid::BINARY_EMPTY,
            };
            // SCTP carries no empty message: one byte stands for it (RFC 8831 section 6.6).
            let byte = Bytes::from_static(&[0]);
            return self
                .association
                .send_uncounted(now, stream, ppid, byte, options, false);
        }
        let ppid = match kind {
            MessageKind::Text => Ppid::STRING,
            MessageKind::Binary => Ppid::BINARY,
        };
        self.association
            .send_part(now, stream, ppid, data, options, last)?;
        if let Some(entry) = self.channel_mut(channel) {
            entry.part_open = !last;
            entry.part_bytes = if last { 0 } else { total };
        }
        Ok(())
    }

    /// Starts the closing procedure: what waits is still sent. A message whose parts are not
    /// complete is given up.
    pub fn close(&mut self, now: Instant, channel: ChannelId) {
        let slot = channel.slot();
        let Some(entry) = self.channel_mut(channel) else {
            return;
        };
        if matches!(entry.state, ChannelState::Closing | ChannelState::Closed) {
            return;
        }
        entry.state = ChannelState::Closing;
        self.reset_outgoing(now, slot);
    }

    /// The state; `Closed` for one that is unknown.
    pub fn state(&self, channel: ChannelId) -> ChannelState {
        self.channel(channel)
            .map_or(ChannelState::Closed, |channel| channel.state)
    }

    /// What the channel was opened with. `None` once it is closed.
    pub fn options(&self, channel: ChannelId) -> Option<&ChannelOptions> {
        self.channel(channel).map(|channel| &channel.options)
    }

    /// The stream identifier, once it is known.
    pub fn stream_id(&self, channel: ChannelId) -> Option<u16> {
        self.channel(channel)?.stream
    }

    /// Payload bytes that wait to be sent.
    pub fn buffered_amount(&self, channel: ChannelId) -> usize {
        match self.stream_id(channel) {
            Some(stream) => self.association.buffered_amount(StreamId(stream)),
            None => 0,
        }
    }

    /// Sets when [`ChannelEvent::BufferedAmountLow`] is told. Default 0.
    pub fn set_buffered_amount_low_threshold(&mut self, channel: ChannelId, bytes: usize) {
        let Some(entry) = self.channel_mut(channel) else {
            return;
        };
        entry.low_threshold = bytes;
        if let Some(stream) = entry.stream {
            self.association
                .set_buffered_amount_low_threshold(StreamId(stream), bytes);
        }
    }

    /// Takes a decrypted packet.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.association.handle_packet(now, packet);
    }

    /// The same, with the ECN bits of the datagram that brought it.
    pub fn handle_packet_with_ecn(&mut self, now: Instant, packet: &[u8], ecn: Ecn) {
        self.association.handle_packet_with_ecn(now, packet, ecn);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.association.handle_timeout(now);
    }

    /// As [`Association::path_changed`].
    pub fn path_changed(&mut self, now: Instant) {
        self.association.path_changed(now);
    }

    /// When `handle_timeout` and then `poll_transmit` is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.association.poll_timeout()
    }

    /// Writes packets to be sent.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Segments> {
        self.association.poll_transmit(now, out)
    }

    /// What happened. Messages come through here too: who does not poll slows the peer down.
    pub fn poll_event(&mut self, now: Instant) -> Option<ChannelEvent> {
        self.next_event(now)
    }

    /// The association beneath, for statistics.
    pub fn association(&self) -> &Association {
        &self.association
    }

    /// Messages dropped: on streams without a channel, or with a PPID that RFC 8831 does not name.
    pub fn messages_dropped(&self) -> u64 {
        self.dropped
    }

    /// Channels that are not closed.
    pub fn channels(&self) -> impl Iterator<Item = ChannelId> {
        self.slots.iter().enumerate().filter_map(|(slot, entry)| {
            entry.channel.as_ref()?;
            Some(ChannelId::new(slot as u32, entry.generation))
        })
    }

    /// Shuts the association down once everything is delivered.
    pub fn shutdown(&mut self, now: Instant) {
        self.association.shutdown(now);
    }

    /// Ends the association at once.
    pub fn abort(&mut self, now: Instant) {
        self.association.abort(now);
    }

    fn channel(&self, id: ChannelId) -> Option<&Channel> {
        let slot = self.slots.get(id.slot() as usize)?;
        if slot.generation == id.generation() {
            slot.channel.as_ref()
        } else {
            None
        }
    }

    fn channel_mut(&mut self, id: ChannelId) -> Option<&mut Channel> {
        let slot = self.slots.get_mut(id.slot() as usize)?;
        if slot.generation == id.generation() {
            slot.channel.as_mut()
        } else {
            None
        }
    }

    fn at(&mut self, slot: u32) -> Option<&mut Channel> {
        self.slots.get_mut(slot as usize)?.channel.as_mut()
    }

    fn id(&self, slot: u32) -> ChannelId {
        let generation = self.slots.get(slot as usize).map_or(0, |s| s.generation);
        ChannelId::new(slot, generation)
    }

    fn insert(&mut self, options: ChannelOptions, stream: Option<u16>) -> ChannelId {
        let channel = Channel {
            acknowledged: options.negotiated.is_some(),
            options,
            state: ChannelState::Connecting,
            stream,
            low_threshold: 0,
            part_bytes: 0,
            part_open: false,
            outgoing_reset: Reset::No,
            incoming_reset: false,
            partial: None,
            incoming: false,
        };
        let slot = if let Some(slot) = self.free.pop() {
            self.slots[slot as usize].channel = Some(channel);
            slot
        } else {
            if self.slots.is_empty() {
                // Most connections have one channel.
                self.slots.reserve_exact(1);
            }
            self.slots.push(Slot {
                generation: 0,
                channel: Some(channel),
            });
            (self.slots.len() - 1) as u32
        };
        if let Some(stream) = stream {
            self.streams.index_or_insert(stream, || slot);
        }
        self.id(slot)
    }

    /// The lowest free identifier of this end's parity (RFC 8832 section 6).
    fn free_stream(&self, role: DtlsRole) -> Option<u16> {
        let first = match role {
            DtlsRole::Client => 0,
            DtlsRole::Server => 1,
        };
        let end = match self.association.negotiated() {
            Some(n) => n.outbound_streams.min(n.inbound_streams),
            None => MAX_STREAM + 1,
        };
        (first..end)
            .step_by(2)
            .find(|stream| self.streams.get(*stream).is_none())
    }

    fn advance_openings(&mut self, now: Instant) {
        for slot in 0..self.slots.len() as u32 {
            self.advance_opening(now, slot);
        }
    }

    /// Takes a connecting channel as far as what is known allows.
    fn advance_opening(&mut self, now: Instant, slot: u32) {
        let (role, up) = (self.role, self.up);
        let Some(channel) = self.at(slot) else { return };
        if channel.state != ChannelState::Connecting {
            return;
        }
        let stream = match (channel.stream, role) {
            (Some(stream), _) => stream,
            (None, Some(role)) => {
                let Some(stream) = self.free_stream(role) else {
                    self.finish(slot);
                    return;
                };
                self.streams.index_or_insert(stream, || slot);
                if let Some(channel) = self.at(slot) {
                    channel.stream = Some(stream);
                }
                stream
            }
            (None, None) => return,
        };
        if !up {
            return;
        }
        let fits = self
            .association
            .negotiated()
            .is_some_and(|n| stream < n.outbound_streams.min(n.inbound_streams));
        if !fits {
            self.finish(slot);
            return;
        }
        let Some(channel) = self.at(slot) else { return };
        channel.state = ChannelState::Open;
        let (threshold, priority) = (channel.low_threshold, channel.options.priority);
        let open = (channel.options.negotiated.is_none())
            .then(|| Dcep::Open(channel.options.clone()).to_bytes());
        let stream = StreamId(stream);
        self.association.set_priority(stream, priority);
        self.association
            .set_buffered_amount_low_threshold(stream, threshold);
        if let Some(open) = open {
            self.send_dcep(now, stream, open);
        }
        let id = self.id(slot);
        self.events.push_back(ChannelEvent::Open(id));
    }

    /// DCEP is ordered and reliable (RFC 8832 section 6), and no limit holds it back.
    fn send_dcep(&mut self, now: Instant, stream: StreamId, message: Bytes) {
        let options = SendOptions::default();
        // An error means that the association is ending, which is told elsewhere.
        let _ = self
            .association
            .send_uncounted(now, stream, Ppid::DCEP, message, options, true);
    }

    /// Resets the sending side of a closing channel, or ends it where there is nothing to reset.
    fn reset_outgoing(&mut self, now: Instant, slot: u32) {
        let up = self.up;
        let Some(channel) = self.at(slot) else { return };
        if channel.outgoing_reset != Reset::No {
            return;
        }
        let Some(stream) = channel.stream.filter(|_| up) else {
            self.finish(slot);
            return;
        };
        channel.outgoing_reset = Reset::Asked;
        if std::mem::take(&mut channel.part_open) {
            self.association.cancel_part(StreamId(stream));
        }
        if self
            .association
            .reset_streams(now, &[StreamId(stream)])
            .is_err()
        {
            // The peer cannot reset streams, or the association is ending.
            self.finish(slot);
        }
    }

    /// The channel is closed.
    fn finish(&mut self, slot: u32) {
        let id = self.id(slot);
        let Some(entry) = self.slots.get_mut(slot as usize) else {
            return;
        };
        let Some(channel) = entry.channel.take() else {
            return;
        };
        entry.generation = entry.generation.wrapping_add(1);
        if channel.incoming {
            self.names -= channel.options.name_bytes();
        }
        self.free.push(slot);
        if let Some(stream) = channel.stream
            && self.streams.get(stream) == Some(&slot)
        {
            self.streams.remove(stream);
        }
        self.events.push_back(ChannelEvent::Closed(id));
    }
}

impl ChannelId {
    fn new(slot: u32, generation: u32) -> Self {
        Self(u64::from(generation) << 32 | u64::from(slot))
    }

    fn slot(self) -> u32 {
        self.0 as u32
    }

    fn generation(self) -> u32 {
        (self.0 >> 32) as u32
    }
}

impl ChannelOptions {
    fn name_bytes(&self) -> usize {
        self.label.len() + self.protocol.len()
    }

    fn reliability(&self) -> Reliability {
        match (self.max_retransmits, self.max_packet_lifetime) {
            (Some(limit), _) => Reliability::MaxRetransmits(limit),
            (None, Some(lifetime)) => {
                Reliability::MaxLifetime(Duration::from_millis(u64::from(lifetime)))
            }
            (None, None) => Reliability::Reliable,
        }
    }
}
