//! graphile_worker in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use graphile_worker::worker_utils::WorkerUtils;
use graphile_worker::{
    IntoTaskHandlerResult, JobSpec, LocalQueueConfig, RefetchDelayConfig, TaskHandler, WorkerContext,
    WorkerOptions,
};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, Work, begin, end};
use tokio::runtime::Runtime;

#[derive(Clone, Serialize, Deserialize)]
struct Job(Payload);

impl TaskHandler for Job {
    const IDENTIFIER: &'static str = "bench-00";

    async fn run(self, _context: WorkerContext) -> impl IntoTaskHandlerResult {
        let takes = begin(&self.0);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        end();
        Ok::<(), String>(())
    }
}

struct Graphile(Arc<Runtime>);

struct GraphileProducer {
    runtime: Arc<Runtime>,
    utils: WorkerUtils,
}

async fn options(url: &str, connections: usize) -> Result<WorkerOptions> {
    let pool = PgPoolOptions::new().max_connections(u32::try_from(connections)?).connect(url).await?;
    Ok(WorkerOptions::default().pg_pool(pool).define_job::<Job>())
}

impl Contestant for Graphile {
    type Producer = GraphileProducer;

    fn prepare(&self, url: &str) -> Result {
        self.producer(url).map(drop)
    }

    fn producer(&self, url: &str) -> Result<GraphileProducer> {
        let utils =
            self.0.block_on(async { Result::Ok(options(url, 1).await?.init().await?.create_utils()) })?;
        Ok(GraphileProducer { runtime: self.0.clone(), utils })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let concurrency = work.concurrency.unwrap_or(24);
        self.0.block_on(async {
            let mut options = options(url, concurrency + 1).await?.concurrency(concurrency);
            if !work.prompt {
                let refetch = RefetchDelayConfig::default().with_duration(Duration::from_millis(10));
                let delay = Duration::from_millis(1);
                options = options
                    .local_queue(LocalQueueConfig::default().with_size(500).with_refetch_delay(refetch))
                    .complete_job_batch_delay(delay)
                    .fail_job_batch_delay(delay);
            }
            options.init().await?.run().await?;
            Ok(())
        })
    }
}

impl Producer for GraphileProducer {
    fn one(&mut self, message: Message) -> Result {
        self.runtime.block_on(self.utils.add_job(Job(message.payload), JobSpec::default()))?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let spec = JobSpec::default();
        let jobs: Vec<_> = messages.into_iter().map(|message| (Job(message.payload), &spec)).collect();
        self.runtime.block_on(self.utils.add_jobs(&jobs))?;
        Ok(())
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Graphile(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
