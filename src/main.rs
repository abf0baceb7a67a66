//! The thin binary: hands over to the command line and returns its exit code.

use std::process::ExitCode;

fn main() -> ExitCode {
    ftagent::cli::main(std::env::args_os())
}
