//! What a person sees of `send` and `receive` at a terminal, and is asked there.
#![cfg(target_os = "linux")]

mod common;

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use common::{Running, noise, rendezvous, send, visavis};
use rustix::fs::{Mode, OFlags, open};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Winsize, tcsetwinsize};
use tempfile::tempdir;

/// How long a program may take to show what is waited for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A program at a terminal of its own. Killed with its owner.
struct Terminal {
    child: Child,
    keyboard: File,
    shown: Receiver<Vec<u8>>,
    /// All of it so far, with what moves the cursor.
    screen: String,
}

impl Terminal {
    fn new(mut command: Command, columns: u16) -> Self {
        let master = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let size = Winsize {
            ws_row: 24,
            ws_col: columns,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        tcsetwinsize(&master, size).unwrap();
        let end = || open(&name, OFlags::RDWR | OFlags::NOCTTY, Mode::empty()).unwrap();
        let child = command
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .env("TERM", "xterm")
            .spawn()
            .unwrap();
        // Its own copies of the terminal's other end would keep it open.
        drop(command);
        let keyboard = File::from(master);
        let mut screen = keyboard.try_clone().unwrap();
        let (sender, shown) = channel();
        thread::spawn(move || {
            let mut buffer = [0; 4096];
            // An error is the end: nobody has the other side open any more.
            while let Ok(len @ 1..) = screen.read(&mut buffer) {
                if sender.send(buffer[..len].to_vec()).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            keyboard,
            shown,
            screen: String::new(),
        }
    }

    /// Waits until the screen has had this on it.
    #[track_caller]
    fn shows(&mut self, what: impl Fn(&str) -> bool) {
        let until = Instant::now() + PATIENCE;
        while !what(&self.screen) {
            let left = until.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(_) => panic!("it was not shown: {:?}", self.screen),
            }
        }
    }

    fn types(&mut self, keys: &str) {
        self.keyboard.write_all(keys.as_bytes()).unwrap();
    }

    /// The exit code, and everything that was shown.
    #[track_caller]
    fn ends(mut self) -> (Option<i32>, String) {
        let until = Instant::now() + PATIENCE;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.shown.recv_timeout(left) {
                Ok(bytes) => self.screen.push_str(&String::from_utf8_lossy(&bytes)),
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => panic!("it does not end: {:?}", self.screen),
            }
        }
        let code = self.child.wait().unwrap().code();
        (code, std::mem::take(&mut self.screen))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The bars in what was shown, without what moves the cursor and wipes lines: ESC, "[", numbers, a letter.
fn bars(screen: &str) -> impl Iterator<Item = &str> {
    let parts = screen.split(['\r', '\n', '\x1b']);
    let parts = parts.map(|part| match part.strip_prefix('[') {
        Some(control) => control.trim_start_matches(|c: char| c.is_ascii_digit()),
        None => part,
    });
    let parts = parts.map(|part| part.strip_prefix(['A', 'B', 'K']).unwrap_or(part));
    parts.filter(|part| part.contains("% "))
}

/// A part done, with a rate, and how long the rest takes.
fn is_bar(line: &str) -> bool {
    let words: Vec<&str> = line.split_whitespace().collect();
    let percent = |word: &&str| {
        let number = word.strip_suffix('%').and_then(|word| word.parse().ok());
        number.is_some_and(|number: u32| (1..100).contains(&number))
    };
    let left = words.windows(2).any(|pair| {
        let seconds = pair[0].strip_suffix('s').map(str::parse::<u32>);
        pair[1] == "left" && seconds.is_some_and(|seconds| seconds.is_ok_and(|left| left < 60))
    });
    words.iter().any(percent) && left && words.iter().any(|word| word.ends_with("MB/s"))
}

#[test]
fn the_bars_of_both_sides_show_rate_and_time_left() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    fs::write(from.path().join("big"), noise(12 << 20)).unwrap();
    let arguments = ["send", "--server", &server, "--rate", "4M", "big"];
    let mut sender = Terminal::new(visavis(&arguments, from.path()), 100);
    sender.shows(|screen| screen.contains("or in a browser"));
    let line = sender.screen.lines().find(|line| line.contains("visavis"));
    let code = line.unwrap().trim().split(' ').next_back().unwrap();
    let arguments = ["receive", "--yes", "--server", &server, code];
    let mut receiver = Terminal::new(visavis(&arguments, to.path()), 100);
    for side in [&mut sender, &mut receiver] {
        side.shows(|screen| bars(screen).any(is_bar));
    }
    let (code, screen) = receiver.ends();
    assert_eq!(code, Some(0), "{screen:?}");
    // Three seconds of them: the last says that it is nearly done, and is wiped away.
    assert!(screen.contains("received ./big"), "{screen:?}");
    let (code, screen) = sender.ends();
    assert_eq!(code, Some(0), "{screen:?}");
    assert!(screen.contains("sent and verified"), "{screen:?}");
}

#[test]
fn a_narrow_terminal_has_a_bar_of_one_line() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    fs::write(from.path().join("big"), noise(4 << 20)).unwrap();
    let (_sender, code, _) = send(&server, &["--rate", "2M", "big"], from.path());
    let arguments = ["receive", "--yes", "--server", &server, &code];
    let (code, screen) = Terminal::new(visavis(&arguments, to.path()), 40).ends();
    assert_eq!(code, Some(0), "{screen:?}");
    assert!(bars(&screen).any(is_bar), "{screen:?}");
    for bar in bars(&screen) {
        assert!(bar.chars().count() <= 40, "{bar:?}");
    }
}

/// A receiver at a terminal, in a directory with an older `a`, and its sender.
fn asked(arguments: &[&str], folder: &Path) -> (Running, Terminal) {
    let (from, server) = (folder.join("from"), rendezvous());
    fs::create_dir(&from).unwrap();
    fs::write(from.join("a"), "new").unwrap();
    fs::write(folder.join("a"), "old").unwrap();
    let (sender, code, _) = send(&server, &["a"], &from);
    let arguments = [&["receive", "--server", &server][..], arguments, &[&code]].concat();
    (sender, Terminal::new(visavis(&arguments, folder), 80))
}

#[test]
fn a_person_is_asked_whether_to_receive_it() {
    for (keys, taken) in [("\n", true), ("y\n", true), ("n\n", false), ("\x04", false)] {
        let here = tempdir().unwrap();
        let (mut sender, mut receiver) = asked(&["-o", "b"], here.path());
        receiver.shows(|screen| screen.contains("a (3 B)") && screen.contains("[Y/n]"));
        receiver.types(keys);
        let (code, screen) = receiver.ends();
        let expected = if taken { 0 } else { 7 };
        assert_eq!(code, Some(expected), "{keys:?}: {screen:?}");
        assert_eq!(here.path().join("b").exists(), taken, "{keys:?}");
        assert_eq!(sender.code(), Some(expected), "{keys:?}");
    }
}

#[test]
fn a_person_is_asked_what_becomes_of_a_file_that_is_there() {
    for (keys, code, old, renamed) in [
        ("o\n", 0, "new", false),
        ("rename\n", 0, "old", true),
        ("\n", 6, "old", false),
        ("c\n", 6, "old", false),
        ("what?\n", 6, "old", false),
        ("\x04", 6, "old", false),
    ] {
        let here = tempdir().unwrap();
        let (_sender, mut receiver) = asked(&["--yes"], here.path());
        receiver
            .shows(|screen| screen.contains("a is there already") && screen.contains("[o/r/C]"));
        receiver.types(keys);
        let (ended, screen) = receiver.ends();
        assert_eq!(ended, Some(code), "{keys:?}: {screen:?}");
        let there = |name: &str| fs::read_to_string(here.path().join(name));
        assert_eq!(there("a").unwrap(), old, "{keys:?}");
        assert_eq!(there("a (2)").is_ok(), renamed, "{keys:?}");
    }
}

#[test]
fn ctrl_c_at_a_question_is_an_interruption() {
    let here = tempdir().unwrap();
    let (_sender, mut receiver) = asked(&[], here.path());
    receiver.shows(|screen| screen.contains("[Y/n]"));
    let id = receiver.child.id().to_string();
    let killed = Command::new("kill").args(["-INT", &id]).status();
    assert!(killed.unwrap().success());
    let (code, screen) = receiver.ends();
    assert_eq!(code, Some(130), "{screen:?}");
    assert_eq!(fs::read_to_string(here.path().join("a")).unwrap(), "old");
}
