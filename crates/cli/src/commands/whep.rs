//! `visavis whep`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use visavis::{Configuration, Direction, Kind, PeerConnection, TransceiverInit};
use visavis_server::Recorded;

use crate::exit::{self, Exit, with_exit_codes};
use crate::media::{Access, Recorder, broken, connected, negotiate};
use crate::output::err;

/// Record what a WHEP endpoint plays.
///
/// Each track goes into a file of its own, as it was sent: WebM for Opus, VP8 and VP9, IVF for AV1, a plain stream for H.264 and
/// H.265. `recording.jsonl` says which file is what.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP, after_long_help = LONG_HELP)]
pub(crate) struct Args {
    /// The endpoint, e.g. `https://meet.example.org/whep/ROOM`.
    url: String,
    /// Where to; made if need be.
    #[arg(long, short, value_name = "DIR", default_value = "recording")]
    output: PathBuf,
    /// End after so many seconds; without it, when the server ends it or at Ctrl-C.
    #[arg(long = "for", value_name = "SECONDS")]
    seconds: Option<f64>,
    /// Pictures or sound alone.
    #[arg(long, value_enum)]
    only: Option<Only>,
    #[command(flatten)]
    access: Access,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Only {
    Audio,
    Video,
}

const LONG_HELP: &str = with_exit_codes!(
    "\
Examples:
  visavis whep https://meet.example.org/whep/lobby --token \"$TOKEN\" --output lobby
  visavis whep http://localhost:7880/whep/lobby --for 60
  ffplay recording/001-*.webm

"
);

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::report(record(&args))
}

async fn record(args: &Args) -> Result<Exit, (Exit, String)> {
    let failed = |error: visavis::Error| (Exit::Failure, error.to_string());
    let files =
        |error: std::io::Error| (Exit::Files, format!("{}: {error}", args.output.display()));
    let endpoint = crate::runtime::endpoint().map_err(failed)?;
    let connection = endpoint
        .peer_connection(Configuration::default())
        .map_err(failed)?;
    let mut recorder = Recorder::new(&args.output).map_err(files)?;
    for (kind, only, source) in [
        (Kind::Audio, Only::Audio, "microphone"),
        (Kind::Video, Only::Video, "camera"),
    ] {
        if args.only.is_some_and(|wanted| wanted != only) {
            continue;
        }
        let init = TransceiverInit {
            direction: Direction::RecvOnly,
            ..TransceiverInit::default()
        };
        let transceiver = connection.add_transceiver(kind, init).map_err(failed)?;
        recorder.add(
            transceiver.receiver(),
            Recorded {
                room: args.url.clone(),
                identity: "whep".to_owned(),
                source: source.to_owned(),
                ..Recorded::default()
            },
        );
    }
    let session = negotiate(&connection, &args.url, &args.access).await?;
    let mut interrupt = crate::runtime::Interrupt::new();
    let result = tokio::select! {
        result = wait(&connection, args) => result,
        () = interrupt.arrives() => Ok(()),
    };
    session.end().await;
    connection.close();
    let recorded = recorder.finish().await.map_err(files)?;
    for (recorded, frames) in &recorded {
        let path = args.output.join(&recorded.file);
        err!("{}: {frames} frames", path.display());
    }
    result?;
    if recorded.is_empty() {
        let text = "nothing came that could be recorded; does somebody publish there?";
        return Err((Exit::Failure, text.to_owned()));
    }
    Ok(Exit::Success)
}

async fn wait(connection: &PeerConnection, args: &Args) -> Result<(), (Exit, String)> {
    connected(connection, |_| ())
        .await
        .map_err(|error| (Exit::Unreachable, error))?;
    err!(
        "recording {} into {}; Ctrl-C ends",
        args.url,
        args.output.display()
    );
    let time = async {
        match args
            .seconds
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        {
            Some(time) => tokio::time::sleep(time).await,
            None => std::future::pending().await,
        }
    };
    tokio::select! {
        () = time => {}
        () = broken(connection) => {}
    }
    Ok(())
}
