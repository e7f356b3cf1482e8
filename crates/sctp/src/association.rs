//! The association: its doors.

use std::time::Instant;

use bytes::Bytes;
use visavis_datagram::{Ecn, Random, Segments, TransmitBuf};

use crate::{Config, Error, Event, Message, Negotiated, Ppid, SendOptions, State, Stats, StreamId};

/// One SCTP association.
#[derive(Debug)]
pub struct Association {
    config: Config,
    state: State,
    stats: Stats,
}

impl Association {
    /// An association that is not started. `random` gives tags, the first TSN and cookies.
    pub fn new(config: Config, random: Random) -> Self {
        let _ = random;
        Self {
            config,
            state: State::Closed,
            stats: Stats::default(),
        }
    }

    /// The INIT chunk of this end, for `a=sctp-init` (base64 of these bytes). It stays the same.
    pub fn init_chunk(&mut self) -> Bytes {
        Bytes::new()
    }

    /// Starts the association. Both ends may do so.
    pub fn connect(&mut self, now: Instant) -> Result<(), Error> {
        let _ = now;
        Err(Error::WrongState)
    }

    /// Opens the association with the INIT chunk that signalling brought from the peer, who has the
    /// one of [`init_chunk`](Self::init_chunk): no packet is needed.
    pub fn connect_with_remote_init(&mut self, now: Instant, init: &[u8]) -> Result<(), Error> {
        let _ = (now, init);
        Err(Error::MalformedInit)
    }

    /// Takes a packet that the layer below has decrypted.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.handle_packet_with_ecn(now, packet, Ecn::NotEct);
    }

    /// The same, with the ECN bits of the datagram that brought it.
    pub fn handle_packet_with_ecn(&mut self, now: Instant, packet: &[u8], ecn: Ecn) {
        let _ = (now, packet, ecn);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let _ = now;
    }

    /// When [`handle_timeout`](Self::handle_timeout), and then `poll_transmit`, is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        None
    }

    /// Writes packets to be sent, full-sized ones back to back; `None` when there is nothing.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Segments> {
        let _ = (now, out);
        None
    }

    /// The ECN codepoint that sent packets may carry.
    pub fn ecn(&self) -> Ecn {
        Ecn::NotEct
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        None
    }

    /// The next message, or part of one, and makes room for more.
    pub fn recv(&mut self) -> Option<Message> {
        None
    }

    /// Sends a message. Before the association is open it waits.
    pub fn send(
        &mut self,
        now: Instant,
        stream: StreamId,
        ppid: Ppid,
        payload: Bytes,
        options: SendOptions,
    ) -> Result<(), Error> {
        self.send_part(now, stream, ppid, payload, options, true)
    }

    /// Sends a message in parts, of any size together: the first call opens it, `last` ends it.
    /// Memory is bounded by the send buffer: `WouldBlock` asks the caller to wait.
    pub fn send_part(
        &mut self,
        now: Instant,
        stream: StreamId,
        ppid: Ppid,
        payload: Bytes,
        options: SendOptions,
        last: bool,
    ) -> Result<(), Error> {
        let _ = (now, stream, ppid, payload, options, last);
        Err(Error::NotOpen)
    }

    /// Bytes of a stream that have not been sent yet.
    pub fn buffered_amount(&self, stream: StreamId) -> usize {
        let _ = stream;
        0
    }

    /// Asks for [`Event::BufferedAmountLow`] when the bytes waiting on a stream fall to `threshold`.
    pub fn set_buffered_amount_low_threshold(&mut self, stream: StreamId, threshold: usize) {
        let _ = (stream, threshold);
    }

    /// The share of a stream under [`SchedulerKind::WeightedFair`](crate::SchedulerKind): RFC 8831's
    /// priorities 128, 256, 512 and 1024 (`extra high`), or any other weight from 1.
    pub fn set_priority(&mut self, stream: StreamId, weight: u16) {
        let _ = (stream, weight);
    }

    /// Resets the sending side of streams once what waits on them has been sent.
    pub fn reset_streams(&mut self, now: Instant, streams: &[StreamId]) -> Result<(), Error> {
        let _ = (now, streams);
        Err(Error::NotOpen)
    }

    /// Ends the association when everything sent has been acknowledged.
    pub fn shutdown(&mut self, now: Instant) {
        let _ = now;
    }

    /// Ends the association at once.
    pub fn abort(&mut self, now: Instant) {
        let _ = now;
    }

    /// Where the association stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What both ends agreed on; `None` until then.
    pub fn negotiated(&self) -> Option<Negotiated> {
        None
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        self.stats
    }
}
