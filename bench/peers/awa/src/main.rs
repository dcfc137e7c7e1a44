//! awa in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use awa::{Client, InsertOpts, InsertParams, JobArgs, JobResult, QueueConfig};
use serde::{Deserialize, Serialize};
use sqlx::PgPool;
use sqlx::postgres::PgPoolOptions;
use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, Work, begin, end};
use tokio::runtime::Runtime;

const QUEUE: &str = "bench";

#[derive(Debug, Serialize, Deserialize, JobArgs)]
struct Bench {
    payload: Payload,
}

struct Awa(Arc<Runtime>);

struct AwaProducer {
    runtime: Arc<Runtime>,
    pool: PgPool,
}

async fn connect(url: &str, connections: u32) -> Result<PgPool> {
    Ok(PgPoolOptions::new().max_connections(connections).connect(url).await?)
}

fn options() -> InsertOpts {
    InsertOpts { queue: QUEUE.to_owned(), ..InsertOpts::default() }
}

impl Contestant for Awa {
    type Producer = AwaProducer;

    fn prepare(&self, url: &str) -> Result {
        self.0.block_on(async { Ok(awa::migrations::run(&connect(url, 2).await?).await?) })
    }

    fn producer(&self, url: &str) -> Result<AwaProducer> {
        Ok(AwaProducer { runtime: self.0.clone(), pool: self.0.block_on(connect(url, 1))? })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let config = QueueConfig {
            max_workers: u32::try_from(work.concurrency.unwrap_or(512))?,
            claim_batch_size: 512,
            poll_interval: Duration::from_millis(50),
            ..QueueConfig::default()
        };
        self.0.block_on(async {
            let client = Client::builder(connect(url, 20).await?)
                .queue(QUEUE, config)
                .register::<Bench, _, _>(|args: Bench, _context| async move {
                    let takes = begin(&args.payload);
                    if !takes.is_zero() {
                        tokio::time::sleep(takes).await;
                    }
                    end();
                    Ok(JobResult::Completed)
                })
                .build()?;
            client.start().await?;
            std::future::pending().await
        })
    }
}

impl Producer for AwaProducer {
    fn one(&mut self, message: Message) -> Result {
        let job = Bench { payload: message.payload };
        self.runtime.block_on(awa::insert_with(&self.pool, &job, options()))?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let jobs = messages
            .into_iter()
            .map(|message| {
                let args = serde_json::to_value(Bench { payload: message.payload })?;
                Ok(InsertParams { kind: Bench::kind().to_owned(), args, opts: options() })
            })
            .collect::<Result<Vec<_>>>()?;
        self.runtime.block_on(awa::insert_many_copy_from_pool(&self.pool, &jobs))?;
        Ok(())
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Awa(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
