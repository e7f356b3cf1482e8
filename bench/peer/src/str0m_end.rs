//! str0m's end: its loop with one system call per datagram, as its examples have it.

use std::io::ErrorKind;
use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use str0m::change::{SdpAnswer, SdpOffer};
use str0m::channel::{ChannelConfig, ChannelId, Reliability};
use str0m::net::{Protocol, Receive};
use str0m::{Candidate, Event, Input, Output, Rtc, RtcConfig};

use crate::end::{self, Load};
use crate::process::cpu_seconds;

struct End {
    rtc: Rtc,
    socket: UdpSocket,
    buffer: Vec<u8>,
}

impl End {
    fn new() -> Self {
        let socket = UdpSocket::bind("127.0.0.1:0").expect("a socket");
        let mut rtc = RtcConfig::new().build(Instant::now());
        let address = socket.local_addr().expect("an address");
        rtc.add_local_candidate(Candidate::host(address, "udp").expect("a candidate"));
        Self {
            rtc,
            socket,
            buffer: vec![0; 2000],
        }
    }

    /// Sends what there is, and receives or waits once. Each event goes to `tell`.
    fn turn(&mut self, tell: &mut impl FnMut(Event)) {
        let due = loop {
            match self.rtc.poll_output().expect("an output") {
                Output::Transmit(transmit) => {
                    let _ = self
                        .socket
                        .send_to(&transmit.contents, transmit.destination);
                }
                Output::Event(event) => tell(event),
                Output::Timeout(at) => break at,
            }
        };
        let wait = due.saturating_duration_since(Instant::now());
        if wait.is_zero() {
            self.rtc
                .handle_input(Input::Timeout(Instant::now()))
                .expect("time");
            return;
        }
        let _ = self
            .socket
            .set_read_timeout(Some(wait.min(Duration::from_millis(100))));
        match self.socket.recv_from(&mut self.buffer) {
            Ok((len, source)) => {
                let Ok(contents) = self.buffer[..len].try_into() else {
                    return;
                };
                let receive = Receive {
                    proto: Protocol::Udp,
                    source,
                    destination: self.socket.local_addr().expect("an address"),
                    contents,
                };
                let input = Input::Receive(Instant::now(), receive);
                self.rtc.handle_input(input).expect("a datagram");
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                self.rtc
                    .handle_input(Input::Timeout(Instant::now()))
                    .expect("time");
            }
            Err(error) => panic!("{error}"),
        }
    }
}

/// Sends the load.
pub fn send(load: Load) {
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
    let mut end = End::new();
    let offer = SdpOffer::from_sdp_string(&end::hear()).expect("an offer");
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
