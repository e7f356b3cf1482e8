//! Data channels: RFC 8831 and RFC 8832 with the semantics of webrtc-pc.

use std::time::Instant;

use bytes::Bytes;
use visavis_datagram::{Ecn, Random, Segments, TransmitBuf};

use crate::{Association, CloseReason, Config, Error, Negotiated};

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
    /// [`Limits::whole_message`](crate::Limits::whole_message).
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

/// All data channels of one peer connection.
#[derive(Debug)]
pub struct DataChannels {
    association: Association,
}

impl DataChannels {
    /// No channels on an association that is not started.
    pub fn new(config: Config, random: Random) -> Self {
        Self {
            association: Association::new(config, random),
        }
    }

    /// Tells the DTLS role, which decides the parity of stream identifiers. Channels opened before
    /// get theirs now.
    pub fn set_role(&mut self, role: DtlsRole) {
        let _ = role;
    }

    /// Tells the peer's `a=max-message-size` in bytes; 0 means any size (RFC 8841 section 6).
    /// 65536 until told.
    pub fn set_remote_max_message_size(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// The INIT chunk of this end for `a=sctp-init`.
    pub fn init_chunk(&mut self) -> Bytes {
        self.association.init_chunk()
    }

    /// Starts the association.
    pub fn connect(&mut self, now: Instant) -> Result<(), Error> {
        self.association.connect(now)
    }

    /// Opens the association with the INIT chunk that signalling brought.
    pub fn connect_with_remote_init(&mut self, now: Instant, init: &[u8]) -> Result<(), Error> {
        self.association.connect_with_remote_init(now, init)
    }

    /// Opens a channel. Before role and association are known it waits.
    pub fn open(&mut self, now: Instant, options: ChannelOptions) -> Result<ChannelId, Error> {
        let _ = (now, options);
        Err(Error::NoFreeStream)
    }

    /// Sends a message, which may be empty.
    pub fn send(
        &mut self,
        now: Instant,
        channel: ChannelId,
        kind: MessageKind,
        data: Bytes,
    ) -> Result<(), Error> {
        self.send_part(now, channel, kind, data, true)
    }

    /// Sends a message in parts: the first call opens it, `last` ends it.
    pub fn send_part(
        &mut self,
        now: Instant,
        channel: ChannelId,
        kind: MessageKind,
        data: Bytes,
        last: bool,
    ) -> Result<(), Error> {
        let _ = (now, channel, kind, data, last);
        Err(Error::ChannelClosed)
    }

    /// Starts the closing procedure: what waits is still sent.
    pub fn close(&mut self, now: Instant, channel: ChannelId) {
        let _ = (now, channel);
    }

    /// The state; `Closed` for one that is unknown.
    pub fn state(&self, channel: ChannelId) -> ChannelState {
        let _ = channel;
        ChannelState::Closed
    }

    /// What the channel was opened with.
    pub fn options(&self, channel: ChannelId) -> Option<&ChannelOptions> {
        let _ = channel;
        None
    }

    /// The stream identifier, once it is known.
    pub fn stream_id(&self, channel: ChannelId) -> Option<u16> {
        let _ = channel;
        None
    }

    /// Payload bytes that wait to be sent.
    pub fn buffered_amount(&self, channel: ChannelId) -> usize {
        let _ = channel;
        0
    }

    /// Sets when [`ChannelEvent::BufferedAmountLow`] is told. Default 0.
    pub fn set_buffered_amount_low_threshold(&mut self, channel: ChannelId, bytes: usize) {
        let _ = (channel, bytes);
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
        let _ = now;
        None
    }

    /// The association beneath, for statistics.
    pub fn association(&self) -> &Association {
        &self.association
    }

    /// Shuts the association down once everything is delivered.
    pub fn shutdown(&mut self, now: Instant) {
        self.association.shutdown(now);
    }

    /// Ends the association at once.
    pub fn abort(&mut self, now: Instant) {
        self.association.abort(now);
    }
}
