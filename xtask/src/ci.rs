//! Every check, and then the tests.

use std::process::{Command, Stdio};
use std::time::Instant;

use crate::{packages, tests};

/// What a host may choose of taskmq-core.
const CHOICES: [&str; 11] = [
    "sqlite",
    "postgres",
    "mysql",
    "sqlite,worker",
    "postgres,worker",
    "mysql,worker",
    "sqlite,worker,bundled-sqlite",
    "sqlite,async,bundled-sqlite",
    "postgres,async",
    "mysql,async",
    "sqlite,postgres,mysql,async",
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
    // Last, so that the output ends with the summary.
    tests::run(&[])
}

fn cargo(arguments: &[&str], rustdoc_flags: &str) -> Result<(), String> {
    let step = format!("cargo {}", arguments.join(" "));
    println!("== {step}");
    let start = Instant::now();
    let mut command = Command::new(env!("CARGO"));
    command.args(arguments).stdin(Stdio::null());
    if !rustdoc_flags.is_empty() {
        command.env("RUSTDOCFLAGS", rustdoc_flags);
    }
    let status = command.status().map_err(|error| format!("cannot run {step}: {error}"))?;
    println!("== {:.1} s", start.elapsed().as_secs_f64());
    if status.success() { Ok(()) } else { Err(format!("{step} failed")) }
}
