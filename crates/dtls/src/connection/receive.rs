//! From datagrams to messages: records, alerts, ACKs, handshake fragments.

use std::ops::Range;
use std::time::Instant;

use super::handshake::{APPLICATION_EPOCH, Failure};
use super::{Connection, Phase, Received};
use crate::acks::Acks;
use crate::alert::{Alert, AlertDescription};
use crate::codec::Reader;
use crate::event::CloseReason;
use crate::message::{Fragment, MessageType};
use crate::reassembly::Inserted;
use crate::record::{ContentType, Opened, Outcome, RecordHeader, RecordNumber};
use crate::{Event, PeerVerification, Role, Version};

impl Connection {
    pub(super) fn receive(&mut self, now: Instant, datagram: &mut [u8]) -> Received {
        let mut received = Received::default();
        self.stats.datagrams_received += 1;
        let len = datagram.len();
        let mut at = 0;
        while at < len && self.phase != Phase::Closed {
            let Some(header) = RecordHeader::parse(&datagram[at..], &self.records.local_id) else {
                self.stats.malformed += 1;
                break;
            };
            let end = at + header.record_len();
            let record = &mut datagram[at..end];
            self.incoming_len = len;
            if let Some(content) = self.handle_record(now, header, record) {
                if received.push(at + content.start..at + content.end) {
                    self.stats.data_records_received += 1;
                } else {
                    self.stats.data_overflow += 1;
                }
            }
            at = end;
        }
        received
    }

    /// Opens a record; gives where its application data stands, if it holds some.
    fn handle_record(
        &mut self,
        now: Instant,
        header: RecordHeader,
        record: &mut [u8],
    ) -> Option<Range<usize>> {
        let opened = match self.records.open(header, record, &mut self.stats) {
            Outcome::Opened(opened) => opened,
            Outcome::Dropped => {
                if self.records.forged() > self.config.limits.forged_records {
                    self.close_with(CloseReason::TooManyForgeries);
                }
                return None;
            }
            Outcome::NoKeys => {
                self.defer(now, header, record);
                return None;
            }
        };
        let Opened {
            content_type,
            number,
            content,
        } = opened;
        if content_type == ContentType::APPLICATION_DATA {
            if self.phase != Phase::Connected {
                // 1.2 between the keys and the Finished.
                self.stats.early_data += 1;
                return None;
            }
            if number.epoch > APPLICATION_EPOCH {
                self.peer_uses_new_keys(number.epoch);
            }
            return Some(content);
        }
        let bytes = &record[content];
        match content_type {
            ContentType::HANDSHAKE => self.handle_handshake_record(now, number, bytes),
            ContentType::ALERT => self.handle_alert(number, bytes),
            ContentType::ACK => self.handle_ack(now, number, bytes),
            // It carries nothing: the epoch of the records behind it says the same
            // (RFC 6347 section 4.1). In 1.3 there is none.
            ContentType::CHANGE_CIPHER_SPEC => {}
            _ => self.stats.malformed += 1,
        }
        if number.epoch > APPLICATION_EPOCH {
            self.peer_uses_new_keys(number.epoch);
        }
        None
    }

    /// Keeps a copy of a record that came before the message that its keys depend on.
    fn defer(&mut self, now: Instant, header: RecordHeader, record: &[u8]) {
        let limits = &self.config.limits;
        let may_come = self.phase == Phase::Handshaking
            && match header {
                RecordHeader::Unified { .. } => self.version() != Some(Version::Dtls12),
                RecordHeader::Legacy { epoch, .. } => {
                    epoch == 1 && self.version() != Some(Version::Dtls13)
                }
            };
        if !may_come {
            self.stats.unknown_epoch += 1;
            return;
        }
        if self.deferred.len() >= limits.deferred_records
            || self.deferred_bytes + record.len() > limits.deferred_bytes
        {
            self.stats.deferred_overflow += 1;
            return;
        }
        self.stats.deferred += 1;
        self.deferred_bytes += record.len();
        self.deferred.push(record.into());
        // Only a server of 1.3 sends such records: an empty ACK says that its ServerHello is missing
        // (RFC 9147 section 7.1).
        if self.role == Role::Client
            && matches!(header, RecordHeader::Unified { .. })
            && self.timers.ack.is_none()
        {
            self.timers.ack = Some(now + self.timeout / 4);
        }
    }

    /// Takes the kept records again, because there are new keys.
    fn run_deferred(&mut self, now: Instant) {
        if self.deferred.is_empty() {
            return;
        }
        self.deferred_bytes = 0;
        for mut record in std::mem::take(&mut self.deferred) {
            let Some(header) = RecordHeader::parse(&record, &self.records.local_id) else {
                // It does not carry the connection ID that was negotiated meanwhile.
                self.stats.malformed += 1;
                continue;
            };
            if let Some(content) = self.handle_record(now, header, &mut record) {
                self.stats.data_records_received += 1;
                self.push_event(Event::ApplicationData(record[content].to_vec()));
            }
        }
    }

    fn handle_handshake_record(&mut self, now: Instant, number: RecordNumber, content: &[u8]) {
        let mut reader = Reader::new(content);
        let (mut kept, mut old, mut refused, mut gap) = (false, false, false, false);
        if content.is_empty() {
            self.stats.malformed += 1;
        }
        while !reader.is_empty() {
            let Ok(fragment) = Fragment::read(&mut reader) else {
                self.stats.malformed += 1;
                refused = true;
                break;
            };
            let is_old = u32::from(fragment.header.sequence) < self.reassembler.next_sequence();
            if number.epoch < self.min_epoch && !is_old {
                self.stats.fragments_refused += 1;
                refused = true;
                continue;
            }
            let limits = &self.config.limits;
            match self.reassembler.insert(number.epoch, &fragment, limits) {
                Inserted::New { in_order } => {
                    kept = true;
                    gap |= !in_order;
                    let header = &fragment.header;
                    if header.offset + header.fragment_length < header.length {
                        self.peer_cut = self.peer_cut.max(self.incoming_len);
                    }
                }
                Inserted::Known => {
                    self.stats.fragments_duplicate += 1;
                    kept = true;
                }
                Inserted::Old => {
                    self.stats.fragments_duplicate += 1;
                    old = true;
                }
                Inserted::Refused => {
                    self.stats.fragments_refused += 1;
                    refused = true;
                }
                Inserted::Conflict => {
                    self.stats.fragments_conflicting += 1;
                    self.fail(AlertDescription::ILLEGAL_PARAMETER.into());
                    return;
                }
            }
        }
        if self.version() == Some(Version::Dtls12) {
            self.process(now);
            if old {
                self.prompt(now);
            }
            return;
        }
        // RFC 9147 section 7: what was not kept must not be acknowledged.
        let max = self.config.limits.record_numbers;
        if kept && !refused {
            self.acks.add(number, max);
        }
        if old && !refused && self.phase != Phase::Closed {
            if self.flight.expects_answer() {
                self.prompt(now);
            } else if number.epoch > 0 {
                self.acks.add(number, max);
                self.acks.request();
            }
        }
        self.process(now);
        if self.phase == Phase::Closed
            || self.acks.is_empty()
            || self.version() != Some(Version::Dtls13)
        {
            return;
        }
        if self.phase == Phase::Handshaking {
            // A part of a flight that waits for the rest.
            if number.epoch > 0 {
                self.flight.answered();
                self.timers.retransmit = None;
            }
            if gap {
                self.acks.request();
            } else if self.timers.ack.is_none() {
                self.timers.ack = Some(now + self.timeout / 4);
            }
        } else if gap {
            self.acks.request();
        }
    }

    /// Handles complete messages in order.
    pub(super) fn process(&mut self, now: Instant) {
        while self.phase != Phase::Closed {
            let Some((message_type, epoch)) = self.reassembler.peek() else {
                break;
            };
            if self.phase == Phase::Connected {
                let Some(message) = self.reassembler.pop() else {
                    break;
                };
                self.stats.messages_received += 1;
                self.handle_post_handshake_message(now, &message);
                continue;
            }
            let Some(mut handshake) = self.handshake.take() else {
                break;
            };
            if epoch == 0 && !handshake.state.expects(message_type) {
                // Anybody could have sent it: it must not end or reset the handshake.
                self.reassembler.discard();
                self.stats.messages_ignored += 1;
                self.handshake = Some(handshake);
                continue;
            }
            if message_type == MessageType::CERTIFICATE && self.lacks_fingerprints() {
                if !handshake.asked_for_fingerprints {
                    handshake.asked_for_fingerprints = true;
                    self.push_event(Event::FingerprintsNeeded);
                }
                self.handshake = Some(handshake);
                break;
            }
            let Some(message) = self.reassembler.pop() else {
                break;
            };
            self.stats.messages_received += 1;
            let keys = self.records.read_epoch();
            let outcome = self.handle_handshake_message(now, &mut handshake, &message);
            if self.phase == Phase::Handshaking {
                self.handshake = Some(handshake);
            }
            match outcome {
                Ok(()) => {
                    if self.records.read_epoch() != keys {
                        self.run_deferred(now);
                    }
                }
                Err(failure) => self.fail(failure),
            }
        }
    }

    fn lacks_fingerprints(&self) -> bool {
        self.config.verification == PeerVerification::Fingerprint && self.fingerprints.is_empty()
    }

    /// The peer repeats its flight, so it has not seen our answer: send it again, but not more often
    /// than the path can have asked for.
    pub(super) fn prompt(&mut self, now: Instant) {
        let recently = self
            .flight
            .last_sent()
            .is_none_or(|sent| now < sent + self.base_timeout / 2);
        if self.phase == Phase::Closed
            || self.flight.is_empty()
            || self.flight.is_sending()
            || recently
            || self.outer.carries_flights()
        {
            return;
        }
        if self.flight.prompted() >= self.config.limits.prompted_retransmissions {
            return;
        }
        self.stats.prompted_retransmissions += 1;
        self.flight.resend(true);
    }

    fn handle_ack(&mut self, now: Instant, number: RecordNumber, content: &[u8]) {
        if self.version() == Some(Version::Dtls12) {
            self.stats.malformed += 1;
            return;
        }
        let Ok(numbers) = Acks::parse(content) else {
            self.stats.malformed += 1;
            return;
        };
        self.stats.acks_received += 1;
        if number.epoch == 0 {
            // Anybody could have sent it: it may hasten a retransmission and not prevent one.
            self.prompt(now);
            return;
        }
        let (mut any, mut latest) = (false, false);
        for acknowledged in numbers {
            // RFC 9147 section 7: during the handshake an ACK stands in no lower epoch than what it
            // acknowledges. Behind it the epochs of the two directions go their own ways.
            if number.epoch < APPLICATION_EPOCH && acknowledged.epoch > number.epoch {
                continue;
            }
            if let Some(of_latest) = self.flight.acknowledge(acknowledged) {
                any = true;
                latest |= of_latest;
            }
        }
        if self.flight.is_empty() {
            return;
        }
        if self.flight.is_acknowledged() {
            self.timers.retransmit = None;
            if self.flight.rounds() == 1
                && any
                && let Some(sent) = self.flight.first_sent()
            {
                self.set_timeout(now.saturating_duration_since(sent));
            }
            self.flight_complete(now);
        } else if latest && !self.flight.is_sending() && !self.outer.carries_flights() {
            // The rest of the latest round is lost.
            if self.flight.prompted() < self.config.limits.prompted_retransmissions {
                self.stats.prompted_retransmissions += 1;
                self.flight.resend(true);
            }
        } else if !latest {
            self.prompt(now);
        }
    }

    fn handle_alert(&mut self, number: RecordNumber, content: &[u8]) {
        let Some(alert) = Alert::parse(content) else {
            self.stats.malformed += 1;
            return;
        };
        // Plaintext alerts count only as long as nothing else could have come.
        if number.epoch == 0 && self.records.read_epoch() != 0 && self.peer_is_protected() {
            self.stats.alerts_ignored += 1;
            return;
        }
        self.stats.alerts_received += 1;
        match alert.description {
            AlertDescription::CLOSE_NOTIFY => {
                self.alert = Some(Alert {
                    fatal: false,
                    description: AlertDescription::CLOSE_NOTIFY,
                });
                self.close_with(CloseReason::Remote);
            }
            // RFC 8446 section 6.1: something else follows.
            AlertDescription::USER_CANCELED => {}
            description if alert.fatal || self.version() == Some(Version::Dtls13) => {
                self.close_with(CloseReason::RemoteAlert(description));
            }
            _ => self.stats.alerts_ignored += 1,
        }
    }

    /// Whether a protected message of the peer has been taken: its plaintext then says nothing more.
    fn peer_is_protected(&self) -> bool {
        self.phase == Phase::Connected || self.reassembler.has_protected()
    }

    pub(super) fn fail_now(&mut self, alert: AlertDescription) {
        self.fail(Failure::from(alert));
    }
}
