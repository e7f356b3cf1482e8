//! The load: publishers that send frames, and subscribers that count what comes.
//!
//! Most subscribers do not decrypt: they count packets and give transport-wide feedback, whose numbers
//! stand in the clear part of a packet. So the load costs less than what it measures.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};
use visavis_datagram::{Random, TransmitBuf};
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
pub(crate) struct Publishes {
    /// Bytes of each encoding's frame, 30 per second; 0 for none.
    pub(crate) video: [usize; 3],
    pub(crate) audio: bool,
    /// What is sent of all that: 1 for every frame in its time, less for as many fewer.
    pub(crate) share: f64,
}

/// What a client counted since the last look.
#[derive(Debug, Default, Clone)]
pub(crate) struct Counts {
    pub(crate) packets: u64,
    pub(crate) sent: u64,
    pub(crate) delays: Vec<u32>,
    pub(crate) connected: bool,
}

/// What the load asks of a client.
pub(crate) enum Ask {
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
}

pub(crate) type Asks = mpsc::UnboundedSender<Ask>;

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
}

struct Client {
    pc: PeerConnection,
    socket: UdpSocket,
    out: TransmitBuf,
    epoch: Instant,
    light: bool,
    share: f64,
    counts: Counts,
    sending: Vec<Sending>,
    arrivals: Vec<Arrival>,
    feedback_at: Instant,
    feedback: u8,
    media: u32,
}

/// Starts a client; it ends when the sender is dropped.
pub(crate) fn start(
    number: u64,
    certificate: Certificate,
    publishes: Publishes,
    light: bool,
    epoch: Instant,
) -> (Asks, mpsc::UnboundedReceiver<IceCandidate>) {
    let (asks, queue) = mpsc::unbounded_channel();
    let (candidates, trickled) = mpsc::unbounded_channel();
    let client = Client::new(number, certificate, publishes, light, epoch);
    tokio::spawn(client.run(queue, candidates));
    (asks, trickled)
}

impl Client {
    fn new(
        number: u64,
        certificate: Certificate,
        publishes: Publishes,
        light: bool,
        epoch: Instant,
    ) -> Self {
        let now = Instant::now();
        let mut options = UdpOptions::default();
        options.receive_buffer = 1 << 20;
        let address = SocketAddr::from(([127, 0, 0, 1], 0));
        let socket = UdpSocket::bind_with(address, &options).expect("a socket");
        let mut configuration = Configuration {
            certificates: vec![certificate],
            wall_clock: Duration::from_secs(1_790_000_000),
            media: MediaSettings {
                pacing: false,
                send_feedback: !light,
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
            epoch,
            light,
            share: publishes.share,
            counts: Counts::default(),
            sending: Vec::new(),
            arrivals: Vec::new(),
            feedback_at: now,
            feedback: 0,
            media: 0,
        };
        // Publishers do not beat in step.
        let phase = Duration::from_micros(number * 7919 % 33_333);
        if publishes.audio {
            let id = client.add(Kind::Audio, Direction::SendOnly, Vec::new());
            client.send(id, 0, Codec::Opus, 100, now + phase);
        }
        let encodings = publishes.video.iter().filter(|&&size| size > 0).count();
        if encodings > 0 {
            let rids = ["q", "h", "f"];
            let named = match encodings {
                1 => Vec::new(),
                count => rids[..count]
                    .iter()
                    .map(|&rid| Encoding::with_rid(rid))
                    .collect(),
            };
            let id = client.add(Kind::Video, Direction::SendOnly, named);
            for (encoding, &size) in publishes.video.iter().take(encodings).enumerate() {
                client.send(id, encoding, Codec::Vp8, size, now + phase);
            }
        }
        client
    }

    fn add(&mut self, kind: Kind, direction: Direction, encodings: Vec<Encoding>) -> TransceiverId {
        let init = TransceiverInit {
            direction,
            streams: vec!["load".into()],
            send_encodings: encodings,
            ..TransceiverInit::default()
        };
        self.pc.add_transceiver(kind, init).expect("a transceiver")
    }

    fn send(&mut self, id: TransceiverId, encoding: usize, codec: Codec, size: usize, at: Instant) {
        self.sending.push(Sending {
            id,
            encoding,
            codec,
            packetizer: codec.packetizer().expect("a packetizer"),
            frame: vec![0x55; size.max(32)],
            interval: Duration::from_micros(if codec == Codec::Opus { 20_000 } else { 33_333 })
                .div_f64(self.share.clamp(0.01, 1.0)),
            next: at,
            sequence: 1,
            timestamp: 0,
            frames: 0,
            wants_key: false,
        });
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
                            self.take(now, arrival, datagram);
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
                if connected {
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
            let _ = self.socket.send(&transmit, self.out.as_slice()).await;
        }
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
            let stamped = Vp8Descriptor::parse(packet.payload())
                .ok()
                .filter(|(descriptor, _)| descriptor.start_of_partition)
                .and_then(|(_, rest)| rest.get(10..18)?.first_chunk::<8>().copied());
            if let Some(stamp) = stamped {
                let sent = u64::from_be_bytes(stamp);
                let since = now.saturating_duration_since(self.epoch).as_micros() as u64;
                self.counts.delays.push(since.saturating_sub(sent) as u32);
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
                        self.add(kind, Direction::RecvOnly, Vec::new());
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
                }
            }
            Ask::Accept(sdp, reply) => {
                let offer = Description::offer(sdp);
                if let Err(error) = self.pc.set_remote_description(now, &offer) {
                    eprintln!("offer refused: {error}");
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
                let connected = self.counts.connected;
                let counts = std::mem::take(&mut self.counts);
                self.counts.connected = connected;
                let _ = reply.send(counts);
            }
        }
    }
}

impl Sending {
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
        let rate = if self.codec == Codec::Opus { 960 } else { 3000 };
        self.timestamp = self.timestamp.wrapping_add(rate);
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
