//! `visavis join` through what ends a session: signalling that is cut, a server that is killed and started again.
#![cfg(unix)]

mod common;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use common::{film, visavis};
use tempfile::tempdir;

/// How long anything here may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// A program, and what it says on standard error.
struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(arguments: &[&str], directory: &Path) -> Self {
        let mut child = visavis(arguments, directory).spawn().unwrap();
        let errors = child.stderr.take().unwrap();
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(errors).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    #[track_caller]
    fn says(&self, part: &str) {
        let until = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return,
                Ok(line) => said.push(line),
                Err(_) => panic!("it does not say {part:?}, but {said:#?}"),
            }
        }
    }

    fn interrupt(mut self) -> Option<i32> {
        let id = self.child.id().to_string();
        let killed = Command::new("kill").args(["-INT", &id]).status();
        assert!(killed.unwrap().success());
        self.child.wait().unwrap().code()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `visavis serve` on a port; killed without a word when dropped.
struct Serve(Child);

impl Serve {
    fn start(address: SocketAddr, directory: &Path) -> Self {
        let listen = address.to_string();
        let mut serve = visavis(
            &["serve", "--listen", &listen, "--no-tls", "--turn", "false"],
            directory,
        );
        let mut child = serve.stderr(Stdio::null()).spawn().unwrap();
        let mut out = BufReader::new(child.stdout.take().unwrap());
        let mut line = String::new();
        while !line.contains("is ready") {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "it ended");
        }
        thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        Self(child)
    }
}

impl Drop for Serve {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
}

/// Passes TCP connections on to a server, and cuts those that there are when told.
struct Wire {
    address: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(server: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let open: Arc<Mutex<Vec<TcpStream>>> = Arc::default();
        let all = Arc::clone(&open);
        thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                let Ok(far) = TcpStream::connect(server) else {
                    continue;
                };
                for (from, to) in [(&near, &far), (&far, &near)] {
                    let mut ends = (from.try_clone().unwrap(), to.try_clone().unwrap());
                    thread::spawn(move || {
                        let _ = std::io::copy(&mut ends.0, &mut ends.1);
                        let _ = ends.1.shutdown(std::net::Shutdown::Both);
                    });
                }
                all.lock().unwrap().push(near);
            }
        });
        Self { address, open }
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(std::net::Shutdown::Both);
        }
    }
}

/// Sizes of the pictures' files, in the order of their names.
fn sizes(directory: &Path) -> Vec<u64> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<_> = entries
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|kind| kind == "webm"))
        .collect();
    files.sort();
    let size = |path| fs::metadata(path).map_or(0, |metadata| metadata.len());
    files.iter().map(size).collect()
}

#[track_caller]
fn until(what: &str, condition: impl Fn() -> bool) {
    let end = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < end, "never: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_session_whose_signalling_is_cut_is_taken_up_again() {
    let here = tempdir().unwrap();
    film(&here.path().join("film.ivf"));
    let address = free_address();
    let _serve = Serve::start(address, here.path());
    let wire = Wire::to(address);
    let direct = format!("http://{address}/r/lobby");
    let wired = format!("http://{}/r/lobby", wire.address);
    let publisher = ["join", &direct, "--publish", "film.ivf", "--loop"];
    let publisher = Running::start(&publisher, here.path());
    publisher.says("in the room");
    let recorder = Running::start(&["join", &wired, "--record", "out"], here.path());
    let out = here.path().join("out");
    until("pictures come", || {
        sizes(&out).first().is_some_and(|size| *size > 20_000)
    });
    wire.cut();
    recorder.says("trying to get back");
    recorder.says("back in the room");
    // The same track goes on: there is one file, and it grows.
    let before = sizes(&out);
    until("more pictures come", || sizes(&out)[0] > before[0] + 50_000);
    assert_eq!(sizes(&out).len(), 1);
    assert_eq!(recorder.interrupt(), Some(0));
    assert_eq!(publisher.interrupt(), Some(0));
}

#[test]
fn a_server_that_was_killed_is_joined_anew() {
    let here = tempdir().unwrap();
    film(&here.path().join("film.ivf"));
    let address = free_address();
    let serve = Serve::start(address, here.path());
    let link = format!("http://{address}/r/lobby");
    let publisher = ["join", &link, "--publish", "film.ivf", "--loop"];
    let publisher = Running::start(&publisher, here.path());
    publisher.says("in the room");
    let recorder = Running::start(&["join", &link, "--record", "out"], here.path());
    let out = here.path().join("out");
    until("pictures come", || {
        sizes(&out).first().is_some_and(|size| *size > 20_000)
    });
    drop(serve);
    for one in [&publisher, &recorder] {
        one.says("trying to get back");
    }
    let _serve = Serve::start(address, here.path());
    for one in [&publisher, &recorder] {
        one.says("in the room \"lobby\" again");
    }
    until("pictures come again", || {
        sizes(&out).get(1).is_some_and(|size| *size > 20_000)
    });
    assert_eq!(recorder.interrupt(), Some(0));
    assert_eq!(publisher.interrupt(), Some(0));
}

#[test]
fn a_server_that_does_not_come_back_is_given_up() {
    let here = tempdir().unwrap();
    let address = free_address();
    let serve = Serve::start(address, here.path());
    let link = format!("http://{address}/r/lobby");
    let mut one = Running::start(&["join", &link, "--retry", "1"], here.path());
    one.says("in the room");
    drop(serve);
    one.says("cannot reach the server");
    assert_eq!(one.child.wait().unwrap().code(), Some(5));
}
