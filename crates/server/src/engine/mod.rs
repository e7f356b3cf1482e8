//! What makes a room run: one task per room, which owns it, takes requests in, and carries its effects
//! out, in order. Whatever concerns one room happens one after the other; rooms do not wait for each other.

mod inspect;
mod link;
mod media;
mod negotiate;
mod publish;
mod record;
mod subscribe;
mod whip;

use std::{collections::HashMap, sync::Arc};

use livekit_protocol as proto;
use proto::{DisconnectReason, signal_request, signal_response::Message};
use tokio::sync::{mpsc, oneshot};
use visavis_sfu::{ConnectionId, SubscriptionId, TrackId};

use self::link::Link;
pub(crate) use self::link::of_participant_id;
pub(crate) use self::whip::{WhepRequest, WhipAnswer, WhipError, WhipRequest};
use crate::{
    events::LogEvent,
    record::Recording,
    room::{DataKind, Effect, JoinError, Joiner, Now, ParticipantKey, Room},
    server::Shared,
    wire::Outgoing,
};

/// For how long a fresh token is valid: clients get one every five minutes.
const TOKEN_SECONDS: u64 = 600;

/// Work that is done with a room.
pub(crate) type Work = Box<dyn FnOnce(&mut Room, Now) + Send>;

/// What a room's task is told.
pub(crate) enum Command {
    /// Somebody asks to join, or to come back to the session named.
    Join {
        /// Who.
        joiner: Box<Joiner>,
        /// The session's sid.
        session: Option<String>,
        /// Where its messages go; the first one is the answer.
        signal: Option<mpsc::Sender<SignalOut>>,
        /// The participant, and which of its signalling connections this is.
        answer: oneshot::Sender<Result<(ParticipantKey, u64), JoinError>>,
    },
    /// A request came.
    Request {
        /// From whom.
        from: ParticipantKey,
        /// It.
        request: Box<signal_request::Message>,
    },
    /// A signalling connection is over.
    SignalLost {
        /// Whose.
        of: ParticipantKey,
        /// Which one: a newer one may be there already.
        connection: u64,
    },
    /// Do this with the room.
    With(Work),
    /// The media plane reports.
    Media(visavis_sfu::Event),
    /// A WHIP client publishes.
    Whip(Box<WhipRequest>),
    /// A WHEP client plays.
    Whep(Box<WhepRequest>),
    /// A WHIP or WHEP client trickles or restarts ICE.
    Fragment {
        /// Who.
        of: ParticipantKey,
        /// The candidates and credentials, as in SDP.
        fragment: String,
        /// The server's side, if credentials changed.
        answer: oneshot::Sender<Result<Option<String>, WhipError>>,
    },
    /// Begin or end a recording; the answer is its folder and how many files were begun.
    Record {
        /// Whether to record from now on.
        on: bool,
        /// The answer.
        answer: oneshot::Sender<Result<(String, usize), String>>,
    },
    /// The room as operators see it.
    Inspect(oneshot::Sender<serde_json::Value>),
}

impl std::fmt::Debug for Command {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Join { .. } => "Join",
            Self::Request { .. } => "Request",
            Self::SignalLost { .. } => "SignalLost",
            Self::With(_) => "With",
            Self::Media(_) => "Media",
            Self::Whip(_) => "Whip",
            Self::Whep(_) => "Whep",
            Self::Fragment { .. } => "Fragment",
            Self::Record { .. } => "Record",
            Self::Inspect(_) => "Inspect",
        })
    }
}

/// What a signalling connection is told.
#[derive(Debug)]
pub(crate) enum SignalOut {
    /// Send this.
    Message(Arc<Outgoing>),
    /// Close, after what was sent.
    Close,
}

/// Where a participant's messages go.
struct Signal {
    sender: mpsc::Sender<SignalOut>,
    connection: u64,
}

/// A room's task.
pub(crate) struct Actor {
    shared: Arc<Shared>,
    id: u32,
    room: Room,
    signals: HashMap<ParticipantKey, Signal>,
    next_signal: u64,
    links: HashMap<ParticipantKey, Link>,
    connections: HashMap<ConnectionId, ParticipantKey>,
    tracks: HashMap<String, TrackId>,
    track_sids: HashMap<TrackId, String>,
    subscriptions: HashMap<(ParticipantKey, String), SubscriptionId>,
    wanted_layers: HashMap<String, Vec<(String, [bool; 3])>>,
    recording: Option<Recording>,
}

/// Starts the task of `room`.
pub(crate) fn start(shared: Arc<Shared>, room: Room, id: u32, inbox: mpsc::Receiver<Command>) {
    let actor = Actor {
        shared,
        id,
        room,
        signals: HashMap::new(),
        next_signal: 1,
        links: HashMap::new(),
        connections: HashMap::new(),
        tracks: HashMap::new(),
        track_sids: HashMap::new(),
        subscriptions: HashMap::new(),
        wanted_layers: HashMap::new(),
        recording: None,
    };
    tokio::spawn(actor.run(inbox));
}

impl Actor {
    async fn run(mut self, mut inbox: mpsc::Receiver<Command>) {
        self.carry_out(Now::read()).await;
        while !self.room.is_closed() {
            let deadline = self.room.poll_timeout().map(tokio::time::Instant::from_std);
            let timer = async {
                match deadline {
                    Some(deadline) => tokio::time::sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                () = timer => self.room.handle_timeout(Now::read()),
                command = inbox.recv() => match command {
                    Some(command) => self.handle(command).await,
                    // No handle is left: the server is going down.
                    None => self.room.close(
                        DisconnectReason::ServerShutdown,
                        proto::RoomEndReason::RoomEndServerShutdown,
                        Now::read(),
                    ),
                },
            }
            let now = Now::read();
            self.room.settle(now);
            self.carry_out(now).await;
            if inbox.is_empty() {
                self.ask_for_sections();
            }
        }
        self.shared.media.close_room(self.id);
        self.shared.rooms.forget(self.id, self.room.name());
        // Whoever asked meanwhile is told that the room is over by the closed channel.
    }

    async fn handle(&mut self, command: Command) {
        let now = Now::read();
        match command {
            Command::Join {
                joiner,
                session,
                signal,
                answer,
            } => self.join(*joiner, session, signal, answer, now),
            Command::Request { from, request } => self.room.request(from, *request, now),
            Command::SignalLost { of, connection } => {
                if self
                    .signals
                    .get(&of)
                    .is_some_and(|signal| signal.connection == connection)
                {
                    self.signals.remove(&of);
                    self.room.signal_lost(of, now);
                }
            }
            Command::With(work) => work(&mut self.room, now),
            Command::Media(event) => self.media_event(event, now).await,
            Command::Whip(request) => self.whip(*request, now).await,
            Command::Whep(request) => self.whep(*request, now).await,
            Command::Fragment {
                of,
                fragment,
                answer,
            } => {
                let outcome = self.fragment(of, &fragment).await;
                let _ = answer.send(outcome);
            }
            Command::Record { on, answer } => {
                let outcome = self.record(on).await;
                let _ = answer.send(outcome);
            }
            Command::Inspect(answer) => {
                let view = self.inspect().await;
                let _ = answer.send(view);
            }
        }
    }

    fn join(
        &mut self,
        joiner: Joiner,
        session: Option<String>,
        signal: Option<mpsc::Sender<SignalOut>>,
        answer: oneshot::Sender<Result<(ParticipantKey, u64), JoinError>>,
        now: Now,
    ) {
        let outcome = match session {
            Some(sid) => self
                .room
                .resume(&sid, &joiner.claims.identity, joiner.ice_servers, now),
            None => self.room.join(joiner, now),
        };
        let outcome = outcome.map(|key| {
            let connection = self.next_signal;
            self.next_signal += 1;
            if let Some(sender) = signal
                && let Some(old) = self.signals.insert(key, Signal { sender, connection })
            {
                // The old connection of a session that resumed; it may not know that it is dead.
                let _ = old.sender.try_send(SignalOut::Close);
            }
            (key, connection)
        });
        let _ = answer.send(outcome);
    }

    /// Carries out what the room wants done, in order.
    async fn carry_out(&mut self, now: Now) {
        while let Some(effect) = self.room.poll_effect() {
            match effect {
                Effect::Send { to, message } => self.send(to, message, now),
                Effect::RefreshToken(key) => self.refresh_token(key, now),
                Effect::CloseSignal(key) => {
                    if let Some(signal) = self.signals.remove(&key) {
                        let _ = signal.sender.try_send(SignalOut::Close);
                        if self.room.participant(key).is_some() {
                            self.room.signal_lost(key, now);
                        }
                    }
                }
                Effect::Webhook(event) => self.shared.webhooks.send(*event),
                Effect::Media(command) => self.command(command, now).await,
                Effect::Note { identity, text } => self.note(identity, text),
            }
        }
    }

    fn send(&mut self, to: ParticipantKey, message: Arc<Outgoing>, now: Now) {
        let Some(signal) = self.signals.get(&to) else {
            return;
        };
        if signal.sender.try_send(SignalOut::Message(message)).is_err() {
            // A reader that is too slow for signalling: it may come back, and is told how things stand then.
            metrics::counter!("visavis_signal_slow_readers_total").increment(1);
            self.signals.remove(&to);
            self.room.signal_lost(to, now);
        }
    }

    fn send_message(&mut self, to: ParticipantKey, message: Message, now: Now) {
        self.send(to, Outgoing::new(message), now);
    }

    fn refresh_token(&mut self, key: ParticipantKey, now: Now) {
        let Some(participant) = self.room.participant(key) else {
            return;
        };
        let claims = &participant.claims;
        match self.shared.keys.sign(&claims.iss, claims, TOKEN_SECONDS) {
            Ok(token) => self.send_message(key, Message::RefreshToken(token), now),
            // Participants that the server itself let in (WHIP) have no key.
            Err(error) => tracing::debug!("no fresh token for {}: {error}", participant.identity),
        }
    }

    fn note(&self, identity: Option<String>, text: String) {
        let at = Now::read().unix_millis;
        self.shared.events.push(&LogEvent {
            at,
            room: self.room.name().to_owned(),
            identity,
            text,
        });
    }

    fn note_of(&self, key: ParticipantKey, text: impl Into<String>) {
        let identity = self
            .room
            .participant(key)
            .map(|participant| participant.identity.clone());
        self.note(identity, text.into());
    }
}

/// The labels of a participant's data channels.
pub(crate) const CHANNELS: [DataKind; 3] =
    [DataKind::Reliable, DataKind::Lossy, DataKind::DataTrack];
