use std::collections::HashMap;

use taskmq_core::broker::WorkerEntry;
use taskmq_core::{AnyConnection, BrokerConnection};

use super::ACTOR;
use crate::cli::{WorkerCommand, WorkersArgs};
use crate::error::{Error, Result};
use crate::{database, output};

/// Far more than a database has connections for.
const MOST: i64 = 100_000;

pub(crate) fn run(args: &WorkersArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    match &args.command {
        None => list(args, &mut conn),
        Some(WorkerCommand::Drain { worker }) => drain(args, &mut conn, worker),
    }
}

fn drain(args: &WorkersArgs, conn: &mut AnyConnection, name: &str) -> Result<()> {
    let mut worker = find(conn.broker().workers(MOST)?, name)?;
    let told = conn.broker().drain(worker.id, &ACTOR)?;
    worker.draining = true;
    if args.json {
        let held = conn.broker().held(MOST)?;
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
        "draining": w.draining,
    })
}

fn list(args: &WorkersArgs, conn: &mut AnyConnection) -> Result<()> {
    let workers = conn.broker().workers(MOST)?;
    let mut running: HashMap<i64, usize> = HashMap::new();
    for held in conn.broker().held(MOST)? {
        if let Some(worker) = held.worker_id {
            *running.entry(worker).or_default() += 1;
        }
    }
    let holds = |id| running.get(&id).copied().unwrap_or_default();
    if args.json {
        output::json(&workers.iter().map(|worker| row(worker, holds(worker.id))).collect::<Vec<_>>());
        return Ok(());
    }
    if workers.is_empty() {
        say!("no worker is running: cargo run --bin worker");
        return Ok(());
    }
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
                if w.draining { format!("{}, draining", holds(w.id)) } else { holds(w.id).to_string() },
                output::cell(&w.topics.replace(',', ", ")),
            ]
        })
        .collect();
    output::table(
        &["ID", "HOST", "PID", "VERSION", "SINCE (UTC)", "CONCURRENCY", "HOLDS", "TOPICS"],
        &rows,
        7,
    );
    Ok(())
}
