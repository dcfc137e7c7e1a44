//! What a checkout of taskmq needs done: `cargo xtask test` and `cargo xtask ci`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod axe;
mod bench;
mod beside;
mod ci;
mod demo;
mod disk;
mod packages;
mod programs;
mod tests;

use std::path::Path;
use std::process::{Command, ExitCode};

const USAGE: &str = "\
cargo xtask test [FILTER] [-- ARGUMENTS OF THE TESTS]   all tests, with PostgreSQL and MariaDB servers of their own
cargo xtask ci                                          format, lints, documentation, features, then all tests
cargo xtask demo [OPTIONS OF THE EXAMPLE]               the example load-testing, on DATABASE_URL or a SQLite file
cargo xtask bench [--quick] [OPTIONS, see --help]       the benchmarks, with servers of their own: bench/README.md";

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(problem) => {
            eprintln!("{problem}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<(), String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    std::env::set_current_dir(&root).map_err(|error| format!("cannot enter {}: {error}", root.display()))?;
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.split_first() {
        Some((command, rest)) if command == "test" => tests::run(rest),
        Some((command, rest)) if command == "demo" => demo::run(rest),
        Some((command, rest)) if command == "bench" => bench::run(rest),
        Some((command, [])) if command == "ci" => ci::run(),
        _ => Err(USAGE.to_owned()),
    }
}

/// Runs cargo with these arguments and then those of the user.
fn cargo(arguments: &[&str], rest: &[String]) -> Result<(), String> {
    let status = Command::new(env!("CARGO")).args(arguments).args(rest).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("cargo {} failed", arguments.join(" "))),
        Err(error) => Err(format!("cannot run cargo: {error}")),
    }
}
