//! The `ringway` command.

use std::process::ExitCode;

use clap::Parser;
use ringway::daemon::cli::Command;
use ringway::daemon::exit::USAGE;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            // Help and version are errors to clap, but not to the caller.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    match ringway::daemon::run(command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            #[expect(clippy::print_stderr, reason = "the last word goes to whoever started us")]
            {
                eprintln!("ringway: {failure}");
            }
            ExitCode::from(failure.exit_code())
        }
    }
}
