//! The program: everything it does is in [`bridgeward::cli`].

use std::process::ExitCode;

fn main() -> ExitCode {
    bridgeward::cli::run()
}
