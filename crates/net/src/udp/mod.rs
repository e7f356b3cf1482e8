//! UDP sockets that move many datagrams per system call, with ECN and per-datagram local addresses.

#[cfg(target_os = "linux")]
mod batch;
mod receive;

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll, ready};

use quinn_udp::{EcnCodepoint, UdpSockRef, UdpSocketState};
use socket2::{Domain, Socket, Type};
use tokio::io::Interest;
use visavis_datagram::{Ecn, Transmit};

pub use self::receive::{ReceiveBatch, Received};

/// The largest run of segments that one system call takes, in bytes: what fits one IPv4 datagram.
const MAX_RUN: usize = 65_507;

/// How a socket is made.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct UdpOptions {
    /// Kernel receive buffer in bytes. Default 1 MiB: about 7 ms of a saturated gigabit link.
    pub receive_buffer: usize,
    /// Kernel send buffer in bytes. Default 1 MiB.
    pub send_buffer: usize,
    /// Let several sockets share the port, the kernel spreading flows over them. Default off.
    pub reuse_port: bool,
    /// Use segmentation offload where the kernel has it. Default on.
    pub offload: bool,
}

impl Default for UdpOptions {
    fn default() -> Self {
        Self {
            receive_buffer: 1 << 20,
            send_buffer: 1 << 20,
            reuse_port: false,
            offload: true,
        }
    }
}

/// What a socket has counted since it was made.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct UdpStats {
    /// Datagrams handed to the kernel.
    pub sent: u64,
    /// System calls that handed them over.
    pub send_calls: u64,
    /// Datagrams that the kernel refused (no route, too large, filtered); they count as lost.
    pub send_errors: u64,
    /// Datagrams received.
    pub received: u64,
    /// System calls that received them.
    pub receive_calls: u64,
}

/// A UDP socket for a tokio runtime.
pub struct UdpSocket {
    io: tokio::net::UdpSocket,
    state: UdpSocketState,
    local: SocketAddr,
    offload: bool,
    counters: Counters,
}

#[derive(Default)]
struct Counters {
    sent: AtomicU64,
    send_calls: AtomicU64,
    send_errors: AtomicU64,
    received: AtomicU64,
    receive_calls: AtomicU64,
}

impl UdpSocket {
    /// Binds a socket with the default options. Port 0 picks a free one.
    ///
    /// # Errors
    /// What the system says: address in use, not available, no permission.
    pub fn bind(local: SocketAddr) -> io::Result<Self> {
        Self::bind_with(local, &UdpOptions::default())
    }

    /// Binds a socket. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// What the system says: address in use, not available, no permission.
    pub fn bind_with(local: SocketAddr, options: &UdpOptions) -> io::Result<Self> {
        Self::from_std(bind_std(local, options)?, options)
    }

    /// Takes a socket that [`bind_std`] made, perhaps on another thread. Must be called within the tokio
    /// runtime that it is to be used on.
    ///
    /// # Errors
    /// What the system says.
    pub fn from_std(socket: std::net::UdpSocket, options: &UdpOptions) -> io::Result<Self> {
        let state = UdpSocketState::new(UdpSockRef::from(&socket))?;
        let io = tokio::net::UdpSocket::from_std(socket)?;
        let local = io.local_addr()?;
        Ok(Self {
            io,
            state,
            local,
            offload: options.offload,
            counters: Counters::default(),
        })
    }

    /// The address that the socket is bound to; the IP is unspecified for a wildcard socket.
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// How many datagrams one system call can send now. Falls to 1 when the kernel's offload fails.
    pub fn max_segments(&self) -> usize {
        if self.offload {
            self.state.max_gso_segments()
        } else {
            1
        }
    }

    /// What the socket has counted.
    pub fn stats(&self) -> UdpStats {
        UdpStats {
            sent: self.counters.sent.load(Ordering::Relaxed),
            send_calls: self.counters.send_calls.load(Ordering::Relaxed),
            send_errors: self.counters.send_errors.load(Ordering::Relaxed),
            received: self.counters.received.load(Ordering::Relaxed),
            receive_calls: self.counters.receive_calls.load(Ordering::Relaxed),
        }
    }

    /// Sends a run of datagrams, in as few system calls as the kernel allows.
    ///
    /// Answers how many bytes of the run are dealt with: fewer than its length when the socket's
    /// buffer is full; try the rest once the socket is [writable](Self::writable). Datagrams that
    /// the kernel refuses are counted and dropped, as any router might have done.
    pub fn try_send(&self, transmit: &Transmit, bytes: &[u8]) -> usize {
        let bytes = &bytes[..transmit.len.min(bytes.len())];
        let segment = transmit.segment_size.max(1);
        let mut done = 0;
        // The kernel answers these with EINVAL, which would pass for a fault of its offload.
        if transmit.destination.port() == 0
            || transmit.destination.is_ipv4() != self.local.is_ipv4()
        {
            let datagrams = bytes.len().div_ceil(segment) as u64;
            self.counters
                .send_errors
                .fetch_add(datagrams, Ordering::Relaxed);
            return bytes.len();
        }
        while done < bytes.len() {
            let run = (MAX_RUN / segment).clamp(1, self.max_segments().max(1)) * segment;
            let end = bytes.len().min(done + run);
            let datagrams = (end - done).div_ceil(segment) as u64;
            let call = quinn_udp::Transmit {
                destination: transmit.destination,
                ecn: codepoint(transmit.ecn),
                contents: &bytes[done..end],
                segment_size: (datagrams > 1).then_some(segment),
                src_ip: source(self.local, transmit.source),
            };
            let sent = self.io.try_io(Interest::WRITABLE, || {
                self.state.try_send((&self.io).into(), &call)
            });
            self.counters.send_calls.fetch_add(1, Ordering::Relaxed);
            match sent {
                Ok(()) => {
                    self.counters.sent.fetch_add(datagrams, Ordering::Relaxed);
                    done = end;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Offload that fails is switched off by the call; the same datagrams go one by one.
                Err(_) if datagrams > 1 && self.max_segments() == 1 => {}
                Err(error) => {
                    tracing::debug!(%error, destination = %transmit.destination, "datagram refused");
                    self.counters
                        .send_errors
                        .fetch_add(datagrams, Ordering::Relaxed);
                    done = end;
                }
            }
        }
        done
    }

    /// Sends runs for many destinations, many runs per system call where the kernel can.
    ///
    /// Answers how many runs, from the first, are dealt with: fewer than all when the socket's buffer
    /// is full. What the kernel refuses is counted and dropped.
    pub fn try_send_many(&self, runs: &[(Transmit, &[u8])]) -> usize {
        let mut done = 0;
        while done < runs.len() {
            #[cfg(target_os = "linux")]
            {
                let fit = runs[done..]
                    .iter()
                    .take_while(|(run, bytes)| self.fits_one_call(run, bytes));
                let batch = &runs[done..done + fit.count()];
                if batch.len() > 1 {
                    use std::os::fd::AsFd;
                    let sent = self.io.try_io(Interest::WRITABLE, || {
                        batch::send(self.io.as_fd(), self.local, batch)
                    });
                    self.counters.send_calls.fetch_add(1, Ordering::Relaxed);
                    match sent {
                        Ok(sent) => {
                            let datagrams = batch[..sent]
                                .iter()
                                .map(|(run, bytes)| datagrams(run, bytes));
                            self.counters
                                .sent
                                .fetch_add(datagrams.sum(), Ordering::Relaxed);
                            done += sent;
                            continue;
                        }
                        Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                        // The first run is at fault: the single-run path below deals with it.
                        Err(_) => {}
                    }
                }
            }
            let (transmit, bytes) = &runs[done];
            if self.try_send(transmit, bytes) < bytes.len().min(transmit.len) {
                break;
            }
            done += 1;
        }
        done
    }

    /// Whether a run needs nothing but one kernel call with offload.
    #[cfg(target_os = "linux")]
    fn fits_one_call(&self, run: &Transmit, bytes: &[u8]) -> bool {
        run.destination.port() != 0
            && run.destination.is_ipv4() == self.local.is_ipv4()
            && run.len == bytes.len()
            && bytes.len() <= MAX_RUN
            && datagrams(run, bytes) <= self.max_segments() as u64
    }

    /// Waits until the socket can take more datagrams.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn writable(&self) -> io::Result<()> {
        self.io.writable().await
    }

    /// Registers the task to be woken when the socket can take more datagrams.
    pub fn poll_send_ready(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.io.poll_send_ready(cx)
    }

    /// Sends a run of datagrams, waiting for room as often as it takes.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn send(&self, transmit: &Transmit, bytes: &[u8]) -> io::Result<()> {
        let mut rest = *transmit;
        let mut bytes = &bytes[..transmit.len.min(bytes.len())];
        loop {
            let done = self.try_send(&rest, bytes);
            bytes = &bytes[done..];
            if bytes.is_empty() {
                return Ok(());
            }
            rest.len = bytes.len();
            self.writable().await?;
        }
    }

    /// Receives what the kernel holds, up to the batch's size. Answers how many runs arrived.
    ///
    /// # Errors
    /// `WouldBlock` when nothing is there. Errors that ICMP brings about an earlier datagram are
    /// swallowed: they are hints that anybody can forge.
    pub fn try_recv(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        batch.clear();
        let received = self.io.try_io(Interest::READABLE, || self.receive(batch));
        self.counters.receive_calls.fetch_add(1, Ordering::Relaxed);
        let runs = received?;
        let datagrams = batch.filled(runs, self.local);
        self.counters
            .received
            .fetch_add(datagrams as u64, Ordering::Relaxed);
        Ok(runs)
    }

    /// Receives what the kernel holds, or registers the task to be woken.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        batch: &mut ReceiveBatch,
    ) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.io.poll_recv_ready(cx))?;
            match self.try_recv(batch) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                result => return Poll::Ready(result),
            }
        }
    }

    /// Waits for datagrams. Answers how many runs arrived.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn recv(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        std::future::poll_fn(|cx| self.poll_recv(cx, batch)).await
    }

    fn receive(&self, batch: &mut ReceiveBatch) -> io::Result<usize> {
        loop {
            match batch.receive(&self.io, &self.state) {
                Err(error)
                    if matches!(
                        error.kind(),
                        io::ErrorKind::Interrupted
                            | io::ErrorKind::ConnectionReset
                            | io::ErrorKind::ConnectionRefused
                    ) => {}
                result => return result,
            }
        }
    }
}

/// Binds a socket without a runtime, for [`UdpSocket::from_std`]. Port 0 picks a free one.
///
/// # Errors
/// What the system says: address in use, not available, no permission.
pub fn bind_std(local: SocketAddr, options: &UdpOptions) -> io::Result<std::net::UdpSocket> {
    let socket = Socket::new(Domain::for_address(local), Type::DGRAM, None)?;
    if local.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    #[cfg(unix)]
    if options.reuse_port {
        socket.set_reuse_port(true)?;
    }
    // A smaller buffer than asked for is not worth failing for.
    let _ = socket.set_recv_buffer_size(options.receive_buffer);
    let _ = socket.set_send_buffer_size(options.send_buffer);
    socket.set_nonblocking(true)?;
    socket.bind(&local.into())?;
    Ok(socket.into())
}

/// Sets a socket up so that its datagrams are never fragmented on their way, whatever the kernel knows
/// of the path: for probing which sizes get through (RFC 8899 section 3).
///
/// # Errors
/// Whatever the system says.
pub fn without_fragmentation(socket: std::net::UdpSocket) -> io::Result<std::net::UdpSocket> {
    UdpSocketState::new((&socket).into())?;
    Ok(socket)
}

impl fmt::Debug for UdpSocket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UdpSocket")
            .field("local", &self.local)
            .finish_non_exhaustive()
    }
}

#[cfg(target_os = "linux")]
fn datagrams(run: &Transmit, bytes: &[u8]) -> u64 {
    bytes.len().div_ceil(run.segment_size.max(1)) as u64
}

fn codepoint(ecn: Ecn) -> Option<EcnCodepoint> {
    EcnCodepoint::from_bits(ecn.bits())
}

/// The source address to ask for: only a wildcard socket has a choice.
fn source(socket: SocketAddr, wanted: SocketAddr) -> Option<IpAddr> {
    (socket.ip().is_unspecified() && !wanted.ip().is_unspecified()).then_some(wanted.ip())
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};

    use visavis_datagram::{Ecn, Path, Segments, Transmit};

    use super::{ReceiveBatch, UdpOptions, UdpSocket};

    async fn receive(socket: &UdpSocket, bytes: usize) -> Vec<(Path, Ecn, Vec<u8>)> {
        let mut batch = ReceiveBatch::new(4);
        let mut all = Vec::new();
        let mut seen = 0;
        while seen < bytes {
            socket.recv(&mut batch).await.unwrap();
            for mut run in batch.runs() {
                let (path, ecn) = (run.path, run.ecn);
                for datagram in run.datagrams() {
                    seen += datagram.len();
                    all.push((path, ecn, datagram.to_vec()));
                }
            }
        }
        all
    }

    async fn exchange(options: UdpOptions, ip: std::net::IpAddr) {
        let receiver = UdpSocket::bind(SocketAddr::new(ip, 0)).unwrap();
        let sender = UdpSocket::bind_with(SocketAddr::new(ip, 0), &options).unwrap();
        let bytes: Vec<u8> = (0..10 * 1000 + 300)
            .map(|index| (index / 1000) as u8)
            .collect();
        let path = Path::udp(sender.local_addr(), receiver.local_addr());
        let segments = Segments {
            segment_size: 1000,
            len: bytes.len(),
        };
        sender
            .send(&Transmit::new(path, Ecn::Ect1, segments), &bytes)
            .await
            .unwrap();
        let all = receive(&receiver, bytes.len()).await;
        assert_eq!(all.len(), 11);
        for (index, (path, ecn, datagram)) in all.iter().enumerate() {
            assert_eq!(path.remote, sender.local_addr());
            assert_eq!(path.local, receiver.local_addr());
            assert_eq!(*ecn, Ecn::Ect1);
            assert_eq!(datagram.len(), if index == 10 { 300 } else { 1000 });
            assert!(datagram.iter().all(|&byte| byte == index as u8));
        }
        assert_eq!(sender.stats().sent, 11);
        assert_eq!(receiver.stats().received, 11);
    }

    #[tokio::test]
    async fn a_run_arrives_as_datagrams_with_ecn_over_ipv4() {
        exchange(UdpOptions::default(), Ipv4Addr::LOCALHOST.into()).await;
    }

    #[tokio::test]
    async fn a_run_arrives_as_datagrams_with_ecn_over_ipv6() {
        if std::net::UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_err() {
            eprintln!("skipped: this machine has no IPv6 loopback");
            return;
        }
        exchange(UdpOptions::default(), Ipv6Addr::LOCALHOST.into()).await;
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn a_socket_that_is_read_late_tells_when_its_datagrams_came() {
        let receiver = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        let sender = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let there = SocketAddr::from(([127, 0, 0, 1], receiver.local_addr().port()));
        let path = Path::udp(sender.local_addr(), there);
        let mut sent = Vec::new();
        for _ in 0..3 {
            // A run of two, coalesced where the kernel does that, with all other control messages.
            let two = Segments {
                segment_size: 500,
                len: 1000,
            };
            let before = std::time::Instant::now();
            sender
                .send(&Transmit::new(path, Ecn::Ect0, two), &[7; 1000])
                .await
                .unwrap();
            sent.push((before, std::time::Instant::now()));
            tokio::time::sleep(std::time::Duration::from_millis(30)).await;
        }
        let mut batch = ReceiveBatch::new(8);
        let mut seen = Vec::new();
        while seen.len() < 6 {
            receiver.recv(&mut batch).await.unwrap();
            for mut run in batch.runs() {
                assert_eq!((run.ecn, run.path.local), (Ecn::Ect0, there));
                let at = run.at;
                seen.extend(run.datagrams().map(|_| at));
            }
        }
        // Two clocks are read one after the other: a preemption between makes a difference.
        let slack = std::time::Duration::from_millis(15);
        for (index, at) in seen.into_iter().enumerate() {
            let (before, after) = sent[index / 2];
            assert!(at + slack >= before && at <= after + slack, "{index}");
        }
    }

    #[tokio::test]
    async fn a_run_arrives_without_offload() {
        let options = UdpOptions {
            offload: false,
            ..UdpOptions::default()
        };
        exchange(options, Ipv4Addr::LOCALHOST.into()).await;
    }

    #[tokio::test]
    async fn a_wildcard_socket_tells_and_chooses_the_local_address() {
        let wildcard = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        let port = wildcard.local_addr().port();
        let other = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let there = SocketAddr::from(([127, 0, 0, 2], port));
        let one = Segments {
            segment_size: 3,
            len: 3,
        };
        let transmit = Transmit::new(Path::udp(other.local_addr(), there), Ecn::NotEct, one);
        other.send(&transmit, b"abc").await.unwrap();
        let (path, ..) = receive(&wildcard, 3).await.remove(0);
        assert_eq!(path.local, there);

        let back = Transmit::new(path, Ecn::NotEct, one);
        wildcard.send(&back, b"def").await.unwrap();
        let (path, _, datagram) = receive(&other, 3).await.remove(0);
        assert_eq!(
            (path.remote, datagram.as_slice()),
            (there, b"def".as_slice())
        );
    }

    #[tokio::test]
    async fn runs_for_many_destinations_leave_in_few_calls() {
        let sender = UdpSocket::bind(SocketAddr::from(([0, 0, 0, 0], 0))).unwrap();
        let receivers: Vec<_> = (0..5)
            .map(|_| UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap())
            .collect();
        let source = SocketAddr::from(([127, 0, 0, 3], sender.local_addr().port()));
        let payloads: Vec<Vec<u8>> = (0..5u8).map(|index| vec![index; 250]).collect();
        let runs: Vec<_> = receivers
            .iter()
            .zip(&payloads)
            .map(|(receiver, payload)| {
                let path = Path::udp(source, receiver.local_addr());
                let segments = Segments {
                    segment_size: 100,
                    len: 250,
                };
                (Transmit::new(path, Ecn::Ect0, segments), payload.as_slice())
            })
            .collect();
        sender.writable().await.unwrap();
        assert_eq!(sender.try_send_many(&runs), 5);
        assert_eq!(sender.stats().sent, 15);
        #[cfg(target_os = "linux")]
        assert_eq!(sender.stats().send_calls, 1);
        for (index, receiver) in receivers.iter().enumerate() {
            let all = receive(receiver, 250).await;
            let sizes: Vec<_> = all.iter().map(|(.., datagram)| datagram.len()).collect();
            assert_eq!(sizes, [100, 100, 50]);
            for (path, ecn, datagram) in all {
                assert_eq!((path.remote, ecn), (source, Ecn::Ect0));
                assert!(datagram.iter().all(|&byte| byte == index as u8));
            }
        }
    }

    #[tokio::test]
    async fn a_run_that_cannot_leave_does_not_hold_up_the_others() {
        let sender = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let receiver = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let run = |destination: SocketAddr| {
            let path = Path::udp(sender.local_addr(), destination);
            (
                Transmit::new(
                    path,
                    Ecn::NotEct,
                    Segments {
                        segment_size: 3,
                        len: 3,
                    },
                ),
                &b"abc"[..],
            )
        };
        let (good, broadcast) = (receiver.local_addr(), "255.255.255.255:9".parse().unwrap());
        let port_zero = "127.0.0.1:0".parse().unwrap();
        sender.writable().await.unwrap();
        let runs = [
            run(good),
            run(broadcast),
            run(port_zero),
            run(good),
            run(good),
        ];
        assert_eq!(sender.try_send_many(&runs), 5);
        assert_eq!((sender.stats().sent, sender.stats().send_errors), (3, 2));
        assert_eq!(receive(&receiver, 9).await.len(), 3);
    }

    #[tokio::test]
    async fn what_the_kernel_refuses_is_counted_and_dropped() {
        let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let one = Segments {
            segment_size: 3,
            len: 3,
        };
        let segments = socket.max_segments();
        socket.writable().await.unwrap();
        for destination in ["[::1]:9", "127.0.0.1:0", "255.255.255.255:9"] {
            let path = Path::udp(socket.local_addr(), destination.parse().unwrap());
            assert_eq!(
                socket.try_send(&Transmit::new(path, Ecn::NotEct, one), b"abc"),
                3
            );
        }
        assert_eq!(socket.stats().send_errors, 3);
        assert_eq!(socket.max_segments(), segments, "offload stays on");
    }
}
