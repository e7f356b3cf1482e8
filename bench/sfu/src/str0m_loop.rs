//! A forwarding loop on str0m, in its RTP mode, behind the same lines of JSON: one thread, one socket, batches in
//! and GSO out, and nothing decided: the highest encoding of each track goes to everyone, without an estimate of
//! anybody's bandwidth.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use str0m::change::SdpOffer;
use str0m::media::{MediaKind, Mid, Rid};
use str0m::net::{Protocol, Receive};
use str0m::rtp::{ExtensionValues, RtpPacket, RtpWrite};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use visavis_datagram::{Ecn, Path, Transmit, TransmitBuf};
use visavis_net::udp::{ReceiveBatch, UdpOptions, UdpSocket};

/// Datagrams of one run.
const RUN: usize = 16;

struct Peer {
    rtc: Rtc,
    due: Instant,
    /// What was written or received since its output was taken.
    touched: bool,
}

/// A publisher's section, and where it goes: peers and their sections.
struct Track {
    publisher: usize,
    mid: Mid,
    kind: MediaKind,
    rid: Option<Rid>,
    takers: Vec<(usize, Mid)>,
}

struct Loop {
    socket: UdpSocket,
    peers: Vec<Peer>,
    /// By the client's number.
    clients: HashMap<u64, usize>,
    by_address: HashMap<SocketAddr, usize>,
    rooms: HashMap<u64, Vec<usize>>,
    tracks: Vec<Track>,
    out: TransmitBuf,
}

/// Serves until the input ends.
pub(crate) async fn serve() -> io::Result<()> {
    let mut options = UdpOptions::default();
    (options.send_buffer, options.receive_buffer) = (4 << 20, 4 << 20);
    let socket = UdpSocket::bind_with(SocketAddr::from(([127, 0, 0, 1], 0)), &options)?;
    let mut forwarding = Loop {
        socket,
        peers: Vec::new(),
        clients: HashMap::new(),
        by_address: HashMap::new(),
        rooms: HashMap::new(),
        tracks: Vec::new(),
        out: TransmitBuf::new(RUN, 1500),
    };
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut batch = ReceiveBatch::new(32);
    loop {
        let due = forwarding.peers.iter().map(|peer| peer.due).min();
        let due = due.unwrap_or_else(|| Instant::now() + Duration::from_secs(1));
        tokio::select! {
            received = forwarding.socket.recv(&mut batch) => {
                received?;
                forwarding.take(&mut batch);
            }
            () = tokio::time::sleep_until(due.into()) => {}
            line = lines.next_line() => {
                let Some(line) = line? else { return Ok(()) };
                let answer = match forwarding.answer(&serde_json::from_str(&line)?) {
                    Ok(sdp) => json!({"sdp": sdp}),
                    Err(error) => json!({"error": error}),
                };
                let mut output = tokio::io::stdout();
                output.write_all((answer.to_string() + "\n").as_bytes()).await?;
                output.flush().await?;
            }
        }
        forwarding.work().await?;
    }
}

impl Loop {
    fn answer(&mut self, ask: &Value) -> Result<String, String> {
        let number = |name: &str| ask[name].as_u64().unwrap_or(0);
        let sdp = ask["sdp"].as_str().unwrap_or_default();
        let offer = SdpOffer::from_sdp_string(sdp).map_err(|error| error.to_string())?;
        let now = Instant::now();
        let mut rtc = RtcConfig::new()
            .set_ice_lite(true)
            .set_rtp_mode(true)
            .build(now);
        let local = Candidate::host(self.socket.local_addr(), "udp").map_err(|e| e.to_string())?;
        rtc.add_local_candidate(local);
        let answer = rtc
            .sdp_api()
            .accept_offer(offer)
            .map_err(|e| e.to_string())?;
        let peer = self.peers.len();
        self.peers.push(Peer {
            rtc,
            due: now,
            touched: true,
        });
        self.clients.insert(number("client"), peer);
        self.assign(peer, number("room"), sdp);
        Ok(answer.to_sdp_string())
    }

    /// Sections that send become tracks of the room; sections that receive get one each, in their order.
    fn assign(&mut self, peer: usize, room: u64, offer: &str) {
        let in_room = self.rooms.entry(room).or_default();
        let mut free: Vec<usize> = in_room.clone();
        for section in offer.split("\r\nm=").skip(1) {
            let value = |name: &str| section.lines().find_map(|line| line.strip_prefix(name));
            let Some(mid) = value("a=mid:") else { continue };
            let kind = match section.split(' ').next() {
                Some("audio") => MediaKind::Audio,
                Some("video") => MediaKind::Video,
                _ => continue,
            };
            if section.lines().any(|line| line == "a=recvonly") {
                let fits = |&at: &usize| self.tracks[at].kind == kind;
                if let Some(position) = free.iter().position(fits) {
                    let track = free.remove(position);
                    self.tracks[track].takers.push((peer, mid.into()));
                }
            } else {
                let rids = value("a=simulcast:send ").unwrap_or_default();
                in_room.push(self.tracks.len());
                self.tracks.push(Track {
                    publisher: peer,
                    mid: mid.into(),
                    kind,
                    rid: rids
                        .rsplit(';')
                        .next()
                        .filter(|rid| !rid.is_empty())
                        .map(Rid::from),
                    takers: Vec::new(),
                });
            }
        }
    }

    fn take(&mut self, batch: &mut ReceiveBatch) {
        let now = Instant::now();
        let destination = self.socket.local_addr();
        for mut run in batch.runs() {
            let source = run.arrival().path.remote;
            for datagram in run.datagrams() {
                let Ok(contents) = (&*datagram).try_into() else {
                    continue;
                };
                let input = Input::Receive(
                    now,
                    Receive {
                        proto: Protocol::Udp,
                        source,
                        destination,
                        contents,
                    },
                );
                let known = self.by_address.get(&source).copied();
                let found = known.or_else(|| self.peers.iter().position(|p| p.rtc.accepts(&input)));
                let Some(at) = found else { continue };
                self.by_address.insert(source, at);
                let peer = &mut self.peers[at];
                peer.touched |= peer.rtc.handle_input(input).is_ok();
            }
        }
    }

    /// Takes the output of all peers that have some, until none has.
    async fn work(&mut self) -> io::Result<()> {
        let now = Instant::now();
        for peer in &mut self.peers {
            if peer.due <= now {
                let _ = peer.rtc.handle_input(Input::Timeout(now));
                peer.touched = true;
            }
        }
        loop {
            let mut forwarded = false;
            for at in 0..self.peers.len() {
                if std::mem::take(&mut self.peers[at].touched) {
                    forwarded |= self.drain(at, now).await?;
                }
            }
            if !forwarded {
                return Ok(());
            }
        }
    }

    /// One peer's output; whether something went to others.
    async fn drain(&mut self, at: usize, now: Instant) -> io::Result<bool> {
        let mut forwarded = false;
        let mut to: Option<SocketAddr> = None;
        loop {
            match self.peers[at].rtc.poll_output() {
                Ok(Output::Transmit(transmit)) => {
                    let fits =
                        to == Some(transmit.destination) && self.out.push(&transmit.contents);
                    if !fits {
                        self.flush(to).await?;
                        to = Some(transmit.destination);
                        self.out.push(&transmit.contents);
                    }
                }
                Ok(Output::Event(Event::RtpPacket(packet))) => {
                    forwarded = true;
                    self.forward(at, &packet, now);
                }
                Ok(Output::Event(_)) => {}
                Ok(Output::Timeout(due)) => {
                    self.peers[at].due = due;
                    break;
                }
                Err(_) => {
                    self.peers[at].due = now + Duration::from_secs(3600);
                    break;
                }
            }
        }
        self.flush(to).await?;
        Ok(forwarded)
    }

    async fn flush(&mut self, to: Option<SocketAddr>) -> io::Result<()> {
        if let (Some(to), Some(segments)) = (to, self.out.segments()) {
            let path = Path::udp(self.socket.local_addr(), to);
            let transmit = Transmit::new(path, Ecn::NotEct, segments);
            self.socket.send(&transmit, self.out.as_slice()).await?;
        }
        self.out.clear();
        Ok(())
    }

    fn forward(&mut self, from: usize, packet: &RtpPacket, now: Instant) {
        let mut direct = self.peers[from].rtc.direct_api();
        let Some(stream) = direct.stream_rx(&packet.header.ssrc) else {
            return;
        };
        let (mid, rid) = (stream.mid(), stream.rid());
        let track = self.tracks.iter().find(|track| {
            track.publisher == from && track.mid == mid && (track.rid.is_none() || track.rid == rid)
        });
        let Some(track) = track else { return };
        let extensions = ExtensionValues {
            audio_level: packet.header.ext_vals.audio_level,
            voice_activity: packet.header.ext_vals.voice_activity,
            ..ExtensionValues::default()
        };
        for &(taker, mid) in &track.takers {
            let peer = &mut self.peers[taker];
            let mut direct = peer.rtc.direct_api();
            let Some(stream) = direct.stream_tx_by_mid(mid, None) else {
                continue;
            };
            let write = RtpWrite::new(
                packet.header.payload_type,
                packet.seq_no,
                packet.header.timestamp,
                packet.timestamp,
                packet.payload.clone(),
            );
            stream.write_rtp(
                write
                    .marker(packet.header.marker)
                    .ext_vals(extensions.clone())
                    .nackable(track.kind == MediaKind::Video),
            );
            let _ = peer.rtc.handle_input(Input::Timeout(now));
            peer.touched = true;
        }
    }
}
