//! What every subcommand runs on.

use std::io::IsTerminal as _;
use std::process::ExitCode;

use visavis::{Endpoint, Settings};

use crate::exit::Exit;
use crate::output::err;

/// The largest datagram in bytes. In an Ethernet frame this leaves 100 bytes for IPv6, UDP, a relay's channel and a tunnel of
/// some provider: a transfer that moves to such a path goes on. The rest of the frame would save 0.3 % of the bytes.
pub(crate) const DATAGRAM: usize = 1400;

/// Sockets for the connections of this process.
pub(crate) fn endpoint() -> Result<Endpoint, visavis::Error> {
    let mut settings = Settings::default();
    // The other side may be on this very machine.
    settings.interfaces.loopback = true;
    // Packets grow to it where the path was found to carry them.
    settings.mtu = DATAGRAM;
    Endpoint::new(settings)
}

#[cfg(unix)]
use tokio::signal::unix::Signal as Listener;
#[cfg(windows)]
use tokio::signal::windows::CtrlC as Listener;

/// Ctrl-C, from the making of this on: whoever reads what is printed afterwards may answer with it.
pub(crate) struct Interrupt(Option<Listener>);

impl Interrupt {
    pub(crate) fn new() -> Self {
        #[cfg(unix)]
        let listener = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
        #[cfg(windows)]
        let listener = tokio::signal::windows::ctrl_c();
        // Without it the system ends the process.
        Self(listener.ok())
    }

    pub(crate) async fn arrives(&mut self) {
        match &mut self.0 {
            Some(listener) => listener.recv().await.unwrap_or(()),
            None => std::future::pending().await,
        }
    }
}

/// Tells on standard error what happens inside, as far as `$VISAVIS_LOG` asks for it.
fn start_log() {
    if let Ok(filter) = tracing_subscriber::EnvFilter::try_from_env("VISAVIS_LOG") {
        let log = tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_ansi(std::io::stderr().is_terminal());
        // A program around this one may have a log already.
        let _ = log.with_writer(std::io::stderr).try_init();
    }
}

/// Runs a subcommand to its end.
pub(crate) fn block_on(command: impl Future<Output = Exit>) -> ExitCode {
    start_log();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build();
    match runtime {
        Ok(runtime) => {
            let exit = runtime.block_on(command);
            // A thread may be waiting for a terminal that says nothing more.
            runtime.shutdown_background();
            exit.into()
        }
        Err(error) => {
            err!("cannot start: {error}");
            Exit::Failure.into()
        }
    }
}

/// Runs a subcommand that ends with a code, or with a code and the words for it.
pub(crate) fn report(command: impl Future<Output = Result<Exit, (Exit, String)>>) -> ExitCode {
    block_on(async {
        command.await.unwrap_or_else(|(exit, text)| {
            err!("{text}");
            exit
        })
    })
}
