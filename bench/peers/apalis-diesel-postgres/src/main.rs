//! apalis-diesel-postgres in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;

use apalis::layers::WorkerBuilderExt;
use apalis::prelude::*;
use apalis_diesel_postgres::{Config, PgPool, PostgresStorage, build_pool_with, setup};
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
    pool: PgPool,
    storage: PostgresStorage<Payload>,
}

fn connect(url: &str, connections: u32) -> Result<PgPool> {
    Ok(build_pool_with(url, |pool| pool.max_size(connections))?)
}

impl Contestant for Apalis {
    type Producer = ApalisProducer;

    fn prepare(&self, url: &str) -> Result {
        let pool = connect(url, 2)?;
        Ok(self.0.block_on(setup(&pool))?)
    }

    fn producer(&self, url: &str) -> Result<ApalisProducer> {
        let pool = connect(url, 1)?;
        let storage = PostgresStorage::new_with_config(&pool, &Config::new(QUEUE));
        Ok(ApalisProducer { pool, storage })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let concurrency = work.concurrency.unwrap_or(24);
        let pool = connect(url, 25)?;
        let config = Config::new(QUEUE).set_buffer_size(if work.prompt { 10 } else { 500 });
        self.0.block_on(async {
            WorkerBuilder::new(format!("worker-{}", std::process::id()))
                .backend(PostgresStorage::<Payload>::new_with_notify(&pool, &config))
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
        self.storage.push_with_conn(&mut *self.pool.get()?, message.payload)?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let payloads: Vec<Payload> = messages.into_iter().map(|message| message.payload).collect();
        self.storage.push_batch_with_conn(&mut *self.pool.get()?, payloads)?;
        Ok(())
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Apalis(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
