//! `visavis whip`, `whep`, `join` and `echo`, against a `visavis serve` in this process.

mod common;

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Output, Stdio};
use std::time::Duration;

use common::{film, visavis as command};
use tempfile::tempdir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use visavis::{Configuration, Description, Endpoint, Kind, Message, OutgoingFrame};
use visavis_rtp::file::ogg::{OggWriter, OpusHead};
use visavis_rtp::file::webm::WebmReader;
use visavis_server::config::Tls;
use visavis_server::token::{Claims, Keys, VideoGrant};
use visavis_server::{Balance, Config, Server};

const KEY: (&str, &str) = ("testkey", "a secret that is long enough for tests");

/// A meeting server on free ports of loopback, for as long as this lives.
struct Serve {
    address: SocketAddr,
    _stop: oneshot::Sender<()>,
}

impl Serve {
    fn start() -> Self {
        Self::new(Config {
            join_open: true,
            ..Config::default()
        })
    }

    fn new(config: Config) -> Self {
        let (sender, address) = std::sync::mpsc::channel();
        let (stop, stopped) = oneshot::channel();
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(async {
                let config = Config {
                    listen: vec!["127.0.0.1:0".parse().unwrap()],
                    udp: vec!["127.0.0.1:0".parse().unwrap()],
                    workers: config.workers.max(1),
                    tls: Tls::Off,
                    turn: false,
                    keys: BTreeMap::from([(KEY.0.to_owned(), KEY.1.to_owned())]),
                    ..config
                };
                let server = Server::start(config).await.unwrap();
                sender.send(server.addresses()[0]).unwrap();
                let _ = stopped.await;
            });
        });
        Self {
            address: address.recv().unwrap(),
            _stop: stop,
        }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

fn token(room: &str, identity: &str) -> String {
    let keys = Keys::new([(KEY.0.to_owned(), KEY.1.to_owned())]);
    let claims = Claims {
        identity: identity.into(),
        video: Some(VideoGrant {
            room_join: true,
            room: room.into(),
            ..VideoGrant::default()
        }),
        ..Claims::default()
    };
    keys.sign(KEY.0, &claims, 600).unwrap()
}

/// 10 seconds of Opus in packets of 20 ms.
fn sound(path: &Path) {
    let head = OpusHead {
        channels: 2,
        pre_skip: 312,
        input_rate: 48_000,
        gain: 0,
    };
    let mut writer = OggWriter::new(Vec::new(), 1, head).unwrap();
    for number in 0..500_u32 {
        let packet = [&[31 << 3 | 4][..], &number.to_be_bytes(), &[7; 60]].concat();
        writer.write_packet(&packet, 960).unwrap();
    }
    fs::write(path, writer.finish().unwrap()).unwrap();
}

struct Running(Option<Child>);

impl Running {
    fn start(arguments: &[&str], directory: &Path) -> Self {
        Self(Some(command(arguments, directory).spawn().unwrap()))
    }

    /// As Ctrl-C does.
    fn interrupt(&self) {
        let id = self.0.as_ref().unwrap().id().to_string();
        let status = std::process::Command::new("kill")
            .args(["-INT", &id])
            .status();
        assert!(status.unwrap().success());
    }

    fn output(mut self) -> Output {
        self.0.take().unwrap().wait_with_output().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if let Some(child) = &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// The frames of the recorded file whose name holds `part`.
fn frames(directory: &Path, part: &str) -> usize {
    let mut entries = fs::read_dir(directory).unwrap().flatten();
    let entry = entries
        .find(|entry| entry.file_name().to_string_lossy().contains(part))
        .unwrap_or_else(|| panic!("no {part} in {directory:?}"));
    let file = fs::File::open(entry.path()).unwrap();
    let mut reader = WebmReader::new(BufReader::new(file)).unwrap();
    let (mut data, mut count) = (Vec::new(), 0);
    while reader.read_frame(&mut data).unwrap().is_some() {
        count += 1;
    }
    count
}

#[test]
fn what_whip_publishes_whep_and_join_record() {
    let (here, serve) = (tempdir().unwrap(), Serve::start());
    film(&here.path().join("film.ivf"));
    sound(&here.path().join("sound.ogg"));
    let publishing = Running::start(
        &[
            "whip",
            &serve.url("/whip/lobby"),
            "film.ivf",
            "sound.ogg",
            "--loop",
            "--token",
            &token("lobby", "camera"),
        ],
        here.path(),
    );
    let joined = Running::start(
        &[
            "join",
            &serve.url("/r/lobby"),
            "--record",
            "joined",
            "--for",
            "6",
        ],
        here.path(),
    );
    // Without a token it asks for one, as the page does. WHEP says 409 until somebody publishes.
    let mut tries = 0;
    let played = loop {
        let played = command(
            &[
                "whep",
                &serve.url("/whep/lobby"),
                "--output",
                "played",
                "--for",
                "3",
            ],
            here.path(),
        )
        .output()
        .unwrap();
        tries += 1;
        if played.status.success() || tries == 20 {
            break played;
        }
        std::thread::sleep(Duration::from_millis(200));
    };
    assert!(played.status.success(), "{played:?}");
    let joined = joined.output();
    assert!(joined.status.success(), "{joined:?}");
    publishing.interrupt();
    let published = publishing.output();
    assert_eq!(published.status.code(), Some(130), "{published:?}");
    for (directory, pictures, sounds) in [("played", 40, 80), ("joined", 40, 80)] {
        let directory = here.path().join(directory);
        let (camera, microphone) = (
            frames(&directory, "camera"),
            frames(&directory, "microphone"),
        );
        assert!(camera >= pictures, "{directory:?}: {camera} pictures");
        assert!(microphone >= sounds, "{directory:?}: {microphone} sounds");
    }
    let list = fs::read_to_string(here.path().join("joined/recording.jsonl")).unwrap();
    assert!(list.contains("\"identity\":\"camera\""), "{list}");
}

/// A server whose workers find everything too much: once a second somebody is moved, who publishes or who records.
#[test]
fn who_is_moved_to_another_worker_goes_on() {
    let here = tempdir().unwrap();
    let serve = Serve::new(Config {
        workers: 2,
        join_open: true,
        balance: Balance {
            hot: 0.0,
            cool: 1.0,
            ..Balance::default()
        },
        ..Config::default()
    });
    sound(&here.path().join("sound.ogg"));
    let (link, key) = (serve.url("/whip/lobby"), token("lobby", "radio"));
    let publishing = Running::start(
        &["whip", &link, "sound.ogg", "--loop", "--token", &key],
        here.path(),
    );
    let link = serve.url("/r/lobby");
    let recording = ["join", &link, "--record", "out", "--for", "8"];
    let recorded = Running::start(&recording, here.path()).output();
    assert!(recorded.status.success(), "{recorded:?}");
    publishing.interrupt();
    assert_eq!(publishing.output().status.code(), Some(130));
    let sounds = frames(&here.path().join("out"), "microphone");
    // The first move comes within two seconds.
    assert!(sounds >= 200, "{sounds} sounds");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let address = serve.address.to_string();
    let metrics = runtime.block_on(request(&address, "GET /metrics HTTP/1.1", ""));
    let moves = metrics
        .lines()
        .find_map(|line| line.strip_prefix("visavis_media_relocations_total "))
        .unwrap_or_else(|| panic!("nobody was moved: {metrics}"));
    assert!(moves.parse::<u32>().unwrap() >= 3, "{moves}");
    assert!(
        metrics.contains("visavis_media_load{worker=\"1\"}"),
        "{metrics}"
    );
}

#[test]
fn one_who_joins_publishes_for_another_who_records() {
    let (here, serve) = (tempdir().unwrap(), Serve::start());
    film(&here.path().join("film.ivf"));
    let link = serve.url("/r/a%20room");
    let recording = Running::start(&["join", &link, "--record", "out"], here.path());
    // From a pipe, which ends: then it leaves by itself.
    let mut publisher = command(
        &["join", &link, "--publish", "-", "--name", "Cinema"],
        here.path(),
    );
    let film = fs::File::open(here.path().join("film.ivf")).unwrap();
    let published = publisher.stdin(Stdio::from(film)).output().unwrap();
    assert!(published.status.success(), "{published:?}");
    assert!(String::from_utf8_lossy(&published.stderr).contains("250 frames were sent"));
    recording.interrupt();
    let recorded = recording.output();
    assert!(recorded.status.success(), "{recorded:?}");
    let told = String::from_utf8_lossy(&recorded.stderr).into_owned();
    assert!(
        told.contains("Cinema is here") && told.contains("Cinema left"),
        "{told}"
    );
    assert!(frames(&here.path().join("out"), "camera") > 200, "{told}");
}

#[test]
fn what_is_wrong_is_said_in_words() {
    let (here, serve) = (
        tempdir().unwrap(),
        Serve::new(Config {
            join_open: false,
            ..Config::default()
        }),
    );
    film(&here.path().join("film.ivf"));
    fs::write(here.path().join("text.txt"), "no film at all").unwrap();
    let run = |arguments: &[&str]| {
        let output = command(arguments, here.path()).output().unwrap();
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        (output.status.code().unwrap(), text)
    };
    let (whip, whep) = (serve.url("/whip/lobby"), serve.url("/whep/lobby"));
    let good = token("lobby", "camera");
    for (arguments, code, word) in [
        (vec!["whip", &whip, "film.ivf"], 7, "--token"),
        (vec!["whip", &whip, "film.ivf", "--token", "x"], 7, "token"),
        (vec!["whip", &whip, "text.txt"], 6, "ffmpeg"),
        (vec!["whip", &whip, "absent.ivf"], 6, "absent.ivf"),
        (vec!["whip", "here", "film.ivf"], 2, "https://"),
        (
            vec!["whip", "http://127.0.0.1:9/x", "film.ivf"],
            4,
            "cannot reach",
        ),
        (vec!["whep", &whep, "--token", &good], 1, "409"),
        (vec!["join", &serve.url("")], 2, "which room"),
        (vec!["join", &serve.url(""), "--token", "x"], 7, "refuses"),
        (vec!["join", "http://127.0.0.1:9/r/x"], 4, "cannot reach"),
        (vec!["join", "http://[/r/x"], 2, "no address"),
        (
            vec!["echo", "--listen", &serve.address.to_string()],
            1,
            "--listen",
        ),
    ] {
        let (status, text) = run(&arguments);
        assert_eq!(status, code, "{arguments:?}: {text}");
        assert!(text.contains(word), "{arguments:?}: {text}");
    }
}

#[test]
fn echo_sends_messages_and_pictures_back() {
    let here = tempdir().unwrap();
    let mut child = command(&["echo", "--listen", "127.0.0.1:0"], here.path())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let echo = Running(Some(child));
    let line = lines.next().unwrap().unwrap();
    let address = line
        .strip_prefix("open http://")
        .and_then(|rest| rest.split(' ').next())
        .unwrap();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let endpoint = Endpoint::new(visavis::Settings::loopback()).unwrap();
        let peer = endpoint.peer_connection(Configuration::default()).unwrap();
        let mut channel = peer
            .create_data_channel("echo", visavis::ChannelOptions::default())
            .unwrap();
        let sender = peer.add_track(Kind::Video, "camera", &[]).unwrap();
        peer.set_local_description(None).await.unwrap();
        let offer = peer.gathered().await.unwrap().sdp;
        let page = request(address, "GET / HTTP/1.1", "").await;
        assert!(page.contains("<h1>Echo</h1>"), "{page}");
        let refused = request(address, "POST /offer HTTP/1.1", "no offer").await;
        assert!(refused.starts_with("HTTP/1.1 400"), "{refused}");
        let answer = request(address, "POST /offer HTTP/1.1", &offer).await;
        let (_, answer) = answer.split_once("\r\n\r\n").unwrap();
        peer.set_remote_description(&Description::answer(answer))
            .unwrap();
        channel.opened().await.unwrap();
        channel.feed("hello").await.unwrap();
        assert_eq!(channel.recv().await, Some(Message::Text("hello".into())));
        let receiver = sender.transceiver().receiver();
        let playing = tokio::spawn(async move {
            for number in 0_u32.. {
                let key = number % 10 == 0;
                let mut frame = vec![0x11, 0, 0];
                if key {
                    frame = vec![0x10, 0, 0, 0x9d, 0x01, 0x2a, 0x40, 0x01, 0xf0, 0x00];
                }
                frame.extend([number as u8; 900]);
                let _ = sender.send_frame(&OutgoingFrame::new(number * 3000, key, &frame));
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        });
        for _ in 0..20 {
            let frame = tokio::time::timeout(Duration::from_secs(20), receiver.recv_frame());
            assert!(!frame.await.unwrap().unwrap().data.is_empty());
        }
        playing.abort();
    });
    echo.interrupt();
    assert_eq!(echo.output().status.code(), Some(0));
}

/// One HTTP request: the whole response.
async fn request(address: &str, line: &str, body: &str) -> String {
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let head = format!(
        "{line}\r\nhost: {address}\r\nconnection: close\r\ncontent-type: application/sdp\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(body.as_bytes()).await.unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).await.unwrap();
    response
}
