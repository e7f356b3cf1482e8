//! Descriptions: what the control plane sets and gets, and what is seen of the sections.

use std::time::Instant;

use visavis_peer::{Description, IceCandidate, OfferOptions, SdpType, Transceiver};
use visavis_sdp::{Attribute, Media};

use super::Worker;
use super::connection::Connection;
use crate::error::Result;
use crate::events::Event;
use crate::ids::ConnectionId;
use crate::options::Section;

impl Worker {
    /// JSEP's `setRemoteDescription`.
    ///
    /// # Errors
    /// [`Error::NoConnection`](crate::Error::NoConnection), [`Error::Peer`](crate::Error::Peer).
    pub fn set_remote_description(
        &mut self,
        now: Instant,
        id: ConnectionId,
        description: &Description,
    ) -> Result<()> {
        let (slot, connection) = self.connection(id)?;
        connection.peer.set_remote_description(now, description)?;
        self.touch(slot);
        self.settle(now);
        self.negotiated(now, slot);
        Ok(())
    }

    /// Makes an answer and sets it.
    ///
    /// # Errors
    /// [`Error::NoConnection`](crate::Error::NoConnection), [`Error::Peer`](crate::Error::Peer).
    pub fn create_answer(&mut self, now: Instant, id: ConnectionId) -> Result<Description> {
        let (slot, connection) = self.connection(id)?;
        let answer = connection.peer.create_answer(now)?;
        self.set_local(now, slot, answer)
    }

    /// Makes an offer and sets it.
    ///
    /// # Errors
    /// [`Error::NoConnection`](crate::Error::NoConnection), [`Error::Peer`](crate::Error::Peer).
    pub fn create_offer(
        &mut self,
        now: Instant,
        id: ConnectionId,
        options: OfferOptions,
    ) -> Result<Description> {
        let (slot, connection) = self.connection(id)?;
        let offer = connection.peer.create_offer(now, options)?;
        self.set_local(now, slot, offer)
    }

    fn set_local(
        &mut self,
        now: Instant,
        slot: usize,
        description: Description,
    ) -> Result<Description> {
        let Some(connection) = self.connections.get_mut(slot) else {
            return Err(crate::Error::NoConnection);
        };
        connection
            .peer
            .set_local_description(now, Some(&description))?;
        // With the candidates, which are all known at once.
        let with_candidates = connection.peer.local_description();
        for (_, subscription) in &mut connection.subscriptions {
            subscription.described |= subscription.transceiver.is_some();
        }
        self.learn_ufrag(slot);
        self.touch(slot);
        self.settle(now);
        self.negotiated(now, slot);
        Ok(with_candidates.unwrap_or(description))
    }

    /// Takes this end's offer back.
    ///
    /// # Errors
    /// [`Error::NoConnection`](crate::Error::NoConnection), [`Error::Peer`](crate::Error::Peer).
    pub fn rollback(&mut self, now: Instant, id: ConnectionId) -> Result<()> {
        let (slot, connection) = self.connection(id)?;
        connection
            .peer
            .set_local_description(now, Some(&Description::rollback()))?;
        self.touch(slot);
        Ok(())
    }

    /// A candidate of the peer. One that does not fit is noted in the connection's log.
    pub fn add_remote_candidate(
        &mut self,
        now: Instant,
        id: ConnectionId,
        candidate: &IceCandidate,
    ) {
        let Ok((slot, connection)) = self.connection(id) else {
            return;
        };
        if let Err(error) = connection.peer.add_ice_candidate(now, candidate) {
            let text = format!("candidate {:?} refused: {error}", candidate.candidate);
            self.tell(Event::Decision {
                connection: id,
                text,
            });
        }
        self.touch(slot);
    }

    /// What the descriptions say of each media section.
    ///
    /// # Errors
    /// [`Error::NoConnection`](crate::Error::NoConnection).
    pub fn sections(&mut self, id: ConnectionId) -> Result<Vec<Section>> {
        let (_, connection) = self.connection(id)?;
        Ok(connection.sections())
    }
}

impl Connection {
    /// What the descriptions say of each media section.
    pub(super) fn sections(&self) -> Vec<Section> {
        let live = self.peer.transceivers().iter();
        live.filter(|transceiver| !transceiver.is_stopped())
            .filter_map(|transceiver| self.section(transceiver))
            .collect()
    }

    fn section(&self, transceiver: &Transceiver) -> Option<Section> {
        let mid = transceiver.mid.clone()?;
        let remote = self.remote_section(&mid);
        let direction = remote
            .filter(|remote| !remote.is_rejected())
            .map(Media::direction);
        let (stream, track) = remote.map(msid).unwrap_or_default();
        let subscription = self.subscription_on(transceiver.id);
        let peer_sends = direction.is_some_and(|direction| direction.sends());
        let peer_receives = direction.is_some_and(|direction| direction.receives());
        let receiver = &transceiver.receiver;
        let codecs = if receiver.codecs.is_empty() {
            &transceiver.sender.codecs
        } else {
            &receiver.codecs
        };
        Some(Section {
            mid,
            kind: transceiver.kind,
            receives: peer_sends,
            sends: peer_receives,
            stream,
            track,
            subscription,
            free: peer_receives && subscription.is_none(),
            codecs: codecs.iter().map(|codec| codec.name.clone()).collect(),
            rids: receiver.rids.clone(),
        })
    }

    /// What the peer's latest description says of a section.
    pub(super) fn remote_section(&self, mid: &str) -> Option<&Media> {
        let sections = self.peer.remote_sections().iter();
        let mut found = sections.filter(|media| media.attributes.mid() == Some(mid));
        found.next()
    }

    /// Whether a peer's offer waits for an answer.
    pub(super) fn must_answer(&self) -> bool {
        self.peer
            .remote_description()
            .is_some_and(|remote| remote.kind == SdpType::Offer)
            && self.peer.signaling_state() == visavis_peer::SignalingState::HaveRemoteOffer
    }
}

/// Stream and track of a section's `a=msid` (RFC 8830); empty where it says none.
pub(super) fn msid(media: &Media) -> (String, String) {
    let mut found = media
        .attributes
        .iter()
        .filter_map(|attribute| match attribute {
            Attribute::Msid(msid) => {
                Some((msid.stream.clone(), msid.track.clone().unwrap_or_default()))
            }
            _ => None,
        });
    found.next().unwrap_or_default()
}
