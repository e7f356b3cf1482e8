//! The current outgoing flight: messages, what of them is acknowledged, and which record carried
//! what (RFC 9147 sections 5.7, 5.8 and 7.2).

use std::collections::VecDeque;
use std::time::Instant;

use crate::message::{FragmentHeader, MessageType};
use crate::range_set::RangeSet;
use crate::record::{ContentType, MAX_PLAINTEXT, RecordLayer, RecordNumber};

/// The least room for which a message is cut: smaller pieces wait for the next datagram.
const MIN_PIECE: usize = 32;

/// A handshake message, or 1.2's ChangeCipherSpec, on its way out.
#[derive(Debug)]
struct Item {
    content_type: ContentType,
    message_type: MessageType,
    epoch: u64,
    sequence: u16,
    body: Vec<u8>,
    acknowledged: RangeSet,
    /// For bodies of no bytes, which a range set cannot hold.
    done: bool,
}

impl Item {
    fn is_acknowledged(&self) -> bool {
        self.done || !self.body.is_empty() && self.acknowledged.contains(0, self.body.len() as u32)
    }
}

/// Which part of the flight a record carried.
#[derive(Debug, Clone, Copy)]
struct Sent {
    number: RecordNumber,
    item: usize,
    start: u32,
    end: u32,
    round: u32,
}

/// A flight.
#[derive(Debug, Default)]
pub(crate) struct Flight {
    items: Vec<Item>,
    sent: VecDeque<Sent>,
    /// Where sending stands, as item and byte; `None` when all is sent.
    cursor: Option<(usize, u32)>,
    /// How often sending began.
    round: u32,
    /// When it was first sent.
    first_sent: Option<Instant>,
    /// When a datagram of it was last sent.
    last_sent: Option<Instant>,
    /// Whether the peer must answer it, so that it is sent again on a timeout.
    expects_answer: bool,
    /// Sent again because the peer prompted it.
    prompted: u32,
}

impl Flight {
    /// Starts a new flight. What stood here has been answered.
    pub(crate) fn start(&mut self, expects_answer: bool) {
        *self = Self {
            cursor: Some((0, 0)),
            expects_answer,
            ..Self::default()
        };
        self.round = 1;
    }

    /// Forgets the flight.
    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn push(
        &mut self,
        message_type: MessageType,
        epoch: u64,
        sequence: u16,
        body: Vec<u8>,
    ) {
        self.items.push(Item {
            content_type: ContentType::HANDSHAKE,
            message_type,
            epoch,
            sequence,
            body,
            acknowledged: RangeSet::default(),
            done: false,
        });
    }

    /// 1.2's ChangeCipherSpec, which no transcript knows.
    pub(crate) fn push_change_cipher_spec(&mut self) {
        self.items.push(Item {
            content_type: ContentType::CHANGE_CIPHER_SPEC,
            message_type: MessageType(0),
            epoch: 0,
            sequence: 0,
            body: vec![1],
            acknowledged: RangeSet::default(),
            done: false,
        });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// The epoch that it began in.
    pub(crate) fn epoch(&self) -> Option<u64> {
        self.items.first().map(|item| item.epoch)
    }

    /// Whether a datagram of it waits to be sent.
    pub(crate) fn is_sending(&self) -> bool {
        self.cursor.is_some() && self.items.iter().any(|item| !item.is_acknowledged())
    }

    pub(crate) fn expects_answer(&self) -> bool {
        self.expects_answer
    }

    /// The peer has begun to answer: no more timeouts for this flight.
    pub(crate) fn answered(&mut self) {
        self.expects_answer = false;
    }

    /// Whether all of it is acknowledged.
    pub(crate) fn is_acknowledged(&self) -> bool {
        self.items.iter().all(Item::is_acknowledged)
    }

    /// How often it was begun to be sent.
    pub(crate) fn rounds(&self) -> u32 {
        self.round
    }

    pub(crate) fn first_sent(&self) -> Option<Instant> {
        self.first_sent
    }

    pub(crate) fn last_sent(&self) -> Option<Instant> {
        self.last_sent
    }

    pub(crate) fn prompted(&self) -> u32 {
        self.prompted
    }

    /// Begins to send what is not acknowledged once more.
    pub(crate) fn resend(&mut self, prompted: bool) {
        self.cursor = Some((0, 0));
        self.round += 1;
        self.prompted += u32::from(prompted);
    }

    /// Writes the next datagram of at most `mtu` bytes into `out`, which is empty. False if there is
    /// none.
    pub(crate) fn write_datagram(
        &mut self,
        now: Instant,
        records: &mut RecordLayer,
        mtu: usize,
        max_sent: usize,
        out: &mut Vec<u8>,
    ) -> bool {
        while let Some((index, offset)) = self.cursor {
            let Some(item) = self.items.get(index) else {
                self.cursor = None;
                break;
            };
            let len = item.body.len() as u32;
            let piece = if len == 0 {
                (!item.done && offset == 0).then_some((0, 0))
            } else {
                item.acknowledged.gap(offset, len)
            };
            let Some((start, end)) = piece else {
                self.cursor = Some((index + 1, 0));
                continue;
            };
            let framing = records.framing(item.epoch);
            let is_message = item.content_type == ContentType::HANDSHAKE;
            let header = if is_message { FragmentHeader::LEN } else { 0 };
            let overhead = framing.header + header + framing.trailer;
            let most = if item.epoch == 0 {
                MAX_PLAINTEXT
            } else {
                records.content_limit
            };
            let limit = most.saturating_sub(header).max(1);
            let room = mtu.saturating_sub(out.len() + overhead).min(limit);
            let want = (end - start) as usize;
            let fits = out.len() + overhead + want.min(limit) <= mtu;
            // A datagram must make progress even if the MTU is absurd.
            if !out.is_empty() && !fits && room < MIN_PIECE {
                break;
            }
            let take = want.min(room.max(1));
            let end = start + take as u32;
            let fragment = FragmentHeader {
                message_type: item.message_type,
                length: len,
                sequence: item.sequence,
                offset: start,
                fragment_length: take as u32,
            }
            .encode();
            let body = &item.body[start as usize..end as usize];
            let number = if is_message {
                records.append(item.epoch, item.content_type, &[&fragment, body], out)
            } else {
                records.append(item.epoch, item.content_type, &[body], out)
            };
            if let (Some(number), true) = (number, is_message) {
                if self.sent.len() >= max_sent {
                    self.sent.pop_front();
                }
                self.sent.push_back(Sent {
                    number,
                    item: index,
                    start,
                    end,
                    round: self.round,
                });
            }
            self.cursor = Some(if end >= len {
                (index + 1, 0)
            } else {
                (index, end)
            });
        }
        if self
            .cursor
            .is_some_and(|(index, _)| index >= self.items.len())
        {
            self.cursor = None;
        }
        if out.is_empty() {
            return false;
        }
        self.first_sent = self.first_sent.or(Some(now));
        self.last_sent = Some(now);
        true
    }

    /// Takes one acknowledged record number. Tells whether it belongs to the latest round, or `None`
    /// if it is not of this flight.
    pub(crate) fn acknowledge(&mut self, number: RecordNumber) -> Option<bool> {
        let sent = *self.sent.iter().find(|sent| sent.number == number)?;
        let item = self.items.get_mut(sent.item)?;
        if item.body.is_empty() {
            item.done = true;
        } else {
            item.acknowledged.insert(sent.start, sent.end);
        }
        Some(sent.round == self.round)
    }

    /// The record numbers that were used since `from` records were noted, for a carrier that names
    /// datagrams instead of records.
    pub(crate) fn sent_since(&self, from: usize) -> Vec<RecordNumber> {
        self.sent
            .iter()
            .skip(from)
            .map(|sent| sent.number)
            .collect()
    }

    /// How many records are noted.
    pub(crate) fn sent_len(&self) -> usize {
        self.sent.len()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::Flight;
    use crate::codec::Reader;
    use crate::message::{Fragment, MessageType};
    use crate::record::{RecordHeader, RecordLayer};

    fn datagrams(flight: &mut Flight, records: &mut RecordLayer, mtu: usize) -> Vec<Vec<u8>> {
        let now = Instant::now();
        let mut all = Vec::new();
        loop {
            let mut out = Vec::new();
            if !flight.write_datagram(now, records, mtu, 100, &mut out) {
                return all;
            }
            assert!(out.len() <= mtu);
            all.push(out);
        }
    }

    #[test]
    fn a_flight_is_cut_to_the_mtu_and_only_what_is_missing_is_sent_again() {
        let mut records = RecordLayer::new(64);
        let mut flight = Flight::default();
        flight.start(true);
        flight.push(MessageType::CLIENT_HELLO, 0, 0, vec![7; 1413]);
        flight.push(MessageType::SERVER_HELLO_DONE, 0, 1, vec![]);
        let first = datagrams(&mut flight, &mut records, 1200);
        // As Chromium cuts its own: 1175 and 238 bytes.
        assert_eq!(first.iter().map(Vec::len).collect::<Vec<_>>(), [1200, 288]);
        let header = RecordHeader::parse(&first[0], &[]).unwrap();
        assert_eq!(header.record_len(), 1200);
        assert!(!flight.is_sending());
        flight.resend(false);
        let number = flight.sent_since(0)[0];
        assert_eq!(flight.acknowledge(number), Some(false));
        let second = datagrams(&mut flight, &mut records, 1200);
        assert_eq!(second.iter().map(Vec::len).collect::<Vec<_>>(), [288]);
        let mut reader = Reader::new(&second[0][13..]);
        assert_eq!(Fragment::read(&mut reader).unwrap().header.offset, 1175);
        for number in flight.sent_since(3) {
            assert_eq!(flight.acknowledge(number), Some(true));
        }
        assert!(flight.is_acknowledged());
        assert!(!flight.is_sending());
    }

    #[test]
    fn every_mtu_makes_progress() {
        for mtu in [30, 60, 100, 548, 1500] {
            let mut records = RecordLayer::new(64);
            let mut flight = Flight::default();
            flight.start(true);
            flight.push(MessageType::CLIENT_HELLO, 0, 0, vec![7; 1413]);
            flight.push(MessageType::CERTIFICATE, 0, 1, vec![8; 77]);
            let bytes: usize = datagrams(&mut flight, &mut records, mtu)
                .iter()
                .map(|datagram| {
                    let mut rest = &datagram[..];
                    let mut bytes = 0;
                    while let Some(header) = RecordHeader::parse(rest, &[]) {
                        bytes += header.record_len() - 25;
                        rest = &rest[header.record_len()..];
                    }
                    bytes
                })
                .sum();
            assert_eq!(bytes, 1413 + 77);
        }
    }
}
