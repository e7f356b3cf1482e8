//! One end of a TCP connection: handshake, retransmission with selective acknowledgements,
//! NewReno congestion control (RFC 5681, 6298, 6675, without their rarer corners).

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use crate::tcp::{ACK, FIN, RST, SYN, Segment, TimerId};
use crate::{Payload, TcpEvent};

/// Bytes of data per segment.
const MSS: u64 = 1400;
/// The most that is in flight or waits out of order at the receiver, in bytes.
const WINDOW: u64 = 4 << 20;
/// Initial congestion window (RFC 6928).
const INITIAL_WINDOW: f64 = 10.0 * MSS as f64;
const MS: u64 = 1_000_000;
/// Initial, least and greatest retransmission timeouts in nanoseconds (RFC 6298; the least as Linux has it).
const INITIAL_RTO: u64 = 1000 * MS;
const MIN_RTO: u64 = 200 * MS;
const MAX_RTO: u64 = 60_000 * MS;
/// Unanswered SYNs, and unanswered retransmissions, after which the peer is given up.
const SYN_RETRIES: u32 = 6;
const RETRIES: u32 = 12;

/// What a connection wants done.
#[derive(Debug)]
pub(crate) enum Emit {
    Segment {
        local: SocketAddr,
        remote: SocketAddr,
        segment: Segment,
        /// The stream's bytes that it carries.
        range: Option<(u64, u64)>,
    },
    Event {
        local: SocketAddr,
        remote: SocketAddr,
        event: TcpEvent,
    },
    Timer {
        at: u64,
        timer: TimerId,
    },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Listen,
    SynSent,
    SynReceived,
    Established,
    Over,
}

#[derive(Debug, Clone, Copy)]
struct InFlight {
    start: u64,
    end: u64,
    sent_at: u64,
    retransmitted: bool,
    sacked: bool,
    lost: bool,
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) local: SocketAddr,
    pub(crate) remote: SocketAddr,
    pub(crate) made: u32,
    state: State,
    active: bool,
    /// Stream bytes from `una` (at least 1) on.
    buffer: VecDeque<u8>,
    una: u64,
    next: u64,
    flight: VecDeque<InFlight>,
    closing: bool,
    fin_sent: bool,
    window: f64,
    threshold: f64,
    /// Where the recovery ends that goes on.
    recovery: Option<u64>,
    highest_sack: u64,
    smoothed_rtt: f64,
    rtt_variation: f64,
    rto: u64,
    retries: u32,
    /// When the retransmission timer fires, and whether the simulation knows.
    due: Option<u64>,
    armed: Option<u64>,
    expected: u64,
    early: BTreeMap<u64, Vec<u8>>,
    peer_fin: Option<u64>,
    finished: bool,
}

impl Connection {
    pub(crate) fn new(local: SocketAddr, remote: SocketAddr, made: u32) -> Self {
        Self {
            local,
            remote,
            made,
            state: State::Listen,
            active: false,
            buffer: VecDeque::new(),
            una: 0,
            next: 0,
            flight: VecDeque::new(),
            closing: false,
            fin_sent: false,
            window: INITIAL_WINDOW,
            threshold: f64::INFINITY,
            recovery: None,
            highest_sack: 0,
            smoothed_rtt: 0.0,
            rtt_variation: 0.0,
            rto: INITIAL_RTO,
            retries: 0,
            due: None,
            armed: None,
            expected: 0,
            early: BTreeMap::new(),
            peer_fin: None,
            finished: false,
        }
    }

    pub(crate) fn connect(&mut self, now: u64, out: &mut Vec<Emit>) {
        self.active = true;
        self.state = State::SynSent;
        self.send_syn(now, SYN, out);
    }

    pub(crate) fn accept(&mut self) {
        self.state = State::Listen;
    }

    pub(crate) fn write(&mut self, now: u64, bytes: &[u8], out: &mut Vec<Emit>) {
        if !self.closing {
            self.buffer.extend(bytes);
            self.send(now, out);
        }
    }

    pub(crate) fn close(&mut self, now: u64, out: &mut Vec<Emit>) {
        self.closing = true;
        self.send(now, out);
    }

    pub(crate) fn reset(&mut self, out: &mut Vec<Emit>) {
        self.emit(RST | ACK, self.next, None, out);
        self.state = State::Over;
    }

    pub(crate) fn is_over(&self) -> bool {
        self.state == State::Over
    }

    pub(crate) fn unacknowledged(&self) -> usize {
        self.buffer.len()
    }

    /// When a new timer is to be set; the simulation is told once.
    pub(crate) fn take_timer(&mut self) -> Option<u64> {
        let due = self.due?;
        // A timer that is armed earlier re-arms itself.
        if self.armed.is_some_and(|armed| armed <= due) {
            return None;
        }
        self.armed = Some(due);
        Some(due)
    }

    pub(crate) fn bytes(&self, range: (u64, u64)) -> &[u8] {
        // The buffer is made contiguous before each send.
        let base = self.una.max(1);
        let (start, end) = ((range.0 - base) as usize, (range.1 - base) as usize);
        self.buffer.as_slices().0.get(start..end).unwrap_or(&[])
    }

    pub(crate) fn timeout(&mut self, now: u64, out: &mut Vec<Emit>) {
        if self.armed != Some(now) {
            return;
        }
        self.armed = None;
        match self.due {
            Some(due) if due <= now => {}
            _ => return,
        }
        self.due = None;
        self.retries += 1;
        let most = if self.state == State::Established {
            RETRIES
        } else {
            SYN_RETRIES
        };
        if self.retries > most {
            self.state = State::Over;
            self.event(TcpEvent::TimedOut, out);
            return;
        }
        self.rto = (self.rto * 2).min(MAX_RTO);
        match self.state {
            State::SynSent => self.send_syn(now, SYN, out),
            State::SynReceived => self.send_syn(now, SYN | ACK, out),
            State::Established => {
                let in_flight = (self.next - self.una) as f64;
                self.threshold = (in_flight / 2.0).max(2.0 * MSS as f64);
                self.window = MSS as f64;
                self.recovery = None;
                for segment in &mut self.flight {
                    segment.lost = !segment.sacked;
                }
                self.send(now, out);
                self.arm(now);
            }
            State::Listen | State::Over => {}
        }
    }

    pub(crate) fn segment(
        &mut self,
        now: u64,
        segment: Segment,
        payload: &[u8],
        out: &mut Vec<Emit>,
    ) {
        if segment.flags & RST != 0 {
            self.take_reset(segment, out);
            return;
        }
        if segment.flags & SYN != 0 {
            self.take_syn(now, segment, out);
            return;
        }
        if self.state == State::SynReceived && segment.acknowledgement >= 1 {
            self.establish(out);
        }
        if self.state != State::Established {
            return;
        }
        if segment.flags & ACK != 0 {
            self.take_acknowledgement(now, segment);
        }
        let fin = segment.flags & FIN != 0;
        if fin {
            self.peer_fin = Some(segment.sequence + payload.len() as u64);
        }
        if !payload.is_empty() {
            self.take_data(segment.sequence, payload, out);
        }
        if self.peer_fin == Some(self.expected) && !self.finished {
            self.expected += 1;
            self.finished = true;
            self.event(TcpEvent::Finished, out);
        }
        if !payload.is_empty() || fin {
            self.emit(ACK, self.next, None, out);
        }
        self.send(now, out);
        let all_sent = self.fin_sent && self.una == self.next;
        if all_sent && self.finished {
            self.state = State::Over;
        }
    }

    fn take_reset(&mut self, segment: Segment, out: &mut Vec<Emit>) {
        let event = match self.state {
            // Only an answer to our SYN counts (RFC 9293 section 3.10.7.3).
            State::SynSent if segment.acknowledgement == 1 => TcpEvent::Refused,
            State::SynSent => return,
            State::SynReceived if self.active => TcpEvent::Refused,
            State::SynReceived | State::Listen | State::Over => {
                self.state = State::Over;
                return;
            }
            // Both sides are done; only the last acknowledgement was lost.
            State::Established if self.fin_sent && self.finished => {
                self.state = State::Over;
                return;
            }
            State::Established => TcpEvent::Reset,
        };
        self.state = State::Over;
        self.event(event, out);
    }

    fn take_syn(&mut self, now: u64, segment: Segment, out: &mut Vec<Emit>) {
        self.expected = self.expected.max(1);
        match self.state {
            State::Listen => {
                self.state = State::SynReceived;
                self.send_syn(now, SYN | ACK, out);
            }
            State::SynSent if segment.flags & ACK != 0 => {
                self.establish(out);
                self.emit(ACK, self.next, None, out);
                self.send(now, out);
            }
            // Simultaneous open (RFC 9293 section 3.5).
            State::SynSent => {
                self.state = State::SynReceived;
                self.send_syn(now, SYN | ACK, out);
            }
            State::SynReceived if segment.flags & ACK != 0 => {
                self.establish(out);
                self.emit(ACK, self.next, None, out);
                self.send(now, out);
            }
            State::SynReceived => self.send_syn(now, SYN | ACK, out),
            // Our acknowledgement was lost.
            State::Established => self.emit(ACK, self.next, None, out),
            State::Over => {}
        }
    }

    fn establish(&mut self, out: &mut Vec<Emit>) {
        self.state = State::Established;
        self.una = self.una.max(1);
        self.next = self.next.max(1);
        self.retries = 0;
        self.rto = INITIAL_RTO;
        self.due = None;
        let event = if self.active {
            TcpEvent::Connected
        } else {
            TcpEvent::Accepted
        };
        self.event(event, out);
    }

    fn take_acknowledgement(&mut self, now: u64, segment: Segment) {
        let acknowledged = segment.acknowledgement;
        if acknowledged > self.next {
            return;
        }
        if acknowledged > self.una {
            // The FIN takes a sequence number, but no place in the buffer.
            let bytes = (acknowledged - self.una).min(self.buffer.len() as u64);
            self.buffer.drain(..bytes as usize);
            self.una = acknowledged;
            // Progress ends the back-off, even where no round trip can be measured.
            self.retries = 0;
            self.set_rto();
            while let Some(front) = self.flight.front().copied() {
                if front.end > acknowledged {
                    break;
                }
                self.flight.pop_front();
                if !front.retransmitted {
                    self.take_rtt(now - front.sent_at);
                }
            }
            match self.recovery {
                Some(end) if acknowledged >= end => {
                    self.recovery = None;
                    self.window = self.threshold;
                }
                Some(_) => {}
                None if self.window < self.threshold => self.window += bytes as f64,
                None => self.window += MSS as f64 * bytes as f64 / self.window,
            }
            self.due = None;
            if self.una < self.next {
                self.arm(now);
            }
        }
        for (start, end) in segment.sack {
            if end > start {
                self.highest_sack = self.highest_sack.max(end);
                for in_flight in &mut self.flight {
                    in_flight.sacked |= in_flight.start >= start && in_flight.end <= end;
                }
            }
        }
        // A segment is lost once three segments' worth of bytes above it have arrived (RFC 6675),
        // and once more only when what was sent after its retransmission arrived a round trip later.
        let mut loss = false;
        let again = (self.smoothed_rtt + 4.0 * self.rtt_variation) as u64 + 10 * MS;
        for in_flight in &mut self.flight {
            if in_flight.end + 3 * MSS > self.highest_sack {
                break;
            }
            let fresh = !in_flight.retransmitted || now.saturating_sub(in_flight.sent_at) > again;
            if !in_flight.sacked && !in_flight.lost && fresh {
                in_flight.lost = true;
                loss = true;
            }
        }
        if loss && self.recovery.is_none() {
            let in_flight = (self.next - self.una) as f64;
            self.threshold = (self.window.min(in_flight) / 2.0).max(2.0 * MSS as f64);
            self.window = self.threshold;
            self.recovery = Some(self.next);
        }
    }

    fn take_rtt(&mut self, sample: u64) {
        let sample = sample as f64;
        if self.smoothed_rtt == 0.0 {
            self.smoothed_rtt = sample;
            self.rtt_variation = sample / 2.0;
        } else {
            let error = (self.smoothed_rtt - sample).abs();
            self.rtt_variation += (error - self.rtt_variation) / 4.0;
            self.smoothed_rtt += (sample - self.smoothed_rtt) / 8.0;
        }
        self.set_rto();
    }

    fn set_rto(&mut self) {
        if self.smoothed_rtt > 0.0 {
            let rto = (self.smoothed_rtt + 4.0 * self.rtt_variation) as u64;
            self.rto = rto.clamp(MIN_RTO, MAX_RTO);
        }
    }

    fn take_data(&mut self, sequence: u64, payload: &[u8], out: &mut Vec<Emit>) {
        let end = sequence + payload.len() as u64;
        if end <= self.expected || end > self.expected + WINDOW {
            return;
        }
        if sequence > self.expected {
            // Head of line: what comes early waits.
            self.early
                .entry(sequence)
                .or_insert_with(|| payload.to_vec());
            return;
        }
        let mut data = payload[(self.expected - sequence) as usize..].to_vec();
        self.expected = end;
        while let Some((start, _)) = self.early.first_key_value() {
            if *start > self.expected {
                break;
            }
            if let Some((start, bytes)) = self.early.pop_first() {
                let end = start + bytes.len() as u64;
                if end > self.expected {
                    data.extend_from_slice(&bytes[(self.expected - start) as usize..]);
                    self.expected = end;
                }
            }
        }
        self.event(TcpEvent::Data(Payload(data)), out);
    }

    /// Sends what the windows allow: lost segments first.
    fn send(&mut self, now: u64, out: &mut Vec<Emit>) {
        if self.state != State::Established {
            return;
        }
        self.buffer.make_contiguous();
        let counts = |segment: &&InFlight| !segment.sacked && !segment.lost;
        let mut pipe: u64 = self
            .flight
            .iter()
            .filter(counts)
            .map(|segment| segment.end - segment.start)
            .sum();
        let end_of_data = self.una.max(1) + self.buffer.len() as u64;
        for index in 0..self.flight.len() {
            if !self.flight[index].lost {
                continue;
            }
            if pipe as f64 + MSS as f64 > self.window && pipe > 0 {
                break;
            }
            let segment = &mut self.flight[index];
            segment.lost = false;
            segment.retransmitted = true;
            segment.sent_at = now;
            let (start, end) = (segment.start, segment.end);
            pipe += end - start;
            self.send_range(start, end, end_of_data, out);
            self.arm_if_idle(now);
        }
        let limit = self.una + WINDOW;
        while self.next < end_of_data && pipe as f64 + MSS as f64 <= self.window.max(MSS as f64) {
            let end = (self.next + MSS).min(end_of_data);
            if end > limit {
                break;
            }
            let start = self.next;
            self.next = end;
            pipe += end - start;
            self.track(now, start, end);
            self.send_range(start, end, end_of_data, out);
        }
        if self.closing && !self.fin_sent && self.next == end_of_data {
            self.fin_sent = true;
            let start = self.next;
            self.next += 1;
            self.track(now, start, start + 1);
            self.send_range(start, start + 1, end_of_data, out);
        }
    }

    fn track(&mut self, now: u64, start: u64, end: u64) {
        self.flight.push_back(InFlight {
            start,
            end,
            sent_at: now,
            retransmitted: false,
            sacked: false,
            lost: false,
        });
        self.arm_if_idle(now);
    }

    fn send_range(&self, start: u64, end: u64, end_of_data: u64, out: &mut Vec<Emit>) {
        if start >= end_of_data {
            self.emit(FIN | ACK, start, None, out);
        } else {
            self.emit(ACK, start, Some((start, end)), out);
        }
    }

    fn send_syn(&mut self, now: u64, flags: u8, out: &mut Vec<Emit>) {
        self.next = self.next.max(1);
        self.emit(flags, 0, None, out);
        self.arm(now);
    }

    fn arm(&mut self, now: u64) {
        self.due = Some(now + self.rto);
    }

    fn arm_if_idle(&mut self, now: u64) {
        if self.due.is_none() {
            self.arm(now);
        }
    }

    fn emit(&self, flags: u8, sequence: u64, range: Option<(u64, u64)>, out: &mut Vec<Emit>) {
        let mut sack = [(0, 0); 3];
        if !self.early.is_empty() {
            self.ranges(&mut sack);
        }
        out.push(Emit::Segment {
            local: self.local,
            remote: self.remote,
            segment: Segment {
                flags,
                sequence,
                acknowledgement: self.expected,
                sack,
            },
            range,
        });
    }

    /// The highest ranges that have arrived early. (RFC 2018 asks for the latest; in order of
    /// arrival, the two agree but for retransmissions, which the acknowledgement tells.)
    fn ranges(&self, sack: &mut [(u64, u64); 3]) {
        let mut count = 0;
        for (&start, bytes) in self.early.iter().rev() {
            let end = start + bytes.len() as u64;
            if count > 0 && sack[count - 1].0 <= end {
                sack[count - 1].0 = start;
                continue;
            }
            if count == sack.len() {
                return;
            }
            sack[count] = (start, end);
            count += 1;
        }
    }

    fn event(&self, event: TcpEvent, out: &mut Vec<Emit>) {
        out.push(Emit::Event {
            local: self.local,
            remote: self.remote,
            event,
        });
    }
}
