//! All processes stand still and go on later: those of a server, as on a host that is overcommitted, or the workers' as well, as
//! on a laptop that sleeps. Nobody has died then, and nobody is to be taken for dead.

use std::process::Command;
use std::sync::PoisonError;
use std::thread;
use std::time::{Duration, Instant};

use taskmq_core::{Backend, NewMessage, produce, produce_many};
use taskmq_tests::databases;
use taskmq_tests::servers::{Kind, MariadbKind, PostgresKind};

use super::{LONG, ONE_AT_A_TIME, connect, counts, done, long, say, server};
use crate::workers::Workers;

/// In which work goes on after a thaw.
const SOON: Duration = Duration::from_secs(10);

fn freeze(workers: &Workers, frozen: bool) {
    let pids = workers.children.iter().map(|child| child.id().to_string());
    let stopped = Command::new("kill").arg(if frozen { "-STOP" } else { "-CONT" }).args(pids).status();
    assert!(stopped.expect("kill runs").success());
}

/// Two workers with messages that take longer than a lease would be believed in.
fn at_work(url: &str) -> Workers {
    let mut workers = Workers::new(url);
    produce_many(&mut connect(url), (0..8).map(|n| NewMessage::new("patient", &n))).expect("produces");
    for _ in 0..2 {
        workers.start(&["--concurrency", "6"]);
    }
    workers.wait("all have begun", LONG, || counts(&workers, "begin").len() == 8);
    workers
}

/// What is new is handled, and what ran goes on: once, by whom it was begun.
fn goes_on(workers: &Workers, url: &str, thawed: Instant) {
    produce(&mut connect(url), "note", &100).expect("produces");
    workers.wait("work goes on", SOON, || counts(workers, "end").contains_key(&100));
    say(&format!("the first message was handled {:?} after the thaw", thawed.elapsed()));
    workers.wait("all are done", LONG, || done(url, "patient") == 8);
    let again: Vec<_> = counts(workers, "begin").into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(again.is_empty(), "{again:?} ran again\n{}", workers.log());
    for sign in ["died", "given up by the others"] {
        assert!(!workers.log().contains(sign), "{sign}:\n{}", workers.log());
    }
}

fn a_server_that_is_frozen_is_waited_for<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for seconds in if long() { &[3, 10, 60][..] } else { &[3] } {
        let (server, url) = server::<K>(backend);
        let workers = at_work(&url);
        server.freeze(true).expect("freezes");
        thread::sleep(Duration::from_secs(*seconds));
        server.freeze(false).expect("thaws");
        say(&format!("{backend}, frozen for {seconds} s"));
        goes_on(&workers, &url, Instant::now());
    }
}

fn all_that_sleeps_goes_on<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    for seconds in if long() { &[8, 60][..] } else { &[8] } {
        let (server, url) = server::<K>(backend);
        let workers = at_work(&url);
        freeze(&workers, true);
        server.freeze(true).expect("freezes");
        thread::sleep(Duration::from_secs(*seconds));
        server.freeze(false).expect("thaws");
        freeze(&workers, false);
        say(&format!("{backend}, asleep for {seconds} s"));
        goes_on(&workers, &url, Instant::now());
    }
}

#[test]
fn postgres_is_frozen() {
    a_server_that_is_frozen_is_waited_for::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_is_frozen() {
    a_server_that_is_frozen_is_waited_for::<MariadbKind>(Backend::Mysql);
}

#[test]
fn a_laptop_with_postgres_sleeps() {
    all_that_sleeps_goes_on::<PostgresKind>(Backend::Postgres);
}

#[test]
fn a_laptop_with_mariadb_sleeps() {
    all_that_sleeps_goes_on::<MariadbKind>(Backend::Mysql);
}

#[test]
fn a_laptop_with_sqlite_sleeps() {
    for seconds in if long() { &[8, 60][..] } else { &[8] } {
        let db = databases::fresh(Backend::Sqlite);
        let workers = at_work(db.url());
        freeze(&workers, true);
        thread::sleep(Duration::from_secs(*seconds));
        freeze(&workers, false);
        say(&format!("SQLite, asleep for {seconds} s"));
        goes_on(&workers, db.url(), Instant::now());
    }
}
