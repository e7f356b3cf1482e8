//! Data channels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use visavis_peer::{ChannelId, ChannelOptions, MessageKind};

use super::Worker;
use crate::error::Result;
use crate::events::Event;
use crate::ids::ConnectionId;

/// A message for a peer.
#[derive(Debug)]
pub(crate) struct Outbound {
    pub(crate) channel: ChannelId,
    pub(crate) kind: MessageKind,
    pub(crate) bytes: Bytes,
}

/// The messages that a connection is given to send, which are numbered: while it moves from one worker to another, some go the
/// long way and some the short one.
#[derive(Debug, Default)]
pub(super) struct Outgoing {
    /// The number of the next one.
    next: u64,
    /// Those that came before it, by their numbers: no more than commands wait at one worker.
    early: BTreeMap<u64, Outbound>,
}

impl Outgoing {
    /// The next message, if it is there.
    fn pop(&mut self) -> Option<Outbound> {
        let message = self.early.remove(&self.next)?;
        self.next += 1;
        Some(message)
    }
}

impl Worker {
    /// Opens a data channel.
    ///
    /// # Errors
    /// [`Error::NoConnection`](crate::Error::NoConnection), [`Error::Peer`](crate::Error::Peer).
    pub fn create_data_channel(
        &mut self,
        now: Instant,
        id: ConnectionId,
        options: ChannelOptions,
    ) -> Result<ChannelId> {
        let (slot, connection) = self.connection(id)?;
        let label: Arc<str> = options.label.as_str().into();
        let channel = connection.peer.create_data_channel(now, options)?;
        connection.labels.insert(channel, label);
        self.touch(slot);
        Ok(channel)
    }

    /// Sends a message; see [`Sfu::send_data`](crate::Sfu::send_data) for slow readers.
    pub fn send_data(
        &mut self,
        now: Instant,
        id: ConnectionId,
        channel: ChannelId,
        kind: MessageKind,
        bytes: &Bytes,
    ) {
        let limit = self.settings.limits.channel_buffer;
        let Ok((slot, connection)) = self.connection(id) else {
            return;
        };
        let peer = &mut connection.peer;
        let is_lossy = peer.data_channel_options(channel).is_some_and(|options| {
            options.max_retransmits.is_some() || options.max_packet_lifetime.is_some()
        });
        let is_full = peer.buffered_amount(channel) + bytes.len() > limit;
        let sent = !is_full && peer.send(now, channel, kind, bytes.clone()).is_ok();
        let too_slow = is_full && !is_lossy;
        if sent {
            self.touch(slot);
        } else {
            self.stats.data_dropped += 1;
        }
        if too_slow {
            self.tell(Event::Decision {
                connection: id,
                text: format!(
                    "closed: the peer reads its reliable data channel so slowly that {limit} bytes wait"
                ),
            });
            self.fail_slot(now, slot);
        }
    }

    /// Sends a message in its turn: when all of lower numbers have been sent.
    pub(crate) fn send_in_turn(
        &mut self,
        now: Instant,
        id: ConnectionId,
        number: u64,
        message: Outbound,
    ) {
        if let Ok((_, connection)) = self.connection(id) {
            connection.outgoing.early.insert(number, message);
        }
        while let Ok((_, connection)) = self.connection(id)
            && let Some(message) = connection.outgoing.pop()
        {
            self.send_data(now, id, message.channel, message.kind, &message.bytes);
        }
    }

    /// Bytes of a channel that wait to be sent.
    ///
    /// # Errors
    /// [`Error::NoConnection`](crate::Error::NoConnection).
    pub fn buffered_amount(&mut self, id: ConnectionId, channel: ChannelId) -> Result<u64> {
        let (_, connection) = self.connection(id)?;
        Ok(connection.peer.buffered_amount(channel) as u64)
    }

    pub(super) fn channel_opened(&mut self, slot: usize, channel: ChannelId) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let options = connection.peer.data_channel_options(channel);
        let label = options.map(|options| options.label.clone());
        let label = label.unwrap_or_default();
        connection.labels.insert(channel, label.as_str().into());
        let connection = connection.id;
        self.tell(Event::DataChannelOpen {
            connection,
            channel,
            label,
        });
    }

    pub(super) fn channel_closed(&mut self, slot: usize, channel: ChannelId) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        connection.labels.remove(&channel);
        let connection = connection.id;
        self.tell(Event::DataChannelClosed {
            connection,
            channel,
        });
    }

    pub(super) fn message(
        &mut self,
        slot: usize,
        channel: ChannelId,
        kind: MessageKind,
        bytes: Bytes,
    ) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let label = connection.labels.get(&channel).cloned();
        self.tell(Event::Data {
            connection: connection.id,
            participant: connection.participant,
            room: connection.room,
            channel,
            label: label.unwrap_or_else(|| "".into()),
            kind,
            bytes,
        });
    }
}
