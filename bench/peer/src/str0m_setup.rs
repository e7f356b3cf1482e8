//! str0m on the links of `setup-table`.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use str0m::channel::ChannelId;
use str0m::config::DtlsVersion;
use str0m::media::{Direction, MediaKind, MediaTime};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};
use visavis_datagram::{Ecn, Path, Transmit, TransmitBuf};
use visavis_netsim::{Driver, Endpoint, LinkConfig, Simulation};

use crate::Times;

/// How its handshake goes.
#[derive(Debug, Clone, Copy)]
pub struct Str0mMode {
    pub dtls13: bool,
    pub snap: bool,
}

struct End {
    rtc: Rtc,
    due: Instant,
    queue: VecDeque<(Path, Vec<u8>)>,
    connected: bool,
    channel: Option<ChannelId>,
    message: bool,
    media: bool,
    /// It has given up: a handshake that lasts too long is an error of every call from then on.
    over: bool,
}

impl End {
    fn new(mode: Str0mMode, now: Instant, address: SocketAddr) -> Self {
        let version = if mode.dtls13 {
            DtlsVersion::Dtls13
        } else {
            DtlsVersion::Dtls12
        };
        let config = RtcConfig::new()
            .set_dtls_version(version)
            .set_snap_enabled(mode.snap);
        let mut rtc = config.build(now);
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("a candidate"));
        Self {
            rtc,
            due: now,
            queue: VecDeque::new(),
            connected: false,
            channel: None,
            message: false,
            media: false,
            over: false,
        }
    }

    fn take(&mut self, input: Input<'_>) {
        self.over = self.over || self.rtc.handle_input(input).is_err();
        self.drain();
    }

    fn drain(&mut self) {
        while !self.over {
            let Ok(output) = self.rtc.poll_output() else {
                self.over = true;
                return;
            };
            match output {
                Output::Timeout(at) => {
                    self.due = at;
                    return;
                }
                Output::Transmit(transmit) => {
                    let path = Path::udp(transmit.source, transmit.destination);
                    self.queue.push_back((path, transmit.contents.to_vec()));
                }
                Output::Event(event) => match event {
                    Event::Connected => self.connected = true,
                    Event::ChannelOpen(id, _) => self.channel = Some(id),
                    Event::ChannelData(_) => self.message = true,
                    Event::MediaData(_) => self.media = true,
                    _ => {}
                },
            }
        }
    }
}

impl Endpoint for End {
    fn handle_datagram(&mut self, now: Instant, path: Path, _: Ecn, datagram: &mut [u8]) {
        if let Ok(contents) = datagram[..].try_into() {
            let receive = Receive {
                proto: Protocol::Udp,
                source: path.remote,
                destination: path.local,
                contents,
            };
            self.take(Input::Receive(now, receive));
        }
    }

    fn handle_timeout(&mut self, now: Instant) {
        self.take(Input::Timeout(now));
    }

    fn poll_timeout(&self) -> Option<Instant> {
        (!self.over).then_some(self.due)
    }

    fn poll_transmit(&mut self, _: Instant, out: &mut TransmitBuf) -> Option<Transmit> {
        out.clear();
        let (path, bytes) = self.queue.pop_front()?;
        if !out.push(&bytes) {
            return None;
        }
        Some(Transmit::new(path, Ecn::NotEct, out.segments()?))
    }
}

/// One connection; `None` if it does not come up within a minute, or gives up before.
pub fn run(mode: Str0mMode, link: &LinkConfig, seed: u64) -> Option<Times> {
    let mut simulation = Simulation::new(Instant::now(), seed);
    let hosts = [("alice", "203.0.113.1"), ("bob", "203.0.113.2")].map(|(name, ip)| {
        let addresses = [ip.parse().expect("an address")];
        simulation.add_host_in(Simulation::INTERNET, name, &addresses, link.clone())
    });
    let begin = simulation.now();
    let mut driver = Driver::new(simulation);
    for (host, address) in hosts
        .into_iter()
        .zip(["203.0.113.1:5000", "203.0.113.2:5000"])
    {
        let end = End::new(mode, begin, address.parse().expect("an address"));
        driver.add(host, end);
    }
    let mut change = driver.endpoint_mut(0).rtc.sdp_api();
    change.add_channel("data".into());
    let mid = change.add_media(MediaKind::Audio, Direction::SendRecv, None, None, None);
    let (offer, pending) = change.apply()?;
    let answer = driver
        .endpoint_mut(1)
        .rtc
        .sdp_api()
        .accept_offer(offer)
        .ok()?;
    let caller = driver.endpoint_mut(0);
    caller.rtc.sdp_api().accept_answer(pending, answer).ok()?;
    let mut times = Times::default();
    let mut sent = false;
    let mut packets = 0;
    let limit = begin + Duration::from_secs(60);
    for end in [0, 1] {
        driver.endpoint_mut(end).drain();
    }
    // A packet each 20 ms until one arrives, and a message as soon as the channel is open.
    while times.message == 0.0 || times.media == 0.0 {
        let now = driver.now();
        if now >= limit || [0, 1].iter().any(|&end| driver.endpoint(end).over) {
            return None;
        }
        let caller = driver.endpoint_mut(0);
        if let Some(id) = caller.channel.filter(|_| !sent)
            && let Some(mut channel) = caller.rtc.channel(id)
        {
            sent = channel.write(false, b"hello").is_ok_and(|taken| taken);
        }
        if caller.connected
            && times.media == 0.0
            && let Some(writer) = caller.rtc.writer(mid)
        {
            packets += 1;
            let pt = writer.payload_params().next()?.pt();
            let time = MediaTime::from_90khz(packets * 1800);
            let _ = writer.write(pt, now, time, vec![0; 80]);
        }
        caller.drain();
        let (had, heard) = (driver.endpoint(1).message, driver.endpoint(1).media);
        let writable = times.writable != 0.0;
        driver.run(now + Duration::from_millis(20), |driver| {
            let (a, b) = (driver.endpoint(0), driver.endpoint(1));
            b.message != had
                || b.media != heard
                || !sent && a.channel.is_some()
                || !writable && a.connected && b.connected
        });
        let since = (driver.now() - begin).as_secs_f64() * 1000.0;
        let (a, b) = (driver.endpoint(0), driver.endpoint(1));
        if times.writable == 0.0 && a.connected && b.connected {
            times.writable = since;
        }
        if times.message == 0.0 && b.message {
            times.message = since;
        }
        if times.media == 0.0 && b.media {
            times.media = since;
        }
    }
    Some(times)
}
