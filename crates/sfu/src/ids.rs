//! Names of things. Each says where its thing was born, and lives unless it was moved.

use std::fmt;

use visavis_peer::Kind;

/// A room: the caller's own number. Participants hear of each other only within one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RoomId(pub u64);

/// A participant: the caller's own number, unique over all rooms. It may have several connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParticipantId(pub u64);

/// Index of a worker.
pub(crate) type WorkerIndex = u16;

/// Bits of an id beneath the worker's index.
const NUMBER_BITS: u32 = 48;

macro_rules! local_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(u64);

        impl $name {
            pub(crate) const fn new(worker: WorkerIndex, number: u64) -> Self {
                Self((worker as u64) << NUMBER_BITS | number)
            }

            /// The worker that it was born on.
            pub(crate) const fn worker(self) -> WorkerIndex {
                (self.0 >> NUMBER_BITS) as WorkerIndex
            }

            /// A number that no other one of this process has.
            pub const fn get(self) -> u64 {
                self.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                let number = self.0 & ((1 << NUMBER_BITS) - 1);
                write!(f, concat!(stringify!($name), "({}:{})"), self.worker(), number)
            }
        }
    };
}

local_id! {
    /// A peer connection. Never reused.
    ConnectionId
}

local_id! {
    /// A published track. Never reused.
    TrackId
}

local_id! {
    /// One track on its way to one connection. Never reused.
    SubscriptionId
}

impl ConnectionId {
    /// An id for [`Worker::create_connection`](crate::worker::Worker::create_connection), for who drives workers
    /// himself.
    pub const fn from_parts(worker: u16, number: u64) -> Self {
        Self::new(worker, number)
    }
}

impl TrackId {
    /// The lowest bit of a track's number tells sound from pictures: a worker that never heard of the
    /// track can still offer a section for it.
    pub(crate) const fn of_kind(worker: WorkerIndex, counter: u64, kind: Kind) -> Self {
        let bit = match kind {
            Kind::Audio => 0,
            Kind::Video => 1,
        };
        Self::new(worker, counter << 1 | bit)
    }

    /// Sound or pictures.
    pub const fn kind(self) -> Kind {
        match self.0 & 1 {
            0 => Kind::Audio,
            _ => Kind::Video,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_tell_their_worker_and_kind() {
        let track = TrackId::of_kind(7, 12, Kind::Video);
        assert_eq!((track.worker(), track.kind()), (7, Kind::Video));
        assert_ne!(track, TrackId::of_kind(7, 12, Kind::Audio));
        assert_eq!(
            format!("{:?}", ConnectionId::new(3, 9)),
            "ConnectionId(3:9)"
        );
    }
}
