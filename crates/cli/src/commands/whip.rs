//! `visavis whip`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use visavis::{Configuration, PeerConnection};

use crate::exit::{self, Exit, with_exit_codes};
use crate::media::{Access, Playback, broken, connected, negotiate, play_all, prepare};
use crate::output::err;

/// What was sent last may still be in the pacer.
const LINGER: Duration = Duration::from_millis(300);

/// Publish files or a pipe to a WHIP endpoint (RFC 9725).
///
/// What is encoded already is sent as it is, at the pace of its timestamps: IVF (VP8, VP9, AV1), Ogg (Opus), WebM. A viewer
/// sees pictures from the next key frame of the file on, so give it one every two seconds or so.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// The endpoint, e.g. `https://meet.example.org/whip/ROOM`.
    url: String,
    /// Files to publish together; `-` is standard input (IVF or Ogg).
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Begin again at the end of the files, until Ctrl-C.
    #[arg(long = "loop")]
    again: bool,
    #[command(flatten)]
    access: Access,
}

const LONG_HELP: &str = with_exit_codes!(
    "\
Examples:
  visavis whip https://meet.example.org/whip/lobby film.webm --token \"$TOKEN\"
  visavis whip http://localhost:7880/whip/lobby picture.ivf sound.ogg --loop
  ffmpeg -re -i film.mp4 -an -c:v libvpx -g 60 -deadline realtime -f ivf - | visavis whip URL -

Tokens for `visavis serve` are LiveKit's; `visavis keygen token` makes them. Without one the server is asked, as its page
does.

"
);

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::report(publish(&args))
}

async fn publish(args: &Args) -> Result<Exit, (Exit, String)> {
    let failed = |error: visavis::Error| (Exit::Failure, error.to_string());
    let endpoint = crate::runtime::endpoint().map_err(failed)?;
    let connection = endpoint
        .peer_connection(Configuration::default())
        .map_err(failed)?;
    let sources = prepare(&connection, &args.files)?;
    let session = negotiate(&connection, &args.url, &args.access).await?;
    let mut interrupt = crate::runtime::Interrupt::new();
    let result = tokio::select! {
        result = send(&connection, sources, args) => result,
        () = interrupt.arrives() => Ok(Exit::Interrupted),
    };
    session.end().await;
    result
}

async fn send(
    connection: &PeerConnection,
    sources: Vec<Playback>,
    args: &Args,
) -> Result<Exit, (Exit, String)> {
    connected(connection, |_| ())
        .await
        .map_err(|error| (Exit::Unreachable, error))?;
    err!("publishing to {}; Ctrl-C ends", args.url);
    tokio::select! {
        sent = play_all(sources, args.again) => {
            let sent = sent?;
            // The last packets are on their way.
            tokio::time::sleep(LINGER).await;
            err!("{sent} frames were sent");
            Ok(Exit::Success)
        }
        () = broken(connection) => Err((Exit::Broken, "the connection broke".to_owned())),
    }
}
