//! Answers that wait for the driver: one buffer, no allocation per answer.

use std::collections::VecDeque;

use visavis_datagram::{Ecn, Path, Transmit, TransmitBuf};
use visavis_stun::BuildError;

/// The largest answer. Requests that reach the server whole get no longer ones.
const MAX_REPLY: usize = 1400;

#[derive(Debug, Default)]
pub(super) struct Replies {
    bytes: VecDeque<u8>,
    queue: VecDeque<(Path, usize)>,
}

impl Replies {
    /// Lets `build` write an answer. False if too many bytes wait, or it does not fit.
    pub(super) fn push(
        &mut self,
        limit: usize,
        path: Path,
        build: impl FnOnce(&mut [u8]) -> Result<usize, BuildError>,
    ) -> bool {
        let mut buffer = [0; MAX_REPLY];
        let Ok(len) = build(&mut buffer) else {
            return false;
        };
        if self.bytes.len() + len > limit {
            return false;
        }
        self.bytes.extend(&buffer[..len]);
        self.queue.push_back((path, len));
        true
    }

    /// Moves the next answer to `out`. One that does not fit is dropped.
    pub(super) fn pop(&mut self, out: &mut TransmitBuf) -> Option<Transmit> {
        loop {
            let (path, len) = self.queue.pop_front()?;
            let fits = match out.slot() {
                Some(slot) if slot.len() >= len => {
                    for (to, from) in slot.iter_mut().zip(self.bytes.drain(..len)) {
                        *to = from;
                    }
                    true
                }
                _ => {
                    self.bytes.drain(..len);
                    false
                }
            };
            if fits {
                out.commit(len);
                return Some(Transmit::new(path, Ecn::NotEct, out.segments()?));
            }
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
}
