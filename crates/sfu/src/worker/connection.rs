//! One peer connection, and what it tells.

use std::collections::HashMap;
use std::hint::black_box;
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use smallvec::SmallVec;
use visavis_datagram::{Arrival, Path, Random, Transmit, TransmitBuf};
use visavis_ice as ice;
use visavis_peer::{
    BundlePolicy, ChannelId, Configuration, ConnectionState, DtlsRolePreference, DtlsState, Limits,
    MediaSettings, PeerConnection, Received, TransceiverId,
};

use super::data::Outgoing;
use super::egress::{Egress, Source};
use super::negotiate::msid;
use super::strays::Home;
use super::subscription::Subscription;
use super::timers::{Alarm, Due};
use super::{Settings, Worker, ufrag_prefix};
use crate::error::Result;
use crate::events::Event;
use crate::ids::{ConnectionId, ParticipantId, RoomId, WorkerIndex};
use crate::options::ConnectionConfig;

/// How long a closed connection may still say goodbye.
const LAST_WORDS: Duration = Duration::from_secs(1);

/// The least time between two looks at a pacer that holds packets back: what gathers until then leaves in
/// one run.
const PACE: Duration = Duration::from_millis(5);

/// Paths of one connection that other workers hand over.
const MAX_PATHS: usize = 8;

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
    pub(super) outgoing: Outgoing,
    /// Slots of track and variant that each transceiver's packets are for, by its number.
    pub(super) inputs: Vec<Option<(usize, usize)>>,
    pub(super) subscriptions: Slab<Subscription>,
    /// The subscription of each source that is sent.
    pub(super) sources: HashMap<u32, usize>,
    pub(super) egress: Egress,
    /// When layers are looked at next, and the estimate for which they were last.
    pub(super) allocate_at: Option<Instant>,
    pub(super) allocated_for: u64,
    pub(super) quality_at: Option<Instant>,
    pub(super) quality: u8,
    pub(super) round_trip: Option<Duration>,
    pub(super) loss: f64,
    /// Packets received and lost at the last look.
    pub(super) inbound: (u64, u64),
    /// Subscriptions wait for sections, or for the peer's next offer.
    pub(super) lacks_sections: bool,
    /// Paths whose datagrams another worker hands over.
    by_others: SmallVec<[(Path, WorkerIndex); 2]>,
    /// How often it has moved.
    pub(super) moves: u32,
    /// Other workers that remember where it is, and have to hear when it moves or is no more.
    pub(super) known_at: SmallVec<[WorkerIndex; 2]>,
    /// Streams that it has sent on.
    pub(super) streams: SmallVec<[Path; 1]>,
    born: Instant,
    /// Username fragments that checks may name.
    pub(super) ufrags: Vec<Box<str>>,
    /// The path that the multiplexer knows as this connection's.
    claimed: Option<Path>,
    /// When a closed connection is forgotten.
    pub(super) ends: Option<Instant>,
    alarm: Alarm,
    /// When the peer connection itself wants to be woken, as of the last look.
    peer_due: Option<Instant>,
    pub(super) is_touched: bool,
    pub(super) is_sending: bool,
    /// The connection itself may have something to send, beside forwarded media.
    pub(super) has_own: bool,
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
                // The owner chose the addresses.
                filter: ice::Filter {
                    loopback: true,
                    link_local: true,
                    ..ice::Filter::default()
                },
                ..ice::Config::default()
            },
            certificates: vec![settings.certificate.clone()],
            wall_clock,
            codecs: settings.codecs.clone(),
            // Whoever answers as the server chooses the protection of media (RFC 5764 section 4.1.2), and AEAD_AES_128_GCM
            // costs half of what browsers put first.
            dtls_role: DtlsRolePreference::Server,
            // One connection has one port here. Sections are offered as usable alone, which is what clients of all kinds know.
            bundle_policy: BundlePolicy::MaxCompat,
            limits: Limits {
                transports: 1,
                ..Limits::default()
            },
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
            outgoing: Outgoing::default(),
            inputs: Vec::new(),
            subscriptions: Slab::new(),
            sources: HashMap::new(),
            egress: Egress::new(&settings.limits),
            allocate_at: None,
            allocated_for: 0,
            quality_at: None,
            quality: 5,
            round_trip: None,
            loss: 0.0,
            inbound: (0, 0),
            lacks_sections: false,
            by_others: SmallVec::new(),
            moves: 0,
            known_at: SmallVec::new(),
            streams: SmallVec::new(),
            born: now,
            ufrags: Vec::new(),
            claimed: None,
            ends: None,
            alarm: Alarm::default(),
            peer_due: None,
            is_touched: false,
            is_sending: false,
            has_own: false,
            needs_schedule: true,
        })
    }

    /// Reads what packets of a subscription will touch, so that the caches fetch all of it at once, and meanwhile.
    pub(super) fn warm(&self, key: usize) {
        black_box((
            self.is_sending,
            self.has_own,
            self.needs_schedule,
            self.born,
        ));
        black_box((self.allocate_at, self.quality_at, self.ends));
        black_box((self.claimed, self.alarm));
        self.peer.warm();
        self.egress.warm();
        if let Some(subscription) = self.subscriptions.get(key) {
            subscription.warm();
        }
    }

    /// Whether media can leave.
    fn can_send(&self) -> bool {
        use ice::ConnectionState as Ice;
        self.peer.dtls_state() == DtlsState::Connected
            && !self.peer.is_closed()
            && matches!(
                self.peer.ice_connection_state(),
                Ice::Connected | Ice::Completed | Ice::Disconnected
            )
    }

    /// The paths that it was heard on lately, as far as they are known here, each with the worker that gets their datagrams,
    /// where that is another.
    pub(super) fn paths(&self) -> SmallVec<[(Path, Option<WorkerIndex>); 4]> {
        let by_others = self.by_others.iter();
        let by_others = by_others.map(|&(path, worker)| (path, Some(worker)));
        let own = self.claimed.map(|path| (path, None));
        by_others.chain(own).collect()
    }

    /// It came from another worker, and knows nothing of this one: its alarm is not set here, and nobody here gets its
    /// datagrams yet. Answers its paths.
    pub(super) fn settle_in(&mut self) -> SmallVec<[Path; 4]> {
        let paths: SmallVec<[Path; 4]> = self.paths().into_iter().map(|(path, _)| path).collect();
        self.by_others.clear();
        // Should it go on before anything was heard of it here, it goes on with its path.
        self.claimed = paths.last().copied();
        self.alarm = Alarm::default();
        self.is_touched = false;
        self.is_sending = false;
        self.has_own = true;
        self.needs_schedule = true;
        self.allocate_at = Some(self.born);
        paths
    }

    /// What others are told of where it is, if that is this worker.
    pub(super) const fn home(&self, worker: WorkerIndex) -> Home {
        Home {
            moves: self.moves,
            worker,
        }
    }

    /// Another worker remembers where it is.
    pub(super) fn is_known_at(&mut self, worker: WorkerIndex) {
        if !self.known_at.contains(&worker) {
            self.known_at.push(worker);
        }
    }

    /// A datagram on this path came by another worker.
    pub(super) fn came_by(&mut self, path: Path, worker: WorkerIndex) {
        if self.by_others.iter().all(|(known, _)| *known != path) {
            if self.by_others.len() >= MAX_PATHS {
                self.by_others.remove(0);
            }
            self.by_others.push((path, worker));
            self.claimed = None;
        }
    }
}

impl Worker {
    /// Takes a datagram of a connection.
    pub(super) fn receive(
        &mut self,
        now: Instant,
        slot: usize,
        arrival: Arrival,
        datagram: &mut [u8],
    ) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        let received = connection.peer.handle_arrival(now, arrival, datagram);
        match received {
            Received::Rtp(rtp) => {
                self.receive_rtp(now, slot, &rtp, datagram);
                // Its feedback is due some time later.
                self.touch(slot);
            }
            Received::Rtcp(range) => {
                self.receive_rtcp(now, slot, &datagram[range]);
                self.follow_events(now, slot);
                self.let_go(now, slot);
            }
            _ => self.touch(slot),
        }
    }

    /// Writes the next run of a connection.
    pub(super) fn transmit_from(
        &mut self,
        now: Instant,
        slot: usize,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let connection = self.connections.get_mut(slot)?;
        let mut source = Source {
            egress: &mut connection.egress,
            subscriptions: &mut connection.subscriptions,
            tracks: &self.tracks,
            since_birth: now.saturating_duration_since(connection.born),
            stats: &mut self.stats,
        };
        let transmit = if connection.has_own {
            connection.peer.poll_transmit_with(now, out, &mut source)?
        } else {
            connection.peer.poll_source(now, out, &mut source)?
        };
        let path = transmit.path();
        // Checks are told apart by their transactions; anything else only claims its path.
        let is_stun = matches!(out.as_slice().first(), Some(0..=3));
        if is_stun || connection.claimed != Some(path) {
            let end = transmit.segment_size.min(out.as_slice().len());
            self.mux.sent(path, &out.as_slice()[..end], slot);
            let by_others = &mut connection.by_others;
            if let Some(at) = by_others.iter().position(|(known, _)| *known == path) {
                let (_, worker) = by_others[at];
                let home = connection.home(self.settings.index);
                self.links.claim(worker, connection.id, path, home);
                connection.is_known_at(worker);
            }
            if !is_stun {
                connection.claimed = Some(path);
            }
            if path.protocol.is_stream() && !connection.streams.contains(&path) {
                connection.streams.push(path);
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
            if let Some(connection) = self.forget(slot) {
                for &other in &connection.known_at {
                    self.links.forgotten(other, connection.id);
                }
                self.closed_streams.extend(connection.streams);
            }
            return;
        }
        let mut has_own = false;
        if connection.peer_due.is_some_and(|due| due <= now) {
            connection.peer.handle_timeout(now);
            has_own = true;
        }
        if connection
            .egress
            .poll_timeout()
            .is_some_and(|due| due <= now)
        {
            connection.egress.handle_timeout(now);
        }
        let (allocate_at, quality_at) = (connection.allocate_at, connection.quality_at);
        if allocate_at.is_some_and(|at| at <= now) {
            self.allocate(now, slot);
        }
        if quality_at.is_some_and(|at| at <= now) {
            self.judge_quality(now, slot);
            has_own = true;
        }
        if has_own {
            self.touch(slot);
        } else {
            self.let_go(now, slot);
        }
    }

    /// The pacer may let something go. The peer connection itself has nothing to send: it is not looked at.
    fn let_go(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        if connection.egress.is_due(now) {
            self.send_from(slot);
        } else {
            self.reschedule(now, slot);
        }
    }

    /// Sets a connection's alarm anew.
    pub(super) fn reschedule(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.connections.get_mut(slot) else {
            return;
        };
        if std::mem::take(&mut connection.needs_schedule) {
            connection.peer_due = connection.peer.poll_timeout();
        }
        let due = [
            connection.peer_due,
            // What cannot leave waits for the path, not for the time.
            connection
                .egress
                .poll_timeout()
                .filter(|_| connection.can_send())
                .map(|due| due.max(now + PACE)),
            connection.allocate_at,
            connection.quality_at,
            connection.ends,
        ]
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
            // Checks name the worker that it was born on.
            let (id, born) = (connection.id, connection.id.worker());
            if born != self.settings.index {
                let home = connection.home(self.settings.index);
                self.links.name(born, id, ufrag.clone(), home);
                connection.is_known_at(born);
            }
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
                Peer::SelectedPair(pair) => {
                    connection.egress.path_changed(now);
                    self.tell(Event::SelectedPair {
                        connection: id,
                        local: pair.local.to_string(),
                        remote: pair.remote.to_string(),
                    });
                }
                // The peer said goodbye: the W3C's state does not tell it.
                Peer::DtlsState(DtlsState::Closed) => {
                    let participant = connection.participant;
                    self.tell(Event::ConnectionState {
                        connection: id,
                        participant,
                        state: ConnectionState::Closed,
                    });
                }
                Peer::IceDisconnect(path) => {
                    connection.streams.retain(|stream| *stream != path);
                    self.closed_streams.push(path);
                }
                Peer::Track { transceiver, .. } => self.section_arrived(slot, transceiver),
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

    fn connected(&mut self, now: Instant, slot: usize) {
        let interval = self.settings.forwarding.quality_interval;
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.quality_at.get_or_insert(now + interval);
            connection.needs_schedule = true;
        }
    }

    /// The peer says that it sends on a section.
    fn section_arrived(&mut self, slot: usize, transceiver: TransceiverId) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let Some(found) = connection.peer.transceiver(transceiver) else {
            return;
        };
        let Some(mid) = found.mid.clone() else {
            return;
        };
        let (stream, track) = connection
            .remote_section(&mid)
            .map(msid)
            .unwrap_or_default();
        let event = Event::SectionArrived {
            connection: connection.id,
            kind: found.kind,
            mid,
            stream,
            track,
        };
        self.tell(event);
    }

    /// A connection cannot go on: it is closed, and the control plane hears of it.
    pub(super) fn fail_slot(&mut self, now: Instant, slot: usize) {
        let Some(connection) = self.connections.get(slot) else {
            return;
        };
        let event = Event::ConnectionState {
            connection: connection.id,
            participant: connection.participant,
            state: ConnectionState::Failed,
        };
        self.tell(event);
        self.close_slot(now, slot);
    }

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
        connection.allocate_at = None;
        connection.quality_at = None;
        let (id, participant) = (connection.id, connection.participant);
        let keys: Vec<usize> = connection
            .subscriptions
            .iter()
            .map(|(key, _)| key)
            .collect();
        let inputs: Vec<_> = connection.inputs.iter().flatten().copied().collect();
        self.by_id.remove(&id);
        self.part(participant, slot);
        for (track, variant) in inputs {
            self.end_variant(now, track, variant);
        }
        for key in keys {
            self.drop_subscription(now, slot, key);
        }
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.allocate_at = None;
            connection.egress = Egress::default();
        }
        self.touch(slot);
    }

    /// A connection is here no more.
    pub(super) fn forget(&mut self, slot: usize) -> Option<Connection> {
        let connection = self.connections.try_remove(slot)?;
        self.mux.remove(slot);
        self.latest_route = None;
        self.sending.retain(|&other| other != slot);
        self.touched.retain(|&other| other != slot);
        Some(connection)
    }
}
