//! What a connection tells its owner, in the order of the W3C's task queue.

use std::net::SocketAddr;

use bytes::Bytes;
use visavis_ice::{ConnectionState as IceConnectionState, GatheringState};
use visavis_sctp::datachannel::{ChannelId, MessageKind};

use crate::connection::TransportId;
use crate::jsep::SignalingState;
use crate::transceiver::TransceiverId;

/// State of a connection as a whole (W3C `RTCPeerConnectionState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum ConnectionState {
    /// Nothing has begun.
    #[default]
    New,
    /// ICE or DTLS is under way.
    Connecting,
    /// Data flows.
    Connected,
    /// The path stopped answering; may heal by itself.
    Disconnected,
    /// ICE or DTLS failed.
    Failed,
    /// Closed here.
    Closed,
}

/// State of the DTLS transport (W3C `RTCDtlsTransportState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum DtlsState {
    /// Not begun.
    #[default]
    New,
    /// The handshake runs.
    Connecting,
    /// The handshake is done and the peer is who it said.
    Connected,
    /// Over: closed here or by the peer.
    Closed,
    /// The handshake failed, or the peer's certificate is not the one it announced.
    Failed,
}

/// State of the SCTP transport (W3C `RTCSctpTransportState`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum SctpState {
    /// Negotiated, and not open yet.
    Connecting,
    /// Messages may flow.
    Connected,
    /// Over.
    Closed,
}

/// A candidate with the section it belongs to (W3C `RTCIceCandidate`).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct IceCandidate {
    /// `candidate:…` as in SDP, without `a=`; empty for the end of candidates.
    pub candidate: String,
    /// The section's mid.
    pub sdp_mid: Option<String>,
    /// The section's index.
    pub sdp_mline_index: Option<u16>,
    /// The ICE session that it belongs to.
    pub username_fragment: Option<String>,
}

/// What a connection tells its owner.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// W3C `signalingstatechange`.
    SignalingState(SignalingState),
    /// W3C `negotiationneeded`.
    NegotiationNeeded,
    /// W3C `icecandidate`; `None` when all are gathered.
    IceCandidate(Option<IceCandidate>),
    /// W3C `icecandidateerror`.
    IceCandidateError {
        /// The local address; the unspecified one where addresses are hidden.
        local: SocketAddr,
        /// The server's URL.
        url: String,
        /// STUN's error code, 701 if the server did not answer.
        code: u16,
        /// The reason.
        text: String,
    },
    /// W3C `icegatheringstatechange`.
    IceGatheringState(GatheringState),
    /// W3C `iceconnectionstatechange`.
    IceConnectionState(IceConnectionState),
    /// W3C `selectedcandidatepairchange`.
    SelectedPair(Box<visavis_ice::SelectedPair>),
    /// The DTLS transport's `statechange`.
    DtlsState(DtlsState),
    /// The SCTP transport's `statechange`.
    SctpState(SctpState),
    /// W3C `connectionstatechange`.
    ConnectionState(ConnectionState),
    /// Open sockets that are one transport's alone, and answer by
    /// [`set_transport_addresses`](crate::PeerConnection::set_transport_addresses): the peer does not bundle, and transports
    /// are told apart by their addresses.
    AddressesWanted(TransportId),
    /// They are not needed any more.
    TransportClosed(TransportId),
    /// Open a connection, and answer by `ice_connected` or `ice_connect_failed`.
    IceConnect(visavis_ice::Connect),
    /// Close a connection.
    IceDisconnect(visavis_datagram::Path),
    /// Resolve a name by multicast DNS, and answer by `ice_resolved`.
    ResolveName(Box<str>),
    /// W3C `track`.
    Track {
        /// Whose receiver has the track.
        transceiver: TransceiverId,
        /// The streams that it belongs to.
        streams: Vec<String>,
    },
    /// The received track's `mute`: the peer stopped sending.
    TrackMuted(TransceiverId),
    /// The received track's `unmute`: packets arrive.
    TrackUnmuted(TransceiverId),
    /// The received track's `ended`: the transceiver is over.
    TrackEnded(TransceiverId),
    /// A remote stream's `addtrack`.
    StreamAddedTrack {
        /// Whose track.
        transceiver: TransceiverId,
        /// The stream.
        stream: String,
    },
    /// A remote stream's `removetrack`.
    StreamRemovedTrack {
        /// Whose track.
        transceiver: TransceiverId,
        /// The stream.
        stream: String,
    },
    /// W3C `datachannel`: the peer opened a channel.
    DataChannel(ChannelId),
    /// A channel's `open`.
    DataChannelOpen(ChannelId),
    /// A channel's `message`.
    Message {
        /// Where.
        channel: ChannelId,
        /// Text or bytes.
        kind: MessageKind,
        /// The message; may be empty.
        data: Bytes,
    },
    /// A part of a message that is larger than what is handed out whole.
    MessagePart {
        /// Where.
        channel: ChannelId,
        /// Text or bytes.
        kind: MessageKind,
        /// The part.
        data: Bytes,
        /// Whether this is the beginning. What came before without `last` was abandoned.
        first: bool,
        /// Whether this is the end.
        last: bool,
    },
    /// A channel's `bufferedamountlow`.
    BufferedAmountLow(ChannelId),
    /// Channels have room again, after a send answered that there is none.
    DataChannelsWritable,
    /// A channel's `closing`.
    DataChannelClosing(ChannelId),
    /// A channel's `close`.
    DataChannelClosed(ChannelId),
    /// A channel failed; `DataChannelClosed` follows.
    DataChannelError {
        /// Which one.
        channel: ChannelId,
        /// Why.
        reason: String,
    },
    /// The peer asks for a key frame of an encoding (RTCP PLI or FIR).
    KeyFrameRequested {
        /// Whose sender.
        transceiver: TransceiverId,
        /// Index of the encoding.
        encoding: usize,
    },
    /// Congestion control lets so many bits per second through, for everything that is sent. Told when
    /// it has changed by 5 % or more; [`encoding_target`](crate::PeerConnection::encoding_target) says
    /// what each encoding may use of it.
    TargetBitrate(u64),
    /// A frame of a transceiver is due: to be fetched by
    /// [`poll_frame`](crate::PeerConnection::poll_frame) until there is none. Told once until then.
    FrameReady(TransceiverId),
    /// W3C `tonechange`; the empty text when all tones were sent.
    ToneChange {
        /// Whose sender.
        transceiver: TransceiverId,
        /// The tone.
        tone: String,
    },
    /// A line for an SSLKEYLOGFILE; only if it was asked for.
    KeyLog(String),
}
