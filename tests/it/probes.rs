//! What a worker tells those who start and stop it: whether it lives, and whether it takes messages.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use taskmq_core::{Backend, BrokerConnection, produce};
use taskmq_tests::databases::{TestDatabase, fresh};
use taskmq_tests::proxy::Proxy;
use taskmq_tests::scrape;

use crate::metrics::address;
use crate::outages::say;
use crate::workers::Workers;

each_database! {
    a_worker_that_drains_is_not_ready,
    a_worker_that_is_told_to_stop_is_not_ready,
}

const LONG: Duration = Duration::from_secs(60);
/// Beside its pages, and alone.
const BOTH: [&str; 4] = ["--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];

fn is(at: &str, path: &str) -> bool {
    let (head, body) = scrape::get(at, path, "");
    let is = head.starts_with("HTTP/1.0 200");
    assert!(is || head.starts_with("HTTP/1.0 503"), "{head}");
    assert_eq!(body.starts_with("not "), !is, "{body}");
    is
}

/// Where a worker that has begun is asked.
fn ready(workers: &Workers) -> [String; 2] {
    let places = ["the admin is at", "the metrics are at"].map(|words| address(workers, words));
    for at in &places {
        workers.wait("it is ready", LONG, || is(at, "/ready"));
        assert!(is(at, "/health"));
    }
    places
}

/// One that was told to end, with a handler that runs on for some seconds.
fn ends(db: &TestDatabase, tell: impl FnOnce(&Workers)) {
    let mut workers = Workers::new(db.url());
    let at = workers.start(&BOTH);
    let places = ready(&workers);
    produce(&mut db.connect(), "patient", &1).expect("produces");
    workers.wait("it works", LONG, || workers.journal().len() == 1);
    tell(&workers);
    for place in &places {
        workers.wait("it is not ready", LONG, || !is(place, "/ready"));
        assert!(is(place, "/health"), "it finishes what runs");
    }
    assert_eq!(workers.journal().len(), 1, "the handler has not ended");
    assert_eq!(workers.end_of(at, LONG), Some(0), "{}", workers.log());
}

fn a_worker_that_drains_is_not_ready(db: &TestDatabase) {
    ends(db, |_| {
        let mut conn = db.connect();
        let id = conn.broker().workers(10).expect("reads")[0].id;
        conn.broker().drain(id, "a person").expect("drains");
    });
}

fn a_worker_that_is_told_to_stop_is_not_ready(db: &TestDatabase) {
    ends(db, |workers| workers.signal(0, "TERM"));
}

fn it_is_ready_again_when_its_database_is(backend: Backend) {
    let db = fresh(backend);
    let proxy = Proxy::before(db.url()).expect("a proxy");
    let mut workers = Workers::new(db.url());
    workers.start_on(proxy.url(), &BOTH);
    let places = ready(&workers);
    proxy.swallow(true);
    produce(&mut db.connect(), "note", &1).expect("produces");
    for place in &places {
        workers.wait("it is missed", LONG, || !is(place, "/ready"));
        assert!(is(place, "/health"), "to start it again would help nobody");
    }
    proxy.swallow(false);
    for place in &places {
        workers.wait("it is back", LONG, || is(place, "/ready"));
        assert!(is(place, "/health"));
    }
}

#[test]
fn it_is_ready_again_when_postgres_is() {
    it_is_ready_again_when_its_database_is(Backend::Postgres);
}

#[test]
fn it_is_ready_again_when_mariadb_is() {
    it_is_ready_again_when_its_database_is(Backend::Mysql);
}

/// Its own thread writes into a log that nobody reads any more.
#[test]
fn a_worker_that_hangs_is_not_alive() {
    if std::env::var_os("TASKMQ_TEST_LONG").is_none() {
        say("SKIPPED, no worker hung for a minute: TASKMQ_TEST_LONG=1 does it");
        return;
    }
    let db = fresh(Backend::Sqlite);
    let at = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port");
    let at = at.to_string();
    let (mut log, into_log) = std::io::pipe().expect("a pipe");
    let mut full = into_log.try_clone().expect("a pipe");
    let worker = Command::new(env!("CARGO_BIN_EXE_test-worker"))
        .args(["--metrics", &at])
        .env("DATABASE_URL", db.url())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(into_log)
        .spawn()
        .expect("starts");
    let mut workers = Workers::new(db.url());
    workers.children.push(worker);
    let mut begun = String::new();
    let mut bytes = [0; 4096];
    while !begun.contains("worker ready") {
        let number = log.read(&mut bytes).expect("a log");
        assert!(number > 0, "it has ended: {begun}");
        begun.push_str(&String::from_utf8_lossy(&bytes[..number]));
    }
    let until = |what: &str, holds: &dyn Fn() -> bool| {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < 2 * LONG, "never: {what}");
            std::thread::sleep(Duration::from_millis(100));
        }
        began.elapsed()
    };
    until("it is ready", &|| is(&at, "/ready"));
    // What does not fit is written once the log is read again.
    let filling = std::thread::spawn(move || full.write_all(&[b'\n'; 256 * 1024]));
    std::thread::sleep(Duration::from_secs(1));
    db.connect().broker().pause("note", "a person").expect("pauses");
    let took = until("it is not alive", &|| !is(&at, "/health"));
    assert!((55..75).contains(&took.as_secs()), "{took:?}");
    assert!(!is(&at, "/ready"));
    let reading = std::thread::spawn(move || log.read_to_end(&mut Vec::new()));
    until("it is alive again", &|| is(&at, "/health") && is(&at, "/ready"));
    drop(workers);
    filling.join().expect("no panic").expect("is written");
    reading.join().expect("no panic").expect("is read");
}
