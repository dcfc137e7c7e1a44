//! honker in the benchmark.

use std::process::ExitCode;
use std::time::Duration;

use honker::{Database, EnqueueOpts, Queue, QueueOpts};
use taskmq_bench_contestant::{Contestant, Message, Payload, Producer, Result, Work, handle};

const QUEUE: &str = "bench";
const BATCH: i64 = 500;

struct Honker;

struct HonkerProducer {
    database: Database,
    queue: Queue,
}

impl Contestant for Honker {
    type Producer = HonkerProducer;

    fn prepare(&self, url: &str) -> Result {
        self.producer(url).map(drop)
    }

    fn producer(&self, url: &str) -> Result<HonkerProducer> {
        let database = Database::open(url)?;
        let queue = database.queue(QUEUE, QueueOpts::default());
        Ok(HonkerProducer { database, queue })
    }

    fn work(&self, url: &str, _work: &Work) -> Result {
        let database = Database::open(url)?;
        let queue = database.queue(QUEUE, QueueOpts::default());
        let worker = format!("worker-{}", std::process::id());
        let updates = database.update_events();
        loop {
            let jobs = queue.claim_batch(&worker, BATCH)?;
            if jobs.is_empty() {
                // A time-out is no error: it looks again.
                let _ = updates.recv_timeout(Duration::from_secs(1));
                continue;
            }
            for job in &jobs {
                handle(&job.payload_as::<Payload>()?);
            }
            queue.ack_batch(&jobs.iter().map(|job| job.id).collect::<Vec<_>>(), &worker)?;
        }
    }
}

impl Producer for HonkerProducer {
    fn one(&mut self, message: Message) -> Result {
        self.queue.enqueue(&message.payload, EnqueueOpts::default())?;
        Ok(())
    }

    fn many(&mut self, messages: Vec<Message>) -> Result {
        let transaction = self.database.transaction()?;
        for message in messages {
            self.queue.enqueue_tx(&transaction, &message.payload, EnqueueOpts::default())?;
        }
        transaction.commit()?;
        Ok(())
    }
}

fn main() -> ExitCode {
    taskmq_bench_contestant::main(&Honker)
}
