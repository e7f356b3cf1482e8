//! One participant: a signalling connection, and one connection for media or two, one that it publishes on and one that it receives on.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use bench_sfu::client::{self, Ask, Asks, Counts, Setup, Source};
use bench_sfu::livekit::{self, Signal};
use livekit_protocol as proto;
use proto::{
    StreamState, participant_info::State, signal_request::Message as Request,
    signal_response::Message as Response,
};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use visavis_peer::IceCandidate;
use visavis_rtp::payload::Codec;

/// How often it pings.
const PING: Duration = Duration::from_secs(5);

/// How long somebody who vanished without a word keeps his socket, as a machine that sleeps does.
const ASLEEP: Duration = Duration::from_secs(60);

/// What the soak asks of a participant.
#[derive(Debug)]
pub(crate) enum Order {
    Publish(Source),
    /// Its section is stopped, or rests for another track.
    Unpublish {
        mark: u32,
        stop: bool,
    },
    Mute {
        mark: u32,
        muted: bool,
    },
    /// The signalling connection breaks, and a new one resumes the session after that time.
    LoseSignal(Duration),
    Leave,
    /// Everything breaks at once. `silent`: not even its signalling connection is closed.
    Vanish {
        silent: bool,
    },
}

/// A track that a participant publishes.
#[derive(Debug, Clone)]
pub(crate) struct Published {
    pub(crate) mark: u32,
    pub(crate) video: bool,
    pub(crate) encodings: usize,
    pub(crate) muted: bool,
    /// The server's id of it, when it has answered.
    pub(crate) sid: Option<String>,
    /// Since when it is to be heard.
    pub(crate) since: Instant,
}

/// What a participant knows; the soak looks at it.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// The session, when the server has let it in.
    pub(crate) sid: Option<String>,
    pub(crate) joined: Option<Instant>,
    pub(crate) tracks: Vec<Published>,
    /// Sids of the others that it was told of, by identity.
    pub(crate) roster: BTreeMap<String, String>,
    /// Since when its signalling connection is there.
    pub(crate) signal: Option<Instant>,
    /// Which track each section brings, and since when.
    pub(crate) mids: BTreeMap<String, (String, Instant)>,
    /// Tracks that the server held back for want of bandwidth, as it said, and since when it does so no more.
    pub(crate) held: BTreeMap<String, Option<Instant>>,
    /// Since when its connection that receives is up.
    pub(crate) connected: Option<Instant>,
    /// What must not be.
    pub(crate) trouble: Option<String>,
}

pub(crate) struct Member {
    pub(crate) identity: String,
    pub(crate) begun: Instant,
    orders: mpsc::UnboundedSender<Order>,
    receiver: Asks,
    /// With two connections, the other one.
    sender: Option<Asks>,
    view: Arc<Mutex<View>>,
}

impl Member {
    /// Lets somebody join a room with these tracks, over a single connection or over two. `setup` is that of its connections,
    /// but for their numbers.
    pub(crate) fn join(
        port: u16,
        room: &str,
        identity: String,
        number: u64,
        setup: &Setup,
        single: bool,
        sources: Vec<Source>,
    ) -> Self {
        let connection = |half| {
            client::start(Setup {
                number: number * 2 + half,
                ..setup.clone()
            })
        };
        let (sender, sent) = connection(0);
        let (receiver, received) = if single {
            (sender.clone(), mpsc::unbounded_channel().1)
        } else {
            connection(1)
        };
        let (orders, inbox) = mpsc::unbounded_channel();
        let view = Arc::new(Mutex::new(View::default()));
        let session = Session {
            port,
            room: room.to_owned(),
            identity: identity.clone(),
            view: Arc::clone(&view),
            sender: sender.clone(),
            receiver: receiver.clone(),
            single,
            wanted: if single { (1, 1) } else { (0, 0) },
            offer_id: 0,
            offered: false,
            again: false,
            described: false,
            announced: Vec::new(),
        };
        tokio::spawn(session.run(inbox, sent, received, sources));
        Self {
            identity,
            begun: Instant::now(),
            orders,
            receiver,
            sender: (!single).then_some(sender),
            view,
        }
    }

    pub(crate) fn order(&self, order: Order) {
        let _ = self.orders.send(order);
    }

    pub(crate) fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("nobody panics with it")
    }

    /// What its connections counted: the one that receives, and the one that sends if that is another.
    pub(crate) async fn counts(&self) -> Option<Vec<Counts>> {
        let mut all = Vec::new();
        for asks in std::iter::once(&self.receiver).chain(&self.sender) {
            let (reply, counts) = oneshot::channel();
            asks.send(Ask::Count(reply)).ok()?;
            all.push(counts.await.ok()?);
        }
        Some(all)
    }
}

/// A participant's own task.
struct Session {
    port: u16,
    room: String,
    identity: String,
    view: Arc<Mutex<View>>,
    sender: Asks,
    receiver: Asks,
    single: bool,
    /// Sections for receiving that the next offer adds.
    wanted: (usize, usize),
    /// The last offer's number: an answer to one of before a break may come after it.
    offer_id: u32,
    /// It waits for its answer.
    offered: bool,
    /// Something changed meanwhile.
    again: bool,
    /// Whether it ever offered.
    described: bool,
    /// Numbers of the tracks that the server was told of.
    announced: Vec<u32>,
}

type Trickled = mpsc::UnboundedReceiver<IceCandidate>;

impl Session {
    async fn run(
        mut self,
        mut orders: mpsc::UnboundedReceiver<Order>,
        mut sent: Trickled,
        mut received: Trickled,
        sources: Vec<Source>,
    ) {
        for source in sources {
            self.publish(source);
        }
        if let Err(error) = self.attend(&mut orders, &mut sent, &mut received).await {
            self.view().trouble.get_or_insert(error.to_string());
        }
    }

    fn view(&self) -> MutexGuard<'_, View> {
        self.view.lock().expect("nobody panics with it")
    }

    async fn attend(
        &mut self,
        orders: &mut mpsc::UnboundedReceiver<Order>,
        sent: &mut Trickled,
        received: &mut Trickled,
    ) -> io::Result<()> {
        let mut signal = self.open(None).await?;
        let mut pings = tokio::time::interval(PING);
        loop {
            tokio::select! {
                message = signal.next() => match message {
                    Some(message) => self.take(&mut signal, message).await?,
                    None => return Err(io::Error::other("the server closed its signalling connection")),
                },
                Some(candidate) = sent.recv() => signal.send(livekit::trickle(&candidate, true)).await?,
                Some(candidate) = received.recv() => signal.send(livekit::trickle(&candidate, false)).await?,
                _ = pings.tick() => signal.send(Request::PingReq(proto::Ping::default())).await?,
                order = orders.recv() => match order {
                    Some(Order::Publish(source)) => {
                        self.publish(source);
                        self.negotiate(&mut signal).await?;
                    }
                    Some(Order::Unpublish { mark, stop }) => {
                        self.view().tracks.retain(|track| track.mark != mark);
                        let _ = self.sender.send(Ask::Unpublish { mark, stop });
                        self.negotiate(&mut signal).await?;
                    }
                    Some(Order::Mute { mark, muted }) => self.mute(&mut signal, mark, muted).await?,
                    Some(Order::LoseSignal(pause)) => {
                        drop(signal);
                        signal = self.resume(pause).await?;
                    }
                    Some(Order::Leave) => {
                        signal.send(Request::Leave(proto::LeaveRequest::default())).await?;
                        let _ = self.sender.send(Ask::Close);
                        let _ = self.receiver.send(Ask::Close);
                        // The server closes it.
                        while signal.next().await.is_some() {}
                        return Ok(());
                    }
                    Some(Order::Vanish { silent }) => {
                        let gone = mpsc::unbounded_channel().0;
                        (self.sender, self.receiver) = (gone.clone(), gone);
                        if silent {
                            tokio::time::sleep(ASLEEP).await;
                        }
                        return Ok(());
                    }
                    None => return Ok(()),
                },
            }
        }
    }

    async fn open(&self, session: Option<&str>) -> io::Result<Signal> {
        let grants = json!({"room": self.room, "roomJoin": true});
        let token = livekit::token(&self.identity, &grants)?;
        if self.single {
            Signal::open_single(self.port, &token, session).await
        } else {
            Signal::open(self.port, &token, session).await
        }
    }

    /// Comes back to its session, as clients do: both connections restart ICE, and what was not answered is said again.
    async fn resume(&mut self, pause: Duration) -> io::Result<Signal> {
        self.view().signal = None;
        tokio::time::sleep(pause).await;
        let sid = self.view().sid.clone();
        let mut signal = self.open(sid.as_deref()).await?;
        signal
            .send(Request::SyncState(proto::SyncState::default()))
            .await?;
        let unanswered = |track: &Published| track.sid.is_none();
        let unanswered: Vec<u32> = self
            .view()
            .tracks
            .iter()
            .filter(|track| unanswered(track))
            .map(|track| track.mark)
            .collect();
        self.announced.retain(|mark| !unanswered.contains(mark));
        if self.described {
            let _ = self.sender.send(Ask::RestartIce);
            self.offered = false;
            self.negotiate(&mut signal).await?;
        }
        Ok(signal)
    }

    fn publish(&mut self, source: Source) {
        self.view().tracks.push(Published {
            mark: source.mark,
            video: source.codec != Codec::Opus,
            encodings: source.sizes.len(),
            muted: false,
            sid: None,
            since: Instant::now(),
        });
        let _ = self.sender.send(Ask::Publish(source));
    }

    async fn mute(&mut self, signal: &mut Signal, mark: u32, muted: bool) -> io::Result<()> {
        let sid = {
            let mut view = self.view();
            let track = view.tracks.iter_mut().find(|track| track.mark == mark);
            let Some(track) = track.filter(|track| track.sid.is_some()) else {
                return Ok(());
            };
            track.muted = muted;
            track.since = Instant::now();
            track.sid.clone().unwrap_or_default()
        };
        let _ = self.sender.send(Ask::Mute { mark, muted });
        signal
            .send(Request::Mute(proto::MuteTrackRequest { sid, muted }))
            .await
    }

    /// Announces what is new and offers what is sent, now or when the last offer was answered.
    async fn negotiate(&mut self, signal: &mut Signal) -> io::Result<()> {
        if self.view().sid.is_none() {
            // The answer to the join begins it.
            return Ok(());
        }
        if self.offered {
            self.again = true;
            return Ok(());
        }
        (self.offered, self.again, self.described) = (true, false, true);
        self.offer_id += 1;
        let tracks = self.view().tracks.clone();
        for track in tracks {
            if !self.announced.contains(&track.mark) {
                self.announced.push(track.mark);
                let encodings = i32::try_from(track.encodings).unwrap_or(1);
                signal
                    .send(livekit::add_track(&cid(track.mark), track.video, encodings))
                    .await?;
            }
        }
        let (reply, offer) = oneshot::channel();
        let (audio, video) = std::mem::take(&mut self.wanted);
        let _ = self.sender.send(Ask::Offer(audio, video, reply));
        let sdp = offer
            .await
            .map_err(|_| io::Error::other("its sending connection ended"))?;
        signal
            .send(Request::Offer(livekit::description(
                "offer",
                sdp,
                self.offer_id,
            )))
            .await
    }

    async fn take(&mut self, signal: &mut Signal, message: Response) -> io::Result<()> {
        match message {
            Response::Join(join) => {
                {
                    let mut view = self.view();
                    view.sid = join.participant.map(|participant| participant.sid);
                    (view.joined, view.signal) = (Some(Instant::now()), Some(Instant::now()));
                    note_others(&mut view, &self.identity, join.other_participants);
                }
                if self.single || !self.view().tracks.is_empty() {
                    self.negotiate(signal).await?;
                }
            }
            Response::Reconnect(_) => {
                let mut view = self.view();
                view.signal = Some(Instant::now());
                // Everybody is told anew; who left meanwhile is not among them.
                view.roster.clear();
            }
            Response::Update(update) => {
                note_others(&mut self.view(), &self.identity, update.participants)
            }
            Response::TrackPublished(published) => {
                let mut view = self.view();
                let track = view
                    .tracks
                    .iter_mut()
                    .find(|track| cid(track.mark) == published.cid);
                if let Some(track) = track {
                    track.sid = published.track.map(|info| info.sid);
                }
            }
            Response::Answer(answer) if answer.id != self.offer_id => {}
            Response::Answer(answer) => {
                let _ = self.sender.send(Ask::Answer(answer.sdp));
                if self.single {
                    self.note_sections(answer.mid_to_track_id.into_iter().collect());
                }
                self.offered = false;
                if self.again {
                    self.negotiate(signal).await?;
                }
            }
            Response::MediaSectionsRequirement(more) => {
                self.wanted.0 += more.num_audios as usize;
                self.wanted.1 += more.num_videos as usize;
                self.negotiate(signal).await?;
            }
            Response::Offer(offer) => {
                let (reply, answer) = oneshot::channel();
                let _ = self.receiver.send(Ask::Accept(offer.sdp, reply));
                let sdp = answer
                    .await
                    .map_err(|_| io::Error::other("an offer of the server was refused"))?;
                self.note_sections(offer.mid_to_track_id.into_iter().collect());
                signal
                    .send(Request::Answer(livekit::description(
                        "answer", sdp, offer.id,
                    )))
                    .await?;
            }
            Response::Trickle(trickle) => {
                let asks = if self.single || trickle.target == 0 {
                    &self.sender
                } else {
                    &self.receiver
                };
                let _ = asks.send(Ask::Candidate(livekit::candidate(&trickle)));
            }
            Response::StreamStateUpdate(update) => {
                let mut view = self.view();
                for track in update.stream_states {
                    let is_held = track.state() == StreamState::Paused;
                    let released = (!is_held).then(Instant::now);
                    view.held.insert(track.track_sid, released);
                }
            }
            Response::RequestResponse(response) => {
                return Err(io::Error::other(format!(
                    "a request was refused: {}",
                    response.message
                )));
            }
            Response::Leave(leave) => {
                let reason = leave.reason().as_str_name();
                return Err(io::Error::other(format!(
                    "the server sent it away ({reason})"
                )));
            }
            _ => {}
        }
        Ok(())
    }

    fn note_sections(&self, told: BTreeMap<String, String>) {
        let mut view = self.view();
        view.mids.retain(|mid, _| told.contains_key(mid));
        for (mid, sid) in told {
            let known = view.mids.get(&mid).is_some_and(|(known, _)| *known == sid);
            if !known {
                view.mids.insert(mid, (sid, Instant::now()));
            }
        }
    }
}

fn cid(mark: u32) -> String {
    Source {
        mark,
        codec: Codec::Opus,
        sizes: Vec::new(),
    }
    .cid()
}

fn note_others(view: &mut View, own: &str, participants: Vec<proto::ParticipantInfo>) {
    for participant in participants
        .into_iter()
        .filter(|participant| participant.identity != own)
    {
        if participant.state() != State::Disconnected {
            view.roster.insert(participant.identity, participant.sid);
        } else if view.roster.get(&participant.identity) == Some(&participant.sid) {
            view.roster.remove(&participant.identity);
        }
    }
}
