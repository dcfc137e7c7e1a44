//! effectum in the benchmark.

use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;

use effectum::{Job, JobRunner, Queue, RunningJob, Worker};
use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, Work, begin, end};
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// One for a process: it is only aware of what is produced through itself.
static QUEUE: OnceCell<Queue> = OnceCell::const_new();

struct Effectum(Arc<Runtime>);

struct EffectumProducer {
    runtime: Arc<Runtime>,
    queue: &'static Queue,
}

async fn queue(url: &str) -> effectum::Result<&'static Queue> {
    QUEUE.get_or_try_init(|| Queue::new(Path::new(url))).await
}

async fn handle(job: RunningJob, _context: Arc<()>) -> effectum::Result<()> {
    let takes = begin(&job.json_payload::<Payload>()?);
    if !takes.is_zero() {
        tokio::time::sleep(takes).await;
    }
    end();
    Ok(())
}

fn job(message: &Message) -> effectum::Result<Job> {
    Ok(Job::builder(message.topic).json_payload(&message.payload)?.build())
}

impl Contestant for Effectum {
    type Producer = EffectumProducer;

    fn prepare(&self, url: &str) -> Result {
        self.producer(url).map(drop)
    }

    fn producer(&self, url: &str) -> Result<EffectumProducer> {
        Ok(EffectumProducer { runtime: self.0.clone(), queue: self.0.block_on(queue(url))? })
    }

    fn work(&self, url: &str, work: &Work) -> Result {
        let most = u16::try_from(work.concurrency.unwrap_or(64))?;
        self.0.block_on(async {
            let _worker = Worker::builder(queue(url).await?, Arc::new(()))
                .min_concurrency(most / 2)
                .max_concurrency(most)
                .jobs([JobRunner::builder("bench-00", handle).build()])
                .build()
                .await?;
            std::future::pending().await
        })
    }
}

impl Producer for EffectumProducer {
    fn one(&mut self, message: Message) -> Result {
        self.runtime.block_on(self.queue.add_job(job(&message)?))?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let jobs = messages.iter().map(job).collect::<effectum::Result<Vec<_>>>()?;
        self.runtime.block_on(self.queue.add_jobs(jobs))?;
        Ok(())
    }
}

fn main() -> ExitCode {
    match Runtime::new() {
        Ok(runtime) => taskmq_bench_contestant::main(&Effectum(Arc::new(runtime))),
        Err(_) => ExitCode::FAILURE,
    }
}
