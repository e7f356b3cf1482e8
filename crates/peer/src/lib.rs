//! One WebRTC peer connection, sans-IO: JSEP over ICE, DTLS, SRTP and SCTP.
//!
//! [`PeerConnection`] has the W3C's names and the five doors of every state machine here: the owner
//! passes datagrams and the time in, and polls datagrams, timeouts and events out. What is a
//! promise or a task in a browser is a return value or an [`Event`] here, in the order of the
//! specification's task queue.
//!
//! ```
//! use std::time::Instant;
//! use visavis_datagram::Random;
//! use visavis_peer::{ChannelOptions, Configuration, OfferOptions, PeerConnection};
//!
//! let now = Instant::now();
//! let mut connection = PeerConnection::new(Configuration::default(), Random::from_u64(1), now)?;
//! let label = "chat".to_owned();
//! connection.create_data_channel(now, ChannelOptions { label, ..ChannelOptions::default() })?;
//! let offer = connection.create_offer(now, OfferOptions::default())?;
//! assert!(offer.sdp.contains("m=application"));
//! connection.set_local_description(now, Some(&offer))?;
//! # Ok::<(), visavis_peer::Error>(())
//! ```
//!
//! What lives here: negotiation, the order of events, and how the protocols below share one
//! transport. What does not: sockets, clocks, codecs, and the protocols themselves.

pub mod codecs;
mod config;
mod connection;
mod error;
mod events;
pub mod extensions;
mod jsep;
mod log;
mod media;
mod parameters;
pub mod sframe;
mod sped;
mod stats;
mod transceiver;
mod transport;

pub use codecs::{Codec, CodecTable, Kind};
pub use config::{
    BundlePolicy, Configuration, CongestionControl, ControllerFactory, DtlsRolePreference,
    DtlsSettings, Limits, MediaSettings,
};
pub use connection::{
    CertificateKind, DirectData, DirectMedia, DirectParameters, DirectRemote, OfferOptions,
    PeerConnection, Received, ReceivedRtp, TransportId, TransportRef, generate_certificate,
};
pub use error::Error;
pub use events::{ConnectionState, DtlsState, Event, IceCandidate, SctpState};
pub use extensions::{HeaderExtension, NegotiatedExtension};
pub use jsep::{Description, SdpType, SignalingState};
pub use log::{Decision, LogEntry};
pub use media::{
    EncodedFrame, FrameKind, InboundStats, MediaStats, OutboundStats, OutgoingFrame, OutgoingRtp,
    PacketSource, ReceiveMode, SourcePoll,
};
pub use parameters::{Encoding, Priority, SendParameters, is_scalability_mode};
pub use stats::{Stats, StatsKind, StatsReport, StatsValue};
pub use transceiver::{
    EncodingSources, Receiver, Sender, Transceiver, TransceiverDirection, TransceiverId,
    TransceiverInit,
};
pub use transport::TransportStats;
pub use visavis_congestion::{self as congestion, Limits as BitrateLimits};
pub use visavis_crypto::Certificate;
pub use visavis_ice::{
    ConnectionState as IceConnectionState, GatheringState as IceGatheringState, LocalAddress,
    Server as IceServer,
};
pub use visavis_media::send::FrameMeta;
pub use visavis_rtp::extension::ExtensionKind;
pub use visavis_rtp::payload::FrameParams;
pub use visavis_sctp::datachannel::{ChannelId, ChannelOptions, ChannelState, MessageKind};
pub use visavis_sdp::Direction;
