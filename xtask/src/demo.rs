//! Builds the example for the database that `DATABASE_URL` names, and runs it.

use crate::cargo;

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
