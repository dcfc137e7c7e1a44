//! Every check, and then the tests.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use crate::beside::Job;
use crate::{disk, packages, tests};

/// It checks the licences and the origins of all crates against `deny.toml`. In the folder of the tools that the tests
/// need as well.
const DENY: &str = "target/tools/bin/cargo-deny";

/// It is compiled once and runs for a second.
const INSTALL_DENY: [&str; 7] =
    ["install", "cargo-deny", "--debug", "--locked", "--no-default-features", "--root", "target/tools"];

/// What a host may choose of taskmq-core: each database without the worker and with it, and what brings more code of its
/// own. All together is what the workspace is checked with.
const CHOICES: [&str; 9] = [
    "sqlite",
    "postgres",
    "mysql",
    "sqlite,worker",
    "postgres,worker",
    "mysql,worker",
    "sqlite,async,bundled-sqlite",
    "sqlite,otlp,bundled-sqlite",
    "sqlite,schema,bundled-sqlite",
];

pub(crate) fn run() -> Result<(), String> {
    // The C clients are linked by the very first check already.
    packages::ensure()?;
    disk::make_room()?;
    step(cargo(&["fmt", "--all", "--check"]))?;
    step(cargo(&[
        "clippy",
        "--workspace",
        "--all-targets",
        "--features",
        tests::ALL,
        "--",
        "-D",
        "warnings",
    ]))?;
    let mut documentation = cargo(&["doc", "--no-deps", "--workspace", "--features", tests::ALL]);
    documentation.command.env("RUSTDOCFLAGS", "-D warnings");
    let mut checks = vec![documentation];
    for features in CHOICES {
        let choice = ["--no-default-features", "--features", features, "--", "-D", "warnings"];
        checks.push(cargo(&[&["clippy", "-p", "taskmq-core"][..], &choice].concat()));
    }
    checks.push(cargo(&["check", "-p", "taskmq-cli"]));
    // A workspace of its own, which nothing else compiles.
    checks.push(cargo(&["check", "--manifest-path", "fuzz/Cargo.toml", "--target-dir", "target/fuzz"]));
    if !Path::new(DENY).is_file() {
        checks.push(cargo(&INSTALL_DENY));
    }
    checks.push(job(DENY, &["check", "licenses", "bans", "sources"]));
    tests::run_beside(checks)
}

fn cargo(arguments: &[&str]) -> Job {
    job(env!("CARGO"), arguments)
}

fn job(program: &str, arguments: &[&str]) -> Job {
    let mut command = Command::new(program);
    command.args(arguments);
    let name = Path::new(program).file_name().unwrap_or_default().to_string_lossy();
    Job { name: format!("{name} {}", arguments.join(" ")), command }
}

fn step(Job { name, mut command }: Job) -> Result<(), String> {
    println!("== {name}");
    let start = Instant::now();
    let status =
        command.stdin(Stdio::null()).status().map_err(|error| format!("cannot run {name}: {error}"))?;
    println!("== {:.1} s", start.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("{name} failed")) }
}
