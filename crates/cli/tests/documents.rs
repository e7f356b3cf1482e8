//! Every command that README.md and the book tell people to type is typed here, as it is written, in network namespaces in
//! which `meet.example.org` exists. The few that are not are listed with the reason. Needs root, curl, ffmpeg and openssl;
//! without them it says why it did nothing, or fails if VISAVIS_LAB is `required`.
//!
//! ```text
//! here (192.0.2.1, meet.example.org) -- there (192.0.2.2)
//! ```
#![cfg(unix)]
#![allow(clippy::print_stderr, reason = "a test says why it did nothing")]

use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use visavis_namespaces::Namespaces;

/// How long a program may take to say what is waited for.
const PATIENCE: Duration = Duration::from_secs(40);
/// What stands in the documents for a code that `send` or `chat` has printed.
const CODES: [&str; 2] = ["4821-copper-tulip-raven", "CODE"];

/// What is not run here, and why.
const ELSEWHERE: &[(&str, &str)] = &[
    ("cargo test --workspace", "runs this"),
    (
        "cargo install --path crates/cli",
        "what it installs is the build that runs here",
    ),
    (
        "cargo run --release -p visavis --example echo",
        "crates/visavis/tests/examples.rs runs it",
    ),
    ("cargo xtask --help", "lists what .ci/run calls"),
    ("cargo xtask nat-matrix", "a step of .ci/run"),
    ("cargo xtask interop [PEER]", "a step of .ci/run"),
    (
        "cargo xtask congestion-table",
        "takes minutes, with a build of another stack",
    ),
    (
        "cargo xtask sctp-table",
        "takes minutes, with a build of another stack",
    ),
    ("cargo xtask sfu-bench", "takes minutes of a quiet machine"),
    (
        "cargo xtask transfer-table",
        "takes minutes of a quiet machine",
    ),
    ("cargo xtask bench NAME", "takes minutes of a quiet machine"),
    ("cargo xtask fuzz 3", "takes hours"),
];

/// What documents tell people to type: lines of shell, and what stands in backticks with arguments.
fn documented() -> BTreeSet<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let book = fs::read_dir(root.join("book/src")).unwrap().flatten();
    let mut documents: Vec<PathBuf> = book.map(|entry| entry.path()).collect();
    documents.extend([root.join("README.md"), root.join("crates/cli/README.md")]);
    let mut commands = BTreeSet::new();
    for document in documents {
        let text = fs::read_to_string(&document).unwrap();
        let mut shell = None;
        let mut prose = String::new();
        for line in text.lines() {
            if let Some(language) = line.strip_prefix("```") {
                shell = match shell {
                    None => Some(language == "sh"),
                    Some(_) => None,
                };
            } else if shell == Some(true) {
                let command = line.split(" #").next().unwrap_or_default().trim();
                commands.insert(command.to_owned());
            } else if shell.is_none() {
                prose.push_str(line.trim_start());
                prose.push(' ');
            }
        }
        for quoted in prose.split('`').skip(1).step_by(2) {
            let program = quoted.split(' ').next().unwrap_or_default();
            let known = ["visavis", "cargo", "tar", "curl", "ffmpeg"].contains(&program);
            let mention = program == "visavis" && quoted.split(' ').count() < 3;
            if known && quoted.contains(' ') && !mention {
                commands.insert(quoted.to_owned());
            }
        }
    }
    commands.remove("");
    commands
}

/// Two machines on one network; dropped, they are gone.
struct World {
    namespaces: Namespaces,
    folder: TempDir,
}

const MACHINES: [&str; 2] = ["here", "there"];

fn missing() -> Option<String> {
    for program in ["curl", "ffmpeg", "openssl"] {
        let found = Command::new(program).arg("-version").output();
        let found = found.or_else(|_| Command::new(program).arg("--version").output());
        if found.is_err() {
            return Some(format!("there is no {program}"));
        }
    }
    None
}

fn world() -> Option<World> {
    static MISSING: OnceLock<Option<String>> = OnceLock::new();
    if let Some(reason) = MISSING.get_or_init(missing) {
        let required = std::env::var("VISAVIS_LAB").is_ok_and(|value| value == "required");
        assert!(!required, "{reason}");
        eprintln!("skipped: {reason}");
        return None;
    }
    visavis_namespaces::are_there().then(World::new)
}

#[track_caller]
fn well(command: &mut Command) -> Output {
    let output = command.output().expect("the program is there");
    assert!(output.status.success(), "{command:?}: {output:?}");
    output
}

impl World {
    fn new() -> Self {
        let world = Self {
            namespaces: Namespaces::new(&MACHINES),
            folder: tempfile::tempdir().unwrap(),
        };
        for name in MACHINES {
            let folder = format!("/etc/netns/{}", world.name(name));
            fs::create_dir_all(&folder).unwrap();
            let hosts = "127.0.0.1 localhost\n192.0.2.1 meet.example.org\n";
            fs::write(format!("{folder}/hosts"), hosts).unwrap();
        }
        world.namespaces.wire(["here", "eth0"], ["there", "eth0"]);
        for (name, last, other) in [("here", 1, 2), ("there", 2, 1)] {
            let ip = |arguments: &str| world.namespaces.ip(name, arguments);
            ip(&format!("addr add 192.0.2.{last}/24 dev eth0"));
            ip(&format!("route add default via 192.0.2.{other}"));
        }
        // The kernel takes up to a second to see that a wire carries.
        for name in MACHINES.map(|name| world.name(name)) {
            let up = || {
                let shown =
                    well(Command::new("ip").args(["-n", &name, "-o", "link", "show", "eth0"]));
                String::from_utf8_lossy(&shown.stdout).contains("state UP")
            };
            let until = Instant::now() + PATIENCE;
            while !up() {
                assert!(Instant::now() < until, "the wire does not come up");
                thread::sleep(Duration::from_millis(20));
            }
        }
        let folder = world.path();
        fs::write(folder.join("holiday.mp4"), [7; 300_000]).unwrap();
        fs::create_dir(folder.join("photos")).unwrap();
        fs::write(folder.join("photos/sea.jpg"), "blue").unwrap();
        fs::create_dir(folder.join("there")).unwrap();
        let certificate = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 -keyout key.pem -out cert.pem \
            -subj /CN=meet.example.org -addext subjectAltName=DNS:meet.example.org -addext basicConstraints=critical,CA:FALSE";
        well(
            Command::new("openssl")
                .args(certificate.split_whitespace())
                .current_dir(folder),
        );
        world
    }

    fn name(&self, name: &str) -> String {
        self.namespaces.name(name)
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    /// A command as a person types it, on one of the machines.
    fn shell(&self, machine: &str, line: &str) -> Command {
        // What the release build's binary is called is of no matter here.
        let line = line.replace("cargo run --release -- ", "visavis ");
        // A program by itself takes the shell's place, and so its signals.
        let line = match line.contains('|') {
            true => line,
            false => format!("exec {line}"),
        };
        let folder = match machine {
            "there" => self.path().join("there"),
            _ => self.path().to_owned(),
        };
        let binary = Path::new(env!("CARGO_BIN_EXE_visavis")).parent().unwrap();
        let path = std::env::var("PATH").unwrap_or_default();
        let mut command = self.namespaces.command(machine, "sh");
        command
            .args(["-c", &line])
            .env("PATH", format!("{}:{path}", binary.display()))
            .env("HOME", self.path())
            .env("SSL_CERT_FILE", self.path().join("cert.pem"))
            .current_dir(folder)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("VISAVIS_")) {
            command.env_remove(name);
        }
        command
    }

    /// Runs a line to its end, which must be a good one.
    #[track_caller]
    fn run(&self, machine: &str, line: &str) -> String {
        let output = well(&mut self.shell(machine, line));
        String::from_utf8(output.stdout).unwrap()
    }

    fn start(&self, machine: &str, line: &str) -> Program {
        Program::start(&mut self.shell(machine, line))
    }

    /// `meet.example.org`, with rooms for anybody.
    fn server(&self) -> Program {
        let mut serve = self.shell("here", "visavis serve");
        serve
            .env("VISAVIS_LISTEN", "0.0.0.0:443")
            .env("VISAVIS_DOMAIN", "meet.example.org")
            .env("VISAVIS_TLS_CERT", self.path().join("cert.pem"))
            .env("VISAVIS_TLS_KEY", self.path().join("key.pem"));
        let server = Program::start(&mut serve);
        server.says("Visavis is ready");
        server
    }

    /// Makes what the documents call `film.webm` and `film.mp4`.
    fn films(&self) {
        for (name, arguments) in [
            (
                "film.webm",
                "-c:v libvpx -g 30 -deadline realtime -c:a libopus",
            ),
            ("film.mp4", "-c:v mpeg4 -c:a aac"),
        ] {
            let mut make = Command::new("ffmpeg");
            make.args("-v error -y -f lavfi -i testsrc=size=320x240:rate=15:duration=4".split(' '))
                .args("-f lavfi -i sine=duration=4 -pix_fmt yuv420p".split(' '))
                .args(arguments.split(' '))
                .arg(name)
                .current_dir(self.path());
            well(&mut make);
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        for name in MACHINES {
            let name = self.name(name);
            let _ = fs::remove_dir_all(format!("/etc/netns/{name}"));
        }
    }
}

/// A program that runs, and what it says on both its outputs. Killed with its owner.
struct Program {
    child: Child,
    lines: Receiver<String>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let mut child = command.spawn().unwrap();
        let (sender, lines) = channel();
        let out = child
            .stdout
            .take()
            .map(|out| Box::new(out) as Box<dyn Read + Send>);
        let errors = child
            .stderr
            .take()
            .map(|errors| Box::new(errors) as Box<dyn Read + Send>);
        for stream in [out, errors].into_iter().flatten() {
            let sender = sender.clone();
            thread::spawn(move || {
                for line in BufReader::new(stream).lines().map_while(Result::ok) {
                    let _ = sender.send(line);
                }
            });
        }
        Self { child, lines }
    }

    /// The first line that has this in it.
    #[track_caller]
    fn says(&self, part: &str) -> String {
        let until = Instant::now() + PATIENCE;
        let mut said = Vec::new();
        loop {
            let left = until.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) if line.contains(part) => return line,
                Ok(line) => said.push(line),
                Err(_) => panic!("it does not say {part:?}, but {said:#?}"),
            }
        }
    }

    /// The code that it tells people to type after `command`.
    #[track_caller]
    fn code(&self, command: &str) -> String {
        let line = self.says(&format!("visavis {command}"));
        line.split(' ').next_back().unwrap().to_owned()
    }

    #[track_caller]
    fn ends(mut self) {
        let status = self.child.wait().unwrap();
        let said: Vec<String> = self.lines.iter().collect();
        assert!(status.success(), "{status}: {said:#?}");
    }

    /// Ctrl-C, after which it ends well, or as one who was interrupted.
    #[track_caller]
    fn stop(mut self) {
        let id = self.child.id().to_string();
        well(Command::new("kill").args(["-INT", &id]));
        let code = self.child.wait().unwrap().code();
        let said: Vec<String> = self.lines.iter().collect();
        assert!(matches!(code, Some(0 | 130)), "{code:?}: {said:#?}");
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A line with the code that was printed in the place of the one that documents have.
fn with(line: &str, code: &str) -> String {
    let known = CODES.iter().find(|known| line.contains(**known));
    line.replace(known.expect("a line with a code"), code)
}

/// Tests, each of so many documented lines.
macro_rules! documented {
    ($($name:ident: [$($line:literal),+ $(,)?] |$world:ident, $lines:ident| $body:block)*) => {
        const HERE: &[&[&str]] = &[$(&[$($line),+]),*];

        $(
            #[test]
            fn $name() {
                let $lines = [$($line),+];
                let Some($world) = world() else { return };
                $body
            }
        )*
    };
}

#[test]
fn every_command_of_the_documents_is_run_or_listed_with_a_reason() {
    let listed: BTreeSet<&str> = HERE
        .iter()
        .flat_map(|lines| lines.iter().copied())
        .chain(ELSEWHERE.iter().map(|(line, _)| *line))
        .collect();
    let documented = documented();
    let documented: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    let unknown: Vec<_> = documented.difference(&listed).collect();
    assert!(unknown.is_empty(), "documented, but not run: {unknown:#?}");
    let gone: Vec<_> = listed.difference(&documented).collect();
    assert!(gone.is_empty(), "run, but not documented: {gone:#?}");
}

/// Links within the repository lead somewhere, and the book's summary has every page.
#[test]
fn what_the_documents_point_at_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let files = |folder: PathBuf| {
        let entries = fs::read_dir(folder).unwrap().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    };
    let pages = files(root.join("book/src"));
    let mut documents = pages.clone();
    documents
        .extend(["README.md", "ARCHITECTURE.md", "CONTRIBUTING.md"].map(|name| root.join(name)));
    let crates = files(root.join("crates"));
    let readmes = crates.iter().map(|folder| folder.join("README.md"));
    documents.extend(readmes.filter(|readme| readme.exists()));
    let mut missing = Vec::new();
    for document in &documents {
        let text = fs::read_to_string(document).unwrap();
        let folder = document.parent().unwrap();
        for link in text.split("](").skip(1) {
            let link = link.split([')', '#']).next().unwrap_or_default();
            if !link.is_empty() && !link.contains("://") && !folder.join(link).exists() {
                missing.push(format!("{}: {link}", document.display()));
            }
        }
    }
    let summary = fs::read_to_string(root.join("book/src/SUMMARY.md")).unwrap();
    for page in pages.iter().filter_map(|page| page.file_name()?.to_str()) {
        if page != "SUMMARY.md" && !summary.contains(&format!("({page})")) {
            missing.push(format!("SUMMARY.md: {page}"));
        }
    }
    assert!(missing.is_empty(), "{missing:#?}");
}

documented! {
    a_server_starts: [
        "cargo run --release -- serve",
        "visavis serve",
        "visavis serve --public-ip 203.0.113.7",
    ] |world, lines| {
        for line in lines {
            let server = world.start("here", line);
            server.says("Visavis is ready");
            server.stop();
        }
    }

    a_server_of_the_internet_starts: [
        "visavis keygen",
        "visavis serve --domain meet.example.org --acme --listen 0.0.0.0:443",
        "visavis serve --key \"$(visavis keygen)\" --domain meet.example.org --acme --listen 0.0.0.0:443",
    ] |world, lines| {
        assert!(world.run("here", lines[0]).starts_with("API"));
        for line in &lines[1..] {
            // The authority that would give the certificate is not of this world.
            let mut serve = world.shell("here", line);
            serve.env("VISAVIS_ACME_DIRECTORY", "https://192.0.2.2:1/directory");
            serve.env("VISAVIS_STATE_DIR", world.path());
            let server = Program::start(&mut serve);
            server.says("Visavis is ready");
            server.stop();
        }
    }

    a_relay_starts: [
        "visavis turn",
        "visavis turn --secret \"$(visavis keygen turn)\"",
        "visavis turn --print-config",
    ] |world, lines| {
        for line in &lines[..2] {
            let relay = world.start("here", line);
            relay.says("health and metrics");
            relay.stop();
        }
        assert!(world.run("here", lines[2]).contains("listen"));
    }

    help_and_what_is_made_for_shells: [
        "visavis serve --help",
        "visavis receive --help",
        "visavis keygen turn",
        "visavis completions bash",
        "visavis manual ~/.local/share/man/man1",
    ] |world, lines| {
        let said = lines.map(|line| world.run("here", line));
        assert!(said[0].contains("--max-participants") && said[1].contains("Exit codes"));
        assert!(said[2].trim().len() >= 32 && said[3].contains("receive"));
        assert!(world.path().join(".local/share/man/man1/visavis-send.1").exists());
    }

    files_arrive_on_the_same_network: [
        "visavis send holiday.mp4",
        "visavis receive 4821-copper-tulip-raven",
    ] |world, lines| {
        let sender = world.start("here", lines[0]);
        let code = sender.code("receive");
        world.run("there", &with(lines[1], &code));
        sender.ends();
        let arrived = fs::read(world.path().join("there/holiday.mp4")).unwrap();
        assert_eq!(arrived, [7; 300_000]);
    }

    files_arrive_by_way_of_a_server: [
        "visavis send --server meet.example.org holiday.mp4 photos/",
        "visavis receive --server meet.example.org 4821-copper-tulip-raven",
    ] |world, lines| {
        let _server = world.server();
        let sender = world.start("here", lines[0]);
        let code = sender.code("receive");
        assert!(sender.says("/receive#").trim().starts_with("https://meet.example.org/receive#"));
        world.run("there", &with(lines[1], &code));
        sender.ends();
        let there = world.path().join("there");
        assert_eq!(fs::read(there.join("holiday.mp4")).unwrap(), [7; 300_000]);
        assert_eq!(fs::read(there.join("photos/sea.jpg")).unwrap(), b"blue");
    }

    a_pipe_leads_from_one_machine_to_the_other: [
        "tar c . | visavis send -",
        "visavis receive -o - CODE | tar x",
    ] |world, lines| {
        let photos = lines[0].replace("tar c .", "tar c photos");
        let sender = world.start("here", &photos);
        let code = sender.code("receive");
        world.run("there", &with(lines[1], &code));
        sender.ends();
        assert_eq!(fs::read(world.path().join("there/photos/sea.jpg")).unwrap(), b"blue");
    }

    two_people_chat: ["visavis chat", "visavis chat CODE"] |world, lines| {
        let mut one = world.shell("here", lines[0]);
        let mut one = Program::start(one.stdin(Stdio::piped()));
        let code = one.code("chat");
        let mut other = world.shell("there", &with(lines[1], &code));
        let mut other = Program::start(other.stdin(Stdio::piped()));
        one.says("connected");
        one.child.stdin.as_mut().unwrap().write_all(b"good morning\n").unwrap();
        other.says("good morning");
        other.child.stdin.as_mut().unwrap().write_all(b"and to you\n").unwrap();
        one.says("and to you");
        drop(one.child.stdin.take());
        one.ends();
        other.says("the other side left");
        other.ends();
    }

    media_is_published_and_recorded: [
        "visavis whip https://meet.example.org/whip/lobby film.webm --loop",
        "visavis whep https://meet.example.org/whep/lobby --output lobby --for 60",
        "visavis join https://meet.example.org/r/lobby --record lobby",
        "visavis join https://meet.example.org/r/lobby --publish film.webm --name Cinema",
    ] |world, lines| {
        world.films();
        let _server = world.server();
        let publisher = world.start("here", lines[0]);
        publisher.says("publishing");
        let recorder = world.start("there", &lines[1].replace("lobby --for", "played --for"));
        recorder.says("recording");
        let joined = world.start("there", lines[2]);
        joined.says("in the room");
        let cinema = world.start("here", lines[3]);
        cinema.says("frames were sent");
        cinema.ends();
        joined.says("Cinema left");
        for program in [publisher, recorder, joined] {
            program.stop();
        }
        for folder in ["there/played", "there/lobby"] {
            let files = fs::read_dir(world.path().join(folder)).unwrap().flatten();
            let large = files.filter(|file| file.metadata().unwrap().len() > 10_000);
            assert!(large.count() >= 2, "{folder}");
        }
    }

    a_film_is_encoded_on_the_way: [
        "ffmpeg -re -i film.mp4 -an -c:v libvpx -g 60 -deadline realtime -f ivf - | visavis join URL --publish -",
    ] |world, lines| {
        world.films();
        let _server = world.server();
        let line = lines[0].replace("URL", "https://meet.example.org/r/lobby");
        let publisher = world.start("there", &line.replace("film.mp4", "../film.mp4"));
        publisher.says("frames were sent");
        publisher.ends();
    }

    a_room_is_recorded_on_the_server: [
        "curl -X POST http://localhost:7880/api/record/ROOM",
    ] |world, lines| {
        world.films();
        let mut serve = world.shell("here", "visavis serve --record-dir records --no-tls");
        let server = Program::start(&mut serve);
        server.says("Visavis is ready");
        let publisher = world.start("here", "visavis join http://localhost:7880/r/lobby --publish film.webm --loop");
        publisher.says("in the room");
        let line = lines[0].replace("ROOM", "lobby");
        let begun = world.run("here", &line.replace("curl", "curl -sf"));
        let records = world.path().join("records");
        let until = Instant::now() + PATIENCE;
        let size = |folder: &Path| -> u64 {
            let mut folders = vec![folder.to_owned()];
            let mut sum = 0;
            while let Some(folder) = folders.pop() {
                for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
                    match entry.metadata() {
                        Ok(metadata) if metadata.is_dir() => folders.push(entry.path()),
                        Ok(metadata) => sum += metadata.len(),
                        Err(_) => {}
                    }
                }
            }
            sum
        };
        while size(&records) < 10_000 {
            assert!(Instant::now() < until, "nothing is recorded: {begun}");
            thread::sleep(Duration::from_millis(50));
        }
        world.run("here", &line.replace("curl -X POST", "curl -sf -X DELETE"));
        publisher.stop();
        server.stop();
    }

    an_echo_waits: ["visavis echo"] |world, lines| {
        let echo = world.start("here", lines[0]);
        echo.says("open http://");
        assert!(world.run("here", "curl -sf http://localhost:8080/").contains("Echo"));
        echo.stop();
    }

    the_doctor_looks_at_a_server: [
        "visavis doctor --server meet.example.org",
    ] |world, lines| {
        let _server = world.server();
        let said = world.run("there", lines[0]);
        assert!(said.contains("Calls work"), "{said}");
    }

    two_doctors_meet: [
        "visavis doctor --server meet.example.org --against",
    ] |world, lines| {
        let _server = world.server();
        let host = world.start("here", lines[0]);
        let code = host.code("doctor --against");
        let said = world.run("there", &format!("{} {code}", lines[0]));
        assert!(said.contains("The two doctors are connected"), "{said}");
        host.says("The two doctors are connected");
    }
}

#[test]
fn the_tests_that_the_table_of_standards_names_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let table = fs::read_to_string(root.join("book/src/standards.md")).unwrap();
    let named = table.split('`').skip(1).step_by(2);
    let mut count = 0;
    for path in named.filter(|path| path.contains("/tests")) {
        assert!(root.join(path).exists(), "{path}");
        count += 1;
    }
    assert!(count > 20, "{count} tests are named");
}
