//! The load: packets of 1200 bytes through allocations, paced by time, counted where they arrive.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::client::{Client, Link};

/// Payload bytes.
pub const SIZE: usize = 1200;
const CHANNEL: u16 = 0x4000;

/// Which way packets go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    Up,
    Down,
    Both,
    /// From client to client: through two relayed addresses.
    Across,
}

#[derive(Debug, Clone, Copy)]
pub struct Load {
    pub way: Way,
    pub allocations: usize,
    /// Packets of one flow that leave together.
    pub burst: usize,
    /// Packets per second, offered.
    pub rate: u64,
    pub tcp: bool,
    pub duration: Duration,
}

#[derive(Debug, Clone, Copy)]
pub struct Outcome {
    pub sent: u64,
    pub delivered: u64,
    pub seconds: f64,
    /// CPU time of the server in nanoseconds.
    pub cpu: u64,
}

impl Outcome {
    pub fn per_packet(&self) -> f64 {
        self.cpu as f64 / self.delivered.max(1) as f64
    }

    pub fn packets_per_second(&self) -> f64 {
        self.delivered as f64 / self.seconds
    }
}

enum Source {
    Udp(UdpSocket, usize),
    Tcp(std::net::TcpStream),
}

/// Runs a load against a server whose process is known.
pub fn run(server: SocketAddr, pid: u32, load: Load) -> io::Result<Outcome> {
    let mut clients = Vec::new();
    let mut sources = Vec::new();
    let mut sinks: Vec<UdpSocket> = Vec::new();
    let mut streams = Vec::new();
    while clients.len() < load.allocations {
        let mut client = Client::allocate(server, load.tcp)?;
        if load.way == Way::Across {
            let mut other = Client::allocate(server, load.tcp)?;
            // Each knows the other by the channel of the same number.
            client.bind(CHANNEL, other.relayed)?;
            other.bind(CHANNEL, client.relayed)?;
            if let (Link::Udp(near), Link::Udp(far)) = (&client.link, &other.link) {
                sources.push(Source::Udp(near.try_clone()?, 4));
                sinks.push(far.try_clone()?);
            }
            clients.push(other);
        } else {
            // Not the server's own address, which has no peers but relayed ones.
            let peer = UdpSocket::bind("127.0.0.2:0")?;
            client.bind(CHANNEL, peer.local_addr()?)?;
            peer.connect(client.relayed)?;
            let down = matches!(load.way, Way::Down | Way::Both);
            let up = matches!(load.way, Way::Up | Way::Both);
            match &client.link {
                Link::Udp(socket) => {
                    if up {
                        sources.push(Source::Udp(socket.try_clone()?, 4));
                    }
                    sinks.push(socket.try_clone()?);
                }
                Link::Tcp(stream) => {
                    if up {
                        sources.push(Source::Tcp(stream.try_clone()?));
                    }
                    streams.push(stream.try_clone()?);
                }
            }
            if down {
                sources.push(Source::Udp(peer.try_clone()?, 0));
            }
            sinks.push(peer);
        }
        clients.push(client);
    }
    let delivered = Arc::new(AtomicU64::new(0));
    let stop = Arc::new(AtomicBool::new(false));
    let receiver = {
        let (delivered, stop) = (Arc::clone(&delivered), Arc::clone(&stop));
        thread::spawn(move || receive(&sinks, streams, &delivered, &stop))
    };
    send(
        &mut sources,
        &load,
        load.rate / 10,
        Duration::from_millis(300),
    );
    thread::sleep(Duration::from_millis(100));
    let (cpu, before, started) = (
        cpu_of(pid),
        delivered.load(Ordering::Relaxed),
        Instant::now(),
    );
    let sent = send(&mut sources, &load, load.rate, load.duration);
    let seconds = started.elapsed().as_secs_f64();
    thread::sleep(Duration::from_millis(150));
    let outcome = Outcome {
        sent,
        delivered: delivered.load(Ordering::Relaxed) - before,
        seconds,
        cpu: cpu_of(pid) - cpu,
    };
    stop.store(true, Ordering::Relaxed);
    receiver.join().expect("the receiver")?;
    for client in &mut clients {
        if let Link::Udp(socket) = &client.link {
            let _ = socket.set_nonblocking(false);
            // What is still in the socket is none of the answers that are waited for.
            let mut rest = [0; 2048];
            let _ = socket.set_read_timeout(Some(Duration::from_millis(1)));
            while socket.recv(&mut rest).is_ok() {}
            let _ = socket.set_read_timeout(Some(Duration::from_millis(300)));
            client.free();
        }
    }
    Ok(outcome)
}

/// Sends at a rate for a while. Who falls behind forgets the debt: no burst makes up for it.
fn send(sources: &mut [Source], load: &Load, rate: u64, duration: Duration) -> u64 {
    let mut frame = vec![0x5a; (SIZE + 4) * load.burst.max(1)];
    let started = Instant::now();
    let (mut sent, mut forgotten, mut next) = (0u64, 0u64, 0);
    loop {
        let elapsed = started.elapsed();
        if elapsed >= duration {
            return sent;
        }
        let due = (elapsed.as_secs_f64() * rate as f64) as u64 - forgotten;
        if due < sent + load.burst as u64 {
            if rate < 50_000 {
                thread::sleep(Duration::from_micros(30));
            }
            continue;
        }
        if due - sent > rate / 100 {
            forgotten += due - sent - rate / 100;
        }
        let count = sources.len();
        send_burst(&mut sources[next % count], load.burst, &mut frame);
        next += 1;
        sent += load.burst as u64;
    }
}

fn send_burst(source: &mut Source, burst: usize, frame: &mut [u8]) {
    let header = [
        (CHANNEL >> 8) as u8,
        CHANNEL as u8,
        (SIZE >> 8) as u8,
        SIZE as u8,
    ];
    match source {
        Source::Udp(socket, head) => {
            let one = *head + SIZE;
            for at in 0..burst {
                frame[at * one..at * one + head.to_owned()].copy_from_slice(&header[..*head]);
            }
            send_segments(socket.as_raw_fd(), &frame[..one * burst], one);
        }
        Source::Tcp(stream) => {
            let one = 4 + SIZE;
            for at in 0..burst {
                frame[at * one..at * one + 4].copy_from_slice(&header);
            }
            let _ = stream.write_all(&frame[..one * burst]);
        }
    }
}

/// One call for the lot: the kernel cuts it (UDP_SEGMENT).
fn send_segments(fd: RawFd, bytes: &[u8], segment: usize) {
    let mut control = [0u64; 4];
    let mut piece = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast(),
        iov_len: bytes.len(),
    };
    // SAFETY: all zeroes is a valid header; the pointers are to this frame and to `bytes`, which the kernel reads.
    unsafe {
        let mut header: libc::msghdr = std::mem::zeroed();
        header.msg_iov = &raw mut piece;
        header.msg_iovlen = 1;
        if bytes.len() > segment {
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(2) as usize;
            let message = libc::CMSG_FIRSTHDR(&header);
            (*message).cmsg_level = libc::SOL_UDP;
            (*message).cmsg_type = libc::UDP_SEGMENT;
            (*message).cmsg_len = libc::CMSG_LEN(2) as usize;
            libc::CMSG_DATA(message)
                .cast::<u16>()
                .write_unaligned(segment as u16);
        }
        libc::sendmsg(fd, &header, 0);
    }
}

/// Counts what arrives.
fn receive(
    sinks: &[UdpSocket],
    mut streams: Vec<std::net::TcpStream>,
    delivered: &AtomicU64,
    stop: &AtomicBool,
) -> io::Result<()> {
    // SAFETY: plain system calls with values of this frame.
    let epoll = unsafe { libc::epoll_create1(0) };
    let one: libc::c_int = 1;
    let size: libc::c_int = 8 << 20;
    for (number, sink) in sinks.iter().enumerate() {
        sink.set_nonblocking(true)?;
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: number as u64,
        };
        let fd = sink.as_raw_fd();
        // SAFETY: as above. Coalescing spares the receiver; the server's cost is none of its business.
        unsafe {
            for (level, name, value) in [
                (libc::SOL_UDP, libc::UDP_GRO, &one),
                (libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, &size),
            ] {
                libc::setsockopt(fd, level, name, (&raw const *value).cast(), 4);
            }
            libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, fd, &mut event);
        }
    }
    for (number, stream) in streams.iter().enumerate() {
        stream.set_nonblocking(false)?;
        stream.set_read_timeout(Some(Duration::from_millis(1)))?;
        let mut event = libc::epoll_event {
            events: libc::EPOLLIN as u32,
            u64: (sinks.len() + number) as u64,
        };
        // SAFETY: as above.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, stream.as_raw_fd(), &mut event) };
    }
    let mut buffer = vec![0; 1 << 16];
    let mut rests = vec![0usize; streams.len()];
    // SAFETY: all zeroes is a valid event.
    let mut events: [libc::epoll_event; 64] = unsafe { std::mem::zeroed() };
    while !stop.load(Ordering::Relaxed) {
        // SAFETY: the kernel writes up to 64 events into an array of 64.
        let count = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), 64, 20) };
        for event in &events[..count.max(0) as usize] {
            let number = event.u64 as usize;
            if let Some(sink) = sinks.get(number) {
                for _ in 0..16 {
                    let Ok(len) = sink.recv(&mut buffer) else {
                        break;
                    };
                    // Runs of equal packets, with or without a channel's header.
                    let packets = if len % (SIZE + 4) == 0 {
                        len / (SIZE + 4)
                    } else {
                        len / SIZE
                    };
                    delivered.fetch_add(packets as u64, Ordering::Relaxed);
                }
            } else if let Some(stream) = streams.get_mut(number - sinks.len())
                && let Ok(len) = stream.read(&mut buffer)
            {
                let rest = &mut rests[number - sinks.len()];
                *rest += len;
                delivered.fetch_add((*rest / (SIZE + 4)) as u64, Ordering::Relaxed);
                *rest %= SIZE + 4;
            }
        }
    }
    // SAFETY: the descriptor is this function's.
    unsafe { libc::close(epoll) };
    Ok(())
}

/// CPU time of all threads of a process in nanoseconds.
pub fn cpu_of(pid: u32) -> u64 {
    let Ok(tasks) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return 0;
    };
    let of_task = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("schedstat")).ok()?;
        text.split_whitespace().next()?.parse::<u64>().ok()
    };
    tasks.flatten().filter_map(of_task).sum()
}

/// Resident memory in bytes.
pub fn resident(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok())
        .unwrap_or(0)
        << 10
}
