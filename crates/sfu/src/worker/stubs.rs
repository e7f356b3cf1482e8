use super::Worker;
use super::connection::Connection;
use crate::{error::*, ids::*, options::*, stats::*, tap::Tap};
use std::time::Instant;
use visavis_peer::TransceiverId;

impl Connection {
    pub(super) fn subscription_on(&self, _transceiver: TransceiverId) -> Option<SubscriptionId> {
        None
    }
}
impl Worker {
    pub(super) fn negotiated(&mut self, _now: Instant, _slot: usize) {}
    pub(super) fn fail_slot(&mut self, now: Instant, slot: usize) {
        self.close_slot(now, slot)
    }
    /// What arrives on a section becomes a track. # Errors: see the handle.
    pub fn publish(
        &mut self,
        _now: Instant,
        _id: ConnectionId,
        mid: &str,
        _options: PublishOptions,
    ) -> Result<TrackId> {
        Err(Error::NoSection(mid.into()))
    }
    /// A second codec.
    pub fn publish_codec(
        &mut self,
        _now: Instant,
        _track: TrackId,
        _id: ConnectionId,
        mid: &str,
        _options: PublishOptions,
    ) -> Result<()> {
        Err(Error::NoSection(mid.into()))
    }
    /// Ends a track.
    pub fn unpublish(&mut self, _now: Instant, _track: TrackId) {}
    /// Mutes a track.
    pub fn set_muted(&mut self, _now: Instant, _track: TrackId, _muted: bool) {}
    /// Layers.
    pub fn set_layers(&mut self, _now: Instant, _track: TrackId, _layers: Vec<LayerSize>) {}
    /// Subscribes.
    pub fn subscribe(
        &mut self,
        _now: Instant,
        _track: TrackId,
        _id: ConnectionId,
        _options: SubscribeOptions,
    ) -> Result<SubscriptionId> {
        Err(Error::NoTrack)
    }
    /// Wish.
    pub fn set_subscription(&mut self, _now: Instant, _subscription: SubscriptionId, _wish: Wish) {}
    /// Ends a subscription.
    pub fn unsubscribe(&mut self, _now: Instant, _subscription: SubscriptionId) {}
    /// Taps.
    pub fn tap(&mut self, _now: Instant, _track: TrackId, _tap: Tap) -> Result<()> {
        Err(Error::NoTrack)
    }
    /// Stats.
    pub fn connection_stats(
        &mut self,
        _now: Instant,
        _id: ConnectionId,
    ) -> Result<ConnectionStats> {
        Err(Error::NoConnection)
    }
    /// Stats.
    pub fn room_stats(&mut self, _now: Instant, _room: RoomId) -> Vec<ConnectionStats> {
        Vec::new()
    }
}
