//! apalis-postgres in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use apalis::prelude::*;
use apalis_postgres::queries::push_tasks;
use apalis_postgres::{Config, PgPool, PgTask, PostgresStorage};
use sqlx::postgres::PgPoolOptions;
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
    pool: PgPool,
    storage: PostgresStorage<Payload>,
}

async fn connect(url: &str, connections: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(connections).connect(url).await?)
}

impl Contestant for Apalis {
    type Producer = ApalisProducer;

    fn prepare(&self, url: &str) -> Result {
        Ok(self.0.block_on(async { Result::Ok(PostgresStorage::setup(&connect(url, 1).await?).await?) })?)
    }

    fn producer(&self, url: &str) -> Result<ApalisProducer> {
        let pool = self.0.block_on(connect(url, 1))?;
        let storage = PostgresStorage::new(&pool).with_config(Config::default().queue(QUEUE));
        Ok(ApalisProducer { runtime: self.0.clone(), pool, storage })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let concurrency = work.concurrency.unwrap_or(24);
        self.0.block_on(async {
            let pool = connect(url, 25).await?;
            let config = Config::default().queue(QUEUE).batch_size(if work.prompt { 10 } else { 500 });
            let backend = PostgresStorage::<Payload>::new(&pool)
                .with_config(config)
                .with_pubsub()
                .poll_with_interval(Duration::from_millis(100));
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
        let tasks = messages
            .iter()
            .map(|message| Ok(TaskBuilder::new(serde_json::to_vec(&message.payload)?).build()))
            .collect::<Result<Vec<PgTask>>>()?;
        self.runtime.block_on(async {
            let mut conn = self.pool.acquire().await?;
            push_tasks(&mut *conn, QUEUE, tasks).await?;
            Ok(())
        })
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Apalis(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
