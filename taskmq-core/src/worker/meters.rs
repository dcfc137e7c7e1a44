//! What a worker counts, told through the crate `metrics`: `docs/metrics.md` has every name. The handles are made once,
//! when the worker begins; where the program has installed no recorder by then, each of them does nothing.

use std::time::Duration;

use metrics::{
    Counter, Gauge, Histogram, Unit, counter, describe_counter, describe_gauge, describe_histogram, gauge,
    histogram,
};

use crate::broker::Outcome;

/// What is counted of the worker as a whole.
#[derive(Clone, Debug)]
pub(super) struct Meters {
    pub(super) running: Gauge,
    pub(super) held: Gauge,
    concurrency: Gauge,
    pub(super) database_up: Gauge,
    pub(super) memory_bytes: Gauge,
    pub(super) claim_messages: Histogram,
    claim: Histogram,
    settle: Histogram,
    settle_and_claim: Histogram,
    pub(super) rescues: Counter,
    pub(super) rescued_messages: Counter,
    pub(super) given_up: Counter,
    restarts: Counter,
    pub(super) dispatch: ConnectionMeter,
    pub(super) liveness: ConnectionMeter,
}

/// What is counted of one of the worker's ways to the database.
#[derive(Clone, Debug)]
pub(super) struct ConnectionMeter {
    pub(super) errors: Counter,
    pub(super) reconnects: Counter,
}

/// What is counted of one topic.
#[derive(Debug)]
pub(super) struct TopicMeter {
    started: Counter,
    done: Counter,
    retry: Counter,
    dead: Counter,
    cancelled: Counter,
    handed_back: Counter,
    lease_lost: Counter,
    wait: Histogram,
    run: Histogram,
}

impl Meters {
    pub(super) fn new(concurrency: usize, restarts: u64) -> Self {
        describe();
        let exchange = |operation| histogram!("taskmq_worker_exchange_seconds", "operation" => operation);
        let meters = Self {
            running: gauge!("taskmq_worker_running"),
            held: gauge!("taskmq_worker_held"),
            concurrency: gauge!("taskmq_worker_concurrency"),
            database_up: gauge!("taskmq_worker_database_up"),
            memory_bytes: gauge!("taskmq_worker_memory_bytes"),
            claim_messages: histogram!("taskmq_worker_claim_messages"),
            claim: exchange("claim"),
            settle: exchange("settle"),
            settle_and_claim: exchange("settle_and_claim"),
            rescues: counter!("taskmq_worker_rescues_total"),
            rescued_messages: counter!("taskmq_worker_rescued_messages_total"),
            given_up: counter!("taskmq_worker_given_up_total"),
            restarts: counter!("taskmq_worker_restarts_total"),
            dispatch: ConnectionMeter::new("dispatch"),
            liveness: ConnectionMeter::new("liveness"),
        };
        meters.concurrency.set(u32::try_from(concurrency).unwrap_or(u32::MAX));
        meters.database_up.set(1);
        meters.restarts.absolute(restarts);
        meters
    }

    /// One round trip that wrote outcomes, or claimed, or both.
    pub(super) fn exchanged(&self, settled: bool, claimed: bool, took: Duration) {
        let histogram = match (settled, claimed) {
            (true, true) => &self.settle_and_claim,
            (true, false) => &self.settle,
            (false, _) => &self.claim,
        };
        histogram.record(took);
    }
}

impl ConnectionMeter {
    fn new(connection: &'static str) -> Self {
        Self {
            errors: counter!("taskmq_worker_database_errors_total", "connection" => connection),
            reconnects: counter!("taskmq_worker_reconnects_total", "connection" => connection),
        }
    }
}

impl TopicMeter {
    pub(super) fn new(topic: &'static str) -> Self {
        let finished =
            |outcome| counter!("taskmq_worker_finished_total", "topic" => topic, "outcome" => outcome);
        Self {
            started: counter!("taskmq_worker_started_total", "topic" => topic),
            done: finished("done"),
            retry: finished("retry"),
            dead: finished("dead"),
            cancelled: finished("cancelled"),
            handed_back: finished("handed_back"),
            lease_lost: finished("lease_lost"),
            wait: histogram!("taskmq_worker_wait_seconds", "topic" => topic),
            run: histogram!("taskmq_worker_run_seconds", "topic" => topic),
        }
    }

    /// A handler begins, this long after its message was due.
    pub(super) fn started(&self, waited: Duration) {
        self.started.increment(1);
        self.wait.record(waited);
    }

    /// An outcome is written. `None`: the handler committed it itself.
    pub(super) fn finished(&self, outcome: Option<&Outcome>, lost: bool) {
        let counter = match outcome {
            _ if lost => &self.lease_lost,
            Some(Outcome::Done { .. }) | None => &self.done,
            Some(Outcome::Retry { .. }) => &self.retry,
            Some(Outcome::Dead { .. }) => &self.dead,
            Some(Outcome::Cancelled { .. }) => &self.cancelled,
            Some(Outcome::HandBack) => &self.handed_back,
        };
        counter.increment(1);
    }

    /// A handler ran this long.
    pub(super) fn ran(&self, took: Duration) {
        self.run.record(took);
    }
}

fn describe() {
    describe_counter!("taskmq_worker_started_total", "Attempts that began.");
    describe_counter!("taskmq_worker_finished_total", "Attempts whose end is written, by outcome.");
    describe_histogram!(
        "taskmq_worker_wait_seconds",
        Unit::Seconds,
        "From when a message was due to when its handler began."
    );
    describe_histogram!("taskmq_worker_run_seconds", Unit::Seconds, "How long handlers ran.");
    describe_gauge!("taskmq_worker_running", "Handlers that run now.");
    describe_gauge!(
        "taskmq_worker_held",
        "Messages that the worker holds: they run, wait for a handler, or ended and are to be written."
    );
    describe_gauge!("taskmq_worker_concurrency", "How many handlers may run at once.");
    describe_gauge!("taskmq_worker_database_up", "Whether the worker can use its database (1 or 0).");
    describe_gauge!("taskmq_worker_memory_bytes", Unit::Bytes, "The memory that the process has resident.");
    describe_histogram!("taskmq_worker_claim_messages", "Messages that one claim brought.");
    describe_histogram!(
        "taskmq_worker_exchange_seconds",
        Unit::Seconds,
        "How long the database took to settle, to claim, or to do both in one."
    );
    describe_counter!("taskmq_worker_rescues_total", "Dead workers whose messages this worker gave back.");
    describe_counter!(
        "taskmq_worker_rescued_messages_total",
        "Messages of dead workers that this worker gave back."
    );
    describe_counter!(
        "taskmq_worker_given_up_total",
        "How often the others gave this worker up, so that it began anew."
    );
    describe_counter!("taskmq_worker_restarts_total", "How often its supervisor started the worker again.");
    describe_counter!("taskmq_worker_database_errors_total", "Failed uses of the database, by connection.");
    describe_counter!("taskmq_worker_reconnects_total", "Connections that were made anew, by connection.");
}
