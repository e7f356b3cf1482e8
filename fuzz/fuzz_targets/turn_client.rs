//! A client whose server is hostile: any bytes as answers, valid envelopes around any attributes, in any order with time and the
//! owner's calls.
#![no_main]

use std::time::{Duration, Instant};

use libfuzzer_sys::fuzz_target;
use visavis_datagram::{Path, Random, TransmitBuf};
use visavis_stun::{
    AttributeType, Class, IntegrityKey, Message, MessageBuilder, PasswordAlgorithmId,
};
use visavis_turn::client::{Client, ClientConfig, Families, Received};

struct Input<'a>(&'a [u8]);

impl<'a> Input<'a> {
    fn byte(&mut self) -> Option<u8> {
        let (&byte, rest) = self.0.split_first()?;
        self.0 = rest;
        Some(byte)
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (bytes, rest) = self.0.split_at(len.min(self.0.len()));
        self.0 = rest;
        bytes
    }
}

fuzz_target!(|bytes: &[u8]| {
    let mut input = Input(bytes);
    let start = Instant::now();
    let mut now = start;
    let path = Path::udp(
        "192.0.2.7:5000".parse().unwrap(),
        "192.0.2.1:3478".parse().unwrap(),
    );
    let mut config = ClientConfig::new("user", "password");
    config.families = Families::Dual;
    config.mobility = true;
    config.max_peers = 8;
    let mut client = Client::new(now, path, config, Random::from_u64(1));
    let mut out = TransmitBuf::new(2, 1500);
    let mut request: Option<Vec<u8>> = None;
    let key = IntegrityKey::long_term("user", "r", "password", PasswordAlgorithmId::MD5).unwrap();
    let peers = ["198.51.100.1:1", "198.51.100.2:2", "[2001:db8::1]:3"].map(|p| p.parse().unwrap());
    while let Some(step) = input.byte() {
        let which = usize::from(step >> 4);
        match step & 15 {
            0 => {
                let length = input.byte().unwrap_or(0);
                let bytes = input.bytes(usize::from(length));
                if let Received::Data { range, .. } = client.unwrap(now, client.path(), bytes) {
                    assert!(range.end <= bytes.len());
                }
            }
            1..=5 => {
                // An answer to the last request: error code and attributes as the input says, signed or not.
                let Some(request) = &request else { continue };
                let request = Message::parse(request).expect("our own request");
                let class = if step & 1 == 0 {
                    Class::Success
                } else {
                    Class::Error
                };
                let mut buffer = [0; 1024];
                let mut builder = MessageBuilder::response(&mut buffer, class, &request);
                for _ in 0..which {
                    let (Some(high), Some(low), Some(length)) =
                        (input.byte(), input.byte(), input.byte())
                    else {
                        break;
                    };
                    let kind = AttributeType(u16::from(high & 0x80) << 8 | u16::from(low));
                    builder.add_raw(kind, input.bytes(usize::from(length)));
                }
                if step & 4 != 0 {
                    builder.integrity(&key);
                }
                if let Ok(len) = builder.finish() {
                    client.unwrap(now, client.path(), &buffer[..len]);
                }
            }
            6 => {
                now += Duration::from_millis(u64::from(input.byte().unwrap_or(0)) * 100);
                client.handle_timeout(now);
            }
            7 => {
                now += Duration::from_secs(u64::from(input.byte().unwrap_or(0)) * 4);
                client.handle_timeout(now);
            }
            8 => drop(client.permit(now, peers[which % 3])),
            9 => drop(client.bind(now, peers[which % 3])),
            10 => client.forget(now, peers[which % 3].ip()),
            11 => {
                out.clear();
                let _ = client.wrap(now, peers[which % 3], b"payload", &mut out);
            }
            12 => {
                let mut path = path;
                path.local.set_port(5000 + which as u16);
                let _ = client.move_to(now, path);
            }
            13 => {
                let mut path = path;
                path.remote.set_port(3478 + which as u16);
                client.reconnect(now, path);
            }
            14 if which == 15 => client.close(now),
            _ => {
                out.clear();
                if client.poll_transmit(now, &mut out).is_some() {
                    request = Some(out.as_slice().to_vec());
                }
            }
        }
        while client.poll_event().is_some() {}
        let _ = client.poll_timeout();
    }
    // Whatever happened, time ends every request.
    for _ in 0..10_000 {
        out.clear();
        while client.poll_transmit(now, &mut out).is_some() {
            out.clear();
        }
        let Some(at) = client.poll_timeout() else {
            return;
        };
        now = now.max(at);
        if now > start + Duration::from_secs(200_000) {
            return;
        }
        client.handle_timeout(now);
    }
    panic!("time does not pass");
});
