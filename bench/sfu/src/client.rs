//! The load: publishers that send frames, and subscribers that count what comes.
//!
//! Light subscribers do not decrypt: they count packets and give transport-wide feedback, whose numbers
//! stand in the clear part of a packet. So the load costs less than what it measures. Those that decrypt
//! also say of which track they had packets: frames bear the number that their track was published with.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use visavis_datagram::{Random, Transmit, TransmitBuf};
use visavis_ice::LocalAddress;
use visavis_net::udp::{ReceiveBatch, UdpOptions, UdpSocket};
use visavis_peer::{
    Certificate, Configuration, ConnectionState, Description, Encoding, Event, IceCandidate, Kind,
    MediaSettings, OutgoingRtp, PeerConnection, Received, TransceiverId, TransceiverInit,
};
use visavis_rtp::extension::ExtensionKind;
use visavis_rtp::payload::vp8::Vp8Descriptor;
use visavis_rtp::payload::{Codec, FrameParams, Packetizer};
use visavis_rtp::rtcp::{Arrival, RtcpWriter};
use visavis_rtp::{ExtensionMap, Packet, SequenceNumber, Ssrc};
use visavis_sdp::Direction;

/// What a client sends.
#[derive(Debug, Clone, Copy, Default)]
pub struct Publishes {
    /// Bytes of each encoding's frame, 30 per second; 0 for none.
    pub video: [usize; 3],
    pub audio: bool,
    /// What is sent of all that: 1 for every frame in its time, less for as many fewer.
    pub share: f64,
}

/// A client, and the network that it is in.
#[derive(Debug, Clone)]
pub struct Setup {
    /// Draws its keys, its phase and what it loses.
    pub number: u64,
    pub certificate: Certificate,
    /// What it sends from the beginning.
    pub publishes: Publishes,
    /// It counts packets, and decrypts none.
    pub light: bool,
    /// When the time stamps of frames begin.
    pub epoch: Instant,
    /// The share of datagrams that is lost, of those that it sends and of those that come.
    pub loss: f64,
}

/// A track that a client sends.
#[derive(Debug, Clone)]
pub struct Source {
    /// Its number, which its frames bear. Not 0.
    pub mark: u32,
    pub codec: Codec,
    /// Bytes of each encoding's frame.
    pub sizes: Vec<usize>,
}

impl Source {
    /// The client's own id of the track, as its descriptions have it.
    pub fn cid(&self) -> String {
        format!("track-{}", self.mark)
    }

    fn kind(&self) -> Kind {
        if self.codec == Codec::Opus {
            Kind::Audio
        } else {
            Kind::Video
        }
    }
}

/// What came of one track.
#[derive(Debug, Clone)]
pub struct Heard {
    pub last: Instant,
    /// The section that brought it.
    pub mid: String,
}

/// What a client counted since the last look.
#[derive(Debug, Default, Clone)]
pub struct Counts {
    pub packets: u64,
    pub sent: u64,
    pub delays: Vec<u32>,
    pub connected: bool,
    /// By the number of the track, ever.
    pub heard: HashMap<u32, Heard>,
    /// Why a description was refused, if one was.
    pub refused: Option<String>,
}

/// What the load asks of a client.
pub enum Ask {
    /// An offer, with so many sections more for receiving.
    Offer(usize, usize, oneshot::Sender<String>),
    /// The answer to it.
    Answer(String),
    /// An offer of the server; the answer.
    Accept(String, oneshot::Sender<String>),
    /// A candidate of the server.
    Candidate(IceCandidate),
    /// What was counted.
    Count(oneshot::Sender<Counts>),
    /// Send this from the next negotiation on.
    Publish(Source),
    /// Send the track of that number no more. Its section is stopped, or rests until it carries another.
    Unpublish { mark: u32, stop: bool },
    /// Send nothing of the track for now, or send again.
    Mute { mark: u32, muted: bool },
    /// The next offer restarts ICE.
    RestartIce,
    /// Close the connection, as who leaves does.
    Close,
}

pub type Asks = mpsc::UnboundedSender<Ask>;

struct Sending {
    id: TransceiverId,
    encoding: usize,
    codec: Codec,
    packetizer: Box<dyn Packetizer + Send>,
    frame: Vec<u8>,
    interval: Duration,
    next: Instant,
    sequence: u16,
    timestamp: u32,
    frames: u32,
    wants_key: bool,
    mark: u32,
    muted: bool,
}

struct Client {
    pc: PeerConnection,
    socket: UdpSocket,
    out: TransmitBuf,
    epoch: Instant,
    light: bool,
    share: f64,
    loss: f64,
    luck: Random,
    counts: Counts,
    sending: Vec<Sending>,
    /// Sections that rest, with how many encodings they have.
    resting: Vec<(TransceiverId, Kind, usize)>,
    closed: bool,
    arrivals: Vec<Arrival>,
    feedback_at: Instant,
    feedback: u8,
    media: u32,
}

/// The certificate that all clients have.
pub fn certificate() -> Certificate {
    let mut random = Random::from_u64(7);
    visavis_peer::generate_certificate(
        visavis_peer::CertificateKind::EcdsaP256,
        Duration::from_secs(1_790_000_000),
        &mut random,
    )
    .expect("a certificate")
}

/// Starts a client; it ends when the sender is dropped.
pub fn start(setup: Setup) -> (Asks, mpsc::UnboundedReceiver<IceCandidate>) {
    let (asks, queue) = mpsc::unbounded_channel();
    let (candidates, trickled) = mpsc::unbounded_channel();
    tokio::spawn(Client::new(setup).run(queue, candidates));
    (asks, trickled)
}

impl Client {
    fn new(setup: Setup) -> Self {
        let Setup {
            number, publishes, ..
        } = setup;
        let now = Instant::now();
        let mut options = UdpOptions::default();
        options.receive_buffer = 1 << 20;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = UdpSocket::bind_with(address, &options).expect("a socket");
        let mut configuration = Configuration {
            certificates: vec![setup.certificate],
            wall_clock: Duration::from_secs(1_790_000_000),
            media: MediaSettings {
                pacing: false,
                send_feedback: !setup.light,
                ..MediaSettings::default()
            },
            ..Configuration::default()
        };
        configuration.ice.filter.loopback = true;
        let mut pc = PeerConnection::new(configuration, Random::from_u64(number), now)
            .expect("a connection");
        pc.add_local_address(now, LocalAddress::udp(socket.local_addr()))
            .expect("an address");
        let mut client = Self {
            pc,
            socket,
            out: TransmitBuf::new(8, 1500),
            epoch: setup.epoch,
            light: setup.light,
            share: publishes.share,
            loss: setup.loss,
            luck: Random::from_u64(number ^ LUCK),
            counts: Counts::default(),
            sending: Vec::new(),
            resting: Vec::new(),
            closed: false,
            arrivals: Vec::new(),
            feedback_at: now,
            feedback: 0,
            media: 0,
        };
        // Publishers do not beat in step.
        let phase = Duration::from_micros(number * 7919 % 33_333);
        if publishes.audio {
            let id = client.add(Kind::Audio, Direction::SendOnly, None, Vec::new());
            client.send(id, 0, Codec::Opus, 100, 0, now + phase);
        }
        let encodings = publishes.video.iter().filter(|&&size| size > 0).count();
        if encodings > 0 {
            let named = named_encodings(encodings);
            let id = client.add(Kind::Video, Direction::SendOnly, None, named);
            for (encoding, &size) in publishes.video.iter().take(encodings).enumerate() {
                client.send(id, encoding, Codec::Vp8, size, 0, now + phase);
            }
        }
        client
    }

    fn add(
        &mut self,
        kind: Kind,
        direction: Direction,
        track: Option<String>,
        encodings: Vec<Encoding>,
    ) -> TransceiverId {
        let init = TransceiverInit {
            direction,
            track,
            streams: vec![STREAM.into()],
            send_encodings: encodings,
        };
        self.pc.add_transceiver(kind, init).expect("a transceiver")
    }

    fn send(
        &mut self,
        id: TransceiverId,
        encoding: usize,
        codec: Codec,
        size: usize,
        mark: u32,
        at: Instant,
    ) {
        let mut frame = vec![0x55; size.max(32)];
        frame[18..22].copy_from_slice(&mark.to_be_bytes());
        self.sending.push(Sending {
            id,
            encoding,
            codec,
            packetizer: codec.packetizer().expect("a packetizer"),
            frame,
            interval: Duration::from_micros(if codec == Codec::Opus { 20_000 } else { 33_333 })
                .div_f64(self.share.clamp(0.01, 1.0)),
            next: at,
            sequence: 1,
            timestamp: 0,
            frames: 0,
            wants_key: false,
            mark,
            muted: false,
        });
    }

    fn publish(&mut self, now: Instant, source: &Source) {
        let (kind, encodings) = (source.kind(), source.sizes.len());
        let rests = self
            .resting
            .iter()
            .position(|&(_, of, has)| of == kind && has == encodings);
        let id = match rests {
            Some(index) => {
                let (id, ..) = self.resting.swap_remove(index);
                let streams = [STREAM.to_owned()];
                self.pc
                    .send_on(id, &source.cid(), &streams)
                    .expect("a section that rests");
                id
            }
            None => {
                let named = named_encodings(encodings);
                self.add(kind, Direction::SendOnly, Some(source.cid()), named)
            }
        };
        for (encoding, &size) in source.sizes.iter().enumerate() {
            self.send(id, encoding, source.codec, size, source.mark, now);
        }
    }

    fn unpublish(&mut self, mark: u32, stop: bool) {
        let of_it = |sending: &&Sending| sending.mark == mark;
        let encodings = self.sending.iter().filter(of_it).count();
        let Some(sending) = self.sending.iter().find(of_it) else {
            return;
        };
        let (id, is_audio) = (sending.id, sending.codec == Codec::Opus);
        self.sending.retain(|sending| sending.mark != mark);
        if stop {
            self.pc.stop_transceiver(id).expect("an open connection");
        } else {
            self.pc.remove_track(id).expect("a transceiver of it");
            let kind = if is_audio { Kind::Audio } else { Kind::Video };
            self.resting.push((id, kind, encodings));
        }
    }

    async fn run(
        mut self,
        mut asks: mpsc::UnboundedReceiver<Ask>,
        candidates: mpsc::UnboundedSender<IceCandidate>,
    ) {
        let mut batch = ReceiveBatch::new(2);
        loop {
            let now = Instant::now();
            self.work(now, &candidates).await;
            if self.closed {
                return;
            }
            let due = [
                self.pc.poll_timeout(),
                self.sending.iter().map(|sending| sending.next).min(),
                (!self.arrivals.is_empty()).then_some(self.feedback_at),
            ];
            let due = due.into_iter().flatten().min();
            let due = due.unwrap_or(now + Duration::from_secs(1));
            tokio::select! {
                received = self.socket.recv(&mut batch) => {
                    if received.is_err() {
                        return;
                    }
                    let now = Instant::now();
                    for mut run in batch.runs() {
                        // What waited in the socket while the generator was busy was not late.
                        let arrival = run.arrival();
                        for datagram in run.datagrams() {
                            if !self.is_lost() {
                                self.take(now, arrival, datagram);
                            }
                        }
                    }
                }
                () = tokio::time::sleep_until(due.into()) => {}
                ask = asks.recv() => match ask {
                    Some(ask) => self.answer(Instant::now(), ask),
                    None => return,
                }
            }
        }
    }

    async fn work(&mut self, now: Instant, candidates: &mpsc::UnboundedSender<IceCandidate>) {
        if self.pc.poll_timeout().is_some_and(|due| due <= now) {
            self.pc.handle_timeout(now);
        }
        let connected = self.pc.connection_state() == ConnectionState::Connected;
        self.counts.connected = connected;
        let since = now.saturating_duration_since(self.epoch).as_micros() as u64;
        for index in 0..self.sending.len() {
            while self.sending[index].next <= now {
                let sending = &mut self.sending[index];
                sending.next += sending.interval;
                if sending.muted {
                    sending.timestamp = sending.timestamp.wrapping_add(sending.ticks());
                } else if connected {
                    self.counts.sent += sending.send_frame(&mut self.pc, now, since);
                }
            }
        }
        if !self.arrivals.is_empty() && self.feedback_at <= now {
            self.give_feedback(now);
        }
        while let Some(event) = self.pc.poll_event() {
            match event {
                Event::IceCandidate(Some(candidate)) if !candidate.candidate.is_empty() => {
                    let _ = candidates.send(candidate);
                }
                Event::KeyFrameRequested {
                    transceiver,
                    encoding,
                } => {
                    for sending in &mut self.sending {
                        sending.wants_key |=
                            sending.id == transceiver && sending.encoding == encoding;
                    }
                }
                _ => {}
            }
        }
        while let Some(transmit) = self.pc.poll_transmit(now, &mut self.out) {
            self.transmit(&transmit).await;
        }
    }

    async fn transmit(&mut self, transmit: &Transmit) {
        if self.loss == 0.0 {
            let _ = self.socket.send(transmit, self.out.as_slice()).await;
            return;
        }
        for from in (0..transmit.len).step_by(transmit.segment_size.max(1)) {
            let len = transmit.segment_size.min(transmit.len - from);
            if self.is_lost() {
                continue;
            }
            let alone = Transmit {
                segment_size: len,
                len,
                ..*transmit
            };
            let datagram = &self.out.as_slice()[from..from + len];
            let _ = self.socket.send(&alone, datagram).await;
        }
    }

    fn is_lost(&mut self) -> bool {
        self.loss > 0.0 && self.luck.chance(self.loss)
    }

    fn take(&mut self, now: Instant, arrival: visavis_datagram::Arrival, datagram: &mut [u8]) {
        let is_rtp = datagram.len() > 12
            && datagram[0] >> 6 == 2
            && !(64..=95).contains(&(datagram[1] & 0x7f));
        if is_rtp && self.light {
            self.counts.packets += 1;
            self.note_arrival(arrival.at, datagram);
            return;
        }
        if let Received::Rtp(rtp) = self.pc.handle_arrival(now, arrival, datagram) {
            self.counts.packets += 1;
            let Ok(packet) = Packet::parse(&datagram[rtp.packet]) else {
                return;
            };
            let transceiver = self.pc.transceiver(rtp.transceiver);
            let frame = match transceiver.map(|transceiver| transceiver.kind) {
                Some(Kind::Audio) => Some(packet.payload()),
                _ => Vp8Descriptor::parse(packet.payload())
                    .ok()
                    .filter(|(descriptor, _)| descriptor.start_of_partition)
                    .map(|(_, frame)| frame),
            };
            let Some(frame) = frame else { return };
            let stamp = frame.get(10..18).and_then(|it| it.first_chunk::<8>());
            if let Some(stamp) = stamp {
                let sent = u64::from_be_bytes(*stamp);
                let since = now.saturating_duration_since(self.epoch).as_micros() as u64;
                self.counts.delays.push(since.saturating_sub(sent) as u32);
            }
            let mark = frame.get(18..22).and_then(|it| it.first_chunk::<4>());
            let mark = mark.map_or(0, |mark| u32::from_be_bytes(*mark));
            if mark != 0 {
                let mid = transceiver.and_then(|transceiver| transceiver.mid.as_deref());
                let mid = mid.unwrap_or_default();
                match self.counts.heard.get_mut(&mark) {
                    Some(heard) if heard.mid == mid => heard.last = now,
                    _ => {
                        let heard = Heard {
                            last: now,
                            mid: mid.to_owned(),
                        };
                        self.counts.heard.insert(mark, heard);
                    }
                }
            }
        }
    }

    fn note_arrival(&mut self, now: Instant, datagram: &[u8]) {
        let map: &ExtensionMap = self.pc.receive_extensions();
        let Some(id) = map.id(ExtensionKind::TransportSequence) else {
            return;
        };
        // The header stands in the clear; what is behind it does not matter here.
        let Ok(packet) = Packet::parse(datagram) else {
            return;
        };
        let Some(&[high, low]) = packet.extensions().get(id) else {
            return;
        };
        self.media = packet.ssrc().0;
        let sequence = SequenceNumber(u16::from_be_bytes([high, low]));
        let ordered = self
            .arrivals
            .last()
            .is_none_or(|last| sequence.is_after(last.sequence));
        if ordered {
            if self.arrivals.is_empty() {
                self.feedback_at = now + Duration::from_millis(100);
            }
            self.arrivals.push(Arrival {
                sequence,
                micros: now.saturating_duration_since(self.epoch).as_micros() as u64,
            });
        }
    }

    fn give_feedback(&mut self, now: Instant) {
        while !self.arrivals.is_empty() {
            let mut buffer = [0; 1100];
            let mut writer = RtcpWriter::new(&mut buffer);
            let base = self.arrivals[0].sequence;
            let written = writer.transport_feedback(
                Ssrc(1),
                Ssrc(self.media),
                base,
                self.feedback,
                &self.arrivals,
            );
            let written = written.unwrap_or(0);
            if written == 0 {
                self.arrivals.clear();
                return;
            }
            self.pc.send_rtcp(now, writer.as_slice());
            self.feedback = self.feedback.wrapping_add(1);
            self.arrivals.drain(..written.min(self.arrivals.len()));
        }
    }

    fn answer(&mut self, now: Instant, ask: Ask) {
        match ask {
            Ask::Offer(audio, video, reply) => {
                for (kind, count) in [(Kind::Audio, audio), (Kind::Video, video)] {
                    for _ in 0..count {
                        self.add(kind, Direction::RecvOnly, None, Vec::new());
                    }
                }
                self.pc.set_local_description(now, None).expect("an offer");
                let offer = self.pc.local_description().expect("an offer");
                let _ = reply.send(offer.sdp);
            }
            Ask::Answer(sdp) => {
                let answer = Description::answer(sdp);
                if let Err(error) = self.pc.set_remote_description(now, &answer) {
                    eprintln!("answer refused: {error}");
                    self.counts.refused = Some(error.to_string());
                }
            }
            Ask::Accept(sdp, reply) => {
                let offer = Description::offer(sdp);
                if let Err(error) = self.pc.set_remote_description(now, &offer) {
                    eprintln!("offer refused: {error}");
                    self.counts.refused = Some(error.to_string());
                    return;
                }
                if self.pc.set_local_description(now, None).is_ok()
                    && let Some(answer) = self.pc.local_description()
                {
                    let _ = reply.send(answer.sdp);
                }
            }
            Ask::Candidate(candidate) => {
                let _ = self.pc.add_ice_candidate(now, &candidate);
            }
            Ask::Count(reply) => {
                let counts = std::mem::take(&mut self.counts);
                self.counts.connected = counts.connected;
                self.counts.heard.clone_from(&counts.heard);
                let _ = reply.send(counts);
            }
            Ask::Publish(source) => self.publish(now, &source),
            Ask::Unpublish { mark, stop } => self.unpublish(mark, stop),
            Ask::Mute { mark, muted } => {
                for sending in &mut self.sending {
                    if sending.mark == mark {
                        sending.muted = muted;
                    }
                }
            }
            Ask::RestartIce => self.pc.restart_ice(),
            Ask::Close => {
                self.pc.close(now);
                self.closed = true;
            }
        }
    }
}

/// Sources of one client are played in step.
const STREAM: &str = "load";

/// What draws losses is not what draws keys.
const LUCK: u64 = 0x6c75_636b;

fn named_encodings(count: usize) -> Vec<Encoding> {
    match count {
        0 | 1 => Vec::new(),
        count => ["q", "h", "f"][..count.min(3)]
            .iter()
            .map(|&rid| Encoding::with_rid(rid))
            .collect(),
    }
}

impl Sending {
    /// The ticks of the RTP clock between two frames.
    fn ticks(&self) -> u32 {
        let clock = if self.codec == Codec::Opus {
            48_000.0
        } else {
            90_000.0
        };
        (clock * self.interval.as_secs_f64()).round() as u32
    }

    fn send_frame(&mut self, pc: &mut PeerConnection, now: Instant, since: u64) -> u64 {
        let is_key = std::mem::take(&mut self.wants_key) || self.frames == 0;
        self.frames += 1;
        self.frame[0] = if is_key { 0x10 } else { 0x11 };
        self.frame[10..18].copy_from_slice(&since.to_be_bytes());
        let Some(transceiver) = pc.transceiver(self.id) else {
            return 0;
        };
        let codec = transceiver
            .sender
            .codecs
            .iter()
            .find(|codec| codec.is(self.codec.name()));
        let Some(payload_type) = codec.map(|codec| codec.payload_type) else {
            return 0;
        };
        self.timestamp = self.timestamp.wrapping_add(self.ticks());
        let params = FrameParams {
            temporal_id: (self.codec == Codec::Vp8).then_some(0),
            ..FrameParams::plain(is_key)
        };
        if self.packetizer.start(&self.frame, &params, 1100).is_err() {
            return 0;
        }
        let mut payload = [0; 1200];
        let mut sent = 0;
        while let Ok(Some(fragment)) = self.packetizer.next_payload(&self.frame, &mut payload) {
            let level: &[u8] = &[20];
            let extensions = [(ExtensionKind::AudioLevel, level)];
            let packet = OutgoingRtp {
                payload_type,
                marker: fragment.marker,
                sequence: self.sequence,
                timestamp: self.timestamp,
                extensions: if self.codec == Codec::Opus {
                    &extensions
                } else {
                    &[]
                },
                payload: &payload[..fragment.len],
                ..OutgoingRtp::default()
            };
            self.sequence = self.sequence.wrapping_add(1);
            sent += u64::from(pc.send_rtp(now, self.id, self.encoding, &packet).is_ok());
        }
        sent
    }
}
