//! Plain RTP from a UDP port becomes a track, and a track becomes plain RTP to a UDP port, as FFmpeg and
//! GStreamer send and take it.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::net::SocketAddr;

use tokio::net::UdpSocket;
use visavis::{Configuration, Kind, OutgoingRtp, RtpBatch, RtpReceiver, RtpSender};
use visavis_rtp::Packet;

/// Sends what arrives at a port as a track.
async fn from_port(socket: UdpSocket, sender: RtpSender) -> common::Result<()> {
    let mut buffer = [0; 1500];
    let payload_type = sender
        .codecs()
        .first()
        .ok_or("not negotiated")?
        .payload_type;
    loop {
        let length = socket.recv(&mut buffer).await?;
        let Ok(packet) = Packet::parse(&buffer[..length]) else {
            continue;
        };
        let outgoing = OutgoingRtp {
            payload_type,
            marker: packet.marker(),
            sequence: packet.sequence().0,
            timestamp: packet.timestamp(),
            payload: packet.payload(),
            ..OutgoingRtp::default()
        };
        sender.send_rtp(0, [outgoing])?;
    }
}

/// Sends a track to a port.
async fn to_port(receiver: RtpReceiver, socket: UdpSocket, to: SocketAddr) -> common::Result<()> {
    let mut batch = RtpBatch::new();
    while receiver.recv_rtp(&mut batch).await {
        for packet in batch.iter() {
            socket.send_to(&packet.bytes, to).await?;
        }
    }
    Ok(())
}

/// The payloads that came out at the other end.
pub(crate) async fn run() -> common::Result<Vec<Vec<u8>>> {
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let sender = here.add_track(Kind::Audio, "port", &[])?;
    common::negotiate(&here, &there).await?;
    let receiver = common::track(&there).await?.receiver();
    common::connected(&here).await?;
    let [entry, exit, source, sink] = [
        UdpSocket::bind("127.0.0.1:0").await?,
        UdpSocket::bind("127.0.0.1:0").await?,
        UdpSocket::bind("127.0.0.1:0").await?,
        UdpSocket::bind("127.0.0.1:0").await?,
    ];
    let entry_at = entry.local_addr()?;
    let sink_at = sink.local_addr()?;
    let tasks = [
        tokio::spawn(from_port(entry, sender)),
        tokio::spawn(to_port(receiver, exit, sink_at)),
    ];
    let mut payloads = Vec::new();
    let mut buffer = [0; 1500];
    for number in 0u8..10 {
        // Version 2, payload type 96, a sequence number, timestamp, source; then the payload.
        let packet = [
            0x80, 96, 0, number, 0, 0, number, 0, 0, 0, 0, 9, b'n', number,
        ];
        source.send_to(&packet, entry_at).await?;
        let length = sink.recv(&mut buffer).await?;
        payloads.push(Packet::parse(&buffer[..length])?.payload().to_vec());
    }
    tasks.iter().for_each(tokio::task::JoinHandle::abort);
    Ok(payloads)
}

#[tokio::main]
async fn main() -> common::Result<()> {
    println!("{:?}", run().await?);
    Ok(())
}
