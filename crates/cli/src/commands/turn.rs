//! `visavis turn`: the STUN and TURN service by itself.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::EnvFilter;
use visavis_server::turn::{Certificates, Generated, Settings, TurnError, TurnService, router};

use crate::exit::Exit;
use crate::output::{err, out};

/// Run a STUN and TURN server.
///
/// Settings may be given as flags, as environment variables (VISAVIS_TURN_...) and in a TOML file, with the same names.
/// Without any, the server relays for a user whose password it makes up and prints. SIGHUP reads the file again, SIGTERM
/// ends the service once its allocations have ended.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  visavis turn                                        a user is made up and printed
  visavis turn --secret \"$(visavis keygen turn)\"     for time-limited credentials
  visavis turn --user alice:secret --relay-ip 10.0.0.5/203.0.113.7     behind a router that maps one to one
  visavis turn --print-config > turn.toml

Exit codes:
  0  ended when asked to   1  it cannot start, or failed   2  wrong settings   6  a file cannot be read or used")]
pub(crate) struct Args {
    /// A TOML file with settings
    #[arg(long, short, env = "VISAVIS_TURN_CONFIG")]
    config: Option<PathBuf>,
    /// Print the settings that would be used, as a TOML file, and end
    #[arg(long)]
    print_config: bool,
    #[command(flatten)]
    settings: Settings,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build();
    let result = match runtime {
        Ok(runtime) => runtime.block_on(serve(&args)),
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(()) => Exit::Success.into(),
        Err(error) => {
            err!("visavis turn: {error}");
            let exit = match error {
                TurnError::Setting(_) => Exit::Usage,
                TurnError::File(_) | TurnError::Certificate(_) => Exit::Files,
                _ => Exit::Failure,
            };
            exit.into()
        }
    }
}

impl Args {
    /// Flags and environment over the file.
    fn read(&self) -> Result<Settings, TurnError> {
        match &self.config {
            Some(path) => self.settings.over(&Settings::from_file(path)?),
            None => Ok(self.settings.clone()),
        }
    }
}

async fn serve(args: &Args) -> Result<(), TurnError> {
    let generated = Generated::draw();
    let settings = args.read()?;
    let config = settings.resolve(&generated)?;
    if args.print_config {
        out!("{}", settings.effective(&generated).to_toml().trim_end());
        return Ok(());
    }
    start_logging(&settings);
    let signals = Signals::listen()?;
    let self_signed = config.certificates == Certificates::SelfSigned;
    let private: Vec<_> = config
        .core
        .relays
        .iter()
        .filter(|relay| !config.core.filter.allows_ip(relay.external))
        .map(|relay| relay.external)
        .collect();
    let service = TurnService::start(config)?;
    for address in service.udp_addresses() {
        out!("listening on {address} over UDP and DTLS");
    }
    for (address, tls) in service.tcp_addresses() {
        let protocol = if *tls { "TLS" } else { "TCP" };
        out!("listening on {address} over {protocol}");
    }
    if settings.needs_generated() {
        out!(
            "user visavis, password {}\nsecret for time-limited credentials {}\n(made up for this run: give `user` or `secret` to choose)",
            generated.password,
            generated.secret
        );
    }
    if !private.is_empty() {
        tracing::warn!(
            addresses = ?private,
            "relaying from private addresses: clients elsewhere cannot be reached there; behind a NAT give `relay-ip` as BIND/EXTERNAL"
        );
    }
    if self_signed && !service.tcp_addresses().iter().all(|(_, tls)| !tls) {
        tracing::warn!(
            "the certificate is self-signed: browsers refuse it; give `certificate` or `acme-domain`"
        );
    }
    if let Some(address) = settings.admin_address()? {
        let listener = tokio::net::TcpListener::bind(address).await.map_err(|error| {
            let text = format!(
                "`admin`: cannot listen on {address}: {error}; choose another address, or \"none\""
            );
            TurnError::Socket(std::io::Error::new(error.kind(), text))
        })?;
        out!("health and metrics on http://{}", listener.local_addr()?);
        let router = router(service.clone());
        tokio::spawn(async move {
            if let Err(error) = axum::serve(listener, router).await {
                tracing::error!(%error, "the admin interface ended");
            }
        });
    }
    wait(args, &generated, &service, signals).await
}

/// What the system asks of the service. Listened to before it says that it is ready.
struct Signals {
    hangup: Signal,
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn listen() -> std::io::Result<Self> {
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }
}

/// Until the service is to end.
async fn wait(
    args: &Args,
    generated: &Generated,
    service: &TurnService,
    signals: Signals,
) -> Result<(), TurnError> {
    let Signals {
        mut hangup,
        mut terminate,
        mut interrupt,
    } = signals;
    loop {
        tokio::select! {
            _ = hangup.recv() => {
                let reloaded = args
                    .read()
                    .and_then(|settings| settings.resolve(generated))
                    .and_then(|config| service.reload(config));
                match reloaded {
                    Ok(fixed) if fixed.is_empty() => tracing::info!("settings read again"),
                    Ok(fixed) => tracing::warn!(?fixed, "settings read again; these need a restart"),
                    Err(error) => tracing::error!(%error, "the new settings are not used"),
                }
            }
            _ = terminate.recv() => {
                tracing::info!("draining: no new allocations; again to end at once");
                tokio::select! {
                    () = service.drain() => {}
                    _ = terminate.recv() => {}
                    _ = interrupt.recv() => {}
                }
                break;
            }
            _ = interrupt.recv() => break,
        }
    }
    service.stop();
    tracing::info!("ended");
    Ok(())
}

fn start_logging(settings: &Settings) {
    let level = settings.log.as_deref().unwrap_or("info");
    let filter = EnvFilter::try_new(level).unwrap_or_else(|_| EnvFilter::new("info"));
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for people, not for files and journals.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A second subscriber, in tests, is no fault.
    let _ = if settings.log_json == Some(true) {
        builder.json().try_init()
    } else {
        builder.with_target(false).try_init()
    };
}
