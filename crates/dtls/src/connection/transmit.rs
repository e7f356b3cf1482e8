//! What the connection itself sends: alerts, ACKs, flights.

use std::time::Instant;

use visavis_datagram::{Segments, TransmitBuf};

use super::{Connection, Phase};
use crate::Version;
use crate::acks::NUMBER_LEN;
use crate::message::MessageType;
use crate::record::ContentType;

impl Connection {
    pub(super) fn transmit(&mut self, now: Instant, out: &mut TransmitBuf) -> Option<Segments> {
        let mut wrote = false;
        loop {
            let room = out.available();
            if room == 0 {
                break;
            }
            // The first datagram of a run sets the size of all.
            let mtu = if out.is_empty() {
                self.mtu.min(room)
            } else {
                self.mtu
            };
            if self.outgoing.is_empty() && !self.write_datagram(now, mtu) {
                break;
            }
            if out.push(&self.outgoing) {
                self.stats.datagrams_sent += 1;
                self.outgoing.clear();
                wrote = true;
            } else {
                if out.is_empty() {
                    // It was written for a larger buffer; a retransmission will fit this one.
                    self.outgoing.clear();
                }
                break;
            }
        }
        if wrote { out.segments() } else { None }
    }

    /// Writes the next datagram to `outgoing`; false if there is none.
    fn write_datagram(&mut self, now: Instant, mtu: usize) -> bool {
        let mut out = std::mem::take(&mut self.outgoing);
        self.write_acks(mtu, &mut out);
        self.write_alert(&mut out);
        if out.is_empty() && self.phase != Phase::Closed && !self.outer.carries_flights() {
            self.write_flight(now, mtu, &mut out);
        }
        self.outgoing = out;
        !self.outgoing.is_empty()
    }

    fn write_alert(&mut self, out: &mut Vec<u8>) {
        if let Some(alert) = self.alert.take() {
            let epoch = self.records.write_epoch();
            self.records
                .append(epoch, ContentType::ALERT, &[&alert.encode()], out);
            self.stats.alerts_sent += 1;
        }
    }

    fn write_acks(&mut self, mtu: usize, out: &mut Vec<u8>) {
        if !self.acks.is_requested() || self.phase == Phase::Closed {
            return;
        }
        // RFC 9147 section 7: the highest epoch that we can send in.
        let epoch = self.records.write_epoch();
        let framing = self.records.framing(epoch);
        let room = mtu.saturating_sub(framing.header + 2 + framing.trailer);
        // In plaintext nothing is known to be safe to acknowledge: an empty one.
        let max = if epoch == 0 { 0 } else { room / NUMBER_LEN };
        let content = self.acks.encode(max);
        self.records
            .append(epoch, ContentType::ACK, &[&content], out);
        self.stats.acks_sent += 1;
        if self.phase == Phase::Connected {
            self.acks.clear();
        }
        self.timers.ack = None;
    }

    fn write_flight(&mut self, now: Instant, mtu: usize, out: &mut Vec<u8>) {
        if !self.flight.is_sending() {
            self.next_post_handshake();
        }
        let max_sent = self.config.limits.record_numbers;
        if self
            .flight
            .write_datagram(now, &mut self.records, mtu, max_sent, out)
            && !self.flight.is_sending()
            && self.flight.expects_answer()
        {
            self.timers.retransmit = Some(now + self.timeout);
        }
    }

    /// Starts the next message behind the handshake, once the one before is acknowledged
    /// (RFC 9147 section 8).
    fn next_post_handshake(&mut self) {
        if self.phase != Phase::Connected
            || !self.flight.is_empty()
            || self.version() != Some(Version::Dtls13)
            || self.next_sequence > u32::from(u16::MAX)
        {
            return;
        }
        if let Some((message_type, body)) = self.post_handshake.pop_front() {
            self.flight.start(true);
            self.outer.flight_changed();
            let sequence = self.take_sequence();
            let epoch = self.records.write_epoch();
            self.updating = message_type == MessageType::KEY_UPDATE;
            self.flight.push(message_type, epoch, sequence, body);
        }
    }
}
