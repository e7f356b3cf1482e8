//! The `visavis` binary: one subcommand per job.
//!
//! What lives here: the command line. What a subcommand does lives in the module of its name, and the
//! services themselves in `visavis-server`.

mod commands;
mod doctor;
mod exit;
mod http;
mod livekit;
mod media;
mod output;
mod pairing;
mod qr;
mod runtime;
mod stream;
mod tls;
mod transfer;

use clap::{Parser, Subcommand};

/// WebRTC in one binary: meetings, relays, and tools.
#[derive(Debug, Parser)]
#[command(name = "visavis", version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// What each does is said by its arguments, whose first line stands in the list of all.
#[derive(Debug, Subcommand)]
enum Command {
    Chat(commands::chat::Args),
    Completions(commands::completions::Args),
    Doctor(commands::doctor::Args),
    Echo(commands::echo::Args),
    Join(commands::join::Args),
    Keygen(commands::keygen::Args),
    Manual(commands::completions::ManualArgs),
    Receive(commands::receive::Args),
    Send(commands::send::Args),
    Serve(Box<commands::serve::Args>),
    Turn(Box<commands::turn::Args>),
    Whep(commands::whep::Args),
    Whip(commands::whip::Args),
}

fn main() -> std::process::ExitCode {
    match Cli::parse().command {
        Command::Chat(args) => commands::chat::run(args),
        Command::Completions(args) => commands::completions::run(args),
        Command::Doctor(args) => commands::doctor::run(args),
        Command::Echo(args) => commands::echo::run(args),
        Command::Join(args) => commands::join::run(args),
        Command::Keygen(args) => commands::keygen::run(args),
        Command::Manual(args) => commands::completions::manual(args),
        Command::Receive(args) => commands::receive::run(args),
        Command::Send(args) => commands::send::run(args),
        Command::Serve(args) => commands::serve::run(*args),
        Command::Turn(args) => commands::turn::run(*args),
        Command::Whep(args) => commands::whep::run(args),
        Command::Whip(args) => commands::whip::run(args),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What documents tell people to type, and where.
    fn commands() -> Vec<(String, String)> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let book = std::fs::read_dir(root.join("book/src")).unwrap().flatten();
        let mut documents: Vec<_> = book.map(|entry| entry.path()).collect();
        documents.push(root.join("README.md"));
        let mut commands = Vec::new();
        for document in documents {
            let text = std::fs::read_to_string(&document).unwrap();
            let mut shell = false;
            for line in text.lines() {
                match line.strip_prefix("```") {
                    Some(language) => shell = language == "sh",
                    None if shell => {
                        commands.push((document.display().to_string(), line.to_owned()))
                    }
                    None => {}
                }
            }
        }
        commands
    }

    /// Reads the command lines of ours in a line of shell: how many there are.
    fn understand(place: &str, line: &str) -> usize {
        // Explanations stand behind a `#` or a gap.
        let line = line.split(" #").next().unwrap_or_default().trim();
        let line = line.split("   ").next().unwrap_or_default();
        let parts = line.split(['|', '>']).flat_map(|part| part.split("&&"));
        let mut count = 0;
        for part in parts.map(str::trim) {
            let Some(arguments) = part.strip_prefix("visavis ") else {
                continue;
            };
            // A substitution is one word: a key and its secret, as the documents have it.
            let whole = match arguments.split_once("\"$(") {
                Some((before, after)) => {
                    let after = after.split_once(")\"").map_or("", |(_, rest)| rest);
                    format!("{before}KEY=SECRET{after}")
                }
                None => arguments.to_owned(),
            };
            let words = std::iter::once("visavis").chain(whole.split_whitespace());
            if let Err(error) = Cli::try_parse_from(words) {
                let asks = error.kind() == clap::error::ErrorKind::DisplayHelp;
                assert!(asks, "{place}: {line}\n{error}");
            }
            count += 1;
        }
        count
    }

    #[test]
    fn every_command_in_the_documents_is_understood() {
        let count: usize = commands()
            .iter()
            .map(|(document, line)| {
                let line = line.replace("cargo run --release -- ", "visavis ");
                understand(document, &line)
            })
            .sum();
        assert!(count >= 20, "{count} commands");
    }

    #[test]
    fn every_subcommand_has_examples_and_they_are_understood() {
        for command in <Cli as clap::CommandFactory>::command().get_subcommands() {
            let name = command.get_name();
            let help = command
                .get_after_long_help()
                .map(ToString::to_string)
                .unwrap_or_default();
            let count: usize = help
                .lines()
                .filter(|line| line.starts_with("  "))
                .map(|line| understand(name, line))
                .sum();
            assert!(count > 0, "{name}: {help}");
        }
    }

    #[test]
    fn help_says_more_than_the_line_in_the_list() {
        let all = <Cli as clap::CommandFactory>::command();
        for name in [
            "chat", "doctor", "echo", "join", "receive", "send", "serve", "turn",
        ] {
            let command = all.find_subcommand(name).expect("a subcommand");
            let about = command.get_about().expect("a line").to_string();
            let long = command.get_long_about().map(ToString::to_string);
            assert!(
                long.is_some_and(|long| long.len() > about.len() + 60),
                "{name}"
            );
        }
    }

    #[test]
    fn the_command_line_is_well_formed() {
        <Cli as clap::CommandFactory>::command().debug_assert();
    }
}
