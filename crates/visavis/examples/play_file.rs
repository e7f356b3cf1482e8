//! Plays a file to a peer: VP8, VP9 or AV1 in IVF, at the pace that its timestamps say.
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;

use std::io::Read;
use std::time::Duration;

use visavis::{Configuration, Kind, OutgoingFrame, PeerConnection, RtpSender};
use visavis_rtp::file::ivf::IvfReader;

/// Sends all frames of a file.
pub(crate) async fn play(sender: &RtpSender, file: impl Read) -> common::Result<u32> {
    let mut reader = IvfReader::new(file)?;
    let header = reader.header();
    let tick = f64::from(header.timebase.1) / f64::from(header.timebase.0.max(1));
    let (mut data, mut count) = (Vec::new(), 0);
    let begin = tokio::time::Instant::now();
    while let Some(timestamp) = reader.read_frame(&mut data)? {
        let seconds = timestamp as f64 * tick;
        tokio::time::sleep_until(begin + Duration::from_secs_f64(seconds)).await;
        // A VP8 key frame has a first byte that is even (RFC 6386 section 9.1).
        let is_key = data.first().is_some_and(|first| first & 1 == 0);
        let rtp = (seconds * 90_000.0) as u64 as u32;
        sender.send_frame(&OutgoingFrame::new(rtp, is_key, &data))?;
        count += 1;
    }
    Ok(count)
}

/// Plays to a peer of this very program, which counts what comes.
pub(crate) async fn run(file: impl Read) -> common::Result<(u32, u32)> {
    let here = common::connection(Configuration::default())?;
    let there: PeerConnection = common::connection(Configuration::default())?;
    let sender = here.add_track(Kind::Video, "film", &["film".into()])?;
    common::negotiate(&here, &there).await?;
    let receiver = common::track(&there).await?.receiver();
    common::connected(&here).await?;
    let counting = tokio::spawn(async move {
        let mut count = 0;
        while receiver.recv_frame().await.is_some() {
            count += 1;
        }
        count
    });
    let sent = play(&sender, file).await?;
    tokio::time::sleep(Duration::from_millis(500)).await;
    here.close();
    Ok((sent, counting.await?))
}

#[tokio::main]
async fn main() -> common::Result<()> {
    let name = std::env::args().nth(1).ok_or("usage: play_file FILE.ivf")?;
    let (sent, received) = run(std::fs::File::open(name)?).await?;
    println!("{sent} frames sent, {received} received");
    Ok(())
}
