//! The examples that are for browsers, with browsers.
#![allow(
    clippy::duplicate_mod,
    dead_code,
    reason = "each example is a program: what they share and begin with is in each of them"
)]

#[path = "../../../crates/visavis/examples/echo.rs"]
mod echo;
#[path = "../../../crates/visavis/examples/play_file.rs"]
mod play_file;
#[path = "../../../crates/visavis/examples/record_file.rs"]
mod record_file;
#[path = "../../../crates/visavis/examples/trickle.rs"]
mod trickle;

use std::path::PathBuf;
use std::sync::Arc;

use interop_browser::{Browser, Kind, in_namespace, tests, within};
use tokio::net::TcpListener;
use tokio::task::AbortHandle;
use visavis::{Endpoint, Settings};
use visavis_rtp::file::ivf::IvfReader;

/// A program that runs for as long as this lives.
struct Running(AbortHandle);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

async fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("its address");
    (listener, format!("localhost:{}", address.port()))
}

async fn browser(kind: Kind) -> Option<Arc<Browser>> {
    if !in_namespace() {
        return None;
    }
    let browser = Browser::launch(kind, &[]).await?;
    interop_common::meets(&browser.name());
    Some(browser)
}

/// The README's first example: what is typed into its page comes back.
async fn types_into_the_first_example(kind: Kind) {
    let Some(browser) = browser(kind).await else {
        return;
    };
    let (port, address) = listener().await;
    let serving = tokio::spawn(async move { echo::listen(port).await.map_err(|e| e.to_string()) });
    let _serving = Running(serving.abort_handle());
    let page = browser.open_url(&format!("http://{address}/")).await;
    let echoed = "(async () => {
        const pause = () => new Promise((done) => setTimeout(done, 20));
        while (document.querySelector('button')?.disabled !== false) await pause();
        document.querySelector('#text').value = 'hello';
        document.querySelector('form').requestSubmit();
        while (!document.querySelector('li')) await pause();
        return document.querySelector('li').textContent;
    })()";
    assert_eq!(within("the echo", page.eval(echoed)).await, "hello");
}

/// An empty folder of its own.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("visavis-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

/// What a browser records is played to it again, and it shows pictures.
async fn records_and_plays(kind: Kind) {
    let Some(browser) = browser(kind).await else {
        return;
    };
    let folder = folder("record");
    let (port, address) = listener().await;
    let recording = tokio::spawn(record_file::serve(port, folder.clone()));
    let _recording = Running(recording.abort_handle());
    let page = browser.open_url(&format!("http://{address}/")).await;
    let sent = "(async () => {
        const pictures = async () => [...(await pc.getStats()).values()].find((r) => r.type === 'outbound-rtp')?.framesSent ?? 0;
        while (!globalThis.pc || await pictures() < 45) await new Promise((done) => setTimeout(done, 50));
        pc.close();
    })()";
    within("pictures", page.eval(sent)).await;
    let file = folder.join("recorded-1.ivf");
    let frames = within("the end of the recording", async {
        loop {
            // The number of frames is written last.
            let count = std::fs::File::open(&file)
                .ok()
                .and_then(|file| IvfReader::new(file).ok())
                .map_or(0, |reader| reader.header().frames);
            if count > 0 {
                return count;
            }
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(frames >= 30, "{frames} frames recorded");

    let (port, address) = listener().await;
    let playing = tokio::spawn(play_file::serve(port, file));
    let _playing = Running(playing.abort_handle());
    let page = browser.open_url(&format!("http://{address}/")).await;
    let decoded = "(async () => {
        const pictures = async () => [...(await pc.getStats()).values()].find((r) => r.type === 'inbound-rtp')?.framesDecoded ?? 0;
        while (!globalThis.pc || await pictures() < 15) await new Promise((done) => setTimeout(done, 50));
        return document.querySelector('video').videoWidth;
    })()";
    let width = within("pictures", page.eval(decoded)).await;
    assert!(width.as_u64() > Some(0), "{width}");
    let _ = std::fs::remove_dir_all(folder);
}

/// The page's part of the example, as a page of its own would have it.
const TRICKLE: &str = r"
  const socket = new WebSocket(argument);
  const pc = new RTCPeerConnection();
  const dc = pc.createDataChannel('hello');
  const say = (message) => socket.send(JSON.stringify(message));
  const back = new Promise((done) => { dc.onmessage = (e) => done(e.data); });
  dc.onopen = () => dc.send('hello');
  pc.onicecandidate = (e) => say({ candidate: e.candidate });
  await new Promise((done) => { socket.onopen = done; });
  let said = Promise.resolve();
  socket.onmessage = (e) => { said = said.then(async () => {
    const { description, candidate } = JSON.parse(e.data);
    if (description) await pc.setRemoteDescription(description);
    else await pc.addIceCandidate(candidate);
  }); };
  await pc.setLocalDescription();
  say({ description: pc.localDescription });
  const text = await back;
  await said;
  return text;
";

async fn trickles(kind: Kind) {
    let Some(browser) = browser(kind).await else {
        return;
    };
    let (port, address) = listener().await;
    let endpoint = Endpoint::new(Settings::default()).expect("sockets");
    let listening = tokio::spawn(trickle::listen(port, endpoint));
    let _listening = Running(listening.abort_handle());
    let page = browser.open().await;
    let url = format!("ws://{address}").into();
    let text = within("a message", page.call(TRICKLE, url)).await;
    assert_eq!(text, "hello");
}

tests! {
    chromium_is_recorded_and_played_to: records_and_plays(Kind::Chromium);
    chromium_trickles_over_a_web_socket: trickles(Kind::Chromium);
    chromium_gets_its_echo: types_into_the_first_example(Kind::Chromium);
    firefox_is_recorded_and_played_to: records_and_plays(Kind::Firefox);
    firefox_trickles_over_a_web_socket: trickles(Kind::Firefox);
    firefox_gets_its_echo: types_into_the_first_example(Kind::Firefox);
}
