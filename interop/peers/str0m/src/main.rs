//! str0m: the frames that come are sent back. See `interop/peers/src/lib.rs` for what is said on stdin
//! and stdout.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use str0m::change::{SdpAnswer, SdpOffer, SdpPendingOffer};
use str0m::channel::ChannelId;
use str0m::media::{Direction, MediaKind};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

#[path = "../../common.rs"]
mod common;

use common::{ENOUGH, answer, local_ip, message, ready, told};

/// As in the manifest.
const VERSION: &str = "0.25.0";
/// It takes no message that does not fit its buffer as a whole, which is of 128 KiB by default.
const BUFFERED: usize = 1 << 20;

struct Peer {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    pending: Option<SdpPendingOffer>,
    channel: Option<ChannelId>,
    messages: VecDeque<Value>,
    /// Audio, video.
    counts: [u64; 2],
    over: bool,
    /// Requests that wait.
    waiting: Vec<Value>,
}

impl Peer {
    fn new() -> Self {
        let socket = UdpSocket::bind((local_ip(), 0)).expect("a socket");
        let address = socket.local_addr().expect("an address");
        let config = RtcConfig::new()
            .clear_codecs()
            .enable_opus(true, false)
            .enable_vp8(true)
            .set_sctp_max_buffered_amount(BUFFERED);
        let mut rtc = config.build(Instant::now());
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("a candidate"));
        Self {
            rtc,
            socket,
            address,
            pending: None,
            channel: None,
            messages: VecDeque::new(),
            counts: [0; 2],
            over: false,
            waiting: Vec::new(),
        }
    }

    fn event(&mut self, event: Event) {
        match event {
            Event::ChannelOpen(id, _) => self.channel = Some(id),
            Event::ChannelClose(_) => self.over = true,
            Event::ChannelData(data) => {
                let told = told(data.binary, &data.data);
                self.messages.push_back(told);
            }
            Event::MediaData(data) => {
                let kind = self.rtc.media(data.mid).map(str0m::media::Media::kind);
                self.counts[usize::from(kind == Some(MediaKind::Video))] += 1;
                if let Some(writer) = self.rtc.writer(data.mid) {
                    let _ = writer.write(data.pt, Instant::now(), data.time, data.data.to_vec());
                }
            }
            _ => {}
        }
    }

    /// Sends what there is, and receives or waits once.
    fn turn(&mut self) {
        let due = loop {
            match self.rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    let _ = self
                        .socket
                        .send_to(&transmit.contents, transmit.destination);
                }
                Ok(Output::Event(event)) => self.event(event),
                Ok(Output::Timeout(at)) => break at,
                Err(_) => break Instant::now() + Duration::from_millis(20),
            }
        };
        let wait = due.saturating_duration_since(Instant::now());
        let wait = wait.clamp(Duration::from_millis(1), Duration::from_millis(10));
        let _ = self.socket.set_read_timeout(Some(wait));
        let mut buffer = [0; 2000];
        match self.socket.recv_from(&mut buffer) {
            Ok((len, source)) => {
                if let Ok(contents) = buffer[..len].try_into() {
                    let receive = Receive {
                        proto: Protocol::Udp,
                        source,
                        destination: self.address,
                        contents,
                    };
                    let _ = self
                        .rtc
                        .handle_input(Input::Receive(Instant::now(), receive));
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                let _ = self.rtc.handle_input(Input::Timeout(Instant::now()));
            }
            Err(_) => {}
        }
    }

    /// The answer to a request; `None` while it has to wait.
    fn handle(&mut self, request: &Value) -> Option<Result<Value, String>> {
        let text = |error: str0m::error::RtcError| error.to_string();
        let sdp = request["sdp"].as_str().unwrap_or_default();
        Some(match request["do"].as_str().unwrap_or_default() {
            "offer" => {
                let mut change = self.rtc.sdp_api();
                if request["media"] == true {
                    for kind in [MediaKind::Audio, MediaKind::Video] {
                        change.add_media(kind, Direction::SendRecv, None, None, None);
                    }
                }
                if request["data"] == true {
                    change.add_channel("chat".to_owned());
                }
                match change.apply() {
                    Some((offer, pending)) => {
                        self.pending = Some(pending);
                        Ok(json!({ "type": "offer", "sdp": offer.to_sdp_string() }))
                    }
                    None => Err("nothing to offer".to_owned()),
                }
            }
            "answer" => SdpOffer::from_sdp_string(sdp)
                .map_err(|error| error.to_string())
                .and_then(|offer| self.rtc.sdp_api().accept_offer(offer).map_err(text))
                .map(|answer| json!({ "type": "answer", "sdp": answer.to_sdp_string() })),
            "accept" => {
                let pending = self.pending.take().ok_or("no offer".to_owned());
                let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| error.to_string());
                pending.and_then(|pending| {
                    let accepted = self.rtc.sdp_api().accept_answer(pending, answer?);
                    accepted.map(|_| json!(null)).map_err(text)
                })
            }
            "send" => {
                let (binary, data) = message(request);
                let written = self.rtc.channel(self.channel?)?.write(binary, &data);
                match written {
                    Ok(true) => Ok(json!(null)),
                    // No room yet.
                    Ok(false) => return None,
                    Err(error) => Err(error.to_string()),
                }
            }
            "receive" => Ok(self.messages.pop_front()?),
            "media" if self.counts.iter().all(|&count| count >= ENOUGH) => Ok(json!(self.counts)),
            "over" if self.over => Ok(json!(true)),
            "media" | "over" => return None,
            "close" => {
                self.rtc.disconnect();
                Ok(json!(null))
            }
            unknown => Err(format!("unknown: {unknown}")),
        })
    }
}

fn main() {
    let (lines, requests) = mpsc::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            let _ = lines.send(line);
        }
        std::process::exit(0);
    });
    ready("str0m", VERSION);
    let mut peer = Peer::new();
    loop {
        let new = requests
            .try_iter()
            .filter_map(|line| serde_json::from_str(&line).ok());
        peer.waiting.extend(new);
        for request in std::mem::take(&mut peer.waiting) {
            match peer.handle(&request) {
                Some(result) => answer(&request, result),
                None => peer.waiting.push(request),
            }
        }
        peer.turn();
    }
}
