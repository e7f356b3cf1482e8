//! Negotiation after negotiation between this stack and the browsers: tracks come and go, sections are
//! used again, offers cross or are taken back, ICE begins anew.

use std::time::Duration;

use interop_browser::{Call, Echo, Kind, Page, Plan, Side, tests, within};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use visavis::{
    Description, Direction, Event, Kind as MediaKind, PeerConnection, SignalingState,
    TransceiverInit,
};

async fn decoded(call: &Call, pictures: u64) {
    let wait = format!("until({pictures}, 0)");
    let report = within("pictures", call.page.eval(&wait)).await;
    assert!(report["decoded"].as_u64() >= Some(pictures), "{report}");
}

fn mids(call: &Call) -> Vec<Option<String>> {
    let transceivers = call.connection.transceivers();
    transceivers
        .iter()
        .map(visavis::RtpTransceiver::mid)
        .collect()
}

/// The number of sections, and of those that are rejected.
fn sections(call: &Call) -> (usize, usize) {
    let sdp = call.connection.local_description().expect("one").sdp;
    let rejected = sdp
        .lines()
        .filter(|line| line.starts_with("m=") && line.split(' ').nth(1) == Some("0"));
    (sdp.matches("\nm=").count(), rejected.count())
}

/// A channel first; then pictures are added, removed, added again and stopped, and the section of what
/// was stopped is used for sound. The channel works all along.
async fn tracks_come_and_go(kind: Kind, offerer: Side) {
    let Some(mut call) = Call::new(Plan::new(kind).video("VP8")).await else {
        return;
    };
    let channel = call.connect(offerer).await;
    assert_eq!(sections(&call), (1, 0));

    add(&mut call, offerer, MediaKind::Video).await;
    let echo = Echo::of(&call.connection);
    decoded(&call, 10).await;
    assert_eq!(sections(&call), (2, 0));

    // Removed: the section stays, and nothing flows in that direction.
    match offerer {
        Side::Here => {
            let sender = call.connection.transceivers()[0].sender();
            call.connection.remove_track(&sender).unwrap();
        }
        Side::Page => drop(call.page.eval("pc.removeTrack(pc.getSenders()[0])").await),
    }
    call.negotiate(offerer).await;
    let direction = call.connection.transceivers()[0].current_direction();
    let expected = match offerer {
        Side::Here => visavis::TransceiverDirection::RecvOnly,
        Side::Page => visavis::TransceiverDirection::SendOnly,
    };
    assert_eq!(direction, Some(expected));
    assert_eq!(sections(&call), (2, 0));

    // Sent again: the same section.
    match offerer {
        Side::Here => {
            let transceiver = &call.connection.transceivers()[0];
            transceiver.sender().replace_track(Some("again")).unwrap();
            transceiver.set_direction(Direction::SendRecv).unwrap();
        }
        Side::Page => {
            let again = "pc.getTransceivers()[0].direction = 'sendrecv';
                         pc.getSenders()[0].replaceTrack(picture())";
            call.page.eval(again).await;
        }
    }
    call.negotiate(offerer).await;
    decoded(&call, 10).await;
    assert_eq!(sections(&call), (2, 0));
    drop(echo);

    // Stopped: the section is rejected.
    match offerer {
        Side::Here => call.connection.transceivers()[0].stop().unwrap(),
        Side::Page => drop(call.page.eval("pc.getTransceivers()[0].stop()").await),
    }
    call.negotiate(offerer).await;
    assert_eq!(sections(&call), (2, 1));
    assert_eq!(mids(&call), Vec::<Option<String>>::new());

    // Recycled: sound takes its place.
    add(&mut call, offerer, MediaKind::Audio).await;
    let _echo = Echo::of(&call.connection);
    let expected = match (kind, offerer) {
        // Firefox 153 makes a new section all the same.
        (Kind::Firefox, Side::Page) => (3, 1),
        _ => (2, 0),
    };
    assert_eq!(sections(&call), expected);
    let report = within("sound", call.page.eval("until(0, 25)")).await;
    assert!(report["sound"].as_u64() >= Some(25), "{report}");

    within("text", channel.feed("still here")).await.unwrap();
    let got = within("the text", call.page.eval("messages(1)")).await;
    assert_eq!(got, json!(["still here"]));
}

async fn add(call: &mut Call, offerer: Side, kind: MediaKind) {
    match offerer {
        Side::Here => {
            call.connection.add_track(kind, "ours", &[]).unwrap();
            call.negotiate(offerer).await;
        }
        Side::Page => {
            let add = format!("pc.addTrack(media('{}'))", kind.name());
            call.page.eval(&add).await;
            let offer = call.page.eval("offer()").await;
            call.take(&offer);
            call.connection.add_track(kind, "back", &[]).unwrap();
            let answer = call.our_description().await;
            call.page
                .call("await pc.setRemoteDescription(argument)", answer)
                .await;
        }
    }
}

/// The page offers, we do, the page does: roles that were agreed stay, whatever is said of them.
async fn in_turn(kind: Kind) {
    let Some(mut call) = Call::new(Plan::new(kind).video("VP8")).await else {
        return;
    };
    let channel = call.connect(Side::Page).await;
    add(&mut call, Side::Here, MediaKind::Video).await;
    add(&mut call, Side::Page, MediaKind::Audio).await;
    call.negotiate(Side::Here).await;
    within("text", channel.feed("all along")).await.unwrap();
    let got = within("the text", call.page.eval("messages(1)")).await;
    assert_eq!(got, json!(["all along"]));
    assert_eq!(sections(&call), (3, 0));
}

/// Neither end hears of BUNDLE: sound, pictures and the channel have a transport each, begin anew, and go on.
async fn without_bundle(kind: Kind, offerer: Side) {
    let mut plan = Plan::new(kind).video("VP8");
    plan.bundles = false;
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    for kind in [MediaKind::Audio, MediaKind::Video] {
        call.connection.add_track(kind, kind.name(), &[]).unwrap();
    }
    if offerer == Side::Page {
        let add = "['audio', 'video'].forEach((kind) => pc.addTrack(media(kind)))";
        call.page.eval(add).await;
    }
    let channel = call.connect(offerer).await;
    let _echo = Echo::of(&call.connection);
    let both = |report: &Value| {
        let counts = ["decoded", "sound"].map(|key| report[key].as_u64());
        assert!(counts >= [Some(10); 2], "{report}");
    };
    both(&within("sound and pictures", call.page.eval("until(10, 10)")).await);
    let transports = |call: &Call| call.connection.with_core(|core| core.transports().count());
    assert_eq!(transports(&call), 3);
    assert_eq!(
        call.page
            .eval("stats('transport').then((all) => all.length)")
            .await,
        json!(3)
    );
    within("text", channel.feed("apart")).await.unwrap();
    let got = within("the text", call.page.eval("messages(1)")).await;
    assert_eq!(got, json!(["apart"]));

    call.connection.restart_ice();
    call.negotiate(Side::Here).await;
    both(&within("more of both", call.page.eval("until(30, 30)")).await);
    within("text", channel.feed("still")).await.unwrap();
    let got = within("the text", call.page.eval("messages(2)")).await;
    assert_eq!(got, json!(["apart", "still"]));
    assert_eq!(transports(&call), 3);
}

/// Our offer is taken back by us, and by the page, and everything works afterwards.
async fn rollback(kind: Kind) {
    let Some(mut call) = Call::new(Plan::new(kind).video("VP8")).await else {
        return;
    };
    let channel = call.connect(Side::Here).await;
    let init = TransceiverInit::default();
    call.connection
        .add_transceiver(MediaKind::Video, init)
        .unwrap();
    let offer = call.our_description().await;
    let back = Description::from_parts("rollback", "").unwrap();
    // Here.
    call.connection
        .set_local_description(Some(back))
        .await
        .unwrap();
    assert_eq!(call.connection.signaling_state(), SignalingState::Stable);
    assert_eq!(sections(&call), (1, 0));
    // There: it had come already.
    let state = call
        .page
        .call(
            "await pc.setRemoteDescription(argument);
             const before = pc.signalingState;
             await pc.setRemoteDescription({ type: 'rollback' });
             return [before, pc.signalingState, pc.getTransceivers().length]",
            offer,
        )
        .await;
    assert_eq!(state, json!(["have-remote-offer", "stable", 0]));
    // The page's turn.
    call.page.eval("pc.addTrack(picture())").await;
    call.negotiate(Side::Page).await;
    assert_eq!(sections(&call), (2, 0));
    within("text", channel.feed("after")).await.unwrap();
    let got = within("the text", call.page.eval("messages(1)")).await;
    assert_eq!(got, json!(["after"]));
}

/// What the page says by itself: W3C's perfect negotiation, with the messages in `signals`.
const PERFECT: &str = r"
  const { polite } = argument;
  globalThis.signals = [];
  globalThis.collided = 0;
  const say = (message) => { signals.push(message); globalThis.said?.(); };
  let [making, ignoring] = [false, false];
  pc.onnegotiationneeded = async () => {
    try {
      making = true;
      await pc.setLocalDescription();
      say({ description: pc.localDescription.toJSON() });
    } finally { making = false; }
  };
  pc.onicecandidate = (e) => say({ candidate: e.candidate?.toJSON() ?? { candidate: '', sdpMLineIndex: 0 } });
  globalThis.hear = async ({ description, candidate }) => {
    if (description) {
      const collision = description.type === 'offer' && (making || pc.signalingState !== 'stable');
      ignoring = !polite && collision;
      collided += collision;
      if (ignoring) return;
      await pc.setRemoteDescription(description);
      if (description.type === 'offer') {
        await pc.setLocalDescription();
        say({ description: pc.localDescription.toJSON() });
      }
    } else {
      try { await pc.addIceCandidate(candidate); } catch (e) { if (!ignoring) throw e; }
    }
  };
  globalThis.next = async () => {
    while (!signals.length) await new Promise((done) => { globalThis.said = done; });
    return signals.splice(0);
  };
";

/// Both ends want something at the same time; one is polite.
async fn glare(kind: Kind, polite: Side) {
    let Some(call) = Call::new(Plan::new(kind).video("VP8")).await else {
        return;
    };
    let is_page_polite = json!({ "polite": polite == Side::Page });
    call.page.call(PERFECT, is_page_polite).await;
    // Both offer before either has heard of the other.
    let channel = call
        .connection
        .create_data_channel("ours", Default::default())
        .unwrap();
    call.page.eval("pc.addTrack(picture())").await;
    // Chromium 156 cannot take such an offer back ("Failed to start SCTP transport"), with a connection
    // of its own on the other side no more than with us.
    if (kind, polite) != (Kind::Chromium, Side::Page) {
        call.page
            .eval("follow(pc.createDataChannel('theirs'))")
            .await;
    }
    call.connection.set_local_description(None).await.unwrap();
    call.page
        .eval("(async () => { while (pc.signalingState !== 'have-local-offer') await pause(5) })()")
        .await;
    let ours = call.connection.local_description().expect("an offer");

    let (say, mut said) = mpsc::unbounded_channel();
    say.send(json!({ "description": { "type": "offer", "sdp": ours.sdp } }))
        .unwrap();
    let negotiating = perfect(
        &call.connection,
        &call.page,
        &mut said,
        &say,
        polite == Side::Here,
    );
    let open = async {
        channel.opened().await.unwrap();
        call.page.eval("globalThis.opened").await;
        let stable = || call.connection.signaling_state() == SignalingState::Stable;
        while !stable() || call.page.eval("pc.signalingState").await != "stable" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::select! {
        () = negotiating => panic!("negotiation ended"),
        _ = within("open channels", open) => {}
    }
    channel.feed("through").await.unwrap();
    let collided = call.page.eval("collided").await;
    assert!(collided.as_u64() >= Some(1), "no offers crossed");
    let both = call.connection.transceivers();
    assert!(both.iter().all(|it| it.mid().is_some()));
}

/// Our side of perfect negotiation (webrtc-pc section 10.7).
async fn perfect(
    connection: &PeerConnection,
    page: &Page,
    said: &mut mpsc::UnboundedReceiver<Value>,
    say: &mpsc::UnboundedSender<Value>,
    polite: bool,
) {
    let mut ignoring = false;
    let mut next = Box::pin(page.eval("next()"));
    loop {
        tokio::select! {
            message = said.recv() => {
                page.call("await hear(argument)", message.expect("a message")).await;
            }
            messages = &mut next => {
                next = Box::pin(page.eval("next()"));
                for message in messages.as_array().expect("a list") {
                let kind = message["description"]["type"].as_str().unwrap_or_default();
                if !kind.is_empty() {
                    let collision = kind == "offer"
                        && connection.signaling_state() != SignalingState::Stable;
                    ignoring = collision && !polite;
                    if ignoring {
                        continue;
                    }
                    let sdp = message["description"]["sdp"].as_str().expect("SDP");
                    let description = Description::from_parts(kind, sdp).unwrap();
                    connection.set_remote_description(&description).unwrap();
                    if kind == "offer" {
                        connection.set_local_description(None).await.unwrap();
                        let answer = connection.local_description().expect("an answer");
                        say.send(json!({ "description": { "type": "answer", "sdp": answer.sdp } })).unwrap();
                    }
                } else {
                    let text = |key: &str| message["candidate"][key].as_str().map(str::to_owned);
                    let index = message["candidate"]["sdpMLineIndex"].as_u64();
                    let candidate = visavis::IceCandidate {
                        candidate: text("candidate").unwrap_or_default(),
                        sdp_mid: text("sdpMid"),
                        sdp_mline_index: index.map(|index| index as u16),
                        username_fragment: text("usernameFragment"),
                    };
                    let added = connection.add_ice_candidate(&candidate);
                    assert!(added.is_ok() || ignoring, "{added:?}: {candidate:?}");
                }
                }
            }
            event = connection.next_event() => match event.expect("open") {
                Event::IceCandidate(Some(candidate)) => say.send(json!({ "candidate": {
                    "candidate": candidate.candidate,
                    "sdpMid": candidate.sdp_mid,
                    "sdpMLineIndex": candidate.sdp_mline_index,
                    "usernameFragment": candidate.username_fragment,
                } })).unwrap(),
                Event::NegotiationNeeded
                    if connection.signaling_state() == SignalingState::Stable =>
                {
                    connection.set_local_description(None).await.unwrap();
                    let offer = connection.local_description().expect("an offer");
                    say.send(json!({ "description": { "type": "offer", "sdp": offer.sdp } })).unwrap();
                }
                _ => {}
            },
        }
    }
}

/// New credentials, and the pictures go on.
async fn ice_restart(kind: Kind, offerer: Side) {
    let Some(mut call) = Call::new(Plan::new(kind).video("VP8")).await else {
        return;
    };
    add(&mut call, offerer, MediaKind::Video).await;
    let _echo = Echo::of(&call.connection);
    decoded(&call, 10).await;
    let ufrags = |call: &Call| {
        let of = |description: Option<Description>| {
            let sdp = description.expect("a description").sdp;
            let ufrag = sdp.lines().find(|line| line.starts_with("a=ice-ufrag:"));
            ufrag.expect("a ufrag").to_owned()
        };
        let connection = &call.connection;
        (
            of(connection.local_description()),
            of(connection.remote_description()),
        )
    };
    let old = ufrags(&call);
    match offerer {
        Side::Here => call.connection.restart_ice(),
        Side::Page => drop(call.page.eval("pc.restartIce()").await),
    }
    call.negotiate(offerer).await;
    let new = ufrags(&call);
    assert!(old.0 != new.0 && old.1 != new.1, "{old:?} {new:?}");
    decoded(&call, 30).await;
    // The old path is gone: only the new one can carry this.
    let state = call.page.eval("pc.iceConnectionState").await;
    assert!(state == "connected" || state == "completed", "{state}");
}

tests! {
    tracks_come_and_go_as_we_offer_to_chromium: tracks_come_and_go(Kind::Chromium, Side::Here);
    tracks_come_and_go_as_chromium_offers: tracks_come_and_go(Kind::Chromium, Side::Page);
    chromium_and_we_offer_in_turn: in_turn(Kind::Chromium);
    chromium_answers_without_bundle: without_bundle(Kind::Chromium, Side::Here);
    chromium_offers_without_bundle: without_bundle(Kind::Chromium, Side::Page);
    chromium_takes_our_offer_back: rollback(Kind::Chromium);
    chromium_is_polite: glare(Kind::Chromium, Side::Page);
    chromium_is_impolite: glare(Kind::Chromium, Side::Here);
    we_restart_ice_with_chromium: ice_restart(Kind::Chromium, Side::Here);
    chromium_restarts_ice: ice_restart(Kind::Chromium, Side::Page);

    tracks_come_and_go_as_we_offer_to_firefox: tracks_come_and_go(Kind::Firefox, Side::Here);
    tracks_come_and_go_as_firefox_offers: tracks_come_and_go(Kind::Firefox, Side::Page);
    firefox_and_we_offer_in_turn: in_turn(Kind::Firefox);
    firefox_answers_without_bundle: without_bundle(Kind::Firefox, Side::Here);
    firefox_offers_without_bundle: without_bundle(Kind::Firefox, Side::Page);
    firefox_takes_our_offer_back: rollback(Kind::Firefox);
    firefox_is_polite: glare(Kind::Firefox, Side::Page);
    firefox_is_impolite: glare(Kind::Firefox, Side::Here);
    we_restart_ice_with_firefox: ice_restart(Kind::Firefox, Side::Here);
    firefox_restarts_ice: ice_restart(Kind::Firefox, Side::Page);
}
