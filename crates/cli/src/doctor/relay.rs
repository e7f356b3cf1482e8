//! One allocation on a TURN server, over UDP, TCP or TLS, and what datagrams through it look like.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UdpSocket;
use tokio::time::timeout_at;
use visavis_datagram::{Path, Protocol, Random, TransmitBuf};
use visavis_stun::{StreamDecoder, StreamFraming};
use visavis_turn::client::{Client, ClientConfig, Event, Failure, Received};

use super::facts::{Quality, TurnResult};
use crate::stream::{Stream, StreamError};

/// How long the server may take for the allocation.
const PATIENCE: Duration = Duration::from_secs(6);
/// Datagrams of the test call: 20 ms apart, as of sound.
const CALL: u32 = 60;
const CALL_INTERVAL: Duration = Duration::from_millis(20);
/// Datagrams of the burst, and their size.
const BURST: u32 = 150;
const BURST_SIZE: usize = 1100;
/// How long the burst is waited for.
const BURST_WAIT: Duration = Duration::from_secs(2);
/// So many must arrive for their distances in time to say something.
const BURST_LEAST: usize = 10;

/// What carries the datagrams.
pub(super) enum Carrier {
    Udp(UdpSocket),
    Stream(Box<dyn Stream>, SocketAddr),
}

/// An allocation.
pub(super) struct Allocation {
    client: Client,
    carrier: Carrier,
    decoder: StreamDecoder,
    path: Path,
    out: TransmitBuf,
    /// Where peers send to.
    pub(super) relayed: SocketAddr,
    mapped: SocketAddr,
}

/// Asks for an allocation.
pub(super) async fn allocate(
    carrier: Carrier,
    server: SocketAddr,
    secure: bool,
    username: &str,
    credential: &str,
) -> Result<Allocation, TurnResult> {
    let unreachable = |error: std::io::Error| TurnResult::Unreachable(error.to_string());
    let local = match &carrier {
        Carrier::Udp(socket) => socket.local_addr().map_err(unreachable)?,
        Carrier::Stream(_, local) => *local,
    };
    let path = Path {
        protocol: match (&carrier, secure) {
            (Carrier::Udp(_), _) => Protocol::Udp,
            (_, false) => Protocol::Tcp,
            (_, true) => Protocol::Tls,
        },
        local,
        remote: server,
    };
    let mut seed = [0; 32];
    getrandom::fill(&mut seed).map_err(|error| TurnResult::Unreachable(error.to_string()))?;
    let config = ClientConfig::new(username, credential);
    let mut allocation = Allocation {
        client: Client::new(Instant::now(), path, config, Random::from_seed(seed)),
        carrier,
        decoder: StreamDecoder::new(StreamFraming::Turn, 4096),
        path,
        out: TransmitBuf::new(1, 1500),
        relayed: server,
        mapped: server,
    };
    let until = Instant::now() + PATIENCE;
    loop {
        while let Some(event) = allocation.client.poll_event() {
            match event {
                Event::Allocated {
                    relayed, mapped, ..
                } => {
                    allocation.mapped = mapped;
                    allocation.relayed = relayed.iter().next().unwrap_or(server);
                    return Ok(allocation);
                }
                Event::Failed(failure) => return Err(of_failure(&failure)),
                Event::NewPathNeeded { server, .. } => {
                    let text = format!("it sends clients elsewhere, to {server}");
                    return Err(TurnResult::Refused(text));
                }
                _ => {}
            }
        }
        match allocation.step(until).await {
            Ok(Step::TimedOut) => return Err(TurnResult::Silent),
            Ok(_) => {}
            Err(error) => return Err(unreachable(error)),
        }
    }
}

fn of_failure(failure: &Failure) -> TurnResult {
    match failure {
        Failure::Timeout => TurnResult::Silent,
        Failure::Unauthorized | Failure::IntegrityViolated => TurnResult::Credentials,
        other => TurnResult::Refused(other.to_string()),
    }
}

enum Step {
    /// Something was done.
    Done,
    /// A peer's datagram, of the relay's own length and first four bytes.
    Data(usize, [u8; 4]),
    TimedOut,
}

impl Allocation {
    /// Sends what is due and waits for the next thing, until a point in time.
    async fn step(&mut self, until: Instant) -> std::io::Result<Step> {
        let now = Instant::now();
        self.client.handle_timeout(now);
        loop {
            self.out.clear();
            if self.client.poll_transmit(now, &mut self.out).is_none() {
                break;
            }
            self.send().await?;
        }
        let wake = self
            .client
            .poll_timeout()
            .map_or(until, |due| due.min(until));
        let mut buffer = [0; 4096];
        let read = match &mut self.carrier {
            Carrier::Udp(socket) => timeout_at(wake.into(), socket.recv(&mut buffer)).await,
            Carrier::Stream(stream, _) => timeout_at(wake.into(), stream.read(&mut buffer)).await,
        };
        let Ok(read) = read else {
            let over = Instant::now() >= until;
            return Ok(if over { Step::TimedOut } else { Step::Done });
        };
        let length = match read {
            Ok(length) => length,
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => 0,
            Err(error) => return Err(error),
        };
        let now = Instant::now();
        if let Carrier::Udp(_) = self.carrier {
            return Ok(self.take(now, &buffer[..length]));
        }
        if length == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        let mut step = Step::Done;
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            let taken = self.decoder.push(rest);
            rest = &rest[taken..];
            while let Some(frame) = self.decoder.next_frame().map_err(std::io::Error::other)? {
                let frame = frame.to_vec();
                step = self.take(now, &frame);
            }
        }
        Ok(step)
    }

    fn take(&mut self, now: Instant, datagram: &[u8]) -> Step {
        match self.client.unwrap(now, self.path, datagram) {
            Received::Data { range, .. } => {
                let data = &datagram[range];
                let number = data.first_chunk().copied().unwrap_or_default();
                Step::Data(data.len(), number)
            }
            _ => Step::Done,
        }
    }

    async fn send(&mut self) -> std::io::Result<()> {
        let bytes = self.out.as_slice();
        match &mut self.carrier {
            Carrier::Udp(socket) => match socket.send(bytes).await {
                Err(error) if error.kind() != std::io::ErrorKind::ConnectionRefused => Err(error),
                _ => Ok(()),
            },
            Carrier::Stream(stream, _) => stream.write_all(bytes).await,
        }
    }

    /// Sends a call's worth of datagrams from a socket of ours to the relay and measures what comes back. `Err`: why not.
    pub(super) async fn quality(&mut self) -> std::io::Result<Result<Option<Quality>, String>> {
        let peer = UdpSocket::bind(SocketAddr::new(self.path.local.ip(), 0)).await?;
        // Whoever is behind the same NAT as the client has its address. The server may refuse.
        let refused = format!("it does not relay to {}", self.mapped.ip());
        if self.client.permit(Instant::now(), self.mapped).is_err() {
            return Ok(Err(refused));
        }
        let until = Instant::now() + Duration::from_secs(2);
        loop {
            match self.client.poll_event() {
                Some(Event::PermissionGranted(_)) => break,
                Some(Event::PermissionDenied { .. }) => return Ok(Err(refused)),
                Some(Event::Failed(failure)) => return Ok(Err(failure.to_string())),
                _ => {}
            }
            if let Step::TimedOut = self.step(until).await? {
                return Ok(Err("it does not answer".to_owned()));
            }
        }
        let mut transits = Vec::new();
        let begun = Instant::now();
        let end = begun + CALL_INTERVAL * CALL + Duration::from_millis(500);
        let mut sent = 0;
        loop {
            let next = begun + CALL_INTERVAL * sent;
            if sent < CALL && Instant::now() >= next {
                let mut datagram = [0; 160];
                datagram[..4].copy_from_slice(&sent.to_be_bytes());
                let _ = peer.send_to(&datagram, self.relayed).await;
                sent += 1;
                continue;
            }
            let until = if sent < CALL { next } else { end };
            if let Step::Data(_, number) = self.step(until).await? {
                let number = u32::from_be_bytes(number);
                if number < CALL {
                    let since = begun + CALL_INTERVAL * number;
                    transits.push(since.elapsed().as_secs_f64() * 1000.0);
                }
            }
            if Instant::now() >= end || transits.len() == CALL as usize {
                break;
            }
        }
        let bandwidth = self.burst(&peer).await?;
        Ok(Ok(quality(&transits, bandwidth)))
    }

    /// Bits per second of what arrives of datagrams that are sent in a row.
    async fn burst(&mut self, peer: &UdpSocket) -> std::io::Result<Option<f64>> {
        let datagram = [0xff; BURST_SIZE];
        let end = Instant::now() + BURST_WAIT;
        let (mut first, mut last, mut bytes) = (None, end, 0);
        for number in 0..BURST {
            let _ = peer.send_to(&datagram, self.relayed).await;
            if number % 8 == 7 {
                tokio::time::sleep(Duration::from_millis(2)).await;
            }
        }
        loop {
            let quiet = Instant::now() + Duration::from_millis(300);
            match self.step(quiet.min(end)).await? {
                Step::Data(length, _) if length == BURST_SIZE => {
                    last = Instant::now();
                    if first.replace(first.unwrap_or(last)).is_some() {
                        bytes += length;
                    }
                }
                Step::TimedOut => break,
                _ => {}
            }
        }
        if bytes < BURST_LEAST * BURST_SIZE {
            let rate = bytes as f64 * 8.0 / BURST_WAIT.as_secs_f64();
            return Ok(Some(rate));
        }
        let took = first.map(|first| (last - first).as_secs_f64());
        let took = took.filter(|took| *took > 0.0005);
        Ok(took.map(|took| bytes as f64 * 8.0 / took))
    }

    /// Gives the allocation back.
    pub(super) async fn close(mut self) {
        self.client.close(Instant::now());
        let _ = self.step(Instant::now() + Duration::from_millis(200)).await;
    }
}

fn quality(transits: &[f64], bandwidth: Option<f64>) -> Option<Quality> {
    let mut sorted = transits.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rtt = *sorted.get(sorted.len() / 2)?;
    let mut jitter = 0.0;
    for pair in transits.windows(2) {
        jitter += ((pair[1] - pair[0]).abs() - jitter) / 16.0;
    }
    Some(Quality {
        loss: 1.0 - transits.len() as f64 / f64::from(CALL),
        jitter,
        rtt,
        bandwidth,
    })
}

/// Why there is no stream to the server.
pub(super) fn of_stream_error(error: &StreamError) -> TurnResult {
    TurnResult::Unreachable(error.to_string())
}
