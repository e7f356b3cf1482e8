//! Selective forwarding of rooms: the media plane.
//!
//! [`Sfu`] starts worker threads, each with its own sockets, connections and timers, and commands them.
//! What happens comes back as [`Event`]s. Rooms, participants and tracks are plain ids here: who may do
//! what, and what things are called on the wire of a signalling protocol, belongs to the layer above.
//!
//! ```no_run
//! use visavis_sfu::{Config, ConnectionConfig, Description, ParticipantId, RoomId, Sfu};
//!
//! # async fn run(offer: Description) -> Result<(), Box<dyn std::error::Error>> {
//! let (sfu, mut events) = Sfu::start(Config::default())?;
//! let connection = sfu
//!     .create_connection(RoomId(1), ParticipantId(7), ConnectionConfig::default())
//!     .await?;
//! sfu.set_remote_description(connection, offer).await?;
//! let answer = sfu.create_answer(connection).await?;
//! // Signal the answer, then publish what arrives and subscribe others to it.
//! while let Some(event) = events.next().await {
//!     println!("{event:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`worker::Worker`] is the same without threads and sockets: a state machine with five doors, which
//! simulations drive.

mod config;
mod error;
mod events;
mod handle;
mod ids;
mod io;
mod options;
mod stats;
mod tap;
pub mod worker;

pub use config::{Balance, Bitrates, Config, Forwarding, Limits};
pub use error::{Error, Result};
pub use events::{Event, Speaker};
pub use handle::{Events, Sfu, Stream};
pub use ids::{ConnectionId, ParticipantId, RoomId, SubscriptionId, TrackId};
pub use options::{
    ConnectionConfig, LayerSize, PublishOptions, Section, Source, SubscribeOptions, Wish,
};
pub use stats::{ConnectionStats, EncodingStats, SubscriptionStats, TrackStats, WorkerStats};
pub use tap::{Tap, TapPacket, TapReceiver};
pub use visavis_peer::{
    ChannelId, ChannelOptions, CodecTable, ConnectionState, Description, IceCandidate, Kind,
    MessageKind, OfferOptions, SdpType,
};
