//! River's client for Rust in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use riverqueue::migrate::{PostgresMigrator, SqliteMigrator};
use riverqueue::sqlx::postgres::PgPoolOptions;
use riverqueue::sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use riverqueue::sqlx::{PgPool, SqlitePool};
use riverqueue::{
    BoxError, Client, ClientBuilder, Job, JobArgs, QueueConfig, WorkContext, WorkOutcome, Workers,
};
use serde::{Deserialize, Serialize};
use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, Work, begin, end};
use tokio::runtime::Runtime;

#[derive(Clone, Debug, Deserialize, JobArgs, Serialize)]
#[river(kind = "bench")]
struct Bench {
    payload: Payload,
}

async fn handle(_context: WorkContext, job: Job<Bench>) -> std::result::Result<WorkOutcome, BoxError> {
    let takes = begin(&job.args.payload);
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    end();
    Ok(WorkOutcome::Complete)
}

enum Pool {
    Postgres(PgPool),
    Sqlite(SqlitePool),
}

impl Pool {
    async fn connect(url: &str, connections: u32) -> Result<Self> {
        if url.starts_with("postgres://") {
            return Ok(Self::Postgres(PgPoolOptions::new().max_connections(connections).connect(url).await?));
        }
        let options = SqliteConnectOptions::new()
            .filename(url)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .busy_timeout(Duration::from_secs(5));
        Ok(Self::Sqlite(SqlitePoolOptions::new().max_connections(connections).connect_with(options).await?))
    }

    fn client(&self) -> ClientBuilder {
        match self {
            Self::Postgres(pool) => Client::builder(pool.clone()),
            Self::Sqlite(pool) => Client::builder(pool.clone()),
        }
        .fetch_cooldown(Duration::from_millis(1))
    }
}

struct River(Arc<Runtime>);

struct RiverProducer {
    runtime: Arc<Runtime>,
    client: Client,
}

impl Contestant for River {
    type Producer = RiverProducer;

    fn prepare(&self, url: &str) -> Result {
        self.0.block_on(async {
            match Pool::connect(url, 1).await? {
                Pool::Postgres(pool) => drop(PostgresMigrator::new(pool).migrate_up().await?),
                Pool::Sqlite(pool) => drop(SqliteMigrator::new(pool).migrate_up().await?),
            }
            Ok(())
        })
    }

    fn producer(&self, url: &str) -> Result<RiverProducer> {
        let client = self.0.block_on(async { Result::Ok(Pool::connect(url, 1).await?.client().build()?) })?;
        Ok(RiverProducer { runtime: self.0.clone(), client })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let most = work.concurrency.unwrap_or(if work.prompt { 100 } else { 2000 });
        self.0.block_on(async {
            let pool = Pool::connect(url, 10).await?;
            let mut queue = QueueConfig::new(most);
            if work.prompt && matches!(pool, Pool::Sqlite(_)) {
                queue = queue.with_fetch_poll_interval(Duration::from_millis(10));
            }
            let mut workers = Workers::new();
            workers.add_fn(handle)?;
            let _run = pool.client().workers(workers).queue("default", queue).build()?.start()?;
            std::future::pending().await
        })
    }
}

impl Producer for RiverProducer {
    fn one(&mut self, message: Message) -> Result {
        self.runtime.block_on(async { self.client.insert(Bench { payload: message.payload }).await })?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let jobs = messages.into_iter().map(|message| Bench { payload: message.payload });
        self.runtime.block_on(async { self.client.insert_many(jobs).await })?;
        Ok(())
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&River(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
