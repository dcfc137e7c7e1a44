//! The protocol between the benchmark and a contestant, for contestants in Rust; `bench/README.md` describes it.
//!
//! A contestant implements [`Contestant`] and calls [`main`]; its handler calls [`handle`], or [`begin`] and [`end`].
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

mod answers;
mod handled;
mod message;
mod produce;

use std::error::Error;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

pub use handled::{begin, end, handle};
pub use message::{Message, Payload, TOPICS};

/// Whatever a contestant's library reports.
pub type Result<T = ()> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// One library that is measured.
pub trait Contestant: Sync {
    /// What produces on one connection.
    type Producer: Producer;

    /// Makes the tables in an empty database (SQLite: in a file that may not exist yet).
    ///
    /// # Errors
    /// What the library reports.
    fn prepare(&self, url: &str) -> Result;

    /// Connects a producer, ready to produce at once.
    ///
    /// # Errors
    /// What the library reports.
    fn producer(&self, url: &str) -> Result<Self::Producer>;

    /// Runs handlers in this process for ever.
    ///
    /// # Errors
    /// What the library reports.
    fn work(&self, url: &str, work: &Work) -> Result;
}

/// Produces on one connection.
pub trait Producer: Send {
    /// One message, by the library's call for one.
    ///
    /// # Errors
    /// What the library reports.
    fn one(&mut self, message: Message) -> Result;

    /// Many messages, by the library's best call for that.
    ///
    /// # Errors
    /// What the library reports.
    fn many(&mut self, messages: Vec<Message>) -> Result;
}

/// How to run handlers.
#[derive(Clone, Debug, Args)]
pub struct Work {
    /// Handlers that run at once [default: the contestant's own best setting]
    #[arg(long)]
    pub concurrency: Option<usize>,
    /// Consume the first so many topics
    #[arg(long, default_value_t = 1)]
    pub topics: usize,
    /// The handler is asynchronous, where the library has both kinds
    #[arg(long = "async")]
    pub asynchronous: bool,
    /// Settings for latency, where they differ from those for throughput
    #[arg(long)]
    pub prompt: bool,
}

/// Which messages to produce.
#[derive(Clone, Debug, Args)]
pub(crate) struct Shape {
    /// How many
    number: u64,
    /// How many with one call
    #[arg(long, default_value_t = 5000)]
    batch: u64,
    /// The size of the payload's padding
    #[arg(long, default_value_t = 0)]
    bytes: usize,
    /// How many milliseconds the handler takes
    #[arg(long, default_value_t = 0)]
    ms: u64,
    /// Spread over the first so many topics
    #[arg(long, default_value_t = 1)]
    topics: usize,
    /// Spread over so many ordering keys; 0: without any
    #[arg(long, default_value_t = 0)]
    keys: u64,
}

#[derive(Debug, Parser)]
struct Arguments {
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Makes the tables
    Prepare,
    /// Produces many messages in batches
    Produce(Shape),
    /// Produces messages one by one
    Single {
        number: u64,
        #[arg(long, default_value_t = 1)]
        connections: u64,
    },
    /// Produces messages one by one at a steady rate, each with the time of its producing call
    Paced { rate: u64, seconds: u64 },
    /// Produces a batch for each number that it reads, until its input ends
    Feed,
    /// Runs handlers and answers questions, until its input ends
    Work(Work),
}

/// The whole program of a contestant.
pub fn main(contestant: &impl Contestant) -> ExitCode {
    let arguments = Arguments::parse();
    let url = &arguments.database_url;
    let ended = match arguments.command {
        Command::Prepare => contestant.prepare(url),
        Command::Produce(shape) => produce::many(contestant, url, &shape),
        Command::Single { number, connections } => produce::single(contestant, url, number, connections),
        Command::Paced { rate, seconds } => produce::paced(contestant, url, rate, seconds),
        Command::Feed => produce::feed(contestant, url),
        Command::Work(work) => answers::work(contestant, url, &work),
    };
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}
