//! `visavis keygen`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::ValueEnum;
use serde_json::json;
use visavis_server::ids::random_text;
use visavis_server::token::{Claims, Keys, VideoGrant};

use super::completions::finish;
use crate::exit::Exit;
use crate::output::err;

/// Make secrets for a server's configuration, and access tokens of them.
///
/// Prints secrets as the lines that `visavis serve` and `visavis turn` read from a file or from their
/// environment. Nothing is stored.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  visavis keygen                  an API key with its secret
  visavis keygen turn             a shared secret for TURN credentials
  visavis keygen api --json
  visavis keygen token --key APIxyz=SECRET --room lobby --identity camera     for whip, whep and join
  export VISAVIS_TOKEN=$(visavis keygen token --room lobby)     with the key in VISAVIS_KEY, as `visavis serve` reads it")]
pub(crate) struct Args {
    /// What the secret is for.
    #[arg(value_enum, default_value_t = Kind::Api)]
    kind: Kind,
    /// For a token: the API key that signs it, KEY=SECRET.
    #[arg(long, env = "VISAVIS_KEY", value_parser = super::serve::key_value, value_name = "KEY=SECRET",
        hide_env_values = true, required_if_eq("kind", "token"))]
    key: Option<(String, String)>,
    /// For a token: the room that it lets into.
    #[arg(long, required_if_eq("kind", "token"))]
    room: Option<String>,
    /// For a token: who bears it; two of one name put each other out.
    #[arg(long, default_value = "visavis", value_name = "NAME")]
    identity: String,
    /// For a token: for how many seconds it is valid.
    #[arg(long = "for", default_value_t = 6 * 3600, value_name = "SECONDS")]
    seconds: u64,
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
    /// An access token of an API key: whoever has it may join a room, publish and watch there.
    Token,
}

pub(crate) fn run(args: Args) -> ExitCode {
    match make(&args) {
        Ok(made) => {
            let written = writeln!(std::io::stdout(), "{made}");
            finish("the secret", written)
        }
        Err(error) => {
            err!("{error}");
            Exit::Failure.into()
        }
    }
}

fn make(args: &Args) -> Result<String, String> {
    let (text, json) = match args.kind {
        Kind::Api => {
            // Keys are told apart from secrets at a glance, and are safe in a URL and a file of any format.
            let (key, secret) = (format!("API{}", random_text(12)), secret());
            let text = format!("{key}: {secret}");
            (text, json!({ "key": key, "secret": secret }))
        }
        Kind::Turn => {
            let secret = secret();
            (secret.clone(), json!({ "secret": secret }))
        }
        Kind::Token => {
            let token = token(args)?;
            (token.clone(), json!({ "token": token }))
        }
    };
    Ok(if args.json { json.to_string() } else { text })
}

fn token(args: &Args) -> Result<String, String> {
    let (Some(key), Some(room)) = (&args.key, &args.room) else {
        return Err("a token needs --key and --room".to_owned());
    };
    let claims = Claims {
        identity: args.identity.clone(),
        video: Some(VideoGrant {
            room_join: true,
            room: room.clone(),
            ..VideoGrant::default()
        }),
        ..Claims::default()
    };
    Keys::new([key.clone()])
        .sign(&key.0, &claims, args.seconds)
        .map_err(|error| format!("no token: {error}"))
}

/// Letters and digits of 256 bits, which no command line takes for an option.
fn secret() -> String {
    random_text(44)
}
