//! The database goes away and comes back. Servers of these tests' own are killed and restarted under real workers, with
//! the durability that they ship with.

mod connections;
mod crowd;
mod failover;
mod frozen;
mod full_disk;
mod galera;
mod locked;
mod read_only;
mod snapshot;

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use diesel::connection::SimpleConnection;
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, migration, produce, produce_many};
use taskmq_tests::proxy::Proxy;
use taskmq_tests::servers::{Kind, MariadbKind, PostgresKind, Server};

use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(90);

/// One outage at a time: each has a server and two workers of its own, beside all other tests.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// Whether the long forms of the tests are wanted.
fn long() -> bool {
    std::env::var_os("TASKMQ_TEST_LONG").is_some()
}

fn connect(url: &str) -> AnyConnection {
    AnyConnection::establish(url).unwrap_or_else(|error| panic!("{error}"))
}

fn execute(conn: &mut AnyConnection, sql: &str) {
    match conn {
        AnyConnection::Postgres(conn) => conn.batch_execute(sql),
        AnyConnection::Mysql(conn) => conn.batch_execute(sql),
        AnyConnection::Sqlite(conn) => conn.batch_execute(sql),
        _ => unreachable!("taskmq knows three databases"),
    }
    .unwrap_or_else(|error| panic!("{error} in {sql}"));
}

/// A server with the tables, and the URL of its database.
fn server<K: Kind>(backend: Backend) -> (Server<K>, String) {
    server_set(backend, &[])
}

/// As [`server`], with options on its command line.
fn server_set<K: Kind>(backend: Backend, options: &[&str]) -> (Server<K>, String) {
    let server = Server::<K>::start_set(options).expect("the server starts");
    server.create_database("app").expect("makes a database");
    let url = server.url("app");
    execute(&mut connect(&url), migration::up(backend));
    (server, url)
}

/// The URL of the database for a user who is not the server's master.
fn ordinary_user(url: &str) -> String {
    let mut conn = connect(url);
    match conn.backend() {
        Backend::Postgres => {
            execute(
                &mut conn,
                "CREATE ROLE ordinary LOGIN; GRANT ALL ON ALL TABLES IN SCHEMA public TO ordinary;
                                GRANT ALL ON ALL SEQUENCES IN SCHEMA public TO ordinary",
            );
            url.replace("postgres@", "ordinary@")
        }
        _ => {
            execute(&mut conn, "CREATE USER ordinary@'%'");
            execute(&mut conn, "GRANT ALL ON app.* TO ordinary@'%'");
            url.replace("root@", "ordinary@")
        }
    }
}

/// How often each second of the log complains, where it does.
fn complaints(log: &str) -> BTreeMap<String, Vec<&str>> {
    let mut seconds = BTreeMap::<String, Vec<&str>>::new();
    for line in log.lines().filter(|line| line.contains(" ERROR ") || line.contains(" WARN ")) {
        seconds.entry(line.get(..8).unwrap_or(line).to_owned()).or_default().push(line);
    }
    seconds
}

/// In the test's output, though the test passes.
pub(crate) fn say(what: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{what}");
}

fn done(url: &str, topic: &str) -> i64 {
    let Ok(mut conn) = AnyConnection::establish(url) else { return 0 };
    let stats = conn.broker().topics().expect("reads");
    stats.iter().find(|stats| stats.topic == topic).map_or(0, |stats| stats.done)
}

fn counts(workers: &Workers, what: &str) -> BTreeMap<i64, usize> {
    let mut counts = BTreeMap::new();
    for entry in workers.journal().iter().filter(|entry| entry.what == what) {
        *counts.entry(entry.number).or_default() += 1;
    }
    counts
}

fn nothing_is_lost_when_a_server_is_killed<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    const FIRST: i64 = 20_000;
    let (mut server, url) = server::<K>(backend);
    let mut workers = Workers::new(&url);
    let mut conn = connect(&url);
    produce_many(&mut conn, (0..FIRST).map(|n| NewMessage::new("note", &n))).expect("produces");
    workers.start(&[]);
    workers.start(&[]);
    workers.wait("some are handled", LONG, || workers.journal().len() > 1000);
    server.kill9().expect("kills");
    server.restart().expect("starts again");
    let mut conn = connect(&url);
    produce_many(&mut conn, (FIRST..FIRST + 100).map(|n| NewMessage::new("note", &n))).expect("produces");
    workers
        .wait("they come back by themselves, and all are done", LONG, || done(&url, "note") == FIRST + 100);
    let handled = counts(&workers, "end");
    assert_eq!(handled.len(), usize::try_from(FIRST + 100).expect("is small"), "each was handled");
    let stats = connect(&url).broker().topics().expect("reads");
    assert_eq!((stats[0].ready, stats[0].running, stats[0].dead), (0, 0, 0), "nothing is left behind");
}

fn a_handler_is_run_once_though_its_server_is_restarted<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut server, url) = server::<K>(backend);
    let mut workers = Workers::new(&url);
    let mut conn = connect(&url);
    for n in 0..5 {
        produce(&mut conn, "patient", &n).expect("produces");
    }
    drop(conn);
    workers.start(&[]);
    workers.start(&[]);
    workers.wait("all have begun", LONG, || counts(&workers, "begin").len() == 5);
    server.restart().expect("starts again");
    workers.wait("all are done", LONG, || done(&url, "patient") == 5);
    assert!(counts(&workers, "begin").values().all(|times| *times == 1), "{:?}", workers.journal());
}

fn sessions_that_are_ended_are_made_anew<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    const ALL: i64 = 10_000;
    let (_server, url) = server::<K>(backend);
    let mut workers = Workers::new(&url);
    let mut conn = connect(&url);
    produce_many(&mut conn, (0..ALL).map(|n| NewMessage::new("note", &n))).expect("produces");
    for n in 0..20 {
        produce(&mut conn, "slow", &n).expect("produces");
    }
    workers.start(&["--concurrency", "4"]);
    workers.start(&["--concurrency", "4"]);
    for round in 0..8 {
        let handled = workers.journal().len();
        workers.wait("work goes on", LONG, || {
            workers.journal().len() > handled || done(&url, "note") + done(&url, "slow") == ALL + 20
        });
        end_other_sessions(&mut conn, round);
    }
    workers.wait("all are done", LONG, || done(&url, "note") == ALL && done(&url, "slow") == 20);
    // Their leases were never lost: the locks were taken again in time.
    assert!(!workers.log().contains("died"), "{}", workers.log());
}

fn end_other_sessions(conn: &mut AnyConnection, round: usize) {
    match conn {
        AnyConnection::Postgres(_) => execute(
            conn,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()",
        ),
        _ => execute(
            conn,
            &format!(
                "CREATE PROCEDURE end_sessions_{round}() BEGIN
                    DECLARE session BIGINT; DECLARE no_more BOOLEAN DEFAULT FALSE;
                    DECLARE sessions CURSOR FOR SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID();
                    DECLARE CONTINUE HANDLER FOR NOT FOUND SET no_more = TRUE;
                    DECLARE CONTINUE HANDLER FOR 1094 BEGIN END;
                    OPEN sessions;
                    FETCH sessions INTO session;
                    WHILE NOT no_more DO KILL session; FETCH sessions INTO session; END WHILE;
                 END;
                 CALL end_sessions_{round}()"
            ),
        ),
    }
}

/// What it ran is run elsewhere, and it works again once the line is healed, without being started anew.
fn a_worker_that_is_cut_off_comes_back<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (_server, url) = server::<K>(backend);
    let proxy = Proxy::before(&url).expect("a proxy");
    let mut workers = Workers::new(&url);
    let mut conn = connect(&url);
    let cut_off = workers.start_on(proxy.url(), &["--concurrency", "4"]);
    let pid = workers.children[cut_off].id();
    workers.wait("it is ready", LONG, || workers.log().contains("worker ready"));
    workers.start(&["--concurrency", "4"]);
    for n in 0..40 {
        produce(&mut conn, "slow", &n).expect("produces");
    }
    workers.wait("it works", LONG, || workers.journal().iter().any(|e| e.pid == pid));
    proxy.swallow(true);
    workers.wait("it says so", LONG, || workers.log().contains("the database cannot be used"));
    workers.wait("the other takes over", LONG, || workers.log().contains("died"));
    workers.wait("all are done", LONG, || done(&url, "slow") == 40);
    proxy.swallow(false);
    workers.wait("it begins anew", LONG, || workers.log().matches("worker ready").count() == 3);
    let before = workers.journal().len();
    produce_many(&mut conn, (100..140).map(|n| NewMessage::new("slow", &n))).expect("produces");
    workers.wait("it works again", LONG, || workers.journal()[before..].iter().any(|e| e.pid == pid));
    workers.wait("all are done", LONG, || done(&url, "slow") == 80);
    assert_eq!(counts(&workers, "end").len(), 80, "each was handled");
}

fn a_worker_stops_though_its_server_is_silent<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (_server, url) = server::<K>(backend);
    let proxy = Proxy::before(&url).expect("a proxy");
    let mut workers = Workers::new(&url);
    produce(&mut connect(&url), "slow", &1).expect("produces");
    let silenced = workers.start_on(proxy.url(), &["--shutdown-timeout", "1s"]);
    workers.wait("it works", LONG, || !workers.journal().is_empty());
    proxy.swallow(true);
    workers.signal(silenced, "TERM");
    let code = workers.end_of(silenced, LONG);
    assert_eq!(code, Some(1), "it left a message to others");
    proxy.swallow(false);
    workers.start(&[]);
    workers.wait("another does it", LONG, || done(&url, "slow") == 1);
}

/// What a worker asks at once is many statements, and takes longer on such a line than a server may be silent.
fn a_slow_line_only_slows<K: Kind>(backend: Backend) {
    let _turn = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let (_server, url) = server::<K>(backend);
    let proxy = Proxy::before(&url).expect("a proxy");
    proxy.lag(Duration::from_millis(100));
    let mut workers = Workers::new(&url);
    let mut conn = connect(&url);
    produce_many(&mut conn, (0..300).map(|n| NewMessage::new("note", &n))).expect("produces");
    produce_many(&mut conn, (300..320).map(|n| NewMessage::new("slow", &n))).expect("produces");
    for n in 0..40 {
        let message = NewMessage::new("note", &(n + 400)).ordering_key(format!("{}", n % 20));
        message.produce(&mut conn).expect("produces");
    }
    workers.start(&["--topics", "patient"]);
    workers.start_on(proxy.url(), &["--topics", "note,slow"]);
    workers.wait("all is done", 2 * LONG, || done(&url, "note") == 340 && done(&url, "slow") == 20);
    assert!(counts(&workers, "end").values().all(|times| *times == 1), "some ran twice");
    for sign in ["died", "given up", "cannot be used", "cannot reach"] {
        assert!(!workers.log().contains(sign), "{sign}:\n{}", workers.log());
    }
}

#[test]
fn postgres_is_far_away() {
    a_slow_line_only_slows::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_is_far_away() {
    a_slow_line_only_slows::<MariadbKind>(Backend::Mysql);
}

#[test]
fn postgres_is_cut_off() {
    a_worker_that_is_cut_off_comes_back::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_is_cut_off() {
    a_worker_that_is_cut_off_comes_back::<MariadbKind>(Backend::Mysql);
}

#[test]
fn postgres_is_silent_at_the_end() {
    a_worker_stops_though_its_server_is_silent::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_is_silent_at_the_end() {
    a_worker_stops_though_its_server_is_silent::<MariadbKind>(Backend::Mysql);
}

#[test]
fn postgres_is_killed() {
    nothing_is_lost_when_a_server_is_killed::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_is_killed() {
    nothing_is_lost_when_a_server_is_killed::<MariadbKind>(Backend::Mysql);
}

#[test]
fn postgres_is_restarted() {
    a_handler_is_run_once_though_its_server_is_restarted::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_is_restarted() {
    a_handler_is_run_once_though_its_server_is_restarted::<MariadbKind>(Backend::Mysql);
}

#[test]
fn postgres_ends_sessions() {
    sessions_that_are_ended_are_made_anew::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_ends_sessions() {
    sessions_that_are_ended_are_made_anew::<MariadbKind>(Backend::Mysql);
}
