//! What all depacketizers share: the frame that is being put together, and when it must be dropped.

use super::{Depacketizer, Fragment, Frame, FrameParams, Packetizer, Received};
use crate::{Error, Result};

/// The longest frame in bytes that a depacketizer puts together, unless told.
pub const DEFAULT_MAX_FRAME: usize = 8 << 20;

/// Bytes that a buffer may keep between frames; a larger one is given back.
const KEPT: usize = 1 << 20;

/// A frame that is being put together.
#[derive(Debug)]
pub(super) struct Assembly {
    pub(super) data: Vec<u8>,
    max_frame: usize,
    /// The packet before, if any.
    last_sequence: Option<u64>,
    /// Whether the packet before ended its picture.
    ended: bool,
    /// Whether a frame is open.
    open: bool,
    first: u64,
    timestamp: u32,
    pub(super) keyframe: bool,
    pub(super) temporal_id: u8,
    pub(super) spatial_id: u8,
}

/// How a packet stands to what came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// Late or double: to be ignored.
    Stale,
    /// It continues the open frame.
    Continues,
    /// It is known to be the first of a picture: it follows the end of one, with nothing lost between,
    /// or something else says so.
    Begins,
    /// Something before it is lost: it is the first of a picture only if it says so itself.
    AfterLoss,
}

impl Assembly {
    pub(super) fn new(max_frame: usize) -> Self {
        Self {
            data: Vec::new(),
            max_frame,
            last_sequence: None,
            ended: false,
            open: false,
            first: 0,
            timestamp: 0,
            keyframe: false,
            temporal_id: 0,
            spatial_id: 0,
        }
    }

    /// Places a packet, and drops the open frame if the packet does not continue it.
    pub(super) fn place(&mut self, packet: &Received<'_>) -> Place {
        if self
            .last_sequence
            .is_some_and(|last| packet.sequence <= last)
        {
            return Place::Stale;
        }
        let contiguous = self
            .last_sequence
            .is_some_and(|last| packet.sequence == last + 1);
        let ended = std::mem::replace(&mut self.ended, false);
        self.last_sequence = Some(packet.sequence);
        if contiguous && self.open && packet.timestamp == self.timestamp {
            return Place::Continues;
        }
        self.open = false;
        if packet.begins_picture || contiguous && ended {
            Place::Begins
        } else {
            Place::AfterLoss
        }
    }

    /// Opens a frame with this packet.
    pub(super) fn open(&mut self, packet: &Received<'_>) {
        self.data.clear();
        if self.data.capacity() > KEPT {
            self.data.shrink_to(KEPT);
        }
        self.open = true;
        self.first = packet.sequence;
        self.timestamp = packet.timestamp;
        self.keyframe = false;
        self.temporal_id = 0;
        self.spatial_id = 0;
    }

    /// Appends to the open frame.
    pub(super) fn extend(&mut self, bytes: &[u8]) -> Result<()> {
        if self.data.len() + bytes.len() > self.max_frame {
            self.open = false;
            return Err(Error::Limit("frame size"));
        }
        self.data.extend_from_slice(bytes);
        Ok(())
    }

    /// Drops the open frame, if any, and passes this packet over.
    pub(super) fn abandon(&mut self, packet: &Received<'_>) {
        self.open = false;
        self.ended = packet.marker;
    }

    /// Closes the frame if the packet has the marker, and gives it.
    pub(super) fn close(&mut self, packet: &Received<'_>) -> Option<Frame<'_>> {
        if !packet.marker {
            return None;
        }
        self.ended = true;
        if !self.open {
            return None;
        }
        self.open = false;
        Some(Frame {
            data: &self.data,
            timestamp: self.timestamp,
            keyframe: self.keyframe,
            temporal_id: self.temporal_id,
            spatial_id: self.spatial_id,
            first: self.first,
            last: packet.sequence,
        })
    }

    pub(super) fn reset(&mut self) {
        self.last_sequence = None;
        self.ended = false;
        self.open = false;
    }
}

impl Default for Assembly {
    fn default() -> Self {
        Self::new(DEFAULT_MAX_FRAME)
    }
}

/// A depacketizer for formats where each packet is a frame.
#[derive(Debug, Default)]
pub(super) struct WholeDepacketizer {
    assembly: Assembly,
}

impl Depacketizer for WholeDepacketizer {
    fn push(&mut self, packet: Received<'_>) -> Result<Option<Frame<'_>>> {
        if self.assembly.place(&packet) == Place::Stale {
            return Ok(None);
        }
        if packet.payload.is_empty() {
            return Err(Error::Truncated("payload"));
        }
        self.assembly.open(&packet);
        self.assembly.keyframe = true;
        self.assembly.extend(packet.payload)?;
        let whole = Received {
            marker: true,
            ..packet
        };
        Ok(self.assembly.close(&whole))
    }

    fn reset(&mut self) {
        self.assembly.reset();
    }
}

/// A packetizer for formats where each frame is one packet. The marker of audio, which begins a talk
/// spurt, is the sender's to set.
#[derive(Debug, Clone, Default)]
pub(super) struct WholePacketizer {
    pending: bool,
}

impl Packetizer for WholePacketizer {
    fn start(&mut self, frame: &[u8], _: &FrameParams, max_payload: usize) -> Result<()> {
        self.pending = false;
        if frame.is_empty() || frame.len() > max_payload {
            return Err(Error::NotRepresentable("frame that is no single payload"));
        }
        self.pending = true;
        Ok(())
    }

    fn next_payload(&mut self, frame: &[u8], out: &mut [u8]) -> Result<Option<Fragment>> {
        if !self.pending {
            return Ok(None);
        }
        out.get_mut(..frame.len())
            .ok_or(Error::BufferTooSmall)?
            .copy_from_slice(frame);
        self.pending = false;
        Ok(Some(Fragment {
            len: frame.len(),
            start_of_frame: true,
            end_of_frame: true,
            marker: false,
        }))
    }
}
