//! The `ringway` command.

use std::process::ExitCode;

use clap::Parser;
use ringway::daemon::cli::Command;
use ringway::daemon::exit::{Failure, USAGE};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ringway::conn::tls::install_provider();
    let command = match Command::try_parse() {
        Ok(command) => command,
        Err(error) => {
            // Help and version are errors to clap, but not to the caller.
            let code = if error.use_stderr() { USAGE } else { 0 };
            let _ = error.print();
            return ExitCode::from(code);
        }
    };
    let ended = std::panic::catch_unwind(|| ringway::daemon::run(command));
    let ended = ended.unwrap_or_else(|_| {
        Err(Failure::Internal("the control thread panicked; see above".to_owned()))
    });
    match ended {
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
