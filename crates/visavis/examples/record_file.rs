//! Records what a peer sends into a file: VP8 into IVF, each frame as it comes out of the jitter buffer.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::io::{Cursor, Seek, Write};
use std::time::Duration;

use visavis::{Configuration, FrameKind, Kind, OutgoingFrame, RtpReceiver};
use visavis_rtp::file::ivf::{IvfHeader, IvfWriter};

/// Writes frames until the track ends; how many.
pub(crate) async fn record<W: Write + Seek>(
    receiver: &RtpReceiver,
    file: W,
) -> common::Result<(W, u32)> {
    let header = IvfHeader {
        codec: *b"VP80",
        width: 320,
        height: 240,
        timebase: (90_000, 1),
        frames: 0,
    };
    let mut writer = IvfWriter::new(file, header)?;
    let (mut first, mut count) = (None, 0);
    while let Some(frame) = receiver.recv_frame().await {
        if frame.kind == FrameKind::Lost {
            continue;
        }
        let first = *first.get_or_insert(frame.timestamp);
        writer.write_frame(frame.timestamp.wrapping_sub(first).into(), &frame.data)?;
        count += 1;
    }
    Ok((writer.finish()?, count))
}

/// Records what another end of this very program sends.
pub(crate) async fn run() -> common::Result<(Vec<u8>, u32)> {
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let sender = there.add_track(Kind::Video, "camera", &[])?;
    common::negotiate(&there, &here).await?;
    let receiver = common::track(&here).await?.receiver();
    common::connected(&there).await?;
    let recording = tokio::spawn(async move { record(&receiver, Cursor::new(Vec::new())).await });
    for number in 0..30 {
        let data = common::picture(number, number == 0);
        sender.send_frame(&OutgoingFrame::new(number * 3000, number == 0, &data))?;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    there.close();
    let (file, count) = recording.await??;
    Ok((file.into_inner(), count))
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let (file, frames) = run().await?;
    std::fs::write("recorded.ivf", &file)?;
    println!("{frames} frames in recorded.ivf");
    Ok(())
}
