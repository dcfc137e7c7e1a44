//! Another program keeps the write lock of an SQLite file for longer than a worker waits for it.

use std::time::Duration;

use taskmq_core::{Backend, NewMessage, produce, produce_many};
use taskmq_tests::databases;

use super::{LONG, complaints, connect, counts, done, execute, long};
use crate::workers::Workers;

#[test]
fn a_lock_on_the_file_is_outlasted() {
    let db = databases::fresh(Backend::Sqlite);
    let mut workers = Workers::new(db.url());
    produce_many(&mut connect(db.url()), (0..8).map(|n| NewMessage::new("patient", &n))).expect("produces");
    for _ in 0..2 {
        workers.start(&["--concurrency", "6"]);
    }
    workers.wait("all have begun", LONG, || counts(&workers, "begin").len() == 8);
    let mut holder = connect(db.url());
    execute(&mut holder, "BEGIN IMMEDIATE");
    workers.wait("all have ended", LONG, || counts(&workers, "end").len() == 8);
    let complained = || workers.log().matches("locked by another writer").count();
    workers.wait("both say so", LONG, || complained() == 2);
    std::thread::sleep(Duration::from_secs(if long() { 60 } else { 0 }));
    assert_eq!(done(db.url(), "patient"), 0);
    execute(&mut holder, "COMMIT");
    workers.wait("what had ended is written", LONG, || done(db.url(), "patient") == 8);
    produce(&mut connect(db.url()), "note", &100).expect("produces");
    workers.wait("work goes on", LONG, || counts(&workers, "end").contains_key(&100));
    workers.wait("both say that it is over", LONG, || {
        produce(&mut connect(db.url()), "note", &101).expect("produces");
        workers.log().matches("the database is back").count() == 2
    });
    let again: Vec<_> =
        counts(&workers, "begin").into_iter().filter(|(n, times)| *n < 101 && *times > 1).collect();
    assert!(again.is_empty(), "{again:?} ran again\n{}", workers.log());
    let log = workers.log();
    assert!(!log.contains("cannot be used"), "it was there all the time: {log}");
    assert_eq!(complaints(&log).into_values().flatten().count(), 2, "each says it once: {log}");
}
