//! Data channels (webrtc-pc section 6).

use std::time::Instant;

use bytes::Bytes;
use visavis_sctp as sctp;
use visavis_sctp::datachannel::{
    ChannelEvent, ChannelId, ChannelOptions, ChannelState, DataChannels, MessageKind,
};

use super::{ChannelCounters, PeerConnection};
use crate::error::Error;
use crate::events::{Event, SctpState};
use crate::log::Decision;

impl PeerConnection {
    /// W3C `createDataChannel`.
    ///
    /// # Errors
    /// `InvalidStateError` when closed; `TypeError` for options that exclude each other or are too
    /// long; `OperationError` if no stream is free.
    pub fn create_data_channel(
        &mut self,
        now: Instant,
        options: ChannelOptions,
    ) -> Result<ChannelId, Error> {
        self.check_open()?;
        self.now = now;
        if options.label.len() > 65_535 || options.protocol.len() > 65_535 {
            return Err(Error::Type(
                "a label or protocol is longer than 65535 bytes".into(),
            ));
        }
        if options.max_retransmits.is_some() && options.max_packet_lifetime.is_some() {
            return Err(Error::Type(
                "a channel cannot bound both retransmissions and lifetime".into(),
            ));
        }
        if options.negotiated == Some(65_535) {
            return Err(Error::Type("65535 is no stream".into()));
        }
        let channel = self
            .channels()
            .open(now, options)
            .map_err(|error| Error::Operation(error.to_string().into()))?;
        if !self.jsep.data.requested {
            self.jsep.data.requested = true;
            self.update_negotiation_needed = true;
        }
        self.count(channel);
        self.bundles.with_channels_mut().transport.try_start(now);
        Ok(channel)
    }

    /// Sends a message on a channel (W3C `RTCDataChannel.send`).
    ///
    /// # Errors
    /// `InvalidStateError` if the channel is not open, `TypeError` for a message larger than the peer
    /// takes, `OperationError` if the buffers are full: [`Event::DataChannelsWritable`] follows.
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
    ///
    /// # Errors
    /// As [`send`](Self::send).
    pub fn send_part(
        &mut self,
        now: Instant,
        channel: ChannelId,
        kind: MessageKind,
        data: Bytes,
        last: bool,
    ) -> Result<(), Error> {
        self.check_open()?;
        self.now = now;
        let channels = self
            .channels_mut()
            .ok_or_else(|| Error::state("the channel is not open"))?;
        let len = data.len() as u64;
        let sent = channels.send_part(now, channel, kind, data, last);
        if sent.is_ok() {
            let counters = self.count(channel);
            counters.messages_sent += u64::from(last);
            counters.bytes_sent += len;
        }
        sent.map_err(|error| match error {
            sctp::Error::MessageTooLarge { .. } => Error::Type(error.to_string().into()),
            sctp::Error::WouldBlock => Error::Operation("the send buffer is full".into()),
            other => Error::InvalidState(other.to_string().into()),
        })
    }

    /// W3C `RTCDataChannel.close`: what waits is still sent.
    pub fn close_data_channel(&mut self, now: Instant, channel: ChannelId) {
        self.now = now;
        if let Some(channels) = self.channels_mut() {
            channels.close(now, channel);
        }
    }

    /// W3C `RTCDataChannel.readyState`; `Closed` for one that is unknown.
    pub fn data_channel_state(&self, channel: ChannelId) -> ChannelState {
        self.data_channels()
            .map_or(ChannelState::Closed, |channels| channels.state(channel))
    }

    /// What a channel was opened with.
    pub fn data_channel_options(&self, channel: ChannelId) -> Option<&ChannelOptions> {
        self.data_channels()?.options(channel)
    }

    /// W3C `RTCDataChannel.id`, once it is known.
    pub fn data_channel_stream(&self, channel: ChannelId) -> Option<u16> {
        self.data_channels()?.stream_id(channel)
    }

    /// W3C `RTCDataChannel.bufferedAmount` in bytes.
    pub fn buffered_amount(&self, channel: ChannelId) -> usize {
        self.data_channels()
            .map_or(0, |channels| channels.buffered_amount(channel))
    }

    /// W3C `RTCDataChannel.bufferedAmountLowThreshold` in bytes.
    pub fn set_buffered_amount_low_threshold(&mut self, channel: ChannelId, bytes: usize) {
        if let Some(channels) = self.channels_mut() {
            channels.set_buffered_amount_low_threshold(channel, bytes);
        }
    }

    /// The channels and the association beneath, to look at; `None` before the first channel.
    pub fn data_channels(&self) -> Option<&DataChannels> {
        self.bundles
            .with_channels()
            .transport
            .data
            .channels
            .as_ref()
    }

    fn channels_mut(&mut self) -> Option<&mut DataChannels> {
        let bundle = self.bundles.with_channels_mut();
        bundle.transport.data.channels.as_mut()
    }

    /// The channels, which come to be with the first use.
    pub(super) fn channels(&mut self) -> &mut DataChannels {
        self.bundles
            .with_channels_mut()
            .transport
            .channels(&self.sctp)
    }

    fn count(&mut self, channel: ChannelId) -> &mut ChannelCounters {
        let number = self.channel_numbers;
        self.channel_counters.entry(channel).or_insert_with(|| {
            self.channel_numbers += 1;
            ChannelCounters {
                number,
                ..ChannelCounters::default()
            }
        })
    }

    /// A channel's number, counted from 0 in order of creation.
    pub(super) fn channel_number(&self, channel: ChannelId) -> u64 {
        let counters = self.channel_counters.get(&channel);
        counters.map_or(self.channel_numbers, |counters| counters.number)
    }

    /// The next event of the channels.
    pub(super) fn poll_channels(&mut self) -> Option<Event> {
        let now = self.now;
        let event = self.channels_mut()?.poll_event(now)?;
        Some(match event {
            ChannelEvent::AssociationUp(_) => {
                self.sctp_state = Some(SctpState::Connected);
                self.log.note(now, Decision::Sctp(SctpState::Connected));
                Event::SctpState(SctpState::Connected)
            }
            ChannelEvent::AssociationDown(_) => {
                self.sctp_state = Some(SctpState::Closed);
                self.log.note(now, Decision::Sctp(SctpState::Closed));
                Event::SctpState(SctpState::Closed)
            }
            ChannelEvent::Incoming(channel) => {
                self.count(channel);
                self.channels_opened += 1;
                // webrtc-pc section 6.1: `datachannel` first, and then `open`.
                self.events.push_front(Event::DataChannelOpen(channel));
                Event::DataChannel(channel)
            }
            ChannelEvent::Open(channel) => {
                self.channels_opened += 1;
                Event::DataChannelOpen(channel)
            }
            ChannelEvent::Message {
                channel,
                kind,
                data,
            } => {
                let counters = self.count(channel);
                counters.messages_received += 1;
                counters.bytes_received += data.len() as u64;
                Event::Message {
                    channel,
                    kind,
                    data,
                }
            }
            ChannelEvent::MessagePart {
                channel,
                kind,
                data,
                first,
                last,
            } => {
                let counters = self.count(channel);
                counters.messages_received += u64::from(last);
                counters.bytes_received += data.len() as u64;
                Event::MessagePart {
                    channel,
                    kind,
                    data,
                    first,
                    last,
                }
            }
            ChannelEvent::BufferedAmountLow(channel) => Event::BufferedAmountLow(channel),
            ChannelEvent::Writable => Event::DataChannelsWritable,
            ChannelEvent::Closing(channel) => Event::DataChannelClosing(channel),
            ChannelEvent::Closed(channel) => {
                self.channel_counters.remove(&channel);
                self.channels_closed += 1;
                Event::DataChannelClosed(channel)
            }
            _ => return self.poll_channels(),
        })
    }
}
