//! apalis-sqlite in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::*;
use apalis_sqlite::{Config, SqlitePool, SqliteStorage};
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions};
use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, Work, begin, end};
use tokio::runtime::Runtime;

const QUEUE: &str = "bench";

async fn handle(payload: Payload) -> std::result::Result<(), BoxDynError> {
    let takes = begin(&payload);
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    end();
    Ok(())
}

struct Apalis(Arc<Runtime>);

struct ApalisProducer {
    runtime: Arc<Runtime>,
    storage: SqliteStorage<Payload>,
}

async fn connect(url: &str, connections: u32) -> Result<SqlitePool> {
    let options = SqliteConnectOptions::new()
        .filename(url)
        .create_if_missing(true)
        .journal_mode(SqliteJournalMode::Wal)
        .busy_timeout(Duration::from_secs(5));
    Ok(SqlitePoolOptions::new().max_connections(connections).connect_with(options).await?)
}

impl Contestant for Apalis {
    type Producer = ApalisProducer;

    fn prepare(&self, url: &str) -> Result {
        Ok(self.0.block_on(async { Result::Ok(SqliteStorage::setup(&connect(url, 1).await?).await?) })?)
    }

    fn producer(&self, url: &str) -> Result<ApalisProducer> {
        let pool = self.0.block_on(connect(url, 1))?;
        let storage = SqliteStorage::new(&pool).with_config(Config::default().queue(QUEUE));
        Ok(ApalisProducer { runtime: self.0.clone(), storage })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let concurrency = work.concurrency.unwrap_or(24);
        self.0.block_on(async {
            let pool = connect(url, 25).await?;
            let config = Config::default().queue(QUEUE).batch_size(if work.prompt { 10 } else { 500 });
            let backend = SqliteStorage::<Payload>::new(&pool)
                .with_config(config)
                .poll_with_interval(Duration::from_millis(10));
            WorkerBuilder::new(format!("worker-{}", std::process::id()))
                .backend(backend)
                .concurrency(concurrency)
                .build(handle)
                .run()
                .await?;
            Ok(())
        })
    }
}

impl Producer for ApalisProducer {
    fn one(&mut self, message: Message) -> Result {
        self.runtime.block_on(self.storage.push(message.payload))?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let payloads = messages.into_iter().map(|message| message.payload).collect();
        self.runtime.block_on(self.storage.push_bulk(payloads))?;
        Ok(())
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Apalis(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
