//! Whether a picture can be decoded: what it needs, and what was decoded before it.

use smallvec::SmallVec;
use visavis_rtp::extension::DependencyDescriptor;
use visavis_rtp::payload::{Codec, PayloadInfo};

/// How many frame numbers back decoded frames are remembered.
const WINDOW: u64 = 512;

/// What a picture needs.
#[derive(Debug, Clone, Default)]
pub(super) struct Needs {
    pub(super) keyframe: bool,
    /// What its first packet says, for formats that number their layers.
    pub(super) info: PayloadInfo,
    /// Its frames' numbers, and what they need outside of the picture, from dependency descriptors.
    pub(super) frames: SmallVec<[u64; 4]>,
    pub(super) references: SmallVec<[u64; 8]>,
    pub(super) described: bool,
}

impl Needs {
    /// Takes the descriptor of one of the picture's frames.
    pub(super) fn describe(&mut self, number: u64, descriptor: &DependencyDescriptor) {
        self.described = true;
        self.info.temporal_id = descriptor.dependencies.temporal_id;
        if self.frames.contains(&number) {
            return;
        }
        for &diff in &descriptor.dependencies.frame_diffs {
            let reference = number.saturating_sub(diff.into());
            if !self.frames.contains(&reference) {
                self.references.push(reference);
            }
        }
        self.frames.push(number);
    }
}

/// What was decoded so far.
#[derive(Debug)]
pub(super) struct References {
    /// The codec numbers its temporal base layer.
    numbered: bool,
    /// Whether what was decoded leads without a break from a key frame to the latest picture.
    alive: bool,
    /// The highest temporal layer of which nothing that it builds on is missing.
    intact: u8,
    /// Number of the base layer's picture that was decoded last.
    tl0: Option<u8>,
    /// Frame numbers that were decoded: a ring of bits up to `newest`.
    decoded: [u64; (WINDOW / 64) as usize],
    newest: u64,
    last_number: Option<u64>,
    /// The picture id that follows the one that was decoded last.
    next_picture: Option<u16>,
}

impl References {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            numbered: matches!(codec, Codec::Vp8 | Codec::Vp9),
            alive: false,
            intact: u8::MAX,
            tl0: None,
            decoded: [0; (WINDOW / 64) as usize],
            newest: 0,
            last_number: None,
            next_picture: None,
        }
    }

    /// Whether a picture with these numbers directly follows the one that was decoded last, whatever
    /// packets lie between: `frame` is the number of a dependency descriptor.
    pub(super) fn follows(&self, info: &PayloadInfo, frame: Option<u16>) -> bool {
        match (frame, info.picture_id) {
            (Some(frame), _) => self.alive && frame == (self.newest as u16).wrapping_add(1),
            (None, Some(picture)) => self.alive && self.next_picture == Some(picture),
            (None, None) => false,
        }
    }

    /// Extends a descriptor's frame number.
    pub(super) fn extend(&mut self, number: u16) -> u64 {
        let last = self.last_number.unwrap_or(0x1_0000);
        let step = number.wrapping_sub(last as u16) as i16;
        let extended = last.saturating_add_signed(step.into());
        self.last_number = Some(self.last_number.map_or(extended, |last| last.max(extended)));
        extended
    }

    /// Whether a picture can be decoded now. `contiguous`: nothing is missing between it and the one
    /// that was decoded last.
    pub(super) fn can_decode(&self, needs: &Needs, contiguous: bool) -> bool {
        if needs.keyframe {
            return true;
        }
        if !self.alive {
            return false;
        }
        if needs.described {
            return needs.references.iter().all(|&number| self.has(number));
        }
        let info = &needs.info;
        if contiguous && info.temporal_id <= self.intact {
            return true;
        }
        let (Some(tl0), Some(last)) = (info.tl0_picture_index, self.tl0) else {
            return false;
        };
        if !self.numbered {
            return false;
        }
        match info.temporal_id {
            // The base layer needs the base layer alone (RFC 7741 section 4.2, RFC 9628 section 4.2).
            0 => tl0 == last.wrapping_add(1),
            // A picture that needs the base layer alone, which is the one that was decoded.
            _ => info.switching_point && tl0 == last,
        }
    }

    /// Whether what was decoded leads to the latest picture.
    pub(super) const fn is_alive(&self) -> bool {
        self.alive
    }

    /// A picture was given to the decoder. `contiguous`: nothing was missing before it.
    pub(super) fn decoded(&mut self, needs: &Needs, contiguous: bool) {
        let layer = needs.info.temporal_id;
        if needs.keyframe {
            self.alive = true;
            self.intact = u8::MAX;
            self.decoded.fill(0);
            self.newest = needs.frames.first().copied().unwrap_or(0);
        } else if !contiguous || layer > self.intact {
            // Upper layers may build on what is missing, until they begin anew.
            self.intact = layer;
        }
        let mask = (1u32 << needs.info.picture_id_bits.min(16)) - 1;
        self.next_picture = needs
            .info
            .picture_id
            .map(|id| ((u32::from(id) + 1) & mask) as u16);
        if layer == 0 {
            self.tl0 = needs.info.tl0_picture_index;
        }
        for &number in &needs.frames {
            let from = self.newest.max(number.saturating_sub(WINDOW)) + 1;
            for number in from..=number {
                let bit = number % WINDOW;
                self.decoded[(bit / 64) as usize] &= !(1 << (bit % 64));
            }
            self.newest = self.newest.max(number);
            let bit = number % WINDOW;
            self.decoded[(bit / 64) as usize] |= 1 << (bit % 64);
        }
    }

    /// A picture was lost that later ones may need: the formats that do not tell have to begin anew.
    pub(super) fn broken(&mut self) {
        self.alive = false;
    }

    fn has(&self, number: u64) -> bool {
        let bit = number % WINDOW;
        number + WINDOW > self.newest
            && number <= self.newest
            && self.decoded[(bit / 64) as usize] >> (bit % 64) & 1 != 0
    }
}
