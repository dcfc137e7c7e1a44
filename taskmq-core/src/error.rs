use crate::{Backend, MessageId};

/// What can go wrong with the queue itself (a handler's own error is a [`Failure`](crate::Failure)).
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A topic that breaks the rules of [`limits::check_topic`](crate::limits::check_topic).
    #[error("topic {topic:?} cannot be used: {problem}")]
    Topic {
        /// The topic, cut to 100 characters.
        topic: String,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A unique key or ordering key that cannot be stored.
    #[error("{what} cannot be used: {problem}")]
    Key {
        /// Which key.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// A payload or headers that cannot be written as JSON.
    #[error("{what} cannot be written as JSON: {source}")]
    Encode {
        /// The payload, or the headers.
        what: &'static str,
        /// The encoder's own words.
        source: serde_json::Error,
    },
    /// A payload or headers that not every database takes as JSON, nested beyond
    /// [`limits::MAX_PAYLOAD_DEPTH`](crate::limits::MAX_PAYLOAD_DEPTH) for instance.
    #[error("{what} cannot be stored: {problem}")]
    Json {
        /// The payload, or the headers.
        what: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// Something that taskmq itself stored as JSON, and that was changed since.
    #[error("{what} is not what taskmq stored there: {source}")]
    Decode {
        /// The column.
        what: &'static str,
        /// The decoder's own words.
        source: serde_json::Error,
    },
    /// A payload or headers beyond [`limits::MAX_PAYLOAD_BYTES`](crate::limits::MAX_PAYLOAD_BYTES).
    #[error(
        "{what} has {bytes} bytes of JSON, the limit is {limit}: store it elsewhere and send a reference"
    )]
    TooLarge {
        /// The payload, or the headers.
        what: &'static str,
        /// Its size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
    /// A delay beyond [`limits::MAX_DELAY`](crate::limits::MAX_DELAY).
    #[error("a delay of {} days is too long, the limit is {} days", .delay.as_secs() / 86_400, crate::limits::MAX_DELAY.as_secs() / 86_400)]
    Delay {
        /// The delay that was asked for.
        delay: std::time::Duration,
    },
    /// A schedule that is not there.
    #[error("schedule {name:?}: there is none of this name")]
    NoSchedule {
        /// The name that was asked for, cut to 100 characters.
        name: String,
    },
    /// A schedule that cannot be stored, or not be removed.
    #[error("schedule {name:?}: {problem}")]
    Schedule {
        /// Its name, cut to 100 characters.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A limit of a topic that cannot be set.
    #[error("this limit cannot be set: {problem}")]
    Limit {
        /// What is wrong with it.
        problem: String,
    },
    /// A workflow that cannot be stored.
    #[error("workflow {name:?}: {problem}")]
    Workflow {
        /// Its name.
        name: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A payload that its consumer could not read.
    #[error("consumer {consumer} cannot read this payload: {source}")]
    Unreadable {
        /// The path of its function.
        consumer: &'static str,
        /// The decoder's own words.
        source: serde_json::Error,
    },
    /// What is no condition on a payload.
    #[error("{condition:?} cannot be looked for: {problem}")]
    Condition {
        /// The text, cut to 100 characters.
        condition: String,
        /// What is wrong with it.
        problem: String,
    },
    /// A cron text that says no times.
    #[error("cron {cron:?} cannot be used: {problem}")]
    Cron {
        /// The text, cut to 100 characters.
        cron: String,
        /// Which field is wrong, and what it may be.
        problem: String,
    },
    /// A time zone that is unknown.
    #[error(
        "there is no time zone {zone:?}: {}", .meant.map_or_else(
            || "write its name in the IANA database, as Europe/Berlin or UTC".to_owned(),
            |meant| format!("do you mean {meant}?")
        )
    )]
    TimeZone {
        /// The name, cut to 50 characters.
        zone: String,
        /// One that it may have been meant for.
        meant: Option<&'static str>,
    },
    /// SQLite's one write lock could not be had.
    #[error(
        "the SQLite database is locked by another writer: begin a transaction that will produce with \
         `immediate_transaction` instead of `transaction`, and set `PRAGMA busy_timeout = 5000` on the connection"
    )]
    Locked(#[source] diesel::result::Error),
    /// The taskmq tables are not there.
    #[error("this database has no taskmq tables: run `diesel migration run` or `taskmq-cli migrate`")]
    NotMigrated(#[source] diesel::result::Error),
    /// The tables are of a version that this program does not know.
    #[error(
        "the taskmq tables have schema version {found}, this program works with {needed}: {}",
        if found < needed { "run `taskmq-cli init` and then the migrations" } else { "update taskmq, in Cargo.toml and taskmq-cli itself" }
    )]
    SchemaVersion {
        /// The version in the database.
        found: i32,
        /// The version that this program works with.
        needed: i32,
    },
    /// `DATABASE_URL` is nowhere to be found.
    #[error(
        "no database: set DATABASE_URL in the environment or in a .env file, for instance DATABASE_URL=app.db"
    )]
    NoDatabaseUrl,
    /// The URL names a database that this program was built without.
    #[error("this program was built without {0}: add the feature `{feature}` to taskmq-core", feature = .0.feature())]
    BackendMissing(Backend),
    /// A connection could not be opened.
    #[error("cannot connect to {database}: {reason}")]
    Connect {
        /// Which database, without any password.
        database: String,
        /// The driver's own words.
        reason: String,
    },
    /// The file or server is of a kind on which the queue cannot be safe.
    #[error("{0}")]
    Unsupported(String),
    /// Two consumers of one topic.
    #[error(
        "two consumers of topic {topic:?}: {first} and {second}; a topic has one consumer, so rename one topic"
    )]
    DuplicateConsumer {
        /// The topic.
        topic: String,
        /// One function's path, and where it is.
        first: String,
        /// The other's.
        second: String,
    },
    /// A consumer that the worker cannot run.
    #[error("consumer {consumer} cannot run: {problem}")]
    Consumer {
        /// The path of the function.
        consumer: &'static str,
        /// What is missing, and what to do.
        problem: String,
    },
    /// A worker that cannot do what it was started for: no consumer, a topic that it does not know, an address or a
    /// thread that cannot be had.
    #[error("{0}")]
    Configuration(String),
    /// A message that is not there, or not in the state that the operation needs.
    #[error("message {id}: {problem}")]
    Message {
        /// Its id.
        id: MessageId,
        /// Why the operation cannot be done.
        problem: String,
    },
    /// An incarnation of a worker that other workers have given up.
    #[error("this worker was given up by the others (it could not be reached); what it ran is run elsewhere")]
    WorkerLost,
    /// A server that did not answer for so long.
    #[error("the database has not answered for {} s", .0.as_secs())]
    Silent(std::time::Duration),
    /// A statement took longer than it may ([`Administration::restrict`](crate::broker::Administration::restrict)).
    #[error("the database took too long and was stopped: ask for less")]
    TooSlow(#[source] diesel::result::Error),
    /// The connection may only read.
    #[error("this connection may only read: nothing was changed")]
    ReadOnly(#[source] diesel::result::Error),
    /// The role of this connection lacks a right.
    #[error("the role of this connection may not do that: {0}; docs/roles.md has what each role needs")]
    Forbidden(#[source] diesel::result::Error),
    /// The database's disk is full.
    #[error(
        "the database's disk is full, so it stores nothing more: make room on it; what was stored before is kept ({0})"
    )]
    DiskFull(#[source] diesel::result::Error),
    /// The transaction in which a transactional handler ran was over before its end.
    #[error(
        "the transaction that it ran in was over before its end: it ended the transaction itself, or went on after an error \
         with which the database had undone it (such as a deadlock); return such an error, or use a connection of your own: {0}"
    )]
    TransactionOver(#[source] diesel::result::Error),
    /// Anything else that the database reports.
    #[error("the database failed: {0}")]
    Database(#[source] diesel::result::Error),
    /// The lock file of a worker beside the SQLite file.
    #[error("cannot use the lock file {path}: {source}")]
    LockFile {
        /// Which file.
        path: String,
        /// The operating system's own words.
        source: std::io::Error,
    },
    /// The operating system gave no random numbers.
    #[error("the operating system gave no random numbers: {0}")]
    Random(String),
}

/// The result of every operation on the queue.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// On a server, a lock that somebody else holds was in the way for longer than was to be waited for it, or one of those who waited
    /// for each other had to give way. Nothing has happened, and the same may do a moment later. On SQLite that is
    /// [`Locked`](Self::Locked).
    pub fn is_blocked(&self) -> bool {
        let Error::Database(diesel::result::Error::DatabaseError(_, info)) = self else { return false };
        let text = info.message();
        is_conflict(text) || text.contains("due to lock timeout") || text.contains("Lock wait timeout")
    }

    /// What a driver says about a URL that it cannot connect to, without the password.
    pub fn cannot_connect(url: &str, error: &diesel::ConnectionError) -> Self {
        crate::database_url::cannot_connect(url, &error.to_string())
    }
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        use diesel::result::Error as Diesel;
        // Diesel has no kinds for these, so the drivers' words decide.
        if let Diesel::DatabaseError(_, info) = &error {
            let text = info.message();
            if text.contains("database is locked") || text.contains("database table is locked") {
                return Error::Locked(error);
            }
            if ["due to statement timeout", "max_statement_time exceeded", "maximum statement execution time"]
                .iter()
                .any(|words| text.contains(words))
            {
                return Error::TooSlow(error);
            }
            if [
                "in a read-only transaction",
                "attempt to write a readonly database",
                "in a READ ONLY transaction",
                "with the --read-only option",
            ]
            .iter()
            .any(|words| text.contains(words))
            {
                return Error::ReadOnly(error);
            }
            if text.contains("permission denied for") || text.contains("command denied to user") {
                return Error::Forbidden(error);
            }
            if ["database or disk is full", "No space left on device", "Disk full ("]
                .iter()
                .any(|words| text.contains(words))
                || text.starts_with("The table '") && text.ends_with("' is full")
            {
                return Error::DiskFull(error);
            }
            if [
                "SAVEPOINT taskmq does not exist",
                "no such savepoint: taskmq",
                "can only be used in transaction blocks",
            ]
            .iter()
            .any(|words| text.contains(words))
            {
                return Error::TransactionOver(error);
            }
            let missing = text.contains("no such table")
                || text.contains("does not exist") && text.contains("relation")
                || text.contains("doesn't exist") && text.contains("Table");
            if missing && text.contains("taskmq_") {
                return Error::NotMigrated(error);
            }
        }
        Error::Database(error)
    }
}

/// Whether this is what a database says to a transaction that it undid because another one stood in its way (a deadlock,
/// a serialization failure). Nothing of it has happened, and it can be run again.
pub(crate) fn is_conflict(text: &str) -> bool {
    [
        "Deadlock found",
        // MariaDB's words for a deadlock in which the table's counter of ids is one of the locks.
        "Failed to read auto-increment value",
        "Record has changed since last read",
        "deadlock detected",
        "could not serialize access",
    ]
    .iter()
    .any(|words| text.contains(words))
}
