use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use super::supervised::Death;
use crate::database_url::without_password;

/// The worker's flags. Each may also be set in the environment or in `.env`; a flag wins.
#[derive(Clone, Parser)]
#[command(name = "worker", about = "Runs the consumers of this program until Ctrl-C or SIGTERM", version)]
pub struct WorkerArgs {
    /// The database, for instance app.db, postgres://user@host/name or mysql://user@host/name
    #[arg(long, env = "DATABASE_URL", hide_env_values = true)]
    pub database_url: Option<String>,

    /// How many handlers run at once
    #[arg(long, env = "TASKMQ_CONCURRENCY", default_value_t = 10, value_parser = parse_concurrency)]
    pub concurrency: usize,

    /// Only these topics, separated by commas [default: every topic that has a consumer]
    #[arg(long, env = "TASKMQ_TOPICS", value_delimiter = ',')]
    pub topics: Vec<String>,

    /// How long running handlers may go on after the worker was told to stop
    #[arg(long, env = "TASKMQ_SHUTDOWN_TIMEOUT", default_value = "30s", value_parser = humantime::parse_duration)]
    pub shutdown_timeout: Duration,

    /// Stop as soon as no message is left
    #[arg(long)]
    pub until_empty: bool,

    /// Run the worker as a child process, and start it again when it dies. How it died is noted with the message that
    /// killed it
    #[arg(long, env = "TASKMQ_SUPERVISE", value_parser = clap::builder::BoolishValueParser::new())]
    pub supervise: bool,

    /// The file in which a supervised worker answers.
    #[arg(long, hide = true)]
    pub(super) supervised: Option<PathBuf>,

    /// How the workers before a supervised one died.
    #[arg(long, hide = true, value_parser = Death::parse)]
    pub(super) died: Vec<Death>,

    /// How often a supervised one was started again.
    #[arg(long, hide = true, default_value_t = 0)]
    pub(super) restarts: u64,

    /// Serve the admin's web pages on this address, such as 127.0.0.1:8470, if taskmq-admin is in this program
    #[arg(long, value_name = "ADDR:PORT")]
    pub admin: Option<SocketAddr>,

    /// Serve /metrics for Prometheus, /health and /ready on this address, and no pages, if taskmq-admin is in this program
    #[arg(long, value_name = "ADDR:PORT", env = "TASKMQ_METRICS_LISTEN")]
    pub metrics: Option<SocketAddr>,

    /// How to log: text for people, json for programs. RUST_LOG=taskmq_core=debug shows more
    #[arg(long, env = "TASKMQ_LOG", default_value = "text")]
    pub log: LogFormat,
}

/// Without a password.
impl fmt::Debug for WorkerArgs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WorkerArgs")
            .field("database_url", &self.database_url.as_deref().map(without_password))
            .field("concurrency", &self.concurrency)
            .field("topics", &self.topics)
            .field("shutdown_timeout", &self.shutdown_timeout)
            .field("until_empty", &self.until_empty)
            .field("supervise", &self.supervise)
            .field("admin", &self.admin)
            .field("log", &self.log)
            .finish_non_exhaustive()
    }
}

/// How the worker logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One line for a person.
    Text,
    /// One JSON object a line.
    Json,
}

fn parse_concurrency(text: &str) -> Result<usize, String> {
    match text.parse() {
        Ok(number @ 1..=10_000) => Ok(number),
        _ => Err("it must be a number from 1 to 10000".to_owned()),
    }
}
