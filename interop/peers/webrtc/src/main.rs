//! The crate `webrtc`: the packets that come are sent back. See `interop/peers/src/lib.rs` for what is
//! said on stdin and stdout.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::BytesMut;
use rtc::rtp_transceiver::rtp_sender::{
    RTCPFeedback, RTCRtpCodec, RTCRtpCodecParameters, RTCRtpCodingParameters,
    RTCRtpEncodingParameters, RtpCodecKind,
};
use serde_json::{Value, json};
use tokio::sync::{Mutex, mpsc, watch};
use webrtc::data_channel::{DataChannel, DataChannelEvent};
use webrtc::media_stream::MediaStreamTrack;
use webrtc::media_stream::track_local::TrackLocal;
use webrtc::media_stream::track_local::static_rtp::TrackLocalStaticRTP;
use webrtc::media_stream::track_remote::{TrackRemote, TrackRemoteEvent};
use webrtc::peer_connection::{
    MediaEngine, PeerConnection, PeerConnectionBuilder, PeerConnectionEventHandler,
    RTCConfigurationBuilder, RTCIceGatheringState, RTCSessionDescription, Registry,
    register_default_interceptors,
};

#[path = "../../common.rs"]
mod common;

use common::{ENOUGH, answer, local_ip, message, ready, told};

/// As in the manifest.
const VERSION: &str = "0.21.1";
const KINDS: [RtpCodecKind; 2] = [RtpCodecKind::Audio, RtpCodecKind::Video];

/// What the connection's events lead to.
struct Happened {
    gathered: watch::Sender<bool>,
    /// The channel once it is open.
    open: watch::Sender<Option<Arc<dyn DataChannel>>>,
    over: watch::Sender<bool>,
    messages: mpsc::UnboundedSender<Value>,
    /// Audio, video.
    counts: [AtomicU64; 2],
    /// What sends each kind.
    back: [Arc<dyn TrackLocal>; 2],
}

impl Happened {
    fn follow(self: Arc<Self>, channel: Arc<dyn DataChannel>) {
        tokio::spawn(async move {
            while let Some(event) = channel.poll().await {
                match event {
                    DataChannelEvent::OnOpen => {
                        self.open.send_replace(Some(Arc::clone(&channel)));
                    }
                    DataChannelEvent::OnMessage(message) => {
                        let told = told(!message.is_string, &message.data);
                        let _ = self.messages.send(told);
                    }
                    DataChannelEvent::OnClose => break,
                    _ => {}
                }
            }
            self.over.send_replace(true);
        });
    }

    fn echo(self: Arc<Self>, kind: RtpCodecKind, track: Arc<dyn TrackRemote>) {
        let index = usize::from(kind == RtpCodecKind::Video);
        tokio::spawn(async move {
            let back = &self.back[index];
            let ssrc = back.ssrcs().await[0];
            while let Some(event) = track.poll().await {
                if let TrackRemoteEvent::OnRtpPacket(mut packet) = event {
                    self.counts[index].fetch_add(1, Ordering::Relaxed);
                    packet.header.ssrc = ssrc;
                    // The numbers of extensions are those of the other direction.
                    packet.header.extension = false;
                    packet.header.extensions.clear();
                    let _ = back.write_rtp(packet).await;
                }
            }
        });
    }
}

/// What the library calls.
struct Handler(Arc<Happened>);

#[async_trait::async_trait]
impl PeerConnectionEventHandler for Handler {
    async fn on_ice_gathering_state_change(&self, state: RTCIceGatheringState) {
        if state == RTCIceGatheringState::Complete {
            self.0.gathered.send_replace(true);
        }
    }

    async fn on_data_channel(&self, channel: Arc<dyn DataChannel>) {
        Arc::clone(&self.0).follow(channel);
    }

    async fn on_track(&self, track: Arc<dyn TrackRemote>) {
        let kind = track.kind().await;
        Arc::clone(&self.0).echo(kind, track);
    }
}

/// Opus for sound, VP8 for pictures.
fn codec(kind: RtpCodecKind) -> RTCRtpCodecParameters {
    let (mime_type, clock_rate, channels, payload_type, feedback) = match kind {
        RtpCodecKind::Video => ("video/VP8", 90_000, 0, 96, &["", "pli"][..]),
        _ => ("audio/opus", 48_000, 2, 111, &[][..]),
    };
    let feedback = feedback.iter().map(|parameter| RTCPFeedback {
        typ: "nack".to_owned(),
        parameter: (*parameter).to_owned(),
    });
    RTCRtpCodecParameters {
        rtp_codec: RTCRtpCodec {
            mime_type: mime_type.to_owned(),
            clock_rate,
            channels,
            rtcp_feedback: feedback.collect(),
            ..RTCRtpCodec::default()
        },
        payload_type,
    }
}

fn track(kind: RtpCodecKind, ssrc: u32) -> Arc<dyn TrackLocal> {
    let encoding = RTCRtpEncodingParameters {
        rtp_coding_parameters: RTCRtpCodingParameters {
            ssrc: Some(ssrc),
            ..RTCRtpCodingParameters::default()
        },
        codec: codec(kind).rtp_codec,
        ..RTCRtpEncodingParameters::default()
    };
    Arc::new(TrackLocalStaticRTP::new(MediaStreamTrack::new(
        "back".to_owned(),
        kind.to_string(),
        kind.to_string(),
        kind,
        vec![encoding],
    )))
}

struct Peer {
    connection: Arc<dyn PeerConnection>,
    happened: Arc<Happened>,
    messages: Mutex<mpsc::UnboundedReceiver<Value>>,
}

type Outcome<T = Value> = Result<T, String>;

fn text(error: impl ToString) -> String {
    error.to_string()
}

impl Peer {
    async fn new() -> Outcome<Self> {
        let (sender, messages) = mpsc::unbounded_channel();
        let happened = Arc::new(Happened {
            gathered: watch::Sender::new(false),
            open: watch::Sender::new(None),
            over: watch::Sender::new(false),
            messages: sender,
            counts: Default::default(),
            back: [track(KINDS[0], 1111), track(KINDS[1], 2222)],
        });
        let mut engine = MediaEngine::default();
        for kind in KINDS {
            engine.register_codec(codec(kind), kind).map_err(text)?;
        }
        let registry = register_default_interceptors(Registry::new(), &mut engine);
        let connection = PeerConnectionBuilder::new()
            .with_configuration(RTCConfigurationBuilder::new().build())
            .with_media_engine(engine)
            .with_interceptor_registry(registry.map_err(text)?)
            .with_handler(Arc::new(Handler(Arc::clone(&happened))))
            .with_udp_addrs(vec![format!("{}:0", local_ip())])
            .build()
            .await
            .map_err(text)?;
        Ok(Self {
            connection: Arc::new(connection),
            happened,
            messages: Mutex::new(messages),
        })
    }

    /// Adds what a description is to speak of.
    async fn prepare(&self, request: &Value) -> Outcome<()> {
        if request["media"] == true {
            for track in &self.happened.back {
                let sender = self.connection.add_track(Arc::clone(track)).await;
                sender.map_err(text)?;
            }
        }
        Ok(())
    }

    /// Sets a description and waits for its candidates.
    async fn gathered(&self, description: RTCSessionDescription) -> Outcome {
        let set = self.connection.set_local_description(description).await;
        set.map_err(text)?;
        let mut gathered = self.happened.gathered.subscribe();
        gathered
            .wait_for(|&complete| complete)
            .await
            .map_err(text)?;
        let description = self.connection.local_description().await;
        Ok(json!({ "sdp": description.ok_or("no description")?.sdp }))
    }

    async fn handle(&self, request: &Value) -> Outcome {
        let sdp = request["sdp"].as_str().unwrap_or_default().to_owned();
        let happened = &self.happened;
        match request["do"].as_str().unwrap_or_default() {
            "offer" => {
                if request["data"] == true {
                    let channel = self.connection.create_data_channel("chat", None).await;
                    Arc::clone(happened).follow(channel.map_err(text)?);
                }
                self.prepare(request).await?;
                let offer = self.connection.create_offer(None).await.map_err(text)?;
                self.gathered(offer).await
            }
            "answer" => {
                self.prepare(request).await?;
                let offer = RTCSessionDescription::offer(sdp).map_err(text)?;
                let set = self.connection.set_remote_description(offer).await;
                set.map_err(text)?;
                let answer = self.connection.create_answer(None).await;
                self.gathered(answer.map_err(text)?).await
            }
            "accept" => {
                let answer = RTCSessionDescription::answer(sdp).map_err(text)?;
                let set = self.connection.set_remote_description(answer).await;
                set.map_err(text).map(|()| Value::Null)
            }
            "send" => {
                let mut open = happened.open.subscribe();
                let channel = open.wait_for(Option::is_some).await.map_err(text)?;
                let channel = channel.clone().ok_or("no channel")?;
                let (binary, data) = message(request);
                let sent = if binary {
                    channel.send(BytesMut::from(&data[..])).await
                } else {
                    channel.send_text(&String::from_utf8_lossy(&data)).await
                };
                sent.map_err(text).map(|()| Value::Null)
            }
            "receive" => {
                let next = self.messages.lock().await.recv().await;
                next.ok_or("the end".to_owned())
            }
            "media" => loop {
                let counts = happened.counts.each_ref();
                let counts = counts.map(|count| count.load(Ordering::Relaxed));
                if counts.iter().all(|&count| count >= ENOUGH) {
                    return Ok(json!(counts));
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            },
            "over" => {
                let mut over = happened.over.subscribe();
                over.wait_for(|&over| over).await.map_err(text)?;
                Ok(json!(true))
            }
            "close" => {
                let closed = self.connection.close().await;
                closed.map_err(text).map(|()| Value::Null)
            }
            unknown => Err(format!("unknown: {unknown}")),
        }
    }
}

#[tokio::main]
async fn main() {
    let peer = Peer::new().await.expect("a connection");
    ready("webrtc", VERSION);
    let (read, mut lines) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = read.send(line);
        }
    });
    while let Some(line) = lines.recv().await {
        if let Ok(request) = serde_json::from_str::<Value>(&line) {
            answer(&request, peer.handle(&request).await);
        }
    }
}
