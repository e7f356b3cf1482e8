//! Sound and pictures between this stack and the browsers, offered by either side.

use std::time::{Duration, Instant};

use interop_browser::{Call, Conditions, Echo, Kind, Plan, Side, tests, within};
use serde_json::{Value, json};
use visavis::{
    Direction, Event, FrameKind, Kind as MediaKind, OutgoingFrame, RtpBatch, TransceiverInit,
};

/// Sound and pictures both ways, offered by one side.
async fn talk(call: &mut Call, offerer: Side) -> Echo {
    match offerer {
        Side::Here => {
            for kind in [MediaKind::Audio, MediaKind::Video] {
                let init = TransceiverInit::default();
                call.connection.add_transceiver(kind, init).unwrap();
            }
            call.negotiate(offerer).await;
        }
        Side::Page => {
            let tracks = "pc.addTrack(tone()); pc.addTrack(picture())";
            answer(call, tracks, &[MediaKind::Audio, MediaKind::Video]).await;
        }
    }
    Echo::of(&call.connection)
}

/// The page adds its tracks and offers; we answer with as many of ours.
async fn answer(call: &mut Call, tracks: &str, kinds: &[MediaKind]) {
    call.page.eval(tracks).await;
    let offer = call.page.eval("offer()").await;
    call.take(&offer);
    for &kind in kinds {
        let track = format!("{kind:?}");
        call.connection.add_track(kind, &track, &[]).unwrap();
    }
    let answer = call.our_description().await;
    call.page
        .call("await pc.setRemoteDescription(argument)", answer)
        .await;
}

/// Waits until the page has decoded so many more pictures, and packets of sound came with them.
async fn decoded(call: &Call, pictures: u64, sounds: u64) -> Value {
    let wait = format!("until({pictures}, {sounds})");
    let report = within("pictures", call.page.eval(&wait)).await;
    let what = format!("{:?} {}: {report}", call.plan().kind, call.browser.version);
    assert!(report["decoded"].as_u64() >= Some(pictures), "{what}");
    assert!(report["sound"].as_u64() >= Some(sounds), "{what}");
    report
}

/// One codec for pictures, and Opus: frames arrive here and go back, and what the page shows moves.
async fn echoes(kind: Kind, codec: &str, offerer: Side) {
    let Some(mut call) = Call::new(Plan::new(kind).video(codec)).await else {
        return;
    };
    let mime = format!("video/{codec}");
    let has = call
        .page
        .call("return has('video', argument)", json!(mime))
        .await;
    if has != true {
        interop_common::cannot(&format!("has no {codec}"));
        return;
    }
    let echo = talk(&mut call, offerer).await;
    let report = decoded(&call, 30, 50).await;
    assert_eq!(report["width"], 320);
    let used = report["codec"].as_str().unwrap_or_default();
    assert!(used.eq_ignore_ascii_case(&mime), "{report}");
    let look = within("a look", call.page.eval("look()")).await;
    assert!(look["brightest"].as_u64() > Some(64), "black: {look}");
    assert!(look["change"].as_u64() >= Some(32), "still: {look}");
    let (pictures, keys, sounds) = (echo.pictures(), echo.keys(), echo.sounds());
    assert!(pictures >= 30, "{pictures} pictures came here");
    assert!(keys >= 1, "no key frame came here");
    assert!(sounds >= 50, "{sounds} frames of sound came here");
    let dropped = call.connection.with_core(|core| core.media_stats());
    assert_eq!(dropped.malformed_rtcp, 0, "all reports are read");
}

/// The page sends three layers by rid; each arrives.
async fn three_layers(kind: Kind) {
    let Some(mut call) = Call::new(Plan::new(kind).video("VP8")).await else {
        return;
    };
    call.page
        .eval(
            "pc.addTransceiver(picture(1280, 720), { direction: 'sendonly', sendEncodings: [
               { rid: 'q', scaleResolutionDownBy: 4, maxBitrate: 200000 },
               { rid: 'h', scaleResolutionDownBy: 2, maxBitrate: 500000 },
               { rid: 'f', maxBitrate: 1200000 } ] })",
        )
        .await;
    call.negotiate(Side::Page).await;
    let receiver = call.connection.transceivers()[0].receiver();
    assert_eq!(receiver.rids(), ["q", "h", "f"]);
    let mut seen = [0u32; 3];
    let packets = async {
        let mut batch = RtpBatch::new();
        while seen.iter().any(|&count| count < 30) && receiver.recv_rtp(&mut batch).await {
            for packet in batch.iter() {
                seen[packet.encoding.expect("a rid")] += 1;
            }
        }
    };
    let all = tokio::time::timeout(Duration::from_secs(35), packets).await;
    assert!(all.is_ok(), "packets of q, h, f: {seen:?}");
}

/// The page sends three spatial and three temporal layers in one stream (W3C webrtc-svc): each is put together here, and
/// the page decodes them all when they come back.
async fn scalable(kind: Kind, codec: &str) {
    let Some(mut call) = Call::new(Plan::new(kind).video(codec)).await else {
        return;
    };
    // The least size that Chromium divides into three layers.
    let tracks = "pc.addTransceiver(picture(960, 540), {
        sendEncodings: [{ scalabilityMode: 'L3T3', maxBitrate: 2500000 }] })";
    answer(&mut call, tracks, &[MediaKind::Video]).await;
    let echo = Echo::of(&call.connection);
    let deadline = Instant::now() + Duration::from_secs(35);
    let report = loop {
        let report = decoded(&call, 15, 0).await;
        if echo.layers() == (2, 2) && report["width"] == 960 {
            break report;
        }
        let what = format!("layers {:?} came; {report}", echo.layers());
        assert!(Instant::now() < deadline, "{what}");
    };
    let used = report["codec"].as_str().unwrap_or_default();
    assert!(
        used.eq_ignore_ascii_case(&format!("video/{codec}")),
        "{report}"
    );
    let look = within("a look", call.page.eval("look()")).await;
    assert!(look["change"].as_u64() >= Some(32), "still: {look}");
}

/// A twentieth of the datagrams gets lost each way.
fn lossy(kind: Kind) -> Plan {
    let line = Conditions {
        loss: 0.05,
        delay: Duration::from_millis(10),
        ..Conditions::default()
    };
    Plan {
        line: Some(line),
        ..Plan::new(kind)
    }
}

/// What is lost is asked for and sent again, in both directions.
async fn retransmission(kind: Kind) {
    let Some(mut call) = Call::new(lossy(kind).video("VP8")).await else {
        return;
    };
    let echo = talk(&mut call, Side::Here).await;
    let counters = || {
        call.connection.with_core(|core| {
            let came = core
                .inbound_stats()
                .map(|stream| stream.retransmitted_packets_received)
                .sum::<u64>();
            let sent = core.outbound_stats();
            let (sent_again, asked) = sent.fold((0, 0), |(again, asked), stream| {
                let again = again + stream.retransmitted_packets_sent;
                (again, asked + stream.nacks_received)
            });
            (came, sent_again, asked)
        })
    };
    let deadline = Instant::now() + Duration::from_secs(35);
    let mut report = decoded(&call, 150, 50).await;
    // Which packets get lost is chance.
    while matches!(counters(), (0, ..) | (_, 0, _)) && Instant::now() < deadline {
        report = decoded(&call, 15, 5).await;
    }
    let (came_again, sent_again, asked) = counters();
    let what = format!(
        "{} pictures here, {came_again} packets came again; asked {asked} times, {sent_again} sent again; {report}",
        echo.pictures()
    );
    assert!(came_again > 0, "nothing came again: {what}");
    // What the page does not take, it asks for again and again.
    assert!(asked <= 2 * sent_again + 10, "{what}");
    assert!(sent_again > 0, "nothing was sent again: {what}");
}

/// What is lost stays lost, unless parity brings it back.
fn give_up_nack(plan: &mut Plan) {
    for codec in &mut std::sync::Arc::make_mut(&mut plan.configuration.advanced.codecs).video {
        codec.feedback.retain(|feedback| feedback != "nack");
        codec.rtx = None;
    }
}

/// Without retransmission, the browser sends parity (ULPFEC in RED), and lost packets are recovered.
async fn parity(kind: Kind) {
    let mut plan = lossy(kind).video("VP8");
    give_up_nack(&mut plan);
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let _echo = talk(&mut call, Side::Here).await;
    let deadline = Instant::now() + Duration::from_secs(35);
    loop {
        let recovered: u64 = call.connection.with_core(|core| {
            let videos = core.inbound_stats().filter_map(|stream| stream.video);
            videos.map(|video| video.recovered).sum()
        });
        if recovered > 0 {
            return;
        }
        assert!(Instant::now() < deadline, "parity recovered nothing");
        decoded(&call, 15, 10).await;
    }
}

/// Without retransmission, both send parity on a source of its own (FlexFEC), and lost packets are recovered.
async fn parity_of_its_own(kind: Kind) {
    let mut plan = lossy(kind).video("VP8");
    plan.flags =
        vec!["--force-fieldtrials=WebRTC-FlexFEC-03-Advertised/Enabled/WebRTC-FlexFEC-03/Enabled/"];
    let codecs = std::sync::Arc::make_mut(&mut plan.configuration.advanced.codecs);
    *codecs = codecs.clone().with_flexfec();
    codecs
        .video
        .retain(|codec| codec.is("VP8") || codec.is("flexfec-03"));
    give_up_nack(&mut plan);
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    let _echo = talk(&mut call, Side::Here).await;
    let deadline = Instant::now() + Duration::from_secs(35);
    let there = "(async () => [...(await pc.getStats()).values()]
        .reduce((sum, { fecPacketsReceived }) => sum + (fecPacketsReceived ?? 0), 0))()";
    loop {
        let (came, recovered) = call.connection.with_core(|core| {
            let mut sums = (0, 0);
            for stream in core.inbound_stats() {
                sums.0 += stream.fec_packets_received;
                sums.1 += stream.video.map_or(0, |video| video.recovered);
            }
            sums
        });
        let there = within("statistics", call.page.eval(there)).await;
        if recovered > 0 && there.as_u64() > Some(0) {
            return;
        }
        let what = format!("{came} came here, {recovered} were recovered; {there} came there");
        assert!(Instant::now() < deadline, "{what}");
        decoded(&call, 15, 10).await;
    }
}

/// Key presses in the page arrive here under the payload type of telephone-event.
async fn page_presses_keys(kind: Kind) {
    let Some(mut call) = Call::new(Plan::new(kind)).await else {
        return;
    };
    call.page
        .eval("globalThis.sender = pc.addTrack(tone())")
        .await;
    call.negotiate(Side::Page).await;
    let receiver = call.connection.transceivers()[0].receiver();
    let types: Vec<u8> = receiver
        .codecs()
        .iter()
        .filter(|codec| codec.is("telephone-event"))
        .map(|codec| codec.payload_type)
        .collect();
    assert!(!types.is_empty(), "telephone-event was not negotiated");
    let keys = "(async () => { while (!sender.dtmf?.canInsertDTMF) await pause(20); sender.dtmf.insertDTMF('15#', 100) })()";
    within("keys", call.page.eval(keys)).await;
    let mut pressed = Vec::new();
    within("three keys", async {
        let mut batch = RtpBatch::new();
        while pressed.len() < 3 && receiver.recv_rtp(&mut batch).await {
            for packet in batch.iter() {
                let packet = visavis_rtp::Packet::parse(&packet.bytes).expect("RTP");
                // RFC 4733 section 2.3: the event is the first byte.
                if types.contains(&packet.payload_type().value()) {
                    pressed.extend(packet.payload().first().copied());
                    pressed.dedup();
                }
            }
        }
    })
    .await;
    assert_eq!(pressed, [1, 5, 11]);
}

/// Key presses here reach the page, which hears nothing else.
async fn we_press_keys(kind: Kind) {
    let Some(mut call) = Call::new(Plan::new(kind)).await else {
        return;
    };
    let sender = call.connection.add_track(MediaKind::Audio, "a", &[]);
    call.negotiate(Side::Here).await;
    let connected = visavis::ConnectionState::Connected;
    call.event("connected", |event| {
        matches!(event, Event::ConnectionState(state) if state == connected).then_some(())
    })
    .await;
    let sender = sender.unwrap();
    // Events have their times by the clock of the sound before them.
    let silence = OutgoingFrame::new(0, false, &[0xf8, 0xff, 0xfe]);
    sender.send_frame(&silence).unwrap();
    let (duration, gap) = (Duration::from_millis(100), Duration::from_millis(50));
    sender.insert_dtmf("19", duration, gap).unwrap();
    let report = within("packets", call.page.eval("until(0, 8)")).await;
    assert!(report["sound"].as_u64() >= Some(8), "{report}");
}

/// The line shrinks to a quarter: what the page sends follows. Our own estimate is not tried here: what goes back is what
/// came, never more than fits.
async fn bandwidth(kind: Kind) {
    let line = Conditions {
        rate: 1_500_000,
        delay: Duration::from_millis(20),
        ..Conditions::default()
    };
    let plan = Plan {
        line: Some(line),
        ..Plan::new(kind).video("VP8")
    };
    let Some(mut call) = Call::new(plan).await else {
        return;
    };
    call.page
        .eval("globalThis.media = (kind) => (kind === 'video' ? noise(640, 480) : tone())")
        .await;
    let _echo = talk(&mut call, Side::Here).await;
    decoded(&call, 60, 50).await;
    // What arrives here in a second.
    let arriving = async |seconds: u64| {
        let bytes = || {
            call.connection.with_core(|core| {
                let streams = core.inbound_stats();
                streams.map(|stream| stream.bytes_received).sum::<u64>()
            })
        };
        let before = bytes();
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        8 * (bytes() - before) / seconds
    };
    let wide = arriving(4).await;
    call.line
        .as_ref()
        .unwrap()
        .change(|line| line.rate = 400_000);
    tokio::time::sleep(Duration::from_secs(5)).await;
    let narrow = arriving(4).await;
    eprintln!("{kind:?}: {wide} bit/s arrived over 1.5 Mbit/s, {narrow} over 400 kbit/s");
    assert!(narrow < 400_000, "{narrow} of 400000");
    if wide < 450_000 {
        interop_common::cannot("its encoder did not fill the line here");
    }
    // Pictures go on.
    decoded(&call, 10, 10).await;
}

/// What we send only, and what the page sends only.
async fn one_way(kind: Kind, offerer: Side) {
    let Some(mut call) = Call::new(Plan::new(kind).video("VP8")).await else {
        return;
    };
    let receiver = match offerer {
        Side::Here => {
            let init = TransceiverInit {
                direction: Direction::RecvOnly,
                ..TransceiverInit::default()
            };
            let transceiver = call.connection.add_transceiver(MediaKind::Video, init);
            call.negotiate(offerer).await;
            transceiver.unwrap().receiver()
        }
        Side::Page => {
            call.page
                .eval("pc.addTransceiver(picture(), { direction: 'sendonly' })")
                .await;
            call.negotiate(offerer).await;
            call.connection.transceivers()[0].receiver()
        }
    };
    let mut kinds = Vec::new();
    within("frames", async {
        while kinds.len() < 30 {
            let frame = receiver.recv_frame().await.expect("a frame");
            kinds.push(frame.kind);
        }
    })
    .await;
    assert_eq!(kinds[0], FrameKind::Key, "the first can be decoded");
}

tests! {
    chromium_echoes_vp8_as_we_offer: echoes(Kind::Chromium, "VP8", Side::Here);
    chromium_echoes_vp8_as_it_offers: echoes(Kind::Chromium, "VP8", Side::Page);
    chromium_echoes_vp9_as_we_offer: echoes(Kind::Chromium, "VP9", Side::Here);
    chromium_echoes_vp9_as_it_offers: echoes(Kind::Chromium, "VP9", Side::Page);
    chromium_echoes_h264_as_we_offer: echoes(Kind::Chromium, "H264", Side::Here);
    chromium_echoes_h264_as_it_offers: echoes(Kind::Chromium, "H264", Side::Page);
    chromium_echoes_av1_as_we_offer: echoes(Kind::Chromium, "AV1", Side::Here);
    chromium_echoes_av1_as_it_offers: echoes(Kind::Chromium, "AV1", Side::Page);
    chromium_answers_what_we_only_receive: one_way(Kind::Chromium, Side::Here);
    chromium_offers_what_it_only_sends: one_way(Kind::Chromium, Side::Page);
    chromium_sends_three_layers: three_layers(Kind::Chromium);
    chromium_sends_scalable_vp9: scalable(Kind::Chromium, "VP9");
    chromium_sends_scalable_av1: scalable(Kind::Chromium, "AV1");
    chromium_and_we_send_again: retransmission(Kind::Chromium);
    chromium_sends_parity: parity(Kind::Chromium);
    chromium_and_we_send_flexfec: parity_of_its_own(Kind::Chromium);
    chromium_presses_keys: page_presses_keys(Kind::Chromium);
    we_press_keys_for_chromium: we_press_keys(Kind::Chromium);
    #[ignore = "long: an estimate settles twice, half a minute"]
    chromium_follows_a_shrinking_line: bandwidth(Kind::Chromium);

    firefox_echoes_vp8_as_we_offer: echoes(Kind::Firefox, "VP8", Side::Here);
    firefox_echoes_vp8_as_it_offers: echoes(Kind::Firefox, "VP8", Side::Page);
    firefox_echoes_vp9_as_we_offer: echoes(Kind::Firefox, "VP9", Side::Here);
    firefox_echoes_vp9_as_it_offers: echoes(Kind::Firefox, "VP9", Side::Page);
    firefox_echoes_h264_as_we_offer: echoes(Kind::Firefox, "H264", Side::Here);
    firefox_echoes_av1_as_we_offer: echoes(Kind::Firefox, "AV1", Side::Here);
    firefox_echoes_av1_as_it_offers: echoes(Kind::Firefox, "AV1", Side::Page);
    firefox_answers_what_we_only_receive: one_way(Kind::Firefox, Side::Here);
    firefox_offers_what_it_only_sends: one_way(Kind::Firefox, Side::Page);
    firefox_sends_three_layers: three_layers(Kind::Firefox);
    firefox_and_we_send_again: retransmission(Kind::Firefox);
    firefox_sends_parity: parity(Kind::Firefox);
    firefox_presses_keys: page_presses_keys(Kind::Firefox);
    we_press_keys_for_firefox: we_press_keys(Kind::Firefox);
    #[ignore = "long: an estimate settles twice, half a minute"]
    firefox_follows_a_shrinking_line: bandwidth(Kind::Firefox);
}
