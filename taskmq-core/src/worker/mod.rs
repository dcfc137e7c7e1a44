//! Runs consumers: claims their messages, calls their handlers, and writes the outcomes back.
//!
//! A worker is a few threads: `dispatch` claims and settles, `executors` run the handlers, and `liveness` keeps the
//! worker's leases and rescues those of dead workers, on a connection that nothing else uses.

mod admin;
mod args;
mod backtrace;
mod dispatch;
mod execute;
mod executors;
mod holdings;
mod lanes;
mod limited;
mod link;
mod liveness;
mod lock_file;
mod logging;
mod meters;
#[cfg(feature = "otlp")]
mod otlp;
mod pace;
mod patience;
mod pool;
mod pulse;
mod report;
mod schemas;
mod sessions;
mod sighting;
mod stop;
mod strays;
mod supervised;
mod supervisor;
mod ticks;
#[cfg(feature = "mysql")]
mod waiter;
mod wake;

use std::any::TypeId;
use std::collections::BTreeMap;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use clap::Parser;
use tracing_subscriber::layer::Identity;

use crate::broker::ScheduleRecord;
use crate::consumer::call::States;
use crate::consumer::{Consumer, Declared, Handler};
use crate::database_url::DatabaseUrl;
use crate::{AnyConnection, Backend, BrokerConnection, Error, Registry, Result, ids, migration};

pub use admin::AdminServer;
pub use args::{LogFormat, WorkerArgs};
pub use pulse::Pulse;
pub use stop::Stop;

/// The whole worker binary: reads the flags, `.env` and the environment, and runs every consumer that is linked in
/// until Ctrl-C or SIGTERM.
///
/// It exits with 0 when all that ran was finished, with 1 when it could not begin or had to leave messages to other
/// workers, and at once with 130 at a second signal. With `--supervise` it runs the worker as a child and starts it again
/// when that dies.
///
/// ```no_run
/// fn main() -> std::process::ExitCode {
///     taskmq_core::worker::main()
/// }
/// ```
pub fn main() -> ExitCode {
    main_with(|worker| worker)
}

/// As [`main`], with a chance to give the worker shared state or settings.
///
/// ```no_run
/// struct Smtp;
/// fn main() -> std::process::ExitCode {
///     taskmq_core::worker::main_with(|worker| worker.state(Smtp))
/// }
/// ```
pub fn main_with(configure: impl FnOnce(Worker) -> Worker) -> ExitCode {
    // A missing .env is no error; what the environment already has wins.
    let unread = dotenvy::dotenv().is_err_and(|error| !error.not_found());
    let args = WorkerArgs::parse();
    if args.supervise && args.supervised.is_none() {
        logging::start(args.log, None::<Identity>);
        return supervisor::run();
    }
    with_traces(args.log, || {
        if unread {
            // Its error has the line, and a password may be in that.
            tracing::warn!(
                ".env is not read beyond its first line that is wrong: write NAME=value, and a value with spaces, $ or # as 'value'"
            );
        }
        let code = work(&args, configure);
        supervised::ended();
        code
    })
}

#[cfg(feature = "otlp")]
fn with_traces(log: LogFormat, work: impl FnOnce() -> ExitCode) -> ExitCode {
    let traces = otlp::Traces::start();
    let collector = traces.as_ref().ok().and_then(Option::as_ref).map(otlp::Traces::layer);
    logging::start(log, collector);
    match traces {
        Ok(traces) => {
            let code = work();
            if let Some(traces) = traces {
                traces.end();
            }
            code
        }
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

#[cfg(not(feature = "otlp"))]
fn with_traces(log: LogFormat, work: impl FnOnce() -> ExitCode) -> ExitCode {
    logging::start(log, None::<Identity>);
    work()
}

fn work(args: &WorkerArgs, configure: impl FnOnce(Worker) -> Worker) -> ExitCode {
    let listening =
        args.supervised.as_ref().map_or(Ok(()), |file| supervised::begin(file, &args.died, args.restarts));
    let worker = listening.and_then(|()| Worker::from_args(args)).map(configure).and_then(|worker| {
        admin::start(args, &worker.database_url, &worker.pulse)?;
        Ok(worker)
    });
    let stop = worker.as_ref().map(Worker::stop_handle).ok();
    match worker.and_then(Worker::run) {
        Ok(Ended::LeftRunning) if stop.is_some_and(|stop| stop.is_at_once()) => stop::AT_ONCE.into(),
        Ok(Ended::Finished) => ExitCode::SUCCESS,
        Ok(Ended::LeftRunning) => ExitCode::FAILURE,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// How a worker ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that it had begun was finished.
    Finished,
    /// Handlers still ran when the time for shutting down was over; their messages were handed back.
    LeftRunning,
}

/// A worker about to run.
///
/// ```no_run
/// # #[taskmq_core::task_consumer(topic = "yace")] fn play(_n: u32) {}
/// use taskmq_core::{Registry, Worker};
/// Worker::new(Registry::discovered()?, "app.db").concurrency(4).run()?;
/// # Ok::<(), taskmq_core::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a worker does nothing before `run`"]
pub struct Worker {
    registry: Registry,
    database_url: DatabaseUrl,
    concurrency: usize,
    shutdown_timeout: Duration,
    until_empty: bool,
    handle_signals: bool,
    states: States,
    stop: Stop,
    pulse: Pulse,
}

impl Worker {
    /// A worker for these consumers on this database, which runs 10 handlers at once and gives them 30 s to finish
    /// when it is told to stop.
    pub fn new(registry: Registry, database_url: impl Into<String>) -> Self {
        let stop = Stop::default();
        Self {
            registry,
            database_url: DatabaseUrl::new(database_url),
            concurrency: 10,
            shutdown_timeout: Duration::from_secs(30),
            until_empty: false,
            handle_signals: true,
            states: States::new(),
            pulse: Pulse::new(&stop),
            stop,
        }
    }

    /// A worker for every consumer that is linked in, set up by flags and environment.
    ///
    /// # Errors
    /// [`Error::NoDatabaseUrl`], and what [`Registry::discovered`] and [`Registry::only`] report.
    pub fn from_args(args: &WorkerArgs) -> Result<Self> {
        let url = args.database_url.clone().ok_or(Error::NoDatabaseUrl)?;
        let mut registry = Registry::discovered()?;
        if !args.topics.is_empty() {
            registry = registry.only(&args.topics)?;
        }
        Ok(Self::new(registry, url)
            .concurrency(args.concurrency)
            .shutdown_timeout(args.shutdown_timeout)
            .until_empty(args.until_empty))
    }

    /// How many handlers run at once, 1 to 10,000.
    pub fn concurrency(mut self, handlers: usize) -> Self {
        self.concurrency = handlers.clamp(1, 10_000);
        self
    }

    /// How long running handlers may go on after the worker was told to stop.
    pub fn shutdown_timeout(mut self, timeout: Duration) -> Self {
        self.shutdown_timeout = timeout;
        self
    }

    /// Stop as soon as no message of its topics is left, neither ready nor scheduled.
    pub fn until_empty(mut self, until_empty: bool) -> Self {
        self.until_empty = until_empty;
        self
    }

    /// Whether Ctrl-C and SIGTERM stop it (they do). A program with signal handlers of its own uses
    /// [`stop_handle`](Self::stop_handle) instead.
    pub fn handle_signals(mut self, handle: bool) -> Self {
        self.handle_signals = handle;
        self
    }

    /// Gives the consumers that take `&T` this value.
    pub fn state<T: Send + Sync + 'static>(mut self, state: T) -> Self {
        self.states.insert(TypeId::of::<T>(), Arc::new(state));
        self
    }

    /// What stops this worker from another thread.
    pub fn stop_handle(&self) -> Stop {
        self.stop.clone()
    }

    /// Works until it is told to stop.
    ///
    /// # Errors
    /// Whatever keeps it from beginning: no consumer, missing state, a database that cannot be reached or has not the
    /// right tables. Once it has begun, it waits for a database that went away.
    pub fn run(self) -> Result<Ended> {
        let mut conn = AnyConnection::establish(&self.database_url)?;
        self.check(conn.backend())?;
        let found = conn.broker().schema_version()?;
        if found != migration::SCHEMA_VERSION {
            return Err(Error::SchemaVersion { found, needed: migration::SCHEMA_VERSION });
        }
        warn_of_old_sqlite(&mut conn)?;
        let own_session = conn.has_own_session()?;
        if !own_session {
            tracing::warn!(
                "between this worker and PostgreSQL is a pooler (such as pgbouncer), so it does without a session of its own: \
                 it looks for new messages itself, up to a second apart when it is idle; the death of a worker on another \
                 machine is seen after some 4 s; no statement is prepared. A DATABASE_URL that leads to PostgreSQL itself \
                 has none of this"
            );
        }
        let locks_of_all = conn.has_locks_of_all()?;
        if !locks_of_all {
            tracing::warn!(
                "this server is a node of a Galera cluster, whose nodes share no locks: messages are leased one by one and \
                 not in batches, which takes longer, and the death of a worker on another machine is seen after some 4 s"
            );
        }
        if self.handle_signals {
            stop::enlist(&self.stop);
            stop::on_signals();
        }
        let schedules = declared_schedules(&self.registry)?;
        schemas::declare(&mut conn, &self.registry);
        let setup = Arc::new(Setup {
            schedules,
            backend: conn.backend(),
            own_session,
            locks_of_all,
            database_url: self.database_url,
            meters: meters::Meters::new(self.concurrency, supervised::restarts()),
            consumers: metered(self.registry),
            concurrency: self.concurrency,
            shutdown_timeout: self.shutdown_timeout,
            until_empty: self.until_empty,
            states: Arc::new(self.states),
            stop: self.stop,
            pulse: self.pulse,
        });
        let mut began = false;
        loop {
            setup.pulse.turn();
            setup.pulse.has_database(false);
            // Others may give a worker up that could not be reached for long. It begins anew, as another one, once it
            // can: whatever cut it off may go on.
            match dispatch::run(&setup, ids::incarnation()?) {
                Err(Error::WorkerLost) if !setup.stop.is_stopping() => {
                    tracing::warn!("{}", Error::WorkerLost);
                    setup.meters.given_up.increment(1);
                    began = true;
                }
                Err(error) if began && !setup.stop.is_stopping() => {
                    tracing::error!("cannot begin anew, trying again until it can: {error}");
                    setup.stop.wait(BEGIN_AGAIN.mul_f64(0.5 + fastrand::f64()));
                }
                ended => return ended,
            }
        }
    }

    /// Everything that can be known to be wrong before the first message.
    fn check(&self, backend: Backend) -> Result<()> {
        if self.registry.topics().is_empty() {
            return Err(Error::Configuration(
                "no consumers: put #[task_consumer(topic = \"...\")] on a function, and make sure that the worker's \
                 crate links it (a library of consumers must be named: `use my_crate as _;`)"
                    .to_owned(),
            ));
        }
        for consumer in self.registry.iter() {
            if let Handler::Transactional { backend: needed, .. } = consumer.handler
                && needed != backend
            {
                let problem = format!("it takes a connection to {needed}, but DATABASE_URL is {backend}");
                return Err(Error::Consumer { consumer: consumer.name, problem });
            }
            if let Some((_, state)) = consumer.states.iter().find(|(id, _)| !self.states.contains_key(id)) {
                let problem = format!(
                    "it takes `&{state}`, which the worker has not: call `taskmq_core::worker::main_with(|worker| worker.state(...))`"
                );
                return Err(Error::Consumer { consumer: consumer.name, problem });
            }
        }
        Ok(())
    }
}

/// The mean time between two tries to begin anew.
const BEGIN_AGAIN: Duration = Duration::from_secs(2);

/// What a worker's threads share.
#[derive(Debug)]
struct Setup {
    backend: Backend,
    /// See [`AnyConnection::has_own_session`].
    own_session: bool,
    /// See [`AnyConnection::has_locks_of_all`]. Batches need them: nothing that two claims of the same messages write
    /// is the same row.
    locks_of_all: bool,
    database_url: DatabaseUrl,
    consumers: BTreeMap<&'static str, Arc<Metered>>,
    meters: meters::Meters,
    schedules: Arc<[ScheduleRecord]>,
    concurrency: usize,
    shutdown_timeout: Duration,
    until_empty: bool,
    states: Arc<States>,
    stop: Stop,
    pulse: Pulse,
}

/// A consumer, and what is counted of its topic.
#[derive(Debug)]
struct Metered {
    consumer: Consumer,
    meter: meters::TopicMeter,
}

fn metered(registry: Registry) -> BTreeMap<&'static str, Arc<Metered>> {
    let metered = |consumer: Consumer| {
        (consumer.topic, Arc::new(Metered { meter: meters::TopicMeter::new(consumer.topic), consumer }))
    };
    registry.into_iter().map(metered).collect()
}

/// What its consumers declare.
fn declared_schedules(registry: &Registry) -> Result<Arc<[ScheduleRecord]>> {
    let declared = |consumer: &Consumer| {
        let Declared { cron, time_zone, message } = consumer.schedule.clone()?;
        let schedule = message().schedule(consumer.topic, cron).time_zone(time_zone);
        let wrong = |error: Error| Error::Consumer {
            consumer: consumer.name,
            problem: format!("its schedule: {error}"),
        };
        Some(schedule.into_record().map_err(wrong))
    };
    registry.iter().filter_map(declared).collect()
}

impl Setup {
    fn topics(&self) -> Vec<&'static str> {
        self.consumers.keys().copied().collect()
    }

    fn consumers(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.values().map(|metered| &metered.consumer)
    }
}

#[cfg(feature = "sqlite")]
fn warn_of_old_sqlite(conn: &mut AnyConnection) -> Result<()> {
    #[allow(irrefutable_let_patterns, reason = "when SQLite is the only database")]
    if let AnyConnection::Sqlite(conn) = conn {
        let version = crate::broker::sqlite::library_version(conn)?;
        let numbers: Vec<u32> = version.split('.').filter_map(|part| part.parse().ok()).collect();
        if numbers.as_slice() < [3, 51, 3].as_slice() {
            tracing::warn!(
                "SQLite {version} can corrupt a database that several processes write (https://sqlite.org/wal.html#walresetbug); \
                 use 3.51.3 or newer: the default feature `bundled-sqlite` of taskmq-core brings it"
            );
        }
        if crate::broker::sqlite::file_of(conn)?.is_none() {
            return Err(Error::Unsupported(
                "a worker needs a SQLite file, not a database in memory".to_owned(),
            ));
        }
    }
    Ok(())
}

#[cfg(not(feature = "sqlite"))]
fn warn_of_old_sqlite(_conn: &mut AnyConnection) -> Result<()> {
    Ok(())
}

/// The ids that a worker holds.
type Held = rustc_hash::FxHashSet<crate::MessageId>;
