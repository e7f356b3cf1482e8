//! Application data on its way out.

use std::time::Instant;

use visavis_datagram::{Ecn, Framing, Path, Transmit, TransmitBuf};

use super::Agent;
use super::local::Source;
use super::pair::Pair;

impl Agent {
    /// The addresses that a pair's datagrams bear on the owner's sockets.
    pub(super) fn wire_path(&self, pair: &Pair) -> Path {
        match pair.source {
            Source::Local(_) => pair.path,
            Source::Relay(relay) => self.relay_path(relay).unwrap_or(pair.path),
        }
    }

    pub(super) fn do_framing(&self) -> Framing {
        let pair = self.selected.and_then(|id| self.pair(id));
        match pair.map(|pair| (pair.source, pair.path.remote)) {
            Some((Source::Relay(relay), peer)) => self.relay_framing(relay, peer),
            _ => Framing::default(),
        }
    }

    pub(super) fn do_send(
        &mut self,
        now: Instant,
        ecn: Ecn,
        out: &mut TransmitBuf,
    ) -> Option<Transmit> {
        let segments = out.segments()?;
        let selected = self.selected;
        let pair = self
            .pairs
            .iter_mut()
            .find(|pair| Some(pair.id) == selected)?;
        let datagrams = out.datagrams() as u64;
        if !pair.is_usable() {
            pair.counters.packets_discarded_on_send += datagrams;
            pair.counters.bytes_discarded_on_send += segments.len as u64;
            return None;
        }
        pair.counters.packets_sent += datagrams;
        pair.counters.bytes_sent += segments.len as u64;
        pair.counters.last_packet_sent = Some(now);
        let (source, path) = (pair.source, pair.path);
        match source {
            Source::Local(_) => Some(Transmit::new(path, ecn, segments)),
            Source::Relay(relay) => self.relay_seal(now, relay, path.remote, ecn, out),
        }
    }
}
