//! Runs all tests with servers of their own.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use taskmq_test_servers::{Mariadb, Postgres};

use crate::packages;

/// Every feature but those that compile the C clients of the servers in.
pub(crate) const ALL: &str = "taskmq-core/sqlite,taskmq-core/postgres,taskmq-core/mysql,taskmq-core/async,taskmq-cli/postgres,taskmq-cli/mysql,taskmq-admin/sqlite,taskmq-admin/postgres,taskmq-admin/mysql";

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
        .env("PATH", path)
        .stdin(Stdio::null())
        .stdout(Stdio::piped());
    let mut child = command.spawn().map_err(|e| format!("cannot run cargo test: {e}"))?;
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
    println!("{passed} passed, {failed} failed");
    if status.success() && failed == 0 && passed > 0 { Ok(()) } else { Err("tests failed".to_owned()) }
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
        .args(["install", "diesel_cli", "--version", "^2.3", "--locked", "--no-default-features"])
        .args(["--features", "sqlite-bundled postgres mysql", "--root"])
        .arg(tools)
        .status();
    match status {
        Ok(status) if status.success() => Ok(()),
        _ => Err("diesel_cli could not be installed".to_owned()),
    }
}
