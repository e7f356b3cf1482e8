//! Records what browsers send into files: VP8 into IVF, each frame as it comes out of the jitter buffer.
//!
//!     cargo run --release -p visavis --example record_file FOLDER [ADDRESS]
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/page.rs"]
mod page;

use std::io::{Cursor, Seek, Write};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::net::TcpListener;

use visavis::{Configuration, FrameKind, Kind, OutgoingFrame, RtpReceiver};
use visavis_rtp::file::ivf::{IvfHeader, IvfWriter};

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>Visavis records</title>
<video id="video" autoplay muted playsinline></video>
<p>Recording until this page is closed.</p>
<script type="module">
  // For the console: `await pc.getStats()`.
  const pc = globalThis.pc = new RTCPeerConnection();
  const stream = await navigator.mediaDevices.getUserMedia({ video: { width: 320, height: 240 } });
  video.srcObject = stream;
  pc.addTransceiver(stream.getVideoTracks()[0], { direction: 'sendonly', streams: [stream] });
  await pc.setLocalDescription();
  if (pc.iceGatheringState !== 'complete') {
    await new Promise((done) => { pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done(); });
  }
  const response = await fetch('offer', { method: 'POST', body: pc.localDescription.sdp });
  if (response.ok) await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  else document.body.append(await response.text());
  addEventListener('pagehide', () => pc.close());
</script>
"#;

/// Records each browser that opens the page into a file of its own in `folder`.
pub(crate) async fn serve(listener: TcpListener, folder: PathBuf) -> common::Result<()> {
    let number = Arc::new(AtomicU32::new(1));
    page::serve(
        listener,
        PAGE,
        page::vp8(),
        |_| Ok(()),
        move |connection| {
            let number = number.fetch_add(1, Ordering::Relaxed);
            let file = folder.join(format!("recorded-{number}.ivf"));
            async move {
                let transceivers = connection.transceivers();
                let receiver = transceivers.first().ok_or("nothing to record")?.receiver();
                let (_, frames) = record(&receiver, std::fs::File::create(&file)?).await?;
                println!("{frames} frames in {}", file.display());
                Ok(())
            }
        },
    )
    .await
}

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
#[allow(dead_code, reason = "for the tests")]
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
    let mut arguments = std::env::args().skip(1);
    let folder = arguments
        .next()
        .ok_or("usage: record_file FOLDER [ADDRESS]")?;
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    let listener = TcpListener::bind(&address).await?;
    println!("open http://{address} in a browser; Ctrl-C ends");
    serve(listener, folder.into()).await
}
