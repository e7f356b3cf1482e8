//! No allocation per packet once buffers have grown: frames and packets both ways, with all the RTCP
//! that goes with them.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_peer::{
    Configuration, Event, Kind, LocalAddress, OutgoingFrame, OutgoingRtp, PeerConnection,
    ReceiveMode, Received, TransceiverId,
};

/// Two connections whose datagrams are handed over by a call.
struct Pair {
    ends: [PeerConnection; 2],
    out: TransmitBuf,
    now: Instant,
    packets: u64,
    frames: u64,
    datagrams: u64,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::now();
        let end = |number: u64| {
            let random = Random::from_u64(number);
            let mut pc = PeerConnection::new(Configuration::default(), random, now).unwrap();
            let address = SocketAddr::from(([10, 0, 0, number as u8], 5000));
            pc.add_local_address(now, LocalAddress::udp(address))
                .unwrap();
            pc
        };
        Self {
            ends: [end(1), end(2)],
            out: TransmitBuf::new(54, 1200),
            now,
            packets: 0,
            frames: 0,
            datagrams: 0,
        }
    }

    fn negotiate(&mut self) {
        let [a, b] = &mut self.ends;
        a.set_local_description(self.now, None).unwrap();
        let carry = |from: &mut PeerConnection| {
            while let Some(event) = from.poll_event() {
                drop(event);
            }
            from.local_description().unwrap()
        };
        b.set_remote_description(self.now, &carry(a)).unwrap();
        b.set_local_description(self.now, None).unwrap();
        a.set_remote_description(self.now, &carry(b)).unwrap();
    }

    /// Carries what there is until there is no more; every tenth datagram is lost if `lossy`.
    fn carry(&mut self, lossy: bool, events: &mut dyn FnMut(usize, &Event)) {
        loop {
            let mut any = false;
            for from in [0, 1] {
                if self.ends[from]
                    .poll_timeout()
                    .is_some_and(|at| at <= self.now)
                {
                    self.ends[from].handle_timeout(self.now);
                }
                while let Some(transmit) = self.ends[from].poll_transmit(self.now, &mut self.out) {
                    any = true;
                    let path = Path::udp(transmit.destination, transmit.source);
                    let mut bytes = [0; 65_536];
                    let bytes = &mut bytes[..transmit.len];
                    bytes.copy_from_slice(&self.out.as_slice()[..transmit.len]);
                    for datagram in bytes.chunks_mut(transmit.segment_size) {
                        self.datagrams += 1;
                        if lossy && self.datagrams.is_multiple_of(10) {
                            continue;
                        }
                        let to = &mut self.ends[1 - from];
                        if let Received::Rtp(_) = to.handle_datagram(self.now, path, datagram) {
                            self.packets += 1;
                        }
                    }
                }
                while let Some(event) = self.ends[from].poll_event() {
                    events(from, &event);
                }
            }
            if !any {
                return;
            }
        }
    }

    /// 10 ms with a picture and a packet.
    fn step(
        &mut self,
        number: u32,
        ids: [TransceiverId; 2],
        there: TransceiverId,
        data: &mut [u8],
    ) {
        let [video, audio] = ids;
        data[0] = u8::from(!number.is_multiple_of(50));
        let frame = OutgoingFrame::new(number * 900, number.is_multiple_of(50), data);
        self.ends[0].send_frame(self.now, video, 0, &frame).unwrap();
        let packet = OutgoingRtp {
            payload_type: 111,
            sequence: number as u16,
            timestamp: number * 480,
            payload: &[7; 80],
            ..OutgoingRtp::default()
        };
        self.ends[0].send_rtp(self.now, audio, 0, &packet).unwrap();
        for _ in 0..10 {
            self.now += Duration::from_millis(1);
            self.carry(true, &mut |_, _| {});
            while self.ends[1].poll_frame(self.now, there).is_some() {
                self.frames += 1;
            }
        }
    }
}

#[test]
fn media_costs_no_allocation_once_buffers_have_grown() {
    let mut pair = Pair::new();
    let video = pair.ends[0].add_track(Kind::Video, "v", &[]).unwrap();
    let audio = pair.ends[0].add_track(Kind::Audio, "a", &[]).unwrap();
    pair.negotiate();
    let mut up = 0;
    for _ in 0..3000 {
        pair.now += Duration::from_millis(1);
        pair.carry(false, &mut |_, event| {
            up += u32::from(matches!(
                event,
                Event::ConnectionState(visavis_peer::ConnectionState::Connected)
            ));
        });
        if up == 2 {
            break;
        }
    }
    assert_eq!(up, 2, "not connected");
    let there = pair.ends[1].transceivers()[0].id;
    pair.ends[1].set_receive_mode(there, ReceiveMode::Frames);
    let mut data = vec![3; 5000];
    // The history holds 1024 packets; the pacer and the jitter buffer have been through their most.
    for number in 0..2000 {
        pair.step(number, [video, audio], there, &mut data);
    }
    let (packets, frames) = (pair.packets, pair.frames);
    let allocated = allocation_counter::measure(|| {
        for number in 2000..3000 {
            pair.step(number, [video, audio], there, &mut data);
        }
    });
    let (packets, frames) = (pair.packets - packets, pair.frames - frames);
    assert!(packets > 800 && frames > 700, "{packets} {frames}");
    // Consent checks and their transactions are STUN's: two in five seconds each way.
    assert!(allocated.count_total <= 60, "{allocated:?}");
}

/// What an idle connection takes, itself and on the heap, with ICE, DTLS, SCTP and one open channel.
#[test]
fn an_idle_connection_holds_at_most_24_kib() {
    const PAIRS: usize = 8;
    let connect = || {
        let mut pair = Pair::new();
        let now = pair.now;
        pair.ends[0]
            .create_data_channel(now, visavis_peer::ChannelOptions::default())
            .unwrap();
        pair.negotiate();
        let mut open = 0;
        for _ in 0..3000 {
            pair.now += Duration::from_millis(1);
            pair.carry(false, &mut |_, event| {
                open += u32::from(matches!(event, Event::DataChannelOpen(_)));
            });
            if open > 0 {
                break;
            }
        }
        assert!(open > 0, "not open");
        // What the handshakes needed is given back within seconds.
        for _ in 0..300 {
            pair.now += Duration::from_millis(100);
            pair.carry(false, &mut |_, _| {});
        }
        pair
    };
    let _first = connect();
    let mut pairs = Vec::with_capacity(PAIRS);
    let held = allocation_counter::measure(|| pairs.extend((0..PAIRS).map(|_| connect())));
    let buffers = 54 * 1200;
    let heap = (held.bytes_current as usize / PAIRS - buffers) / 2;
    let each = heap + size_of::<PeerConnection>();
    assert!(
        each <= 24 * 1024,
        "{each} bytes, {heap} of them on the heap"
    );
}
