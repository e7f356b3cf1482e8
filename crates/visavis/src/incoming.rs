//! What waits for the reader of one received track.

use std::collections::VecDeque;
use std::task::Waker;

use bytes::BytesMut;
use visavis_peer::{ReceiveMode, ReceivedRtp};

/// RTP packets of one track that wait for a reader; beyond, the newest are dropped and counted.
const PACKETS: usize = 2048;

/// One received track, as its reader left it.
#[derive(Debug, Default)]
pub(crate) struct Incoming {
    pub(crate) readers: Vec<Waker>,
    /// What is read: packets or frames; `None` while nobody has read.
    pub(crate) mode: Option<ReceiveMode>,
    pub(crate) packets: RtpBatch,
    pub(crate) dropped: u64,
    /// The track has ended.
    pub(crate) ended: bool,
    /// Where frames are copied to.
    pub(crate) buffer: BytesMut,
}

impl Incoming {
    pub(crate) fn push(&mut self, rtp: &ReceivedRtp, packet: &[u8]) {
        if self.mode != Some(ReceiveMode::Packets) {
            return;
        }
        if self.packets.packets.len() >= PACKETS {
            self.dropped += 1;
            return;
        }
        self.packets.push(rtp, packet);
        self.wake();
    }

    pub(crate) fn wake(&mut self) {
        self.readers.drain(..).for_each(Waker::wake);
    }
}

/// Received RTP packets, and the memory of those of before: the same batch is to be passed to each call
/// of [`RtpReceiver::recv_rtp`](crate::RtpReceiver::recv_rtp).
#[derive(Debug, Default)]
pub struct RtpBatch {
    packets: VecDeque<RtpPacket>,
    spare: Vec<Vec<u8>>,
}

/// A received RTP packet, unprotected.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct RtpPacket {
    /// The packet, header and all. What came by retransmission is the original one.
    pub bytes: Vec<u8>,
    /// Index into [`Receiver::rids`](visavis_peer::Receiver), with simulcast.
    pub encoding: Option<usize>,
    /// The media source.
    pub ssrc: u32,
    /// Whether a retransmission brought it.
    pub recovered: bool,
}

impl RtpBatch {
    /// An empty batch.
    pub fn new() -> Self {
        Self::default()
    }

    /// The packets, oldest first.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &RtpPacket> {
        self.packets.iter()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.packets.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Drops the packets; their memory stays.
    pub fn clear(&mut self) {
        let buffers = self.packets.drain(..).map(|packet| packet.bytes);
        self.spare.extend(buffers);
    }

    fn push(&mut self, rtp: &ReceivedRtp, packet: &[u8]) {
        let mut bytes = self.spare.pop().unwrap_or_default();
        bytes.clear();
        bytes.extend_from_slice(packet);
        self.packets.push_back(RtpPacket {
            bytes,
            encoding: rtp.encoding,
            ssrc: rtp.ssrc,
            recovered: rtp.recovered,
        });
    }
}
