//! The rooms of this node: who finds or makes one, and the handle by which a room is spoken to.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use livekit_protocol as proto;
use tokio::sync::{mpsc, oneshot};
use visavis_sfu::{ConnectionId, TrackId};

use crate::{
    engine::{self, Command, SignalOut},
    room::{JoinError, Joiner, Now, ParticipantKey, Room},
    server::Shared,
};

/// Commands that wait for a room.
const ROOM_QUEUE: usize = 4096;

/// Where a room lives. With one node, here; a registry that several nodes share says otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On this node.
    Here,
    /// On another node, which clients reach at this URL.
    Elsewhere(String),
}

/// Which node has which room.
pub trait Registry: Send + Sync + 'static {
    /// Finds a room's node; a room that has none gets this one.
    fn claim(&self, room: &str) -> Placement;
    /// The room is over.
    fn release(&self, room: &str);
}

/// One node: all rooms are here.
#[derive(Debug, Default)]
pub struct SingleNode;

impl Registry for SingleNode {
    fn claim(&self, _: &str) -> Placement {
        Placement::Here
    }

    fn release(&self, _: &str) {}
}

/// Why a room does not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RoomError {
    /// No such room.
    #[error("requested room does not exist")]
    NotFound,
    /// The room refused.
    #[error(transparent)]
    Join(#[from] JoinError),
    /// The room is to have settings of a name that this server does not know: it knows none.
    #[error("unknown room configuration in create room request")]
    Preset,
    /// The server has as many rooms as it may.
    #[error("node has exceeded its configured limit")]
    Limit,
    /// The server is about to stop.
    #[error("the server is draining: no new rooms")]
    Draining,
    /// Another node has the room.
    #[error("the room is on another node: {0}")]
    Elsewhere(String),
}

/// By which a room is spoken to. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RoomHandle {
    /// The room's number within this process.
    pub id: u32,
    commands: mpsc::Sender<Command>,
}

impl RoomHandle {
    /// Hands a command over, waiting for room in the queue.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if the room is over.
    pub(crate) async fn send(&self, command: Command) -> Result<(), RoomError> {
        self.commands
            .send(command)
            .await
            .map_err(|_| RoomError::NotFound)
    }

    /// Whether the room is over.
    pub fn is_closed(&self) -> bool {
        self.commands.is_closed()
    }

    /// Hands a command over if there is room in the queue; returns it otherwise.
    pub(crate) fn try_send(
        &self,
        command: Command,
    ) -> Result<(), mpsc::error::TrySendError<Command>> {
        self.commands.try_send(command)
    }

    /// Runs `work` with the room and returns what it returns.
    ///
    /// # Errors
    /// [`RoomError::NotFound`] if the room is over.
    pub async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Room, Now) -> T + Send + 'static,
    ) -> Result<T, RoomError> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move |room: &mut Room, now: Now| {
            let _ = answer.send(work(room, now));
        });
        self.send(Command::With(work)).await?;
        answered.await.map_err(|_| RoomError::NotFound)
    }

    /// Lets a participant in, or back in if `session` names the one that it had.
    ///
    /// # Errors
    /// [`RoomError::Join`], [`RoomError::NotFound`].
    pub(crate) async fn join(
        &self,
        joiner: Joiner,
        session: Option<String>,
        signal: Option<mpsc::Sender<SignalOut>>,
    ) -> Result<(ParticipantKey, u64), RoomError> {
        let (answer, answered) = oneshot::channel();
        self.send(Command::Join {
            joiner: Box::new(joiner),
            session,
            signal,
            answer,
        })
        .await?;
        Ok(answered.await.map_err(|_| RoomError::NotFound)??)
    }
}

/// The rooms of this node.
pub struct Rooms {
    by_name: Mutex<HashMap<String, RoomHandle>>,
    by_id: Mutex<HashMap<u32, RoomHandle>>,
    /// Whose connection or track it is that the media plane speaks of.
    connections: Mutex<HashMap<ConnectionId, u32>>,
    tracks: Mutex<HashMap<TrackId, u32>>,
    next_id: AtomicU32,
    registry: Box<dyn Registry>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

impl Rooms {
    pub(crate) fn new(registry: Box<dyn Registry>) -> Self {
        Self {
            by_name: Mutex::default(),
            by_id: Mutex::default(),
            connections: Mutex::default(),
            tracks: Mutex::default(),
            next_id: AtomicU32::new(1),
            registry,
        }
    }

    /// The room of that name, if there is one.
    pub fn find(&self, name: &str) -> Option<RoomHandle> {
        lock(&self.by_name).get(name).cloned()
    }

    /// All rooms.
    pub fn all(&self) -> Vec<RoomHandle> {
        lock(&self.by_name).values().cloned().collect()
    }

    /// How many rooms there are.
    pub fn count(&self) -> usize {
        lock(&self.by_name).len()
    }

    /// The room of that name; made if there is none.
    ///
    /// # Errors
    /// [`RoomError::Preset`], [`RoomError::Limit`], [`RoomError::Draining`], [`RoomError::Elsewhere`].
    pub(crate) fn find_or_create(
        &self,
        shared: &Arc<Shared>,
        request: &proto::CreateRoomRequest,
    ) -> Result<RoomHandle, RoomError> {
        let mut by_name = lock(&self.by_name);
        if let Some(handle) = by_name
            .get(&request.name)
            .filter(|handle| !handle.commands.is_closed())
        {
            return Ok(handle.clone());
        }
        if !request.room_preset.is_empty() {
            return Err(RoomError::Preset);
        }
        if shared.is_draining() {
            return Err(RoomError::Draining);
        }
        if by_name.len() >= shared.config.max_rooms {
            return Err(RoomError::Limit);
        }
        if let Placement::Elsewhere(url) = self.registry.claim(&request.name) {
            return Err(RoomError::Elsewhere(url));
        }
        let (commands, inbox) = mpsc::channel(ROOM_QUEUE);
        let handle = RoomHandle {
            id: self.next_id.fetch_add(1, Ordering::Relaxed),
            commands,
        };
        by_name.insert(request.name.clone(), handle.clone());
        lock(&self.by_id).insert(handle.id, handle.clone());
        let room = Room::new(request, shared.config.room_limits(), Now::read());
        engine::start(Arc::clone(shared), room, handle.id, inbox);
        metrics::gauge!("visavis_rooms").set(count(by_name.len()));
        Ok(handle)
    }

    /// The room is over.
    pub(crate) fn forget(&self, id: u32, name: &str) {
        let mut by_name = lock(&self.by_name);
        // A new room of the same name may be there already.
        if by_name.get(name).is_some_and(|handle| handle.id == id) {
            by_name.remove(name);
            self.registry.release(name);
        }
        lock(&self.by_id).remove(&id);
        lock(&self.connections).retain(|_, room| *room != id);
        lock(&self.tracks).retain(|_, room| *room != id);
        metrics::gauge!("visavis_rooms").set(count(by_name.len()));
    }

    pub(crate) fn by_id(&self, id: u32) -> Option<RoomHandle> {
        lock(&self.by_id).get(&id).cloned()
    }

    pub(crate) fn of_connection(&self, connection: ConnectionId) -> Option<RoomHandle> {
        let id = *lock(&self.connections).get(&connection)?;
        self.by_id(id)
    }

    pub(crate) fn of_track(&self, track: TrackId) -> Option<RoomHandle> {
        let id = *lock(&self.tracks).get(&track)?;
        self.by_id(id)
    }

    pub(crate) fn add_connection(&self, connection: ConnectionId, room: u32) {
        lock(&self.connections).insert(connection, room);
    }

    pub(crate) fn remove_connection(&self, connection: ConnectionId) {
        lock(&self.connections).remove(&connection);
    }

    pub(crate) fn add_track(&self, track: TrackId, room: u32) {
        lock(&self.tracks).insert(track, room);
    }

    pub(crate) fn remove_track(&self, track: TrackId) {
        lock(&self.tracks).remove(&track);
    }
}

/// A count as a metric.
#[allow(clippy::cast_precision_loss)] // Exact up to 2^53.
pub(crate) fn count(value: usize) -> f64 {
    value as f64
}
