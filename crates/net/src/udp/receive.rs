//! Room for what one receive call brings, and what the kernel says of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use visavis_datagram::{Arrival, Ecn, Path, Protocol};

/// What the kernel says of one run.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meta {
    from: SocketAddr,
    local: Option<IpAddr>,
    ecn: Ecn,
    segment: usize,
    len: usize,
    /// When the kernel got it, since 1970-01-01T00:00:00Z.
    stamp: Option<Duration>,
}

/// A datagram that the kernel has held for longer than this is rather one of a time before the clock was set.
const LONGEST_WAIT: Duration = Duration::from_secs(2);

/// Room for what one receive call brings: several runs of datagrams, each of one flow.
pub struct ReceiveBatch {
    bytes: Box<[u8]>,
    size: usize,
    #[cfg(target_os = "linux")]
    receiver: crate::direct::system::Receiver,
    #[cfg(not(target_os = "linux"))]
    metas: Box<[quinn_udp::RecvMeta]>,
    runs: usize,
    local: SocketAddr,
    /// When the latest call was, by both clocks.
    received: (Instant, Duration),
}

/// A run of equal-sized datagrams of one flow (the last may be shorter).
#[derive(Debug)]
pub struct Received<'a> {
    /// Where the run arrived and where it came from.
    pub path: Path,
    /// The ECN codepoint of the run.
    pub ecn: Ecn,
    /// When the run reached the kernel, where that is told (Linux), else when it was read. All datagrams of a run
    /// have one time.
    pub at: Instant,
    /// Size of each datagram in bytes; the last one may be shorter.
    pub segment_size: usize,
    /// The datagrams, back to back.
    pub bytes: &'a mut [u8],
}

impl Received<'_> {
    /// What is known of each datagram of the run.
    pub fn arrival(&self) -> Arrival {
        Arrival {
            path: self.path,
            ecn: self.ecn,
            at: self.at,
        }
    }

    /// Each datagram of the run.
    pub fn datagrams(&mut self) -> impl Iterator<Item = &mut [u8]> {
        self.bytes.chunks_mut(self.segment_size.max(1))
    }
}

impl ReceiveBatch {
    /// The most buffers that one call fills.
    pub const MAX_BUFFERS: usize = 32;

    /// A batch of `buffers` (1 to 32) buffers of 64 KiB, each for one run of coalesced datagrams.
    pub fn new(buffers: usize) -> Self {
        let buffers = buffers.clamp(1, Self::MAX_BUFFERS);
        let size = 1 << 16;
        Self {
            bytes: vec![0; buffers * size].into_boxed_slice(),
            size,
            #[cfg(target_os = "linux")]
            receiver: crate::direct::system::Receiver::new(buffers),
            #[cfg(not(target_os = "linux"))]
            metas: vec![quinn_udp::RecvMeta::default(); buffers].into_boxed_slice(),
            runs: 0,
            local: SocketAddr::new(IpAddr::from([0, 0, 0, 0]), 0),
            received: (Instant::now(), Duration::ZERO),
        }
    }

    /// The runs that the latest call brought.
    pub fn runs(&mut self) -> impl Iterator<Item = Received<'_>> {
        let (socket, received) = (self.local, self.received);
        let metas = (0..self.runs).map(|index| {
            #[cfg(target_os = "linux")]
            let meta = self.receiver.meta(index).map(Meta::from);
            #[cfg(not(target_os = "linux"))]
            let meta = Some(Meta::from(self.metas[index]));
            meta
        });
        self.bytes
            .chunks_mut(self.size)
            .zip(metas)
            .filter_map(move |(bytes, meta)| {
                let meta = meta?;
                let local = match meta.local {
                    Some(ip) if socket.ip().is_unspecified() => SocketAddr::new(ip, socket.port()),
                    _ => socket,
                };
                Some(Received {
                    path: Path {
                        protocol: Protocol::Udp,
                        local,
                        remote: meta.from,
                    },
                    ecn: meta.ecn,
                    at: arrived_at(meta.stamp, received),
                    segment_size: meta.segment,
                    bytes: &mut bytes[..meta.len],
                })
            })
    }

    /// Forgets the runs of the latest call.
    pub(super) fn clear(&mut self) {
        self.runs = 0;
    }

    /// Notes that a call on a socket brought so many runs; answers how many datagrams they are.
    pub(super) fn filled(&mut self, runs: usize, local: SocketAddr) -> usize {
        self.runs = runs;
        self.local = local;
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        self.received = (Instant::now(), wall.unwrap_or_default());
        self.runs()
            .map(|run| run.bytes.len().div_ceil(run.segment_size.max(1)))
            .sum()
    }

    /// Receives from a socket into as many buffers as there are runs.
    #[cfg(target_os = "linux")]
    pub(super) fn receive(
        &mut self,
        socket: &tokio::net::UdpSocket,
        _: &quinn_udp::UdpSocketState,
    ) -> io::Result<usize> {
        use std::os::fd::AsRawFd;
        let buffers = self.bytes.chunks_mut(self.size);
        self.receiver.receive(socket.as_raw_fd(), buffers)
    }

    /// Receives from a socket into as many buffers as there are runs.
    #[cfg(not(target_os = "linux"))]
    pub(super) fn receive(
        &mut self,
        socket: &tokio::net::UdpSocket,
        state: &quinn_udp::UdpSocketState,
    ) -> io::Result<usize> {
        let mut chunks = self.bytes.chunks_mut(self.size);
        let mut slices: [io::IoSliceMut<'_>; Self::MAX_BUFFERS] =
            std::array::from_fn(|_| io::IoSliceMut::new(chunks.next().unwrap_or_default()));
        let count = self.metas.len();
        state.recv(socket.into(), &mut slices[..count], &mut self.metas)
    }
}

/// The time of arrival by the monotonic clock: the call's less what the kernel's clock says has passed until it.
fn arrived_at(stamp: Option<Duration>, (now, wall): (Instant, Duration)) -> Instant {
    let waited = stamp.map_or(Duration::ZERO, |stamp| wall.saturating_sub(stamp));
    // Somebody set the clock in between.
    if waited > LONGEST_WAIT {
        return now;
    }
    now.checked_sub(waited).unwrap_or(now)
}

#[cfg(target_os = "linux")]
impl From<crate::direct::system::Meta> for Meta {
    fn from(meta: crate::direct::system::Meta) -> Self {
        Self {
            from: meta.from,
            local: meta.local,
            ecn: meta.ecn,
            segment: meta.segment,
            len: meta.len,
            stamp: meta.stamp,
        }
    }
}

#[cfg(not(target_os = "linux"))]
impl From<quinn_udp::RecvMeta> for Meta {
    fn from(meta: quinn_udp::RecvMeta) -> Self {
        let ecn = meta.ecn.map(|codepoint| Ecn::from_bits(codepoint as u8));
        Self {
            from: meta.addr,
            local: meta.dst_ip,
            ecn: ecn.unwrap_or_default(),
            segment: meta.stride,
            len: meta.len,
            stamp: None,
        }
    }
}

impl fmt::Debug for ReceiveBatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveBatch")
            .field("runs", &self.runs)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::arrived_at;

    #[test]
    fn the_wait_in_the_kernel_is_taken_off_unless_the_clock_was_set() {
        let (now, wall) = (Instant::now(), Duration::from_secs(1_700_000_000));
        let age = |stamp: Duration| now - arrived_at(Some(stamp), (now, wall));
        let wait = Duration::from_millis(250);
        assert_eq!(age(wall - wait), wait);
        assert_eq!(age(wall + wait), Duration::ZERO, "set back");
        assert_eq!(age(wall - Duration::from_secs(3600)), Duration::ZERO);
        assert_eq!(arrived_at(None, (now, wall)), now);
    }
}
