//! STUN and TURN messages: a view over bytes, a builder over a caller's buffer, every attribute,
//! integrity, framing over streams, and the timers of a client transaction.
//!
//! Nothing here allocates per message. [`Message`] borrows a datagram, [`MessageBuilder`] writes into a
//! slice, [`StreamDecoder`] owns one bounded buffer.
//!
//! ```
//! use visavis_stun::attributes::{Priority, Software, Username};
//! use visavis_stun::{Class, IntegrityKey, Message, MessageBuilder, Method, TransactionId, Verdict};
//!
//! let key = IntegrityKey::short_term("VOkJxbRl1RmTxUk/WvJxBt");
//! let mut buffer = [0; 200];
//! let len = MessageBuilder::new(&mut buffer, Class::Request, Method::BINDING, TransactionId([7; 12]))
//!     .add(&Username("evtj:h6vY"))
//!     .add(&Priority(0x6e00_01ff))
//!     .integrity(&key)
//!     .fingerprint()
//!     .finish()
//!     .unwrap();
//!
//! let message = Message::parse(&buffer[..len]).unwrap();
//! assert_eq!(message.get::<Username>(), Some(Username("evtj:h6vY")));
//! assert_eq!(message.get::<Software>(), None);
//! assert_eq!(message.check_integrity(&key), Verdict::Valid);
//! assert_eq!(message.check_fingerprint(), Verdict::Valid);
//! ```
//!
//! What lives here: bytes and timers. What does not: who asks whom and why (`visavis-ice`,
//! `visavis-turn`), and sockets.

mod address;
mod attribute;
pub mod attributes;
mod builder;
mod channel_data;
mod demux;
mod error;
mod fingerprint;
mod header;
mod integrity;
mod message;
mod nonce;
mod rtt;
mod stream;
mod transaction;

pub use attribute::{Attribute, AttributeType, RawAttribute};
pub use builder::MessageBuilder;
pub use channel_data::{CHANNEL_HEADER_LEN, ChannelData, ChannelNumber, channel_data_header};
pub use demux::{PacketKind, classify};
pub use error::{BuildError, MalformedAttribute, ParseError, StreamError};
pub use header::{Class, HEADER_LEN, MAGIC_COOKIE, MAX_MESSAGE_LEN, Method, TransactionId};
pub use integrity::{IntegrityKey, PasswordAlgorithmId, user_hash};
pub use message::{Message, Verdict};
pub use nonce::{NonceCookie, SecurityFeatures};
pub use rtt::RttEstimator;
pub use stream::{StreamDecoder, StreamFraming, pad_to_word, turn_frame_len};
pub use transaction::{Transaction, TransactionStep, TransactionTimers};
