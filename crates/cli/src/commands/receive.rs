//! `visavis receive`.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf, is_separator};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use indicatif::DecimalBytes;
use serde_json::json;
use visavis::Endpoint;

use crate::exit::{self, Exit, with_exit_codes};
use crate::output::err;
use crate::pairing::Invitation;
use crate::pairing::client::{self, RendezvousError};
use crate::pairing::connect::{self, ConnectError, Own};
use crate::pairing::host::ServerArgs;
use crate::pairing::keep::{Role, keep};
use crate::transfer::progress::Progress;
use crate::transfer::receive::{self, Offer, ReceiveError};
use crate::transfer::store::{OnConflict, Store, StoreError, top};

/// Pause between two tries.
const RETRY: Duration = Duration::from_secs(2);

/// Receive what `visavis send` offers.
///
/// Files arrive directly from the other machine, encrypted end to end, and are put in their place only
/// when all of them are there and verified. Nothing is overwritten without asking.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// The code or the link that `visavis send` printed.
    #[arg(required = true, value_name = "CODE|LINK", num_args = 1..)]
    code: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
    /// Where to put it: a directory, which is made if need be where several files come or the path ends with "/"; a new name
    /// for a single file or directory; or "-" for standard output.
    #[arg(long, short, default_value = ".", value_name = "PATH|-")]
    output: PathBuf,
    /// Replace files that are there already.
    #[arg(long, conflicts_with = "rename")]
    overwrite: bool,
    /// Choose another name where one is taken.
    #[arg(long)]
    rename: bool,
    /// Do not ask whether to receive it.
    #[arg(long, short)]
    yes: bool,
    /// After the connection broke, try so many seconds to get it back.
    #[arg(long, default_value_t = 600, value_name = "SECONDS")]
    retry: u64,
    /// Print events as lines of JSON; implies --yes.
    #[arg(long)]
    json: bool,
    /// Print nothing but errors; implies --yes.
    #[arg(long, short)]
    quiet: bool,
}

const LONG_HELP: &str = with_exit_codes!(
    "\
Examples:
  visavis receive 4821-copper-tulip-raven
  visavis receive --server meet.example.org --output photos/ 4821-copper-tulip-raven
  visavis receive -o - 4821-copper-tulip-raven | tar x

If the connection breaks, it is made anew and goes on where it was. Run again in the same place, also
days later, the command goes on as well: unfinished transfers are kept in .visavis-partial-*.

"
);

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::block_on(async move {
        let progress = Progress::new(args.json, args.quiet);
        let mut interrupt = crate::runtime::Interrupt::new();
        let failed = tokio::select! {
            result = fetch(&args, &progress) => match result {
                Ok(()) => return Exit::Success,
                Err(failed) => failed,
            },
            () = interrupt.arrives() => Failed {
                exit: Exit::Interrupted,
                text: match progress.has_begun() {
                    true => "stopped; run the same command again to go on".into(),
                    false => "stopped before anything came".into(),
                },
            },
        };
        progress.fail(&failed.text);
        failed.exit
    })
}

/// Why it ended, and with which code.
#[derive(Debug)]
struct Failed {
    exit: Exit,
    text: String,
}

impl Failed {
    fn new(exit: Exit, error: impl std::fmt::Display) -> Self {
        Self {
            exit,
            text: error.to_string(),
        }
    }
}

impl From<RendezvousError> for Failed {
    fn from(error: RendezvousError) -> Self {
        let exit = match &error {
            RendezvousError::Refused { code, .. } if code == "host-away" => Exit::Unreachable,
            RendezvousError::Lost => Exit::Broken,
            error => error.exit(),
        };
        let text = match &error {
            RendezvousError::Refused { code, .. } if code == "no-such-slot" => {
                "nobody waits under this code. Is `visavis send` still running, is the code right, and the server the same?".to_owned()
            }
            _ => error.to_string(),
        };
        Self { exit, text }
    }
}

impl From<ConnectError> for Failed {
    fn from(error: ConnectError) -> Self {
        let exit = match &error {
            ConnectError::WrongCode(_) => Exit::Code,
            ConnectError::Left | ConnectError::Silent => Exit::Broken,
            ConnectError::NoPath(_) => Exit::Unreachable,
            _ => Exit::Failure,
        };
        Self::new(exit, error)
    }
}

impl From<ReceiveError> for Failed {
    fn from(error: ReceiveError) -> Self {
        let exit = match &error {
            ReceiveError::Lost => Exit::Broken,
            ReceiveError::Store(StoreError::Damaged(_)) => Exit::Broken,
            ReceiveError::Store(StoreError::Protocol(_)) | ReceiveError::Version => Exit::Failure,
            ReceiveError::Store(_) | ReceiveError::Unreadable { .. } => Exit::Files,
            ReceiveError::Declined => Exit::Declined,
        };
        Self::new(exit, error)
    }
}

async fn fetch(args: &Args, progress: &Progress) -> Result<(), Failed> {
    let invitation: Invitation = args
        .code
        .join("-")
        .parse()
        .map_err(|error| Failed::new(Exit::Code, error))?;
    let endpoint =
        crate::runtime::endpoint().map_err(|error| Failed::new(Exit::Unreachable, error))?;
    if matches!(invitation, Invitation::Code(_)) && args.server.server.is_none() {
        progress.say("looking for the sender on this network …");
    }
    let mut agreed = Agreement::default();
    let mut since = Instant::now();
    loop {
        let before = agreed.begun;
        let failed = match once(args, progress, &endpoint, &invitation, &mut agreed).await {
            Ok(()) => return Ok(()),
            Err(failed) => failed,
        };
        // Before anything came there is nothing to go on with, and the user wants to know at once.
        let lost = matches!(failed.exit, Exit::Broken | Exit::Unreachable);
        if !agreed.begun || !lost {
            return Err(failed);
        }
        if !before || agreed.progressed {
            since = Instant::now();
            agreed.progressed = false;
        }
        if since.elapsed() > Duration::from_secs(args.retry) {
            let text = format!("{}; run the same command again to go on", failed.text);
            return Err(Failed::new(Exit::Broken, text));
        }
        progress.event(&json!({ "event": "retrying", "reason": failed.text }));
        progress.say(&format!("{}; trying again", failed.text));
        tokio::time::sleep(RETRY).await;
    }
}

/// What the user has agreed to, so that nothing is asked twice.
#[derive(Debug, Default)]
struct Agreement {
    begun: bool,
    progressed: bool,
    policy: Option<OnConflict>,
}

async fn once(
    args: &Args,
    progress: &Progress,
    endpoint: &Endpoint,
    invitation: &Invitation,
    agreed: &mut Agreement,
) -> Result<(), Failed> {
    // Each time anew: on the LAN the host's address may be another one now.
    let server = client::find(&args.server, invitation).await?;
    let (host, ice) = client::join(&server, invitation.slot()).await?;
    let secret = invitation.secret();
    let own = Own {
        large_packets: true,
        ..Own::from(endpoint)
    };
    let paired = connect::guest(own, &ice, invitation.slot(), secret, host).await?;
    let role = Role::Guest {
        server: args.server.clone(),
        invitation: invitation.clone(),
    };
    let _kept = keep(paired.connection, paired.signalling, paired.session, role);
    let mut channel = paired.channel;
    let channel = &mut channel;
    let offer = receive::offer(channel).await?;
    let entries = offer.entries.clone();
    let mut store = match open_store(args, &offer) {
        Ok(store) => store,
        Err(error) => {
            receive::give_up(channel, "it cannot be stored").await;
            return Err(ReceiveError::from(error).into());
        }
    };
    if !agreed.begun {
        progress.event(&json!({
            "event": "offer", "entries": entries.len(), "bytes": offer.bytes,
        }));
        progress.say(&describe(&offer));
        if !confirm(args, "receive it?").await {
            receive::decline(channel, "the receiver does not want it").await;
            return Err(ReceiveError::Declined.into());
        }
    }
    let policy = match agreed.policy {
        Some(policy) => policy,
        None => decide(args, &store).await,
    };
    if let Err(error) = store.settle(policy) {
        receive::give_up(channel, "it has files of that name").await;
        return Err(ReceiveError::from(error).into());
    }
    agreed.policy = Some(policy);
    agreed.begun = true;
    let files = entries.iter().filter(|entry| !entry.directory).count();
    let path = |entry: u64| {
        let entry = usize::try_from(entry)
            .ok()
            .and_then(|entry| entries.get(entry));
        entry.map_or_else(|| "a file".to_owned(), |entry| entry.path.clone())
    };
    let result = receive::receive(channel, offer.bytes, files, path, store, progress).await;
    agreed.progressed = true;
    let placed = result?;
    progress.event(&json!({ "event": "received", "paths": placed }));
    for path in placed {
        progress.say(&format!("received {}", path.display()));
    }
    Ok(())
}

fn open_store(args: &Args, offer: &Offer) -> Result<Store, StoreError> {
    let entries = offer.entries.clone();
    if args.output.as_os_str() == "-" {
        return Store::output(entries);
    }
    let mut tops = entries.iter().map(|entry| top(&entry.path));
    let first = tops.next();
    let several = tops.any(|top| Some(top) != first);
    let slash = args.output.to_string_lossy().ends_with(is_separator);
    if several || slash || args.output.is_dir() {
        return Store::directory(&args.output, entries, None);
    }
    // A path that is no directory is the new name.
    let parent = match args.output.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let name = args.output.file_name().and_then(|name| name.to_str());
    Store::directory(parent, entries, name)
}

fn describe(offer: &Offer) -> String {
    let size = match offer.bytes {
        Some(bytes) => DecimalBytes(bytes).to_string(),
        None => "of unknown size".into(),
    };
    match offer.entries.as_slice() {
        [only] => format!("{} ({size})", only.path),
        [first, ..] => format!(
            "{} and what belongs to it: {} files ({size})",
            top(&first.path),
            offer.entries.len()
        ),
        [] => String::new(),
    }
}

async fn confirm(args: &Args, question: &str) -> bool {
    let silent = args.yes || args.json || args.quiet || args.output.as_os_str() == "-";
    if silent || !std::io::stdin().is_terminal() {
        return true;
    }
    matches!(
        ask(&format!("{question} [Y/n] ")).await.as_deref(),
        Some("" | "y" | "yes")
    )
}

async fn decide(args: &Args, store: &Store) -> OnConflict {
    if args.overwrite {
        return OnConflict::Overwrite;
    }
    if args.rename {
        return OnConflict::Rename;
    }
    let taken = store.conflicts();
    if taken.is_empty() || args.json || args.quiet || !std::io::stdin().is_terminal() {
        return OnConflict::Fail;
    }
    for path in taken {
        err!("{} is there already.", path.display());
    }
    match ask("overwrite, rename or cancel? [o/r/C] ")
        .await
        .as_deref()
    {
        Some("o" | "overwrite") => OnConflict::Overwrite,
        Some("r" | "rename") => OnConflict::Rename,
        _ => OnConflict::Fail,
    }
}

/// One line from the terminal, in lower case. `None` if it was closed instead, which is no consent.
async fn ask(question: &str) -> Option<String> {
    let mut screen = std::io::stderr();
    let _ = write!(screen, "{question}").and_then(|()| screen.flush());
    let read = tokio::task::spawn_blocking(|| {
        let mut line = String::new();
        let read = std::io::stdin().lock().read_line(&mut line);
        read.is_ok_and(|read| read > 0)
            .then(|| line.trim().to_lowercase())
    });
    let answer = read.await.ok().flatten();
    if answer.is_none() {
        err!("");
    }
    answer
}
