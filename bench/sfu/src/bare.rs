//! The floor: encrypt and send, with nothing to decide.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use visavis_datagram::{Ecn, Path, Transmit, TransmitBuf};
use visavis_net::udp::{UdpOptions, UdpSocket};
use visavis_srtp::{Context, Options, Profile};

use bench_sfu::process::usage;

/// Sends bursts of `burst` packets of `size` bytes to each of `ports`, `rate` bursts per second, for so
/// long; nanoseconds of processor per packet.
pub(crate) async fn run(ports: &[u16], size: usize, burst: usize, rate: f64, seconds: f64) -> f64 {
    let mut options = UdpOptions::default();
    options.send_buffer = 4 << 20;
    let address = SocketAddr::from(([127, 0, 0, 1], 0));
    let socket = UdpSocket::bind_with(address, &options).expect("a socket");
    let mut contexts: Vec<Context> = ports
        .iter()
        .map(|_| {
            Context::new(
                Profile::AeadAes128Gcm,
                &[1; 16],
                &[2; 12],
                Options::default(),
            )
            .expect("a context")
        })
        .collect();
    let mut buffers: Vec<TransmitBuf> = (0..32).map(|_| TransmitBuf::new(16, 1500)).collect();
    let mut packet = vec![0x55; size];
    packet[0] = 0x80;
    packet[1] = 96;
    let begun = Instant::now();
    let (before, _) = usage(std::process::id());
    let (mut sent, mut sequence) = (0u64, 0u16);
    let mut next = begun;
    while begun.elapsed() < Duration::from_secs_f64(seconds) {
        tokio::time::sleep_until(next.into()).await;
        next += Duration::from_secs_f64(1.0 / rate);
        for (chunk, contexts) in ports.chunks(32).zip(contexts.chunks_mut(32)) {
            let mut transmits: Vec<Transmit> = Vec::with_capacity(32);
            for ((&port, context), out) in chunk.iter().zip(contexts).zip(&mut buffers) {
                out.clear();
                for number in 0..burst {
                    let Some(slot) = out.slot() else { break };
                    slot[..size].copy_from_slice(&packet);
                    let number = sequence.wrapping_add(number as u16);
                    slot[2..4].copy_from_slice(&number.to_be_bytes());
                    let sealed = context.protect_rtp(slot, size).expect("a sealed packet");
                    out.commit(sealed);
                }
                let Some(segments) = out.segments() else {
                    continue;
                };
                let path = Path::udp(
                    socket.local_addr(),
                    SocketAddr::from(([127, 0, 0, 1], port)),
                );
                transmits.push(Transmit::new(path, Ecn::NotEct, segments));
                sent += burst as u64;
            }
            let runs: Vec<(Transmit, &[u8])> = transmits
                .iter()
                .zip(&buffers)
                .map(|(transmit, buffer)| (*transmit, buffer.as_slice()))
                .collect();
            let mut done = 0;
            while done < runs.len() {
                done += socket.try_send_many(&runs[done..]);
                if done < runs.len() {
                    let _ = socket.writable().await;
                }
            }
        }
        sequence = sequence.wrapping_add(burst as u16);
    }
    let (after, _) = usage(std::process::id());
    (after - before) * 1e9 / sent.max(1) as f64
}
