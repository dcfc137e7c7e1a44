//! The command line, as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use taskmq_core::{Backend, MessageId, State};

/// Sets taskmq up in a Diesel project, and produces and looks at its messages
#[derive(Debug, Parser)]
#[command(version)]
pub(crate) struct Cli {
    /// The database, for instance app.db, postgres://user@host/name or mysql://user@host/name
    #[arg(long, global = true, env = "DATABASE_URL", hide_env_values = true)]
    pub(crate) database_url: Option<String>,

    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Add the message queue to the Diesel project in this folder
    Init(InitArgs),
    /// Run the project's own migrations, as `diesel migration run` does
    Migrate,
    /// Produce messages
    Produce(ProduceArgs),
    /// List the topics with their figures, and how many running workers consume each
    Topics(ListArgs),
    /// List messages: live ones in the order in which they run, then finished ones
    ///
    /// On a terminal each is one line, with its payload cut to fit; a file or another program gets it whole.
    Messages(MessagesArgs),
    /// Show one message with all that is known of it
    Show(ShowArgs),
    /// Revive dead letters and cancelled messages, with all their attempts before them, or make waiting ones due
    Retry(ChangeArgs),
    /// Take waiting messages back; they are kept as cancelled
    Cancel(ChangeArgs),
    /// Delete messages, and all that is known of them
    Delete(ChangeArgs),
    /// List the running workers
    Workers(ListArgs),
    /// Serve the web page, on this machine alone unless told otherwise
    Admin(AdminArgs),
}

#[derive(Debug, Args)]
pub(crate) struct InitArgs {
    /// The database, where Cargo.toml and DATABASE_URL do not tell
    #[arg(long)]
    pub(crate) backend: Option<BackendName>,

    /// Depend on this checkout of taskmq instead of the registry
    #[arg(long, value_name = "DIR")]
    pub(crate) path: Option<PathBuf>,

    /// Print what would change, as a diff, and change nothing
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Edit files that have uncommitted changes
    #[arg(long)]
    pub(crate) allow_dirty: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum BackendName {
    Sqlite,
    Postgres,
    Mysql,
}

impl From<BackendName> for Backend {
    fn from(name: BackendName) -> Self {
        match name {
            BackendName::Sqlite => Backend::Sqlite,
            BackendName::Postgres => Backend::Postgres,
            BackendName::Mysql => Backend::Mysql,
        }
    }
}

#[derive(Debug, Args)]
pub(crate) struct ProduceArgs {
    /// The topic
    pub(crate) topic: String,

    /// The payload; - reads it from standard input
    #[arg(value_name = "JSON", required_unless_present = "file", conflicts_with = "file")]
    pub(crate) payload: Option<String>,

    /// Produce a message for each line of this file, all of them or none
    #[arg(long, value_name = "messages.jsonl")]
    pub(crate) file: Option<PathBuf>,

    /// Higher first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i16,

    /// Due after this long, for instance 30s or 2h
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) delay: Option<Duration>,

    /// While a live message of the topic has this key, produce no other
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    pub(crate) unique: Option<String>,

    /// A header for the handler to read
    #[arg(long, value_name = "NAME=TEXT", value_parser = parse_header)]
    pub(crate) header: Vec<(String, String)>,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

fn parse_header(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, text)) if !name.is_empty() => Ok((name.to_owned(), text.to_owned())),
        _ => Err("write it as name=text".to_owned()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct AdminArgs {
    #[command(flatten)]
    pub(crate) serve: taskmq_admin::serve::ServeArgs,

    /// Print the argon2 hash of the password on standard input, for --password-file, and end
    #[arg(long)]
    pub(crate) hash_password: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct MessagesArgs {
    /// Of one topic
    #[arg(long)]
    pub(crate) topic: Option<String>,

    /// In one state: ready, scheduled, running, retrying, done, dead or cancelled
    #[arg(long)]
    pub(crate) state: Option<State>,

    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    pub(crate) limit: i64,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ShowArgs {
    /// Its id
    pub(crate) id: MessageId,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct ChangeArgs {
    /// The messages
    #[arg(required_unless_present = "state", conflicts_with = "state", value_name = "ID")]
    pub(crate) ids: Vec<MessageId>,

    /// All messages in this state: ready, scheduled, retrying, done, dead or cancelled
    #[arg(long)]
    pub(crate) state: Option<State>,

    /// With --state: of one topic
    #[arg(long, requires = "state")]
    pub(crate) topic: Option<String>,

    /// Say how many messages it would be, and change none
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}
