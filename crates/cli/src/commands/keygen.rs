//! `visavis keygen`.

use std::process::ExitCode;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use clap::ValueEnum;

use crate::exit::Exit;

/// Make secrets for a server's configuration.
///
/// Prints them as the lines that `visavis serve` and `visavis turn` read from a file or from their
/// environment. Nothing is stored.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  visavis keygen                  an API key with its secret
  visavis keygen turn             a shared secret for TURN credentials
  visavis keygen api --json")]
pub(crate) struct Args {
    /// What the secret is for.
    #[arg(value_enum, default_value_t = Kind::Api)]
    kind: Kind,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Kind {
    /// An API key and its secret: who has them makes access tokens.
    Api,
    /// The secret that a TURN server shares with who makes time-limited credentials.
    Turn,
}

#[expect(clippy::print_stdout, reason = "the secrets are the output")]
pub(crate) fn run(args: Args) -> ExitCode {
    let made = random::<9>().and_then(|key| Ok((key, random::<32>()?)));
    let (key, secret) = match made {
        Ok(made) => made,
        Err(error) => {
            eprintln!("no randomness: {error}");
            return Exit::Failure.into();
        }
    };
    // Keys are told apart from secrets at a glance, and are safe in a URL and a file of any format.
    let key = format!("API{}", key.replace(['-', '_'], "x"));
    match (args.kind, args.json) {
        (Kind::Api, true) => println!("{}", serde_json::json!({ "key": key, "secret": secret })),
        (Kind::Api, false) => println!("{key}: {secret}"),
        (Kind::Turn, true) => println!("{}", serde_json::json!({ "secret": secret })),
        (Kind::Turn, false) => println!("{secret}"),
    }
    Exit::Success.into()
}

fn random<const N: usize>() -> Result<String, getrandom::Error> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(URL_SAFE_NO_PAD.encode(bytes))
}
