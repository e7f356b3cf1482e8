//! Drives one end of a DTLS handshake by what the fuzzer wrote: what the other end sends, changed, and
//! any bytes, in any state.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use visavis_crypto::certificate::SelfSigned;
use visavis_crypto::{Certificate, Group};
use visavis_datagram::{Random, TransmitBuf};
use visavis_dtls::{Config, Connection, PeerVerification, Role, Version};

/// What the bytes say to do, one after the other.
enum Step<'a> {
    /// Deliver these bytes.
    Bytes(&'a [u8]),
    /// Deliver the other end's next datagram, changed: positions and masks.
    Changed(&'a [u8]),
    /// Put these bytes into a plaintext handshake record of the message that is due.
    Message(u8, &'a [u8]),
    /// Let so many tenths of a second pass.
    Pass(u8),
}

fn steps(mut bytes: &[u8]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    while let [kind, value, rest @ ..] = bytes {
        let len = usize::from(*value).min(rest.len());
        let (content, tail) = rest.split_at(len);
        bytes = tail;
        steps.push(match kind % 4 {
            0 => Step::Bytes(content),
            1 => Step::Changed(content),
            2 => Step::Message(kind >> 2, content),
            _ => Step::Pass(*value),
        });
        if steps.len() == 32 {
            break;
        }
    }
    steps
}

fn datagrams(now: Instant, from: &mut Connection) -> VecDeque<Vec<u8>> {
    let mut out = TransmitBuf::new(16, 1500);
    let mut all = VecDeque::new();
    while from.poll_transmit(now, &mut out).is_some() {
        all.extend(out.datagrams_mut().map(|(datagram, _)| datagram.to_vec()));
        out.clear();
    }
    assert!(all.len() < 64, "a flood of {} datagrams", all.len());
    all
}

fn config(seed: u64, version: Version) -> Arc<Config> {
    let options = SelfSigned::at(1_800_000_000);
    let certificate = Certificate::self_signed(&options, &mut Random::from_u64(seed)).unwrap();
    let mut config = Config::new(certificate);
    config.max_version = version;
    config.groups = vec![Group::X25519, Group::Secp256r1];
    config.verification = PeerVerification::Caller;
    Arc::new(config)
}

thread_local! {
    static CONFIGS: [Arc<Config>; 2] = [config(1, Version::Dtls13), config(2, Version::Dtls12)];
}

/// Does what `bytes` say to an end in that role.
pub fn run(role: Role, bytes: &[u8]) {
    let Some((&choice, rest)) = bytes.split_first() else {
        return;
    };
    let mut now = Instant::now();
    let config = CONFIGS.with(|configs| configs[usize::from(choice & 1)].clone());
    let mut client = Connection::client(config.clone(), Random::from_u64(1), now).unwrap();
    let mut server = Connection::server(config, Random::from_u64(2), now).unwrap();
    let (target, other) = match role {
        Role::Client => (&mut client, &mut server),
        Role::Server => (&mut server, &mut client),
    };
    let mut sequence = 0u16;
    let mut waiting = VecDeque::new();
    for step in steps(rest) {
        for mut datagram in datagrams(now, target) {
            other.handle_datagram(now, &mut datagram);
        }
        waiting.extend(datagrams(now, other));
        match step {
            Step::Bytes(bytes) => {
                target.handle_datagram(now, &mut bytes.to_vec());
            }
            Step::Changed(changes) => {
                if let Some(mut datagram) = waiting.pop_front() {
                    for change in changes.chunks_exact(3) {
                        let at = usize::from(u16::from_be_bytes([change[0], change[1]]));
                        let at = at % datagram.len();
                        datagram[at] ^= change[2];
                    }
                    target.handle_datagram(now, &mut datagram);
                    sequence = sequence.wrapping_add(1);
                }
            }
            Step::Message(kind, body) => {
                let len = (body.len() as u32).to_be_bytes();
                let mut record = vec![22, 0xfe, 0xfd, 0, 0, 0, 0, 0, 0, 0, 77];
                record.extend_from_slice(&(body.len() as u16 + 12).to_be_bytes());
                record.push(kind);
                record.extend_from_slice(&len[1..]);
                record.extend_from_slice(&(sequence % 8).to_be_bytes());
                record.extend_from_slice(&[0, 0, 0]);
                record.extend_from_slice(&len[1..]);
                record.extend_from_slice(body);
                target.handle_datagram(now, &mut record);
                sequence = sequence.wrapping_add(1);
            }
            Step::Pass(tenths) => {
                now += Duration::from_millis(100 * u64::from(tenths));
                target.handle_timeout(now);
                other.handle_timeout(now);
            }
        }
        while target.poll_event().is_some() {}
        while other.poll_event().is_some() {}
        target.poll_timeout();
    }
}
