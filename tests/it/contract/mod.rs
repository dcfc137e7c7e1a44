//! The promises of the queue, one case each, on every database.

mod admin;
mod batches;
mod cancels;
mod change;
mod claim;
mod counters;
mod dead;
mod doors;
mod failing;
mod fencing;
mod inputs;
mod limits;
mod logs;
mod lost_replies;
mod open_transaction;
mod ordering;
mod overview;
mod paused;
mod payloads;
mod plans;
mod produce;
mod rescue;
mod schedules;
mod schemas;
mod selection;
mod sessions;
mod transactional;
mod worker;
mod workflows;
mod write_lock;

use taskmq_core::broker::{
    Action, Broker, Claim, Claimed, Noted, Outcome, Settlement, Share, WorkerIdentity,
};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, Result, Retention};

/// Enters a worker by hand.
fn worker(conn: &mut AnyConnection, id: i64) -> WorkerIdentity {
    let worker = identity(id);
    conn.broker().register(&worker).expect("registers");
    worker
}

fn identity(id: i64) -> WorkerIdentity {
    WorkerIdentity { id, host: "host".to_owned(), pid: 1, topics: "t".to_owned(), concurrency: 1 }
}

fn claim(broker: &mut dyn Broker, worker: &WorkerIdentity, topics: &[&str], limit: i64) -> Vec<Claimed> {
    let topics: Vec<Share<'_>> = topics.iter().map(|topic| Share { topic, limit, ageing: None }).collect();
    let mut claimed = broker
        .claim(&Claim { worker_id: worker.id, topics: &topics, limit, as_batch: false, after: &[] })
        .expect("claims");
    broker.fetch_payloads(&mut claimed).expect("reads");
    claimed
}

fn claim_batch(broker: &mut dyn Broker, worker: &WorkerIdentity, limit: i64) -> Vec<Claimed> {
    let claimed = broker
        .claim(&Claim {
            worker_id: worker.id,
            topics: &[Share { topic: "t", limit, ageing: None }],
            limit,
            as_batch: true,
            after: &[],
        })
        .expect("claims");
    let of_batch = claimed.iter().filter(|c| c.ordering_key.is_none());
    assert!(of_batch.clone().all(|c| c.batch.is_some() && c.batch == claimed[0].batch));
    claimed
}

/// What is dead lives again, and what waits is due.
fn retry(broker: &mut dyn Broker, id: MessageId) -> Result<()> {
    broker.change(&Action::Retry, &[id], Noted::No)?.one()
}

fn ids(claimed: &[Claimed]) -> Vec<MessageId> {
    claimed.iter().map(|c| c.id).collect()
}

fn done(claimed: &Claimed) -> Settlement {
    end(claimed, Outcome::Done { result: None, retention: Retention::Forever })
}

fn end(claimed: &Claimed, outcome: Outcome) -> Settlement {
    let tied = claimed.tied();
    Settlement {
        id: claimed.id,
        attempt: claimed.attempt,
        batch: claimed.batch,
        tied,
        outcome,
        log: Vec::new(),
    }
}
