//! What the association says, as events of channels.

use std::time::Instant;

use bytes::Bytes;

use super::{
    ChannelEvent, ChannelState, DataChannels, Dcep, DtlsRole, MessageKind, Partial, Reset,
};
use crate::{Event, Message, Ppid, StreamId};

impl DataChannels {
    pub(super) fn next_event(&mut self, now: Instant) -> Option<ChannelEvent> {
        loop {
            if let Some(event) = self.events.pop_front() {
                return Some(event);
            }
            if let Some(event) = self.association.poll_event() {
                self.handle_event(now, event);
                continue;
            }
            if let Some(message) = self.association.recv() {
                self.handle_message(now, message);
                continue;
            }
            // A reset may have come to the head of the queue just now.
            let event = self.association.poll_event()?;
            self.handle_event(now, event);
        }
    }

    fn handle_event(&mut self, now: Instant, event: Event) {
        match event {
            Event::Established(negotiated) => {
                self.up = true;
                self.events
                    .push_back(ChannelEvent::AssociationUp(negotiated));
                self.advance_openings(now);
            }
            Event::Restarted(negotiated) => {
                // The peer knows none of the channels that it opened or was told of in band.
                for slot in 0..self.slots.len() as u32 {
                    let in_band = self
                        .at(slot)
                        .is_some_and(|c| c.options.negotiated.is_none());
                    if in_band {
                        self.finish(slot);
                    }
                }
                self.events
                    .push_back(ChannelEvent::AssociationUp(negotiated));
            }
            Event::Closed(reason) => {
                self.up = false;
                self.over = true;
                // What was received before the end is still told, before the channels close.
                while let Some(message) = self.association.recv() {
                    self.handle_message(now, message);
                }
                for slot in 0..self.slots.len() as u32 {
                    self.finish(slot);
                }
                self.events.push_back(ChannelEvent::AssociationDown(reason));
            }
            Event::Writable => self.events.push_back(ChannelEvent::Writable),
            Event::BufferedAmountLow(stream) => {
                if let Some(&slot) = self.streams.get(stream.0) {
                    let id = self.id(slot);
                    self.events.push_back(ChannelEvent::BufferedAmountLow(id));
                }
            }
            Event::IncomingReset(streams) => self.each(&streams, |this, slot| {
                if let Some(channel) = this.at(slot) {
                    channel.incoming_reset = true;
                }
                this.close_by_peer(now, slot);
            }),
            Event::ResetRequested(streams) => {
                self.each(&streams, |this, slot| this.close_by_peer(now, slot));
            }
            Event::OutgoingReset(streams) => self.each(&streams, |this, slot| {
                if let Some(channel) = this.at(slot) {
                    channel.outgoing_reset = Reset::Done;
                    if channel.incoming_reset {
                        this.finish(slot);
                    }
                }
            }),
            Event::ResetRefused(streams) => self.each(&streams, Self::finish),
            Event::Readable | Event::StreamsAdded(_) | Event::PathSuspect => {}
        }
    }

    /// Calls `act` for the channel of each stream; all of them if `streams` is empty.
    fn each(&mut self, streams: &[StreamId], mut act: impl FnMut(&mut Self, u32)) {
        if streams.is_empty() {
            for slot in 0..self.slots.len() as u32 {
                act(self, slot);
            }
        }
        for stream in streams {
            if let Some(&slot) = self.streams.get(stream.0) {
                act(self, slot);
            }
        }
    }

    /// The peer closes the channel: this end does too (RFC 8831 section 6.7).
    fn close_by_peer(&mut self, now: Instant, slot: u32) {
        let id = self.id(slot);
        let Some(channel) = self.at(slot) else { return };
        if channel.state != ChannelState::Closing {
            channel.state = ChannelState::Closing;
            self.events.push_back(ChannelEvent::Closing(id));
        }
        let both = self
            .at(slot)
            .is_some_and(|c| c.incoming_reset && c.outgoing_reset == Reset::Done);
        if both {
            self.finish(slot);
        } else {
            self.reset_outgoing(now, slot);
        }
    }

    fn handle_message(&mut self, now: Instant, message: Message) {
        if message.ppid == Ppid::DCEP {
            self.handle_dcep(now, &message);
            return;
        }
        let Some(&slot) = self.streams.get(message.stream.0) else {
            self.dropped += 1;
            return;
        };
        let (kind, is_partial) = match message.ppid {
            Ppid::STRING | Ppid::STRING_EMPTY => (MessageKind::Text, false),
            Ppid::BINARY | Ppid::BINARY_EMPTY => (MessageKind::Binary, false),
            Ppid::STRING_PARTIAL => (MessageKind::Text, true),
            Ppid::BINARY_PARTIAL => (MessageKind::Binary, true),
            _ => {
                self.dropped += 1;
                return;
            }
        };
        let is_empty = matches!(message.ppid, Ppid::STRING_EMPTY | Ppid::BINARY_EMPTY);
        let data = if is_empty { Bytes::new() } else { message.data };
        let whole_message = self.association.config().limits.whole_message;
        let id = self.id(slot);
        let Some(channel) = self.at(slot) else { return };
        channel.acknowledged = true;
        if is_partial || channel.partial.is_some() {
            let partial = channel.partial.get_or_insert_with(Partial::default);
            partial.bytes.extend_from_slice(&data);
            let is_last = !is_partial && message.last;
            if !is_last && partial.bytes.len() < whole_message {
                return;
            }
            let data = partial.bytes.split().freeze();
            let first = !std::mem::replace(&mut partial.partly_out, true);
            if is_last {
                channel.partial = None;
            }
            self.tell_part(id, kind, data, first, is_last);
            return;
        }
        self.tell_part(id, kind, data, message.first, message.last);
    }

    fn tell_part(
        &mut self,
        channel: super::ChannelId,
        kind: MessageKind,
        data: Bytes,
        first: bool,
        last: bool,
    ) {
        self.events.push_back(if first && last {
            ChannelEvent::Message {
                channel,
                kind,
                data,
            }
        } else {
            ChannelEvent::MessagePart {
                channel,
                kind,
                data,
                first,
                last,
            }
        });
    }

    fn handle_dcep(&mut self, now: Instant, message: &Message) {
        let stream = message.stream;
        let slot = self.streams.get(stream.0).copied();
        let parsed = if message.first && message.last {
            Dcep::parse(&message.data)
        } else {
            None
        };
        match (parsed, slot) {
            (Some(Dcep::Ack), Some(slot)) => {
                if let Some(channel) = self.at(slot) {
                    channel.acknowledged = true;
                }
            }
            (Some(Dcep::Open(options)), None) if self.may_open(stream.0, options.name_bytes()) => {
                let priority = options.priority;
                self.names += options.name_bytes();
                let id = self.insert(options, Some(stream.0));
                if let Some(channel) = self.at(id.slot()) {
                    channel.state = ChannelState::Open;
                    channel.acknowledged = true;
                    channel.incoming = true;
                }
                self.association.set_priority(stream, priority);
                self.send_dcep(now, stream, Dcep::Ack.to_bytes());
                self.events.push_back(ChannelEvent::Incoming(id));
            }
            // RFC 8832 section 6: an OPEN that breaks the rules is answered by closing.
            (Some(Dcep::Open(_)) | None, None) => {
                self.dropped += 1;
                let _ = self.association.reset_streams(now, &[stream]);
            }
            (Some(Dcep::Open(_)) | None, Some(slot)) => {
                self.dropped += 1;
                self.close_by_peer(now, slot);
            }
            (Some(Dcep::Ack), None) => self.dropped += 1,
        }
    }

    /// Whether the peer may open a channel on a stream: its parity, and the limits.
    fn may_open(&self, stream: u16, name: usize) -> bool {
        let limits = &self.association.config().limits;
        let parity = match self.role {
            Some(DtlsRole::Client) => !stream.is_multiple_of(2),
            Some(DtlsRole::Server) => stream.is_multiple_of(2),
            None => true,
        };
        let count = self.slots.len() - self.free.len();
        let sendable = self
            .association
            .negotiated()
            .is_some_and(|n| stream < n.outbound_streams);
        parity && sendable && count < limits.channels && self.names + name <= limits.channel_names
    }
}
