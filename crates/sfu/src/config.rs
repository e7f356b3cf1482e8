//! What the media plane is told at its birth.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use visavis_peer::CodecTable;

/// Settings of [`Sfu::start`](crate::Sfu::start).
#[derive(Debug, Clone)]
pub struct Config {
    /// UDP addresses to bind; all workers share each. An unspecified IP stands for every interface,
    /// port 0 for a free port. Default `0.0.0.0:0`.
    pub udp: Vec<SocketAddr>,
    /// Addresses at which a front listener accepts TCP for media and hands streams to
    /// [`Sfu::accept_tcp`](crate::Sfu::accept_tcp): they become passive candidates (RFC 6544). An unspecified
    /// IP stands for every interface.
    pub tcp: Vec<SocketAddr>,
    /// Public addresses of this host behind a 1:1 NAT: offered in place of its own of the same family.
    pub advertised: Vec<IpAddr>,
    /// Whether loopback addresses are offered when an unspecified IP is bound. Default false.
    pub loopback: bool,
    /// Worker threads; 0 for one per processor. Default 0.
    pub workers: usize,
    /// The codecs that are forwarded, in order of preference.
    pub codecs: CodecTable,
    /// Bounds.
    pub limits: Limits,
    /// Behaviour of forwarding.
    pub forwarding: Forwarding,
    /// When connections go from one worker to another.
    pub balance: Balance,
    /// Seeds all randomness, for tests; `None` takes the system's.
    pub seed: Option<u64>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            udp: vec![SocketAddr::from(([0, 0, 0, 0], 0))],
            tcp: Vec::new(),
            advertised: Vec::new(),
            loopback: false,
            workers: 0,
            codecs: CodecTable::default(),
            limits: Limits::default(),
            forwarding: Forwarding::default(),
            balance: Balance::default(),
            seed: None,
        }
    }
}

/// Bounds on queues and tables. Each is per worker unless it says otherwise.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections. Default 20,000.
    pub connections: usize,
    /// Connections of a room on one worker before its newcomers go to the next one. Default 1000.
    pub room_spread: usize,
    /// Tracks that one connection publishes. Default 64.
    pub tracks_per_connection: usize,
    /// Subscriptions of one connection. Default 1000.
    pub subscriptions_per_connection: usize,
    /// Commands that wait. Default 4096.
    pub commands: usize,
    /// Events of all workers that wait for the control plane. Beyond that, reports (speakers, quality,
    /// decisions, lossy data) are dropped and counted; states are kept. Default 16,384.
    pub events: usize,
    /// Messages that wait from one worker to another, each the packets of one turn. Default 256.
    pub handover: usize,
    /// Bytes of packets kept per encoding for retransmission. Default 1 MiB; memory follows the rate.
    pub history_bytes: usize,
    /// How long packets are kept for retransmission. Default 1 s.
    pub history: Duration,
    /// Packets that wait in one connection's pacer; the newest is dropped beyond. Default 1024.
    pub pacer_packets: usize,
    /// Bytes that one data channel may buffer before a reader is slow: then lossy messages are dropped
    /// and reliable ones refused. Default 1 MiB.
    pub channel_buffer: usize,
    /// Packets that wait in a tap; the newest is dropped beyond. Default 1024.
    pub tap_packets: usize,
    /// Streams of media over TCP. Default 4096.
    pub tcp_streams: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: 20_000,
            room_spread: 1000,
            tracks_per_connection: 64,
            subscriptions_per_connection: 1000,
            commands: 4096,
            events: 16_384,
            handover: 256,
            history_bytes: 1 << 20,
            history: Duration::from_secs(1),
            pacer_packets: 1024,
            channel_buffer: 1 << 20,
            tap_packets: 1024,
            tcp_streams: 4096,
        }
    }
}

/// How streams are forwarded.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Forwarding {
    /// Bounds of the estimate towards each subscriber, in bits per second.
    pub bitrate: Bitrates,
    /// The least time between two key frame requests towards one encoding. Default 500 ms.
    pub keyframe_interval: Duration,
    /// How often active speakers are judged. Default 400 ms.
    pub speaker_interval: Duration,
    /// The level that counts as speech, in -dBov (0 loudest, 127 silence; RFC 6464). Default 40.
    pub speech_level: u8,
    /// The share of an interval that must be speech. Default 0.3.
    pub speech_share: f32,
    /// How often connection quality is judged. Default 5 s.
    pub quality_interval: Duration,
    /// How long a layer that nobody wants is still wanted of its publisher, so that a short look away
    /// does not stop the encoder. Default 2 s.
    pub dynacast_delay: Duration,
}

/// Bounds of an estimate, in bits per second.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bitrates {
    /// Never less.
    pub min: u64,
    /// The first estimate.
    pub start: u64,
    /// Never more.
    pub max: u64,
}

impl Default for Forwarding {
    fn default() -> Self {
        Self {
            bitrate: Bitrates {
                min: 50_000,
                start: 1_000_000,
                max: 50_000_000,
            },
            keyframe_interval: Duration::from_millis(500),
            speaker_interval: Duration::from_millis(400),
            speech_level: 40,
            speech_share: 0.3,
            quality_interval: Duration::from_secs(5),
            dynacast_delay: Duration::from_secs(2),
        }
    }
}

/// When a worker has too much to do, by the share of a second that its thread had a processor (0.0 to 1.0).
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Balance {
    /// Above this share a worker gets no more connections, and gives some away
    /// ([`Event::Crowded`](crate::Event::Crowded)), while another is below `cool`. Default 0.8.
    pub hot: f32,
    /// See `hot`. Default 0.6.
    pub cool: f32,
    /// The most connections that one worker gives away in a second. Default 32.
    pub moves: usize,
}

impl Default for Balance {
    fn default() -> Self {
        Self {
            hot: 0.8,
            cool: 0.6,
            moves: 32,
        }
    }
}
