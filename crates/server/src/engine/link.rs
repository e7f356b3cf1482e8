//! A participant's connections to the media plane: opened when it joins, closed when it leaves.

use std::collections::{HashMap, VecDeque};

use bytes::Bytes;
use livekit_protocol as proto;
use proto::DisconnectReason;
use visavis_sfu::{
    ChannelId, ChannelOptions, ConnectionConfig, ConnectionId, ConnectionState, IceCandidate,
    MessageKind, ParticipantId, RoomId,
};

use super::{Actor, CHANNELS};
use crate::room::{DataKind, Mode, Now, ParticipantKey};

/// Reliable messages that are kept until the client's channel is open.
const EARLY_MESSAGES: usize = 64;

/// A participant's connections.
#[derive(Debug, Default)]
pub(super) struct Link {
    /// The one that the client offers: the only one, or the one that it publishes on.
    pub(super) publisher: Option<Peer>,
    /// The one that the server offers.
    pub(super) subscriber: Option<Peer>,
    pub(super) channels: HashMap<DataKind, (ConnectionId, ChannelId)>,
    pub(super) early_messages: VecDeque<Bytes>,
    /// Sections for receiving that the client still has to offer, and those that it was asked for.
    pub(super) needed: (usize, usize),
    pub(super) asked: (usize, usize),
    pub(super) wants_offer: bool,
}

/// One connection.
#[derive(Debug)]
pub(super) struct Peer {
    pub(super) connection: ConnectionId,
    /// The last offer's number: clients match answers by it.
    pub(super) offer_id: u32,
    /// An offer of the server waits for its answer.
    pub(super) offered: bool,
    /// Something changed meanwhile.
    pub(super) offer_again: bool,
    pub(super) restart_again: bool,
    pub(super) described: bool,
    /// The client asked to be reached over TCP alone.
    pub(super) tcp_only: bool,
    /// A WHIP client's offer, from which a restart is made.
    pub(super) last_offer: String,
    pub(super) early: Vec<IceCandidate>,
    /// What the client sends, by section: the track and the client's own id of it.
    pub(super) published: HashMap<String, (String, String)>,
    pub(super) state: Option<ConnectionState>,
}

impl Peer {
    fn new(connection: ConnectionId) -> Self {
        Self {
            connection,
            offer_id: 0,
            offered: false,
            offer_again: false,
            restart_again: false,
            described: false,
            tcp_only: false,
            last_offer: String::new(),
            early: Vec::new(),
            published: HashMap::new(),
            state: None,
        }
    }
}

/// The number by which the media plane knows a participant: unique over all rooms.
pub(crate) fn participant_id(room: u32, key: ParticipantKey) -> ParticipantId {
    ParticipantId(u64::from(room) << 32 | u64::from(key.0))
}

/// The room and the participant of such a number.
pub(crate) fn of_participant_id(id: ParticipantId) -> (u32, ParticipantKey) {
    #[allow(clippy::cast_possible_truncation)] // Halves of 64 bits.
    ((id.0 >> 32) as u32, ParticipantKey(id.0 as u32))
}

impl Actor {
    pub(super) async fn open(&mut self, key: ParticipantKey, now: Now) {
        let Some(participant) = self.room.participant(key) else {
            return;
        };
        let (mode, ice_lite) = (
            participant.mode,
            self.shared.config.ice_lite && !participant.disable_ice_lite,
        );
        let subscriber_is_primary = participant.subscriber_is_primary();
        let tcp_only = self.room.way_of(key) == proto::CandidateProtocol::Tcp;
        let mut link = Link::default();
        let offering = [(false, true), (true, mode == Mode::Dual)];
        for (offers, _) in offering.into_iter().filter(|(_, wanted)| *wanted) {
            let config = ConnectionConfig {
                ice_lite,
                offers,
                data_channels: offers,
            };
            let id = participant_id(self.id, key);
            match self
                .shared
                .media
                .sfu()
                .create_connection(RoomId(self.id.into()), id, config)
                .await
            {
                Ok(connection) => {
                    self.connections.insert(connection, key);
                    self.shared.rooms.add_connection(connection, self.id);
                    let mut peer = Peer::new(connection);
                    peer.tcp_only = tcp_only;
                    let peer = Some(peer);
                    if offers {
                        link.subscriber = peer
                    } else {
                        link.publisher = peer
                    }
                }
                Err(error) => {
                    self.note_of(key, format!("has no media connection: {error}"));
                    self.room.remove(key, DisconnectReason::JoinFailure, now);
                    return;
                }
            }
        }
        let subscriber = link.subscriber.as_ref().map(|peer| peer.connection);
        self.links.insert(key, link);
        if let Some(connection) = subscriber {
            for kind in CHANNELS {
                let reliable = kind == DataKind::Reliable;
                let options = ChannelOptions {
                    label: kind.label().to_owned(),
                    ordered: reliable,
                    max_retransmits: (!reliable).then_some(0),
                    ..ChannelOptions::default()
                };
                if let Err(error) = self
                    .shared
                    .media
                    .sfu()
                    .create_data_channel(connection, options)
                    .await
                {
                    self.note_of(key, format!("has no channel {}: {error}", kind.label()));
                }
            }
            self.room.media_ready(key);
            // Later offers come when something changed, or when this one was answered.
            if subscriber_is_primary {
                self.offer(key, false, now).await;
            }
        }
    }

    pub(super) fn close(&mut self, key: ParticipantKey) {
        self.shared.sessions.forget(self.id, key);
        let Some(link) = self.links.remove(&key) else {
            return;
        };
        for peer in link.publisher.into_iter().chain(link.subscriber) {
            self.connections.remove(&peer.connection);
            self.shared.rooms.remove_connection(peer.connection);
            self.shared.media.sfu().close(peer.connection);
        }
        self.subscriptions
            .retain(|(subscriber, _), _| *subscriber != key);
    }

    pub(super) fn send_data(&mut self, to: ParticipantKey, kind: DataKind, packet: Bytes) {
        let Some(link) = self.links.get_mut(&to) else {
            return;
        };
        match link.channels.get(&kind) {
            Some((connection, channel)) => {
                let sfu = self.shared.media.sfu();
                let _ = sfu.send_data(*connection, *channel, MessageKind::Binary, packet);
            }
            None if kind == DataKind::Reliable && link.early_messages.len() < EARLY_MESSAGES => {
                link.early_messages.push_back(packet);
            }
            None => metrics::counter!("visavis_data_dropped_total").increment(1),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn participants_have_one_number_over_all_rooms() {
        assert_eq!(
            of_participant_id(participant_id(7, ParticipantKey(9))),
            (7, ParticipantKey(9))
        );
    }
}
