//! Google's dcsctp in Rust, and sctp-proto.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use dcsctp::api::{
    DcSctpSocket, Message, Options, PpId, SendOptions, SocketEvent, SocketState, SocketTime,
    StreamId,
};
use sctp_proto::{
    Association, AssociationHandle, ClientConfig, DatagramEvent, Endpoint, EndpointConfig, Event,
    Payload, PayloadProtocolIdentifier, ReliabilityType, ServerConfig, StreamEvent,
    TransportConfig,
};
use visavis_datagram::TransmitBuf;

use crate::{Delivery, Stack};

/// Writes queued packets of one size.
fn drain(packets: &mut VecDeque<Bytes>, out: &mut TransmitBuf) -> bool {
    let mut any = false;
    while let Some(packet) = packets.front() {
        if !out.push(packet) {
            break;
        }
        any = true;
        packets.pop_front();
    }
    any
}

/// dcsctp.
pub struct Dcsctp {
    socket: Box<dyn DcSctpSocket>,
    epoch: Instant,
    packets: VecDeque<Bytes>,
    resets: Vec<u16>,
    /// Errors that it reported.
    pub errors: Vec<String>,
}

impl Dcsctp {
    /// A socket with those options; its time begins at `epoch`.
    pub fn new(epoch: Instant, options: &Options) -> Self {
        Self {
            socket: dcsctp::new_socket("peer", options),
            epoch,
            packets: VecDeque::new(),
            resets: Vec::new(),
            errors: Vec::new(),
        }
    }

    fn time(&self, now: Instant) -> SocketTime {
        SocketTime::zero() + now.saturating_duration_since(self.epoch)
    }

    fn drain_events(&mut self) {
        while let Some(event) = self.socket.poll_event() {
            match event {
                SocketEvent::SendPacket(packet) => self.packets.push_back(packet.into()),
                SocketEvent::OnAborted(kind, text) => {
                    self.errors.push(format!("aborted: {kind:?} {text}"));
                }
                SocketEvent::OnError(kind, text) => self.errors.push(format!("{kind:?} {text}")),
                SocketEvent::OnIncomingStreamReset(streams) => {
                    self.resets.extend(streams.iter().map(|stream| stream.0));
                }
                _ => {}
            }
        }
    }

    /// Whether I-DATA and zero checksum are in use.
    pub fn uses(&self) -> (bool, bool) {
        self.socket.get_metrics().map_or((false, false), |m| {
            (m.uses_message_interleaving, m.uses_zero_checksum)
        })
    }

    /// Ends in an orderly way.
    pub fn shutdown(&mut self) {
        self.socket.shutdown();
    }

    /// Whether it is closed.
    pub fn is_closed(&self) -> bool {
        self.socket.state() == SocketState::Closed
    }
}

impl Stack for Dcsctp {
    fn name(&self) -> String {
        format!("dcsctp {}", dcsctp::version())
    }

    fn connect(&mut self, now: Instant) {
        let time = self.time(now);
        self.socket.advance_time(time);
        self.socket.connect();
    }

    fn handle(&mut self, now: Instant, packet: &[u8]) {
        let time = self.time(now);
        self.socket.advance_time(time);
        self.socket.handle_input(packet);
    }

    fn handle_timeout(&mut self, now: Instant) {
        let time = self.time(now);
        self.socket.advance_time(time);
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let time = self.socket.poll_timeout();
        if time == SocketTime::infinite_future() {
            return None;
        }
        Some(self.epoch + (time - SocketTime::zero()))
    }

    fn transmit(&mut self, _now: Instant, out: &mut TransmitBuf) -> bool {
        self.drain_events();
        drain(&mut self.packets, out)
    }

    fn is_connected(&self) -> bool {
        self.socket.state() == SocketState::Connected
    }

    fn send(&mut self, now: Instant, stream: u16, data: Bytes, how: Delivery) -> bool {
        let time = self.time(now);
        self.socket.advance_time(time);
        if self.socket.buffered_amount(StreamId(stream)) > 1_000_000 {
            return false;
        }
        let options = SendOptions {
            unordered: how == Delivery::Unordered,
            max_retransmissions: match how {
                Delivery::MaxRetransmits(limit) => Some(limit),
                _ => None,
            },
            ..SendOptions::default()
        };
        let message = Message::new(StreamId(stream), PpId(53), data.into());
        self.socket.send(message, &options).is_ok()
    }

    fn receive(&mut self) -> Option<(u16, Bytes)> {
        let message = self.socket.get_next_message()?;
        Some((message.stream_id.0, message.payload.into()))
    }

    fn reset(&mut self, _now: Instant, stream: u16) {
        self.socket
            .reset_streams(&[StreamId(stream)])
            .expect("the association is open");
    }

    fn take_resets(&mut self) -> Vec<u16> {
        self.drain_events();
        std::mem::take(&mut self.resets)
    }

    fn hand_over(&mut self, now: Instant, to: &mut Self) -> usize {
        let time = to.time(now);
        to.socket.advance_time(time);
        let mut count = 0;
        while let Some(event) = self.socket.poll_event() {
            if let SocketEvent::SendPacket(packet) = event {
                to.socket.handle_input(&packet);
                count += 1;
            }
        }
        count
    }
}

/// sctp-proto.
pub struct SctpProto {
    endpoint: Endpoint,
    transport: Arc<TransportConfig>,
    association: Option<(AssociationHandle, Association)>,
    remote: SocketAddr,
    packets: VecDeque<Bytes>,
    resets: Vec<u16>,
    readable: VecDeque<u16>,
    streams: Vec<(u16, Delivery)>,
}

impl SctpProto {
    /// An endpoint that listens, and connects if told to.
    pub fn new(max_payload: u32, window: u32) -> Self {
        let transport = TransportConfig::default()
            .with_max_receive_buffer_size(window)
            .with_max_send_message_size(window)
            .with_max_receive_message_size(window);
        let transport = Arc::new(transport);
        let mut config = EndpointConfig::new();
        config.max_payload_size(max_payload);
        let mut server = ServerConfig::new();
        server.transport = Arc::clone(&transport);
        Self {
            endpoint: Endpoint::new(Arc::new(config), Some(Arc::new(server))),
            transport,
            association: None,
            remote: "127.0.0.1:5000".parse().expect("an address"),
            packets: VecDeque::new(),
            resets: Vec::new(),
            readable: VecDeque::new(),
            streams: Vec::new(),
        }
    }

    /// The INIT chunk that it gives to signalling.
    pub fn init_chunk(&self) -> Bytes {
        sctp_proto::generate_snap_token(&self.transport).expect("a token")
    }

    /// Opens the association with the INIT chunks that signalling carried, its own and the peer's.
    pub fn connect_with_inits(&mut self, own: Bytes, peer: Bytes) {
        let mut config = ClientConfig::new().with_snap(own, peer);
        config.transport = Arc::clone(&self.transport);
        let (handle, association) = self
            .endpoint
            .connect(config, self.remote)
            .expect("valid tokens");
        self.association = Some((handle, association));
    }

    fn handle_bytes(&mut self, now: Instant, data: Bytes) {
        let event = self.endpoint.handle(now, self.remote, None, None, data);
        match event {
            Some((handle, DatagramEvent::NewAssociation(association))) => {
                self.association = Some((handle, association));
            }
            Some((_, DatagramEvent::AssociationEvent(event))) => {
                if let Some((_, association)) = &mut self.association {
                    association.handle_event(event);
                }
            }
            None => {}
        }
    }

    fn pump(&mut self, now: Instant) {
        let Some((handle, association)) = &mut self.association else {
            while let Some(transmit) = self.endpoint.poll_transmit() {
                if let Payload::RawEncode(packets) = transmit.payload {
                    self.packets.extend(packets);
                }
            }
            return;
        };
        while let Some(event) = association.poll_endpoint_event() {
            if let Some(event) = self.endpoint.handle_event(*handle, event) {
                association.handle_event(event);
            }
        }
        while let Some(event) = association.poll() {
            match event {
                Event::Stream(StreamEvent::Readable { id }) => self.readable.push_back(id),
                Event::Stream(StreamEvent::Opened { .. }) => {
                    while let Some(stream) = association.accept_stream() {
                        self.readable.push_back(stream.stream_identifier());
                    }
                }
                Event::Stream(StreamEvent::Finished { id }) => {
                    self.resets.push(id);
                    self.streams.retain(|(stream, _)| *stream != id);
                }
                _ => {}
            }
        }
        loop {
            let transmit = association
                .poll_transmit(now)
                .or_else(|| self.endpoint.poll_transmit());
            let Some(transmit) = transmit else { break };
            if let Payload::RawEncode(packets) = transmit.payload {
                self.packets.extend(packets);
            }
        }
    }
}

impl Stack for SctpProto {
    fn name(&self) -> String {
        "sctp-proto".to_owned()
    }

    fn connect(&mut self, _now: Instant) {
        let mut config = ClientConfig::new();
        config.transport = Arc::clone(&self.transport);
        let (handle, association) = self
            .endpoint
            .connect(config, self.remote)
            .expect("a valid configuration");
        self.association = Some((handle, association));
    }

    fn handle(&mut self, now: Instant, packet: &[u8]) {
        self.handle_bytes(now, Bytes::copy_from_slice(packet));
    }

    fn handle_timeout(&mut self, now: Instant) {
        if let Some((_, association)) = &mut self.association {
            association.handle_timeout(now);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        self.association.as_ref()?.1.poll_timeout()
    }

    fn transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> bool {
        self.pump(now);
        drain(&mut self.packets, out)
    }

    fn is_connected(&self) -> bool {
        self.association
            .as_ref()
            .is_some_and(|(_, association)| !association.is_handshaking())
    }

    fn send(&mut self, _now: Instant, stream: u16, data: Bytes, how: Delivery) -> bool {
        let Some((_, association)) = &mut self.association else {
            return false;
        };
        if !self.streams.contains(&(stream, how)) {
            let mut handle = match association.stream(stream) {
                Ok(handle) => handle,
                Err(_) => association
                    .open_stream(stream, PayloadProtocolIdentifier::Binary)
                    .expect("a new stream"),
            };
            let (unordered, kind, value) = match how {
                Delivery::Reliable => (false, ReliabilityType::Reliable, 0),
                Delivery::Unordered => (true, ReliabilityType::Reliable, 0),
                Delivery::MaxRetransmits(n) => (false, ReliabilityType::Rexmit, u32::from(n)),
            };
            handle
                .set_reliability_params(unordered, kind, value)
                .expect("an open stream");
            self.streams.retain(|(known, _)| *known != stream);
            self.streams.push((stream, how));
        }
        let mut handle = association.stream(stream).expect("an open stream");
        if handle.buffered_amount().unwrap_or(0) > 1_000_000 {
            return false;
        }
        handle
            .write_sctp(&data, PayloadProtocolIdentifier::Binary)
            .is_ok()
    }

    fn receive(&mut self) -> Option<(u16, Bytes)> {
        let (_, association) = self.association.as_mut()?;
        while let Some(&id) = self.readable.front() {
            if let Ok(mut stream) = association.stream(id)
                && let Ok(Some(chunks)) = stream.read_sctp()
            {
                let mut data = vec![0; chunks.len()];
                chunks.read(&mut data).expect("the whole message");
                return Some((id, data.into()));
            }
            self.readable.pop_front();
        }
        None
    }

    fn reset(&mut self, _now: Instant, stream: u16) {
        let (_, association) = self.association.as_mut().expect("an association");
        association
            .stream(stream)
            .expect("an open stream")
            .finish()
            .expect("a stream that can be reset");
    }

    fn take_resets(&mut self) -> Vec<u16> {
        std::mem::take(&mut self.resets)
    }

    fn hand_over(&mut self, now: Instant, to: &mut Self) -> usize {
        self.pump(now);
        let count = self.packets.len();
        while let Some(packet) = self.packets.pop_front() {
            to.handle_bytes(now, packet);
        }
        count
    }
}

/// dcsctp's options as a browser has them: Chromium's, or Firefox's with I-DATA.
pub fn browser_options(firefox: bool) -> Options {
    Options {
        enable_message_interleaving: firefox,
        max_receiver_window_buffer_size: if firefox { 16 << 20 } else { 5 << 20 },
        max_timer_backoff_duration: Some(Duration::from_secs(3)),
        max_retransmissions: None,
        ..Options::default()
    }
}
