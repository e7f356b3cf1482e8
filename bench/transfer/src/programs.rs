//! The programs that move a file from the left home to the right one.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::lab::{Lab, RIGHT, SERVER};

/// How long a program may take to say that it is ready.
const READY: Duration = Duration::from_secs(20);

/// A program that is killed with its owner, and the lines that it prints.
pub(crate) struct Running {
    child: Child,
    lines: Receiver<String>,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let output: ChildStdout = child.stdout.take().expect("piped");
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let _ = sender.send(line);
            }
        });
        Self { child, lines }
    }

    /// The first line that says so.
    fn line(&self, which: impl Fn(&str) -> bool) -> String {
        let deadline = Instant::now() + READY;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if which(&line) => return line,
                Ok(_) => {}
                Err(_) => panic!("a program is not ready in {READY:?}"),
            }
        }
    }

    fn event(&self, name: &str) -> Value {
        let parse = |line: &str| serde_json::from_str::<Value>(line).ok();
        let line = self.line(|line| parse(line).is_some_and(|event| event["event"] == name));
        parse(&line).expect("parsed before")
    }

    /// Events of that name which it has printed since it was last asked.
    pub(crate) fn count(&self, name: &str) -> usize {
        let wanted = |line: &String| {
            serde_json::from_str::<Value>(line).is_ok_and(|event| event["event"] == name)
        };
        self.lines.try_iter().filter(wanted).count()
    }

    /// Whether it has ended, and well.
    pub(crate) fn ended(&mut self) -> Option<bool> {
        let status = self.child.try_wait().expect("a child of ours");
        status.map(|status| status.success())
    }

    pub(crate) fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `visavis`: from `$VISAVIS_BINARY`.
pub(crate) struct Visavis<'a> {
    lab: &'a Lab,
    binary: PathBuf,
    code: String,
    pub(crate) sender: Running,
    _server: Running,
}

impl<'a> Visavis<'a> {
    /// Starts a rendezvous with a relay, and a sender that waits.
    pub(crate) fn offer(lab: &'a Lab, file: &Path) -> Self {
        let binary =
            std::env::var_os("VISAVIS_BINARY").expect("VISAVIS_BINARY: `cargo xtask` sets it");
        let binary = PathBuf::from(binary);
        let program = binary.to_str().expect("a path of UTF-8");
        let mut server = lab.inside("srv", program);
        server.args([
            "serve",
            "--listen",
            &format!("{SERVER}:80"),
            "--no-tls",
            "--dev",
        ]);
        server.env("VISAVIS_LOG", "error");
        let server = Running::start(&mut server);
        server.line(|line| line.starts_with("Visavis is ready"));
        let mut sender = lab.inside("left", program);
        sender.args(["send", "--json", "--server", &format!("http://{SERVER}")]);
        let sender = Running::start(sender.arg(file).stderr(Stdio::null()));
        let waiting = sender.event("waiting");
        Self {
            lab,
            code: waiting["code"].as_str().expect("a code").to_owned(),
            binary,
            sender,
            _server: server,
        }
    }

    pub(crate) fn receive(&self, folder: &Path) -> Running {
        let program = self.binary.to_str().expect("a path of UTF-8");
        let mut receiver = self.lab.inside("right", program);
        receiver.args(["receive", "--json", "--server", &format!("http://{SERVER}")]);
        receiver.arg("--output").arg(folder).arg(&self.code);
        Running::start(receiver.stderr(Stdio::null()))
    }
}

/// `scp` and `rsync`, to a server of SSH in the right home.
pub(crate) struct Ssh<'a> {
    lab: &'a Lab,
    folder: &'a Path,
    _server: Running,
}

const SSHD: &str = "/usr/sbin/sshd";

impl<'a> Ssh<'a> {
    /// `None` where there is no such server.
    pub(crate) fn start(lab: &'a Lab, folder: &'a Path) -> Option<Self> {
        if !Path::new(SSHD).exists() {
            return None;
        }
        let _ = fs::create_dir_all("/run/sshd");
        for key in ["host", "user"] {
            let path = folder.join(key);
            if !path.exists() {
                let mut make = Command::new("ssh-keygen");
                make.args(["-q", "-t", "ed25519", "-N", "", "-f"])
                    .arg(&path);
                assert!(
                    make.status().is_ok_and(|status| status.success()),
                    "ssh-keygen"
                );
            }
        }
        let place = |name: &str| folder.join(name).display().to_string();
        let mut server = lab.inside("right", SSHD);
        server.args(["-D", "-e", "-f", "/dev/null", "-h", &place("host")]);
        for option in [
            "ListenAddress=0.0.0.0",
            "StrictModes=no",
            "UsePAM=no",
            "PermitRootLogin=yes",
            "PidFile=none",
            "Subsystem=sftp internal-sftp",
            &format!("AuthorizedKeysFile={}", place("user.pub")),
        ] {
            server.args(["-o", option]);
        }
        server.stderr(Stdio::piped());
        let mut server = Running::start(&mut server);
        let mut errors = BufReader::new(server.child.stderr.take().expect("piped"));
        let mut line = String::new();
        while !line.contains("listening") {
            line.clear();
            let read = errors.read_line(&mut line).expect("sshd talks");
            assert!(read > 0, "sshd did not start");
        }
        // What it says further is of no interest, but wants to be read.
        thread::spawn(move || errors.read_to_end(&mut Vec::new()));
        Some(Self {
            lab,
            folder,
            _server: server,
        })
    }

    fn options(&self) -> Vec<String> {
        let key = self.folder.join("user").display().to_string();
        let mut all = vec!["-i".to_owned(), key];
        for option in [
            "StrictHostKeyChecking=no",
            "UserKnownHostsFile=/dev/null",
            "LogLevel=ERROR",
        ] {
            all.extend(["-o".to_owned(), option.to_owned()]);
        }
        all
    }

    pub(crate) fn scp(&self, file: &Path, to: &Path) -> Running {
        let mut command = self.lab.inside("left", "scp");
        command.args(self.options()).arg("-q").arg(file);
        Running::start(command.arg(format!("root@{RIGHT}:{}", to.display())))
    }

    pub(crate) fn rsync(&self, file: &Path, to: &Path) -> Running {
        let mut command = self.lab.inside("left", "rsync");
        let shell = format!("ssh {}", self.options().join(" "));
        command.args(["--whole-file", "-e", &shell]).arg(file);
        Running::start(command.arg(format!("root@{RIGHT}:{}", to.display())))
    }
}
