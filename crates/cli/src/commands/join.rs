//! `visavis join`.

use std::collections::HashMap;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use livekit_protocol as proto;
use proto::{signal_request, signal_response};
use visavis::{
    Configuration, ConnectionState, Description, Event, IceServer, PeerConnection, RtpTransceiver,
};
use visavis_server::Recorded;

use crate::exit::{self, Exit};
use crate::livekit::{self, Signal, SignalError};
use crate::media::{Playback, Recorder, play_all, prepare};

/// What was sent last may still be in the pacer.
const LINGER: Duration = Duration::from_millis(300);

/// Take part in a meeting without a browser: publish files, record what others publish.
///
/// The server is any `visavis serve` or LiveKit server. With --publish the meeting is left when the files end (unless --loop),
/// else at Ctrl-C, after --for, or when the server ends it.
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
    /// A token of the server's application; without one the server is asked, as its page does.
    #[arg(
        long,
        env = "VISAVIS_TOKEN",
        value_name = "TOKEN",
        hide_env_values = true
    )]
    token: Option<String>,
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
    /// Accept any certificate of the server.
    #[arg(long)]
    insecure: bool,
}

const LONG_HELP: &str = "\
Examples:
  visavis join https://meet.example.org/r/lobby --record lobby
  visavis join https://meet.example.org/r/lobby --publish film.webm --loop --name Cinema
  visavis join wss://livekit.example.org --token \"$TOKEN\" --record out --for 3600
  ffmpeg -re -i rtsp://camera -an -c:v libvpx -g 60 -deadline realtime -f ivf - | visavis join URL --publish -";

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::report(join(&args))
}

fn failed(error: visavis::Error) -> (Exit, String) {
    (Exit::Failure, error.to_string())
}

fn of_signal(error: SignalError) -> (Exit, String) {
    let exit = match &error {
        SignalError::Unreachable(_) => Exit::Unreachable,
        SignalError::Refused(_) => Exit::Declined,
        SignalError::Lost => Exit::Broken,
        _ => Exit::Failure,
    };
    (exit, error.to_string())
}

async fn join(args: &Args) -> Result<Exit, (Exit, String)> {
    let mut server = livekit::parse_server(&args.url).map_err(of_signal)?;
    let of_link = server.path().strip_prefix("/r/").map(decode);
    server.set_path("");
    server.set_fragment(None);
    let token = match (&args.token, args.room.clone().or(of_link)) {
        (Some(token), _) => token.clone(),
        (None, Some(room)) => livekit::invitation(&server, &room, &args.name, args.insecure)
            .await
            .map_err(of_signal)?,
        (None, None) => {
            let text = "which room? give its link, or --room NAME, or --token TOKEN";
            return Err((Exit::Failure, text.to_owned()));
        }
    };
    let (signal, welcome) = Signal::join(&server, &token, args.insecure)
        .await
        .map_err(of_signal)?;
    let mut meeting = Meeting::new(args, signal, &welcome)?;
    let time = async {
        match args
            .seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    let result = tokio::select! {
        result = meeting.run() => result,
        () = time => Ok(()),
        _ = tokio::signal::ctrl_c() => Ok(()),
    };
    meeting.leave().await?;
    result.map(|()| Exit::Success)
}

/// A meeting's name in a link.
fn decode(text: &str) -> String {
    let pair = format!("room={}", text.replace('+', "%2B"));
    url::form_urlencoded::parse(pair.as_bytes())
        .next()
        .map_or_else(String::new, |(_, room)| room.into_owned())
}

/// Whoever is there, as far as recordings want to know.
struct Person {
    identity: String,
    name: String,
}

/// One's part in a meeting: two connections, of which each side offers one.
struct Meeting<'a> {
    args: &'a Args,
    signal: Signal,
    /// What we send; the server answers. It is offered once the server knows all tracks.
    publisher: PeerConnection,
    /// What others send; the server offers.
    subscriber: PeerConnection,
    sources: Option<Vec<Playback>>,
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
        args: &'a Args,
        signal: Signal,
        welcome: &proto::JoinResponse,
    ) -> Result<Self, (Exit, String)> {
        // Both lead to one port of the server, and a 5-tuple belongs to one connection: each has sockets of its own.
        let connection = || {
            crate::runtime::endpoint()?.peer_connection(Configuration {
                ice_servers: welcome.ice_servers.iter().map(ice_server).collect(),
                ..Configuration::default()
            })
        };
        let publisher = connection().map_err(failed)?;
        let subscriber = connection().map_err(failed)?;
        let sources = prepare(&publisher, &args.publish)?;
        let recorder = match &args.record {
            Some(directory) => Some(
                Recorder::new(directory)
                    .map_err(|error| (Exit::Files, format!("{}: {error}", directory.display())))?,
            ),
            None => None,
        };
        let mut meeting = Self {
            args,
            signal,
            publisher,
            subscriber,
            sources: (!sources.is_empty()).then_some(sources),
            unannounced: 0,
            people: HashMap::new(),
            tracks: HashMap::new(),
            recorder,
            room: welcome
                .room
                .as_ref()
                .map(|room| room.name.clone())
                .unwrap_or_default(),
        };
        meeting.update(&welcome.other_participants);
        Ok(meeting)
    }

    async fn run(&mut self) -> Result<(), (Exit, String)> {
        eprintln!("in the room {:?}; Ctrl-C leaves it", self.room);
        self.announce().await?;
        let mut playing = None;
        loop {
            tokio::select! {
                message = self.signal.next() => {
                    let message = message.map_err(of_signal)?;
                    if let signal_response::Message::Leave(_) = message {
                        eprintln!("the server ended the session");
                        return Ok(());
                    }
                    self.take(message).await?;
                }
                event = self.publisher.next_event() => {
                    match event {
                        Some(Event::ConnectionState(ConnectionState::Connected)) if playing.is_none() => {
                            if let Some(sources) = self.sources.take() {
                                playing = Some(tokio::spawn(play_all(sources, self.args.again)));
                            }
                        }
                        event => self.event(proto::SignalTarget::Publisher, event).await?,
                    }
                }
                event = self.subscriber.next_event() => {
                    self.event(proto::SignalTarget::Subscriber, event).await?;
                }
                ended = async { playing.as_mut().expect("it plays").await }, if playing.is_some() => {
                    let sent = ended.map_err(|error| (Exit::Failure, error.to_string()))??;
                    tokio::time::sleep(LINGER).await;
                    eprintln!("{sent} frames were sent");
                    return Ok(());
                }
            }
        }
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
            let message = signal_request::Message::AddTrack(request);
            self.signal.send(message).await.map_err(of_signal)?;
        }
        Ok(())
    }

    async fn take(&mut self, message: signal_response::Message) -> Result<(), (Exit, String)> {
        use signal_response::Message;
        match message {
            Message::TrackPublished(_) => {
                self.unannounced = self.unannounced.saturating_sub(1);
                if self.unannounced == 0 {
                    self.publisher
                        .set_local_description(None)
                        .await
                        .map_err(failed)?;
                    let offer = description(&self.publisher, "offer", 1);
                    let message = signal_request::Message::Offer(offer);
                    self.signal.send(message).await.map_err(of_signal)?;
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
                let message = signal_request::Message::Answer(answer);
                self.signal.send(message).await.map_err(of_signal)?;
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
        Ok(())
    }

    async fn event(
        &mut self,
        target: proto::SignalTarget,
        event: Option<Event>,
    ) -> Result<(), (Exit, String)> {
        match event {
            Some(Event::IceCandidate(Some(candidate))) => self
                .signal
                .trickle(target, &candidate)
                .await
                .map_err(of_signal),
            Some(Event::Track {
                transceiver,
                streams,
            }) => {
                self.track(&transceiver, &streams);
                Ok(())
            }
            Some(Event::ConnectionState(ConnectionState::Failed)) => {
                let text =
                    "no way was found to the server, or it was lost; `visavis doctor` may tell why";
                Err((Exit::Broken, text.to_owned()))
            }
            Some(_) => Ok(()),
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
                    eprintln!("{} left", printable(&person.name, &person.identity));
                }
                continue;
            }
            let person = Person {
                identity: participant.identity.clone(),
                name: participant.name.clone(),
            };
            let text = format!("{} is here", printable(&person.name, &person.identity));
            if self.people.insert(sid.clone(), person).is_none() {
                eprintln!("{text}");
            }
            for track in &participant.tracks {
                let whose = (sid.clone(), track.clone());
                self.tracks.insert(track.sid.clone(), whose);
            }
        }
    }

    /// Leaves, and finishes what was recorded.
    async fn leave(self) -> Result<(), (Exit, String)> {
        self.signal.leave().await;
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
            eprintln!("{}: {frames} frames", path.display());
        }
        Ok(())
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

#[cfg(test)]
mod tests {
    #[test]
    fn rooms_of_links_are_read() {
        assert_eq!(super::decode("a%20b+c"), "a b+c");
        assert_eq!(super::decode("lobby"), "lobby");
    }
}
