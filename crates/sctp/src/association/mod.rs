//! The association: its state and its doors. The protocol stands in the files beside, in the
//! order of its sections.

mod acknowledge;
mod handshake;
mod inbound;
mod outbound;
mod reconfig;
mod timers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use visavis_datagram::{Ecn, Random, Segments, TransmitBuf};

use self::acknowledge::LossDetection;
use self::handshake::Handshake;
use self::outbound::{AckDebt, Control, Limited};
use self::reconfig::Reconfig;
use self::timers::{Timer, Timers};
use crate::clock::{Clock, Time};
use crate::controller::{self, Controller};
use crate::receive::{Delivery, Reassembly, TsnTracker};
use crate::send::{Draft, MtuSearch, NO_LIMIT, Outstanding, Pacer, RttEstimator, SendQueue};
use crate::wire::cause_code;
use crate::{
    CloseReason, Config, Error, Event, Message, Negotiated, Ppid, Reliability, SendOptions, State,
    Stats, StreamId,
};

/// One SCTP association.
#[derive(Debug)]
pub struct Association {
    config: Arc<Config>,
    random: Random,
    clock: Clock,
    state: State,
    /// Why it is over.
    over: Option<CloseReason>,
    stats: Stats,
    local_tag: u32,
    local_tsn: u32,
    remote_tag: u32,
    negotiated: Option<Negotiated>,
    handshake: Handshake,
    timers: Timers,
    control: Control,
    events: VecDeque<Event>,
    /// `Readable` was told, and `recv` has not answered `None` since.
    readable_told: bool,
    /// `send` answered `WouldBlock`, and `Writable` has not been told since.
    blocked: bool,

    queue: SendQueue,
    outstanding: Outstanding,
    rtt: RttEstimator,
    pacer: Pacer,
    controller: Box<dyn Controller>,
    mtu: MtuSearch,
    loss: LossDetection,
    /// What the peer advertised last.
    peer_window: usize,
    limited: Limited,
    /// Time-outs in a row.
    errors: u32,

    tracker: TsnTracker,
    reassembly: Reassembly,
    debt: AckDebt,
    reconfig: Reconfig,
}

impl Association {
    /// An association that is not started. `random` gives tags, the first TSN and cookies.
    pub fn new(config: impl Into<Arc<Config>>, mut random: Random) -> Self {
        let config = config.into();
        let local_tag = nonzero(&mut random);
        let local_tsn = random.u32();
        let packet = config.packet_sizes.base & !3;
        let whole_message = config
            .limits
            .whole_message
            .clamp(1, (config.receive_window / 2).max(1));
        Self {
            state: State::Closed,
            over: None,
            stats: Stats::default(),
            local_tag,
            local_tsn,
            remote_tag: 0,
            negotiated: None,
            handshake: Handshake::default(),
            timers: Timers::default(),
            control: Control::default(),
            events: VecDeque::new(),
            readable_told: false,
            blocked: false,
            queue: SendQueue::new(config.scheduler),
            outstanding: Outstanding::new(local_tsn),
            rtt: RttEstimator::new(config.rto),
            pacer: Pacer::default(),
            controller: controller::new(config.controller, packet, config.initial_window_packets),
            mtu: MtuSearch::new(config.packet_sizes),
            loss: LossDetection::default(),
            peer_window: 0,
            limited: Limited::default(),
            errors: 0,
            tracker: TsnTracker::new(0, config.limits.pending_chunks),
            reassembly: Reassembly::new(whole_message),
            debt: AckDebt::new(config.receive_window),
            reconfig: Reconfig::new(local_tsn),
            clock: Clock::default(),
            random,
            config,
        }
    }

    /// Starts the association. Both ends may do so; one that the peer has started already goes on.
    ///
    /// # Errors
    /// [`Error::WrongState`] if it was started here before, or is over.
    pub fn connect(&mut self, now: Instant) -> Result<(), Error> {
        let now = self.clock.at(now);
        self.start_handshake(now)
    }

    /// The INIT chunk of this end, for `a=sctp-init` (base64 of these bytes). It stays the same.
    pub fn init_chunk(&mut self) -> Bytes {
        self.own_init_chunk()
    }

    /// Opens the association with the INIT chunk that signalling brought from the peer, who has the
    /// one of [`init_chunk`](Self::init_chunk): no packet is needed (draft-hancke-tsvwg-snap).
    ///
    /// # Errors
    /// [`Error::MalformedInit`] if `init` is not a valid INIT chunk, [`Error::WrongState`] if the
    /// association is open or over. Nothing has changed then.
    pub fn connect_with_remote_init(&mut self, now: Instant, init: &[u8]) -> Result<(), Error> {
        let now = self.clock.at(now);
        self.start_with_remote_init(now, init)
    }

    /// Takes a packet that the layer below has decrypted.
    pub fn handle_packet(&mut self, now: Instant, packet: &[u8]) {
        self.handle_packet_with_ecn(now, packet, Ecn::NotEct);
    }

    /// The same, with the ECN bits of the datagram that brought it.
    pub fn handle_packet_with_ecn(&mut self, now: Instant, packet: &[u8], ecn: Ecn) {
        let now = self.clock.at(now);
        self.receive_packet(now, packet, ecn);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        let now = self.clock.at(now);
        self.run_timers(now);
    }

    /// The path below is another one, or is back after it was lost. What waits for a retransmission time-out leaves at once, not
    /// when the time-outs that nobody answered have doubled it to (RFC 9260 section 6.3.3), and the search for the path's MTU
    /// begins anew.
    pub fn path_changed(&mut self, now: Instant) {
        let now = self.clock.at(now);
        self.renew_path(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout), and then `poll_transmit`, is due.
    pub fn poll_timeout(&self) -> Option<Instant> {
        self.clock.instant(self.next_timeout())
    }

    /// Writes packets to be sent, full-sized ones back to back; `None` when there is nothing (more).
    /// `out` is to be cleared before.
    pub fn poll_transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Segments> {
        let now = self.clock.at(now);
        self.write_run(now, out)
    }

    /// The ECN codepoint that sent packets may carry.
    pub fn ecn(&self) -> Ecn {
        match self.negotiated {
            Some(negotiated) if negotiated.ecn => Ecn::Ect0,
            _ => Ecn::NotEct,
        }
    }

    /// What happened.
    pub fn poll_event(&mut self) -> Option<Event> {
        if let Some(event) = self.events.pop_front() {
            return Some(event);
        }
        if let Some(stream) = self.queue.poll_low() {
            return Some(Event::BufferedAmountLow(StreamId(stream)));
        }
        if self.blocked && self.send_buffered() <= self.config.limits.send_buffer / 2 {
            self.blocked = false;
            return Some(Event::Writable);
        }
        if !self.readable_told && self.reassembly.is_ready() {
            self.readable_told = true;
            return Some(Event::Readable);
        }
        None
    }

    /// The next message, or part of one, and makes room for more. A reset of incoming streams that
    /// stands before the next message becomes an event first: `None` is answered until
    /// [`poll_event`](Self::poll_event) has told it.
    pub fn recv(&mut self) -> Option<Message> {
        match self.reassembly.take() {
            Some(Delivery::Message(message)) => {
                self.update_window();
                Some(message)
            }
            Some(Delivery::Reset(streams)) => {
                self.tell(Event::IncomingReset(streams));
                self.readable_told = false;
                None
            }
            None => {
                self.readable_told = false;
                None
            }
        }
    }

    /// Sends a message. Before the association is open it waits.
    ///
    /// # Errors
    /// [`Error::WouldBlock`] while [`Limits::send_buffer`](crate::Limits::send_buffer) is full;
    /// the others when the message can never be sent.
    pub fn send(
        &mut self,
        now: Instant,
        stream: StreamId,
        ppid: Ppid,
        payload: Bytes,
        options: SendOptions,
    ) -> Result<(), Error> {
        if self.queue.is_open(stream.0) {
            return Err(Error::PartialMessage);
        }
        self.send_part(now, stream, ppid, payload, options, true)
    }

    /// Sends a message in parts, of any size together: the first call opens it, `last` ends it.
    /// Memory is bounded by the send buffer: `WouldBlock` asks the caller to wait. Without
    /// interleaving, nothing else leaves while a message that has begun is open. The latest part is
    /// kept back until another one, or the end, is known.
    ///
    /// # Errors
    /// As [`send`](Self::send). An empty part is an error unless it ends a message.
    pub fn send_part(
        &mut self,
        now: Instant,
        stream: StreamId,
        ppid: Ppid,
        payload: Bytes,
        options: SendOptions,
        last: bool,
    ) -> Result<(), Error> {
        let now = self.clock.at(now);
        let limits = &self.config.limits;
        if payload.len() > limits.max_send_message {
            return Err(Error::MessageTooLarge {
                size: payload.len(),
                limit: limits.max_send_message,
            });
        }
        // A message is taken whole as long as there is any room, so that one larger than the
        // buffer can be sent at all.
        if self.send_buffered() >= limits.send_buffer && !payload.is_empty() {
            self.blocked = true;
            return Err(Error::WouldBlock);
        }
        self.enqueue(now, stream, ppid, payload, options, last, true)
    }

    /// Sends a message of the layer above, whose bytes are not in the buffered amount. `always`
    /// means that no limit holds it back.
    pub(crate) fn send_uncounted(
        &mut self,
        now: Instant,
        stream: StreamId,
        ppid: Ppid,
        payload: Bytes,
        options: SendOptions,
        always: bool,
    ) -> Result<(), Error> {
        let now = self.clock.at(now);
        if !always && self.send_buffered() >= self.config.limits.send_buffer {
            self.blocked = true;
            return Err(Error::WouldBlock);
        }
        self.enqueue(now, stream, ppid, payload, options, true, false)
    }

    #[allow(clippy::too_many_arguments, reason = "the parts of one message")]
    fn enqueue(
        &mut self,
        now: Time,
        stream: StreamId,
        ppid: Ppid,
        payload: Bytes,
        options: SendOptions,
        last: bool,
        counted: bool,
    ) -> Result<(), Error> {
        if self.over.is_some() || self.is_shutting_down() {
            return Err(Error::NotOpen);
        }
        let open = self.queue.is_open(stream.0);
        if payload.is_empty() && !(open && last) {
            return Err(Error::EmptyMessage);
        }
        let streams = self
            .negotiated
            .map_or(self.config.outbound_streams, |n| n.outbound_streams);
        if stream.0 >= streams {
            return Err(Error::NoSuchStream(stream.0));
        }
        if self.queue.is_resetting(stream.0) {
            return Err(Error::StreamResetting(stream.0));
        }
        let (max_retransmits, deadline) = match options.reliability {
            Reliability::Reliable => (NO_LIMIT, Time::NEVER),
            Reliability::MaxRetransmits(limit) => (limit.min(NO_LIMIT - 1), Time::NEVER),
            Reliability::MaxLifetime(lifetime) => (NO_LIMIT, now + lifetime),
        };
        self.stats.bytes_sent += payload.len() as u64;
        self.stats.messages_sent += u64::from(last);
        let draft = Draft {
            data: payload,
            ppid: ppid.0,
            ordered: options.ordered,
            max_retransmits,
            deadline,
            end: last,
            counted,
        };
        self.queue.push(stream.0, draft);
        Ok(())
    }

    /// Gives up the message in parts that is open on a stream. What has been sent of it is
    /// abandoned if the peer knows how; else it ends where it is.
    pub fn cancel_part(&mut self, stream: StreamId) {
        let abandons = self.negotiated.is_some_and(|n| n.partial_reliability);
        if let Some((ordered, message)) = self.queue.cancel_open(stream.0, abandons) {
            self.abandon_begun(stream.0, ordered, message);
            self.queue.forget_open(stream.0);
        }
    }

    /// Bytes of a stream that have not been sent yet.
    pub fn buffered_amount(&self, stream: StreamId) -> usize {
        self.queue.buffered_on(stream.0)
    }

    /// Payload bytes of all streams that are not acknowledged, sent or not.
    pub fn send_buffered(&self) -> usize {
        self.queue.buffered() + self.outstanding.unacked_payload()
    }

    /// Received bytes, with the cost of holding them, that the application has not taken.
    pub fn received_waiting(&self) -> usize {
        self.reassembly.charged()
    }

    /// Asks for [`Event::BufferedAmountLow`] when the bytes waiting on a stream fall to `threshold`.
    pub fn set_buffered_amount_low_threshold(&mut self, stream: StreamId, threshold: usize) {
        self.queue.set_low_threshold(stream.0, threshold);
    }

    /// The share of a stream under [`SchedulerKind::WeightedFair`](crate::SchedulerKind): RFC 8831's
    /// priorities 128, 256, 512 and 1024 (`extra high`), or any other weight from 1.
    pub fn set_priority(&mut self, stream: StreamId, weight: u16) {
        self.queue.set_weight(stream.0, weight);
    }

    /// Resets the sending side of streams once what waits on them has been sent.
    ///
    /// # Errors
    /// [`Error::NotOpen`] before the association is open, or if the peer cannot reset streams.
    pub fn reset_streams(&mut self, now: Instant, streams: &[StreamId]) -> Result<(), Error> {
        let now = self.clock.at(now);
        self.ask_for_reset(now, streams)
    }

    /// Asks the peer for more streams to send on (RFC 6525 section 4.5);
    /// [`Event::StreamsAdded`] tells when they are there.
    ///
    /// # Errors
    /// [`Error::NotOpen`] as above, [`Error::NoFreeStream`] beyond 65535.
    pub fn add_outbound_streams(&mut self, now: Instant, count: u16) -> Result<(), Error> {
        let now = self.clock.at(now);
        self.ask_for_streams(now, count)
    }

    /// Ends the association when everything sent has been acknowledged.
    pub fn shutdown(&mut self, now: Instant) {
        let now = self.clock.at(now);
        match self.state {
            State::Established => {
                self.state = State::ShutdownPending;
                self.advance_shutdown(now);
            }
            State::Closed | State::CookieWait | State::CookieEchoed => {
                self.close(CloseReason::Shutdown);
            }
            _ => {}
        }
    }

    /// Ends the association at once.
    pub fn abort(&mut self, now: Instant) {
        let now = self.clock.at(now);
        self.abort_with(now, cause_code::USER_ABORT, CloseReason::LocalAbort);
    }

    /// Where the association stands.
    pub fn state(&self) -> State {
        self.state
    }

    /// What both ends agreed on; `None` until then.
    pub fn negotiated(&self) -> Option<Negotiated> {
        self.negotiated
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// Counters and gauges.
    pub fn stats(&self) -> Stats {
        Stats {
            messages_received: self.reassembly.messages(),
            messages_abandoned: self.stats.messages_abandoned + self.queue.abandoned(),
            congestion_window: self.controller.window(),
            in_flight: self.outstanding.in_flight(),
            peer_window: self.peer_window,
            pacing_rate: self.pacer.rate(),
            srtt: self.rtt.smoothed().unwrap_or_default(),
            min_rtt: self.rtt.min(),
            rto: self.rtt.rto(),
            packet_size: self.mtu.current(),
            ..self.stats
        }
    }

    /// Adds an event, dropping the oldest when nobody polls.
    fn tell(&mut self, event: Event) {
        if self.events.len() >= self.config.limits.events.max(8) {
            self.events.pop_front();
            self.stats.events_dropped += 1;
        }
        self.events.push_back(event);
    }

    fn interleaving(&self) -> bool {
        self.negotiated.is_some_and(|n| n.interleaving)
    }

    fn is_shutting_down(&self) -> bool {
        matches!(
            self.state,
            State::ShutdownPending
                | State::ShutdownSent
                | State::ShutdownReceived
                | State::ShutdownAckSent
        )
    }

    /// The association is over.
    fn close(&mut self, reason: CloseReason) {
        if self.over.is_some() {
            return;
        }
        self.state = State::Closed;
        self.over = Some(reason);
        self.timers = Timers::default();
        self.queue.clear();
        self.outstanding = Outstanding::new(self.outstanding.next_tsn());
        self.reassembly.clear();
        self.debt.forget();
        self.control.forget_requests();
        self.tell(Event::Closed(reason));
    }

    /// Sends ABORT and ends.
    fn abort_with(&mut self, _now: Time, cause: u16, reason: CloseReason) {
        if self.over.is_some() {
            return;
        }
        if self.state.is_connected() {
            self.control.abort = Some((self.remote_tag, false, cause));
        }
        self.close(reason);
    }
}

fn nonzero(random: &mut Random) -> u32 {
    loop {
        let number = random.u32();
        if number != 0 {
            return number;
        }
    }
}
