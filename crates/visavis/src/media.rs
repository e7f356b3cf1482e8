//! Transceivers, senders and receivers as their user sees them.

use std::future::poll_fn;
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use bytes::Bytes;
use visavis_peer::sframe::FrameTransform;
use visavis_peer::{
    Codec, Direction, EncodedFrame, FrameKind, HeaderExtension, Kind, OutgoingFrame, OutgoingRtp,
    ReceiveMode, SendParameters, StatsReport, TransceiverDirection, TransceiverId,
};

use crate::Error;
use crate::connection::register;
use crate::incoming::RtpBatch;
use crate::peer_connection::Handle;
use crate::transports::DtlsTransport;

/// A sender and a receiver that share a media section (W3C `RTCRtpTransceiver`). Cheap to clone.
#[derive(Debug, Clone)]
pub struct RtpTransceiver {
    handle: Arc<Handle>,
    id: TransceiverId,
}

impl RtpTransceiver {
    pub(crate) fn new(handle: Arc<Handle>, id: TransceiverId) -> Self {
        Self { handle, id }
    }

    fn look<R>(&self, look: impl FnOnce(&visavis_peer::Transceiver) -> R) -> Option<R> {
        let state = self.handle.connection.lock();
        state.core.transceiver(self.id).map(look)
    }

    /// Its number, by which the sans-IO core knows it.
    pub fn id(&self) -> TransceiverId {
        self.id
    }

    /// Sound or pictures; `None` once it is over.
    pub fn kind(&self) -> Option<Kind> {
        self.look(|transceiver| transceiver.kind)
    }

    /// The media section's id, once there is one.
    pub fn mid(&self) -> Option<String> {
        self.look(|transceiver| transceiver.mid.clone()).flatten()
    }

    fn transport(&self) -> Option<DtlsTransport> {
        self.mid().map(|_| DtlsTransport::of(&self.handle, self.id))
    }

    /// The wanted direction.
    pub fn direction(&self) -> TransceiverDirection {
        self.look(|transceiver| transceiver.direction)
            .unwrap_or(TransceiverDirection::Stopped)
    }

    /// The agreed direction, once there is one.
    pub fn current_direction(&self) -> Option<TransceiverDirection> {
        self.look(|transceiver| transceiver.current_direction)
            .unwrap_or(Some(TransceiverDirection::Stopped))
    }

    /// Sets the wanted direction, for the next offer or answer.
    ///
    /// # Errors
    /// `InvalidStateError` when closed or stopped.
    pub fn set_direction(&self, direction: Direction) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.set_direction(self.id, direction))?)
    }

    /// Stops it for good.
    ///
    /// # Errors
    /// `InvalidStateError` when closed.
    pub fn stop(&self) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.stop_transceiver(self.id))?)
    }

    /// Prefers codecs, for the next offer or answer; empty for the default order.
    ///
    /// # Errors
    /// `InvalidModificationError` for codecs that are not among the capabilities.
    pub fn set_codec_preferences(&self, codecs: &[Codec]) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.set_codec_preferences(self.id, codecs))?)
    }

    /// webrtc-extensions `getHeaderExtensionsToNegotiate`.
    pub fn header_extensions_to_negotiate(&self) -> Vec<HeaderExtension> {
        let state = self.handle.connection.lock();
        state.core.header_extensions_to_negotiate(self.id)
    }

    /// webrtc-extensions `setHeaderExtensionsToNegotiate`.
    ///
    /// # Errors
    /// `InvalidModificationError` for another list of extensions.
    pub fn set_header_extensions_to_negotiate(
        &self,
        extensions: &[HeaderExtension],
    ) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| {
            state
                .core
                .set_header_extensions_to_negotiate(self.id, extensions)
        })?)
    }

    /// The sending half.
    pub fn sender(&self) -> RtpSender {
        RtpSender {
            handle: Arc::clone(&self.handle),
            id: self.id,
        }
    }

    /// The receiving half.
    pub fn receiver(&self) -> RtpReceiver {
        RtpReceiver {
            handle: Arc::clone(&self.handle),
            id: self.id,
        }
    }
}

/// Sends a track (W3C `RTCRtpSender`). Cheap to clone.
///
/// [`Event::KeyFrameRequested`](crate::Event) and [`Event::TargetBitrate`](crate::Event) tell what the
/// encoder is to do.
#[derive(Debug, Clone)]
pub struct RtpSender {
    handle: Arc<Handle>,
    id: TransceiverId,
}

impl RtpSender {
    /// The transceiver that it is half of.
    pub fn transceiver(&self) -> RtpTransceiver {
        RtpTransceiver::new(Arc::clone(&self.handle), self.id)
    }

    /// What it sends over (W3C `transport`); `None` before it has a media section.
    pub fn transport(&self) -> Option<DtlsTransport> {
        self.transceiver().transport()
    }

    /// What may be sent, under the negotiated payload types, best first; empty before negotiation.
    pub fn codecs(&self) -> Vec<Codec> {
        let codecs = |transceiver: &visavis_peer::Transceiver| transceiver.sender.codecs.clone();
        self.transceiver().look(codecs).unwrap_or_default()
    }

    /// Sends an encoded frame of the only encoding, or of the first.
    ///
    /// # Errors
    /// As [`send_frame_of`](Self::send_frame_of).
    pub fn send_frame(&self, frame: &OutgoingFrame<'_>) -> Result<(), Error> {
        self.send_frame_of(0, frame)
    }

    /// Sends an encoded frame of an encoding: it is cut into packets, paced, and kept for
    /// retransmission.
    ///
    /// # Errors
    /// `InvalidStateError` while the encoding is not being sent, `RangeError` for a frame that its format
    /// cannot carry, `OperationError` if too much waits.
    pub fn send_frame_of(&self, encoding: usize, frame: &OutgoingFrame<'_>) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, now| state.core.send_frame(now, self.id, encoding, frame))?)
    }

    /// Sends RTP packets of an encoding, as a forwarder has them; how many were sent.
    ///
    /// # Errors
    /// As [`visavis_peer::PeerConnection::send_rtp`], for the first one; what follows an error is not
    /// sent.
    pub fn send_rtp<'a>(
        &self,
        encoding: usize,
        packets: impl IntoIterator<Item = OutgoingRtp<'a>>,
    ) -> Result<usize, Error> {
        let connection = &self.handle.connection;
        connection.with(|state, now| {
            let mut sent = 0;
            for packet in packets {
                match state.core.send_rtp(now, self.id, encoding, &packet) {
                    Ok(()) => sent += 1,
                    Err(error) if sent == 0 => return Err(error.into()),
                    Err(_) => break,
                }
            }
            Ok(sent)
        })
    }

    /// What one encoding may use of the target, in bits per second; `None` while it is not negotiated.
    pub fn target_bitrate(&self, encoding: usize) -> Option<u64> {
        let state = self.handle.connection.lock();
        state.core.encoding_target(self.id, encoding)
    }

    /// The track that is being sent.
    pub fn track(&self) -> Option<String> {
        let track = |transceiver: &visavis_peer::Transceiver| transceiver.sender.track.clone();
        self.transceiver().look(track).flatten()
    }

    /// Sends another track, without negotiation.
    ///
    /// # Errors
    /// `InvalidStateError` if the transceiver is stopped.
    pub fn replace_track(&self, track: Option<&str>) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.replace_track(self.id, track))?)
    }

    /// Sets the streams that the track belongs to.
    ///
    /// # Errors
    /// `InvalidStateError` when closed or stopped.
    pub fn set_streams(&self, streams: &[String]) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.set_streams(self.id, streams))?)
    }

    /// The parameters, to be changed and given to [`set_parameters`](Self::set_parameters); `None`
    /// once the transceiver is over.
    pub fn parameters(&self) -> Option<SendParameters> {
        self.handle.connection.lock().core.parameters(self.id)
    }

    /// Sets the parameters.
    ///
    /// # Errors
    /// As W3C `setParameters`.
    pub fn set_parameters(&self, parameters: SendParameters) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection.with(|state, _| state.core.set_parameters(self.id, parameters))?)
    }

    /// Sets what changes frames on their way out (webrtc-encoded-transform), such as SFrame.
    pub fn set_transform(&self, transform: Option<Box<dyn FrameTransform>>) {
        let mut state = self.handle.connection.lock();
        state.core.set_sender_transform(self.id, transform);
    }

    /// Plays key presses (W3C `insertDTMF`): each lasts `duration` (40 ms to 6 s), with `gap` (30 ms to
    /// 6 s) behind it.
    ///
    /// # Errors
    /// As W3C `insertDTMF`.
    pub fn insert_dtmf(&self, tones: &str, duration: Duration, gap: Duration) -> Result<(), Error> {
        let connection = &self.handle.connection;
        Ok(connection
            .with(|state, now| state.core.insert_dtmf(now, self.id, tones, duration, gap))?)
    }

    /// Key presses that were not played yet (W3C `toneBuffer`).
    pub fn tone_buffer(&self) -> String {
        self.handle.connection.lock().core.tone_buffer(self.id)
    }

    /// Statistics of the streams of this transceiver.
    pub fn stats(&self) -> StatsReport {
        let state = self.handle.connection.lock();
        state.core.transceiver_stats(Instant::now(), self.id)
    }
}

/// A received frame. Its bytes are shared, not copied, where it is cloned.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Frame {
    /// What it is.
    pub kind: FrameKind,
    /// The frame as a decoder wants it (H.264 and H.265: Annex B; AV1: OBUs with sizes).
    pub data: Bytes,
    /// The RTP timestamp; 0 for what stands in for lost sound.
    pub timestamp: u32,
    /// How long sound lasts, in ticks of the RTP clock; 0 for pictures.
    pub duration: u32,
    /// The codec's payload type.
    pub payload_type: u8,
    /// Index of the simulcast encoding.
    pub encoding: Option<usize>,
    /// The source.
    pub ssrc: u32,
    /// The temporal layer.
    pub temporal_id: u8,
    /// The highest spatial layer.
    pub spatial_id: u8,
    /// When to show or play it.
    pub render_at: Instant,
}

impl Frame {
    fn new(frame: &EncodedFrame<'_>, data: Bytes) -> Self {
        Self {
            kind: frame.kind,
            data,
            timestamp: frame.timestamp,
            duration: frame.duration,
            payload_type: frame.payload_type,
            encoding: frame.encoding,
            ssrc: frame.ssrc,
            temporal_id: frame.temporal_id,
            spatial_id: frame.spatial_id,
            render_at: frame.render_at,
        }
    }

    /// Whether it is a picture that needs no other.
    pub fn is_key(&self) -> bool {
        self.kind == FrameKind::Key
    }
}

/// Receives a track (W3C `RTCRtpReceiver`), as frames or as packets: whichever is read. Cheap to clone.
#[derive(Debug, Clone)]
pub struct RtpReceiver {
    handle: Arc<Handle>,
    id: TransceiverId,
}

impl RtpReceiver {
    /// The transceiver that it is half of.
    pub fn transceiver(&self) -> RtpTransceiver {
        RtpTransceiver::new(Arc::clone(&self.handle), self.id)
    }

    /// What it receives over (W3C `transport`); `None` before it has a media section.
    pub fn transport(&self) -> Option<DtlsTransport> {
        self.transceiver().transport()
    }

    /// The id of the received track; empty once the transceiver is over.
    pub fn track(&self) -> String {
        let track = |transceiver: &visavis_peer::Transceiver| transceiver.receiver.track.clone();
        self.transceiver().look(track).unwrap_or_default()
    }

    /// What may arrive, under our payload types; empty before negotiation.
    pub fn codecs(&self) -> Vec<Codec> {
        let codecs = |transceiver: &visavis_peer::Transceiver| transceiver.receiver.codecs.clone();
        self.transceiver().look(codecs).unwrap_or_default()
    }

    /// The rids of a simulcast that may arrive.
    pub fn rids(&self) -> Vec<String> {
        let rids = |transceiver: &visavis_peer::Transceiver| transceiver.receiver.rids.clone();
        self.transceiver().look(rids).unwrap_or_default()
    }

    /// The next frame, at the time at which it is to be decoded; `None` when the track has
    /// ended or the peer is gone.
    /// Losses were made good as far as that goes, pictures come in order and each can be decoded.
    /// Cancel-safe. The first call decides that frames are made of this track.
    pub async fn recv_frame(&self) -> Option<Frame> {
        poll_fn(|cx| {
            let mut state = self.handle.connection.lock();
            let state = &mut *state;
            let incoming = state.incoming.entry(self.id).or_default();
            if incoming.mode.replace(ReceiveMode::Frames) != Some(ReceiveMode::Frames) {
                state.core.set_receive_mode(self.id, ReceiveMode::Frames);
            }
            if let Some(frame) = state.core.poll_frame(Instant::now(), self.id) {
                incoming.buffer.extend_from_slice(frame.data);
                let data = incoming.buffer.split().freeze();
                return Poll::Ready(Some(Frame::new(&frame, data)));
            }
            if incoming.ended || state.media_over || state.finished {
                return Poll::Ready(None);
            }
            register(&mut incoming.readers, cx.waker());
            // One that waits for its time moves the driver's timer.
            if state.core.next_frame(self.id).is_some() {
                self.handle.connection.touch();
            }
            Poll::Pending
        })
        .await
    }

    /// Waits for RTP packets and puts all that have come into `batch`, in place of what it held. False
    /// when the track has ended or the peer is gone. Cancel-safe. The first call decides that packets are handed out of
    /// this track.
    pub async fn recv_rtp(&self, batch: &mut RtpBatch) -> bool {
        batch.clear();
        poll_fn(|cx| {
            let mut state = self.handle.connection.lock();
            let state = &mut *state;
            let incoming = state.incoming.entry(self.id).or_default();
            if incoming.mode.replace(ReceiveMode::Packets) != Some(ReceiveMode::Packets) {
                state.core.set_receive_mode(self.id, ReceiveMode::Packets);
            }
            if !incoming.packets.is_empty() {
                std::mem::swap(batch, &mut incoming.packets);
                return Poll::Ready(true);
            }
            if incoming.ended || state.media_over || state.finished {
                return Poll::Ready(false);
            }
            register(&mut incoming.readers, cx.waker());
            Poll::Pending
        })
        .await
    }

    /// Packets that were dropped because nobody read them.
    pub fn packets_dropped(&self) -> u64 {
        let state = self.handle.connection.lock();
        let incoming = state.incoming.get(&self.id);
        incoming.map_or(0, |incoming| incoming.dropped)
    }

    /// Asks the sender for a key frame, of one encoding if one is named. False if nothing was received.
    pub fn request_key_frame(&self, encoding: Option<usize>) -> bool {
        let connection = &self.handle.connection;
        connection.with(|state, now| state.core.request_key_frame(now, self.id, encoding))
    }

    /// Sets what changes frames on their way in (webrtc-encoded-transform), such as SFrame.
    pub fn set_transform(&self, transform: Option<Box<dyn FrameTransform>>) {
        let mut state = self.handle.connection.lock();
        state.core.set_receiver_transform(self.id, transform);
    }

    /// Statistics of the streams of this transceiver.
    pub fn stats(&self) -> StatsReport {
        let state = self.handle.connection.lock();
        state.core.transceiver_stats(Instant::now(), self.id)
    }
}
