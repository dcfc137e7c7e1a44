//! Runs all tests with servers of their own.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use taskmq_test_servers::{Mariadb, Postgres};

use crate::beside::{self, Job, Outcome};
use crate::{axe, packages, programs};

/// Every feature but those that compile the C clients of the servers in.
pub(crate) const ALL: &str = "taskmq-core/sqlite,taskmq-core/postgres,taskmq-core/mysql,taskmq-core/async,taskmq-core/schema,taskmq-cli/postgres,taskmq-cli/mysql,taskmq-admin/sqlite,taskmq-admin/postgres,taskmq-admin/mysql,taskmq-admin/schema";

/// With spans for every message nothing else would be tested as most hosts use it, so traces have a build of their own.
const TRACES: &str = "sqlite,otlp,async";

/// Waits for leases, time-outs and clocks most of the time.
const PATIENT: &str = "taskmq-tests";

/// Compiles what it tests.
const COMPILES: &str = "taskmq-derive";

/// All tests, or those that these arguments of `cargo test` choose.
pub(crate) fn run(args: &[String]) -> Result<(), String> {
    if args.is_empty() {
        return run_beside(Vec::new());
    }
    let environment = Environment::prepare()?;
    let mut command = environment.within(Command::new(env!("CARGO")));
    command.args(["test", "--workspace", "--no-fail-fast", "--features", ALL]).args(args);
    conclude(&shown(&mut command)?)
}

/// All tests, and these checks, which compile, beside them.
pub(crate) fn run_beside(checks: Vec<Job>) -> Result<(), String> {
    let environment = Environment::prepare()?;
    let mut patient = Vec::new();
    let mut others = Vec::new();
    let mut compiling = checks;
    let mut traces = Command::new(env!("CARGO"));
    traces.args(["test", "-p", "taskmq-core", "--features", TRACES, "--test", "traces"]);
    compiling.push(Job { name: "the tests of traces".to_owned(), command: traces });
    let mut examples = environment.within(Command::new(env!("CARGO")));
    examples.args(["test", "--workspace", "--no-fail-fast", "--doc", "--features", ALL]);
    compiling.push(Job { name: "the examples in the documentation".to_owned(), command: examples });
    for program in programs::build(ALL)? {
        let mut command = environment.within(program.command());
        let lane = match &*program.package {
            PATIENT => {
                let threads = 2 * thread::available_parallelism().map_or(1, NonZero::get);
                command.env("RUST_TEST_THREADS", threads.to_string());
                &mut patient
            }
            COMPILES => &mut compiling,
            _ => &mut others,
        };
        lane.push(Job { name: program.name(), command });
    }
    // The tests come first, for they look at the clock.
    let compiling = compiling.into_iter().map(Job::nice).collect();
    conclude(&beside::run(vec![patient, others, compiling]))
}

/// Last, so that the output ends with it.
fn conclude(outcome: &Outcome) -> Result<(), String> {
    let Outcome { passed, failed, broken } = outcome;
    println!("{passed} passed, {failed} failed");
    match &broken[..] {
        [] if *failed == 0 && *passed > 0 => Ok(()),
        [] => Err("tests failed".to_owned()),
        broken => Err(format!("failed: {}", broken.join(", "))),
    }
}

/// What the tests need around them.
struct Environment {
    postgres: Postgres,
    mariadb: Mariadb,
    path: OsString,
    axe: PathBuf,
}

impl Environment {
    fn prepare() -> Result<Self, String> {
        packages::ensure()?;
        let tools = std::env::current_dir().map_err(|e| e.to_string())?.join("target/tools");
        install_diesel_cli(&tools)?;
        let axe = axe::install(&tools)?;
        let path = std::env::var_os("PATH").unwrap_or_default();
        Ok(Self {
            postgres: Postgres::start().map_err(|e| format!("PostgreSQL: {e}"))?,
            mariadb: Mariadb::start().map_err(|e| format!("MariaDB: {e}"))?,
            path: std::env::join_paths(
                std::iter::once(tools.join("bin")).chain(std::env::split_paths(&path)),
            )
            .map_err(|e| e.to_string())?,
            axe,
        })
    }

    fn within(&self, mut command: Command) -> Command {
        command
            .env("TASKMQ_TEST_POSTGRES", self.postgres.server_url())
            .env("TASKMQ_TEST_MYSQL", self.mariadb.server_url())
            .env("TASKMQ_TEST_AXE", &self.axe)
            .env("PATH", &self.path);
        command
    }
}

/// What comes of a command whose output is shown as it comes.
fn shown(command: &mut Command) -> Result<Outcome, String> {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(|e| format!("cannot run cargo test: {e}"))?;
    let mut outcome = Outcome::default();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            println!("{line}");
            outcome.read(&line);
        }
    }
    if !child.wait().map_err(|e| e.to_string())?.success() {
        outcome.broken.push("cargo test".to_owned());
    }
    Ok(outcome)
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
