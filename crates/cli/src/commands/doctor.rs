//! `visavis doctor`.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use serde_json::json;
use url::Url;
use visavis_server::rendezvous::IceServer;

use crate::doctor::against::{Meeting, about, explain};
use crate::doctor::diagnose::{Verdict, diagnose};
use crate::doctor::probe::{Targets, probe};
use crate::doctor::report;
use crate::exit::Exit;
use crate::output::{err, out};
use crate::pairing::client;
use crate::pairing::connect::{self, About, ConnectError, Own, Paired};
use crate::pairing::host::{Hosting, ServerArgs};
use crate::pairing::{Code, CodeError, Invitation};

/// The longest that all tests together may take.
const PATIENCE: Duration = Duration::from_secs(15);

/// Find out what this machine and this network let WebRTC do, and explain it.
///
/// Tests addresses, IPv6, the NAT, UDP, TURN over each transport, path MTU, loss and delay, multicast
/// DNS, the clock, and port mapping, in less than 15 seconds. Without a server only this machine can be
/// looked at.
#[derive(Debug, clap::Args)]
#[command(after_long_help = LONG_HELP)]
pub(crate) struct Args {
    #[command(flatten)]
    server: ServerArgs,
    /// A STUN server to ask, beside those of the server; with two addresses it can tell how the NAT
    /// behaves.
    #[arg(long, value_name = "HOST[:PORT]")]
    stun: Vec<String>,
    /// A TURN server to try, e.g. turn:turn.example.org or turns:turn.example.org:443.
    #[arg(long, value_name = "URL", requires = "username")]
    turn: Vec<String>,
    /// User name for --turn.
    #[arg(long, value_name = "NAME", requires = "credential")]
    username: Option<String>,
    /// Password for --turn.
    #[arg(
        long,
        env = "VISAVIS_TURN_CREDENTIAL",
        value_name = "PASSWORD",
        hide_env_values = true
    )]
    credential: Option<String>,
    /// Try to connect to another doctor: without a code one is printed, for the other side to use.
    #[arg(long, value_name = "CODE", num_args = 0..=1, default_missing_value = "")]
    against: Option<String>,
    /// Do not ask the router for a port.
    #[arg(long)]
    no_port_mapping: bool,
    /// Print facts, findings and the summary as JSON.
    #[arg(long)]
    json: bool,
}

const LONG_HELP: &str = "\
Examples:
  visavis doctor --server meet.example.org
  visavis doctor --stun stun.example.org --turn turn:turn.example.org --username u --credential p
  visavis doctor --server meet.example.org --json | jq .summary
  visavis doctor --server meet.example.org --against                       on one machine
  visavis doctor --server meet.example.org --against 4821-copper-tulip-raven   on the other

Exit codes:
  0  nothing is wrong   2  wrong usage                                 130  interrupted
  1  something is       3  what --against has does not look like a code";

pub(crate) fn run(args: Args) -> ExitCode {
    crate::runtime::block_on(async move {
        let mut interrupt = crate::runtime::Interrupt::new();
        tokio::select! {
            exit = examine(&args) => exit,
            () = interrupt.arrives() => Exit::Interrupted,
        }
    })
}

async fn examine(args: &Args) -> Exit {
    let targets = match targets(args) {
        Ok(targets) => targets,
        Err(text) => {
            err!("{text}");
            return Exit::Usage;
        }
    };
    // What is wrong with it is said at once, not after the tests.
    let against = match args.against.as_deref().map(invited).transpose() {
        Ok(against) => against,
        Err(error) => {
            err!("{error}");
            return Exit::Code;
        }
    };
    if !args.json && std::io::stderr().is_terminal() {
        err!("testing, for {} s at most …", PATIENCE.as_secs());
    }
    let Ok(facts) = tokio::time::timeout(PATIENCE, probe(&targets)).await else {
        err!(
            "the tests did not come to an end within {} s",
            PATIENCE.as_secs()
        );
        return Exit::Failure;
    };
    let diagnosis = diagnose(&facts);
    let wrong = diagnosis
        .findings
        .iter()
        .any(|finding| finding.verdict == Verdict::Bad);
    if !args.json {
        let report = report::text(&diagnosis, std::io::stdout().is_terminal());
        out!("{}", report.trim_end());
    }
    let meeting = match against {
        Some(code) => Some(meet(args, code, &targets, about(&facts)).await),
        None => None,
    };
    if args.json {
        let report = json!({
            "facts": facts, "findings": diagnosis.findings, "summary": diagnosis.summary,
            "against": meeting,
        });
        out!("{report:#}");
    } else if let Some(meeting) = &meeting {
        out!("\n{}", meeting.text);
    }
    if wrong || meeting.is_some_and(|meeting| !meeting.connected) {
        Exit::Failure
    } else {
        Exit::Success
    }
}

/// The code of the other doctor; `None` where this one is to make it.
fn invited(code: &str) -> Result<Option<Code>, CodeError> {
    match code {
        "" => Ok(None),
        code => code.parse().map(Some),
    }
}

fn targets(args: &Args) -> Result<Targets, String> {
    let server = match args.server.server().map_err(|error| error.to_string())? {
        Some(server) => Some(Url::parse(server.address()).map_err(|error| error.to_string())?),
        None => None,
    };
    let mut ice_servers: Vec<IceServer> = Vec::new();
    for stun in &args.stun {
        if stun.trim().is_empty() {
            return Err("--stun wants a server: HOST[:PORT]".to_owned());
        }
        let url = match stun.starts_with("stun:") {
            true => stun.clone(),
            false => format!("stun:{stun}"),
        };
        ice_servers.push(IceServer {
            urls: vec![url],
            ..IceServer::default()
        });
    }
    if !args.turn.is_empty() {
        ice_servers.push(IceServer {
            urls: args.turn.clone(),
            username: args.username.clone().unwrap_or_default(),
            credential: args.credential.clone().unwrap_or_default(),
        });
    }
    Ok(Targets {
        server,
        ice_servers,
        insecure: args.server.insecure,
        no_port_mapping: args.no_port_mapping,
    })
}

/// Connects to another doctor.
async fn meet(args: &Args, code: Option<Code>, targets: &Targets, about: About) -> Meeting {
    let failed = |text: String| Meeting {
        connected: false,
        cause: None,
        text,
    };
    match pair(args, code, targets, about).await {
        Ok(Ok(paired)) => Meeting {
            connected: true,
            cause: None,
            text: describe(paired).await,
        },
        Ok(Err(ConnectError::NoPath(no))) => explain(about, no.theirs, &no.words),
        Ok(Err(error)) => failed(format!("The two doctors did not get so far: {error}.")),
        Err(text) => failed(text),
    }
}

/// `Err` when the other doctor was not even met.
async fn pair(
    args: &Args,
    code: Option<Code>,
    targets: &Targets,
    about: About,
) -> Result<Result<Paired, ConnectError>, String> {
    let endpoint = crate::runtime::endpoint().map_err(|error| error.to_string())?;
    let own = Own {
        endpoint: &endpoint,
        about: Some(about),
        large_packets: false,
    };
    let named = targets.ice_servers.iter().cloned().map(client::ice_server);
    let Some(code) = code else {
        let started = Hosting::start(&args.server, None).await;
        let mut hosting = started.map_err(|error| error.to_string())?;
        if args.json {
            // Standard output is the report's.
            err!("{}", hosting.code());
        } else {
            hosting.invite("doctor --against", false, false);
        }
        let mut guest = hosting
            .next_guest()
            .await
            .map_err(|error| error.to_string())?;
        guest.ice_servers.extend(named);
        return Ok(connect::host(own, &hosting.secrets, "doctor", guest).await);
    };
    let invitation = Invitation::Code(code);
    let slot = invitation.slot();
    let server = client::find(&args.server, &invitation).await;
    let server = server.map_err(|error| error.to_string())?;
    let joined = client::join(&server, slot).await;
    let (host, mut ice) = joined.map_err(|error| error.to_string())?;
    ice.extend(named);
    Ok(connect::guest(own, &ice, slot, invitation.secret(), host).await)
}

/// The path of a connection, and its round trip.
async fn describe(mut paired: Paired) -> String {
    let begun = std::time::Instant::now();
    let exchange = async {
        paired.channel.feed("ping").await.ok()?;
        paired.channel.recv().await
    };
    let answered = tokio::time::timeout(Duration::from_secs(5), exchange).await;
    let took = match answered {
        Ok(Some(_)) => format!(" First words took {} ms.", begun.elapsed().as_millis()),
        _ => String::new(),
    };
    let text = match &paired.path {
        Some(path) => format!("The two doctors are connected: {path}.{took}"),
        None => format!("The two doctors are connected.{took}"),
    };
    crate::transfer::finish(&paired.channel).await;
    text
}
