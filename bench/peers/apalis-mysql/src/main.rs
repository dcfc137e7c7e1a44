//! apalis-mysql in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::*;
use apalis_core::backend::poll_strategy::{IntervalStrategy, StrategyBuilder};
use apalis_mysql::sink::push_tasks;
use apalis_mysql::{Config, MySqlPool, MySqlStorage, MySqlTask};
use sqlx::mysql::MySqlPoolOptions;
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
    pool: MySqlPool,
}

async fn connect(url: &str, connections: u32) -> Result<MySqlPool> {
    Ok(MySqlPoolOptions::new().max_connections(connections).connect(url).await?)
}

impl Contestant for Apalis {
    type Producer = ApalisProducer;

    /// Its own migrations, but for the collation.
    fn prepare(&self, url: &str) -> Result {
        self.0.block_on(async {
            let pool = connect(url, 1).await?;
            for migration in MySqlStorage::<(), (), ()>::migrations().iter() {
                let sql = migration.sql.replace("utf8mb4_0900_ai_ci", "utf8mb4_general_ci");
                sqlx::raw_sql(&sql).execute(&pool).await?;
            }
            Ok(())
        })
    }

    fn producer(&self, url: &str) -> Result<ApalisProducer> {
        Ok(ApalisProducer { runtime: self.0.clone(), pool: self.0.block_on(connect(url, 1))? })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let concurrency = work.concurrency.unwrap_or(24);
        self.0.block_on(async {
            let pool = connect(url, 25).await?;
            let polls =
                StrategyBuilder::new().apply(IntervalStrategy::new(Duration::from_millis(10))).build();
            let config = Config::new(QUEUE).with_poll_interval(polls).set_buffer_size(if work.prompt {
                10
            } else {
                500
            });
            let backend: MySqlStorage<Payload, _, _> = MySqlStorage::new_with_config(&pool, &config);
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
        self.many(vec![message])
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let tasks = messages
            .iter()
            .map(|message| Ok(MySqlTask::new(serde_json::to_vec(&message.payload)?)))
            .collect::<Result<Vec<_>>>()?;
        self.runtime.block_on(push_tasks(self.pool.clone(), Config::new(QUEUE), tasks))?;
        Ok(())
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Apalis(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
