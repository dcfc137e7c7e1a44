//! Measures taskmq beside the raw SQL loop and its peers: `cargo xtask bench`. See `bench/README.md`.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod contestant;
mod database;
mod machine;
mod process;
mod results;
mod run;
mod workload;
mod workloads;

use std::error::Error;
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
    /// Small sizes, one round, no pauses: about six minutes
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
}

impl Arguments {
    fn scale(&self) -> Scale {
        match (self.quick, self.full) {
            (true, _) => Scale::Quick,
            (_, true) => Scale::Full,
            _ => Scale::Default,
        }
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
    let results: Results = run::all(arguments)?;
    let file = results.save()?;
    println!("\n{}", file.display());
    Ok(())
}
