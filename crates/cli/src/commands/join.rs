//! `visavis join`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use livekit_protocol as proto;
use proto::{signal_request, signal_response};
use tokio::task::JoinHandle;
use url::Url;
use visavis::{
    Configuration, ConnectionState, Description, Event, IceServer, PeerConnection, RtpTransceiver,
};
use visavis_server::Recorded;

use crate::exit::{self, Exit, with_exit_codes};
use crate::livekit::{self, Signal, SignalError};
use crate::media::{Access, Playback, Recorder, play_all, prepare};
use crate::output::err;

/// What was sent last may still be in the pacer.
const LINGER: Duration = Duration::from_millis(300);
/// Pause between two tries to get back.
const RETRY: Duration = Duration::from_secs(1);

/// Take part in a meeting without a browser: publish files, record what others publish.
///
/// The server is any `visavis serve` or LiveKit server. With --publish the meeting is left when the files end (unless --loop),
/// else at Ctrl-C, after --for, or when the server ends it. A session whose path or server is lost is taken up again; where the
/// server has forgotten it, as after a restart, the room is joined anew and files begin again.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// The server, or the link of a meeting: `https://meet.example.org/r/ROOM`.
    url: String,
    /// The room, if the link does not name it.
    #[arg(long)]
    room: Option<String>,
    /// The name that others see.
    #[arg(long, default_value = "visavis")]
    name: String,
    /// Publish a file: IVF (VP8, VP9, AV1), Ogg (Opus) or WebM; `-` is standard input. As often as need be.
    #[arg(long, value_name = "FILE")]
    publish: Vec<PathBuf>,
    /// Begin again at the end of the files.
    #[arg(long = "loop", requires = "publish")]
    again: bool,
    /// Record every track that others publish into a directory, a file for each.
    #[arg(long, value_name = "DIR")]
    record: Option<PathBuf>,
    /// Leave after so many seconds.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<f64>,
    /// When the session is lost, try so many seconds to get it back.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    retry: u64,
    #[command(flatten)]
    access: Access,
}

const LONG_HELP: &str = with_exit_codes!(
    "\
Examples:
  visavis join https://meet.example.org/r/lobby --record lobby
  visavis join https://meet.example.org/r/lobby --publish film.webm --loop --name Cinema
  visavis join wss://livekit.example.org --token \"$TOKEN\" --record out --for 3600
  ffmpeg -re -i rtsp://camera -an -c:v libvpx -g 60 -deadline realtime -f ivf - | visavis join URL --publish -

"
);

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::report(join(&args))
}

fn failed(error: visavis::Error) -> (Exit, String) {
    (Exit::Failure, error.to_string())
}

fn of_signal(error: SignalError) -> (Exit, String) {
    let exit = match &error {
        SignalError::Address(_) => Exit::Usage,
        SignalError::Unreachable(_) => Exit::Unreachable,
        SignalError::Refused(_) => Exit::Declined,
        SignalError::Lost | SignalError::Forgotten => Exit::Broken,
        _ => Exit::Failure,
    };
    (exit, error.to_string())
}

async fn join(args: &Args) -> Result<Exit, (Exit, String)> {
    let mut server = livekit::parse_server(&args.url).map_err(of_signal)?;
    let of_link = server.path().strip_prefix("/r/").map(livekit::room_of_path);
    server.set_path("");
    server.set_fragment(None);
    let room = args.room.clone().or(of_link);
    if room.is_none() && args.access.token.is_none() {
        let text = "which room? give its link, or --room NAME, or --token TOKEN";
        return Err((Exit::Usage, text.to_owned()));
    }
    let door = Door { args, server, room };
    let (entry, welcome) = door.enter().await.map_err(of_signal)?;
    let mut meeting = Meeting::new(&door, entry, &welcome)?;
    let time = async {
        match args
            .seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let mut interrupt = crate::runtime::Interrupt::new();
    let result = tokio::select! {
        result = meeting.stay() => result,
        () = time => Ok(()),
        () = interrupt.arrives() => Ok(()),
    };
    meeting.leave().await?;
    result.map(|()| Exit::Success)
}

/// Where the meeting is, and what lets one in.
struct Door<'a> {
    args: &'a Args,
    server: Url,
    room: Option<String>,
}

/// What came of going in.
struct Entry {
    signal: Signal,
    token: String,
}

impl Door<'_> {
    async fn enter(&self) -> Result<(Entry, proto::JoinResponse), SignalError> {
        let insecure = self.args.access.insecure;
        let token = match (&self.args.access.token, &self.room) {
            (Some(token), _) => token.clone(),
            (None, room) => {
                let room = room.as_deref().unwrap_or_default();
                livekit::invitation(&self.server, room, &self.args.name, insecure).await?
            }
        };
        let (signal, welcome) = Signal::join(&self.server, &token, insecure).await?;
        Ok((Entry { signal, token }, welcome))
    }
}

/// How a session ended that nobody wanted to end.
struct Lost {
    /// Whether the server may still know it.
    resumable: bool,
    why: String,
}

/// What a session came to.
enum End {
    /// The files are played, or the server ended it.
    Over,
    Lost(Lost),
}

/// Whoever is there, as far as recordings want to know.
struct Person {
    identity: String,
    name: String,
}

/// One's part in a meeting: two connections, of which each side offers one.
struct Meeting<'a> {
    door: &'a Door<'a>,
    args: &'a Args,
    entry: Entry,
    /// How the server calls this participant.
    sid: String,
    /// What we send; the server answers. It is offered once the server knows all tracks.
    publisher: PeerConnection,
    /// What others send; the server offers.
    subscriber: PeerConnection,
    sources: Option<Vec<Playback>>,
    playing: Playing,
    /// Tracks that the server has not taken note of yet.
    unannounced: usize,
    people: HashMap<String, Person>,
    /// The tracks of others: whose, and their sources.
    tracks: HashMap<String, (String, proto::TrackInfo)>,
    recorder: Option<Recorder>,
    room: String,
}

impl<'a> Meeting<'a> {
    fn new(
        door: &'a Door<'a>,
        entry: Entry,
        welcome: &proto::JoinResponse,
    ) -> Result<Self, (Exit, String)> {
        let args = door.args;
        let (publisher, subscriber) = connections(welcome).map_err(failed)?;
        let sources = prepare(&publisher, &args.publish)?;
        let recorder = match &args.record {
            Some(directory) => Some(
                Recorder::new(directory)
                    .map_err(|error| (Exit::Files, format!("{}: {error}", directory.display())))?,
            ),
            None => None,
        };
        let mut meeting = Self {
            door,
            args,
            entry,
            sid: String::new(),
            publisher,
            subscriber,
            sources: (!sources.is_empty()).then_some(sources),
            playing: Playing(None),
            unannounced: 0,
            people: HashMap::new(),
            tracks: HashMap::new(),
            recorder,
            room: String::new(),
        };
        meeting.welcomed(welcome);
        Ok(meeting)
    }

    fn welcomed(&mut self, welcome: &proto::JoinResponse) {
        let sid = welcome.participant.as_ref().map(|own| own.sid.clone());
        self.sid = sid.unwrap_or_default();
        let room = welcome.room.as_ref().map(|room| room.name.clone());
        self.room = room.unwrap_or_default();
        self.people.clear();
        self.tracks.clear();
        self.update(&welcome.other_participants);
    }

    /// Until it is over, through whatever is lost on the way and can be got back.
    async fn stay(&mut self) -> Result<(), (Exit, String)> {
        err!("in the room {:?}; Ctrl-C leaves it", self.room);
        self.announce().await?;
        loop {
            match self.session().await? {
                End::Over => return Ok(()),
                End::Lost(lost) => self.recover(lost).await?,
            }
        }
    }

    async fn session(&mut self) -> Result<End, (Exit, String)> {
        loop {
            let lost = tokio::select! {
                message = self.entry.signal.next() => match message {
                    Ok(signal_response::Message::Leave(leave)) => match leave.action() {
                        proto::leave_request::Action::Disconnect => {
                            err!("the server ended the session");
                            return Ok(End::Over);
                        }
                        action => Some(Lost {
                            resumable: action == proto::leave_request::Action::Resume,
                            why: "the server asks to come back".to_owned(),
                        }),
                    },
                    Ok(message) => self.take(message).await?,
                    Err(error) => Some(signal_lost(&error)),
                },
                event = self.publisher.next_event() => {
                    let connected = matches!(event, Some(Event::ConnectionState(ConnectionState::Connected)));
                    if let Some(sources) = self.sources.take_if(|_| connected) {
                        self.playing = Playing(Some(tokio::spawn(play_all(sources, self.args.again))));
                    }
                    self.event(proto::SignalTarget::Publisher, event).await
                }
                event = self.subscriber.next_event() => {
                    self.event(proto::SignalTarget::Subscriber, event).await
                }
                ended = self.playing.ended() => {
                    tokio::time::sleep(LINGER).await;
                    err!("{} frames were sent", ended?);
                    return Ok(End::Over);
                }
            };
            if let Some(lost) = lost {
                return Ok(End::Lost(lost));
            }
        }
    }

    /// Takes the session up again, or joins anew where the server has forgotten it.
    async fn recover(&mut self, lost: Lost) -> Result<(), (Exit, String)> {
        err!("{}; trying to get back", lost.why);
        let until = Instant::now() + Duration::from_secs(self.args.retry);
        let insecure = self.args.access.insecure;
        let mut resumable = lost.resumable;
        loop {
            let tried = if resumable {
                let token = &self.entry.token;
                match Signal::resume(&self.door.server, token, &self.sid, insecure).await {
                    Ok(signal) => {
                        self.entry.signal = signal;
                        err!("back in the room {:?}", self.room);
                        return self.restart().await;
                    }
                    Err(SignalError::Forgotten | SignalError::Refused(_)) => {
                        resumable = false;
                        continue;
                    }
                    Err(error) => error,
                }
            } else {
                match self.door.enter().await {
                    Ok((entry, welcome)) => {
                        self.begin_anew(entry, &welcome)?;
                        err!("in the room {:?} again", self.room);
                        return self.announce().await;
                    }
                    Err(error) => error,
                }
            };
            if Instant::now() > until {
                let (_, text) = of_signal(tried);
                return Err((Exit::Broken, format!("{}, and {text}", lost.why)));
            }
            tokio::time::sleep(RETRY).await;
        }
    }

    /// The server restarts ICE of the connection that it offers; that of ours is ours to restart.
    async fn restart(&mut self) -> Result<(), (Exit, String)> {
        if self.unannounced > 0 {
            return self.announce().await;
        }
        if self.publisher.local_description().is_some() {
            self.publisher.restart_ice();
            self.offer().await?;
        }
        Ok(())
    }

    /// Everything of a new session but the recorder, which goes on.
    fn begin_anew(
        &mut self,
        entry: Entry,
        welcome: &proto::JoinResponse,
    ) -> Result<(), (Exit, String)> {
        if self.args.publish.iter().any(|path| path.as_os_str() == "-") {
            let text = "the session was lost, and standard input cannot be read from its beginning";
            return Err((Exit::Broken, text.to_owned()));
        }
        self.publisher.close();
        self.subscriber.close();
        self.entry = entry;
        (self.publisher, self.subscriber) = connections(welcome).map_err(failed)?;
        self.playing = Playing(None);
        let sources = prepare(&self.publisher, &self.args.publish)?;
        self.sources = (!sources.is_empty()).then_some(sources);
        self.welcomed(welcome);
        Ok(())
    }

    async fn offer(&mut self) -> Result<(), (Exit, String)> {
        self.publisher
            .set_local_description(None)
            .await
            .map_err(failed)?;
        let offer = description(&self.publisher, "offer", 1);
        self.send(signal_request::Message::Offer(offer)).await;
        Ok(())
    }

    /// What cannot be sent is seen by who reads: the session is lost.
    async fn send(&mut self, message: signal_request::Message) {
        let _ = self.entry.signal.send(message).await;
    }

    /// Tells the server which tracks will come.
    async fn announce(&mut self) -> Result<(), (Exit, String)> {
        let mut requests = Vec::new();
        for playback in self.sources.iter().flatten() {
            for (track, sender) in playback.tracks() {
                let is_video = track.codec.is_video();
                let (kind, of) = match is_video {
                    true => (proto::TrackType::Video, proto::TrackSource::Camera),
                    false => (proto::TrackType::Audio, proto::TrackSource::Microphone),
                };
                let (width, height) = track.size;
                let layer = proto::VideoLayer {
                    quality: proto::VideoQuality::High.into(),
                    width,
                    height,
                    ..proto::VideoLayer::default()
                };
                requests.push(proto::AddTrackRequest {
                    cid: sender.track().unwrap_or_default(),
                    name: playback.path().display().to_string(),
                    r#type: kind.into(),
                    source: of.into(),
                    width,
                    height,
                    layers: is_video.then_some(layer).into_iter().collect(),
                    disable_red: true,
                    ..proto::AddTrackRequest::default()
                });
            }
        }
        self.unannounced = requests.len();
        for request in requests {
            self.send(signal_request::Message::AddTrack(request)).await;
        }
        Ok(())
    }

    /// Does what the server says; that the session is lost, if it is by that.
    async fn take(
        &mut self,
        message: signal_response::Message,
    ) -> Result<Option<Lost>, (Exit, String)> {
        use signal_response::Message;
        match message {
            Message::TrackPublished(_) => {
                self.unannounced = self.unannounced.saturating_sub(1);
                if self.unannounced == 0 {
                    self.offer().await?;
                }
            }
            Message::Answer(answer) => {
                let answer = Description::answer(answer.sdp);
                self.publisher
                    .set_remote_description(&answer)
                    .map_err(failed)?;
            }
            Message::Offer(offer) => {
                let id = offer.id;
                self.subscriber
                    .set_remote_description(&Description::offer(offer.sdp))
                    .map_err(failed)?;
                self.subscriber
                    .set_local_description(None)
                    .await
                    .map_err(failed)?;
                let answer = description(&self.subscriber, "answer", id);
                self.send(signal_request::Message::Answer(answer)).await;
            }
            Message::Trickle(trickle) => {
                if let Some(candidate) = livekit::candidate(&trickle) {
                    let connection = match trickle.target() {
                        proto::SignalTarget::Publisher => &self.publisher,
                        proto::SignalTarget::Subscriber => &self.subscriber,
                    };
                    // A candidate that we cannot use is none of the server's faults.
                    let _ = connection.add_ice_candidate(&candidate);
                }
            }
            Message::Update(update) => self.update(&update.participants),
            Message::RequestResponse(response) if self.unannounced > 0 && response.reason != 0 => {
                let text = format!("the server refuses a track: {}", response.message);
                return Err((Exit::Declined, text));
            }
            _ => {}
        }
        Ok(None)
    }

    async fn event(&mut self, target: proto::SignalTarget, event: Option<Event>) -> Option<Lost> {
        match event {
            Some(Event::IceCandidate(Some(candidate))) => {
                let sent = self.entry.signal.trickle(target, &candidate).await;
                sent.err().map(|error| signal_lost(&error))
            }
            Some(Event::Track {
                transceiver,
                streams,
            }) => {
                self.track(&transceiver, &streams);
                None
            }
            Some(Event::ConnectionState(ConnectionState::Failed)) => Some(Lost {
                resumable: true,
                why:
                    "no way was found to the server, or it was lost (`visavis doctor` may tell why)"
                        .to_owned(),
            }),
            Some(_) => None,
            // A connection that is closed says nothing more, and is not asked again.
            None => std::future::pending().await,
        }
    }

    /// Somebody's track comes.
    fn track(&mut self, transceiver: &RtpTransceiver, streams: &[String]) {
        let Some(recorder) = &mut self.recorder else {
            return;
        };
        let receiver = transceiver.receiver();
        let track = receiver.track();
        // The stream is named for the participant, before a `|` if more is said.
        let of_stream = streams.first().and_then(|name| name.split('|').next());
        let (sid, info) = match self.tracks.get(&track) {
            Some((sid, info)) => (Some(sid.as_str()), Some(info)),
            None => (of_stream, None),
        };
        let person = sid.and_then(|sid| self.people.get(sid));
        let source = info.map_or(proto::TrackSource::Unknown, proto::TrackInfo::source);
        recorder.add(
            receiver,
            Recorded {
                room: self.room.clone(),
                identity: person.map_or_else(String::new, |person| person.identity.clone()),
                name: person.map_or_else(String::new, |person| person.name.clone()),
                source: source.as_str_name().to_lowercase(),
                width: info.map_or(0, |info| info.width),
                height: info.map_or(0, |info| info.height),
                track,
                ..Recorded::default()
            },
        );
    }

    fn update(&mut self, participants: &[proto::ParticipantInfo]) {
        for participant in participants {
            let sid = &participant.sid;
            if participant.state() == proto::participant_info::State::Disconnected {
                if let Some(person) = self.people.remove(sid) {
                    err!("{} left", printable(&person.name, &person.identity));
                }
                continue;
            }
            let person = Person {
                identity: participant.identity.clone(),
                name: participant.name.clone(),
            };
            let text = format!("{} is here", printable(&person.name, &person.identity));
            if self.people.insert(sid.clone(), person).is_none() {
                err!("{text}");
            }
            for track in &participant.tracks {
                let whose = (sid.clone(), track.clone());
                self.tracks.insert(track.sid.clone(), whose);
            }
        }
    }

    /// Leaves, and finishes what was recorded.
    async fn leave(self) -> Result<(), (Exit, String)> {
        self.entry.signal.leave().await;
        self.publisher.close();
        self.subscriber.close();
        let (Some(recorder), Some(directory)) = (self.recorder, &self.args.record) else {
            return Ok(());
        };
        let recorded = recorder.finish().await;
        let recorded =
            recorded.map_err(|error| (Exit::Files, format!("{}: {error}", directory.display())))?;
        for (recorded, frames) in recorded {
            let path = directory.join(&recorded.file);
            err!("{}: {frames} frames", path.display());
        }
        Ok(())
    }
}

fn signal_lost(error: &SignalError) -> Lost {
    Lost {
        resumable: true,
        why: error.to_string(),
    }
}

/// What we send by, and what we are sent by. Both lead to one port of the server, and a 5-tuple belongs to one connection: each
/// has sockets of its own.
fn connections(
    welcome: &proto::JoinResponse,
) -> Result<(PeerConnection, PeerConnection), visavis::Error> {
    let connection = || {
        crate::runtime::endpoint()?.peer_connection(Configuration {
            ice_servers: welcome.ice_servers.iter().map(ice_server).collect(),
            ..Configuration::default()
        })
    };
    Ok((connection()?, connection()?))
}

/// The playing of files, which ends with its owner.
struct Playing(Option<JoinHandle<Result<u64, (Exit, String)>>>);

impl Playing {
    /// How many frames were sent. Never, where nothing is played.
    async fn ended(&mut self) -> Result<u64, (Exit, String)> {
        let Some(task) = &mut self.0 else {
            return std::future::pending().await;
        };
        task.await
            .map_err(|error| (Exit::Failure, error.to_string()))?
    }
}

impl Drop for Playing {
    fn drop(&mut self) {
        if let Some(task) = &self.0 {
            task.abort();
        }
    }
}

/// A name that a stranger chose, as a terminal can bear it.
fn printable(name: &str, identity: &str) -> String {
    let name = if name.is_empty() { identity } else { name };
    name.chars().filter(|c| !c.is_control()).take(80).collect()
}

fn description(connection: &PeerConnection, kind: &str, id: u32) -> proto::SessionDescription {
    proto::SessionDescription {
        r#type: kind.to_owned(),
        sdp: connection
            .local_description()
            .map(|description| description.sdp)
            .unwrap_or_default(),
        id,
        ..proto::SessionDescription::default()
    }
}

fn ice_server(server: &proto::IceServer) -> IceServer {
    IceServer {
        urls: server.urls.clone(),
        username: server.username.clone(),
        credential: server.credential.clone(),
    }
}
