//! Workers that live, and entries of those that do not.

use std::fs::File;

use taskmq_core::broker::WorkerIdentity;
use taskmq_core::{Backend, BrokerConnection};
use taskmq_tests::databases::TestDatabase;

use crate::site::{Site, identity, produce, run, worker};

each_database! {
    a_dead_worker_does_not_look_alive,
}

/// The file whose lock tells on SQLite whether a worker lives.
fn lock_file(db: &TestDatabase, worker_id: i64) -> File {
    File::create(format!("{}-taskmq-{worker_id:016x}.lock", db.url())).expect("a file")
}

/// What one left that beat last long ago: nobody has its lock.
pub(crate) fn dead_worker(db: &TestDatabase) -> WorkerIdentity {
    db.execute(
        "INSERT INTO taskmq_workers (id, host, pid, version, topics, concurrency, started_at, beat_at)
         VALUES (8, 'lost-1', 43, '0.1.0', 'ghost,mail', 32, '2020-01-01 00:00:00', '2020-01-02 00:00:00')",
    );
    if db.backend() == Backend::Sqlite {
        lock_file(db, 8);
    }
    WorkerIdentity { id: 8, ..identity() }
}

fn a_dead_worker_does_not_look_alive(db: TestDatabase) {
    let mut conn = db.connect();
    worker(&mut conn);
    let lost = dead_worker(&db);
    produce(&mut conn, "ghost", "held");
    let held = run(&mut conn, &lost, "ghost", None);
    for topic in ["ghost", "mail"] {
        produce(&mut conn, topic, "waits");
    }
    let site = Site::new(db, |admin| admin);
    let mut page = |path: &str| {
        assert!(conn.broker().beat(7, Some(12 << 20)).expect("beats"));
        site.page(path)
    };
    let body = page("/workers");
    let (dead, alive) = body.split_once(">web-1<").expect("the one that began last comes last");
    for text in [">lost-1<", ">not alive</span>", "Last beat", "2020-01-02 00:00:00", &format!("#{held}<")] {
        assert!(dead.contains(text) && !alive.contains(text), "{text}: {body}");
    }
    for text in ["value=\"drain\"", "Runs now", "12 MiB"] {
        assert!(!dead.contains(text) && alive.contains(text), "{text}: {body}");
    }
    let body = page("/overview");
    assert!(body.contains("<span class=\"figure\">1</span><span class=\"about\">At once 4</span>"), "{body}");
    let at = body.find("badge late").expect("a badge");
    assert!(body[..at].ends_with("ghost</a> <span class=\""), "{body}");
    assert_eq!(body.matches("badge late").count(), 1, "another consumes mail: {body}");
    let words = "No running worker consumes this topic";
    assert!(page("/topic?name=ghost").contains(words) && !page("/topic?name=mail").contains(words));
    #[cfg(feature = "metrics")]
    assert!(page("/metrics").contains("taskmq_queue_workers 1\n"));
}

/// There a worker may beat only when it begins.
#[cfg(feature = "metrics")]
#[test]
fn on_sqlite_the_lock_tells_how_many_workers_there_are() {
    let db = taskmq_tests::databases::fresh(Backend::Sqlite);
    worker(&mut db.connect());
    dead_worker(&db);
    db.execute("UPDATE taskmq_workers SET beat_at = '2020-01-02 00:00:00'");
    let lock = lock_file(&db, 7);
    lock.lock().expect("locks");
    let site = Site::new(db, |admin| admin);
    let metrics = site.page("/metrics");
    assert!(metrics.contains("taskmq_queue_workers 1\n"), "{metrics}");
    lock.unlock().expect("unlocks");
    // Another admin, which has no figures yet.
    let Site { db, .. } = site;
    let site = Site::new(db, |admin| admin);
    assert!(site.page("/workers").contains("No worker runs"));
    let metrics = site.page("/metrics");
    assert!(metrics.contains("taskmq_queue_workers 0\n"), "{metrics}");
}
