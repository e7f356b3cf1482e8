//! The control plane's handle: commands go to the worker that has the thing, and answers come back.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::{mpsc, oneshot};
use visavis_peer::{
    ChannelId, ChannelOptions, Description, IceCandidate, MessageKind, OfferOptions,
};

use crate::config::Config;
use crate::error::{Error, Result};
use crate::events::Event;
use crate::ids::{ConnectionId, ParticipantId, RoomId, SubscriptionId, TrackId, WorkerIndex};
use crate::io::{Command, Shared, WorkerHandle};
use crate::options::{ConnectionConfig, PublishOptions, Section, SubscribeOptions, Wish};
use crate::stats::{ConnectionStats, WorkerStats};
use crate::tap::{Tap, TapReceiver};
use crate::worker::{Outbound, Worker};

/// A media stream over TCP (or TLS over TCP) that a front listener accepted.
pub trait Stream: AsyncRead + AsyncWrite + Unpin + Send + 'static {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send + 'static> Stream for T {}

/// The media plane: worker threads that forward media, and a handle to command them. Cheap to clone;
/// the workers stop when the last handle is dropped.
///
/// Calls that answer something are asynchronous and wait for the worker's turn, which takes well under
/// a millisecond. The others are handed over at once and fail only with [`Error::Overloaded`] or
/// [`Error::ShutDown`]; what they name may be gone by then, which is no error.
#[derive(Clone)]
pub struct Sfu {
    shared: Arc<Shared>,
}

/// What the media plane tells; one reader.
#[derive(Debug)]
pub struct Events {
    pub(crate) receiver: mpsc::Receiver<Event>,
}

impl Events {
    /// The next event; `None` when the media plane was shut down.
    pub async fn next(&mut self) -> Option<Event> {
        self.receiver.recv().await
    }

    /// The next event if one is there.
    pub fn try_next(&mut self) -> Option<Event> {
        self.receiver.try_recv().ok()
    }
}

impl std::fmt::Debug for Sfu {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Sfu")
            .field("local_addresses", &self.shared.addresses)
            .finish_non_exhaustive()
    }
}

impl Sfu {
    /// Binds the sockets and starts the workers.
    ///
    /// # Errors
    /// What the system says of the addresses or the threads.
    pub fn start(config: Config) -> io::Result<(Self, Events)> {
        let (shared, receiver) = crate::io::start(config)?;
        let sfu = Self {
            shared: Arc::new(shared),
        };
        Ok((sfu, Events { receiver }))
    }

    /// The UDP addresses that are bound, as candidates show them before any rewriting.
    pub fn local_addresses(&self) -> &[SocketAddr] {
        &self.shared.addresses
    }

    /// Takes a stream of media (RFC 4571 frames) that a front listener accepted at `local`, which is one of
    /// [`Config::tcp`]. `first` is what was read of it already, perhaps nothing. It is dropped if it brings no
    /// connectivity check for a connection that exists within 10 s. To be called on a tokio runtime, which
    /// the stream belongs to.
    pub fn accept_tcp(
        &self,
        stream: impl Stream,
        first: Bytes,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        let shared = Arc::clone(&self.shared);
        tokio::spawn(async move {
            let stream = Box::new(stream);
            shared.accept_tcp(stream, first, local, remote).await;
        });
    }

    // ---- connections

    /// Makes a connection, on which nothing has happened. The first connection of a room chooses its
    /// worker, the least loaded one; others follow it there until there are too many
    /// ([`Limits::room_spread`](crate::Limits)).
    ///
    /// # Errors
    /// [`Error::Limit`]; [`Error::NoConnection`] if the room was closed meanwhile.
    pub async fn create_connection(
        &self,
        room: RoomId,
        participant: ParticipantId,
        config: ConnectionConfig,
    ) -> Result<ConnectionId> {
        let id = self.shared.place(room)?;
        let shared = Arc::clone(&self.shared);
        let made = self
            .ask(id, move |worker, now| {
                // The room may have been closed meanwhile.
                if !shared.is_open(id) {
                    return Err(Error::NoConnection);
                }
                worker.create_connection(now, id, room, participant, config)
            })
            .await;
        if made.is_err() {
            self.shared.left(id);
        }
        made.map(|()| id)
    }

    /// JSEP's `setRemoteDescription`. What the peer sends appears as [`Event::SectionArrived`].
    ///
    /// # Errors
    /// [`Error::Peer`] for a description that is refused; nothing has changed then.
    pub async fn set_remote_description(
        &self,
        connection: ConnectionId,
        description: Description,
    ) -> Result<()> {
        self.ask(connection, move |worker, now| {
            worker.set_remote_description(now, connection, &description)
        })
        .await
    }

    /// Makes an answer, sets it locally and returns it with this end's candidates inside.
    ///
    /// # Errors
    /// [`Error::Peer`] if there is nothing to answer.
    pub async fn create_answer(&self, connection: ConnectionId) -> Result<Description> {
        self.ask(connection, move |worker, now| {
            worker.create_answer(now, connection)
        })
        .await
    }

    /// Makes an offer, sets it locally and returns it with this end's candidates inside.
    ///
    /// # Errors
    /// [`Error::Peer`] if one of the peer waits for an answer.
    pub async fn create_offer(
        &self,
        connection: ConnectionId,
        options: OfferOptions,
    ) -> Result<Description> {
        self.ask(connection, move |worker, now| {
            worker.create_offer(now, connection, options)
        })
        .await
    }

    /// Takes this end's offer back.
    ///
    /// # Errors
    /// [`Error::Peer`] if there is none.
    pub async fn rollback(&self, connection: ConnectionId) -> Result<()> {
        self.ask(connection, move |worker, now| {
            worker.rollback(now, connection)
        })
        .await
    }

    /// A candidate of the peer; the empty one for the end of candidates.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::ShutDown`].
    pub fn add_remote_candidate(
        &self,
        connection: ConnectionId,
        candidate: IceCandidate,
    ) -> Result<()> {
        self.tell(connection, move |worker, now| {
            worker.add_remote_candidate(now, connection, &candidate);
        })
    }

    /// What the descriptions say of each media section.
    ///
    /// # Errors
    /// [`Error::NoConnection`].
    pub async fn sections(&self, connection: ConnectionId) -> Result<Vec<Section>> {
        self.ask(connection, move |worker, _| worker.sections(connection))
            .await
    }

    /// Moves a connection to another worker ([`Event::Crowded`]), with its subscriptions and the tracks that it publishes. Its
    /// peer notices nothing but a key frame, and those who get its tracks nothing at all. Commands find it wherever it is.
    ///
    /// # Errors
    /// [`Error::NoConnection`]; [`Error::Tied`] for a connection that goes over TCP, or shares a track with another
    /// ([`publish_codec`](Self::publish_codec)); [`Error::ShutDown`] if there is no such worker.
    pub async fn relocate(&self, connection: ConnectionId, to: usize) -> Result<()> {
        let to = WorkerIndex::try_from(to).map_err(|_| Error::ShutDown)?;
        let next = self.worker(to)?.last_words.clone();
        let shared = Arc::clone(&self.shared);
        self.ask(connection, move |worker, now| {
            let from = worker.index();
            if from == to {
                return worker.sections(connection).map(drop);
            }
            let relocation = worker.depart(now, connection, to)?;
            let after = Arc::clone(&shared);
            shared.moves(relocation, from, to, move |relocation| {
                // Ahead of all that it is told there. A worker that is no more has no use for it.
                let _ = next.send(Box::new(move |worker, now| {
                    worker.arrive(now, relocation);
                    // Whoever ended it meanwhile said so to a worker that had it no more.
                    if !after.is_open(connection) {
                        worker.close(now, connection);
                    }
                }));
            });
            Ok(())
        })
        .await
    }

    /// Ends a connection with its tracks and subscriptions. The peer is told.
    pub fn close(&self, connection: ConnectionId) {
        if let Some(home) = self.shared.left(connection) {
            self.insist(home, move |worker, now| {
                worker.close(now, connection);
            });
        }
    }

    /// Ends all connections of a room.
    pub fn close_room(&self, room: RoomId) {
        self.shared.forget_room(room);
        for index in 0..self.shared.workers.len() {
            self.insist(index as WorkerIndex, move |worker, now| {
                worker.close_room(now, room);
            });
        }
    }

    // ---- data channels

    /// Opens a data channel.
    ///
    /// # Errors
    /// [`Error::Peer`].
    pub async fn create_data_channel(
        &self,
        connection: ConnectionId,
        options: ChannelOptions,
    ) -> Result<ChannelId> {
        self.ask(connection, move |worker, now| {
            worker.create_data_channel(now, connection, options)
        })
        .await
    }

    /// Sends a message. A reader that is too slow ([`Limits::channel_buffer`](crate::Limits)) loses messages of
    /// lossy channels, and its connection if a reliable one's buffer overflows: it must join anew, for what
    /// it missed cannot be made good.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::ShutDown`].
    pub fn send_data(
        &self,
        connection: ConnectionId,
        channel: ChannelId,
        kind: MessageKind,
        bytes: Bytes,
    ) -> Result<()> {
        let home = connection.home(&self.shared);
        let permit = self.worker(home)?.commands.try_reserve();
        let permit = permit.map_err(|error| refused(&error))?;
        // Once it has a number it must not be lost, for others wait for it.
        let Some(number) = self.shared.next_message(connection) else {
            return Ok(());
        };
        let message = Outbound {
            channel,
            kind,
            bytes,
        };
        let (_, command) = self.at_home(connection, move |worker, now| {
            worker.send_in_turn(now, connection, number, message);
        });
        permit.send(command);
        Ok(())
    }

    /// Bytes of a channel that wait to be sent (W3C `bufferedAmount`).
    ///
    /// # Errors
    /// [`Error::NoConnection`].
    pub async fn buffered_amount(
        &self,
        connection: ConnectionId,
        channel: ChannelId,
    ) -> Result<u64> {
        self.ask(connection, move |worker, _| {
            worker.buffered_amount(connection, channel)
        })
        .await
    }

    // ---- tracks

    /// What arrives on a section becomes a track that can be subscribed to.
    ///
    /// # Errors
    /// [`Error::NoSection`], [`Error::SectionTaken`], [`Error::Limit`].
    pub async fn publish(
        &self,
        connection: ConnectionId,
        mid: impl Into<String>,
        options: PublishOptions,
    ) -> Result<TrackId> {
        let mid = mid.into();
        self.ask(connection, move |worker, now| {
            worker.publish(now, connection, &mid, options)
        })
        .await
    }

    /// What arrives on a section is the same track in another codec, for subscribers that lack the first
    /// (a backup codec).
    ///
    /// # Errors
    /// As [`publish`](Self::publish), and [`Error::NoTrack`].
    pub async fn publish_codec(
        &self,
        track: TrackId,
        connection: ConnectionId,
        mid: impl Into<String>,
        options: PublishOptions,
    ) -> Result<()> {
        let mid = mid.into();
        self.ask(connection, move |worker, now| {
            worker.publish_codec(now, track, connection, &mid, options)
        })
        .await
    }

    /// Ends a track and its subscriptions.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::ShutDown`].
    pub fn unpublish(&self, track: TrackId) -> Result<()> {
        self.tell(track, move |worker, now| {
            worker.unpublish(now, track);
        })
    }

    /// Nothing of a muted track is forwarded, whatever its publisher sends.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::ShutDown`].
    pub fn set_muted(&self, track: TrackId, muted: bool) -> Result<()> {
        self.tell(track, move |worker, now| {
            worker.set_muted(now, track, muted);
        })
    }

    /// The publisher says anew what its layers are.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::ShutDown`].
    pub fn set_layers(&self, track: TrackId, layers: Vec<crate::options::LayerSize>) -> Result<()> {
        self.tell(track, move |worker, now| {
            worker.set_layers(now, track, layers);
        })
    }

    // ---- subscriptions

    /// Forwards a track to a connection. It takes a section that the peer is willing to receive on
    /// ([`Section::free`]), and is told in the next answer; without one a section is added for the next offer of
    /// this end ([`Event::NegotiationNeeded`]). Nothing comes before the peer is told.
    ///
    /// # Errors
    /// [`Error::NoConnection`], [`Error::NoTrack`], [`Error::Limit`].
    pub async fn subscribe(
        &self,
        track: TrackId,
        connection: ConnectionId,
        options: SubscribeOptions,
    ) -> Result<SubscriptionId> {
        self.ask(connection, move |worker, now| {
            worker.subscribe(now, track, connection, options)
        })
        .await
    }

    /// What the subscriber wants from now on.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::ShutDown`].
    pub fn set_subscription(&self, subscription: SubscriptionId, wish: Wish) -> Result<()> {
        self.tell(subscription, move |worker, now| {
            worker.set_subscription(now, subscription, wish);
        })
    }

    /// Ends a subscription; its section becomes free with the next description.
    ///
    /// # Errors
    /// [`Error::Overloaded`], [`Error::ShutDown`].
    pub fn unsubscribe(&self, subscription: SubscriptionId) -> Result<()> {
        self.tell(subscription, move |worker, now| {
            worker.unsubscribe(now, subscription);
        })
    }

    // ---- taps and sight

    /// A copy of what a track's publisher sends, for recorders and bots. A slow reader loses the newest
    /// packets, which is counted.
    ///
    /// # Errors
    /// [`Error::NoTrack`].
    pub async fn tap(&self, track: TrackId) -> Result<TapReceiver> {
        let (tap, receiver) = Tap::new(self.shared.limits.tap_packets);
        self.ask(track, move |worker, now| worker.tap(now, track, tap))
            .await?;
        Ok(receiver)
    }

    /// One connection, for inspection.
    ///
    /// # Errors
    /// [`Error::NoConnection`].
    pub async fn stats(&self, connection: ConnectionId) -> Result<ConnectionStats> {
        self.ask(connection, move |worker, now| {
            worker.connection_stats(now, connection)
        })
        .await
    }

    /// All connections of a room, for inspection.
    ///
    /// # Errors
    /// [`Error::ShutDown`].
    pub async fn room_stats(&self, room: RoomId) -> Result<Vec<ConnectionStats>> {
        let mut all = Vec::new();
        for index in 0..self.shared.workers.len() {
            let worker = At(index as WorkerIndex);
            let found = self.ask(worker, move |worker, now| Ok(worker.room_stats(now, room)));
            all.append(&mut found.await?);
        }
        Ok(all)
    }

    /// Counters of each worker.
    ///
    /// # Errors
    /// [`Error::ShutDown`].
    pub async fn worker_stats(&self) -> Result<Vec<WorkerStats>> {
        let mut all = Vec::new();
        for (index, handle) in self.shared.workers.iter().enumerate() {
            let worker = At(index as WorkerIndex);
            let stats = self.ask(worker, |worker, _| Ok(worker.stats())).await?;
            let load = handle.load.share();
            all.push(WorkerStats { load, ..stats });
        }
        Ok(all)
    }

    // ---- how commands travel

    fn worker(&self, index: WorkerIndex) -> Result<&WorkerHandle> {
        self.shared
            .workers
            .get(usize::from(index))
            .ok_or(Error::ShutDown)
    }

    async fn ask<T: Send + 'static>(
        &self,
        about: impl Thing,
        command: impl FnOnce(&mut Worker, Instant) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (reply, answer) = oneshot::channel();
        let (home, command) = self.at_home(about, move |worker, now| {
            // Whoever asked may have given up.
            let _ = reply.send(command(worker, now));
        });
        let sent = self.worker(home)?.commands.send(command).await;
        sent.map_err(|_| Error::ShutDown)?;
        answer.await.map_err(|_| Error::ShutDown)?
    }

    fn tell(
        &self,
        about: impl Thing,
        command: impl FnOnce(&mut Worker, Instant) + Send + 'static,
    ) -> Result<()> {
        let (home, command) = self.at_home(about, command);
        let sent = self.worker(home)?.commands.try_send(command);
        sent.map_err(|error| refused(&error))
    }

    /// A command for the worker that has something, and which that is. Should it have moved when its turn comes, the
    /// command goes after it.
    fn at_home(
        &self,
        about: impl Thing,
        command: impl FnOnce(&mut Worker, Instant) + Send + 'static,
    ) -> (WorkerIndex, Command) {
        at_home(&self.shared, about, command)
    }

    /// As `tell`, for what must not be lost: it waits beside the caller if the worker is busy.
    fn insist(
        &self,
        index: WorkerIndex,
        command: impl FnOnce(&mut Worker, Instant) + Send + 'static,
    ) {
        let Ok(worker) = self.worker(index) else {
            return;
        };
        let _ = worker.last_words.send(Box::new(command));
    }
}

/// Why a worker took no command.
const fn refused<T>(error: &mpsc::error::TrySendError<T>) -> Error {
    match error {
        mpsc::error::TrySendError::Full(_) => Error::Overloaded,
        mpsc::error::TrySendError::Closed(_) => Error::ShutDown,
    }
}

fn at_home(
    shared: &Arc<Shared>,
    about: impl Thing,
    command: impl FnOnce(&mut Worker, Instant) + Send + 'static,
) -> (WorkerIndex, Command) {
    let home = about.home(shared);
    let shared = Arc::clone(shared);
    let command: Command = Box::new(move |worker, now| {
        let home = about.home(&shared);
        let (next, command): (_, Command) = if home != worker.index() {
            at_home(&shared, about, command)
        } else if about.is_coming(&shared, worker) {
            // Since this turn began it has come back: it waits ahead of what is said from now on.
            (home, Box::new(command))
        } else {
            return command(worker, now);
        };
        if let Some(next) = shared.workers.get(usize::from(next)) {
            let _ = next.last_words.send(command);
        }
    });
    (home, command)
}

/// What commands are about.
trait Thing: Copy + Send + 'static {
    /// The worker that has it now, or to which it is on its way.
    fn home(self, shared: &Shared) -> WorkerIndex;

    /// Whether it may still be on its way to a worker, which is its home.
    fn is_coming(self, _: &Shared, _: &Worker) -> bool {
        false
    }
}

impl Thing for ConnectionId {
    fn home(self, shared: &Shared) -> WorkerIndex {
        shared.home_of(self)
    }

    fn is_coming(self, shared: &Shared, worker: &Worker) -> bool {
        shared.is_open(self) && !worker.has(self)
    }
}

impl Thing for SubscriptionId {
    fn home(self, shared: &Shared) -> WorkerIndex {
        shared.home_of_subscription(self)
    }
}

impl Thing for TrackId {
    fn home(self, shared: &Shared) -> WorkerIndex {
        shared.home_of_track(self)
    }
}

/// A worker itself.
#[derive(Debug, Clone, Copy)]
struct At(WorkerIndex);

impl Thing for At {
    fn home(self, _: &Shared) -> WorkerIndex {
        self.0
    }
}
