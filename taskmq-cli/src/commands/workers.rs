use std::collections::HashMap;

use taskmq_core::BrokerConnection;

use crate::cli::ListArgs;
use crate::error::Result;
use crate::{database, output};

/// Far more than a database has connections for.
const MOST: i64 = 100_000;

pub(crate) fn run(args: &ListArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let workers = conn.broker().workers(MOST)?;
    let mut running: HashMap<i64, usize> = HashMap::new();
    for held in conn.broker().held(MOST)? {
        if let Some(worker) = held.worker_id {
            *running.entry(worker).or_default() += 1;
        }
    }
    let holds = |id| running.get(&id).copied().unwrap_or_default();
    if args.json {
        let row = |w: &taskmq_core::broker::WorkerEntry| {
            serde_json::json!({
                "id": w.id, "host": w.host, "pid": w.pid, "version": w.version,
                "topics": w.topics.split(',').collect::<Vec<_>>(), "concurrency": w.concurrency,
                "started_at": w.started_at, "beat_at": w.beat_at, "holds": holds(w.id), "alone_with": w.alone_with,
            })
        };
        output::json(&workers.iter().map(row).collect::<Vec<_>>());
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
                output::cell(&w.host),
                w.pid.to_string(),
                output::cell(&w.version),
                w.started_at.format("%F %T").to_string(),
                w.concurrency.to_string(),
                holds(w.id).to_string(),
                output::cell(&w.topics.replace(',', ", ")),
            ]
        })
        .collect();
    output::table(&["HOST", "PID", "VERSION", "SINCE (UTC)", "CONCURRENCY", "HOLDS", "TOPICS"], &rows, 6);
    Ok(())
}
