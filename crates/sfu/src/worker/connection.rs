//! One peer connection, and what it tells.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Random, Transmit, TransmitBuf};
use visavis_ice as ice;
use visavis_peer::{
    ChannelId, Configuration, ConnectionState, MediaSettings, PeerConnection, Received,
};

use super::timers::{Alarm, Due};
use super::{Settings, Worker, ufrag_prefix};
use crate::error::Result;
use crate::events::Event;
use crate::ids::{ConnectionId, ParticipantId, RoomId};
use crate::options::ConnectionConfig;

/// How long a closed connection may still say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// One peer connection.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) room: RoomId,
    pub(super) participant: ParticipantId,
    pub(super) peer: PeerConnection,
    /// Whether this end makes the offers that subscriptions need.
    pub(super) offers: bool,
    pub(super) labels: HashMap<ChannelId, Arc<str>>,
    /// Username fragments that checks may name.
    ufrags: Vec<Box<str>>,
    /// The path that the multiplexer knows as this connection's.
    claimed: Option<Path>,
    /// When a closed connection is forgotten.
    ends: Option<Instant>,
    alarm: Alarm,
    pub(super) is_touched: bool,
    pub(super) is_sending: bool,
    pub(super) needs_schedule: bool,
}

impl Connection {
    pub(super) fn new(
        now: Instant,
        id: ConnectionId,
        (room, participant): (RoomId, ParticipantId),
        config: &ConnectionConfig,
        settings: &Settings,
        wall_clock: Duration,
        random: Random,
    ) -> Result<Self> {
        let configuration = Configuration {
            ice: ice::Config {
                lite: config.ice_lite,
                ufrag_prefix: ufrag_prefix(settings.index).into(),
                rewrites: settings.rewrites.clone(),
                ..ice::Config::default()
            },
            certificates: vec![settings.certificate.clone()],
            wall_clock,
            codecs: settings.codecs.clone(),
            always_negotiate_data_channels: config.data_channels,
            media: MediaSettings {
                answer_nacks: false,
                pacing: false,
                congestion_control: false,
                ..MediaSettings::default()
            },
            ..Configuration::default()
        };
        let mut peer = PeerConnection::new(configuration, random, now)?;
        for address in &settings.addresses {
            peer.add_local_address(now, address.clone())?;
        }
        Ok(Self {
            id,
            room,
            participant,
            peer,
            offers: config.offers,
            labels: HashMap::new(),
            ufrags: Vec::new(),
            claimed: None,
            ends: None,
            alarm: Alarm::default(),
            is_touched: false,
            is_sending: false,
            needs_schedule: true,
        })
    }
}

impl Worker {
    /// Takes a datagram of a connection.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        slot: usize,
        from: Path,
        ecn: Ecn,
        datagram: &mut [u8],
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let received = connection
            .peer
            .handle_datagram_with_ecn(now, from, ecn, datagram);
        match received {
            Received::Rtp(_) | Received::Rtcp(_) => {}
            _ => {}
        }
        self.touch(slot);
    }

    /// Writes the next run of a connection.
    pub(super) fn transmit_from(
        &mut self,
        now: Instant,
        slot: usize,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let connection = self.connections.get_mut(slot)?;
        let transmit = connection.peer.poll_transmit(now, out)?;
        let path = transmit.path();
        // Checks are told apart by their transactions; anything else only claims its path.
        let is_stun = matches!(out.as_slice().first(), Some(0..=3));
        if is_stun || connection.claimed != Some(path) {
            let end = transmit.segment_size.min(out.as_slice().len());
            self.mux.sent(path, &out.as_slice()[..end], slot);
            if !is_stun {
                connection.claimed = Some(path);
            }
        }
        Some(transmit)
    }

    /// A connection's time has come.
    pub(super) fn connection_timeout(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if !connection.alarm.take(now) {
            return;
        }
        if connection.ends.is_some_and(|ends| ends <= now) {
            self.forget(slot);
            return;
        }
        if connection.peer.poll_timeout().is_some_and(|due| due <= now) {
            connection.peer.handle_timeout(now);
        }
        self.touch(slot);
    }

    /// Sets a connection's alarm anew.
    pub(super) fn reschedule(&mut self, _now: Instant, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if !std::mem::take(&mut connection.needs_schedule) {
            return;
        }
        let due = [connection.peer.poll_timeout(), connection.ends]
            .into_iter()
            .flatten()
            .min();
        if let Some(due) = due {
            self.timers
                .set(&mut connection.alarm, due, Due::Connection(slot));
        }
    }

    /// The multiplexer learns the username fragment of the description in force.
    pub(super) fn learn_ufrag(&mut self, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let ufrag = &connection.peer.ice().local_credentials().ufrag;
        if !connection.ufrags.contains(ufrag) {
            connection.ufrags.push(ufrag.clone());
            self.mux.add_ufrag(ufrag, slot);
        }
        // The one before may still be checked until a restart is through.
        while connection.ufrags.len() > 2 {
            let oldest = connection.ufrags.remove(0);
            self.mux.remove_ufrag(&oldest);
        }
    }

    /// Tells what a connection has to tell.
    pub(super) fn follow_events(&mut self, now: Instant, slot: usize) {
        use visavis_peer::Event as Peer;
        loop {
            let Some(connection) = self.connections.get_mut(slot) else {
                return;
            };
            let Some(event) = connection.peer.poll_event() else {
                return;
            };
            let id = connection.id;
            match event {
                Peer::ConnectionState(state) => {
                    let participant = connection.participant;
                    self.tell(Event::ConnectionState {
                        connection: id,
                        participant,
                        state,
                    });
                    if state == ConnectionState::Connected {
                        self.connected(now, slot);
                    }
                }
                Peer::SelectedPair(pair) => self.tell(Event::SelectedPair {
                    connection: id,
                    local: pair.local.to_string(),
                    remote: pair.remote.to_string(),
                }),
                Peer::IceCandidate(candidate) => {
                    let end = candidate
                        .as_ref()
                        .is_some_and(|candidate| candidate.candidate.is_empty());
                    if !end {
                        self.tell(Event::LocalCandidate {
                            connection: id,
                            candidate,
                        });
                    }
                }
                Peer::NegotiationNeeded => {
                    self.tell(Event::NegotiationNeeded { connection: id });
                }
                Peer::DataChannelOpen(channel) => self.channel_opened(slot, channel),
                Peer::DataChannelClosed(channel) => self.channel_closed(slot, channel),
                Peer::Message {
                    channel,
                    kind,
                    data,
                } => self.message(slot, channel, kind, data),
                _ => {}
            }
        }
    }

    fn connected(&mut self, _now: Instant, _slot: usize) {}

    /// Begins to end a connection.
    pub(super) fn close_slot(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if connection.ends.is_some() {
            return;
        }
        connection.ends = Some(now + LAST_WORDS);
        connection.peer.close(now);
        self.by_id.remove(&connection.id);
        self.touch(slot);
    }

    /// Ends a connection for good.
    fn forget(&mut self, slot: usize) {
        if self.connections.try_remove(slot).is_some() {
            self.mux.remove(slot);
            self.latest_route = None;
            self.sending.retain(|&other| other != slot);
            self.touched.retain(|&other| other != slot);
        }
    }
}
