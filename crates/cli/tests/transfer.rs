//! `visavis send` and `visavis receive`, as their users run them.

mod common;

use std::fs;
use std::io::Write;
use std::process::Stdio;

use common::{Running, noise, partial, receive, rendezvous, send, visavis};
use tempfile::{TempDir, tempdir};

#[test]
fn a_directory_arrives_as_it_was() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    let photos = from.path().join("photos");
    fs::create_dir_all(photos.join("2026/empty")).unwrap();
    let big = noise(3_500_000);
    fs::write(photos.join("2026/big.bin"), &big).unwrap();
    fs::write(photos.join("ü.txt"), "text").unwrap();
    fs::write(photos.join("nothing"), "").unwrap();
    for number in 0..200 {
        fs::write(photos.join(format!("{number}")), format!("{number}")).unwrap();
    }
    let (mut sender, code, _) = send(&server, &["photos"], from.path());
    let received = receive(&server, &[&code], to.path());
    assert!(received.status.success(), "{received:?}");
    assert_eq!(sender.code(), Some(0));
    let arrived = to.path().join("photos");
    assert_eq!(fs::read(arrived.join("2026/big.bin")).unwrap(), big);
    assert_eq!(fs::read_to_string(arrived.join("ü.txt")).unwrap(), "text");
    assert_eq!(fs::read(arrived.join("nothing")).unwrap(), b"");
    assert_eq!(fs::read_to_string(arrived.join("199")).unwrap(), "199");
    assert!(arrived.join("2026/empty").is_dir());
    assert_eq!(
        fs::read_dir(to.path()).unwrap().count(),
        1,
        "nothing else is left"
    );
}

#[test]
fn a_link_is_as_good_as_a_code_and_several_receive_at_once() {
    let (from, server) = (tempdir().unwrap(), rendezvous());
    let data = noise(4 << 20);
    fs::write(from.path().join("a"), &data).unwrap();
    let arguments = ["--receivers", "2", "--rate", "2M", "a"];
    let (mut sender, code, link) = send(&server, &arguments, from.path());
    let mut receivers = [&link, &code].map(|invitation| {
        let to = tempdir().unwrap();
        let arguments = ["receive", "--json", "--server", &server, invitation];
        (Running::start(visavis(&arguments, to.path())), to)
    });
    // The rate leaves each two seconds: both have begun before one has ended.
    for (receiver, _) in &mut receivers {
        receiver.event("begin");
    }
    assert!(
        receivers
            .iter()
            .all(|(_, to)| !to.path().join("a").exists())
    );
    for (mut receiver, to) in receivers {
        assert_eq!(receiver.code(), Some(0));
        assert!(fs::read(to.path().join("a")).unwrap() == data);
    }
    assert_eq!(sender.code(), Some(0));
}

#[test]
fn a_wrong_code_gets_nothing_and_too_many_end_it() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    fs::write(from.path().join("a"), "secret").unwrap();
    let (mut sender, code, _) = send(&server, &["a"], from.path());
    let slot = code.split('-').next().unwrap();
    let wrong = format!("{slot}-zebra-zebra-zebra");
    for _ in 0..5 {
        let refused = receive(&server, &[&wrong], to.path());
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    }
    assert_eq!(sender.code(), Some(3));
    let gone = receive(&server, &[&code], to.path());
    assert_ne!(gone.status.code(), Some(0), "{gone:?}");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 0);
}

#[test]
fn nobody_under_the_code_is_told_at_once() {
    let (to, server) = (tempdir().unwrap(), rendezvous());
    let refused = receive(&server, &["1234-zebra-zebra-zebra"], to.path());
    assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    let text = String::from_utf8(refused.stderr).unwrap();
    assert!(text.contains("nobody waits under this code"), "{text}");
    let typo = receive(&server, &["1234-zebrah"], to.path());
    assert_eq!(typo.status.code(), Some(3));
    assert!(
        String::from_utf8(typo.stderr)
            .unwrap()
            .contains("did you mean")
    );
    let nowhere = receive("http://127.0.0.1:9", &["1234-zebra"], to.path());
    assert_eq!(nowhere.status.code(), Some(4), "{nowhere:?}");
}

/// A transfer in the midst of its only file.
struct Midway {
    from: TempDir,
    to: TempDir,
    server: String,
    code: String,
    data: Vec<u8>,
    sender: Running,
    receiver: Running,
}

impl Midway {
    /// Slow enough that it does not end before something happens to it.
    fn new() -> Self {
        let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
        let data = noise(24 << 20);
        fs::write(from.path().join("big"), &data).unwrap();
        let (sender, code, _) = send(&server, &["--rate", "8M", "big"], from.path());
        let arguments = ["receive", "--json", "--server", &server, &code];
        let mut receiver = Running::start(visavis(&arguments, to.path()));
        receiver.event("begin");
        let midway = Self {
            from,
            to,
            server,
            code,
            data,
            sender,
            receiver,
        };
        // As soon as there is something to go on with.
        while partial(midway.to.path()) < 3 << 20 {
            std::thread::yield_now();
        }
        midway
    }

    /// The same command of the receiver again.
    fn receive_again(&mut self) {
        let arguments = ["receive", "--json", "--server", &self.server, &self.code];
        self.receiver = Running::start(visavis(&arguments, self.to.path()));
    }

    /// A sender of the same file; gives its code.
    fn send_again(&mut self, arguments: &[&str]) -> String {
        let arguments = [arguments, &["big"]].concat();
        let (sender, code, _) = send(&self.server, &arguments, self.from.path());
        self.sender = sender;
        code
    }

    /// The receiver begins again, where it was.
    fn goes_on(&mut self) {
        let have = self.receiver.event("begin")["have"].as_u64().unwrap();
        assert!(have >= 2 << 20, "{have}");
    }

    /// No partial file passes for the whole.
    fn is_not_in_its_place(&self) {
        assert!(!self.to.path().join("big").exists());
    }

    /// To its end.
    fn arrives(mut self) {
        assert_eq!(self.receiver.code(), Some(0));
        assert_eq!(self.sender.code(), Some(0));
        assert!(fs::read(self.to.path().join("big")).unwrap() == self.data);
    }
}

#[test]
fn a_receiver_that_was_killed_goes_on_where_it_was() {
    let mut midway = Midway::new();
    midway.receiver.kill();
    midway.is_not_in_its_place();
    midway.receive_again();
    midway.goes_on();
    midway.arrives();
}

#[cfg(unix)]
#[test]
fn ctrl_c_leaves_what_can_be_gone_on_with() {
    let mut midway = Midway::new();
    midway.receiver.interrupt();
    let told = midway.receiver.event("error")["message"].to_string();
    assert!(told.contains("run the same command again"), "{told}");
    assert_eq!(midway.receiver.code(), Some(130));
    midway.is_not_in_its_place();
    midway.receive_again();
    midway.goes_on();
    midway.sender.interrupt();
    let told = midway.sender.event("error")["message"].to_string();
    assert!(told.contains("kept by the receiver"), "{told}");
    assert_eq!(midway.sender.code(), Some(130));
    let code = midway.code.clone();
    midway.send_again(&["--code", &code]);
    midway.arrives();
}

#[test]
fn a_sender_that_was_killed_goes_on_with_its_code() {
    let mut midway = Midway::new();
    midway.sender.kill();
    let code = midway.code.clone();
    assert_eq!(midway.send_again(&["--code", &code]), code);
    // The receiver comes back by itself.
    midway.goes_on();
    midway.arrives();
}

#[test]
fn what_changed_since_is_sent_anew() {
    let mut midway = Midway::new();
    midway.receiver.kill();
    midway.sender.kill();
    midway.data[17] ^= 1;
    fs::write(midway.from.path().join("big"), &midway.data).unwrap();
    midway.code = midway.send_again(&[]);
    midway.receive_again();
    midway.arrives();
}

#[test]
fn what_changes_under_way_is_told_on_both_sides() {
    let mut midway = Midway::new();
    let big = midway.from.path().join("big");
    fs::File::options()
        .write(true)
        .open(big)
        .unwrap()
        .set_len(1 << 20)
        .unwrap();
    let told = midway.receiver.event("error")["message"].to_string();
    assert!(told.contains("it shrank while it was sent"), "{told}");
    assert_eq!(midway.receiver.code(), Some(6));
    assert_eq!(midway.sender.code(), Some(6));
    midway.is_not_in_its_place();
}

#[test]
fn standard_input_becomes_standard_output() {
    let (here, server) = (tempdir().unwrap(), rendezvous());
    let data = noise(1_000_000);
    let arguments = ["send", "--quiet", "--server", &server, "--name", "x", "-"];
    let mut sender = visavis(&arguments, here.path())
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut code = String::new();
    let stdout = sender.stdout.take().unwrap();
    std::io::BufRead::read_line(&mut std::io::BufReader::new(stdout), &mut code).unwrap();
    let mut input = sender.stdin.take().unwrap();
    let sent = data.clone();
    let feeder = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let arguments = [
        "receive",
        "--quiet",
        "--server",
        &server,
        "-o",
        "-",
        code.trim(),
    ];
    let received = visavis(&arguments, here.path()).output().unwrap();
    feeder.join().unwrap();
    assert!(received.status.success(), "{received:?}");
    assert!(received.stdout == data);
    assert!(sender.wait().unwrap().success());
}

#[test]
fn nothing_is_overwritten_unless_told() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    fs::write(from.path().join("a.txt"), "new").unwrap();
    fs::write(to.path().join("a.txt"), "old").unwrap();
    let (mut sender, code, _) = send(&server, &["--receivers", "3", "a.txt"], from.path());
    let refused = receive(&server, &[&code], to.path());
    assert_eq!(refused.status.code(), Some(6), "{refused:?}");
    assert_eq!(fs::read_to_string(to.path().join("a.txt")).unwrap(), "old");
    assert!(
        receive(&server, &["--rename", &code], to.path())
            .status
            .success()
    );
    assert_eq!(
        fs::read_to_string(to.path().join("a (2).txt")).unwrap(),
        "new"
    );
    assert!(
        receive(&server, &["--overwrite", &code], to.path())
            .status
            .success()
    );
    assert_eq!(fs::read_to_string(to.path().join("a.txt")).unwrap(), "new");
    let named = to.path().join("b.txt");
    let output = ["-o", named.to_str().unwrap(), &code];
    assert!(receive(&server, &output, to.path()).status.success());
    assert_eq!(fs::read_to_string(named).unwrap(), "new");
    assert_eq!(sender.code(), Some(0));
}

#[test]
fn what_cannot_be_stored_can_be_asked_for_again() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    fs::write(from.path().join("a.txt"), "new").unwrap();
    fs::write(to.path().join("a.txt"), "old").unwrap();
    let (mut sender, code, _) = send(&server, &["a.txt"], from.path());
    let taken = receive(&server, &[&code], to.path());
    assert_eq!(taken.status.code(), Some(6), "{taken:?}");
    sender.event("failed");
    let below_a_file = receive(&server, &["-o", "a.txt/below", &code], to.path());
    assert_eq!(below_a_file.status.code(), Some(6), "{below_a_file:?}");
    sender.event("failed");
    let made = receive(&server, &["-o", "made/", &code], to.path());
    assert!(made.status.success(), "{made:?}");
    let arrived = to.path().join("made/a.txt");
    assert_eq!(fs::read_to_string(arrived).unwrap(), "new");
    assert_eq!(fs::read_to_string(to.path().join("a.txt")).unwrap(), "old");
    assert_eq!(sender.code(), Some(0));
}

#[test]
fn several_files_come_into_the_directory_that_is_named() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    fs::write(from.path().join("a"), "a").unwrap();
    fs::write(from.path().join("b"), "b").unwrap();
    let (mut sender, code, _) = send(&server, &["a", "b"], from.path());
    let received = receive(&server, &["-o", "both", &code], to.path());
    assert!(received.status.success(), "{received:?}");
    assert_eq!(fs::read_to_string(to.path().join("both/b")).unwrap(), "b");
    assert_eq!(fs::read_dir(to.path()).unwrap().count(), 1);
    assert_eq!(sender.code(), Some(0));
}

#[test]
fn what_cannot_be_sent_is_told_before_anything_starts() {
    let (from, server) = (tempdir().unwrap(), rendezvous());
    let run = |path: &str| {
        let output = visavis(&["send", "--server", &server, path], from.path()).output();
        output.unwrap()
    };
    let missing = run("missing");
    assert_eq!(missing.status.code(), Some(6));
    assert!(
        String::from_utf8(missing.stderr)
            .unwrap()
            .contains("cannot read missing")
    );
    assert_eq!(run("/dev/null").status.code(), Some(6));
}

/// Without a server the two have to be on one network; here a router is between them.
#[test]
#[cfg(target_os = "linux")]
fn who_is_on_another_network_is_not_found_and_a_server_is_advised() {
    let Some(lab) = common::lab::lab() else {
        return;
    };
    let from = tempdir().unwrap();
    fs::write(from.path().join("a"), "a").unwrap();
    let inside = |machine: &str, arguments: &[&str]| {
        let mut program = lab.inside(machine, env!("CARGO_BIN_EXE_visavis"));
        program.args(arguments).current_dir(from.path());
        program.env_remove("VISAVIS_SERVER").stdin(Stdio::null());
        program.stdout(Stdio::piped()).stderr(Stdio::piped());
        program
    };
    let mut sender = Running::start(inside("server", &["send", "--json", "a"]));
    let code = sender.event("waiting")["code"].as_str().unwrap().to_owned();
    let alone = inside("home", &["receive", &code]).output().unwrap();
    assert_eq!(alone.status.code(), Some(4), "{alone:?}");
    let said = String::from_utf8(alone.stderr).unwrap();
    assert!(said.contains("on this network"), "{said}");
    assert!(said.contains("--server URL"), "{said}");
}

/// Needs root, for a small file system of its own.
#[test]
#[cfg(target_os = "linux")]
fn a_full_disk_is_told_on_both_sides_and_the_transfer_goes_on_elsewhere() {
    let (from, to, server) = (tempdir().unwrap(), tempdir().unwrap(), rendezvous());
    let small = tempdir().unwrap();
    let data = noise(24 << 20);
    fs::write(from.path().join("big"), &data).unwrap();
    let (mut sender, code, _) = send(&server, &["big"], from.path());
    let script = "mount -t tmpfs -o size=4m tmpfs . || exit 99; cd \"$PWD\"; exec \"$@\"";
    let received = std::process::Command::new("unshare")
        .args([
            "--mount",
            "sh",
            "-c",
            script,
            "sh",
            env!("CARGO_BIN_EXE_visavis"),
        ])
        .args(["receive", "--json", "--server", &server, &code])
        .current_dir(small.path())
        .output();
    let received = match received {
        Ok(output) if !matches!(output.status.code(), Some(1 | 99)) => output,
        other => {
            eprintln!("skipped: no small file system can be mounted here: {other:?}");
            return;
        }
    };
    assert_eq!(received.status.code(), Some(6), "{received:?}");
    let said = String::from_utf8(received.stderr).unwrap();
    assert!(said.contains("the disk is full"), "{said}");
    let reason = sender.event("failed")["reason"].to_string();
    assert!(reason.contains("gave up"), "{reason}");
    let elsewhere = receive(&server, &[&code], to.path());
    assert!(elsewhere.status.success(), "{elsewhere:?}");
    assert!(fs::read(to.path().join("big")).unwrap() == data);
    assert_eq!(sender.code(), Some(0));
}
