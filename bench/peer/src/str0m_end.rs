//! str0m's end, with a driver that sends and receives segmented (GSO, GRO), as one who cares writes it.

use std::io::{ErrorKind, IoSliceMut};
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use quinn_udp::{RecvMeta, UdpSocketState};
use str0m::change::{SdpAnswer, SdpOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::end::{self, Load};
use crate::process::cpu_seconds;

/// Segments that the kernel takes in one call, and their bytes.
const SEGMENTS: usize = 64;
const RUN: usize = 65_000;

struct End {
    rtc: Rtc,
    socket: UdpSocket,
    address: SocketAddr,
    offload: UdpSocketState,
    buffer: Vec<u8>,
    run: Run,
}

/// Datagrams that leave in one call: to one destination, of one size but for the last.
#[derive(Default)]
struct Run {
    bytes: Vec<u8>,
    destination: Option<SocketAddr>,
    size: usize,
    /// One that is shorter came: it is the last.
    is_over: bool,
}

impl Run {
    fn takes(&self, destination: SocketAddr, len: usize) -> bool {
        !self.is_over
            && self.destination == Some(destination)
            && len <= self.size
            && self.bytes.len() + len <= RUN
            && self.bytes.len() < self.size * SEGMENTS
    }
}

impl End {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let offload = UdpSocketState::new((&socket).into()).expect("offload");
        socket.set_nonblocking(false).expect("a socket that waits");
        let mut rtc = RtcConfig::new().build(Instant::now());
        let address = socket.local_addr().expect("an address");
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("a candidate"));
        Self {
            rtc,
            socket,
            address,
            offload,
            buffer: vec![0; 65_536],
            run: Run::default(),
        }
    }

    fn flush(&mut self) {
        if let Some(destination) = self.run.destination.take() {
            let transmit = quinn_udp::Transmit {
                destination,
                ecn: None,
                contents: &self.run.bytes,
                segment_size: (self.run.bytes.len() > self.run.size).then_some(self.run.size),
                src_ip: None,
            };
            // What the kernel refuses is lost, as on any link.
            let _ = self.offload.try_send((&self.socket).into(), &transmit);
        }
        self.run.bytes.clear();
        self.run.is_over = false;
    }

    /// Puts what there is into runs; until when there is nothing more. Each event goes to `tell`.
    fn drain(&mut self, tell: &mut impl FnMut(Event)) -> Instant {
        loop {
            match self.rtc.poll_output().expect("an output") {
                Output::Transmit(transmit) => {
                    let len = transmit.contents.len();
                    if !self.run.takes(transmit.destination, len) {
                        self.flush();
                        self.run.destination = Some(transmit.destination);
                        self.run.size = len;
                    }
                    self.run.bytes.extend_from_slice(&transmit.contents);
                    self.run.is_over = len < self.run.size;
                }
                Output::Event(event) => tell(event),
                Output::Timeout(at) => return at,
            }
        }
    }

    /// Sends what there is, and receives or waits once.
    fn turn(&mut self, tell: &mut impl FnMut(Event)) {
        let due = self.drain(tell);
        self.flush();
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.time();
            return;
        }
        let wait = wait.min(Duration::from_millis(100));
        let _ = self.socket.set_read_timeout(Some(wait));
        let mut buffer = std::mem::take(&mut self.buffer);
        let mut met = [RecvMeta::default()];
        let mut buffers = [IoSliceMut::new(&mut buffer)];
        let received = self
            .offload
            .recv((&self.socket).into(), &mut buffers, &mut met);
        match received {
            Ok(_) => {
                let [met] = met;
                for datagram in buffer[..met.len].chunks(met.stride.max(1)) {
                    self.take(met.addr, datagram);
                    self.drain(tell);
                }
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.time();
            }
            Err(error) => panic!("{error}"),
        }
        self.buffer = buffer;
    }

    fn take(&mut self, source: SocketAddr, datagram: &[u8]) {
        let Ok(contents) = datagram.try_into() else {
            return;
        };
        let receive = Receive {
            proto: Protocol::Udp,
            source,
            destination: self.address,
            contents,
        };
        let input = Input::Receive(Instant::now(), receive);
        self.rtc.handle_input(input).expect("a datagram");
    }

    fn time(&mut self) {
        self.rtc
            .handle_input(Input::Timeout(Instant::now()))
            .expect("time");
    }
}

/// Sends the load.
pub fn send(load: Load) {
    end::wait_for_start();
    let mut end = End::new();
    let mut change = end.rtc.sdp_api();
    change.add_channel_with_config(ChannelConfig {
        label: "load".into(),
        ordered: load.ordered,
        reliability: Reliability::Reliable,
        ..ChannelConfig::default()
    });
    let (offer, pending) = change.apply().expect("an offer");
    end::say(&offer.to_sdp_string());
    let answer = SdpAnswer::from_sdp_string(&end::hear()).expect("an answer");
    end.rtc
        .sdp_api()
        .accept_answer(pending, answer)
        .expect("an answer that fits");
    let mut open: Option<ChannelId> = None;
    while open.is_none() {
        end.turn(&mut |event| {
            if let Event::ChannelOpen(id, _) = event {
                open = Some(id);
            }
        });
    }
    let id = open.expect("a channel");
    let cpu = cpu_seconds();
    end::begin();
    let over = Arc::new(AtomicBool::new(false));
    let told = Arc::clone(&over);
    std::thread::spawn(move || {
        end::wait_for_end();
        told.store(true, Ordering::Release);
    });
    let message = vec![7; load.message];
    let mut left = load.total / load.message;
    while !over.load(Ordering::Acquire) {
        let mut channel = end.rtc.channel(id).expect("the channel");
        while left > 0 && channel.write(true, &message).expect("a write") {
            left -= 1;
        }
        end.turn(&mut |_| {});
    }
    end::used(cpu_seconds() - cpu);
}

/// Receives the load.
pub fn receive(load: Load) {
    end::ready();
    let offer = SdpOffer::from_sdp_string(&end::hear()).expect("an offer");
    let mut end = End::new();
    let answer = end
        .rtc
        .sdp_api()
        .accept_offer(offer)
        .expect("an offer that fits");
    end::say(&answer.to_sdp_string());
    let (mut received, mut cpu) = (0, cpu_seconds());
    while received < load.total {
        end.turn(&mut |event| match event {
            Event::ChannelOpen(..) => cpu = cpu_seconds(),
            Event::ChannelData(data) => received += data.data.len(),
            _ => {}
        });
    }
    end::used(cpu_seconds() - cpu);
    // Until this process is ended, what is still on its way is answered.
    loop {
        end.turn(&mut |_| {});
    }
}
