//! Manual pages and shell completions, made from the command line itself.

use std::io;
use std::path::Path;

use clap::CommandFactory;
use clap_complete::Shell;

use super::cli::Command;
use super::exit::Failure;

/// Writes the manual pages of all commands to `folder`, which is made when it is missing.
///
/// Errors: [`Failure::No`], when they cannot be written.
pub(super) fn write_manual(folder: &Path) -> Result<(), Failure> {
    let write = || {
        std::fs::create_dir_all(folder)?;
        clap_mangen::generate_to(command(), folder)
    };
    write().map_err(|error| Failure::No(format!("{}: {error}", folder.display())))
}

/// Writes the completions for `shell` to standard output.
///
/// Errors: [`Failure::No`], when nobody takes them.
pub(super) fn print_completions(shell: Shell) -> Result<(), Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command(), env!("CARGO_PKG_NAME"), &mut script);
    let written = io::Write::write_all(&mut io::stdout(), &script);
    written.map_err(|error| Failure::No(format!("standard output: {error}")))
}

fn command() -> clap::Command {
    Command::command()
}
