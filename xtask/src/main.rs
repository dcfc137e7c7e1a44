//! What a checkout of taskmq needs done: `cargo xtask test` and `cargo xtask ci`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod ci;
mod demo;
mod packages;
mod tests;

use std::path::Path;
use std::process::ExitCode;

const USAGE: &str = "\
cargo xtask test [FILTER] [-- ARGUMENTS OF THE TESTS]   all tests, with PostgreSQL and MariaDB servers of their own
cargo xtask ci                                          format, lints, documentation, features, then all tests
cargo xtask demo [OPTIONS OF THE EXAMPLE]               the example load-testing, on DATABASE_URL or a SQLite file";

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
        Some((command, [])) if command == "ci" => ci::run(),
        _ => Err(USAGE.to_owned()),
    }
}
