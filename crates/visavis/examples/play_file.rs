//! Plays a file to browsers: VP8 in IVF, at the pace that its timestamps say.
//!
//!     ffmpeg -i FILM -c:v libvpx -an film.ivf
//!     cargo run --release -p visavis --example play_file film.ivf [ADDRESS]
#![allow(clippy::print_stdout, reason = "the program tells what it did")]

#[path = "common/mod.rs"]
mod common;
#[path = "common/page.rs"]
mod page;

use std::io::Read;
use std::path::PathBuf;
use std::time::Duration;

use tokio::net::TcpListener;

use visavis::{Configuration, Kind, OutgoingFrame, PeerConnection, RtpSender};
use visavis_rtp::file::ivf::IvfReader;

const PAGE: &str = r#"<!doctype html>
<meta charset="utf-8">
<title>Visavis plays</title>
<video id="video" autoplay muted playsinline></video>
<script type="module">
  // For the console: `await pc.getStats()`.
  const pc = globalThis.pc = new RTCPeerConnection();
  pc.addTransceiver('video', { direction: 'recvonly' });
  pc.ontrack = (event) => { video.srcObject = new MediaStream([event.track]); };
  await pc.setLocalDescription();
  if (pc.iceGatheringState !== 'complete') {
    await new Promise((done) => { pc.onicegatheringstatechange = () => pc.iceGatheringState === 'complete' && done(); });
  }
  const response = await fetch('offer', { method: 'POST', body: pc.localDescription.sdp });
  if (response.ok) await pc.setRemoteDescription({ type: 'answer', sdp: await response.text() });
  else document.body.append(await response.text());
</script>
"#;

/// Plays the file from its beginning to each browser that opens the page.
pub(crate) async fn serve(listener: TcpListener, file: PathBuf) -> common::Result<()> {
    let prepare = |connection: &PeerConnection| {
        connection.add_track(Kind::Video, "film", &["film".into()])?;
        Ok(())
    };
    page::serve(listener, PAGE, page::vp8(), prepare, move |connection| {
        let file = file.clone();
        async move {
            common::connected(&connection).await?;
            let transceivers = connection.transceivers();
            let sender = transceivers.first().ok_or("nothing to play to")?.sender();
            play(&sender, std::fs::File::open(file)?).await?;
            Ok(())
        }
    })
    .await
}

/// Sends all frames of a file.
pub(crate) async fn play(sender: &RtpSender, file: impl Read) -> common::Result<u32> {
    let mut reader = IvfReader::new(file)?;
    let header = reader.header();
    if header.codec != *b"VP80" {
        return Err("the file is not VP8: ffmpeg -i FILE -c:v libvpx -an film.ivf".into());
    }
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
#[allow(dead_code, reason = "for the tests")]
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
    let mut arguments = std::env::args().skip(1);
    let usage = "usage: play_file FILE.ivf [ADDRESS]";
    let file = arguments.next().ok_or(usage)?;
    let address = arguments.next().unwrap_or("127.0.0.1:8080".into());
    let listener = TcpListener::bind(&address).await?;
    println!("open http://{address} in a browser; Ctrl-C ends");
    serve(listener, file.into()).await
}
