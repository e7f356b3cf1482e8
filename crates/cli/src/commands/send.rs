//! `visavis send`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use visavis::Endpoint;

use crate::exit::{self, Exit, with_exit_codes};
use crate::output::out;
use crate::pairing::Code;
use crate::pairing::client::RendezvousError;
use crate::pairing::connect::{self, ConnectError, HostSecrets, Own, Paired};
use crate::pairing::host::{Guest, Hosting, ServerArgs};
use crate::pairing::keep::{Interfaces, Role, Sessions, keep};
use crate::transfer::progress::Progress;
use crate::transfer::rate::{self, RateLimit};
use crate::transfer::send::{SendError, send};
use crate::transfer::source::Source;

/// Wrong codes that are put up with before the code is given up: each is one guess of a stranger.
const WRONG_CODES: u32 = 5;

/// Send files, directories or standard input to another machine.
///
/// Prints a short code, and with a server also a link for a browser. Whoever has one of them receives
/// the files, directly from this machine and encrypted end to end; the server only introduces the two.
/// Without a server both must be on the same local network.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// What to send; "-" is standard input.
    #[arg(required = true, value_name = "FILE|DIR|-")]
    paths: Vec<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
    /// The name under which it arrives.
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Use this code (again) instead of a new one.
    #[arg(long, value_name = "CODE")]
    code: Option<Code>,
    /// Send no faster than so many bytes per second, e.g. 800k or 10M.
    #[arg(long, value_parser = rate::parse, value_name = "RATE")]
    rate: Option<u64>,
    /// End after so many receivers; 0 for never.
    #[arg(long, default_value_t = 1, value_name = "N")]
    receivers: u32,
    /// Print no QR code.
    #[arg(long)]
    no_qr: bool,
    /// Print events as lines of JSON.
    #[arg(long)]
    json: bool,
    /// Print the code and nothing else.
    #[arg(long, short)]
    quiet: bool,
}

const LONG_HELP: &str = with_exit_codes!(
    "\
Examples:
  visavis send holiday.mp4                        on the same network
  visavis send --server meet.example.org photos/  anywhere
  tar c . | visavis send --name all.tar -
  visavis send --receivers 0 --rate 10M dist/     until Ctrl-C, for everybody who has the code

If the connection breaks, the receiver comes back by itself and goes on where it was, for as long as
this command runs. After it was stopped, the same command with --code goes on as well.

"
);

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::block_on(serve(args))
}

struct Sender {
    source: Arc<Source>,
    endpoint: Endpoint,
    secrets: HostSecrets,
    rate: Option<u64>,
    progress: Progress,
    /// Connections that receivers come back to.
    sessions: Sessions,
    /// Hears when the server is worth a look.
    doubts: mpsc::Sender<()>,
}

/// A guest that was served, and how that ended.
type Ended = Result<(), (Exit, String)>;

async fn serve(args: Args) -> Exit {
    let progress = Progress::new(args.json, args.quiet);
    let mut interrupt = crate::runtime::Interrupt::new();
    let result = tokio::select! {
        result = host(&args, &progress) => result,
        () = interrupt.arrives() => Err((
            Exit::Interrupted,
            match progress.has_begun() {
                true => "stopped; what was received so far is kept by the receiver".to_owned(),
                false => "stopped before anybody received it".to_owned(),
            },
        )),
    };
    match result {
        Ok(()) => Exit::Success,
        Err((exit, text)) => {
            progress.fail(&text);
            exit
        }
    }
}

async fn host(args: &Args, progress: &Progress) -> Ended {
    let unreachable = |error: visavis::Error| (Exit::Unreachable, error.to_string());
    let refused = |error: RendezvousError| (error.exit(), error.to_string());
    let source = Source::new(&args.paths, args.name.as_deref())
        .map_err(|error| (Exit::Files, error.to_string()))?;
    for path in &source.skipped {
        progress.say(&format!(
            "left out, neither file nor directory: {}",
            path.display()
        ));
    }
    let mut hosting = Hosting::start(&args.server, args.code.as_ref())
        .await
        .map_err(refused)?;
    let (doubts, mut doubted) = mpsc::channel(1);
    let mut interfaces = Interfaces::watch();
    let sender = Arc::new(Sender {
        sessions: Sessions::default(),
        doubts,
        endpoint: crate::runtime::endpoint().map_err(unreachable)?,
        secrets: hosting.secrets.clone(),
        rate: args.rate,
        progress: progress.clone(),
        source: Arc::new(source),
    });
    invite(args, &sender, &hosting);
    let mut guests = JoinSet::new();
    let (mut complete, mut wrong) = (0, 0);
    loop {
        tokio::select! {
            guest = hosting.next_guest() => {
                let (sender, guest) = (Arc::clone(&sender), guest.map_err(refused)?);
                guests.spawn(async move { attend(&sender, guest).await });
            }
            Some(()) = doubted.recv() => hosting.check(),
            () = interfaces.changed() => hosting.network_changed(),
            Some(ended) = guests.join_next() => {
                let ended = ended.unwrap_or_else(|error| Some(Err((Exit::Failure, error.to_string()))));
                let Some(ended) = ended else { continue };
                let Err((exit, reason)) = ended else {
                    complete += 1;
                    progress.event(&json!({ "event": "sent", "receivers": complete }));
                    progress.say("sent and verified");
                    if complete == args.receivers || sender.source.is_input() {
                        return Ok(());
                    }
                    continue;
                };
                if exit == Exit::Broken {
                    hosting.check();
                }
                wrong += u32::from(exit == Exit::Code);
                if wrong == WRONG_CODES {
                    let text = "too many wrong codes: somebody may be guessing. Start again, with a new code";
                    return Err((Exit::Code, text.to_owned()));
                }
                let last = match exit {
                    Exit::Files => true,
                    Exit::Declined => args.receivers == 1,
                    Exit::Broken => sender.source.is_input(),
                    _ => false,
                };
                if last {
                    return Err((exit, reason));
                }
                progress.event(&json!({ "event": "failed", "reason": reason }));
                progress.say(&reason);
            }
        }
    }
}

/// Serves one guest from its first word to the end. `None`: it came back to the connection that it had, which goes on.
async fn attend(sender: &Sender, guest: Guest) -> Option<Ended> {
    let wrong = || {
        let text = "somebody came with a wrong code, or left at once".to_owned();
        Some(Err((Exit::Code, text)))
    };
    let failed = |error: ConnectError| match error {
        ConnectError::WrongCode(_) => wrong(),
        error => Some(Err((Exit::Unreachable, error.to_string()))),
    };
    let arrived = match connect::greet(&sender.secrets, guest, Some(&sender.sessions)).await {
        Ok(Some(arrived)) => arrived,
        Ok(None) => return None,
        Err(error) => return failed(error),
    };
    if let Some(session) = &arrived.back {
        let welcome = sender.sessions.welcome(session, arrived.signalling).await;
        return if welcome { None } else { wrong() };
    }
    let own = Own {
        large_packets: true,
        ..Own::from(&sender.endpoint)
    };
    match connect::pair(own, "transfer", arrived).await {
        Ok(paired) => Some(transfer(sender, paired).await),
        Err(error) => failed(error),
    }
}

/// Sends everything to a guest that is connected.
async fn transfer(sender: &Sender, paired: Paired) -> Ended {
    let role = Role::Host {
        sessions: sender.sessions.clone(),
        doubts: sender.doubts.clone(),
    };
    let _kept = keep(paired.connection, paired.signalling, paired.session, role);
    let mut channel = paired.channel;
    sender.progress.event(&json!({ "event": "connected" }));
    let rate = sender.rate.map(RateLimit::new);
    let source = Arc::clone(&sender.source);
    let result = send(&mut channel, source, rate, &sender.progress).await;
    result.map_err(|error| match &error {
        SendError::Lost => (
            Exit::Broken,
            "the connection was lost; waiting for the receiver to come back".to_owned(),
        ),
        // A full disk, say: once there is room it goes on.
        SendError::Failed(_) => (
            Exit::Broken,
            format!("{error}; waiting for it to come back"),
        ),
        SendError::Declined(_) => (Exit::Declined, error.to_string()),
        SendError::Unreadable { .. } => (Exit::Files, error.to_string()),
        SendError::Protocol => (Exit::Failure, error.to_string()),
    })
}

/// Tells the user what to pass on.
fn invite(args: &Args, sender: &Sender, hosting: &Hosting) {
    if args.json {
        let event = json!({
            "event": "waiting",
            "code": hosting.code().to_string(),
            "link": hosting.link().map(|link| link.to_string()),
            "entries": sender.source.entries.len(),
            "bytes": sender.source.bytes(),
        });
        out!("{event}");
    } else if args.quiet {
        out!("{}", hosting.code());
    } else {
        hosting.invite("receive", true, !args.no_qr);
    }
}
