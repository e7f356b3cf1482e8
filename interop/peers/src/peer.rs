//! Another implementation as a process.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

/// How long an answer may take.
const LIMIT: Duration = Duration::from_secs(20);

/// How to start a peer.
#[derive(Debug, Clone, Copy)]
pub struct Program {
    /// The folder's name.
    pub folder: &'static str,
    /// What runs it, and what it is given.
    pub command: &'static [&'static str],
    /// Whether we hear of its candidates only once it has our answer.
    pub trickle: bool,
    /// What must succeed for it to be there, and what to do otherwise.
    pub needs: (&'static [&'static str], &'static str),
}

/// A running peer. It ends when this is dropped.
pub struct Peer {
    /// Its name and version.
    pub name: String,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    last: u64,
    _child: Child,
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

impl Program {
    /// Why it cannot be started here, if so.
    pub async fn missing(&self) -> Option<&'static str> {
        let ([program, arguments @ ..], reason) = self.needs else {
            return None;
        };
        let mut check = Command::new(program);
        check.args(arguments).current_dir(folder());
        let output = check.output().await;
        let is_there = output.is_ok_and(|output| output.status.success());
        (!is_there).then_some(reason)
    }

    /// Starts it.
    ///
    /// # Errors
    /// What went wrong.
    pub async fn start(&self) -> Result<Peer, String> {
        let [program, arguments @ ..] = self.command else {
            return Err("no command".to_owned());
        };
        let mut child = Command::new(program)
            .args(arguments)
            .current_dir(folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .map_err(|error| format!("{program}: {error}"))?;
        let input = child.stdin.take().ok_or("stdin")?;
        let output = child.stdout.take().ok_or("stdout")?;
        let mut peer = Peer {
            name: String::new(),
            input,
            output: BufReader::new(output).lines(),
            last: 0,
            _child: child,
        };
        let ready = peer.line(|line| line["ready"] == true).await?;
        let text = |key: &str| ready[key].as_str().unwrap_or_default();
        peer.name = format!("{} {}", text("name"), text("version"));
        Ok(peer)
    }
}

impl Peer {
    /// The next line that is looked for; others are dropped.
    async fn line(&mut self, look: impl Fn(&Value) -> bool) -> Result<Value, String> {
        let reading = async {
            while let Ok(Some(line)) = self.output.next_line().await {
                match serde_json::from_str::<Value>(&line) {
                    Ok(value) if look(&value) => return Ok(value),
                    _ => {}
                }
            }
            Err("the peer ended".to_owned())
        };
        match tokio::time::timeout(LIMIT, reading).await {
            Ok(line) => line,
            Err(_) => Err(format!("no answer within {LIMIT:?}")),
        }
    }

    /// Asks for something and waits for the answer.
    ///
    /// # Errors
    /// The peer's error, or that it did not answer in time.
    pub async fn ask(&mut self, what: &str, mut argument: Value) -> Result<Value, String> {
        self.last += 1;
        let id = self.last;
        argument["id"] = id.into();
        argument["do"] = what.into();
        let line = format!("{argument}\n");
        let written = self.input.write_all(line.as_bytes()).await;
        written.map_err(|error| format!("{what}: {error}"))?;
        let answer = self.line(|line| line["id"] == id).await;
        let answer = answer.map_err(|error| format!("{what}: {error}"))?;
        match answer.get("error") {
            Some(error) => Err(format!("{what}: {}", error.as_str().unwrap_or_default())),
            None => Ok(answer["value"].clone()),
        }
    }

    /// Asks without an argument.
    ///
    /// # Errors
    /// As [`ask`](Self::ask).
    pub async fn request(&mut self, what: &str) -> Result<Value, String> {
        self.ask(what, json!({})).await
    }
}
