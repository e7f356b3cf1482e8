//! What inspectors see.

use std::time::Instant;

use visavis_media::forward::LayerTarget;

use super::Worker;
use crate::error::{Error, Result};
use crate::ids::{ConnectionId, RoomId};
use crate::stats::{ConnectionStats, EncodingStats, SubscriptionStats, TrackStats};

impl Worker {
    /// One connection.
    ///
    /// # Errors
    /// [`Error::NoConnection`].
    pub fn connection_stats(&mut self, now: Instant, id: ConnectionId) -> Result<ConnectionStats> {
        let slot = self.slot(id)?;
        self.slot_stats(now, slot).ok_or(Error::NoConnection)
    }

    /// All connections of a room.
    pub fn room_stats(&mut self, now: Instant, room: RoomId) -> Vec<ConnectionStats> {
        let members: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.room == room)
            .map(|(slot, _)| slot)
            .collect();
        let stats = members
            .into_iter()
            .filter_map(|slot| self.slot_stats(now, slot));
        stats.collect()
    }

    fn slot_stats(&self, now: Instant, slot: usize) -> Option<ConnectionStats> {
        let connection = self.connections.get(slot)?;
        let layer = |target: LayerTarget| (target.encoding, target.spatial_id, target.temporal_id);
        let subscriptions = connection.subscriptions.iter().map(|(_, found)| {
            let forwarder = found.forwarder.as_ref();
            SubscriptionStats {
                subscription: found.id,
                track: found.track_id,
                mid: found.mid.clone(),
                packets: found.packets,
                bytes: found.bytes,
                retransmitted: found.retransmitted,
                current: forwarder.and_then(|f| f.current()).map(layer),
                target: forwarder.and_then(|f| f.target()).map(layer),
                paused: found.paused,
                loss: found.loss,
            }
        });
        let tracks = connection
            .inputs
            .iter()
            .flatten()
            .filter_map(|&(track, index)| {
                let track = self.tracks.get(track)?;
                let variant = track.variants.get(index)?;
                let number = variant.feed?.1;
                let transceiver = connection.peer.transceiver(number)?;
                let encodings = variant.encodings.iter().flatten();
                Some(TrackStats {
                    track: track.id,
                    mid: transceiver.mid.clone().unwrap_or_default(),
                    codec: variant.codec.as_ref().map(|codec| codec.name.to_string()),
                    muted: track.muted,
                    subscribers: track.subscribers.len(),
                    encodings: encodings
                        .map(|encoding| EncodingStats {
                            rid: encoding.rid.clone(),
                            ssrc: encoding.ssrc,
                            bitrate: if encoding.is_flowing(now) {
                                encoding.rates.total()
                            } else {
                                0
                            },
                            packets: encoding.packets,
                            history_bytes: encoding.history.memory(),
                            keyframe_requests: encoding.keyframe.requests(),
                        })
                        .collect(),
                })
            });
        let control = connection.egress.control_stats();
        Some(ConnectionStats {
            connection: connection.id,
            room: connection.room,
            participant: connection.participant,
            state: connection.peer.connection_state(),
            report: connection.peer.stats(now),
            log: connection.peer.log().cloned().collect(),
            estimate: connection.egress.estimate().unwrap_or(0),
            sending: control.map_or(0, |control| control.acknowledged),
            round_trip_ms: connection.round_trip.map(|trip| trip.as_millis() as u64),
            loss: connection.loss,
            tracks: tracks.collect(),
            subscriptions: subscriptions.collect(),
        })
    }
}
