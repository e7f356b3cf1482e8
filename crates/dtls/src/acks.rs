//! Which records wait to be acknowledged (RFC 9147 section 7.1).

use crate::codec::{Decode, Reader, Write};
use crate::record::RecordNumber;

/// Bytes of a record number in an ACK.
pub(crate) const NUMBER_LEN: usize = 16;

/// The records of the peer's current flight that were taken.
#[derive(Debug, Default)]
pub(crate) struct Acks {
    numbers: Vec<RecordNumber>,
    /// An ACK is to be sent at once.
    requested: bool,
}

impl Acks {
    /// Notes a record whose fragments were processed or kept.
    pub(crate) fn add(&mut self, number: RecordNumber, max: usize) {
        if let Err(index) = self.numbers.binary_search(&number) {
            if self.numbers.len() >= max.max(1) {
                self.numbers.remove(0);
                self.numbers.insert(index.saturating_sub(1), number);
            } else {
                self.numbers.insert(index, number);
            }
        }
    }

    /// Asks for an ACK at once, even an empty one.
    pub(crate) fn request(&mut self) {
        self.requested = true;
    }

    pub(crate) fn is_requested(&self) -> bool {
        self.requested
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.numbers.is_empty()
    }

    /// The peer's flight is answered, which acknowledges it.
    pub(crate) fn clear(&mut self) {
        self.numbers.clear();
        self.requested = false;
    }

    /// Gives memory back.
    pub(crate) fn trim(&mut self) {
        self.numbers.shrink_to_fit();
    }

    /// The content of an ACK with the newest `max` numbers, in increasing order.
    pub(crate) fn encode(&mut self, max: usize) -> Vec<u8> {
        self.requested = false;
        let from = self.numbers.len().saturating_sub(max);
        let mut out = Vec::with_capacity(2 + NUMBER_LEN * (self.numbers.len() - from));
        out.vec16(|out| {
            for number in &self.numbers[from..] {
                out.u64(number.epoch);
                out.u64(number.sequence);
            }
        });
        out
    }

    /// The numbers of an ACK.
    pub(crate) fn parse(content: &[u8]) -> Decode<impl Iterator<Item = RecordNumber> + '_> {
        let mut reader = Reader::new(content);
        let list = reader.vec16()?;
        reader.end()?;
        if !list.len().is_multiple_of(NUMBER_LEN) {
            return Err(crate::AlertDescription::DECODE_ERROR);
        }
        let mut reader = Reader::new(list);
        Ok(std::iter::from_fn(move || {
            Some(RecordNumber {
                epoch: reader.u64().ok()?,
                sequence: reader.u64().ok()?,
            })
        }))
    }
}

#[cfg(test)]
mod tests {
    use super::Acks;
    use crate::record::RecordNumber;

    #[test]
    fn numbers_go_out_in_order_and_within_bounds() {
        let mut acks = Acks::default();
        for sequence in [5, 3, 9, 3, 1] {
            acks.add(RecordNumber { epoch: 2, sequence }, 4);
        }
        acks.add(
            RecordNumber {
                epoch: 2,
                sequence: 7,
            },
            4,
        );
        let numbers: Vec<u64> = Acks::parse(&acks.encode(10))
            .unwrap()
            .map(|number| number.sequence)
            .collect();
        assert_eq!(numbers, [3, 5, 7, 9]);
        let numbers: Vec<u64> = Acks::parse(&acks.encode(2))
            .unwrap()
            .map(|number| number.sequence)
            .collect();
        assert_eq!(numbers, [7, 9]);
        assert!(Acks::parse(&[0, 1, 0]).is_err());
        assert!(Acks::parse(&[0]).is_err());
        assert_eq!(Acks::parse(&[0, 0]).unwrap().count(), 0);
    }
}
