//! End-to-end encryption of frames (SFrame, RFC 9605) above SRTP: whoever forwards them cannot hear them.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::time::Duration;

use visavis::sframe::{SFrameReceiver, SFrameSender, SFrameSuite};
use visavis::{Configuration, FrameKind, Kind, OutgoingFrame};

/// How many frames came, and whether all were what was sent.
pub(crate) async fn run() -> common::Result<(u32, bool)> {
    let key = b"shared by other means";
    let suite = SFrameSuite::Aes128GcmSha256_128;
    let here = common::connection(Configuration::default())?;
    let there = common::connection(Configuration::default())?;
    let sender = here.add_track(Kind::Audio, "voice", &[])?;
    sender.set_transform(Some(Box::new(SFrameSender::new(suite, 7, key)?)));
    common::negotiate(&here, &there).await?;
    let receiver = common::track(&there).await?.receiver();
    let mut opener = SFrameReceiver::new(suite);
    opener.add_key(7, key)?;
    receiver.set_transform(Some(Box::new(opener)));
    common::connected(&here).await?;
    let reading = tokio::spawn(async move {
        let (mut count, mut same) = (0, true);
        while count < 20 {
            let Some(frame) = receiver.recv_frame().await else {
                break;
            };
            if frame.kind == FrameKind::Audio {
                count += 1;
                same &= frame.data == common::sound(frame.timestamp / 960);
            }
        }
        (count, same)
    });
    for number in 0..60 {
        let data = common::sound(number);
        // The reader ends when it has enough.
        let _ = sender.send_frame(&OutgoingFrame::new(number * 960, false, &data));
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(reading.await?)
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let (count, same) = run().await?;
    println!("{count} frames opened, all as they were sent: {same}");
    Ok(())
}
