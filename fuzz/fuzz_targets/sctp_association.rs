//! Any chunks, in packets that pass the checks of the header, at the door of data channels in each
//! state; with time passing and the application acting between.
#![no_main]

use std::sync::LazyLock;
use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use visavis_datagram::{Random, TransmitBuf};
use visavis_sctp::Config;
use visavis_sctp::datachannel::{ChannelOptions, DataChannels, DtlsRole, MessageKind};

/// INIT of the peer: tag 1, window 64 KiB, 64 streams each way, first TSN 1, all extensions.
const PEER_INIT: &[u8] = &[
    1, 0, 0, 40, 0, 0, 0, 1, 0, 1, 0, 0, 0, 64, 0, 64, 0, 0, 0, 1, // fixed part
    0xc0, 0, 0, 4, // FORWARD-TSN
    0x80, 0x08, 0, 8, 0x82, 0xc0, 0x40, 0xc2, // extensions
    0x80, 0x01, 0, 8, 0, 0, 0, 1, // zero checksum
];

static START: LazyLock<Instant> = LazyLock::new(Instant::now);

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.0.split_first() else {
            return 0;
        };
        self.0 = rest;
        *first
    }

    fn bytes(&mut self, count: usize) -> &'a [u8] {
        let (taken, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        taken
    }
}

fuzz_target!(|data: &[u8]| {
    let mut input = Input(data);
    let mut now = *START;
    let kind = input.byte();
    let mut config = Config {
        receive_window: 20_000,
        interleaving: kind & 1 == 0,
        ..Config::default()
    };
    config.limits.send_buffer = 20_000;
    config.limits.whole_message = 4_000;
    config.limits.pending_chunks = 64;
    let window = config.receive_window;
    let mut channels = DataChannels::new(config, Random::from_u64(7));
    let init = channels.init_chunk();
    let tag: [u8; 4] = init[4..8].try_into().unwrap();
    channels.set_role(now, DtlsRole::Client);
    match kind >> 1 & 3 {
        0 => {}
        1 => channels.connect(now).unwrap(),
        _ => channels.connect_with_remote_init(now, PEER_INIT).unwrap(),
    }
    let mut ids = Vec::new();
    let mut out = TransmitBuf::new(4, 1300);
    let mut packet = Vec::new();
    while !input.0.is_empty() {
        match input.byte() {
            0..=159 => {
                let length = usize::from(input.byte()) * 2;
                let chunks = input.bytes(length);
                packet.clear();
                packet.extend_from_slice(&[0x13, 0x88, 0x13, 0x88]);
                let is_init = chunks.first() == Some(&1);
                packet.extend_from_slice(if is_init { &[0; 4] } else { &tag });
                packet.extend_from_slice(&[0; 4]);
                packet.extend_from_slice(chunks);
                if is_init || chunks.first() == Some(&10) {
                    let sum = crc32c::crc32c(&packet);
                    packet[8..12].copy_from_slice(&sum.to_le_bytes());
                }
                channels.handle_packet(now, &packet);
            }
            160..=179 => {
                now += Duration::from_millis(u64::from(input.byte()) * 7);
                channels.handle_timeout(now);
            }
            180..=209 => {
                out.clear();
                while channels.poll_transmit(now, &mut out).is_some() {
                    for (datagram, payload) in out.datagrams_mut() {
                        visavis_sctp::fuzzing::parse_packet(&datagram[payload]);
                    }
                    out.clear();
                }
            }
            210..=224 => while channels.poll_event(now).is_some() {},
            225..=234 => {
                let byte = input.byte();
                let options = ChannelOptions {
                    ordered: byte & 1 == 0,
                    max_retransmits: (byte & 2 != 0).then_some(1),
                    negotiated: (byte & 4 != 0).then_some(u16::from(byte >> 3)),
                    ..ChannelOptions::default()
                };
                ids.extend(channels.open(now, options));
            }
            235..=246 => {
                let length = usize::from(input.byte()) * 20;
                if let Some(&id) = ids.get(usize::from(input.byte()) % ids.len().max(1)) {
                    let last = input.byte() & 1 == 0;
                    let data = vec![1; length].into();
                    let _ = channels.send_part(now, id, MessageKind::Binary, data, last);
                }
            }
            247..=252 => {
                if let Some(&id) = ids.get(usize::from(input.byte()) % ids.len().max(1)) {
                    channels.close(now, id);
                }
            }
            253 => channels.shutdown(now),
            254 => channels.abort(now),
            255 => {
                if let Some(at) = channels.poll_timeout() {
                    now = now.max(at);
                    channels.handle_timeout(now);
                    assert!(channels.poll_timeout() != Some(at) || at > now, "spins");
                }
            }
        }
        assert!(channels.association().received_waiting() <= window * 2 + 4_096);
    }
});
