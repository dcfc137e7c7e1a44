//! The disk of a database fills up, and there is room again later.

use std::time::{Duration, Instant};

use diesel::Connection;
use taskmq_core::{AnyConnection, Backend, BrokerConnection, Error, NewMessage, migration, produce_many};
use taskmq_tests::servers::{Mariadb, Postgres, SmallDisk};

use super::{LONG, connect, counts, done, execute, say};
use crate::workers::Workers;

const MIB: u64 = 1024 * 1024;
const NOTES: i64 = 2000;
const PATIENT: i64 = 4;

/// A small disk, where one may be mounted.
fn small_disk(path: &std::path::Path, bytes: u64) -> Option<SmallDisk> {
    match SmallDisk::mount(path, bytes) {
        Ok(disk) => Some(disk),
        Err(error) => {
            say(&format!("SKIPPED, no disk was filled: a small one cannot be mounted here ({error})"));
            None
        }
    }
}

fn note(number: i64) -> NewMessage<'static> {
    NewMessage::new("note", &number).header("pad", "x".repeat(500))
}

/// Clock ticks of processor time that the workers have used, a hundred a second.
fn ticks(workers: &Workers) -> u64 {
    let of = |pid: u32| -> Option<u64> {
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        let fields: Vec<u64> = stat
            .rsplit_once(')')?
            .1
            .split_whitespace()
            .map(|field| field.parse().unwrap_or_default())
            .collect();
        Some(fields.get(11)? + fields.get(12)?)
    };
    workers.children.iter().map(|child| of(child.id()).expect("it runs")).sum()
}

fn nothing_is_lost_when_the_disk_is_full(url: &str, disk: &SmallDisk) {
    let mut workers = Workers::new(url);
    let mut conn = connect(url);
    produce_many(&mut conn, (0..PATIENT).map(|n| NewMessage::new("patient", &n))).expect("produces");
    workers.start(&["--concurrency", "2"]);
    workers.start(&["--concurrency", "2"]);
    workers.wait("all places are taken", LONG, || counts(&workers, "begin").len() == 4);
    // From 100 on, and in parts: each stays below what the disk has left.
    let mut stored = 0;
    while stored < NOTES {
        stored += i64::try_from(
            produce_many(&mut conn, (stored..stored + 100).map(|n| note(100 + n))).expect("produces"),
        )
        .expect("is small");
    }
    disk.fill().expect("fills the disk");
    let error = loop {
        match note(100 + stored).produce(&mut conn) {
            Ok(_) => stored += 1,
            Err(error) => break error,
        }
        assert!(stored < 100_000, "the disk is never full");
    };
    assert!(matches!(error, Error::DiskFull(_)), "{error:?}");
    assert!(error.to_string().contains("disk is full"), "{error}");
    workers.wait("the handlers end", LONG, || counts(&workers, "end").len() >= 4);
    let complaints = || workers.log().matches("the database cannot be used").count();
    workers.wait("both workers say so", LONG, || complaints() == 2);
    let (before, began) = (ticks(&workers), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let used = (ticks(&workers) - before) as f64 / 100.0 / began.elapsed().as_secs_f64();
    assert!(used < 0.2, "the two workers use {used} of a processor while they can do nothing");

    disk.free().expect("makes room");
    let all = |url: &str| done(url, "note") == stored && done(url, "patient") == PATIENT;
    let took = workers.wait("they go on by themselves, and all is done", LONG, || all(url));
    say(&format!(
        "{}, full disk: {used:.3} of a processor, all done {took:.1?} after there was room, {stored} messages",
        conn.backend()
    ));
    assert!(took < Duration::from_secs(10), "{took:?}");
    let begun = counts(&workers, "begin");
    assert!(begun.len() == 4 && begun.values().all(|times| *times == 1), "{begun:?}");
    let log = workers.log();
    assert_eq!(log.matches(" ERROR ").count(), 2, "each says it once: {log}");
    assert_eq!(log.matches("the database's disk is full").count(), 2, "and what it is: {log}");
    let stats = conn.broker().topics().expect("reads");
    assert!(stats.iter().all(|topic| (topic.running, topic.dead) == (0, 0)), "{stats:?}");
}

#[test]
fn a_full_disk_under_sqlite() {
    let folder = tempfile::tempdir().expect("a folder");
    let Some(disk) = small_disk(&folder.path().join("small"), 12 * MIB) else { return };
    let url = disk.path().join("app.db").to_str().expect("a path in UTF-8").to_owned();
    diesel::SqliteConnection::establish(&url).expect("a SQLite file");
    execute(&mut connect(&url), migration::up(Backend::Sqlite));
    nothing_is_lost_when_the_disk_is_full(&url, &disk);
    let AnyConnection::Sqlite(mut conn) = connect(&url) else { unreachable!("it is a file") };
    let check = diesel::dsl::sql::<diesel::sql_types::Text>("SELECT * FROM pragma_integrity_check");
    let check: String = diesel::RunQueryDsl::get_result(check, &mut conn).expect("checks");
    assert_eq!(check, "ok");
}

/// The disk of its tables; that of its log has room, for without that the server ends.
#[test]
fn a_full_disk_under_postgres() {
    let server = Postgres::start().expect("the server starts");
    let Some(disk) = small_disk(&server.folder().join("small"), 24 * MIB) else { return };
    let tables = disk.path().join("tables");
    std::fs::create_dir(&tables).expect("a folder");
    server.own(&tables).expect("gives it to the server");
    server
        .sql("postgres", &format!("CREATE TABLESPACE small LOCATION '{}'", tables.display()))
        .expect("makes a tablespace");
    server.sql("postgres", "CREATE DATABASE app TABLESPACE small").expect("makes a database");
    let url = server.url("app");
    execute(&mut connect(&url), migration::up(Backend::Postgres));
    nothing_is_lost_when_the_disk_is_full(&url, &disk);
    drop(server);
}

/// The disk of its log: the server ends itself, and whoever starts it otherwise starts it again when there is room.
#[test]
fn a_full_disk_under_the_log_of_postgres() {
    let mut server = Postgres::start_set(&["-c", "max_wal_size=32MB", "-c", "min_wal_size=32MB"])
        .expect("the server starts");
    server.stop().expect("stops");
    let Some(disk) = small_disk(&server.folder().join("small"), 64 * MIB) else { return };
    let (log, moved) = (server.folder().join("data/pg_wal"), disk.path().join("pg_wal"));
    let mut copy = std::process::Command::new("cp");
    assert!(copy.arg("-a").args([&log, &moved]).status().expect("cp runs").success());
    std::fs::remove_dir_all(&log).expect("is moved");
    std::os::unix::fs::symlink(&moved, &log).expect("a link");
    server.restart().expect("the server starts");
    server.create_database("app").expect("makes a database");
    let url = server.url("app");
    execute(&mut connect(&url), migration::up(Backend::Postgres));

    let mut workers = Workers::new(&url);
    let mut conn = connect(&url);
    produce_many(&mut conn, (0..PATIENT).map(|n| NewMessage::new("patient", &n))).expect("produces");
    workers.start(&["--concurrency", "2"]);
    workers.start(&["--concurrency", "2"]);
    workers.wait("all places are taken", LONG, || counts(&workers, "begin").len() == 4);
    disk.fill().expect("fills the disk");
    let mut stored = 0;
    let error = loop {
        match produce_many(&mut conn, (stored..stored + 100).map(|n| note(100 + n))) {
            Ok(_) => stored += 100,
            Err(error) => break error,
        }
        assert!(stored < 200_000, "the disk is never full");
    };
    say(&format!("PostgreSQL, full disk of its log: a producer of {stored} was told: {error}"));
    workers.wait("the handlers end", LONG, || {
        counts(&workers, "end").keys().filter(|n| **n < PATIENT).count() == 4
    });
    let complaints = || workers.log().matches("the database cannot be used").count();
    workers.wait("both workers say so", LONG, || complaints() >= 2);
    let (before, began) = (ticks(&workers), Instant::now());
    std::thread::sleep(Duration::from_secs(3));
    let used = (ticks(&workers) - before) as f64 / 100.0 / began.elapsed().as_secs_f64();
    assert!(used < 0.2, "the two workers use {used} of a processor while they can do nothing");

    disk.free().expect("makes room");
    server.restart().expect("the server starts again");
    // Whether the last ones were stored is not known: all of them, or none.
    let all =
        |url: &str| [stored, stored + 100].contains(&done(url, "note")) && done(url, "patient") == PATIENT;
    let took = workers.wait("they go on by themselves, and all is done", LONG, || all(&url));
    let complained = complaints();
    say(&format!(
        "PostgreSQL, full disk of its log: {used:.3} of a processor, all done {took:.1?} after the restart, {complained} complaints"
    ));
    assert!(took < Duration::from_secs(20), "{took:?}");
    let begun = counts(&workers, "begin");
    assert!(begun.len() == 4 && begun.values().all(|times| *times == 1), "{begun:?}");
    let log = workers.log();
    assert!(
        log.matches(" ERROR ").count() <= 4,
        "each says it once, or once more when the server tried again: {log}"
    );
    let stats = connect(&url).broker().topics().expect("reads");
    assert!(stats.iter().all(|topic| (topic.running, topic.ready, topic.dead) == (0, 0, 0)), "{stats:?}");
    drop(server);
}

#[test]
fn a_full_disk_under_mariadb() {
    let server = Mariadb::start().expect("the server starts");
    let Some(disk) = small_disk(&server.folder().join("small"), 48 * MIB) else { return };
    let tables = disk.path().join("app");
    std::fs::create_dir(&tables).expect("a folder");
    server.own(&tables).expect("gives it to the server");
    std::os::unix::fs::symlink(&tables, server.folder().join("data/app")).expect("a link");
    let url = server.url("app");
    execute(&mut connect(&url), migration::up(Backend::Mysql));
    nothing_is_lost_when_the_disk_is_full(&url, &disk);
    drop(server);
}
