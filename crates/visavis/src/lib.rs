//! WebRTC for Rust programs: [`PeerConnection`], [`DataChannel`], [`RtpSender`] and [`RtpReceiver`]
//! with the W3C's names, on tokio.
//!
//! ```no_run
//! use visavis::{ChannelOptions, Configuration, Description, PeerConnection};
//!
//! # async fn run(signal: impl AsyncFn(Description) -> Description) -> Result<(), visavis::Error> {
//! let connection = PeerConnection::new(Configuration::default())?;
//! let mut channel = connection.create_data_channel("chat", ChannelOptions::default())?;
//! connection.set_local_description(None).await?;
//! let offer = connection.gathered().await.expect("an offer with its candidates");
//! let answer = signal(offer).await; // however the two ends reach each other before they are connected
//! connection.set_remote_description(&answer)?;
//! channel.feed("hello").await?;
//! while let Some(message) = channel.recv().await {
//!     println!("{message:?}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! What lives here: handles, waiting, and the task that moves datagrams between sockets and
//! connections. What does not: protocols; [`visavis_peer`] and the crates below it are sans-IO and
//! usable alone.

/// The examples of the README and of the book are compiled by the tests.
#[cfg(doctest)]
mod documents {
    #[doc = include_str!("../../../README.md")]
    struct Readme;
    #[doc = include_str!("../../../book/src/first-connection.md")]
    struct FirstConnection;
    #[doc = include_str!("../../../book/src/signalling.md")]
    struct Signalling;
    #[doc = include_str!("../../../book/src/data.md")]
    struct Data;
    #[doc = include_str!("../../../book/src/media.md")]
    struct Media;
}

mod connection;
mod data_channel;
mod driver;
mod endpoint;
mod error;
mod ice_server;
mod incoming;
mod media;
mod peer_connection;
mod settings;
mod stream;
mod transports;

pub use data_channel::{DataChannel, DataChannelStream, Message};
pub use endpoint::Endpoint;
pub use error::Error;
pub use ice_server::IceServer;
pub use incoming::{RtpBatch, RtpPacket};
pub use media::{Frame, RtpReceiver, RtpSender, RtpTransceiver};
pub use peer_connection::{Configuration, Event, PeerConnection};
pub use settings::{Binding, Settings};
pub use transports::{DtlsTransport, IceTransport, SctpTransport};
pub use visavis_ice::{Candidate, Credentials, Role, SelectedPair, TransportPolicy};
pub use visavis_net as net;
pub use visavis_peer::{
    BitrateLimits, Certificate, CertificateKind, ChannelOptions, ChannelState, Codec,
    ConnectionState, Description, Direction, DtlsState, Encoding, FrameKind, FrameMeta,
    FrameParams, IceCandidate, IceConnectionState, IceGatheringState, Kind, OfferOptions,
    OutgoingFrame, OutgoingRtp, SctpState, SdpType, SendParameters, SignalingState, Stats,
    StatsKind, StatsReport, StatsValue, TransceiverDirection, TransceiverInit,
};
pub use visavis_peer::{CongestionControl, ControllerFactory, congestion, sframe};
