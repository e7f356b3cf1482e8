//! `visavis completions` and `visavis manual`: what shells and `man` read, made from the command line
//! itself.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::CommandFactory;
use clap_complete::Shell;

use crate::exit::Exit;
use crate::output::err;

/// Print a completion script for a shell.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Examples:
  visavis completions bash > /etc/bash_completion.d/visavis
  visavis completions zsh > ~/.zfunc/_visavis
  visavis completions fish > ~/.config/fish/completions/visavis.fish")]
pub(crate) struct Args {
    /// The shell.
    #[arg(value_enum)]
    shell: Shell,
}

pub(crate) fn run(args: Args) -> ExitCode {
    let mut command = crate::Cli::command();
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut command, "visavis", &mut script);
    let written = std::io::Write::write_all(&mut std::io::stdout(), &script);
    finish("the script", written)
}

/// Write the manual pages into a directory.
#[derive(Debug, clap::Args)]
#[command(after_long_help = "\
Example:
  visavis manual ~/.local/share/man/man1 && man visavis-send")]
pub(crate) struct ManualArgs {
    /// The directory; made if need be.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn manual(args: ManualArgs) -> ExitCode {
    let directory = &args.directory;
    let made = std::fs::create_dir_all(directory);
    let made = made.and_then(|()| clap_mangen::generate_to(crate::Cli::command(), directory));
    finish(&directory.display().to_string(), made)
}

pub(super) fn finish(what: &str, result: std::io::Result<()>) -> ExitCode {
    match result {
        Ok(()) => Exit::Success.into(),
        // Whoever reads from us may have seen enough.
        Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Exit::Success.into(),
        Err(error) => {
            err!("cannot write {what}: {error}");
            Exit::Files.into()
        }
    }
}
