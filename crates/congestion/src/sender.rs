//! History, controller and pacer in one: what a connection's send side holds.

use std::time::Instant;

use crate::controller::{Controller, Target};
use crate::history::SentPackets;
use crate::pacer::{Pacer, PacerConfig, Queued, Release};
use crate::packet::{Arrival, Feedback, MAX_PACKET, PacketResult, SentPacket};

/// The send side of one transport. `T` is the caller's name for a packet.
#[derive(Debug)]
pub struct Sender<C, T> {
    /// The controller.
    pub controller: C,
    history: SentPackets,
    pacer: Pacer<T>,
    results: Vec<PacketResult>,
}

/// Packets of one feedback that there is memory for from the start.
const RESULTS: usize = 256;

impl<C: Controller, T: Copy> Sender<C, T> {
    /// A sender with a controller of its own.
    pub fn new(controller: C, pacer: PacerConfig) -> Self {
        let mut sender = Self {
            pacer: Pacer::new(pacer),
            history: SentPackets::default(),
            results: Vec::with_capacity(RESULTS),
            controller,
        };
        sender.follow();
        sender
    }

    /// The same, remembering `history` packets at most (rounded up to a power of two) rather than the
    /// 8192 of [`new`](Self::new), with memory that grows with what is in flight: for who has thousands of transports at
    /// modest rates.
    pub fn with_history(controller: C, pacer: PacerConfig, history: usize) -> Self {
        let mut sender = Self {
            pacer: Pacer::new(pacer),
            history: SentPackets::growing(history),
            results: Vec::new(),
            controller,
        };
        sender.follow();
        sender
    }

    /// Reads what a packet will touch, and does nothing else: who goes through many senders asks the next one, so that
    /// caches fetch all of it at once, and meanwhile, rather than one thing after another.
    pub fn warm(&self) {
        self.pacer.warm();
        self.history.warm();
        self.controller.warm();
    }

    /// Takes a packet to send; gives it back where the queue is full.
    pub fn push(&mut self, now: Instant, packet: Queued<T>) -> Result<(), Queued<T>> {
        self.pacer.push(now, packet)
    }

    /// What is to be sent now; asked again until `None`. Each release that really leaves is to be
    /// told to [`sent`](Self::sent).
    pub fn poll(&mut self, now: Instant) -> Option<Release<T>> {
        self.pacer.poll(now)
    }

    /// A packet has left.
    pub fn sent(&mut self, now: Instant, packet: &SentPacket) {
        let packet = &SentPacket {
            size: packet.size.min(MAX_PACKET),
            ..*packet
        };
        self.pacer.left(now, packet.size);
        self.history.sent(now, packet);
        self.controller.packet_sent(now, packet);
        // What may be sent does not change by what is.
        self.pacer.set_in_flight(self.history.in_flight());
        self.follow_probes();
    }

    /// Feedback has come.
    pub fn feedback(&mut self, now: Instant, arrivals: &[Arrival]) {
        let mut results = std::mem::take(&mut self.results);
        self.feedback_by(now, arrivals.iter().copied(), &mut results);
        self.results = results;
    }

    /// The same with memory of the caller's for the results: who has many senders touches the same one for all of them.
    pub fn feedback_by(
        &mut self,
        now: Instant,
        arrivals: impl IntoIterator<Item = Arrival>,
        results: &mut Vec<PacketResult>,
    ) {
        self.history.resolve(arrivals, results);
        let feedback = Feedback {
            packets: results,
            in_flight: self.history.in_flight(),
        };
        self.controller.feedback(now, &feedback);
        self.follow();
    }

    /// The time that [`poll_timeout`](Self::poll_timeout) named has come.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.controller.poll_timeout().is_some_and(|due| due <= now) {
            self.controller.handle_timeout(now);
            self.follow();
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) and then [`poll`](Self::poll) want to be called.
    pub fn poll_timeout(&self) -> Option<Instant> {
        [self.controller.poll_timeout(), self.pacer.poll_timeout()]
            .into_iter()
            .flatten()
            .min()
    }

    /// What may be sent.
    pub fn target(&self) -> Target {
        self.controller.target()
    }

    /// The pacer.
    pub fn pacer(&self) -> &Pacer<T> {
        &self.pacer
    }

    /// The pacer, e.g. to drop what waits for a track that has stopped.
    pub fn pacer_mut(&mut self) -> &mut Pacer<T> {
        &mut self.pacer
    }

    /// What was sent.
    pub fn history(&self) -> &SentPackets {
        &self.history
    }

    /// Makes the pacer follow the controller.
    fn follow(&mut self) {
        self.pacer.set_target(&self.controller.target());
        self.pacer.set_in_flight(self.history.in_flight());
        self.follow_probes();
    }

    fn follow_probes(&mut self) {
        while let Some(probe) = self.controller.poll_probe() {
            self.pacer.add_probe(probe);
        }
    }
}
