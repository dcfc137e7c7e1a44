//! fang's asynchronous half in the benchmark.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use fang::asynk::async_queue::{AsyncQueue, AsyncQueueable};
use fang::asynk::async_runnable::AsyncRunnable;
use fang::asynk::async_worker_pool::AsyncWorkerPool;
use fang::{Deserialize, FangError, Serialize, SleepParams, async_trait, typetag};
use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, Work, begin, end};
use tokio::runtime::Runtime;

/// The migration of its repository, which its package runs through Diesel alone.
const TABLE: &str = include_str!("up.sql");

#[derive(Serialize, Deserialize)]
#[serde(crate = "fang::serde")]
struct Task {
    payload: Payload,
}

#[typetag::serde]
#[async_trait]
impl AsyncRunnable for Task {
    async fn run(&self, _queue: &dyn AsyncQueueable) -> std::result::Result<(), FangError> {
        let takes = begin(&self.payload);
        if !takes.is_zero() {
            tokio::time::sleep(takes).await;
        }
        end();
        Ok(())
    }
}

struct Fang(Arc<Runtime>);

struct FangProducer {
    runtime: Arc<Runtime>,
    queue: AsyncQueue,
}

async fn queue(url: &str, connections: u32) -> Result<AsyncQueue> {
    let mut queue = AsyncQueue::builder().uri(url).max_pool_size(connections).build();
    queue.connect().await?;
    Ok(queue)
}

impl Contestant for Fang {
    type Producer = FangProducer;

    fn prepare(&self, url: &str) -> Result {
        self.0.block_on(async {
            let pool = sqlx::MySqlPool::connect(url).await?;
            sqlx::raw_sql(TABLE).execute(&pool).await?;
            Ok(())
        })
    }

    fn producer(&self, url: &str) -> Result<FangProducer> {
        Ok(FangProducer { runtime: self.0.clone(), queue: self.0.block_on(queue(url, 1))? })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let workers = u32::try_from(work.concurrency.unwrap_or(10))?;
        let pause = Duration::from_millis(10);
        let sleep_params = SleepParams {
            sleep_period: pause,
            max_sleep_period: pause,
            min_sleep_period: pause,
            sleep_step: Duration::from_millis(1),
        };
        self.0.block_on(async {
            let mut pool: AsyncWorkerPool<AsyncQueue> = AsyncWorkerPool::builder()
                .queue(queue(url, workers + 1).await?)
                .number_of_workers(workers)
                .sleep_params(sleep_params)
                .build();
            pool.start().await;
            std::future::pending().await
        })
    }
}

impl Producer for FangProducer {
    fn one(&mut self, message: Message) -> Result {
        self.runtime.block_on(self.queue.insert_task(&Task { payload: message.payload }))?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        messages.into_iter().try_for_each(|message| self.one(message))
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Fang(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
