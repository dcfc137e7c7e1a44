//! `taskmq-cli doctor` on databases in which something is wrong.

use std::fs::File;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use taskmq_core::broker::{Lock, ServerFigures, WorkerIdentity};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, produce};
use taskmq_tests::databases::{TestDatabase, try_execute};

use crate::hosts::host::taskmq_cli;

each_database! {
    it_finds_payloads_of_no_message,
    nothing_is_wrong_with_a_new_queue,
    an_index_that_is_gone_is_an_error,
    other_tables_are_an_error,
    messages_that_are_not_run_are_seen,
    a_dead_worker_runs_nothing,
    each_databases_own_troubles_are_seen,
}

fn doctor(db: &TestDatabase, args: &[&str]) -> Output {
    Command::new(taskmq_cli()).arg("doctor").args(args).env("DATABASE_URL", db.url()).output().expect("runs")
}

/// The names of what it finds, with their levels, and its exit code. Each finding says what, why, and what to do.
fn findings(db: &TestDatabase) -> (Vec<(String, String)>, Option<i32>) {
    let out = doctor(db, &["--json"]);
    let json: serde_json::Value = serde_json::from_slice(&out.stdout)
        .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&out.stderr)));
    let text = |finding: &serde_json::Value, name: &str| {
        let text = finding[name].as_str().unwrap_or_default().to_owned();
        assert!(!text.is_empty(), "{name} of {finding}");
        text
    };
    let found = json.as_array().expect("an array").iter().map(|finding| {
        for name in ["what", "why", "fix"] {
            text(finding, name);
        }
        (text(finding, "level"), text(finding, "name"))
    });
    // Others use the same server while this runs.
    let of_the_server = ["connections", "history", "not-durable", "commits-not-waited-for", "sqlite-version"];
    (found.filter(|(_, name)| !of_the_server.contains(&&**name)).collect(), out.status.code())
}

fn finding(level: &str, name: &str) -> (String, String) {
    (level.to_owned(), name.to_owned())
}

fn nothing_is_wrong_with_a_new_queue(db: &TestDatabase) {
    let mut conn = db.connect();
    produce(&mut conn, "mail", &1).expect("produces");
    let _worker = Alive::enter(db, "mail");
    assert_eq!(findings(db).0, []);
    let out = doctor(db, &[]);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains(&db.backend().to_string()), "{said}");
}

fn it_finds_payloads_of_no_message(db: &TestDatabase) {
    let mut conn = db.connect();
    let text = "x".repeat(10_000);
    let [kept, deleted] = [(); 2].map(|()| produce(&mut conn, "mail", &text).expect("produces"));
    let _worker = Alive::enter(db, "mail");
    assert_eq!(findings(db).0, []);
    db.execute(&format!("DELETE FROM taskmq_messages WHERE id = {deleted}"));
    assert_eq!(findings(db).0, [finding("warning", "stray-payloads")]);
    let out = doctor(db, &[]);
    let said = String::from_utf8_lossy(&out.stdout);
    let fix = said.lines().find_map(|line| line.trim().strip_prefix("do:  DELETE")).expect("what to do");
    db.execute(&format!("DELETE{fix}"));
    assert_eq!(findings(db).0, []);
    let message = conn.broker().message(kept).expect("reads").expect("is there");
    assert_eq!(message.payload.get(), format!("{text:?}"));
}

fn figures(db: &TestDatabase) -> ServerFigures {
    db.connect().broker().diagnose().expect("reads").server
}

/// A worker that lives, for its lock is held.
struct Alive {
    id: i64,
    lock: HeldLock,
}

/// On SQLite that of its file, on a server that of a session.
enum HeldLock {
    File(File),
    Session(AnyConnection),
}

impl Alive {
    fn enter(db: &TestDatabase, topics: &str) -> Self {
        // MariaDB's locks are of the whole server, which other tests use at the same time.
        static NEXT_ID: AtomicI64 = AtomicI64::new(5);
        let id = NEXT_ID.fetch_add(1, Ordering::Relaxed);
        let mut session = db.connect();
        let (host, topics) = ("h".to_owned(), topics.to_owned());
        let worker = WorkerIdentity { id, host, pid: 1, topics, concurrency: 1 };
        session.broker().register(&worker).expect("registers");
        if db.backend() == Backend::Sqlite {
            let file = File::create(format!("{}-taskmq-{id:016x}.lock", db.url())).expect("a file");
            file.lock().expect("locks");
            return Self { id, lock: HeldLock::File(file) };
        }
        assert_eq!(session.broker().lock(id).expect("locks"), Lock::Held);
        Self { id, lock: HeldLock::Session(session) }
    }

    /// It dies, and its last beat was long ago.
    fn end(self, db: &TestDatabase) {
        match self.lock {
            HeldLock::File(file) => file.unlock().expect("unlocks"),
            HeldLock::Session(session) => drop(session),
        }
        db.execute(&format!("UPDATE taskmq_workers SET beat_at = {}", an_hour_ago(db)));
    }
}

fn an_hour_ago(db: &TestDatabase) -> &'static str {
    match db.backend() {
        Backend::Sqlite => "strftime('%Y-%m-%d %H:%M:%f', 'now', '-1 hour')",
        Backend::Postgres => "now() - interval '1 hour'",
        Backend::Mysql => "now(6) - INTERVAL 1 HOUR",
    }
}

fn an_index_that_is_gone_is_an_error(db: &TestDatabase) {
    match db.backend() {
        Backend::Mysql => db.execute("DROP INDEX taskmq_archive_finished ON taskmq_archive"),
        _ => db.execute("DROP INDEX taskmq_archive_finished"),
    }
    assert_eq!(findings(db), (vec![finding("error", "index-missing")], Some(1)));
    let said = doctor(db, &[]);
    assert!(String::from_utf8_lossy(&said.stdout).contains("taskmq_archive_finished is not there"));
    assert_eq!(said.status.code(), Some(1));
}

fn other_tables_are_an_error(db: &TestDatabase) {
    db.execute("UPDATE taskmq_schema SET version = 99");
    assert_eq!(findings(db), (vec![finding("error", "schema-version")], Some(1)));
    let empty = taskmq_tests::databases::empty(db.backend());
    assert_eq!(findings(&empty), (vec![finding("error", "schema-version")], Some(1)));
}

fn messages_that_are_not_run_are_seen(db: &TestDatabase) {
    let mut conn = db.connect();
    for topic in ["paused", "nobody", "stuck"] {
        produce(&mut conn, topic, &1).expect("produces");
    }
    conn.broker().pause("paused", "test").expect("pauses");
    let worker = Alive::enter(db, "paused,stuck");
    let expected = |more: &[(&str, &str)]| -> Vec<(String, String)> {
        more.iter().map(|(level, name)| finding(level, name)).collect()
    };
    assert_eq!(findings(db).0, expected(&[("warning", "no-worker"), ("remark", "paused")]));
    let earlier = an_hour_ago(db);
    db.execute(&format!("UPDATE taskmq_messages SET run_at = {earlier}"));
    let (found, code) = findings(db);
    assert_eq!(
        (found, code),
        (expected(&[("error", "stuck"), ("warning", "no-worker"), ("remark", "paused")]), Some(1))
    );
    // It is run after all: that is a backlog.
    produce(&mut conn, "stuck", &2).expect("produces");
    db.execute(&format!("UPDATE taskmq_messages SET worker_id = {} WHERE id = 4", worker.id));
    let backlog = expected(&[("warning", "no-worker"), ("warning", "backlog"), ("remark", "paused")]);
    let sorted = |mut found: Vec<(String, String)>| {
        found.sort();
        found
    };
    assert_eq!(sorted(findings(db).0), sorted(backlog));
    db.execute("UPDATE taskmq_messages SET worker_id = 7777 WHERE id = 4");
    assert!(findings(db).0.contains(&finding("warning", "held-by-nobody")));
    db.execute("UPDATE taskmq_messages SET worker_id = -2 WHERE id = 4");
    assert!(findings(db).0.contains(&finding("remark", "set-aside")));
    db.execute(&format!("UPDATE taskmq_workers SET beat_at = {earlier}"));
    let silent = findings(db).0.contains(&finding("warning", "worker-silent"));
    assert_eq!(silent, db.backend() != Backend::Sqlite, "on SQLite only locks tell");
    db.execute(
        "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, worker_id, attempts, crashes, payload, error)
         SELECT id + 1000, topic, 'dead', 0, run_at, created_at, 0, 1, 0, payload, 'no' FROM taskmq_messages",
    );
    assert!(findings(db).0.contains(&finding("warning", "dead-letters")));
}

fn a_dead_worker_runs_nothing(db: &TestDatabase) {
    let mut conn = db.connect();
    for n in [1, 2] {
        produce(&mut conn, "mail", &n).expect("produces");
    }
    let worker = Alive::enter(db, "mail");
    db.execute(&format!("UPDATE taskmq_messages SET worker_id = {} WHERE id = 1", worker.id));
    db.execute(&format!("UPDATE taskmq_messages SET run_at = {}", an_hour_ago(db)));
    assert_eq!(findings(db), (vec![finding("warning", "backlog")], Some(0)));
    worker.end(db);
    let silent = finding("warning", "worker-silent");
    assert_eq!(findings(db), (vec![finding("warning", "no-worker"), silent.clone()], Some(0)));
    let out = doctor(db, &[]);
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(said.contains("worker h:1 is not alive, and holds 1 message\n"), "{said}");
    // Another one consumes, and runs nothing of what the dead one holds.
    let _other = Alive::enter(db, "mail");
    assert_eq!(findings(db), (vec![finding("error", "stuck"), silent], Some(1)));
}

fn each_databases_own_troubles_are_seen(db: &TestDatabase) {
    match db.connect() {
        AnyConnection::Postgres(mut conn) => {
            conn.batch_execute("BEGIN; UPDATE taskmq_schema SET version = version").expect("begins");
            let ServerFigures::Postgres(figures) = figures(db) else { panic!("is PostgreSQL") };
            assert!(
                figures
                    .oldest_transaction
                    .is_some_and(|t| t.program == "taskmq" && (0..60).contains(&t.seconds))
            );
            assert!(figures.wakes && figures.max_connections > 1 && figures.tables.len() > 5);
            conn.batch_execute("ROLLBACK").expect("rolls back");
            db.execute("ALTER TABLE taskmq_messages DISABLE TRIGGER taskmq_wake");
            db.execute("ALTER TABLE taskmq_archive SET (autovacuum_enabled = off)");
            // What a failed CREATE INDEX CONCURRENTLY leaves.
            db.execute(
                "UPDATE pg_index SET indisvalid = FALSE WHERE indexrelid = 'taskmq_messages_held'::regclass",
            );
            let expected = [
                finding("error", "index-invalid"),
                finding("error", "autovacuum-off"),
                finding("remark", "wake-trigger"),
            ];
            assert_eq!(findings(db), (expected.to_vec(), Some(1)));
        }
        AnyConnection::Mysql(mut conn) => {
            conn.batch_execute("BEGIN; UPDATE taskmq_schema SET version = version + 1").expect("begins");
            // The server tells of transactions as they were when nobody had asked for a tenth of a second.
            let began = Instant::now();
            let figures = loop {
                let ServerFigures::Mysql(figures) = figures(db) else { panic!("is MariaDB") };
                if figures.oldest_transaction.as_ref().is_some_and(|t| t.session > 0 && t.seconds >= 0) {
                    break figures;
                }
                assert!(began.elapsed() < Duration::from_secs(10), "{figures:?}");
                std::thread::sleep(Duration::from_millis(300));
            };
            assert!(figures.history.is_some() && figures.buffer_pool > 0 && figures.max_connections > 1);
            conn.batch_execute("ROLLBACK").expect("rolls back");
        }
        AnyConnection::Sqlite(_) => {
            let wal = format!("{}-wal", db.url());
            let mut reader = db.connect();
            try_execute(&mut reader, "BEGIN; SELECT count(*) FROM taskmq_schema").expect("reads");
            // What follows the last commit is not read.
            let file = std::fs::File::options().write(true).open(&wal).expect("a log");
            file.set_len(300 * 1024 * 1024).expect("grows");
            assert_eq!(findings(db).0, [finding("warning", "wal-large")]);
        }
        _ => unreachable!("taskmq knows three databases"),
    }
}
