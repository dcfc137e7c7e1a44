//! The command line, as it is typed.

use std::path::PathBuf;
use std::time::Duration;

use clap::{ArgGroup, Args, Parser, Subcommand, ValueEnum};
use clap_complete::Shell;
use taskmq_core::broker::{Condition, Rate, WorkflowId, WorkflowState};
use taskmq_core::{Backend, MessageId, State};

use crate::when::When;

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
    /// List the workers, and which of them are not alive any more, or tell one to end
    Workers(WorkersArgs),
    /// List dead letters by topic and error; errors that differ in numbers only are the same
    Dead(DeadArgs),
    /// Delete finished messages by state, topic and age
    Purge(PurgeArgs),
    /// Let no worker take messages of a topic, until it is resumed; what runs is finished
    Pause(PauseArgs),
    /// Let workers take messages of a topic again
    Resume(PauseArgs),
    /// Limit how many messages of a topic run at once or begin in a time, over all workers
    Limit(LimitArgs),
    /// List the topics that have a limit, and how many of their messages run now
    Limits(ListArgs),
    /// List the schedules and when they tick next; add, pause, resume, run and remove them
    Schedules(SchedulesArgs),
    /// List the workflows, the newest first; show one with its steps, retry and cancel them
    Workflows(WorkflowsArgs),
    /// Examine the database and the queue, and say what is wrong, why it matters and what to do
    ///
    /// Exits with 1 when it finds an error; warnings and remarks are no failure.
    Doctor(ListArgs),
    /// Watch the queue on a live screen, and act on it
    #[cfg(feature = "watch")]
    Watch,
    /// Print a script that completes commands in a shell
    Completions(CompletionsArgs),
    /// Write manual pages into a folder
    Man(ManArgs),
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
    #[arg(
        value_name = "JSON",
        required_unless_present = "file",
        conflicts_with = "file",
        allow_negative_numbers = true
    )]
    pub(crate) payload: Option<String>,

    /// Produce a message for each line of this file, all of them or none
    #[arg(long, value_name = "messages.jsonl")]
    pub(crate) file: Option<PathBuf>,

    /// Do not check payloads by the schema of the topic, for a consumer that is yet to come
    #[arg(long)]
    pub(crate) unchecked: bool,

    /// Higher first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i16,

    /// Due after this long, for instance 30s or 2h
    #[arg(long, value_parser = humantime::parse_duration)]
    pub(crate) delay: Option<Duration>,

    /// While a live message of the topic has this key, produce no other
    #[arg(long, value_name = "KEY", conflicts_with = "file")]
    pub(crate) unique: Option<String>,

    /// Of the topic's messages with this key one runs at a time, in order
    #[arg(long, value_name = "KEY")]
    pub(crate) ordering_key: Option<String>,

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

    /// Print the argon2 hash of a password, for --password-file, and end; asks for it on a terminal, else reads standard input
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
pub(crate) struct WorkersArgs {
    #[command(subcommand)]
    pub(crate) command: Option<WorkerCommand>,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkerCommand {
    /// Tell a worker to take no more messages, to finish what runs, and to end
    Drain {
        /// Its id as the list shows it, or its host:pid
        worker: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct MessagesArgs {
    /// Of one topic
    #[arg(long)]
    pub(crate) topic: Option<String>,

    /// In one state: ready, scheduled, running, retrying, done, dead or cancelled
    #[arg(long)]
    pub(crate) state: Option<State>,

    /// With this unique key
    #[arg(long)]
    pub(crate) key: Option<String>,

    /// With this ordering key
    #[arg(long, value_name = "KEY")]
    pub(crate) ordering_key: Option<String>,

    /// With this text in the payload, headers, a key or the error; upper and lower case count
    #[arg(long)]
    pub(crate) text: Option<String>,

    /// With this in the payload: '$.user.id = 42', or '$.user' for anything there
    #[arg(long = "where", value_name = "PATH = VALUE")]
    pub(crate) condition: Option<Condition>,

    /// Produced after this time: 2026-11-25T14:00:00Z, 2026-11-25, or 2h for two hours ago
    #[arg(long, value_name = "TIME")]
    pub(crate) after: Option<When>,

    /// Produced before this time
    #[arg(long, value_name = "TIME")]
    pub(crate) before: Option<When>,

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

    /// With --state: with this unique key
    #[arg(long, requires = "state")]
    pub(crate) key: Option<String>,

    /// With --state: with this ordering key
    #[arg(long, value_name = "KEY", requires = "state")]
    pub(crate) ordering_key: Option<String>,

    /// With --state: with this text in the payload, headers, a key or an error; upper and lower case count
    #[arg(long, requires = "state")]
    pub(crate) text: Option<String>,

    /// With --state: with this in the payload, as '$.user.id = 42'
    #[arg(long = "where", value_name = "PATH = VALUE", requires = "state")]
    pub(crate) condition: Option<Condition>,

    /// With --state: finished after this time, or due after it: 2026-11-25T14:00:00Z, 2026-11-25, or 2h for two hours ago
    #[arg(long, value_name = "TIME", requires = "state")]
    pub(crate) after: Option<When>,

    /// With --state: finished before this time, or due before it
    #[arg(long, value_name = "TIME", requires = "state")]
    pub(crate) before: Option<When>,

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

#[derive(Debug, Args)]
pub(crate) struct DeadArgs {
    /// Of one topic
    #[arg(long)]
    pub(crate) topic: Option<String>,

    /// Look at so many of the newest at most
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..=10_000_000))]
    pub(crate) limit: u64,

    /// Print JSON, with the ids of each group
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PurgeArgs {
    /// In these states: done, dead or cancelled
    #[arg(long, required = true, value_delimiter = ',')]
    pub(crate) state: Vec<State>,

    /// Of one topic
    #[arg(long)]
    pub(crate) topic: Option<String>,

    /// Finished longer ago than this, for instance 30d
    #[arg(long, value_name = "AGE", value_parser = humantime::parse_duration)]
    pub(crate) older_than: Option<Duration>,

    /// Say how many messages it would be, and delete none
    #[arg(long)]
    pub(crate) dry_run: bool,

    /// Do not ask
    #[arg(long)]
    pub(crate) yes: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct PauseArgs {
    /// The topic
    pub(crate) topic: String,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
#[command(group(ArgGroup::new("limit").args(["running", "rate", "none"]).required(true).multiple(true)))]
pub(crate) struct LimitArgs {
    /// The topic
    pub(crate) topic: String,

    /// At most so many of its messages run at once
    #[arg(long, value_name = "N")]
    pub(crate) running: Option<u32>,

    /// At most so many begin in a period of s, m, h or d, for instance 100/1m
    #[arg(long, value_name = "N/PERIOD")]
    pub(crate) rate: Option<Rate>,

    /// Lift its limit
    #[arg(long, conflicts_with_all = ["running", "rate"])]
    pub(crate) none: bool,

    /// Print JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Args)]
pub(crate) struct SchedulesArgs {
    #[command(subcommand)]
    pub(crate) command: Option<ScheduleCommand>,

    /// List so many of the next ticks of each
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) next: u16,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum ScheduleCommand {
    /// Add a schedule, or change the one of this name; a pause stays
    Add(AddScheduleArgs),
    /// Remove a schedule; the messages that it has enqueued stay
    Remove {
        /// Its name
        name: String,
    },
    /// Let a schedule tick no more, until it is resumed
    Pause {
        /// Its name
        name: String,
    },
    /// Let a schedule tick again, from now on
    Resume {
        /// Its name
        name: String,
    },
    /// Enqueue a message of a schedule now, paused or not
    Run {
        /// Its name
        name: String,
    },
}

#[derive(Debug, Args)]
pub(crate) struct AddScheduleArgs {
    /// Its name
    pub(crate) name: String,

    /// When it ticks: minute, hour, day of month, month, day of week, as '0 7 * * mon-fri'; or six fields with the second
    /// first; or @hourly, @daily, @weekly, @monthly, @yearly
    pub(crate) cron: String,

    /// The topic of its messages
    pub(crate) topic: String,

    /// Their payload; - reads it from standard input
    #[arg(value_name = "JSON", required = true, allow_negative_numbers = true)]
    pub(crate) payload: Option<String>,

    /// Do not check the payload by the schema of the topic, for a consumer that is yet to come
    #[arg(long)]
    pub(crate) unchecked: bool,

    /// In which this is meant, for instance Europe/Berlin
    #[arg(long, default_value = "UTC")]
    pub(crate) time_zone: String,

    /// Of its messages, higher first
    #[arg(long, default_value_t = 0, allow_negative_numbers = true)]
    pub(crate) priority: i16,

    /// Its messages are dead when this many attempts have failed, whatever their consumer says
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub(crate) max_attempts: Option<u16>,

    /// While a live message of the topic has this key, enqueue no other
    #[arg(long, value_name = "KEY")]
    pub(crate) unique: Option<String>,

    /// A header for the handler to read
    #[arg(long, value_name = "NAME=TEXT", value_parser = parse_header)]
    pub(crate) header: Vec<(String, String)>,
}

#[derive(Debug, Args)]
pub(crate) struct WorkflowsArgs {
    #[command(subcommand)]
    pub(crate) command: Option<WorkflowCommand>,

    /// In one state: running, done or cancelled
    #[arg(long)]
    pub(crate) state: Option<WorkflowState>,

    /// At most so many
    #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=100_000))]
    pub(crate) limit: i64,

    /// Print JSON
    #[arg(long, global = true)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum WorkflowCommand {
    /// Show a workflow and its steps
    Show {
        /// Its id
        id: WorkflowId,
    },
    /// Make the messages of all steps live again that are dead or cancelled
    Retry {
        /// Its id
        id: WorkflowId,
    },
    /// Let no further step begin, and take back the messages of those that wait; what runs is finished
    Cancel {
        /// Its id
        id: WorkflowId,

        /// Do not ask
        #[arg(long)]
        yes: bool,
    },
}

#[derive(Debug, Args)]
pub(crate) struct CompletionsArgs {
    /// The shell
    pub(crate) shell: Shell,
}

#[derive(Debug, Args)]
pub(crate) struct ManArgs {
    /// The folder, which is made if need be
    #[arg(value_name = "DIR")]
    pub(crate) folder: PathBuf,
}

#[cfg(test)]
mod tests;
