//! `visavis serve`: the meeting server. A setting has one name, as a flag, as an environment variable
//! (`VISAVIS_…`) and in the TOML file; flags go before the environment, the environment before the file.

use std::{
    collections::BTreeMap,
    io::IsTerminal as _,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use serde::Deserialize;
use visavis_server::{Config, Server, StartError, config::Tls};

use crate::exit::Exit;
use crate::output::{err, out};

/// Run a meeting server with its web page, signalling, media forwarding, STUN and TURN.
///
/// Without settings it serves this machine and its network, with keys and a certificate that it makes.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  visavis serve
  visavis serve --domain meet.example.org --acme --listen 0.0.0.0:443
  visavis serve --key APIxyz=SECRET --join-open false --config visavis.toml
  visavis serve --no-tls --listen 127.0.0.1:8080 --domain meet.example.org     behind a proxy

Exit codes:
  0  ended when asked to   1  it cannot start, or failed   2  wrong settings   6  a file cannot be read or used")]
pub(crate) struct Args {
    /// A TOML file with settings of the names below.
    #[arg(long, env = "VISAVIS_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// How the log is written.
    #[arg(long, env = "VISAVIS_LOG_FORMAT", value_enum, default_value_t)]
    log_format: LogFormat,
    #[command(flatten)]
    settings: Settings,
}

#[derive(Debug, Clone, Copy, Default, clap::ValueEnum)]
enum LogFormat {
    /// For people.
    #[default]
    Text,
    /// One JSON object a line.
    Json,
}

/// Defines the settings once: as flags, as variables, as TOML, and how one set goes before another.
macro_rules! settings {
    ($($(#[$meta:meta])* $env:literal $name:ident: $type:ty,)*) => {
        #[derive(Debug, Clone, Default, clap::Args, Deserialize)]
        #[serde(rename_all = "kebab-case", deny_unknown_fields, default)]
        struct Settings {
            $($(#[$meta])* #[arg(long, env = $env)] $name: Option<$type>,)*
            /// API keys: KEY=SECRET, as often as needed. None: development keys are made.
            #[arg(long = "key", env = "VISAVIS_KEY", value_parser = key_value, value_delimiter = ',')]
            #[serde(skip)]
            key: Vec<(String, String)>,
            #[arg(skip)]
            keys: BTreeMap<String, String>,
        }

        impl Settings {
            /// These, and where they say nothing, `other`'s.
            fn or(self, other: Self) -> Self {
                let mut keys = other.keys;
                keys.extend(other.key);
                keys.extend(self.keys);
                keys.extend(self.key);
                Self { $($name: self.$name.or(other.$name),)* key: Vec::new(), keys }
            }
        }
    };
}

settings! {
    /// Where to listen for HTTP, HTTPS, media over TCP and TURN over TCP and TLS [default: port 7880 of all addresses].
    #[arg(value_delimiter = ',', value_parser = super::address)]
    "VISAVIS_LISTEN" listen: Vec<SocketAddr>,
    /// Where to listen for media over UDP [default: the port of `listen`].
    #[arg(value_delimiter = ',', value_parser = super::address)]
    "VISAVIS_UDP" udp: Vec<SocketAddr>,
    /// Addresses by which clients reach this machine, if they are not its own.
    #[arg(value_delimiter = ',')]
    "VISAVIS_PUBLIC_IP" public_ip: Vec<IpAddr>,
    /// The name by which clients reach this machine.
    "VISAVIS_DOMAIN" domain: String,
    /// Get a certificate for the domain from an ACME authority (Let's Encrypt).
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    "VISAVIS_ACME" acme: bool,
    /// Whom the ACME authority may write to.
    "VISAVIS_ACME_EMAIL" acme_email: String,
    /// Another ACME authority's directory.
    "VISAVIS_ACME_DIRECTORY" acme_directory: String,
    /// Who vouches for that authority itself, in PEM.
    "VISAVIS_ACME_ROOT" acme_root: PathBuf,
    /// The certificate chain, in PEM.
    "VISAVIS_TLS_CERT" tls_cert: PathBuf,
    /// Its key, in PEM.
    "VISAVIS_TLS_KEY" tls_key: PathBuf,
    /// No TLS at all: a proxy in front speaks it.
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    "VISAVIS_NO_TLS" no_tls: bool,
    /// Allow development keys on public addresses: anyone may use this server.
    #[arg(num_args = 0..=1, default_missing_value = "true")]
    "VISAVIS_DEV" dev: bool,
    /// Whether anyone may join any room through the page [default: true].
    "VISAVIS_JOIN_OPEN" join_open: bool,
    /// Whether rooms are made when somebody joins [default: true].
    "VISAVIS_AUTO_CREATE" auto_create: bool,
    /// Whether an application's server may open a participant's microphone [default: false].
    "VISAVIS_REMOTE_UNMUTE" remote_unmute: bool,
    /// Rooms at a time [default: 10000].
    "VISAVIS_MAX_ROOMS" max_rooms: usize,
    /// Participants of a room; 0: no limit [default: 0].
    "VISAVIS_MAX_PARTICIPANTS" max_participants: u32,
    /// Seconds that a room waits for its first participant [default: 300].
    "VISAVIS_EMPTY_TIMEOUT" empty_timeout: u64,
    /// Seconds that a room lives after its last participant left [default: 20].
    "VISAVIS_DEPARTURE_TIMEOUT" departure_timeout: u64,
    /// Webhooks go to these URLs.
    #[arg(value_delimiter = ',')]
    "VISAVIS_WEBHOOK_URLS" webhook_urls: Vec<String>,
    /// The API key that signs webhooks; the first one if not set.
    "VISAVIS_WEBHOOK_KEY" webhook_key: String,
    /// Where what has to survive a restart is kept: webhooks, certificates [default: nowhere].
    "VISAVIS_STATE_DIR" state_dir: PathBuf,
    /// Relay messages between pages on any WebSocket path, and serve PeerJS [default: true].
    "VISAVIS_RELAY" relay: bool,
    /// Where recordings go; no recording if not set. Each track is a file, as it was sent: WebM (Opus, VP8, VP9),
    /// MP4 (H.264, H.265, AV1). POST /api/record/ROOM begins, DELETE ends.
    "VISAVIS_RECORD_DIR" record_dir: PathBuf,
    /// The bearer token of operators, for /metrics and /inspect; this machine only if not set.
    "VISAVIS_OPERATOR_TOKEN" operator_token: String,
    /// Seconds that a drain may take [default: 30].
    "VISAVIS_DRAIN" drain: u64,
    /// Threads that forward media; 0: one per core [default: 0].
    "VISAVIS_WORKERS" workers: usize,
    /// Answer ICE checks, and send none [default: false].
    "VISAVIS_ICE_LITE" ice_lite: bool,
    /// Serve STUN and TURN [default: true].
    "VISAVIS_TURN" turn: bool,
    /// The port of STUN and TURN over UDP [default: 3478].
    "VISAVIS_TURN_PORT" turn_port: u16,
    /// The secret of TURN credentials; made if not set.
    "VISAVIS_TURN_SECRET" turn_secret: String,
}

pub(super) fn key_value(text: &str) -> Result<(String, String), String> {
    // LiveKit's own form is `KEY: SECRET`.
    let (key, secret) = text
        .split_once(['=', ':'])
        .ok_or("an API key is KEY=SECRET")?;
    Ok((key.trim().to_owned(), secret.trim().to_owned()))
}

impl Settings {
    fn into_config(self) -> Result<Config, Failed> {
        let defaults = Config::default();
        let domain = self.domain.unwrap_or_default();
        let tls = match (self.tls_cert, self.tls_key) {
            (Some(certificate), Some(key)) => Tls::Files { certificate, key },
            (None, None) if self.acme.unwrap_or(false) => Tls::Acme {
                domains: Some(domain.clone())
                    .filter(|domain| !domain.is_empty())
                    .into_iter()
                    .collect(),
                email: self.acme_email,
                directory: self.acme_directory,
                root: self.acme_root,
            },
            (None, None) if self.no_tls.unwrap_or(false) => Tls::Off,
            (None, None) => Tls::SelfSigned,
            _ => {
                let text = "--tls-cert and --tls-key belong together";
                return Err((Exit::Usage, text.into()));
            }
        };
        Ok(Config {
            listen: self.listen.unwrap_or(defaults.listen),
            udp: self.udp.unwrap_or_default(),
            public_ip: self.public_ip.unwrap_or_default(),
            workers: self.workers.unwrap_or(defaults.workers),
            balance: defaults.balance,
            ice_lite: self.ice_lite.unwrap_or(defaults.ice_lite),
            tls,
            keys: self.keys,
            dev: self.dev.unwrap_or(defaults.dev),
            join_open: self.join_open.unwrap_or(defaults.join_open),
            auto_create: self.auto_create.unwrap_or(defaults.auto_create),
            remote_unmute: self.remote_unmute.unwrap_or(defaults.remote_unmute),
            max_rooms: self.max_rooms.unwrap_or(defaults.max_rooms),
            max_participants: self.max_participants.unwrap_or(defaults.max_participants),
            empty_timeout: self
                .empty_timeout
                .map_or(defaults.empty_timeout, Duration::from_secs),
            departure_timeout: self
                .departure_timeout
                .map_or(defaults.departure_timeout, Duration::from_secs),
            webhook_urls: self.webhook_urls.unwrap_or_default(),
            webhook_key: self.webhook_key,
            state_dir: self.state_dir,
            record_dir: self.record_dir,
            relay: self.relay.unwrap_or(defaults.relay),
            operator_token: self.operator_token,
            drain: self.drain.map_or(defaults.drain, Duration::from_secs),
            turn: self.turn.unwrap_or(defaults.turn),
            turn_port: self.turn_port.unwrap_or(defaults.turn_port),
            turn_secret: self.turn_secret.unwrap_or_default(),
            domain,
            ..defaults
        })
    }
}

pub(crate) fn run(args: Args) -> ExitCode {
    start_log(args.log_format);
    let read = move || config(args.config.as_deref(), args.settings.clone());
    match read().and_then(|config| serve(config, read)) {
        Ok(()) => Exit::Success.into(),
        Err((exit, text)) => {
            err!("visavis serve: {text}");
            exit.into()
        }
    }
}

/// Why it does not start or go on, and with which exit code.
type Failed = (Exit, String);

fn not_started(error: StartError) -> Failed {
    let exit = match error {
        StartError::Config(_) => Exit::Usage,
        StartError::Tls(_) | StartError::State(_) => Exit::Files,
        StartError::Listen { .. } => Exit::Failure,
    };
    (exit, error.to_string())
}

fn start_log(format: LogFormat) {
    let filter = tracing_subscriber::EnvFilter::try_from_env("VISAVIS_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("warn,visavis_server=info"));
    let log = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // Colours are for people, not for files and journals.
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr);
    // A program around this one may have a log already.
    let _ = match format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => log.json().try_init(),
    };
}

fn config(file: Option<&Path>, settings: Settings) -> Result<Config, Failed> {
    let from_file = match file {
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .map_err(|error| (Exit::Files, format!("{}: {error}", path.display())))?;
            toml::from_str(&text)
                .map_err(|error| (Exit::Usage, format!("{}: {error}", path.display())))?
        }
        None => Settings::default(),
    };
    let chosen = settings.listen.is_some() || from_file.listen.is_some();
    let mut config = settings.or(from_file).into_config()?;
    let machine = visavis_net::interface::addresses(&Default::default()).unwrap_or_default();
    let public = machine
        .iter()
        .any(|address| visavis_server::config::is_public(&address.ip));
    if !chosen && public && config.keys.is_empty() && !config.dev {
        // The first run on a machine in the Internet: for this machine only, until keys are set.
        for address in &mut config.listen {
            match address {
                SocketAddr::V4(address) => address.set_ip(Ipv4Addr::LOCALHOST),
                SocketAddr::V6(address) => address.set_ip(Ipv6Addr::LOCALHOST),
            }
        }
    }
    Ok(config)
}

fn serve(config: Config, read: impl Fn() -> Result<Config, Failed>) -> Result<(), Failed> {
    let failed = |error: std::io::Error| (Exit::Failure, error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(failed)?;
    runtime.block_on(async {
        let mut signals = Signals::listen().map_err(failed)?;
        let (domain, tls) = (config.domain.clone(), config.tls.clone());
        let server = Server::start(config).await.map_err(not_started)?;
        announce(&server, &domain, &tls);
        while let Asked::Reload = signals.next().await {
            let reload = |config| server.reload(config).map_err(not_started);
            match read().and_then(reload) {
                Ok(()) => tracing::info!(
                    "keys and certificate were read again; other settings wait for a restart"
                ),
                Err((_, text)) => tracing::error!("nothing was read again: {text}"),
            }
        }
        err!(
            "Draining: new rooms are refused, and who is here may finish. Once more ends at once."
        );
        tokio::select! {
            () = server.drain() => {}
            () = signals.stop() => {}
        }
        Ok(())
    })
}

/// What the system asks of the server. Listened to from the start on, so that nothing is missed meanwhile.
struct Signals {
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    hangup: tokio::signal::unix::Signal,
}

enum Asked {
    /// Ctrl-C, or what a service manager sends.
    Stop,
    /// Read the settings again.
    Reload,
}

impl Signals {
    #[cfg(unix)]
    fn listen() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    #[cfg(unix)]
    async fn next(&mut self) -> Asked {
        tokio::select! {
            _ = self.interrupt.recv() => Asked::Stop,
            _ = self.terminate.recv() => Asked::Stop,
            _ = self.hangup.recv() => Asked::Reload,
        }
    }

    #[cfg(not(unix))]
    fn listen() -> std::io::Result<Self> {
        Ok(Self {})
    }

    #[cfg(not(unix))]
    async fn next(&mut self) -> Asked {
        let _ = tokio::signal::ctrl_c().await;
        Asked::Stop
    }

    /// Until a stop is asked for.
    async fn stop(&mut self) {
        while !matches!(self.next().await, Asked::Stop) {}
    }
}

/// Where people open it.
fn page(domain: &str, tls: &Tls, port: u16) -> String {
    match (domain, tls, port) {
        ("", _, _) => format!("http://localhost:{port}"),
        // Of a server without TLS it is the proxy's address.
        (_, Tls::Off, _) | (_, _, 443) => format!("https://{domain}"),
        _ => format!("https://{domain}:{port}"),
    }
}

/// Says where the server is, and by which keys it is used.
fn announce(server: &Server, domain: &str, tls: &Tls) {
    let Some(first) = server.addresses().first() else {
        return;
    };
    let port = first.port();
    out!("Visavis is ready: open {}", page(domain, tls, port));
    let everywhere = first.ip().is_unspecified();
    if everywhere && domain.is_empty() {
        let scheme = if server.is_secure() { "https" } else { "http" };
        let machine = visavis_net::interface::addresses(&Default::default()).unwrap_or_default();
        for address in machine.iter().filter(|address| address.ip.is_ipv4()) {
            out!("  from other machines: {scheme}://{}:{port}", address.ip);
        }
    }
    if *tls == Tls::SelfSigned && (everywhere || !domain.is_empty()) {
        out!("  (browsers warn once about a certificate that this server has made for itself)");
    }
    if let Some((key, secret)) = server.development_key() {
        out!("Development keys, new at each start; set your own with --key KEY=SECRET:");
        out!("  API key:    {key}\n  API secret: {secret}");
    }
    out!("Ctrl-C drains and stops.");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_go_before_the_file_and_keys_add_up() {
        let file: Settings = toml::from_str(
            "listen = [\"127.0.0.1:1\"]\nmax-rooms = 7\n[keys]\nfirst = \"one\"\nsecond = \"two\"\n",
        )
        .unwrap();
        let flags = Settings {
            max_rooms: Some(9),
            key: vec![("second".into(), "other".into())],
            ..Settings::default()
        };
        let config = flags.or(file).into_config().unwrap();
        assert_eq!(config.max_rooms, 9);
        assert_eq!(config.listen, ["127.0.0.1:1".parse().unwrap()]);
        assert_eq!(config.keys["first"], "one");
        assert_eq!(config.keys["second"], "other");
    }

    #[test]
    fn people_are_told_the_address_that_works_for_them() {
        let files = Tls::Files {
            certificate: PathBuf::new(),
            key: PathBuf::new(),
        };
        assert_eq!(page("", &Tls::SelfSigned, 7880), "http://localhost:7880");
        assert_eq!(page("a.example", &files, 443), "https://a.example");
        assert_eq!(page("a.example", &files, 8443), "https://a.example:8443");
        assert_eq!(page("a.example", &Tls::Off, 8080), "https://a.example");
    }

    #[test]
    fn a_name_that_is_no_setting_is_refused() {
        assert!(toml::from_str::<Settings>("max_rooms = 7").is_err());
        assert!(toml::from_str::<Settings>("no-such-thing = 7").is_err());
    }

    #[test]
    fn api_keys_are_read_in_both_forms() {
        assert_eq!(key_value("a=b"), Ok(("a".into(), "b".into())));
        assert_eq!(key_value("a: b=="), Ok(("a".into(), "b==".into())));
        assert!(key_value("a").is_err());
    }
}
