//! Receives a simulcast: three encodings of one track, told apart by rid.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use visavis::{Configuration, Direction, Encoding, Kind, OutgoingFrame, RtpBatch, TransceiverInit};

/// Packets that came of each encoding.
pub(crate) async fn run() -> common::Result<Vec<(String, u32)>> {
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let init = TransceiverInit {
        direction: Direction::SendOnly,
        send_encodings: ["low", "middle", "high"].map(Encoding::with_rid).to_vec(),
        ..TransceiverInit::default()
    };
    let sender = there.add_transceiver(Kind::Video, init)?.sender();
    common::negotiate(&there, &here).await?;
    let receiver = common::track(&here).await?.receiver();
    common::connected(&there).await?;
    let mut counts: Vec<(String, u32)> = receiver.rids().into_iter().map(|rid| (rid, 0)).collect();
    let counting = tokio::spawn(async move {
        let mut batch = RtpBatch::new();
        while counts.iter().any(|(_, count)| *count < 10) && receiver.recv_rtp(&mut batch).await {
            for packet in batch.iter() {
                if let Some(encoding) = packet.encoding {
                    counts[encoding].1 += 1;
                }
            }
        }
        counts
    });
    for number in 0..20 {
        for encoding in 0..3 {
            let data = common::picture(number, number == 0);
            let frame = OutgoingFrame::new(number * 3000, number == 0, &data);
            sender.send_frame_of(encoding, &frame)?;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(counting.await?)
}

#[tokio::main]
async fn main() -> common::Result<()> {
    println!("{:?}", run().await?);
    Ok(())
}
