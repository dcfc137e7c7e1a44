//! Hosts whose clocks are wrong by an hour: the database's clock alone decides.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, migration, produce_many};
use taskmq_tests::servers::{Kind, MariadbKind, PostgresKind, Server};

use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_secs(4);

fn libfaketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("a folder").flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    libraries
        .find(|library| library.is_file())
        .expect("libfaketime: run `cargo xtask test`, which installs it")
}

/// A worker an hour ahead and one an hour behind: none runs anything early or late, and none takes another for dead.
fn an_hour_off<K: Kind>(backend: Backend) {
    let server = Server::<K>::start().expect("the server starts");
    server.create_database("app").expect("makes a database");
    let url = server.url("app");
    let mut conn = AnyConnection::establish(&url).expect("connects");
    match &mut conn {
        AnyConnection::Postgres(conn) => conn.batch_execute(migration::up(backend)),
        AnyConnection::Mysql(conn) => conn.batch_execute(migration::up(backend)),
        _ => unreachable!("these are servers"),
    }
    .expect("makes the tables");
    let library = libfaketime();
    let library = library.to_str().expect("a path in UTF-8");
    let mut workers = Workers::new(&url);
    for offset in ["+1h", "-1h"] {
        let clock = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        workers.start_with(&url, &["--concurrency", "4"], &clock);
    }
    workers.wait("both are ready", LONG, || workers.log().matches("worker ready").count() == 2);
    let log = workers.log();
    let hours = log.lines().filter(|line| line.contains("worker ready")).map(|line| line.get(..2));
    assert_eq!(hours.collect::<BTreeSet<_>>().len(), 2, "their clocks are not changed: {log}");
    let produced = Instant::now();
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("slow", &n))).expect("produces");
    produce_many(&mut conn, (100..120).map(|n| NewMessage::new("note", &n).delay(DELAY))).expect("produces");
    let late = || workers.journal().iter().filter(|e| e.number >= 100).count();
    workers.wait("a delayed one runs", LONG, || late() > 0);
    let first = produced.elapsed();
    assert!(first >= DELAY - Duration::from_millis(50), "{first:?} is early");
    workers.wait("all run", LONG, || late() == 20);
    let last = produced.elapsed();
    assert!(last < DELAY + Duration::from_millis(1500), "{last:?} is late");
    workers.wait("all is done", LONG, || {
        conn.broker().topics().expect("reads").iter().map(|topic| topic.done).sum::<i64>() == 40
    });
    let begun = workers.journal().iter().filter(|e| e.what == "begin").count();
    assert_eq!(begun, 20, "none ran twice");
    assert!(!workers.log().contains("died"), "{}", workers.log());
}

#[test]
fn postgres_workers_are_an_hour_off() {
    an_hour_off::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_workers_are_an_hour_off() {
    an_hour_off::<MariadbKind>(Backend::Mysql);
}
