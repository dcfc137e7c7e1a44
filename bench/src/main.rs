//! Measures taskmq beside the raw SQL loop and its peers: `cargo xtask bench`. See `bench/README.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod backlog;
mod contestant;
mod database;
mod machine;
mod process;
mod report;
mod results;
mod run;
mod workload;
mod workloads;

use std::error::Error;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Parser;

use database::Kind;
use results::Results;
use workload::Scale;

type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Measures taskmq, the raw SQL loop and peers on databases of its own
#[derive(Clone, Debug, Parser)]
#[command(name = "cargo xtask bench")]
struct Arguments {
    /// Small sizes, one round, no pauses: about 7 minutes
    #[arg(long, conflicts_with = "full")]
    quick: bool,
    /// Five rounds, the largest backlogs and the longest transactions: hours
    #[arg(long)]
    full: bool,
    /// Only this database; may be given again
    #[arg(long, value_name = "DATABASE")]
    database: Vec<Kind>,
    /// Only this workload; may be given again
    #[arg(long, value_name = "WORKLOAD", value_parser = workloads::names())]
    workload: Vec<String>,
    /// Only contestants whose name contains this; may be given again
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// How many rounds [default: 3, quick 1, full 5]
    #[arg(long)]
    rounds: Option<u32>,
    /// Measures nothing, and writes docs/benchmarks.md from the results in this file
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

impl Arguments {
    fn scale(&self) -> Scale {
        match (self.quick, self.full) {
            (true, _) => Scale::Quick,
            (_, true) => Scale::Full,
            _ => Scale::Default,
        }
    }

    /// Nothing left out, so that the documentation can show it.
    fn is_complete(&self) -> bool {
        !self.quick && self.database.is_empty() && self.workload.is_empty() && self.only.is_empty()
    }
}

fn main() -> ExitCode {
    match bench(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn bench(arguments: &Arguments) -> Result {
    if let Some(file) = &arguments.report {
        return report::write(&Results::load(file)?);
    }
    let results = run::all(arguments)?;
    let file = results.save()?;
    report::print_targets(&results);
    println!("\n{}", file.display());
    if arguments.is_complete() {
        results.save_as_latest()?;
        report::write(&results)?;
    }
    Ok(())
}
