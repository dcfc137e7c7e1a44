//! Builds the example for the database that `DATABASE_URL` names, and runs it.

use std::process::Command;

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    let url = std::env::var("DATABASE_URL").unwrap_or_default();
    let feature = match url.split_once("://") {
        Some(("postgres" | "postgresql", _)) => "postgres",
        Some(("mysql", _)) => "mysql",
        _ => "sqlite",
    };
    let choice = ["-p", "load-testing", "--no-default-features", "--features", feature];
    // The program starts the worker that lies beside it.
    cargo(&[&["build", "--bins"], &choice[..]].concat(), &[])?;
    cargo(&[&["run", "--quiet"], &choice[..], &["--"]].concat(), arguments)
}

fn cargo(arguments: &[&str], rest: &[String]) -> Result<(), String> {
    let status = Command::new(env!("CARGO")).args(arguments).args(rest).status();
    match status {
        Ok(status) if status.success() => Ok(()),
        Ok(_) => Err(format!("cargo {} failed", arguments.join(" "))),
        Err(error) => Err(format!("cannot run cargo: {error}")),
    }
}
