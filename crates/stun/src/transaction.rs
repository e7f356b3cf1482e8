//! The timers of a client transaction (RFC 8489 sections 6.2.1 and 6.2.2). No bytes live here: the owner keeps
//! or rebuilds the request, and sends it when told.

use std::time::{Duration, Instant};

use crate::header::TransactionId;

/// When to send a request again and when to give up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TransactionTimers {
    /// RTO: the first wait, doubled after each transmission. Default 500 ms; ICE computes its own
    /// (RFC 8445 section 14.3).
    pub rto: Duration,
    /// Rc: how many transmissions. Default 7.
    pub max_transmissions: u32,
    /// Rm: the wait after the last transmission, in units of `rto`. Default 16.
    pub last_wait: u32,
    /// Ti: the only wait on reliable transports. Default 39.5 s.
    pub reliable_wait: Duration,
}

impl Default for TransactionTimers {
    fn default() -> Self {
        Self {
            rto: Duration::from_millis(500),
            max_transmissions: 7,
            last_wait: 16,
            reliable_wait: Duration::from_millis(39_500),
        }
    }
}

impl TransactionTimers {
    /// The defaults with another RTO.
    pub fn with_rto(rto: Duration) -> Self {
        Self {
            rto,
            ..Self::default()
        }
    }
}

/// What is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TransactionStep {
    /// Send the request: for the first time, or again.
    Transmit,
    /// No response came in time: the transaction is over.
    TimedOut,
}

/// One request on its way.
#[derive(Debug, Clone)]
pub struct Transaction {
    id: TransactionId,
    timers: TransactionTimers,
    reliable: bool,
    transmissions: u32,
    first: Instant,
    due: Instant,
    /// The wait that follows the next transmission.
    wait: Duration,
}

impl Transaction {
    /// A request whose first transmission is due at once. `reliable` is for TCP and TLS, where there
    /// is one transmission only.
    pub fn new(now: Instant, id: TransactionId, timers: TransactionTimers, reliable: bool) -> Self {
        Self {
            id,
            timers,
            reliable,
            transmissions: 0,
            first: now,
            due: now,
            wait: timers.rto,
        }
    }

    /// The identifier that a response has to bear.
    pub fn id(&self) -> TransactionId {
        self.id
    }

    /// When [`poll`](Self::poll) has something to say.
    pub fn poll_timeout(&self) -> Instant {
        self.due
    }

    /// What [`poll`](Self::poll) would say now, without taking it as done.
    pub fn due(&self, now: Instant) -> Option<TransactionStep> {
        if now < self.due {
            None
        } else if self.transmissions >= self.limit() {
            Some(TransactionStep::TimedOut)
        } else {
            Some(TransactionStep::Transmit)
        }
    }

    /// How many transmissions there are at most.
    fn limit(&self) -> u32 {
        if self.reliable {
            1
        } else {
            self.timers.max_transmissions
        }
    }

    /// What is due now; `None` before [`poll_timeout`](Self::poll_timeout). [`TransactionStep::Transmit`] is taken as
    /// done; [`TransactionStep::TimedOut`] comes again for as long as it is asked for.
    pub fn poll(&mut self, now: Instant) -> Option<TransactionStep> {
        let step = self.due(now)?;
        if step == TransactionStep::TimedOut {
            return Some(step);
        }
        if self.transmissions == 0 {
            self.first = now;
        }
        self.transmissions += 1;
        self.due = now
            + if self.reliable {
                self.timers.reliable_wait
            } else if self.transmissions == self.limit() {
                self.timers.rto * self.timers.last_wait
            } else {
                self.wait
            };
        self.wait = self.wait.saturating_mul(2);
        Some(step)
    }

    /// How often the request was sent.
    pub fn transmissions(&self) -> u32 {
        self.transmissions
    }

    /// The round trip, if a response that arrives now measures one: the request was sent exactly once
    /// (Karn's algorithm).
    pub fn rtt(&self, now: Instant) -> Option<Duration> {
        (self.transmissions == 1).then(|| now.saturating_duration_since(self.first))
    }

    /// When the request was first sent, or made if it was not yet.
    pub fn started(&self) -> Instant {
        self.first
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::{Transaction, TransactionStep, TransactionTimers};
    use crate::TransactionId;

    fn run(timers: TransactionTimers, reliable: bool) -> (Vec<u64>, u64) {
        let start = Instant::now();
        let mut transaction = Transaction::new(start, TransactionId([1; 12]), timers, reliable);
        let mut sent = Vec::new();
        loop {
            let now = transaction.poll_timeout();
            if now > start {
                assert_eq!(transaction.poll(now - Duration::from_nanos(1)), None);
            }
            let elapsed = (now - start).as_millis() as u64;
            match transaction.poll(now) {
                Some(TransactionStep::Transmit) => sent.push(elapsed),
                Some(TransactionStep::TimedOut) => return (sent, elapsed),
                None => panic!("nothing at its own timeout"),
            }
        }
    }

    #[test]
    fn rfc_8489_section_6_2_1_example() {
        // "requests would be sent at times 0 ms, 500 ms, 1500 ms, 3500 ms, 7500 ms, 15500 ms, and 31500 ms.
        // If the client has not received a response after 39500 ms, ..."
        let (sent, end) = run(TransactionTimers::default(), false);
        assert_eq!(sent, [0, 500, 1500, 3500, 7500, 15500, 31500]);
        assert_eq!(end, 39_500);
    }

    #[test]
    fn rfc_8489_section_6_2_2_reliable_transports_send_once() {
        assert_eq!(run(TransactionTimers::default(), true), (vec![0], 39_500));
    }

    #[test]
    fn only_a_request_sent_once_measures_a_round_trip() {
        let start = Instant::now();
        let timers = TransactionTimers::with_rto(Duration::from_millis(100));
        let mut transaction = Transaction::new(start, TransactionId([1; 12]), timers, false);
        assert_eq!(transaction.rtt(start), None);
        let sent = start + Duration::from_millis(5);
        transaction.poll(sent);
        let answered = sent + Duration::from_millis(30);
        assert_eq!(transaction.rtt(answered), Some(Duration::from_millis(30)));
        transaction.poll(sent + Duration::from_millis(100));
        assert_eq!(transaction.rtt(answered), None);
    }
}
