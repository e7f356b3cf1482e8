//! What an association is told at its birth: windows, timers, sizes, choices and limits.

use std::time::Duration;

/// Which congestion controller an association uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ControllerKind {
    /// RFC 9260 section 7: slow start, congestion avoidance, halving on loss.
    NewReno,
    /// RFC 9438.
    Cubic,
    /// Model-based: paces at the measured bottleneck rate, and takes random loss for what it is.
    #[default]
    Model,
}

/// How streams share the association (RFC 8260 section 3, RFC 8831 section 6.4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SchedulerKind {
    /// Messages leave in the order of `send`.
    FirstCome,
    /// Streams take turns.
    RoundRobin,
    /// Streams share in proportion to their priority.
    #[default]
    WeightedFair,
}

/// Sizes of SCTP packets in bytes, without the DTLS record, UDP and IP around them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PacketSizes {
    /// The size that every path is expected to carry, used from the start. Default 1188: with a
    /// DTLS record, a TURN channel header, UDP and IPv6 it stays below the 1280 of RFC 8200.
    pub base: usize,
    /// The largest size to probe for (RFC 8899). Default equal to `base`, which turns probing off.
    /// A chunk that was sent cannot be cut smaller, because it has one TSN (RFC 9260 section 6.9):
    /// when a path narrows under way (a handover, another candidate pair), what was in flight in
    /// larger packets never arrives unless IP fragments it, and the association is given up. The
    /// gain does not pay for that: on an Ethernet path, 1412 bytes are 16 % fewer packets and 1 %
    /// fewer bytes. Raise it to 1412 where the path is known, or where the layer below lets IP fragment.
    pub max: usize,
}

/// The most that stands around a packet of [`PacketSizes::base`]: a DTLS 1.2 record with AES-GCM (37
/// bytes; one of 1.3 has 22), a TURN channel header, UDP and IPv6.
const MOST_AROUND: usize = 37 + 4 + 8 + 40;
/// What every path of IPv6 carries (RFC 8200 section 5).
const IPV6_LEAST_MTU: usize = 1280;
const BASE: usize = 1188;
const _: () = assert!(BASE + MOST_AROUND <= IPV6_LEAST_MTU);

impl Default for PacketSizes {
    fn default() -> Self {
        Self {
            base: BASE,
            max: BASE,
        }
    }
}

/// Retransmission time-outs (RFC 9260 section 6.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rto {
    /// Before the first measurement. Default 500 ms; the RFC's 1 s does not suit a path whose
    /// round trip ICE and DTLS have just shown to be short.
    pub initial: Duration,
    /// Least time beyond the smoothed round trip. Default 220 ms: above the 200 ms for which a peer
    /// may delay a SACK.
    pub min: Duration,
    /// Greatest value, backed off or not. Default 3 s, so that a path that comes back is noticed.
    pub max: Duration,
}

impl Default for Rto {
    fn default() -> Self {
        Self {
            initial: Duration::from_millis(500),
            min: Duration::from_millis(220),
            max: Duration::from_secs(3),
        }
    }
}

/// Bounds on queues and tables. Reaching one is counted in the statistics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Payload bytes that may wait to be sent or acknowledged, over all streams. `send` answers
    /// [`Error::WouldBlock`](crate::Error::WouldBlock) beyond. Default 16 MiB.
    pub send_buffer: usize,
    /// The largest message that `send` takes, in bytes. Default 1 GiB.
    pub max_send_message: usize,
    /// A received message is handed out whole up to this size in bytes, and in parts as they
    /// arrive beyond it. Default 256 KiB; at most half of the receive window is used.
    pub whole_message: usize,
    /// Data chunks that may wait for those before them. Default 65,536.
    pub pending_chunks: usize,
    /// Events that may wait for `poll_event`; the oldest that repeats itself goes first. Default 1024.
    pub events: usize,
    /// Data channels of one connection, both directions together. Default 65,534.
    pub channels: usize,
    /// Bytes of labels and protocols of all channels that the peer has opened; it may open no more
    /// beyond. Default 1 MiB.
    pub channel_names: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            send_buffer: 16 << 20,
            max_send_message: 1 << 30,
            whole_message: 256 << 10,
            pending_chunks: 65_536,
            events: 1024,
            channels: 65_534,
            channel_names: 1 << 20,
        }
    }
}

/// The settings of an [`Association`](crate::Association). The default suits WebRTC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// Port of this end in the SCTP header. Default 5000 (RFC 8841).
    pub local_port: u16,
    /// Port of the other end. Default 5000.
    pub remote_port: u16,
    /// Advertised receive window in bytes: what the application has not read, at most. Memory is
    /// taken only as data waits. Default 16 MiB; a path of 1 Gbit/s and 300 ms needs 40 MB.
    pub receive_window: usize,
    /// Streams asked for outwards, 1..=65535. Default 65535.
    pub outbound_streams: u16,
    /// Streams allowed inwards, 1..=65535. Default 65535; state (some 150 bytes) exists only for
    /// streams in use.
    pub inbound_streams: u16,
    /// Packet sizes and path MTU discovery.
    pub packet_sizes: PacketSizes,
    /// Retransmission time-outs.
    pub rto: Rto,
    /// How long a SACK waits for company, 0..=500 ms. Default 20 ms. Every second packet is
    /// acknowledged at once (RFC 9260 section 6.2).
    pub sack_delay: Duration,
    /// Interval of heartbeats while nothing is sent. Default 30 s; zero turns them off.
    pub heartbeat_interval: Duration,
    /// Time-outs in a row until the association is given up; `None` leaves that to ICE consent
    /// (RFC 7675). Default 10 (RFC 9260 section 16).
    pub max_retransmissions: Option<u32>,
    /// The same for INIT, COOKIE ECHO and SHUTDOWN. Default `None`.
    pub max_init_retransmissions: Option<u32>,
    /// For how long a state cookie is good. Default 60 s.
    pub cookie_lifetime: Duration,
    /// Which congestion controller.
    pub controller: ControllerKind,
    /// First congestion window in full packets. Default 10 (RFC 6928).
    pub initial_window_packets: usize,
    /// How streams share.
    pub scheduler: SchedulerKind,
    /// Offer I-DATA and I-FORWARD-TSN (RFC 8260). Default true; used if the peer offers it too.
    pub interleaving: bool,
    /// Accept packets without checksum, and leave it out where the peer accepts that (RFC 9653,
    /// DTLS as error detection). Default true. Only over DTLS.
    pub zero_checksum: bool,
    /// Offer explicit congestion notification. Default true; it has an effect only where the lower
    /// layer reports the ECN bits through
    /// [`handle_packet_with_ecn`](crate::Association::handle_packet_with_ecn).
    pub ecn: bool,
    /// Bounds.
    pub limits: Limits,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            local_port: 5000,
            remote_port: 5000,
            receive_window: 16 << 20,
            outbound_streams: u16::MAX,
            inbound_streams: u16::MAX,
            packet_sizes: PacketSizes::default(),
            rto: Rto::default(),
            sack_delay: Duration::from_millis(20),
            heartbeat_interval: Duration::from_secs(30),
            max_retransmissions: Some(10),
            max_init_retransmissions: None,
            cookie_lifetime: Duration::from_secs(60),
            controller: ControllerKind::default(),
            initial_window_packets: 10,
            scheduler: SchedulerKind::default(),
            interleaving: true,
            zero_checksum: true,
            ecn: true,
            limits: Limits::default(),
        }
    }
}
