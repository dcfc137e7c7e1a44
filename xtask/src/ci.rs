//! Every check, and then the tests.

use std::ffi::OsStr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{packages, tests};

/// In the folder of the tools that the tests need as well.
const DENY: &str = "target/tools/bin/cargo-deny";

/// What a host may choose of taskmq-core: each database without the worker and with it, and what brings more code of its
/// own. All together is what the workspace is checked with.
const CHOICES: [&str; 8] = [
    "sqlite",
    "postgres",
    "mysql",
    "sqlite,worker",
    "postgres,worker",
    "mysql,worker",
    "sqlite,async,bundled-sqlite",
    "sqlite,otlp,bundled-sqlite",
];

pub(crate) fn run() -> Result<(), String> {
    // The C clients are linked by the very first check already.
    packages::ensure()?;
    cargo(&["fmt", "--all", "--check"], "")?;
    cargo(&["clippy", "--workspace", "--all-targets", "--features", tests::ALL, "--", "-D", "warnings"], "")?;
    cargo(&["doc", "--no-deps", "--workspace", "--features", tests::ALL], "-D warnings")?;
    for features in CHOICES {
        let choice = ["--no-default-features", "--features", features, "--", "-D", "warnings"];
        cargo(&[&["clippy", "-p", "taskmq-core"][..], &choice].concat(), "")?;
    }
    cargo(&["check", "-p", "taskmq-cli"], "")?;
    install_cargo_deny()?;
    step(Command::new(DENY).args(["check", "licenses", "bans", "sources"]))?;
    // Last, so that the output ends with the summary.
    tests::run(&[])
}

fn cargo(arguments: &[&str], rustdoc_flags: &str) -> Result<(), String> {
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments);
    if !rustdoc_flags.is_empty() {
        command.env("RUSTDOCFLAGS", rustdoc_flags);
    }
    step(&mut command)
}

/// It checks the licences and the origins of all crates against `deny.toml`.
fn install_cargo_deny() -> Result<(), String> {
    if Path::new(DENY).is_file() {
        return Ok(());
    }
    // It is compiled once and runs for a second.
    let install =
        ["install", "cargo-deny", "--debug", "--locked", "--no-default-features", "--root", "target/tools"];
    cargo(&install, "")
}

fn step(command: &mut Command) -> Result<(), String> {
    let program = Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy();
    let arguments: Vec<_> = command.get_args().map(OsStr::to_string_lossy).collect();
    let step = format!("{program} {}", arguments.join(" "));
    println!("== {step}");
    let start = Instant::now();
    let status =
        command.stdin(Stdio::null()).status().map_err(|error| format!("cannot run {step}: {error}"))?;
    println!("== {:.1} s", start.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("{step} failed")) }
}
