//! The memory of one pass: what came, and what goes out of it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::os::fd::AsRawFd;

use visavis_datagram::Ecn;

use super::socket::DirectSocket;
use super::system::{Header, MOST_PIECES, Receiver, Sender};

/// A buffer holds the longest run that the kernel coalesces.
const BUFFER: usize = 1 << 16;
/// Buffers do not stand a power of two apart: their beginnings would share one set of the cache.
const STRIDE: usize = BUFFER + 1344;
/// Room for bytes that are written in front of payloads, between two flushes.
const SCRATCH: usize = 1 << 16;
/// Zeroes at the beginning of the scratch room, for padding.
const ZEROES: usize = 4;
/// The most datagrams of one run (UDP_MAX_SEGMENTS before Linux 6.9).
const MOST_SEGMENTS: usize = 64;
/// The most bytes of one run.
const MOST_BYTES: usize = 65_000;
/// Longer datagrams may not fit the path's MTU, where the kernel refuses to segment.
const LONGEST_SEGMENT: usize = 1452;
/// Runs that wait between two flushes, at most; a power of two.
const MOST_WAITING: usize = 512;
/// Pieces of them.
const MOST_WAITING_PIECES: usize = 8192;
/// How many runs the kernel may refuse to segment before it is not asked any more.
const MOST_FAILURES: u32 = 8;
const NONE: u32 = u32::MAX;

/// A run that was received: equal-sized datagrams of one flow, back to back (the last may be shorter).
#[derive(Debug, Clone)]
pub struct Incoming {
    /// Where it came from.
    pub from: SocketAddr,
    /// Which address of this host it was sent to; only from sockets that are bound to all.
    pub local: Option<IpAddr>,
    /// The ECN codepoint.
    pub ecn: Ecn,
    /// Bytes of each datagram.
    pub segment: usize,
    /// Where it stands in [`Exchange::bytes_mut`].
    pub range: Range<usize>,
}

/// Where a datagram goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outgoing {
    /// The caller's number for the socket.
    pub socket: u32,
    /// The destination.
    pub destination: SocketAddr,
    /// The source address, if the socket is bound to all.
    pub source: Option<IpAddr>,
    /// The ECN codepoint.
    pub ecn: Ecn,
}

/// There is no room: flush, then try again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Full;

/// What an exchange has counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ExchangeStats {
    /// Datagrams received.
    pub received: u64,
    /// System calls that received them.
    pub receive_calls: u64,
    /// Datagrams sent.
    pub sent: u64,
    /// System calls that sent them.
    pub send_calls: u64,
    /// Datagrams dropped because a socket's buffer was full.
    pub send_full: u64,
    /// Datagrams that the kernel refused: no route, too large, filtered.
    pub send_errors: u64,
    /// Runs that the kernel did not segment; they were sent datagram by datagram.
    pub offload_failures: u64,
}

#[derive(Debug, Clone, Copy)]
struct Piece {
    start: u32,
    len: u32,
    next: u32,
}

#[derive(Debug, Clone, Copy)]
struct Run {
    to: Outgoing,
    first: u32,
    last: u32,
    pieces: u32,
    segment: u32,
    datagrams: u32,
    bytes: u32,
    /// A shorter datagram ends a run.
    open: bool,
}

/// Receives from many sockets into one piece of memory, and sends pieces of it. See the
/// [module](crate::direct).
pub struct Exchange {
    bytes: Box<[u8]>,
    buffers: usize,
    filled: usize,
    scratch: usize,
    receiver: Receiver,
    sender: Sender,
    pieces: Vec<Piece>,
    runs: Vec<Run>,
    order: Vec<u32>,
    /// Index of the open run of a destination, by hash.
    open: Box<[u32]>,
    failures: u32,
    stats: ExchangeStats,
}

impl Exchange {
    /// An exchange of `buffers` buffers of 64 KiB; `offload` false never lets the kernel segment.
    pub fn new(buffers: usize, offload: bool) -> Self {
        let buffers = buffers.max(1);
        Self {
            bytes: vec![0; SCRATCH + buffers * STRIDE].into_boxed_slice(),
            buffers,
            filled: 0,
            scratch: ZEROES,
            receiver: Receiver::new(buffers),
            sender: Sender::new(),
            pieces: Vec::with_capacity(MOST_WAITING_PIECES),
            runs: Vec::with_capacity(MOST_WAITING),
            order: Vec::with_capacity(MOST_WAITING),
            open: vec![NONE; MOST_WAITING].into_boxed_slice(),
            failures: if offload { 0 } else { MOST_FAILURES },
            stats: ExchangeStats::default(),
        }
    }

    /// What was counted.
    pub fn stats(&self) -> ExchangeStats {
        self.stats
    }

    /// Whether the kernel segments.
    pub fn offloads(&self) -> bool {
        self.failures < MOST_FAILURES
    }

    /// How many buffers are free.
    pub fn free(&self) -> usize {
        self.buffers - self.filled
    }

    /// All of the memory.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.bytes
    }

    /// Part of the memory.
    pub fn bytes(&self, range: Range<usize>) -> &[u8] {
        &self.bytes[range]
    }

    /// Takes a free buffer of 64 KiB for bytes from elsewhere (a stream).
    pub fn take_buffer(&mut self) -> Option<Range<usize>> {
        let start = self.start(self.filled);
        (self.filled < self.buffers).then(|| {
            self.filled += 1;
            start..start + BUFFER
        })
    }

    /// Receives up to `most` runs, one per free buffer; `take` gets each. Answers how many came: fewer than asked for means that
    /// the socket is empty.
    ///
    /// # Errors
    /// What the system says, but for `WouldBlock` (nothing came) and errors that ICMP brings about
    /// earlier datagrams, which anybody can forge.
    pub fn receive(
        &mut self,
        socket: &DirectSocket,
        most: usize,
        mut take: impl FnMut(Incoming),
    ) -> io::Result<usize> {
        let most = most.min(self.free());
        let begin = self.start(self.filled);
        loop {
            let buffers = self.bytes[begin..]
                .chunks_mut(STRIDE)
                .take(most)
                .map(|chunk| &mut chunk[..BUFFER]);
            self.stats.receive_calls += 1;
            match self.receiver.receive(socket.as_raw_fd(), buffers) {
                Ok(count) => {
                    for index in 0..count {
                        let Some(meta) = self.receiver.meta(index) else {
                            continue;
                        };
                        let start = begin + index * STRIDE;
                        self.stats.received += meta.len.div_ceil(meta.segment) as u64;
                        take(Incoming {
                            from: meta.from,
                            local: meta.local,
                            ecn: meta.ecn,
                            segment: meta.segment,
                            range: start..start + meta.len.min(BUFFER),
                        });
                    }
                    self.filled += count;
                    return Ok(count);
                }
                Err(error) => match error.kind() {
                    io::ErrorKind::WouldBlock => return Ok(0),
                    io::ErrorKind::Interrupted
                    | io::ErrorKind::ConnectionRefused
                    | io::ErrorKind::ConnectionReset
                    | io::ErrorKind::HostUnreachable
                    | io::ErrorKind::NetworkUnreachable => {}
                    _ if matches!(
                        error.raw_os_error(),
                        Some(
                            libc::EMSGSIZE
                                | libc::EPROTO
                                | libc::EOPNOTSUPP
                                | libc::EHOSTDOWN
                                | libc::ENOPROTOOPT
                        )
                    ) => {}
                    _ => return Err(error),
                },
            }
        }
    }

    /// Queues a datagram made of `header`, which is copied, of bytes that stand in the memory, and of up to 3 zeroes.
    ///
    /// # Errors
    /// [`Full`].
    pub fn queue(
        &mut self,
        to: Outgoing,
        header: &[u8],
        body: Range<usize>,
        padding: usize,
    ) -> Result<(), Full> {
        let len = header.len() + body.len() + padding;
        if self.pieces.len() + 3 > MOST_WAITING_PIECES || self.scratch + header.len() > SCRATCH {
            return Err(Full);
        }
        let run = self.run_for(to, len)?;
        if !header.is_empty() {
            let start = self.scratch;
            self.bytes[start..start + header.len()].copy_from_slice(header);
            self.scratch += header.len();
            self.piece(run, start..start + header.len());
        }
        if !body.is_empty() || len == 0 {
            self.piece(run, body);
        }
        if padding > 0 {
            self.piece(run, 0..padding.min(ZEROES));
        }
        Ok(())
    }

    /// Sends what is queued; `socket` finds the sockets. What the kernel does not take is counted and dropped, as any
    /// router might have done.
    pub fn flush<'a>(&mut self, socket: impl Fn(u32) -> Option<&'a DirectSocket>) {
        if self.runs.is_empty() {
            self.scratch = ZEROES;
            return;
        }
        self.order.clear();
        self.order.extend(0..self.runs.len() as u32);
        let runs = &self.runs;
        self.order
            .sort_unstable_by_key(|&run| (runs[run as usize].to.socket, run));
        let mut next = 0;
        while next < self.order.len() {
            let number = self.runs[self.order[next] as usize].to.socket;
            let end = self.order[next..]
                .iter()
                .position(|&run| self.runs[run as usize].to.socket != number)
                .map_or(self.order.len(), |len| next + len);
            match socket(number) {
                Some(socket) => self.send_all(socket, next..end),
                None => {
                    for &run in &self.order[next..end] {
                        self.stats.send_errors += u64::from(self.runs[run as usize].datagrams);
                    }
                }
            }
            next = end;
        }
        for run in self.runs.drain(..) {
            self.open[slot(&run.to)] = NONE;
        }
        self.pieces.clear();
        self.scratch = ZEROES;
    }

    /// Forgets what was received.
    pub fn clear(&mut self) {
        debug_assert!(self.runs.is_empty(), "flush first");
        self.filled = 0;
    }

    fn start(&self, buffer: usize) -> usize {
        SCRATCH + buffer * STRIDE
    }

    /// The run that a datagram joins.
    fn run_for(&mut self, to: Outgoing, len: usize) -> Result<usize, Full> {
        let slot = slot(&to);
        let index = self.open[slot] as usize;
        let offloads = self.offloads();
        if let Some(run) = self.runs.get_mut(index)
            && run.to == to
        {
            let joins = run.open
                && offloads
                && len <= run.segment as usize
                && run.segment as usize <= LONGEST_SEGMENT
                && (run.datagrams as usize) < MOST_SEGMENTS
                && run.bytes as usize + len <= MOST_BYTES
                && run.pieces as usize + 3 <= MOST_PIECES
                && len > 0;
            if joins {
                run.open = len == run.segment as usize;
                run.datagrams += 1;
                run.bytes += len as u32;
                return Ok(index);
            }
        }
        if self.runs.len() >= MOST_WAITING {
            return Err(Full);
        }
        self.open[slot] = self.runs.len() as u32;
        self.runs.push(Run {
            to,
            first: NONE,
            last: NONE,
            pieces: 0,
            segment: len as u32,
            datagrams: 1,
            bytes: len as u32,
            open: true,
        });
        Ok(self.runs.len() - 1)
    }

    fn piece(&mut self, run: usize, range: Range<usize>) {
        let run = &mut self.runs[run];
        let index = self.pieces.len() as u32;
        match self.pieces.get_mut(run.last as usize) {
            // What follows what went before is one piece.
            Some(last) if (last.start + last.len) as usize == range.start => {
                last.len += range.len() as u32;
                return;
            }
            Some(last) => last.next = index,
            None => run.first = index,
        }
        run.last = index;
        run.pieces += 1;
        self.pieces.push(Piece {
            start: range.start as u32,
            len: range.len() as u32,
            next: NONE,
        });
    }

    /// Sends the runs of one socket, which stand in `order`.
    fn send_all(&mut self, socket: &DirectSocket, range: Range<usize>) {
        let mut next = range.start;
        while next < range.end {
            self.sender.begin();
            let mut end = next;
            while end < range.end && !self.sender.is_full() {
                let run = &self.runs[self.order[end] as usize];
                let mut at = run.first;
                while let Some(piece) = self.pieces.get(at as usize) {
                    let start = piece.start as usize;
                    self.sender
                        .piece(&self.bytes[start..start + piece.len as usize]);
                    at = piece.next;
                }
                self.sender.run(Header {
                    destination: run.to.destination,
                    source: run.to.source,
                    ecn: run.to.ecn,
                    segment: (run.datagrams > 1).then_some(run.segment as u16),
                    pieces: run.pieces as usize,
                });
                end += 1;
            }
            self.stats.send_calls += 1;
            // SAFETY: the pieces lie in `self.bytes`, which nothing changes before the call is over.
            let sent = unsafe { self.sender.send(socket.as_raw_fd()) };
            match sent {
                Ok(sent) => {
                    let sent = sent.max(1).min(end - next);
                    for &run in &self.order[next..next + sent] {
                        self.stats.sent += u64::from(self.runs[run as usize].datagrams);
                    }
                    next += sent;
                }
                Err(error) => {
                    let run = self.runs[self.order[next] as usize];
                    if error.kind() == io::ErrorKind::WouldBlock {
                        for &run in &self.order[next..range.end] {
                            self.stats.send_full += u64::from(self.runs[run as usize].datagrams);
                        }
                        return;
                    }
                    self.refused(socket, run, &error);
                    next += 1;
                }
            }
        }
    }

    /// The kernel did not take a run: each of its datagrams is tried once more by itself. That takes care of broken
    /// offload, of paths with a small MTU, and of errors that ICMP left on the socket.
    fn refused(&mut self, socket: &DirectSocket, run: Run, error: &io::Error) {
        if run.datagrams > 1 {
            self.stats.offload_failures += 1;
            // EIO is what a device without checksum offload answers; others may concern one path alone.
            self.failures += if error.raw_os_error() == Some(libc::EIO) {
                MOST_FAILURES
            } else {
                1
            };
            if !self.offloads() {
                tracing::warn!(%error, "the kernel does not segment: datagrams are sent one by one");
            }
        }
        let mut bytes = Vec::with_capacity(run.bytes as usize);
        let mut at = run.first;
        while let Some(piece) = self.pieces.get(at as usize) {
            let start = piece.start as usize;
            bytes.extend_from_slice(&self.bytes[start..start + piece.len as usize]);
            at = piece.next;
        }
        let segment = (run.segment as usize).max(1);
        let mut rest = &bytes[..];
        for _ in 0..run.datagrams {
            let (datagram, others) = rest.split_at(segment.min(rest.len()));
            rest = others;
            self.sender.begin();
            self.sender.piece(datagram);
            self.sender.run(Header {
                destination: run.to.destination,
                source: run.to.source,
                ecn: run.to.ecn,
                segment: None,
                pieces: 1,
            });
            self.stats.send_calls += 1;
            // SAFETY: the piece is borrowed from `bytes`, which lives on.
            match unsafe { self.sender.send(socket.as_raw_fd()) } {
                Ok(_) => self.stats.sent += 1,
                Err(error) => {
                    tracing::debug!(%error, destination = %run.to.destination, "datagram refused");
                    self.stats.send_errors += 1;
                }
            }
        }
    }
}

impl fmt::Debug for Exchange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Exchange")
            .field("filled", &self.filled)
            .field("waiting", &self.runs.len())
            .finish_non_exhaustive()
    }
}

/// Where the open run of a destination is looked for. Two that meet in one slot only lose the chance to be coalesced.
fn slot(to: &Outgoing) -> usize {
    let ip = match to.destination.ip() {
        IpAddr::V4(ip) => u64::from(ip.to_bits()),
        IpAddr::V6(ip) => (ip.to_bits() >> 64) as u64 ^ ip.to_bits() as u64,
    };
    let key = ip ^ u64::from(to.destination.port()) << 32 ^ u64::from(to.socket) << 40;
    (key.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> (64 - MOST_WAITING.ilog2())) as usize
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;
    use std::time::{Duration, Instant};

    use visavis_datagram::Ecn;

    use super::super::{DirectOptions, DirectSocket};
    use super::{Exchange, Incoming, Outgoing};

    fn socket() -> DirectSocket {
        DirectSocket::bind("127.0.0.1:0".parse().unwrap(), &DirectOptions::default()).unwrap()
    }

    fn to(destination: SocketAddr) -> Outgoing {
        Outgoing {
            socket: 0,
            destination,
            source: None,
            ecn: Ecn::Ect0,
        }
    }

    fn receive(exchange: &mut Exchange, socket: &DirectSocket, datagrams: usize) -> Vec<Incoming> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut runs = Vec::new();
        let count = |runs: &[Incoming]| -> usize {
            runs.iter()
                .map(|run| run.range.len().div_ceil(run.segment))
                .sum()
        };
        while count(&runs) < datagrams {
            exchange.receive(socket, 8, |run| runs.push(run)).unwrap();
            assert!(Instant::now() < deadline, "{runs:?}");
        }
        runs
    }

    /// What the receiver sees of datagrams with headers in front, one of them shorter and one of another flow between.
    fn exchange_with(offload: bool) {
        let (a, b, c) = (socket(), socket(), socket());
        let mut sender = Exchange::new(4, offload);
        let buffer = sender.take_buffer().unwrap();
        let body = |at: usize, len: usize| buffer.start + at * 1000..buffer.start + at * 1000 + len;
        for at in 0..20 {
            sender.bytes_mut()[body(at, 1000)].fill(at as u8);
        }
        for at in 0..9 {
            let header = [b'h', at as u8, 0, 0];
            let len = if at == 5 { 70 } else { 997 };
            let padding = if at == 5 { 2 } else { 3 };
            sender
                .queue(to(b.local_addr()), &header, body(at, len), padding)
                .unwrap();
            sender
                .queue(to(c.local_addr()), b"", body(at, 10), 0)
                .unwrap();
        }
        sender.flush(|number| (number == 0).then_some(&a));
        assert_eq!(sender.stats().sent, 18);
        if offload {
            assert!(sender.stats().send_calls <= 2, "{:?}", sender.stats());
        }
        let mut receiver = Exchange::new(32, true);
        let mut seen = Vec::new();
        for run in receive(&mut receiver, &b, 9) {
            assert_eq!(run.from, a.local_addr());
            assert_eq!(run.ecn, Ecn::Ect0);
            seen.extend(
                receiver
                    .bytes(run.range)
                    .chunks(run.segment)
                    .map(<[u8]>::to_vec),
            );
        }
        for (at, datagram) in seen.iter().enumerate() {
            assert_eq!(datagram[..4], [b'h', at as u8, 0, 0]);
            let len = if at == 5 { 70 } else { 997 };
            assert!(datagram[4..4 + len].iter().all(|&byte| byte == at as u8));
            assert!(datagram[4 + len..].iter().all(|&byte| byte == 0));
            assert_eq!(datagram.len(), if at == 5 { 76 } else { 1004 });
        }
        let runs = receive(&mut receiver, &c, 9);
        assert_eq!(runs.iter().map(|run| run.range.len()).sum::<usize>(), 90);
    }

    #[test]
    fn datagrams_arrive_in_order_and_whole_with_offload() {
        exchange_with(true);
    }

    #[test]
    fn datagrams_arrive_in_order_and_whole_without_offload() {
        exchange_with(false);
    }

    #[test]
    fn a_wildcard_socket_tells_and_chooses_its_address() {
        let any =
            DirectSocket::bind("0.0.0.0:0".parse().unwrap(), &DirectOptions::default()).unwrap();
        let near = socket();
        let there = SocketAddr::new([127, 0, 0, 7].into(), any.local_addr().port());
        near.send(b"ping", there).unwrap();
        let mut exchange = Exchange::new(4, true);
        let run = receive(&mut exchange, &any, 1).remove(0);
        assert_eq!(run.local, Some(there.ip()));
        let answer = Outgoing {
            source: run.local,
            ..to(run.from)
        };
        exchange.queue(answer, b"", run.range, 0).unwrap();
        exchange.flush(|_| Some(&any));
        exchange.clear();
        let run = receive(&mut exchange, &near, 1).remove(0);
        assert_eq!(run.from, there);
        assert_eq!(exchange.bytes(run.range), b"ping");
    }

    #[test]
    fn icmp_about_a_closed_port_is_reported() {
        let options = DirectOptions {
            errors: true,
            ..DirectOptions::default()
        };
        let near = DirectSocket::bind("127.0.0.1:0".parse().unwrap(), &options).unwrap();
        let closed = socket().local_addr();
        near.send(b"anybody?", closed).unwrap();
        let error = near.take_error().expect("loopback answers at once");
        assert_eq!((error.kind, error.code), (3, 3), "port unreachable");
        assert_eq!(error.destination, closed);
        assert_eq!(near.take_error(), None);
    }
}
