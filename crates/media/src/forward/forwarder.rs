//! One stream that is forwarded to one receiver, out of the encodings that its sender offers.

use std::time::Instant;

use visavis_rtp::payload::{Codec, PayloadInfo};
use visavis_rtp::rtcp::SenderInfo;
use visavis_rtp::{
    ExtensionKind, ExtensionMap, Header, Mid, NtpTime, Packet, PayloadType, Result, Rid,
    SequenceNumber, Ssrc,
};

use super::clock::ClockMap;
use super::numbers::{Extender, Mapped, NumberMap};
use super::rewrite::{Outgoing, PictureNumbers, Rewrite};
use super::select::{LayerTarget, MAX_ENCODINGS, Selection, Selector};

/// What a [`Forwarder`] sends.
#[derive(Debug, Clone)]
pub struct ForwarderConfig {
    /// The codec of all encodings.
    pub codec: Codec,
    /// Ticks of the RTP clock per second.
    pub clock_rate: u32,
    /// The source under which the receiver sees the stream.
    pub ssrc: Ssrc,
    /// The payload type that the receiver negotiated.
    pub payload_type: PayloadType,
    /// The receiver's media section, sent until it is known to have seen the stream.
    pub mid: Option<Mid>,
    /// A stream id, sent likewise; streams that are forwarded have none as a rule.
    pub rid: Option<Rid>,
    /// The header extensions that the receiver negotiated.
    pub extensions: ExtensionMap,
    /// How many packets the stream remembers for NACKs. Default 1024.
    pub history: usize,
}

/// A packet of an encoding, as its receiver read it once for all forwarders.
#[derive(Debug, Clone, Copy)]
pub struct SourcePacket<'a> {
    /// The simulcast encoding, below 4.
    pub encoding: u8,
    /// Its extended sequence number.
    pub sequence: u64,
    /// What stands in its header.
    pub header: Header,
    /// What its payload and its dependency descriptor say ([`super::inspect`]).
    pub info: &'a PayloadInfo,
}

/// What becomes of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decision {
    /// It goes on under these numbers.
    Forward(Rewrite),
    /// It does not go on, but its number is awaited: an empty packet takes its place.
    Fill(Rewrite),
    /// It does not go on.
    Drop,
}

/// What a forwarder did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ForwardStats {
    /// Packets that went on.
    pub forwarded: u64,
    /// Packets of layers that are not wanted.
    pub left_out: u64,
    /// Packets from before the last switch, or too late to have a number.
    pub too_late: u64,
    /// Switches from one encoding to another.
    pub switches: u64,
}

/// What went out under a sequence number.
#[derive(Debug, Clone, Copy)]
struct Sent {
    encoding: u8,
    source: u64,
    rewrite: Rewrite,
}

/// Numbers of pictures, over switches and left-out pictures.
#[derive(Debug, Default)]
struct Pictures {
    extender: Extender,
    ids: NumberMap,
    begun: bool,
    last_out: u64,
    tl0_offset: u8,
    last_tl0: u8,
}

/// Numbers of frames in dependency descriptors, over switches. Those of frames that are left out stay
/// out: references count in them.
#[derive(Debug, Default)]
struct Frames {
    extender: Extender,
    /// What is added since the last switch; `None` before the first frame behind it.
    delta: Option<i64>,
    last_out: Option<u64>,
}

/// Chooses layers for one receiver, and gives what goes on numbers without a break.
///
/// Numbers alone are decided here: packets stay where their receiver stored them, and
/// [`write`](Self::write) copies one into the buffer of the transport when it is sent.
#[derive(Debug)]
pub struct Forwarder {
    outgoing: Outgoing,
    selector: Selector,
    clock: ClockMap,
    sequences: NumberMap,
    next: u64,
    pictures: Pictures,
    frames: Frames,
    history: Vec<Option<Sent>>,
    announced: bool,
    stats: ForwardStats,
}

impl Forwarder {
    /// A forwarder whose outgoing sequence numbers begin at a random one of the caller's. Nothing
    /// goes on before [`set_target`](Self::set_target).
    pub fn new(config: ForwarderConfig, first: SequenceNumber) -> Self {
        Self {
            outgoing: Outgoing {
                codec: config.codec,
                ssrc: config.ssrc,
                payload_type: config.payload_type,
                mid: config.mid,
                rid: config.rid,
                extensions: config.extensions,
            },
            selector: Selector::default(),
            clock: ClockMap::new(config.clock_rate),
            sequences: NumberMap::default(),
            next: 0x1_0000 + u64::from(first.0),
            pictures: Pictures::default(),
            frames: Frames::default(),
            history: vec![None; config.history.max(1)],
            announced: false,
            stats: ForwardStats::default(),
        }
    }

    /// What the receiver is to get; `None` pauses the stream.
    pub fn set_target(&mut self, target: Option<LayerTarget>) {
        let valid = |target: &LayerTarget| usize::from(target.encoding) < MAX_ENCODINGS;
        self.selector.set_target(target.filter(valid));
    }

    /// What the receiver is to get.
    pub const fn target(&self) -> Option<LayerTarget> {
        self.selector.target()
    }

    /// What the receiver gets.
    pub const fn current(&self) -> Option<LayerTarget> {
        self.selector.current()
    }

    /// The encoding whose sender has to make a key frame before the target can be reached. Ask it as
    /// long as this says so, with the usual back-off.
    pub fn wants_keyframe(&self) -> Option<u8> {
        self.selector.wants_keyframe()
    }

    /// The receiver has seen the stream (a report names it): its names need not be sent any more.
    pub fn set_announced(&mut self) {
        self.announced = true;
    }

    /// The sequence number that the next packet goes on under, for who continues the stream by another
    /// forwarder (the sender changed its codec).
    pub const fn next_sequence(&self) -> SequenceNumber {
        SequenceNumber(self.next as u16)
    }

    /// The encodings' extended sequence numbers are others from now on: somebody else counts them, as when the receiver is
    /// served from another place. The stream goes on with the next key frame, without a break in its numbers; what was
    /// sent before cannot be asked for any more.
    pub fn begin_anew(&mut self) {
        self.selector.begin_anew();
        self.history.fill(None);
    }

    /// What the forwarder did.
    pub const fn stats(&self) -> &ForwardStats {
        &self.stats
    }

    /// Takes a sender report of an encoding, and gives it as the receiver is to see it: with the
    /// outgoing stream's timestamp. `None` for an encoding that the receiver does not get.
    pub fn handle_sender_report(
        &mut self,
        encoding: u8,
        info: &SenderInfo,
    ) -> Option<(NtpTime, u32)> {
        let encoding = usize::from(encoding);
        self.clock.anchor(encoding, info);
        let timestamp = self.clock.outgoing(encoding, info.rtp_timestamp)?;
        Some((info.ntp, timestamp))
    }

    /// Reads what the next packet will touch, and does nothing else: who goes through many forwarders asks the next one,
    /// so that caches fetch all of it at once, and meanwhile, rather than one thing after another.
    pub fn warm(&self) {
        let index = (self.next % self.history.len() as u64) as usize;
        for ahead in [0, 2, 4] {
            let sent = self.history.get(index + ahead);
            std::hint::black_box(sent.is_some_and(Option::is_some));
        }
        self.selector.warm();
        self.clock.warm();
        self.sequences.warm();
        self.pictures.ids.warm();
        std::hint::black_box((self.outgoing.ssrc, self.announced, self.stats.forwarded));
        std::hint::black_box((self.pictures.last_out, self.frames.last_out));
        std::hint::black_box(self.outgoing.extensions.id(ExtensionKind::AbsSendTime));
    }

    /// Decides about a packet.
    // What it answers stays in registers where it is inlined. Written to memory piece by piece and read at once, it would
    // have to wait until everything that was written before it has reached the cache.
    #[inline]
    pub fn handle_packet(&mut self, now: Instant, source: &SourcePacket<'_>) -> Decision {
        let SourcePacket {
            encoding,
            sequence,
            header,
            info,
        } = *source;
        let selection =
            self.selector
                .select(encoding, sequence, header.timestamp, header.marker, info);
        let marker = match selection {
            Selection::Ignore => return Decision::Drop,
            Selection::LeaveOut => {
                self.stats.left_out += 1;
                if self.outgoing.codec == Codec::Vp8 {
                    self.pictures.leave_out(info);
                }
                let Some(out) = self.sequences.leave_out(sequence) else {
                    return Decision::Drop;
                };
                self.next = self.next.max(out + 1);
                return Decision::Fill(Rewrite {
                    sequence: out,
                    timestamp: self.clock.map(now, header.timestamp),
                    marker: false,
                    picture: None,
                    frame_number: None,
                });
            }
            Selection::Switch { marker } => {
                self.stats.switches += 1;
                self.clock.switch(now, encoding.into(), header.timestamp);
                self.sequences.begin(sequence, self.next);
                self.pictures.switch(info);
                self.frames.switch();
                marker
            }
            Selection::Take { marker } => marker,
        };
        let Mapped::To(out) = self.sequences.map(sequence) else {
            self.stats.too_late += 1;
            return Decision::Drop;
        };
        self.next = self.next.max(out + 1);
        let rewrite = Rewrite {
            sequence: out,
            timestamp: self.clock.map(now, header.timestamp),
            marker,
            picture: self.pictures.map(info),
            frame_number: self.frames.map(info),
        };
        let index = (out % self.history.len() as u64) as usize;
        self.history[index] = Some(Sent {
            encoding,
            source: sequence,
            rewrite,
        });
        self.stats.forwarded += 1;
        Decision::Forward(rewrite)
    }

    /// Writes a packet that goes on, header and all, and returns its length. `source_extensions`: the
    /// ids under which its sender negotiated header extensions.
    ///
    /// # Errors
    /// [`visavis_rtp::Error::BufferTooSmall`], or that of a malformed payload.
    pub fn write(
        &self,
        packet: &Packet<'_>,
        source_extensions: &ExtensionMap,
        rewrite: &Rewrite,
        out: &mut [u8],
    ) -> Result<usize> {
        let named = !self.announced;
        self.outgoing
            .write(packet, source_extensions, rewrite, named, out)
    }

    /// Writes the empty packet of a [`Decision::Fill`] and returns its length.
    ///
    /// # Errors
    /// [`visavis_rtp::Error::BufferTooSmall`].
    pub fn write_empty(&self, rewrite: &Rewrite, out: &mut [u8]) -> Result<usize> {
        self.outgoing.write_empty(rewrite, out)
    }

    /// The receiver asks for a packet: which packet of which encoding it was, and its numbers. `None`
    /// if that is forgotten.
    pub fn handle_nack(&self, sequence: SequenceNumber) -> Option<(u8, u64, Rewrite)> {
        let latest = self.next.checked_sub(1)?;
        let back = SequenceNumber(latest as u16).distance(sequence);
        let out = latest.checked_sub(u64::try_from(back).ok()?)?;
        let index = (out % self.history.len() as u64) as usize;
        let sent = self.history[index].filter(|sent| sent.rewrite.sequence == out)?;
        Some((sent.encoding, sent.source, sent.rewrite))
    }
}

impl Frames {
    fn switch(&mut self) {
        self.extender = Extender::default();
        self.delta = None;
    }

    fn map(&mut self, info: &PayloadInfo) -> Option<u16> {
        let number = self.extender.extend(info.frame_number?.into(), 16);
        let delta = *self.delta.get_or_insert_with(|| match self.last_out {
            // The first encoding keeps its numbers; the next goes on behind them.
            None => 0,
            Some(last) => (last + 1).wrapping_sub(number) as i64,
        });
        let out = number.wrapping_add_signed(delta);
        self.last_out = self.last_out.max(Some(out));
        Some(out as u16)
    }
}

impl Pictures {
    /// The picture's number as it came, extended.
    fn incoming(&mut self, info: &PayloadInfo) -> Option<u64> {
        let id = info.picture_id?;
        Some(self.extender.extend(id.into(), info.picture_id_bits))
    }

    fn switch(&mut self, info: &PayloadInfo) {
        self.extender = Extender::default();
        let Some(id) = self.incoming(info) else {
            return;
        };
        // The first encoding keeps its numbers; the next goes on behind them.
        let out = if self.begun { self.last_out + 1 } else { id };
        self.ids.begin(id, out);
        let tl0 = info.tl0_picture_index.unwrap_or(0);
        self.tl0_offset = match self.begun {
            true => self.last_tl0.wrapping_add(1).wrapping_sub(tl0),
            false => 0,
        };
        self.begun = true;
    }

    fn leave_out(&mut self, info: &PayloadInfo) {
        if let Some(id) = self.incoming(info) {
            let _ = self.ids.leave_out(id);
        }
    }

    fn map(&mut self, info: &PayloadInfo) -> Option<PictureNumbers> {
        let id = self.incoming(info)?;
        let Mapped::To(out) = self.ids.map(id) else {
            return None;
        };
        self.last_out = self.last_out.max(out);
        let tl0 = info
            .tl0_picture_index
            .unwrap_or(0)
            .wrapping_add(self.tl0_offset);
        if info.tl0_picture_index.is_some() && info.temporal_id == 0 {
            self.last_tl0 = tl0;
        }
        Some(PictureNumbers {
            picture_id: out as u16,
            tl0_picture_index: tl0,
        })
    }
}
