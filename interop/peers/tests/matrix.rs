//! The same calls with each peer, offered by either side: a channel, sound and pictures, and the end.

use std::sync::Arc;
use std::time::Duration;

use interop_common::{in_namespace, saw, without_bundle};
use interop_peers::{Clip, Peer, Program};
use serde_json::{Value, json};
use visavis::{
    ChannelOptions, Configuration, ConnectionState, DataChannel, Description, Event, FrameKind,
    IceCandidate, Kind, Message, PeerConnection, RtpReceiver, TransceiverInit,
};

/// How long a step may take.
const LIMIT: Duration = Duration::from_secs(20);
/// As large as browsers take.
const LARGE: usize = 262_144;

const AIORTC: Program = Program {
    folder: "aiortc",
    command: &["python3", "aiortc/peer.py"],
    trickle: false,
    needs: (
        // The folder of this name, where the check runs, could be imported too.
        &["python3", "-c", "from aiortc import RTCPeerConnection"],
        "python3 -m pip install -r interop/peers/aiortc/requirements.txt",
    ),
};
const WERIFT: Program = node("werift", &["node", "werift/peer.mjs"]);
/// libdatachannel 0.24 sets ICE going before it knows our fingerprint: if our checks wait at its door as
/// it takes our answer, DTLS can be quicker than it is, and fails with "certificate verify failed".
const NODE_DATACHANNEL: Program = Program {
    trickle: true,
    ..node("node-datachannel", &["node", "node-datachannel/peer.mjs"])
};
const WRTC: Program = node("wrtc", &["node", "wrtc/peer.mjs"]);
const GSTREAMER: Program = Program {
    folder: "gstreamer",
    command: &["/usr/bin/python3", "gstreamer/peer.py"],
    trickle: false,
    needs: (
        &["gst-inspect-1.0", "--exists", "webrtcbin"],
        "apt-get install gstreamer1.0-tools gstreamer1.0-plugins-{base,good,bad} gstreamer1.0-nice python3-gi gir1.2-gst-plugins-bad-1.0",
    ),
};

/// A package of this workspace, built if it is not.
macro_rules! rust {
    ($folder:literal, $package:literal) => {
        Program {
            folder: $folder,
            command: &[
                "cargo",
                "run",
                "--quiet",
                "--offline",
                "--package",
                $package,
            ],
            trickle: false,
            needs: (
                &[
                    "cargo",
                    "build",
                    "--quiet",
                    "--offline",
                    "--package",
                    $package,
                ],
                concat!("cargo build --package ", $package, " in interop/"),
            ),
        }
    };
}
const STR0M: Program = rust!("str0m", "interop-str0m");
const WEBRTC: Program = rust!("webrtc", "interop-webrtc");

const fn node(folder: &'static str, command: &'static [&'static str]) -> Program {
    Program {
        folder,
        command,
        trickle: false,
        needs: (
            &["test", "-d", "../node_modules/werift"],
            "run `npm ci --ignore-scripts` in interop/ first",
        ),
    }
}

/// Why a peer is not met without BUNDLE.
const ALWAYS_BUNDLES: &str = "it has one transport";

type Step<T = ()> = Result<T, String>;

/// Waits for something, not for ever.
async fn limit<T>(what: &str, future: impl Future<Output = T>) -> Step<T> {
    let result = tokio::time::timeout(LIMIT, future).await;
    result.map_err(|_| format!("{what}: not within {LIMIT:?}"))
}

fn text(error: impl ToString) -> String {
    error.to_string()
}

/// A connection that knows VP8 for pictures.
fn connection() -> PeerConnection {
    let mut configuration = Configuration::default();
    let codecs = &mut Arc::make_mut(&mut configuration.advanced.codecs).video;
    codecs.retain(|codec| codec.is("VP8"));
    PeerConnection::new(configuration).expect("a connection")
}

/// Offer and answer. `wanted` tells the peer what to offer or to answer with; `prepare` adds tracks here.
async fn negotiate(
    peer: &mut Peer,
    connection: &PeerConnection,
    we_offer: bool,
    wanted: Value,
    trickle: bool,
    bundles: bool,
    prepare: impl Fn(&PeerConnection),
) -> Step {
    let passed_on = |sdp: &str| match bundles {
        true => sdp.to_owned(),
        false => without_bundle(sdp),
    };
    let from = |kind: &str, value: &Value| {
        let sdp = value["sdp"].as_str().ok_or("no description")?;
        Description::from_parts(kind, passed_on(sdp)).map_err(text)
    };
    let ours = async || {
        connection.set_local_description(None).await.map_err(text)?;
        let description = limit("gathering", connection.gathered()).await?;
        Ok::<_, String>(passed_on(&description.ok_or("closed")?.sdp))
    };
    if we_offer {
        prepare(connection);
        let mut wanted = wanted;
        wanted["sdp"] = ours().await?.into();
        let answer = peer.ask("answer", wanted).await?;
        let answer = from("answer", &answer)?;
        connection.set_remote_description(&answer).map_err(text)
    } else {
        let mut offer = from("offer", &peer.ask("offer", wanted).await?)?;
        let mut candidates = Vec::new();
        if trickle {
            (offer.sdp, candidates) = without_candidates(&offer.sdp);
        }
        connection.set_remote_description(&offer).map_err(text)?;
        prepare(connection);
        let sdp = ours().await?;
        peer.ask("accept", json!({ "sdp": sdp })).await?;
        candidates
            .iter()
            .try_for_each(|candidate| connection.add_ice_candidate(candidate))
            .map_err(text)
    }
}

/// A description without its candidates, and those, all of the first section.
fn without_candidates(sdp: &str) -> (String, Vec<IceCandidate>) {
    let is_candidate = |line: &&str| line.starts_with("a=candidate:");
    let (candidates, rest): (Vec<&str>, Vec<&str>) = sdp.lines().partition(is_candidate);
    let rest = rest.iter().filter(|line| **line != "a=end-of-candidates");
    let candidates = candidates.iter().map(|line| IceCandidate {
        candidate: line[2..].to_owned(),
        sdp_mline_index: Some(0),
        ..IceCandidate::default()
    });
    let rest = rest.flat_map(|line| [line, "\r\n"]).collect();
    (rest, candidates.collect())
}

async fn channel(connection: &PeerConnection) -> Step<DataChannel> {
    limit("a channel", async {
        while let Some(event) = connection.next_event().await {
            if let Event::DataChannel(channel) = event {
                return Ok(channel);
            }
        }
        Err("closed".to_owned())
    })
    .await?
}

fn pattern(size: usize) -> Vec<u8> {
    (0..size).map(|index| (index % 251) as u8).collect()
}

/// Media where nobody has heard of BUNDLE.
const APART: &str = "without BUNDLE";

/// What one call showed, feature by feature.
type Marks = Vec<(&'static str, Step)>;

/// A channel: text and bytes both ways, a large message both ways, and its end.
async fn messages(program: &Program, we_offer: bool) -> Step<Marks> {
    let mut peer = program.start().await?;
    let connection = connection();
    let wanted = json!({ "data": true });
    let mut channel = if we_offer {
        let ours = connection.create_data_channel("chat", ChannelOptions::default());
        negotiate(&mut peer, &connection, true, wanted, false, true, |_| ()).await?;
        ours.map_err(text)?
    } else {
        negotiate(
            &mut peer,
            &connection,
            false,
            wanted,
            program.trickle,
            true,
            |_| (),
        )
        .await?;
        channel(&connection).await?
    };
    let mut marks = Marks::new();
    let small = small(&mut peer, &mut channel).await;
    let works = small.is_ok();
    marks.push(("channel", small));
    if works {
        let theirs = connection.remote_description().map(|it| it.sdp);
        let most = theirs.and_then(|sdp| {
            let line = sdp
                .lines()
                .find_map(|line| line.strip_prefix("a=max-message-size:"));
            line.and_then(|line| line.trim().parse::<usize>().ok())
        });
        // RFC 8841 section 6.1: 64 KiB where nothing is said, any size where it is 0.
        let size = match most.unwrap_or(65_536) {
            0 => LARGE,
            most => most.min(LARGE),
        };
        let step = large(&mut peer, &mut channel, size).await;
        marks.push(("large message", step));
    }
    marks.push(("close", close(&mut peer, &connection, &channel).await));
    Ok(marks)
}

async fn small(peer: &mut Peer, channel: &mut DataChannel) -> Step {
    limit("an open channel", channel.opened())
        .await?
        .map_err(text)?;
    channel.feed("from here").await.map_err(text)?;
    let got = peer.request("receive").await?;
    expect(&got, &json!({ "text": "from here" }))?;
    channel.feed(pattern(1000)).await.map_err(text)?;
    let got = peer.request("receive").await?;
    expect(&got, &json!({ "size": 1000, "good": true }))?;
    peer.ask("send", json!({ "text": "from there" })).await?;
    let got = limit("text", channel.recv()).await?;
    expect(&got, &Some("from there".into()))?;
    peer.ask("send", json!({ "size": 1000 })).await?;
    let got = limit("bytes", channel.recv()).await?;
    expect(&got, &Some(Message::from(pattern(1000))))
}

async fn large(peer: &mut Peer, channel: &mut DataChannel, size: usize) -> Step {
    channel.feed(pattern(size)).await.map_err(text)?;
    let got = peer.request("receive").await?;
    expect(&got, &json!({ "size": size, "good": true }))?;
    peer.ask("send", json!({ "size": size })).await?;
    let got = limit("the large message", channel.recv()).await?;
    if got != Some(Message::from(pattern(size))) {
        return Err("the large message came back otherwise".to_owned());
    }
    Ok(())
}

/// We close the channel, then the peer its connection.
async fn close(peer: &mut Peer, connection: &PeerConnection, channel: &DataChannel) -> Step {
    channel.close();
    peer.request("over").await?;
    peer.request("close").await?;
    limit("the end of the connection", async {
        while let Some(event) = connection.next_event().await {
            let over = |state| {
                matches!(
                    state,
                    ConnectionState::Closed
                        | ConnectionState::Failed
                        | ConnectionState::Disconnected
                )
            };
            if matches!(event, Event::ConnectionState(state) if over(state)) {
                return;
            }
        }
    })
    .await
}

fn expect<T: PartialEq + std::fmt::Debug>(got: &T, expected: &T) -> Step {
    match got == expected {
        true => Ok(()),
        false => Err(format!("{got:?} instead of {expected:?}")),
    }
}

/// Opus and VP8 both ways: frames are put together here, and packets or frames are counted there. Where nobody bundles, each
/// has a transport.
async fn media(program: &Program, we_offer: bool, bundles: bool) -> Step<Marks> {
    let mut peer = program.start().await?;
    let connection = connection();
    let mut wanted = json!({ "media": true });
    if !bundles {
        wanted["bundles"] = false.into();
    }
    let trickle = program.trickle;
    negotiate(
        &mut peer,
        &connection,
        we_offer,
        wanted,
        trickle,
        bundles,
        |connection| {
            for kind in [Kind::Audio, Kind::Video] {
                if we_offer {
                    let init = TransceiverInit::default();
                    connection
                        .add_transceiver(kind, init)
                        .expect("a transceiver");
                } else {
                    let track = connection.add_track(kind, kind.name(), &["s".into()]);
                    track.expect("a track");
                }
            }
        },
    )
    .await?;
    let of = |kind| {
        let mut all = connection.transceivers().into_iter();
        all.find(|transceiver| transceiver.kind() == Some(kind))
            .ok_or("no transceiver")
    };
    let (audio, video) = (of(Kind::Audio)?, of(Kind::Video)?);
    let _clip = Clip::play(audio.sender(), video.sender());
    let (sound, pictures) = tokio::join!(frames(audio.receiver()), frames(video.receiver()));
    let there = peer.request("media").await.map(drop);
    let unread = connection.with_core(|core| core.media_stats().malformed_rtcp);
    if unread > 0 {
        return Err(format!("{unread} of its RTCP packets could not be read"));
    }
    let both = |here: Step| here.and_then(|()| there.clone());
    if bundles {
        return Ok(vec![("Opus", both(sound)), ("VP8", both(pictures))]);
    }
    let transports = connection.with_core(|core| core.transports().count());
    let apart = expect(&transports, &2).and(sound).and(pictures);
    Ok(vec![(APART, both(apart))])
}

/// Twenty frames come.
async fn frames(receiver: RtpReceiver) -> Step {
    let mut count = 0;
    let reading = async {
        while count < 20 {
            let Some(frame) = receiver.recv_frame().await else {
                return;
            };
            count += u32::from(!matches!(
                frame.kind,
                FrameKind::Lost | FrameKind::Redundant
            ));
        }
    };
    let _ = tokio::time::timeout(LIMIT, reading).await;
    match count {
        20 => Ok(()),
        _ => Err(format!("{count} frames came here")),
    }
}

/// All calls with a peer. What is in `known` may fail, for the reason that it gives.
async fn all(program: Program, known: &[(&str, &str)]) {
    if !in_namespace() {
        return;
    }
    if let Some(reason) = program.missing().await {
        // CI runs those that it has installed.
        eprintln!("skipped: {}: {reason}", program.folder);
        return;
    }
    let name = program.start().await.expect("the peer starts").name;
    let mut failed = Vec::new();
    let mut rows: Vec<(String, Step)> = Vec::new();
    for we_offer in [true, false] {
        let who = if we_offer { "we offer" } else { "it offers" };
        for (call, marks) in [
            ("channel", messages(&program, we_offer).await),
            ("Opus", media(&program, we_offer, true).await),
            (
                APART,
                match known.iter().any(|(what, _)| *what == APART) {
                    true => Err("not tried".to_owned()),
                    false => media(&program, we_offer, false).await,
                },
            ),
        ] {
            match marks {
                Ok(marks) => rows.extend(
                    marks
                        .into_iter()
                        .map(|(what, step)| (format!("{what}, {who}"), step)),
                ),
                Err(error) => rows.push((format!("{call}, {who}"), Err(error))),
            }
        }
    }
    for (what, step) in rows {
        let reason = known.iter().find(|(known, _)| what.starts_with(known));
        match (step, reason) {
            (Ok(()), _) => saw(&name, &what, "✓"),
            (Err(error), Some((_, reason))) => {
                eprintln!("{name}: {what}: {error}");
                saw(&name, &what, &format!("— {reason}"));
            }
            (Err(error), None) => {
                saw(&name, &what, "✗");
                failed.push(format!("{what}: {error}"));
            }
        }
    }
    assert!(failed.is_empty(), "{name}: {failed:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn aiortc() {
    all(AIORTC, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn werift() {
    all(WERIFT, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn node_datachannel() {
    all(NODE_DATACHANNEL, &[(APART, ALWAYS_BUNDLES)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn wrtc() {
    all(WRTC, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn gstreamer() {
    all(GSTREAMER, &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: builds str0m"]
async fn str0m() {
    all(STR0M, &[(APART, ALWAYS_BUNDLES)]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "long: builds the crate webrtc"]
async fn webrtc() {
    all(WEBRTC, &[(APART, ALWAYS_BUNDLES)]).await;
}
