//! The media plane of one processor, sans-IO: connections, tracks, and what flows between them.
//!
//! A worker shares nothing. Tracks whose subscribers are on another worker travel there as messages
//! ([`Worker::poll_message`]); datagrams that reach the wrong worker travel likewise. The owner passes
//! datagrams, messages and the time in, and polls datagrams, messages and events out.

mod allocate;
mod connection;
mod data;
mod egress;
mod fanout;
mod feedback;
mod forward;
mod history;
mod inspect;
mod links;
mod negotiate;
mod publish;
mod rates;
mod relocate;
mod room;
mod speakers;
mod strays;
mod subscribe;
mod subscription;
mod timers;
mod track;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use slab::Slab;
use visavis_congestion::PacketResult;
use visavis_datagram::{Arrival, Ecn, Path, Random, Transmit, TransmitBuf};
use visavis_ice::{AddressRewrite, LocalAddress};
use visavis_net::mux::{Mux, MuxLimits};
use visavis_peer::{Certificate, CodecTable};
use visavis_stun::PacketKind;

use self::connection::Connection;
pub(crate) use self::data::Outbound;
use self::fanout::Fanout;
use self::links::Links;
pub use self::links::Message;
pub use self::relocate::Relocation;
use self::room::{Participants, Room};
use self::strays::Strays;
use self::timers::{Due, Timers};
use self::track::Track;
use crate::config::{Forwarding, Limits};
use crate::error::{Error, Result};
use crate::events::Event;
use crate::ids::{ConnectionId, ParticipantId, RoomId, SubscriptionId, TrackId, WorkerIndex};
use crate::options::ConnectionConfig;
use crate::stats::WorkerStats;

/// What a worker is told at its birth.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Which of the workers it is.
    pub index: u16,
    /// How many workers there are.
    pub workers: u16,
    /// The addresses whose datagrams it gets.
    pub addresses: Vec<LocalAddress>,
    /// Addresses behind 1:1 NATs.
    pub rewrites: Vec<AddressRewrite>,
    /// The certificate of all its connections.
    pub certificate: Certificate,
    /// The codecs that are forwarded.
    pub codecs: Arc<CodecTable>,
    /// Bounds.
    pub limits: Limits,
    /// Behaviour of forwarding.
    pub forwarding: Forwarding,
    /// Time since 1970-01-01T00:00:00Z at the worker's birth.
    pub wall_clock: Duration,
}

/// The media plane of one processor.
#[derive(Debug)]
pub struct Worker {
    settings: Settings,
    random: Random,
    born: Instant,
    connections: Slab<Connection>,
    by_id: HashMap<ConnectionId, usize>,
    tracks: Slab<Track>,
    track_slots: HashMap<TrackId, usize>,
    /// Connection and place of each subscription.
    subscriptions: HashMap<SubscriptionId, (usize, usize)>,
    rooms: HashMap<RoomId, Room>,
    participants: Participants,
    links: Links,
    strays: Strays,
    closed_streams: Vec<Path>,
    /// Numbers of tracks, subscriptions and generations.
    numbers: u64,
    mux: Mux<usize>,
    /// Where the latest datagram went: runs of one flow are looked up once.
    latest_route: Option<(Path, usize)>,
    timers: Timers,
    /// Connections on which something happened that events or timers may follow from.
    touched: Vec<usize>,
    /// Packets that not all subscribers have yet.
    fanout: Fanout,
    /// Connections that may have something to send.
    sending: VecDeque<usize>,
    events: VecDeque<Event>,
    /// Memory for what one feedback says.
    results: Vec<PacketResult>,
    stats: WorkerStats,
}

impl Worker {
    /// A worker with nothing to do.
    pub fn new(settings: Settings, random: Random, now: Instant) -> Self {
        Self {
            links: Links::new(settings.index, settings.workers),
            strays: Strays::default(),
            settings,
            random,
            born: now,
            connections: Slab::new(),
            by_id: HashMap::new(),
            tracks: Slab::new(),
            track_slots: HashMap::new(),
            subscriptions: HashMap::new(),
            rooms: HashMap::new(),
            participants: Participants::new(),
            numbers: 0,
            closed_streams: Vec::new(),
            mux: Mux::new(MuxLimits::default()),
            latest_route: None,
            timers: Timers::default(),
            touched: Vec::new(),
            fanout: Fanout::default(),
            sending: VecDeque::new(),
            events: VecDeque::new(),
            results: Vec::new(),
            stats: WorkerStats::default(),
        }
    }

    /// Which of the workers it is.
    pub fn index(&self) -> u16 {
        self.settings.index
    }

    /// Makes a connection under an id of this worker's.
    ///
    /// # Errors
    /// [`Error::Limit`], [`Error::Peer`].
    pub fn create_connection(
        &mut self,
        now: Instant,
        id: ConnectionId,
        room: RoomId,
        participant: ParticipantId,
        config: ConnectionConfig,
    ) -> Result<()> {
        let limit = self.settings.limits.connections;
        if self.connections.len() >= limit {
            return Err(Error::Limit {
                what: "connections",
                limit,
            });
        }
        let entry = self.connections.vacant_entry();
        let slot = entry.key();
        let wall_clock = self.settings.wall_clock + now.saturating_duration_since(self.born);
        let connection = Connection::new(
            now,
            id,
            (room, participant),
            &config,
            &self.settings,
            wall_clock,
            self.random.fork(),
        )?;
        entry.insert(connection);
        self.by_id.insert(id, slot);
        self.join(participant, slot);
        self.touch(slot);
        Ok(())
    }

    /// Ends a connection with its tracks and subscriptions. The peer is told as far as
    /// [`poll_transmit`](Self::poll_transmit) is called.
    pub fn close(&mut self, now: Instant, id: ConnectionId) {
        if let Some(&slot) = self.by_id.get(&id) {
            self.close_slot(now, slot);
        }
    }

    /// Ends all connections of a room.
    pub fn close_room(&mut self, now: Instant, room: RoomId) {
        let slots: Vec<usize> = self
            .connections
            .iter()
            .filter(|(_, connection)| connection.room == room)
            .map(|(slot, _)| slot)
            .collect();
        for slot in slots {
            self.close_slot(now, slot);
        }
    }

    // ---- doors

    /// Takes a datagram (or a message of a stream); false if it belongs to nobody. `datagram` is
    /// decrypted in place.
    pub fn handle_datagram(
        &mut self,
        now: Instant,
        from: Path,
        ecn: Ecn,
        datagram: &mut [u8],
    ) -> bool {
        let path = from;
        self.handle_arrival(now, Arrival { path, ecn, at: now }, datagram)
    }

    /// The same, with the time at which the datagram reached this host.
    pub fn handle_arrival(&mut self, now: Instant, arrival: Arrival, datagram: &mut [u8]) -> bool {
        let Some(slot) = self.route(arrival.path, datagram) else {
            let is_stray = self.stray(arrival, datagram);
            self.stats.unrouted += u64::from(!is_stray);
            return is_stray;
        };
        self.receive(now, slot, arrival, datagram);
        true
    }

    /// A stream was accepted for the connection that its first message, a connectivity check, names.
    /// False: close it.
    pub fn accept_stream(&mut self, now: Instant, path: Path, first: &[u8]) -> bool {
        let Some(slot) = self.mux.route(path, first) else {
            return false;
        };
        let connection = self.connections.get_mut(slot);
        connection.is_some_and(|connection| connection.peer.ice_accepted(now, path))
    }

    /// A stream ended.
    pub fn stream_ended(&mut self, now: Instant, path: Path) {
        if let Some(slot) = self.mux.owner_of(path)
            && let Some(connection) = self.connections.get_mut(slot)
        {
            connection.streams.retain(|stream| *stream != path);
            connection.peer.ice_disconnected(now, path);
            self.touch(slot);
        }
    }

    /// A stream that is of no use any more: close it.
    pub fn poll_closed_stream(&mut self) -> Option<Path> {
        self.closed_streams.pop()
    }

    fn route(&mut self, from: Path, datagram: &[u8]) -> Option<usize> {
        let is_stun = visavis_stun::classify(datagram) == PacketKind::Stun;
        if !is_stun
            && let Some((path, slot)) = self.latest_route
            && path == from
        {
            return Some(slot);
        }
        let slot = self.mux.route(from, datagram)?;
        if !is_stun {
            self.latest_route = Some((from, slot));
        }
        Some(slot)
    }

    /// Time passed.
    pub fn handle_timeout(&mut self, now: Instant) {
        while let Some(due) = self.timers.pop(now) {
            match due {
                Due::Connection(slot) => self.connection_timeout(now, slot),
                Due::Track(slot) => self.track_timeout(now, slot),
                Due::Room(room) => self.room_timeout(now, room),
            }
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout), and then `poll_transmit`, is due. Right after
    /// `poll_transmit` answered `None` it is exact; before that it may be too late.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.timers.next()
    }

    /// Writes the next run of datagrams for one destination.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        loop {
            self.settle(now);
            let Some(&slot) = self.sending.front() else {
                // Its next subscriber sends before the one behind it is looked at.
                if self.fan_out() {
                    continue;
                }
                return None;
            };
            let transmit = self.transmit_from(now, slot, out);
            let connection = self.connections.get_mut(slot);
            // Where only media waited, and is gone, there is no need to ask again.
            if transmit.is_some()
                && connection
                    .as_ref()
                    .is_some_and(|found| found.has_own || !found.egress.is_empty())
            {
                return transmit;
            }
            self.sending.pop_front();
            if let Some(connection) = connection {
                connection.is_sending = false;
                connection.has_own = false;
            }
            self.reschedule(now, slot);
            if transmit.is_some() {
                return transmit;
            }
        }
    }

    /// What happened next.
    pub fn poll_event(&mut self) -> Option<Event> {
        self.events.pop_front()
    }

    /// Whether a connection is here.
    pub(crate) fn has(&self, id: ConnectionId) -> bool {
        self.by_id.contains_key(&id)
    }

    /// Whether [`poll_event`](Self::poll_event) has something to say.
    pub fn has_events(&self) -> bool {
        !self.events.is_empty()
    }

    /// What was counted.
    pub fn stats(&self) -> WorkerStats {
        WorkerStats {
            connections: self.connections.len() as u64,
            tracks: self.tracks.len() as u64,
            subscriptions: self.subscriptions.len() as u64,
            tracks_elsewhere: self.links.gone() as u64,
            connections_elsewhere: self.strays.len() as u64,
            ..self.stats
        }
    }

    // ---- within

    fn slot(&self, id: ConnectionId) -> Result<usize> {
        self.by_id.get(&id).copied().ok_or(Error::NoConnection)
    }

    fn connection(&mut self, id: ConnectionId) -> Result<(usize, &mut Connection)> {
        let slot = self.slot(id)?;
        match self.connections.get_mut(slot) {
            Some(connection) => Ok((slot, connection)),
            None => Err(Error::NoConnection),
        }
    }

    /// Something happened on a connection: its events and timers are looked at before the next
    /// transmission.
    fn touch(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot) {
            connection.has_own = true;
            if !std::mem::replace(&mut connection.is_touched, true) {
                self.touched.push(slot);
            }
        }
        self.send_from(slot);
    }

    /// A connection may have something to send.
    fn send_from(&mut self, slot: usize) {
        if let Some(connection) = self.connections.get_mut(slot)
            && !std::mem::replace(&mut connection.is_sending, true)
        {
            self.sending.push_back(slot);
        }
    }

    /// Follows what happened on connections that were touched.
    fn settle(&mut self, now: Instant) {
        while let Some(slot) = self.touched.pop() {
            if let Some(connection) = self.connections.get_mut(slot) {
                connection.is_touched = false;
                connection.needs_schedule = true;
                self.follow_events(now, slot);
                self.tell_lack(slot);
            }
        }
    }

    fn tell(&mut self, event: Event) {
        if self.events.len() >= self.settings.limits.events && event.may_be_dropped() {
            self.stats.events_dropped += 1;
            return;
        }
        // Messages that nobody takes: four times as many as events wait, and no more.
        if matches!(event, Event::Data { .. })
            && self.events.len() >= 4 * self.settings.limits.events
        {
            self.stats.data_dropped += 1;
            return;
        }
        self.events.push_back(event);
    }
}

/// What the username fragments of a worker's connections begin with.
fn ufrag_prefix(index: WorkerIndex) -> String {
    format!("w{index:x}/")
}

/// The username fragment that a connectivity check names: the one of the connection that it is for (RFC 8445 section 7.2.2).
fn checked_ufrag(datagram: &[u8]) -> Option<&str> {
    use visavis_stun::attributes::Username;
    if visavis_stun::classify(datagram) != PacketKind::Stun {
        return None;
    }
    let message = visavis_stun::Message::parse(datagram).ok()?;
    let Username(name) = message.get::<Username>()?;
    Some(name.split_once(':').map_or(name, |(checked, _)| checked))
}

/// The worker that a connectivity check is for, by the prefix of its username: for a datagram that
/// reached another worker than its own.
pub fn owner_of_check(datagram: &[u8]) -> Option<u16> {
    let (index, _) = checked_ufrag(datagram)?
        .strip_prefix('w')?
        .split_once('/')?;
    u16::from_str_radix(index, 16).ok()
}
