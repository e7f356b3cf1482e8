//! A long run of `visavis serve` with people who come, go and publish, over sockets that lose datagrams: `cargo xtask soak`.
#![allow(
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "it prints its table, and before that how it goes"
)]

mod checks;
mod churn;
mod member;
mod memory;
mod server;

use std::io;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bench_sfu::process::usage;
use checks::{STUCK, Seen, Violation};
use churn::Churn;
use memory::{Memory, WARM_UP};
use serde_json::json;
use server::Server;
use tokio::time::{MissedTickBehavior, interval};
use visavis_report::{Options, Table};

/// Rooms at a time.
const ROOMS: usize = 4;

/// The share of datagrams that get lost, of those to the server and of those from it.
const LOSS: f64 = 0.05;

/// How often members are asked what they hear, the server is asked who is there, and its memory is read.
const MEDIA: Duration = Duration::from_millis(500);
const LISTS: Duration = Duration::from_secs(5);
const MEMORY: Duration = Duration::from_secs(2);

/// A run of this length has two ebbs, one when caches and pools have filled and one at the end: all leave, and nobody comes for so long
/// that what they leave can be seen. The server looks every minute for what it can give back.
const LONG: Duration = Duration::from_secs(20 * 60);
const EBB: Duration = Duration::from_secs(150);

/// After how long nothing may be left of those who went.
const EMPTY: Duration = Duration::from_secs(75);

struct Arguments {
    minutes: f64,
    seed: u64,
    options: Options,
}

fn arguments() -> Result<Arguments, String> {
    let (options, rest) = Options::from_arguments();
    let mut minutes = if options.quick { 2.0 } else { 60.0 };
    let mut seed = 1;
    let mut rest = rest.iter();
    while let Some(argument) = rest.next() {
        if argument == "--seed" {
            let value = rest.next().and_then(|value| value.parse().ok());
            seed = value.ok_or("--seed needs a number")?;
        } else {
            let value = argument.parse().ok().filter(|minutes| *minutes > 0.0);
            minutes = value.ok_or_else(|| format!("{argument}: not a number of minutes"))?;
        }
    }
    // A violation fails whether that was asked for or not.
    let options = Options {
        check: true,
        ..options
    };
    Ok(Arguments {
        minutes,
        seed,
        options,
    })
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let arguments = match arguments() {
        Ok(arguments) => arguments,
        Err(error) => {
            eprintln!("soak: {error}");
            return ExitCode::FAILURE;
        }
    };
    match run(&arguments).await {
        Ok(code) => code,
        Err(error) => {
            eprintln!("soak: {error}");
            ExitCode::FAILURE
        }
    }
}

/// The exit code after Ctrl-C.
const INTERRUPTED: u8 = 130;

/// A run: the server, who is there, and what was seen.
struct Soak {
    server: Server,
    churn: Churn,
    seen: Seen,
    memory: Memory,
    begun: Instant,
    /// Somebody pressed Ctrl-C: it ends early, and says what it has seen.
    interrupted: bool,
}

async fn run(arguments: &Arguments) -> io::Result<ExitCode> {
    let (minutes, seed) = (arguments.minutes, arguments.seed);
    eprintln!(
        "soak: {minutes} minutes, {ROOMS} rooms, {:.0} % loss, seed {seed}",
        LOSS * 100.0
    );
    let server = Server::start().await?;
    let mut soak = Soak {
        churn: Churn::new(server.port, seed, ROOMS, LOSS),
        server,
        seen: Seen::new(),
        memory: Memory::default(),
        begun: Instant::now(),
        interrupted: false,
    };
    let files = soak.server.open_files();
    let length = Duration::from_secs_f64(minutes * 60.0);
    let outcome = soak.churn_for(length).await;
    // What follows is short, and nobody need wait for it: Ctrl-C ends it at once, and the server with it.
    tokio::select! {
        code = soak.conclude(arguments, outcome, files) => Ok(code),
        Ok(()) = tokio::signal::ctrl_c() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

impl Soak {
    /// All leave. Looks at what they leave behind, and says what was seen.
    async fn conclude(
        &mut self,
        arguments: &Arguments,
        mut outcome: Result<(), Violation>,
        files: usize,
    ) -> ExitCode {
        let (cpu, _) = usage(self.server.pid());
        let (own, _) = usage(std::process::id());
        let mut left = None;
        if outcome.is_ok() {
            self.churn.end();
            match self.wait_until_empty(files).await {
                Ok(nothing) => left = Some(nothing),
                Err(violation) => outcome = Err(violation),
            }
        }
        if outcome.is_ok() && arguments.minutes * 60.0 >= LONG.as_secs_f64() {
            outcome = self.ebb().await;
        }
        let (elapsed, seed) = (self.begun.elapsed().as_secs_f64(), arguments.seed);
        if let Err(Violation(text)) = &outcome {
            eprintln!("soak: VIOLATION after {elapsed:.1} s, seed {seed}: {text}");
            self.explain(seed).await;
        }
        let code = self.table(arguments, &outcome, left, (cpu, own));
        if self.interrupted {
            ExitCode::from(INTERRUPTED)
        } else {
            code
        }
    }

    /// Lets people come and go for so long.
    async fn churn_for(&mut self, length: Duration) -> Result<(), Violation> {
        let end = self.begun + length;
        if length >= LONG {
            self.go_on(self.begun + length.mul_f64(WARM_UP), true)
                .await?;
            self.ebb().await?;
        }
        self.go_on(end, true).await
    }

    /// All leave, and what memory they leave is read.
    async fn ebb(&mut self) -> Result<(), Violation> {
        if self.interrupted {
            return Ok(());
        }
        self.churn.end();
        self.go_on(Instant::now() + EBB, false).await?;
        let (_, bytes) = usage(self.server.pid());
        let minute = self.begun.elapsed().as_secs_f64() / 60.0;
        let mebibytes = bytes as f64 / MIB;
        eprintln!("soak: minute {minute:.0}: nobody there; {mebibytes:.1} MiB");
        self.memory.sample_empty(bytes);
        Ok(())
    }

    /// Looks at all that has to hold until then, while things happen or while none does.
    async fn go_on(&mut self, end: Instant, happens: bool) -> Result<(), Violation> {
        if self.interrupted {
            return Ok(());
        }
        let every = |period| {
            let mut interval = interval(period);
            interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
            interval
        };
        let (mut media, mut lists, mut memory) = (every(MEDIA), every(LISTS), every(MEMORY));
        let mut minutes = every(Duration::from_secs(60));
        minutes.reset();
        let mut interrupt = std::pin::pin!(tokio::signal::ctrl_c());
        let mut next = Instant::now();
        loop {
            tokio::select! {
                () = tokio::time::sleep_until(end.into()) => return Ok(()),
                Ok(()) = &mut interrupt => {
                    eprintln!("soak: ends; Ctrl-C again ends it at once");
                    self.interrupted = true;
                    return Ok(());
                }
                () = tokio::time::sleep_until(next.into()), if happens => {
                    self.churn.act();
                    next = Instant::now() + self.churn.pause();
                }
                _ = media.tick() => {
                    self.check_process()?;
                    self.seen.media(&self.churn).await?;
                }
                _ = lists.tick() => self.seen.lists(&mut self.churn, &self.server).await?,
                _ = memory.tick() => self.sample(happens),
                _ = minutes.tick() => self.progress(),
            }
        }
    }

    fn sample(&mut self, happens: bool) {
        let (_, bytes) = usage(self.server.pid());
        if happens {
            let seconds = self.begun.elapsed().as_secs_f64();
            self.memory.sample(seconds, bytes);
        }
    }

    fn check_process(&mut self) -> Result<(), Violation> {
        if let Some(status) = self.server.ended()? {
            return Err(Violation(format!("the server ended: {status}")));
        }
        let log = self.server.log.lock().expect("nobody panics with it");
        match &log.bad {
            Some(line) => Err(Violation(format!("the server's log says: {line}"))),
            None => Ok(()),
        }
    }

    fn progress(&self) {
        let tally = &self.churn.tally;
        let members: usize = self.churn.rooms.iter().map(|room| room.members.len()).sum();
        eprintln!(
            "soak: minute {:.0}: {members} there; {} joins, {} leaves, {} vanished, {} resumes; {} packets; stuck 0, worst gap {:.1} s; {:.1} MiB",
            self.begun.elapsed().as_secs_f64() / 60.0,
            tally.joins,
            tally.leaves,
            tally.vanished,
            tally.resumes,
            self.seen.packets,
            self.seen.worst.as_secs_f64(),
            self.memory.last() / MIB,
        );
    }

    /// Waits until the server has forgotten all; what is left of them after a time in which it should have.
    async fn wait_until_empty(&mut self, files: usize) -> Result<u64, Violation> {
        let begun = Instant::now();
        let mut looks = interval(Duration::from_secs(1));
        loop {
            looks.tick().await;
            self.check_process()?;
            let rooms = self.server.rooms().await?.len() as f64;
            let participants = self.server.metric("visavis_participants").await?;
            let connections = self.server.metric("visavis_media_connections").await?;
            // Besides what it had open before anybody came: the question itself.
            let open = self.server.open_files().saturating_sub(files + 1);
            let left = rooms + participants + connections + open as f64;
            if left == 0.0 || begun.elapsed() > EMPTY {
                if left > 0.0 {
                    eprintln!(
                        "soak: left behind {EMPTY:?} after all went: {rooms} rooms, {participants} participants, \
                         {connections} media connections, {open} open files"
                    );
                }
                return Ok(left as u64);
            }
        }
    }

    /// What helps to find the cause: the last things done, the server's log, and a file with the inspector's view.
    async fn explain(&self, seed: u64) {
        for line in self.churn.story.iter().rev().take(30).rev() {
            eprintln!("soak: {line}");
        }
        let path = std::env::temp_dir().join(format!("soak-{seed}.json"));
        if let Ok(view) = self.server.get("/api/inspect").await
            && std::fs::write(&path, view).is_ok()
        {
            eprintln!("soak: the inspector's view is in {}", path.display());
        }
        let log = self.server.log.lock().expect("nobody panics with it");
        for line in log.last.iter().rev().take(20).rev() {
            eprintln!("server: {line}");
        }
    }

    fn table(
        &self,
        arguments: &Arguments,
        outcome: &Result<(), Violation>,
        left: Option<u64>,
        (cpu, own): (f64, f64),
    ) -> ExitCode {
        let mut table = Table::new(
            "churn of a meeting server's rooms at 5 % loss in both directions",
            &["what", "value"],
        );
        let tally = &self.churn.tally;
        let elapsed = self.begun.elapsed().as_secs_f64();
        let line = self.memory.line();
        let (first, last) = self.memory.empty().unzip();
        let mebibytes =
            |bytes: Option<f64>| json!(bytes.map(|bytes| (bytes / MIB * 100.0).round() / 100.0));
        let seconds = |value: f64| json!((value * 10.0).round() / 10.0);
        let log = self.server.log.lock().expect("nobody panics with it");
        let lost = matches!(outcome, Err(Violation(text)) if text.contains("is lost"));
        let stuck = matches!(outcome, Err(Violation(text)) if text.starts_with("stuck"));
        for (what, value) in [
            ("minutes", seconds(elapsed / 60.0)),
            ("joins", json!(tally.joins)),
            ("leaves", json!(tally.leaves)),
            ("vanished", json!(tally.vanished)),
            (
                "signalling connections lost and resumed",
                json!(tally.resumes),
            ),
            (
                "tracks published besides those of joins",
                json!(tally.publishes),
            ),
            ("tracks unpublished", json!(tally.unpublishes)),
            ("mutes and unmutes", json!(tally.mutes)),
            ("rooms that ended and began anew", json!(self.seen.ended)),
            ("packets received", json!(self.seen.packets)),
            ("stuck subscribers", json!(u64::from(stuck))),
            (
                "worst wait for a track's packets, s",
                seconds(self.seen.worst.as_secs_f64()),
            ),
            (
                "the same, of tracks not held back for want of bandwidth, s",
                seconds(self.seen.worst_unheld.as_secs_f64()),
            ),
            ("rooms lost", json!(u64::from(lost))),
            (
                "memory with people there (fitted), MiB, begin",
                mebibytes(line.map(|line| line.begin)),
            ),
            ("the same, end", mebibytes(line.map(|line| line.end))),
            ("memory with nobody there, MiB, first", mebibytes(first)),
            ("the same, last", mebibytes(last)),
            ("left behind", json!(left)),
            ("server's CPU, s", seconds(cpu)),
            ("clients' CPU, s", seconds(own)),
            ("warnings in the log", json!(log.warnings)),
        ] {
            table.row(vec![json!(what), value]);
        }
        table.note(format!(
            "seed {}; {ROOMS} rooms; a subscriber is stuck that has no packet of a published, unmuted track for {} s; the worst wait was of {}",
            arguments.seed,
            STUCK.as_secs(),
            if self.seen.worst_of.is_empty() { "nobody" } else { &self.seen.worst_of },
        ));
        table.note(
            "memory with people there depends on who publishes what, by more than may grow: what is compared is what they leave. \
             The fit is a line of least squares after the first sixth",
        );
        let paused = self.seen.paused();
        if paused > 0 {
            table.note(format!(
                "{paused} times this machine ran nothing of the command for more than a second; waits began anew then"
            ));
        }
        if self.interrupted {
            table.note("interrupted");
        }
        if let Err(Violation(text)) = outcome {
            table.note(format!("VIOLATION: {text}"));
        }
        table.at_most("violations", f64::from(u8::from(outcome.is_err())), 0.0);
        if let Some(left) = left {
            table.at_most("left behind", left as f64, 0.0);
        }
        match self.memory.growth() {
            Some((growth, bound)) => table.at_most("growth, MiB", growth / MIB, bound / MIB),
            None => table.note("too short to say whether memory is flat"),
        }
        table.finish(arguments.options)
    }
}

const MIB: f64 = 1024.0 * 1024.0;
