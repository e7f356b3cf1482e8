//! Datagrams on their way out: runs of equal-sized datagrams for one destination, which the driver
//! hands to the kernel in one call (segmentation offload).

use std::net::SocketAddr;
use std::ops::Range;

use crate::{Ecn, Path, Protocol};

/// One run of datagrams, ready to send: they stand back to back in the [`TransmitBuf`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Transmit {
    /// What carries the datagrams.
    pub protocol: Protocol,
    /// The local address to send from.
    pub source: SocketAddr,
    /// Where to.
    pub destination: SocketAddr,
    /// The ECN codepoint of every datagram in the run.
    pub ecn: Ecn,
    /// Size of each datagram in bytes; the last one may be shorter.
    pub segment_size: usize,
    /// Bytes of the whole run.
    pub len: usize,
}

impl Transmit {
    /// The run that stands in a buffer, on `path`.
    pub const fn new(path: Path, ecn: Ecn, segments: Segments) -> Self {
        Self {
            protocol: path.protocol,
            source: path.local,
            destination: path.remote,
            ecn,
            segment_size: segments.segment_size,
            len: segments.len,
        }
    }

    /// The path that the run takes.
    pub const fn path(&self) -> Path {
        Path {
            protocol: self.protocol,
            local: self.source,
            remote: self.destination,
        }
    }
}

/// The shape of a run of datagrams without an address: what a state machine answers that lives
/// above another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Segments {
    /// Size of each datagram in bytes; the last one may be shorter.
    pub segment_size: usize,
    /// Bytes of the whole run.
    pub len: usize,
}

/// Room that is left free around each payload, for a lower layer that seals it in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Framing {
    /// Bytes before the payload, e.g. a DTLS record header.
    pub header: usize,
    /// Bytes behind the payload, e.g. an authentication tag.
    pub trailer: usize,
}

/// A buffer that a state machine fills with datagrams for one destination, back to back.
///
/// All datagrams of a run have the size of the first; a shorter one ends the run. The buffer is
/// allocated once and reused: [`clear`](Self::clear) before each fill.
///
/// ```
/// use visavis_datagram::{Framing, TransmitBuf};
///
/// let mut out = TransmitBuf::new(10, 1200);
/// out.set_framing(Framing { header: 5, trailer: 17 });
/// let slot = out.slot().unwrap();
/// assert_eq!(slot.len(), 1200 - 22);
/// slot[..3].copy_from_slice(b"abc");
/// out.commit(3);
/// assert_eq!(out.segments().unwrap().len, 25);
/// for (datagram, payload) in out.datagrams_mut() {
///     assert_eq!(&datagram[payload], b"abc");
/// }
/// ```
#[derive(Debug)]
pub struct TransmitBuf {
    bytes: Box<[u8]>,
    max_datagrams: usize,
    mtu: usize,
    framing: Framing,
    len: usize,
    datagrams: usize,
    /// Size of the run's first datagram with its framing; 0 while there is none.
    segment_size: usize,
    /// Size of the latest datagram with its framing.
    last_size: usize,
}

impl TransmitBuf {
    /// A buffer for runs of up to `max_datagrams` datagrams of up to `mtu` bytes each.
    pub fn new(max_datagrams: usize, mtu: usize) -> Self {
        Self {
            bytes: vec![0; max_datagrams * mtu].into_boxed_slice(),
            max_datagrams,
            mtu,
            framing: Framing::default(),
            len: 0,
            datagrams: 0,
            segment_size: 0,
            last_size: 0,
        }
    }

    /// Forgets the datagrams. MTU and framing stay.
    pub fn clear(&mut self) {
        self.len = 0;
        self.datagrams = 0;
        self.segment_size = 0;
        self.last_size = 0;
    }

    /// Sets the largest whole datagram in bytes (framing included), for the datagrams that follow.
    /// Values beyond what the buffer was made for are cut to that.
    pub fn set_mtu(&mut self, mtu: usize) {
        self.mtu = mtu.min(self.bytes.len() / self.max_datagrams.max(1));
    }

    /// The largest whole datagram in bytes.
    pub fn mtu(&self) -> usize {
        self.mtu
    }

    /// Sets the room to leave around each payload. Only between runs.
    ///
    /// # Panics
    /// If datagrams stand in the buffer.
    pub fn set_framing(&mut self, framing: Framing) {
        assert!(self.datagrams == 0, "framing changes between runs only");
        self.framing = framing;
    }

    /// The room left around each payload.
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// How many payload bytes the next datagram may have; 0 when the run is complete.
    pub fn available(&self) -> usize {
        if self.datagrams == self.max_datagrams || self.last_size < self.segment_size {
            return 0;
        }
        let whole = if self.datagrams == 0 {
            self.mtu
        } else {
            self.segment_size.min(self.mtu)
        };
        whole
            .min(self.bytes.len() - self.len)
            .saturating_sub(self.framing.header + self.framing.trailer)
    }

    /// Where the next datagram's payload is written, [`available`](Self::available) bytes long, with
    /// unspecified content; `None` when the run is complete. Nothing counts until
    /// [`commit`](Self::commit).
    pub fn slot(&mut self) -> Option<&mut [u8]> {
        let available = self.available();
        if available == 0 {
            return None;
        }
        let start = self.len + self.framing.header;
        Some(&mut self.bytes[start..start + available])
    }

    /// Adds a datagram of `payload` bytes, which were written to the [`slot`](Self::slot).
    ///
    /// # Panics
    /// If `payload` is 0 or more than is [`available`](Self::available).
    pub fn commit(&mut self, payload: usize) {
        assert!(
            payload != 0 && payload <= self.available(),
            "datagram does not fit the run"
        );
        let size = self.framing.header + payload + self.framing.trailer;
        if self.datagrams == 0 {
            self.segment_size = size;
        }
        self.last_size = size;
        self.len += size;
        self.datagrams += 1;
    }

    /// Copies one datagram in. False, and nothing changes, if it does not fit the run.
    pub fn push(&mut self, payload: &[u8]) -> bool {
        match self.slot() {
            Some(slot) if !payload.is_empty() && payload.len() <= slot.len() => {
                slot[..payload.len()].copy_from_slice(payload);
                self.commit(payload.len());
                true
            }
            _ => false,
        }
    }

    /// How many datagrams stand in the buffer.
    pub fn datagrams(&self) -> usize {
        self.datagrams
    }

    /// Whether no datagram stands in the buffer.
    pub fn is_empty(&self) -> bool {
        self.datagrams == 0
    }

    /// The run's shape; `None` while it is empty.
    pub fn segments(&self) -> Option<Segments> {
        (self.datagrams != 0).then_some(Segments {
            segment_size: self.segment_size,
            len: self.len,
        })
    }

    /// The bytes of the whole run.
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    /// Each whole datagram, and where its payload stands in it.
    pub fn datagrams_mut(&mut self) -> impl Iterator<Item = (&mut [u8], Range<usize>)> {
        let framing = self.framing;
        let size = self.segment_size.max(1);
        self.bytes[..self.len]
            .chunks_mut(size)
            .map(move |datagram| {
                let payload = framing.header..datagram.len() - framing.trailer;
                (datagram, payload)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::{Framing, TransmitBuf};

    #[test]
    fn a_shorter_datagram_ends_the_run() {
        let mut out = TransmitBuf::new(4, 100);
        assert!(out.push(&[1; 100]));
        assert!(out.push(&[2; 100]));
        assert!(out.push(&[3; 40]));
        assert_eq!(out.available(), 0);
        assert!(!out.push(&[4; 1]));
        let segments = out.segments().unwrap();
        assert_eq!((segments.segment_size, segments.len), (100, 240));
        let sizes: Vec<_> = out
            .datagrams_mut()
            .map(|(datagram, _)| datagram.len())
            .collect();
        assert_eq!(sizes, [100, 100, 40]);
    }

    #[test]
    fn a_longer_datagram_does_not_fit_the_run() {
        let mut out = TransmitBuf::new(4, 100);
        assert!(out.push(&[1; 50]));
        assert!(!out.push(&[2; 51]));
        assert!(out.push(&[2; 50]));
        out.clear();
        assert!(out.push(&[3; 100]));
    }

    #[test]
    fn framing_is_left_around_each_payload() {
        let mut out = TransmitBuf::new(2, 100);
        out.set_framing(Framing {
            header: 10,
            trailer: 6,
        });
        assert_eq!(out.available(), 84);
        assert!(out.push(&[7; 84]));
        assert!(out.push(&[8; 84]));
        assert_eq!(out.available(), 0);
        for (datagram, payload) in out.datagrams_mut() {
            assert_eq!((datagram.len(), payload), (100, 10..94));
        }
    }

    #[test]
    fn mtu_never_exceeds_what_was_allocated() {
        let mut out = TransmitBuf::new(2, 100);
        out.set_mtu(5000);
        assert_eq!(out.available(), 100);
        out.set_mtu(60);
        assert_eq!(out.available(), 60);
    }
}
