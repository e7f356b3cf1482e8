//! `visavis chat`.

use std::process::ExitCode;

use tokio::io::{AsyncBufReadExt, BufReader};
use visavis::{DataChannel, Message};

use crate::exit::{self, Exit, with_exit_codes};
use crate::output::{err, out};
use crate::pairing::client::{self, RendezvousError};
use crate::pairing::connect::{self, ConnectError, Paired};
use crate::pairing::host::{Hosting, ServerArgs};
use crate::pairing::keep::{Role, keep};
use crate::pairing::{Code, Invitation};

/// Talk to somebody in lines of text, peer to peer and encrypted end to end.
///
/// Without a code one is printed, for the other side to use. Lines are read from standard input and
/// printed to standard output, so it is a pipe between two machines as well.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// The code that the other side's `visavis chat` printed.
    #[arg(value_name = "CODE", num_args = 0..)]
    code: Vec<String>,
    #[command(flatten)]
    server: ServerArgs,
}

const LONG_HELP: &str = with_exit_codes!(
    "\
Examples:
  visavis chat                                    prints a code and waits
  visavis chat 4821-copper-tulip-raven            on the other machine
  tail -f /var/log/syslog | visavis chat --server meet.example.org

Ctrl-C or the end of standard input ends it.

"
);

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::report(async {
        let mut interrupt = crate::runtime::Interrupt::new();
        let paired = tokio::select! {
            paired = meet(&args) => paired?,
            () = interrupt.arrives() => return Ok(Exit::Interrupted),
        };
        tokio::select! {
            result = chat(paired) => result.map(|()| Exit::Success),
            () = interrupt.arrives() => Ok(Exit::Success),
        }
    })
}

async fn meet(args: &Args) -> Result<Paired, (Exit, String)> {
    if args.code.is_empty() {
        host(args).await
    } else {
        join(args).await
    }
}

async fn chat(paired: Paired) -> Result<(), (Exit, String)> {
    err!("connected");
    let channel = paired.channel;
    let _kept = keep(paired.connection, paired.signalling, None, Role::Plain);
    talk(channel).await
}

async fn host(args: &Args) -> Result<Paired, (Exit, String)> {
    let endpoint = crate::runtime::endpoint().map_err(failed)?;
    let mut hosting = Hosting::start(&args.server, None)
        .await
        .map_err(unreachable)?;
    hosting.invite("chat", false, false);
    let mut wrong = 0;
    loop {
        let guest = hosting.next_guest().await.map_err(unreachable)?;
        match connect::host(&endpoint, &hosting.secrets, "chat", guest).await {
            Ok(paired) => return Ok(paired),
            Err(ConnectError::WrongCode(_)) if wrong < 5 => {
                wrong += 1;
                err!("somebody came with a wrong code");
            }
            Err(error @ ConnectError::WrongCode(_)) => return Err((Exit::Code, error.to_string())),
            Err(error) => err!("{error}"),
        }
    }
}

async fn join(args: &Args) -> Result<Paired, (Exit, String)> {
    let code: Code = args
        .code
        .join("-")
        .parse()
        .map_err(|error: crate::pairing::CodeError| (Exit::Code, error.to_string()))?;
    let endpoint = crate::runtime::endpoint().map_err(failed)?;
    let invitation = Invitation::Code(code);
    let server = client::find(&args.server, &invitation)
        .await
        .map_err(unreachable)?;
    let (host, ice) = client::join(&server, invitation.slot())
        .await
        .map_err(unreachable)?;
    connect::guest(
        &endpoint,
        &ice,
        invitation.slot(),
        invitation.secret(),
        host,
    )
    .await
    .map_err(|error| match error {
        ConnectError::WrongCode(_) => (Exit::Code, error.to_string()),
        error => (Exit::Unreachable, error.to_string()),
    })
}

async fn talk(mut channel: DataChannel) -> Result<(), (Exit, String)> {
    let mut lines = BufReader::new(tokio::io::stdin()).lines();
    let mut open = true;
    loop {
        // A line that has been read must go out, so sending is not raced against receiving.
        tokio::select! {
            line = lines.next_line(), if open => match line {
                Ok(Some(line)) => {
                    if channel.feed(line).await.is_err() {
                        break;
                    }
                }
                _ => {
                    open = false;
                    channel.buffered_amount_low(0).await;
                    channel.close();
                }
            },
            message = channel.recv() => match message {
                Some(Message::Text(text)) => {
                    // What comes from elsewhere must not drive the terminal.
                    let plain: String = text.chars().filter(|c| !c.is_control() || *c == '\t').collect();
                    out!("{plain}");
                }
                Some(Message::Binary(_)) => {}
                None => break,
            },
        }
    }
    if open {
        err!("the other side left");
    }
    Ok(())
}

fn failed(error: visavis::Error) -> (Exit, String) {
    (Exit::Unreachable, error.to_string())
}

fn unreachable(error: RendezvousError) -> (Exit, String) {
    (error.exit(), error.to_string())
}
