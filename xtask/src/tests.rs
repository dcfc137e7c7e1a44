//! Runs all tests with servers of their own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use taskmq_test_servers::{Mariadb, Postgres};

use crate::packages;

/// Every feature but those that compile the C clients of the servers in.
pub(crate) const ALL: &str = "taskmq-core/sqlite,taskmq-core/postgres,taskmq-core/mysql,taskmq-core/async,taskmq-cli/postgres,taskmq-cli/mysql,taskmq-admin/sqlite,taskmq-admin/postgres,taskmq-admin/mysql";

/// With spans for every message nothing else would be tested as most hosts use it, so traces have a build of their own.
const TRACES: &str = "sqlite,otlp,async";

pub(crate) fn run(args: &[String]) -> Result<(), String> {
    packages::ensure()?;
    let tools = std::env::current_dir().map_err(|e| e.to_string())?.join("target/tools");
    install_diesel_cli(&tools)?;
    let postgres = Postgres::start().map_err(|e| format!("PostgreSQL: {e}"))?;
    let mariadb = Mariadb::start().map_err(|e| format!("MariaDB: {e}"))?;
    let path = std::env::var_os("PATH").unwrap_or_default();
    let path = std::env::join_paths(std::iter::once(tools.join("bin")).chain(std::env::split_paths(&path)))
        .map_err(|e| e.to_string())?;
    let mut command = Command::new(env!("CARGO"));
    command
        .args(["test", "--workspace", "--no-fail-fast", "--features", ALL])
        .args(args)
        .env("TASKMQ_TEST_POSTGRES", postgres.server_url())
        .env("TASKMQ_TEST_MYSQL", mariadb.server_url())
        .env("PATH", path);
    let (mut passed, mut failed, mut success) = count(&mut command)?;
    if args.is_empty() {
        let mut traces = Command::new(env!("CARGO"));
        traces.args(["test", "-p", "taskmq-core", "--features", TRACES, "--test", "traces"]);
        let more = count(&mut traces)?;
        (passed, failed, success) = (passed + more.0, failed + more.1, success && more.2);
    }
    println!("{passed} passed, {failed} failed");
    if success && failed == 0 && passed > 0 { Ok(()) } else { Err("tests failed".to_owned()) }
}

/// How many tests pass and fail, and whether all went well.
fn count(command: &mut Command) -> Result<(u64, u64, bool), String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run cargo test: {e}"))?;
    let (mut passed, mut failed) = (0, 0);
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            if line.starts_with("test result:") {
                passed += number_before(&line, " passed");
                failed += number_before(&line, " failed");
            }
        }
    }
    let status = child.wait().map_err(|e| e.to_string())?;
    Ok((passed, failed, status.success()))
}

fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// The real one, which hosts use.
fn install_diesel_cli(tools: &Path) -> Result<(), String> {
    if tools.join("bin/diesel").is_file() {
        return Ok(());
    }
    eprintln!("== installing diesel_cli");
    let status = Command::new(env!("CARGO"))
        .args(["install", "diesel_cli", "--version", "^2.3", "--debug", "--locked", "--no-default-features"])
        .args(["--features", "sqlite-bundled postgres mysql", "--root"])
        .arg(tools)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err("diesel_cli could not be installed".to_owned()),
    }
}
