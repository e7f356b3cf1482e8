//! Records what browsers send, as RTP in the clear: the fixtures of `crates/rtp` and `crates/media`.
//!
//! `cargo xtask capture` runs it in a network namespace. Each recording is an rtpdump file
//! (RTP and RTCP after SRTP, retransmissions left out) and a text file that says what its numbers mean.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use interop_browser::{Browser, Kind};
use serde_json::{Value, json};
use visavis_datagram::{Random, TransmitBuf};
use visavis_net::udp::{ReceiveBatch, UdpSocket};
use visavis_peer::{
    Codec, Configuration, Description, Kind as MediaKind, LocalAddress, PeerConnection, Received,
};
use visavis_rtp::file::rtpdump::RtpDumpWriter;
use visavis_rtp::rtcp::{Pli, ReportBlock, RtcpWriter};
use visavis_rtp::{Packet, SequenceExtender, Ssrc};

/// The namespace's address, which browsers can reach.
const ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 1);
/// How long a stream may take to begin.
const PATIENCE: Duration = Duration::from_secs(20);

/// One recording.
struct Plan {
    name: &'static str,
    browser: Kind,
    /// The codec's MIME subtype and, where there are several, a part of its `fmtp` line.
    codec: (&'static str, &'static str),
    width: u32,
    height: u32,
    fps: u32,
    /// `sendEncodings`.
    encodings: Value,
    /// How many streams there must be before the recording begins.
    streams: usize,
    seconds: f64,
    /// How long a browser takes to send all layers.
    warm_up: Duration,
    /// How often key frames are asked for, for layers to be switched.
    keyframes: Option<f64>,
    /// The format of parity, which is sent when losses are reported.
    parity: Option<Parity>,
}

/// Formats of parity.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Parity {
    Ulpfec,
    FlexFec,
}

/// What Chromium needs to send FlexFEC.
const FLEXFEC: &str =
    "--force-fieldtrials=WebRTC-FlexFEC-03-Advertised/Enabled/WebRTC-FlexFEC-03/Enabled/";

fn plans() -> Vec<Plan> {
    let plain = |bitrate: u32| json!([{ "maxBitrate": bitrate }]);
    let svc =
        |mode: &str, bitrate: u32| json!([{ "maxBitrate": bitrate, "scalabilityMode": mode }]);
    let simulcast = |mode: Option<&str>| {
        let encoding = |rid: &str, scale: u32, bitrate: u32| {
            let mut encoding =
                json!({ "rid": rid, "scaleResolutionDownBy": scale, "maxBitrate": bitrate });
            if let Some(mode) = mode {
                encoding["scalabilityMode"] = mode.into();
            }
            encoding
        };
        json!([
            encoding("q", 4, 60_000),
            encoding("h", 2, 150_000),
            encoding("f", 1, 350_000)
        ])
    };
    let base = || Plan {
        name: "",
        browser: Kind::Chromium,
        codec: ("VP8", ""),
        width: 320,
        height: 180,
        fps: 15,
        encodings: plain(100_000),
        streams: 1,
        seconds: 2.0,
        warm_up: Duration::from_secs(4),
        keyframes: None,
        parity: None,
    };
    let large = || Plan {
        width: 640,
        height: 360,
        seconds: 2.5,
        keyframes: Some(0.5),
        ..base()
    };
    let protected = || Plan {
        width: 640,
        height: 360,
        fps: 10,
        encodings: plain(400_000),
        seconds: 1.2,
        ..base()
    };
    // Chromium sends three encodings from this size on.
    let wide = || Plan {
        width: 960,
        height: 540,
        fps: 10,
        ..large()
    };
    // Chromium sends three spatial layers from this size on, once it believes in a megabit.
    let layered = || Plan {
        width: 1280,
        height: 720,
        fps: 10,
        seconds: 2.2,
        warm_up: Duration::from_secs(12),
        // Chromium empties its pacer at a key frame, and with it the ends of pictures.
        keyframes: Some(0.8),
        ..large()
    };
    vec![
        Plan {
            name: "chromium_opus",
            codec: ("opus", ""),
            encodings: plain(24_000),
            seconds: 1.5,
            ..base()
        },
        Plan {
            name: "chromium_red",
            codec: ("red", ""),
            encodings: plain(24_000),
            seconds: 1.5,
            ..base()
        },
        Plan {
            name: "chromium_vp8",
            ..base()
        },
        Plan {
            name: "chromium_vp8_ulpfec",
            parity: Some(Parity::Ulpfec),
            ..protected()
        },
        Plan {
            name: "chromium_vp8_flexfec",
            parity: Some(Parity::FlexFec),
            ..protected()
        },
        Plan {
            name: "chromium_vp9",
            codec: ("VP9", "profile-id=0"),
            ..base()
        },
        Plan {
            name: "chromium_h264",
            codec: ("H264", "packetization-mode=1;profile-level-id=42e01f"),
            ..base()
        },
        Plan {
            name: "chromium_av1",
            codec: ("AV1", ""),
            ..base()
        },
        Plan {
            name: "chromium_vp8_simulcast",
            encodings: simulcast(Some("L1T3")),
            streams: 3,
            ..wide()
        },
        Plan {
            name: "chromium_h264_simulcast",
            codec: ("H264", "packetization-mode=1;profile-level-id=42e01f"),
            encodings: simulcast(Some("L1T2")),
            streams: 3,
            ..wide()
        },
        Plan {
            name: "chromium_vp9_l3t3_key",
            codec: ("VP9", "profile-id=0"),
            encodings: svc("L3T3_KEY", 1_200_000),
            ..layered()
        },
        Plan {
            name: "chromium_av1_l3t3",
            codec: ("AV1", ""),
            encodings: svc("L3T3", 700_000),
            ..layered()
        },
        Plan {
            name: "chromium_av1_l2t2_key",
            codec: ("AV1", ""),
            encodings: svc("L2T2_KEY", 700_000),
            ..layered()
        },
        Plan {
            name: "chromium_av1_s2t1",
            codec: ("AV1", ""),
            encodings: svc("S2T1", 150_000),
            ..large()
        },
        Plan {
            name: "firefox_opus",
            browser: Kind::Firefox,
            codec: ("opus", ""),
            encodings: plain(24_000),
            seconds: 1.5,
            ..base()
        },
        Plan {
            name: "firefox_vp8",
            browser: Kind::Firefox,
            ..base()
        },
        Plan {
            name: "firefox_vp9",
            browser: Kind::Firefox,
            codec: ("VP9", ""),
            ..base()
        },
        Plan {
            name: "firefox_av1",
            browser: Kind::Firefox,
            codec: ("AV1", ""),
            ..base()
        },
        Plan {
            name: "firefox_vp8_simulcast",
            browser: Kind::Firefox,
            encodings: simulcast(None),
            streams: 3,
            ..large()
        },
    ]
}

/// Makes the page's connection: one transceiver with one codec.
const OFFER: &str = r"
  const { kind, codec, fmtp, constraints, encodings, others } = argument;
  globalThis.pc = new RTCPeerConnection();
  const stream = await navigator.mediaDevices.getUserMedia(constraints);
  const transceiver = pc.addTransceiver(stream.getTracks()[0], {
    direction: 'sendonly', streams: [stream], sendEncodings: encodings,
  });
  const mime = `${kind}/${codec}`.toLowerCase();
  const known = RTCRtpSender.getCapabilities(kind).codecs;
  const chosen = known.filter((c) => c.mimeType.toLowerCase() === mime && (c.sdpFmtpLine ?? '').includes(fmtp));
  if (!chosen.length) return { missing: known.map((c) => `${c.mimeType} ${c.sdpFmtpLine ?? ''}`) };
  const rest = known.filter((c) => others.includes(c.mimeType.split('/')[1].toLowerCase()));
  transceiver.setCodecPreferences([...chosen, ...rest]);
  await pc.setLocalDescription();
  await new Promise((done) => {
    const look = () => { if (pc.iceGatheringState === 'complete') done(); };
    pc.addEventListener('icegatheringstatechange', look);
    look();
  });
  return pc.localDescription.toJSON();
";

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let folder = PathBuf::from(arguments.next().expect("a folder to write to"));
    let wanted: Vec<String> = arguments.collect();
    let mut browsers: BTreeMap<(&str, bool), Arc<Browser>> = BTreeMap::new();
    for plan in plans() {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == plan.name) {
            continue;
        }
        let flexfec = plan.parity == Some(Parity::FlexFec);
        let key = (plan.name.split('_').next().unwrap_or_default(), flexfec);
        let browser = match browsers.entry(key) {
            Entry::Occupied(running) => running.into_mut(),
            Entry::Vacant(place) => {
                let flags: &[&str] = if flexfec { &[FLEXFEC] } else { &[] };
                let browser = Browser::launch(plan.browser, flags).await;
                place.insert(browser.expect("a browser"))
            }
        };
        match record(browser, &plan, &folder).await {
            Ok(bytes) => println!("{}: {bytes} bytes", plan.name),
            Err(reason) => println!("{}: NOT RECORDED: {reason}", plan.name),
        }
    }
}

async fn record(
    browser: &Arc<Browser>,
    plan: &Plan,
    folder: &std::path::Path,
) -> Result<usize, String> {
    let page = browser.open().await;
    let audio = matches!(plan.codec.0, "opus" | "red");
    let constraints = match audio {
        true => json!({ "audio": true }),
        false => {
            json!({ "video": { "width": plan.width, "height": plan.height, "frameRate": plan.fps } })
        }
    };
    let offer = page
        .try_eval(&format!(
            "(async (argument) => {{ {OFFER} }})({})",
            json!({
                "kind": if audio { "audio" } else { "video" },
                "codec": plan.codec.0,
                "fmtp": plan.codec.1,
                "constraints": constraints,
                "encodings": plan.encodings,
                "others": match (plan.codec.0, plan.parity) {
                    ("red", _) => vec!["opus"],
                    (_, None) => vec!["rtx"],
                    (_, Some(Parity::Ulpfec)) => vec!["rtx", "red", "ulpfec"],
                    (_, Some(Parity::FlexFec)) => vec!["rtx", "flexfec-03"],
                },
            })
        ))
        .await?;
    let sdp = offer["sdp"].as_str().ok_or_else(|| offer.to_string())?;
    let offer = Description::from_parts("offer", sdp).map_err(|error| error.to_string())?;

    let socket = UdpSocket::bind((ADDRESS, 0).into()).map_err(|error| error.to_string())?;
    let local = socket.local_addr();
    let wall_clock = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut configuration = Configuration {
        wall_clock,
        ..Configuration::default()
    };
    if plan.parity.is_some() {
        // With a short round trip, retransmission takes the place of parity.
        let codecs = std::sync::Arc::make_mut(&mut configuration.codecs);
        for codec in &mut codecs.video {
            codec.feedback.retain(|feedback| feedback != "nack");
        }
        codecs.video.push(Codec {
            fmtp: "repair-window=10000000".into(),
            feedback: vec!["transport-cc".into()],
            ..Codec::new(MediaKind::Video, "flexfec-03", 90_000, 49)
        });
        configuration.media.send_reports = false;
    }
    let random = Random::from_u64(wall_clock.as_nanos() as u64);
    let mut pc = PeerConnection::new(configuration, random, Instant::now())
        .map_err(|error| error.to_string())?;
    let now = Instant::now();
    let fail = |error: visavis_peer::Error| error.to_string();
    pc.add_local_address(now, LocalAddress::udp(local))
        .map_err(fail)?;
    pc.set_remote_description(now, &offer).map_err(fail)?;
    pc.set_local_description(now, None).map_err(fail)?;
    let answer = pc.local_description().ok_or("no answer")?;
    page.call(
        "await pc.setRemoteDescription(argument)",
        json!({ "type": "answer", "sdp": answer.sdp }),
    )
    .await;

    let source = SocketAddrV4::new(ADDRESS, 9);
    let start = (wall_clock.as_secs() as u32, wall_clock.subsec_micros());
    let mut dump =
        RtpDumpWriter::new(Vec::new(), source, start).map_err(|error| error.to_string())?;
    let mut sources: BTreeMap<u32, (MediaKind, Option<usize>)> = BTreeMap::new();
    let mut recording: Option<Instant> = None;
    let mut asked: Option<Instant> = None;
    let mut out = TransmitBuf::new(16, 1500);
    let mut batch = ReceiveBatch::new(4);
    let mut highest: BTreeMap<u32, SequenceExtender> = BTreeMap::new();
    let begun = Instant::now();
    let mut reported = begun;
    loop {
        let now = Instant::now();
        if recording.is_none() && now - begun > PATIENCE {
            return Err(format!(
                "{} streams of {} after {PATIENCE:?}",
                sources.len(),
                plan.streams
            ));
        }
        if recording.is_some_and(|since| (now - since).as_secs_f64() > plan.seconds) {
            break;
        }
        // Once all streams flow: each begins anew with a key frame.
        let due = match (recording, asked, plan.keyframes) {
            (None, _, _) => sources.len() >= plan.streams && now - begun > plan.warm_up,
            (Some(_), Some(asked), Some(every)) => (now - asked).as_secs_f64() > every,
            _ => false,
        };
        if due {
            asked = Some(now);
            recording.get_or_insert(now);
            ask_for_keyframes(&mut pc, now, sources.keys());
        }
        if plan.parity.is_some() && now - reported > Duration::from_millis(200) {
            reported = now;
            report_loss(&mut pc, now, &sources, &highest);
        }
        pc.handle_timeout(now);
        while pc.poll_event().is_some() {}
        while let Some(transmit) = pc.poll_transmit(now, &mut out) {
            let _ = socket.send(&transmit, out.as_slice()).await;
        }
        let wait = pc.poll_timeout().map_or(Duration::from_millis(20), |due| {
            due.saturating_duration_since(now)
                .min(Duration::from_millis(20))
        });
        if tokio::time::timeout(wait, socket.recv(&mut batch))
            .await
            .is_err()
        {
            continue;
        }
        let now = Instant::now();
        for mut run in batch.runs() {
            let arrival = run.arrival();
            for datagram in run.datagrams() {
                let range = match pc.handle_arrival(now, arrival, datagram) {
                    Received::Rtp(rtp) if !rtp.recovered => {
                        let kind = pc
                            .transceiver(rtp.transceiver)
                            .map_or(MediaKind::Video, |it| it.kind);
                        sources.insert(rtp.ssrc, (kind, rtp.encoding));
                        if let Ok(packet) = Packet::parse(&datagram[rtp.packet.clone()]) {
                            highest
                                .entry(rtp.ssrc)
                                .or_default()
                                .extend(packet.sequence());
                        }
                        rtp.packet
                    }
                    Received::Rtcp(range) => range,
                    _ => continue,
                };
                if let Some(since) = recording {
                    let offset = (now - since).as_millis() as u32;
                    dump.write_packet(offset, &datagram[range])
                        .map_err(|error| error.to_string())?;
                }
            }
        }
    }
    let dump = dump.finish().map_err(|error| error.to_string())?;
    let notes = notes(browser, plan, &pc, &sources);
    // The next one may want another size of picture.
    page.eval("pc.getSenders().forEach((sender) => sender.track?.stop()); pc.close()")
        .await;
    std::fs::write(folder.join(format!("{}.rtpdump", plan.name)), &dump)
        .map_err(|error| error.to_string())?;
    std::fs::write(folder.join(format!("{}.txt", plan.name)), notes)
        .map_err(|error| error.to_string())?;
    Ok(dump.len())
}

/// Asks for a key frame of each source; those of parity do not mind.
fn ask_for_keyframes<'s>(
    pc: &mut PeerConnection,
    now: Instant,
    sources: impl Iterator<Item = &'s u32>,
) {
    for &media in sources {
        let mut buffer = [0; 100];
        let mut writer = RtcpWriter::new(&mut buffer);
        let pli = Pli {
            sender: Ssrc(1),
            media: Ssrc(media),
        };
        if writer.receiver_report(Ssrc(1), &[]).is_ok() && writer.pli(pli).is_ok() {
            let len = writer.len();
            pc.send_rtcp(now, &buffer[..len]);
        }
    }
}

/// Tells the sender that an eighth of its packets is lost, which is not so.
fn report_loss(
    pc: &mut PeerConnection,
    now: Instant,
    sources: &BTreeMap<u32, (MediaKind, Option<usize>)>,
    highest: &BTreeMap<u32, SequenceExtender>,
) {
    let highest = |ssrc| {
        highest
            .get(&ssrc)
            .and_then(SequenceExtender::highest)
            .unwrap_or(0)
    };
    let blocks: Vec<ReportBlock> = sources
        .keys()
        .map(|&ssrc| ReportBlock {
            ssrc: Ssrc(ssrc),
            fraction_lost: 32,
            // Losses are told apart from one report to the next by these two.
            highest_sequence: highest(ssrc) as u32,
            cumulative_lost: (highest(ssrc) / 8) as i32 & 0x7f_ffff,
            ..ReportBlock::default()
        })
        .collect();
    let mut buffer = [0; 500];
    let mut writer = RtcpWriter::new(&mut buffer);
    if writer.receiver_report(Ssrc(1), &blocks).is_ok() {
        let len = writer.len();
        pc.send_rtcp(now, &buffer[..len]);
    }
}

/// What the numbers of a recording mean.
fn notes(
    browser: &Browser,
    plan: &Plan,
    pc: &PeerConnection,
    sources: &BTreeMap<u32, (MediaKind, Option<usize>)>,
) -> String {
    let mut text = format!(
        "browser {}\nencodings {}\n",
        browser.version, plan.encodings
    );
    for transceiver in pc.transceivers() {
        for codec in &transceiver.receiver.codecs {
            let _ = writeln!(
                text,
                "codec {} {} {} {}",
                codec.payload_type, codec.name, codec.clock_rate, codec.fmtp
            );
        }
        for extension in &transceiver.receiver.extensions {
            let _ = writeln!(text, "extension {} {}", extension.id, extension.uri);
        }
        for (ssrc, (_, encoding)) in sources {
            let rid = encoding.and_then(|index| transceiver.receiver.rids.get(index));
            let _ = writeln!(
                text,
                "source {ssrc} {}",
                rid.map_or("-".into(), ToString::to_string)
            );
        }
    }
    text
}
