//! `taskmq-cli`: sets taskmq up in a Diesel project, and produces and looks at its messages.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line talks to a person")]

#[macro_use]
mod output;

mod cli;
mod commands;
mod database;
mod doctor;
mod error;
mod init;
mod payload;
mod progress;
mod schema;
mod selection;
#[cfg(feature = "watch")]
mod watch;
mod when;

use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use taskmq_core::broker::Action;

fn main() -> ExitCode {
    // As diesel_cli does; a missing file is no error, and what the environment already has wins.
    let read = dotenvy::dotenv();
    let cli = Cli::parse();
    // Its error has the line, and a password may be in that.
    if read.is_err_and(|error| !error.not_found()) {
        eprintln!(
            "note: .env is not read beyond its first line that is wrong: write NAME=value, and a value with spaces, $ or # as 'value'"
        );
    }
    match run(&cli) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {}", output::printable(&error.to_string()));
            error.exit_code()
        }
    }
}

fn run(cli: &Cli) -> error::Result<()> {
    let url = cli.database_url.as_deref().filter(|url| !url.is_empty());
    match &cli.command {
        Command::Init(args) => init::run(args, url),
        Command::Migrate => commands::migrate::run(url),
        Command::Produce(args) => commands::produce::run(args, url),
        Command::Topics(args) => commands::topics::run(args, url),
        Command::Messages(args) => commands::messages::run(args, url),
        Command::Show(args) => commands::show::run(args, url),
        Command::Retry(args) => commands::change::run(&Action::Retry, args, url),
        Command::Cancel(args) => commands::change::run(&Action::Cancel, args, url),
        Command::Delete(args) => commands::change::run(&Action::Delete, args, url),
        Command::Workers(args) => commands::workers::run(args, url),
        Command::Dead(args) => commands::dead::run(args, url),
        Command::Purge(args) => commands::purge::run(args, url),
        Command::Pause(args) => commands::pause::pause(args, url),
        Command::Resume(args) => commands::pause::resume(args, url),
        Command::Limit(args) => commands::limits::set(args, url),
        Command::Limits(args) => commands::limits::list(args, url),
        Command::Schedules(args) => commands::schedules::run(args, url),
        Command::Workflows(args) => commands::workflows::run(args, url),
        Command::Doctor(args) => doctor::run(args, url),
        #[cfg(feature = "watch")]
        Command::Watch => watch::run(url),
        Command::Completions(args) => commands::manual::completions(args),
        Command::Man(args) => commands::manual::man(args),
        Command::Admin(args) => commands::admin::run(args, url),
    }
}
