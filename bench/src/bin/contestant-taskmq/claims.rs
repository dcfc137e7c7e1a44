//! What one claim of 100 messages costs, whatever else waits.
#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command line program")]

use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use taskmq_bench_contestant::Result;
use taskmq_core::broker::{BatchId, Claim, Outcome, Settlement, Share, Tied, WorkerIdentity};
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, Retention, produce_many};

const TOPIC: &str = "bench-00";
const BATCH: usize = 100;
const MONTH: Duration = Duration::from_secs(30 * 24 * 3600);

#[derive(Debug, Parser)]
struct Arguments {
    _command: String,
    #[arg(long, env = "DATABASE_URL")]
    database_url: String,
    /// How many messages wait that may be claimed
    #[arg(long)]
    waiting: u64,
    /// How many there are besides
    #[arg(long, default_value_t = 0)]
    others: u64,
    /// What those are
    #[arg(long, default_value = "scheduled")]
    kind: Kind,
    /// How many claims to measure
    #[arg(long, default_value_t = 100)]
    claims: usize,
}

/// Messages that a claim must pass by.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Kind {
    /// Due next month.
    Scheduled,
    /// Of a topic that nobody consumes.
    Foreign,
    /// Of a lower priority.
    Lower,
}

pub(super) fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// Prints the time of each claim in microseconds.
fn run(arguments: &Arguments) -> Result {
    let mut conn = AnyConnection::establish_for_worker(&arguments.database_url)?;
    fill(&mut conn, arguments.others, |n| match arguments.kind {
        Kind::Scheduled => NewMessage::new(TOPIC, &n).delay(MONTH),
        Kind::Foreign => NewMessage::new("bench-foreign", &n),
        Kind::Lower => NewMessage::new(TOPIC, &n).priority(-1),
    })?;
    fill(&mut conn, arguments.waiting, |n| NewMessage::new(TOPIC, &n))?;
    let worker = WorkerIdentity {
        id: 1,
        host: "bench".to_owned(),
        pid: i32::try_from(std::process::id())?,
        topics: TOPIC.to_owned(),
        concurrency: 1,
    };
    conn.broker().register(&worker)?;
    let limit = i64::try_from(BATCH)?;
    let mut micros = Vec::new();
    for _ in 0..arguments.claims {
        let begin = Instant::now();
        let topics = [Share { topic: TOPIC, limit, ageing: None }];
        let claim = Claim { worker_id: worker.id, topics: &topics, limit, as_batch: true, after: &[] };
        let claimed = conn.broker().claim(&claim)?;
        micros.push(u64::try_from(begin.elapsed().as_micros())?);
        if claimed.len() != BATCH {
            return Err(format!("a claim of {BATCH} gave {}", claimed.len()).into());
        }
        let settlements: Vec<Settlement> = claimed
            .iter()
            .map(|message| Settlement {
                id: message.id,
                attempt: message.attempt,
                batch: message.batch,
                tied: Tied::default(),
                outcome: Outcome::Done { result: None, retention: Retention::None },
                log: Vec::new(),
            })
            .collect();
        let batches: Vec<BatchId> = claimed.first().and_then(|message| message.batch).into_iter().collect();
        let lost = conn.broker().exchange(&worker, &settlements, &batches, None)?.lost;
        if !lost.is_empty() {
            return Err(format!("{} leases were lost", lost.len()).into());
        }
        // As many wait at each claim.
        fill(&mut conn, BATCH as u64, |n| NewMessage::new(TOPIC, &n))?;
    }
    println!("= {}", serde_json::to_string(&micros)?);
    Ok(())
}

fn fill(conn: &mut AnyConnection, number: u64, message: impl Fn(u64) -> NewMessage<'static>) -> Result {
    let mut first = 0;
    while first < number {
        let last = number.min(first + 5000);
        produce_many(conn, (first..last).map(&message))?;
        first = last;
    }
    Ok(())
}
