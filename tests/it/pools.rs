//! Handlers that wait for the connections of their host's own pool, all of them, for longer than a silent worker is waited for.

use std::time::Duration;

use taskmq_core::{Backend, BrokerConnection, NewMessage, produce_many};
use taskmq_tests::databases::fresh;

use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(60);
const ALL: i64 = 24;

/// The three at the same time, for all that they do is wait.
#[test]
fn a_worker_whose_handlers_wait_for_a_pool_is_not_taken_for_dead() {
    std::thread::scope(|scope| {
        for backend in Backend::ALL {
            scope.spawn(move || handlers_wait_for_a_pool(backend));
        }
    });
}

fn handlers_wait_for_a_pool(backend: Backend) {
    let db = fresh(backend);
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..ALL).map(|n| NewMessage::new("pooled", &n))).expect("produces");
    for _ in 0..2 {
        // Only the counter tells of the one to the other.
        workers.start_elsewhere(&["--concurrency", "8"]);
    }
    workers.wait("all is done", LONG, || conn.broker().topics().expect("reads")[0].done == ALL);
    let journal = workers.journal();
    let begun = journal.iter().filter(|entry| entry.what == "begin").count();
    assert_eq!(begun, usize::try_from(ALL).expect("is small"), "{backend}: none is run twice: {journal:?}");
    let log = workers.log();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{backend}: {log}");
}
