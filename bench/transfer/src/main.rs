//! `cargo xtask transfer-table`: files from home to home by `visavis send` and `receive`, over kernel NATs and a link that is emulated
//! in user space; through an interrupted connection, a killed receiver and a moved interface; beside `scp` and `rsync` over the
//! same link. Needs root, iproute2, nftables and /dev/net/tun; openssh-server and rsync for the comparison.
//!
//! What TCP would take hours for it moves less of; rates are compared, then, and the table says how much was moved.

mod lab;
mod link;
mod programs;

use std::fs::{self, File};
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use tempfile::TempDir;
use visavis_datagram::Random;
use visavis_namespaces::Nat;
use visavis_report::{Options, Table};

use lab::{Kind, Lab, words};
use link::Shape;
use programs::{Running, Ssh, Visavis};

const SEED: u64 = 9;
const RATE: u64 = 200_000_000;
/// How often programs are looked at.
const LOOK: Duration = Duration::from_millis(20);
/// After which a transfer is given up.
const PATIENCE: Duration = Duration::from_secs(400);
/// How long the link is cut: longer than a connection may be without its peer (12 s).
const CUT: Duration = Duration::from_secs(20);

fn shape(round_trip: u64, loss: f64) -> Shape {
    Shape {
        rate: RATE,
        delay: Duration::from_millis(round_trip / 2),
        queue: Duration::from_millis(100),
        loss,
    }
}

/// What happens on the way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Trouble {
    None,
    Cut,
    Killed,
    Moved,
}

/// Files of random bytes, made when they are asked for, and the place for what arrives.
struct Files {
    folder: TempDir,
}

impl Files {
    fn new() -> Self {
        Self {
            folder: tempfile::tempdir().expect("a place for temporary files"),
        }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn of(&self, bytes: u64) -> PathBuf {
        let path = self.path().join(format!("{bytes}.bin"));
        if !path.exists() {
            let mut random = Random::from_u64(bytes);
            let mut out = BufWriter::new(File::create(&path).expect("room for a file"));
            let mut left = bytes;
            let mut block = vec![0; 1 << 20];
            while left > 0 {
                let len = left.min(block.len() as u64);
                random.fill(&mut block[..len as usize]);
                out.write_all(&block[..len as usize])
                    .expect("room for a file");
                left -= len;
            }
            out.flush().expect("room for a file");
        }
        path
    }

    /// An empty folder.
    fn inbox(&self) -> PathBuf {
        let path = self.path().join("inbox");
        let _ = fs::remove_dir_all(&path);
        fs::create_dir(&path).expect("room for a folder");
        path
    }
}

fn digest(path: &Path) -> Option<String> {
    let output = Command::new("sha256sum").arg(path).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output
        .status
        .success()
        .then(|| text.split(' ').next().unwrap_or_default().to_owned())
}

/// One way to move a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum By {
    Visavis(Trouble),
    Scp(&'static str),
    Rsync(&'static str),
}

impl By {
    fn words(self) -> String {
        match self {
            Self::Visavis(Trouble::None) => "visavis".into(),
            Self::Visavis(Trouble::Cut) => format!("visavis, link cut for {} s", CUT.as_secs()),
            Self::Visavis(Trouble::Killed) => "visavis, receiver killed, run again".into(),
            Self::Visavis(Trouble::Moved) => "visavis, sender changes its interface".into(),
            Self::Scp(control) => format!("scp ({control})"),
            Self::Rsync(control) => format!("rsync ({control})"),
        }
    }
}

struct Moved {
    seconds: f64,
    equal: bool,
    retries: usize,
}

/// Moves a file; `None` where a program for it is missing.
fn transfer(files: &Files, lab: &Lab, by: By, bytes: u64) -> Option<Moved> {
    let (file, inbox) = (files.of(bytes), files.inbox());
    let begun;
    let mut retries = 0;
    let ended = match by {
        By::Visavis(trouble) => {
            let mut offer = Visavis::offer(lab, &file);
            begun = Instant::now();
            let before = lab.link.carried();
            let mut receiver = offer.receive(&inbox);
            if trouble != Trouble::None {
                let part = || lab.link.carried() - before > bytes / 3;
                while !part() && receiver.ended().is_none() {
                    thread::sleep(LOOK);
                }
            }
            match trouble {
                Trouble::None => {}
                Trouble::Cut => {
                    lab.link.cut(true);
                    thread::sleep(CUT);
                    lab.link.cut(false);
                }
                Trouble::Killed => {
                    receiver.kill();
                    receiver = offer.receive(&inbox);
                }
                Trouble::Moved => lab.move_left(),
            }
            let well = wait(&mut receiver) && wait(&mut offer.sender);
            retries = receiver.count("retrying");
            well
        }
        By::Scp(control) | By::Rsync(control) => {
            lab.congestion_control(control);
            let ssh = Ssh::start(lab, files.path())?;
            begun = Instant::now();
            let mut running = match by {
                By::Scp(_) => ssh.scp(&file, &inbox),
                _ => ssh.rsync(&file, &inbox),
            };
            wait(&mut running)
        }
    };
    let seconds = begun.elapsed().as_secs_f64();
    let arrived = inbox.join(file.file_name().expect("a file's name"));
    let equal = ended && digest(&arrived).is_some_and(|got| Some(got) == digest(&file));
    Some(Moved {
        seconds,
        equal,
        retries,
    })
}

fn wait(running: &mut Running) -> bool {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match running.ended() {
            Some(well) => return well,
            None if Instant::now() > deadline => return false,
            None => thread::sleep(LOOK),
        }
    }
}

/// A row that is wanted, under a name by which it can be chosen.
struct Plan {
    name: String,
    kinds: [Kind; 2],
    round_trip: u64,
    loss: f64,
    by: By,
    bytes: u64,
}

fn plans(quick: bool) -> Vec<Plan> {
    let whole: u64 = if quick { 32 << 20 } else { 1_000_000_000 };
    // At one lost packet in a hundred, 100 ms: CUBIC moves this in about two minutes.
    let little: u64 = if quick { 1 << 20 } else { 20_000_000 };
    let mut all = Vec::new();
    let mut add = |group: &str, kinds: [Kind; 2], round_trip, loss, by: By, bytes| {
        let name = format!(
            "{group} {} {}/{}",
            by.words(),
            words(kinds[0]),
            words(kinds[1])
        );
        all.push(Plan {
            name,
            kinds,
            round_trip,
            loss,
            by,
            bytes,
        });
    };
    let plain = [None; 2];
    let ours = By::Visavis(Trouble::None);
    for (round_trip, loss) in [(50, 0.0), (100, 0.01)] {
        let lossy = loss > 0.0;
        let group = if lossy { "lossy" } else { "clean" };
        add(group, plain, round_trip, loss, ours, whole);
        for by in [By::Scp("cubic"), By::Rsync("cubic")] {
            add(
                group,
                plain,
                round_trip,
                loss,
                by,
                if lossy { little } else { whole },
            );
        }
        add(group, plain, round_trip, loss, By::Scp("bbr"), whole);
    }
    let kinds = [Nat::FullCone, Nat::PortRestricted, Nat::Symmetric].map(Some);
    for left in kinds {
        for right in kinds {
            if !quick || left == right {
                add("nat", [left, right], 50, 0.01, ours, whole);
            }
        }
    }
    let nats = [Some(Nat::PortRestricted); 2];
    for trouble in [Trouble::Cut, Trouble::Killed, Trouble::Moved] {
        add("trouble", nats, 50, 0.01, By::Visavis(trouble), whole);
    }
    all
}

fn main() -> ExitCode {
    let (options, wanted) = Options::from_arguments();
    let mut table = Table::new(
        &format!("Files over a link of {} Mbit/s", RATE / 1_000_000),
        &[
            "by",
            "NAT left",
            "NAT right",
            "RTT ms",
            "loss",
            "MB",
            "s",
            "Mbit/s",
            "made anew",
            "SHA-256",
        ],
    );
    let files = Files::new();
    let mut rates: Vec<(String, f64)> = Vec::new();
    for plan in plans(options.quick) {
        if !wanted.is_empty() && !wanted.iter().any(|part| plan.name.contains(part)) {
            continue;
        }
        let lab = Lab::new(
            plan.kinds[0],
            plan.kinds[1],
            shape(plan.round_trip, plan.loss),
            SEED,
        );
        if plan.by == By::Visavis(Trouble::Moved) {
            lab.second_interface();
        }
        let Some(moved) = transfer(&files, &lab, plan.by, plan.bytes) else {
            table.note(format!("{}: skipped, sshd or rsync is missing", plan.name));
            continue;
        };
        let rate = plan.bytes as f64 * 8.0 / moved.seconds / 1e6;
        eprintln!(
            "{}: {:.1} s, {rate:.1} Mbit/s, equal: {}",
            plan.name, moved.seconds, moved.equal
        );
        let made = match plan.by {
            By::Visavis(_) => json!(moved.retries),
            _ => Value::Null,
        };
        table.row(vec![
            json!(plan.by.words()),
            json!(words(plan.kinds[0])),
            json!(words(plan.kinds[1])),
            json!(plan.round_trip),
            json!(plan.loss),
            json!(plan.bytes / 1_000_000),
            json!((moved.seconds * 10.0).round() / 10.0),
            json!((rate * 10.0).round() / 10.0),
            made,
            json!(if moved.equal { "equal" } else { "DIFFERENT" }),
        ]);
        table.at_least(
            &format!("{}: arrives equal", plan.name),
            f64::from(u8::from(moved.equal)),
            1.0,
        );
        rates.push((plan.name, rate));
    }
    compare(&mut table, &rates, "clean", 1.0);
    compare(&mut table, &rates, "lossy", 3.0);
    table.note(format!("queue 100 ms, seed {SEED}; times begin with the start of the receiver's or of the copying program"));
    table.note("TCP's congestion control is in brackets: CUBIC is what Linux comes with");
    table.finish(options)
}

/// How many times as fast as `scp` and `rsync`, with Linux's own congestion control, we are.
fn compare(table: &mut Table, rates: &[(String, f64)], group: &str, goal: f64) {
    let of = |by: &str| {
        let start = format!("{group} {by}");
        rates
            .iter()
            .find(|(name, _)| name.starts_with(&start))
            .map(|(_, rate)| *rate)
    };
    let Some(ours) = of("visavis") else { return };
    for (by, counts) in [
        ("scp (cubic)", true),
        ("rsync (cubic)", true),
        ("scp (bbr)", false),
    ] {
        let Some(theirs) = of(by) else { continue };
        let ratio = ours / theirs;
        table.note(format!("{group} link: {ratio:.3} times as fast as {by}"));
        if counts {
            table.at_least(&format!("{group} link: rate beside {by}"), ratio, goal);
        }
    }
}
