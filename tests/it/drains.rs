//! Real worker processes that a person tells to end.

use std::time::Duration;

use taskmq_core::broker::WorkerEntry;
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, State, produce_many};
use taskmq_tests::databases::TestDatabase;

use crate::workers::Workers;

each_database! {
    a_drained_worker_ends_in_good_order,
}

const LONG: Duration = Duration::from_secs(60);

fn entries(conn: &mut AnyConnection) -> Vec<WorkerEntry> {
    conn.broker().workers(10).expect("reads")
}

fn a_drained_worker_ends_in_good_order(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    workers.start(&["--concurrency", "2"]);
    workers.wait("it is entered", LONG, || entries(&mut conn).len() == 1);
    let first = entries(&mut conn).remove(0);
    let second = workers.start(&["--supervise", "--concurrency", "2"]);
    workers.wait("the second is entered", LONG, || entries(&mut conn).len() == 2);
    produce_many(&mut conn, (0..60).map(|n| NewMessage::new("slow", &n))).expect("produces");
    workers.wait("both work", LONG, || {
        let mut pids: Vec<u32> = workers.journal().iter().map(|entry| entry.pid).collect();
        pids.sort_unstable();
        pids.dedup();
        pids.len() == 2
    });
    assert!(!first.draining);
    assert!(conn.broker().drain(first.id, "kim").expect("drains"));
    assert!(!conn.broker().drain(first.id, "kim").expect("drains"), "it was told already, or has ended");
    assert!(!conn.broker().drain(12345, "kim").expect("drains"), "there is none");
    assert_eq!(workers.end_of(0, LONG), Some(0));
    // What it held is nobody's, what it ran is done, and the other one goes on.
    assert_eq!(entries(&mut conn).len(), 1);
    workers.wait("all is done", LONG, || {
        conn.broker().topics().expect("reads").iter().any(|topic| topic.done == 60)
    });
    let begun = workers.journal().iter().filter(|entry| entry.what == "begin").count();
    assert_eq!(begun, 60, "each ran once");
    // One that is supervised is not started again.
    let other = entries(&mut conn).remove(0);
    assert!(conn.broker().drain(other.id, "kim").expect("drains"));
    assert_eq!(workers.end_of(second, LONG), Some(0));
    let notes = conn.broker().notes(i64::MAX, 10).expect("reads");
    let noted: Vec<_> = notes.iter().map(|n| (&*n.actor, &*n.action, &*n.details)).collect();
    assert_eq!(noted, [("kim", "drain", &*other.label()), ("kim", "drain", &*first.label())]);
    assert!(conn.broker().message(1).expect("reads").is_none_or(|message| message.state == State::Done));
}
