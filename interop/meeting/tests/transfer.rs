//! Files between `visavis send`, `visavis receive` and the pages for both, 200 MB each way.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};

use interop_meeting::{Server, artefacts, binary, in_namespace, interop};

const MEGABYTES: usize = 200;

/// A program that runs, and its lines. Ends with its owner.
struct Running {
    child: Child,
    lines: std::io::Lines<BufReader<ChildStdout>>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().expect("it runs");
        let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
        Self { child, lines }
    }

    /// The rest of the next line that begins so.
    fn line(&mut self, beginning: &str) -> String {
        for line in self.lines.by_ref().map_while(Result::ok) {
            println!("{line}");
            if let Some(rest) = line.strip_prefix(beginning) {
                return rest.to_owned();
            }
        }
        panic!("it ended before it said {beginning:?}");
    }

    fn succeeds(mut self) {
        for line in self.lines.by_ref().map_while(Result::ok) {
            println!("{line}");
        }
        assert!(self.child.wait().expect("a child").success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A folder of this test's own, with a file of noise and its digest.
fn noise(name: &str) -> (PathBuf, PathBuf, String) {
    let folder = artefacts().join(format!("transfer-{name}"));
    let _ = std::fs::remove_dir_all(&folder);
    std::fs::create_dir_all(&folder).expect("a folder");
    let path = folder.join("noise.bin");
    let mut file = std::fs::File::create(&path).expect("a file");
    let mut state = 0x9e37_79b9_7f4a_7c15_u64;
    for _ in 0..MEGABYTES {
        let mut block = Vec::with_capacity(1_000_000);
        while block.len() < 1_000_000 {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            block.extend_from_slice(&state.to_le_bytes());
        }
        file.write_all(&block).expect("room on the disk");
    }
    let sum = sha256(&path);
    (folder, path, sum)
}

fn sha256(path: &Path) -> String {
    let output = Command::new("sha256sum")
        .arg(path)
        .output()
        .expect("sha256sum runs");
    let text = String::from_utf8(output.stdout).expect("text");
    text.split(' ').next().expect("a digest").to_owned()
}

fn browser(action: &str, kind: &str) -> Command {
    let mut command = Command::new("node");
    command.arg(interop().join("meeting/driver/transfer.mjs"));
    command.args([action, kind]).current_dir(interop());
    command
}

fn into_and_out_of(kind: &str) {
    // Browsers offer no loopback candidates: it takes an interface, which the namespace has.
    if !in_namespace() {
        return;
    }
    let Some(server) = Server::start() else {
        return;
    };
    let (folder, path, sum) = noise(kind);
    let url = server.url.trim_end_matches('/');

    let mut send = Command::new(binary());
    send.args(["send", "--no-qr", "--server", url]).arg(&path);
    let mut sender = Running::start(&mut send);
    sender.line("or in a browser");
    let link = sender.line("    http");
    let mut receiver = Running::start(browser("receive", kind).arg(format!("http{link}")));
    assert_eq!(receiver.line("sha256 "), sum);
    receiver.succeeds();
    sender.succeeds();

    let mut sender = Running::start(browser("send", kind).arg(format!("{url}/send")).arg(&path));
    let link = sender.line("link ");
    let out = folder.join("received");
    std::fs::create_dir(&out).expect("a folder");
    let status = Command::new(binary())
        .args(["receive", "--yes", &link])
        .current_dir(&out)
        .stdin(Stdio::null())
        .status()
        .expect("it runs");
    assert!(status.success());
    assert_eq!(sha256(&out.join("noise.bin")), sum);
    sender.line("sent");
    sender.succeeds();
    let _ = std::fs::remove_dir_all(folder);
}

#[test]
fn chromium_receives_and_sends() {
    into_and_out_of("chromium");
}

#[test]
fn firefox_receives_and_sends() {
    into_and_out_of("firefox");
}
