use std::collections::HashMap;

use taskmq_core::broker::WorkerEntry;
use taskmq_core::{AnyConnection, BrokerConnection};

use super::ACTOR;
use crate::cli::{WorkerCommand, WorkersArgs};
use crate::database::WORKERS;
use crate::error::{Error, Result};
use crate::{database, output};

/// So many messages are counted.
const HELD: i64 = 100_000;

pub(crate) fn run(args: &WorkersArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    match &args.command {
        None => list(args, &mut conn),
        Some(WorkerCommand::Drain { worker }) => drain(args, &mut conn, worker),
    }
}

fn drain(args: &WorkersArgs, conn: &mut AnyConnection, name: &str) -> Result<()> {
    let mut worker = find(conn.broker().workers(WORKERS)?, name)?;
    let told = conn.broker().drain(worker.id, &ACTOR)?;
    worker.draining = true;
    if !worker.alive {
        eprintln!("note: it is not alive; what it held is given back when another worker looks");
    }
    if args.json {
        let held = conn.broker().held(HELD)?;
        let holds = held.iter().filter(|message| message.worker_id == Some(worker.id)).count();
        output::json(&[row(&worker, holds)]);
        return Ok(());
    }
    let done = if told { "is told to end" } else { "was told to end already" };
    say!("worker {} ({:016x}) {done}", output::cell(&worker.label()), worker.id);
    Ok(())
}

/// The one that is called so.
fn find(workers: Vec<WorkerEntry>, name: &str) -> Result<WorkerEntry> {
    let is_called = |worker: &WorkerEntry| {
        [format!("{:016x}", worker.id), worker.id.to_string(), worker.label()].iter().any(|own| own == name)
    };
    let mut called: Vec<WorkerEntry> = workers.into_iter().filter(is_called).collect();
    match (called.pop(), called.is_empty()) {
        (Some(worker), true) => Ok(worker),
        (Some(_), false) => {
            Err(Error::Refused(format!("more than one worker is called {name}: give its id")))
        }
        (None, _) => {
            Err(Error::Failed(format!("no worker {name} runs: taskmq-cli workers lists those that do")))
        }
    }
}

fn row(w: &WorkerEntry, holds: usize) -> serde_json::Value {
    serde_json::json!({
        "id": format!("{:016x}", w.id), "host": w.host, "pid": w.pid, "version": w.version,
        "topics": w.topics.split(',').collect::<Vec<_>>(), "concurrency": w.concurrency,
        "started_at": w.started_at, "beat_at": w.beat_at, "holds": holds, "alone_with": w.alone_with,
        "draining": w.draining, "alive": w.alive, "memory_bytes": w.memory_bytes,
    })
}

fn state(worker: &WorkerEntry) -> &'static str {
    match (worker.alive, worker.draining) {
        (false, _) => "not alive",
        (true, true) => "draining",
        (true, false) => "alive",
    }
}

fn list(args: &WorkersArgs, conn: &mut AnyConnection) -> Result<()> {
    let workers = conn.broker().workers(WORKERS)?;
    let mut running: HashMap<i64, usize> = HashMap::new();
    for held in conn.broker().held(HELD)? {
        if let Some(worker) = held.worker_id {
            *running.entry(worker).or_default() += 1;
        }
    }
    let holds = |id| running.get(&id).copied().unwrap_or_default();
    if args.json {
        output::json(&workers.iter().map(|worker| row(worker, holds(worker.id))).collect::<Vec<_>>());
        return Ok(());
    }
    if !workers.is_empty() {
        table(&workers, holds);
    }
    if !workers.iter().any(|worker| worker.alive) {
        let above = if workers.is_empty() { "" } else { "\n" };
        say!("{above}no worker is running: cargo run --bin worker");
    }
    Ok(())
}

fn table(workers: &[WorkerEntry], holds: impl Fn(i64) -> usize) {
    let rows: Vec<Vec<String>> = workers
        .iter()
        .map(|w| {
            vec![
                format!("{:016x}", w.id),
                output::cell(&w.host),
                w.pid.to_string(),
                output::cell(&w.version),
                w.started_at.format("%F %T").to_string(),
                w.concurrency.to_string(),
                holds(w.id).to_string(),
                state(w).to_owned(),
                output::cell(&w.topics.replace(',', ", ")),
            ]
        })
        .collect();
    output::table(
        &["ID", "HOST", "PID", "VERSION", "SINCE (UTC)", "CONCURRENCY", "HOLDS", "STATE", "TOPICS"],
        &rows,
        8,
    );
}
