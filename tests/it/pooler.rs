//! pgbouncer in transaction mode between everything and PostgreSQL: nobody has a session for longer than a transaction.

use std::collections::BTreeSet;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, migration, produce_many};
use taskmq_tests::servers::{Pgbouncer, Postgres};

use crate::outages::say;
use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(60);

fn execute(conn: &mut AnyConnection, sql: &str) {
    let AnyConnection::Postgres(conn) = conn else { panic!("this is PostgreSQL") };
    conn.batch_execute(sql).unwrap_or_else(|error| panic!("{error} in {sql}"));
}

/// Two workers that cannot see each other's lock files, as on two machines: only the beats tell that one is dead.
#[test]
fn a_worker_is_killed_behind_pgbouncer() {
    let server = Postgres::start().expect("PostgreSQL starts");
    server.create_database("app").expect("makes a database");
    let pooler = Pgbouncer::before(&server).expect("pgbouncer starts");
    let url = pooler.url("app");
    let mut conn = AnyConnection::establish(&url).expect("connects");
    assert!(!conn.has_own_session().expect("tells"));
    assert!(
        AnyConnection::establish(&server.url("app")).expect("connects").has_own_session().expect("tells")
    );
    execute(&mut conn, migration::up(taskmq_core::Backend::Postgres));

    let mut workers = Workers::new(&url);
    produce_many(&mut conn, (0..60).map(|n| NewMessage::new("slow", &n))).expect("produces");
    produce_many(&mut conn, (100..5100).map(|n| NewMessage::new("note", &n))).expect("produces");
    let victim = workers.start_elsewhere(&["--concurrency", "4"]);
    workers.start_elsewhere(&["--concurrency", "4"]);
    let pid = workers.children[victim].id();
    workers.wait("both run slow ones", LONG, || {
        let journal = workers.journal();
        let begun = |mine: bool| journal.iter().any(|e| e.what == "begin" && (e.pid == pid) == mine);
        begun(true) && begun(false)
    });
    workers.signal(victim, "KILL");
    let unfinished: BTreeSet<i64> = {
        let journal = workers.journal();
        let of = |what: &str| {
            let entries = journal.iter().filter(|e| e.pid == pid && e.what == what && e.number < 100);
            entries.map(|e| e.number).collect::<BTreeSet<i64>>()
        };
        of("begin").difference(&of("end")).copied().collect()
    };
    assert!(!unfinished.is_empty(), "it died at work");
    let taken = workers.wait("what it ran is begun elsewhere", LONG, || {
        let journal = workers.journal();
        unfinished.iter().all(|n| journal.iter().any(|e| e.number == *n && e.pid != pid))
    });
    say(&format!("pgbouncer: what a killed worker ran had begun elsewhere after {taken:.1?}"));
    // Ten seconds are the bound; other tests have the machine at the same time.
    assert!(taken < Duration::from_secs(20), "{taken:?}");
    workers.wait("all are done", LONG, || {
        let stats = conn.broker().topics().expect("reads");
        stats.iter().map(|topic| topic.done).sum::<i64>() == 5060
    });
    let ended: BTreeSet<i64> =
        workers.journal().iter().filter(|e| e.what == "end").map(|e| e.number).collect();
    assert_eq!(ended.len(), 5060, "each was handled");
    let mut idle = conn;
    produce_many(&mut idle, [NewMessage::new("note", &9999)]).expect("produces");
    let noticed =
        workers.wait("an idle worker notices", LONG, || workers.journal().iter().any(|e| e.number == 9999));
    assert!(noticed < Duration::from_secs(3), "{noticed:?}");

    let log = workers.log();
    assert!(log.contains("does without a session of its own"), "{log}");
    assert!(!log.contains("prepared statement") && !log.contains(" ERROR "), "{log}");
    drop(workers);
    nothing_is_left_on_sessions(&url);
    assert!(idle.broker().restrict(Duration::from_secs(2), true).is_err(), "it would restrict others");
}

/// Processes that take all the processor time that they get.
struct Hogs(Vec<std::process::Child>);

impl Hogs {
    fn start(number: usize) -> Self {
        let hog = || std::process::Command::new("sh").args(["-c", "while :; do :; done"]).spawn();
        Self((0..number).map(|_| hog().expect("starts")).collect())
    }
}

impl Drop for Hogs {
    fn drop(&mut self) {
        for hog in &mut self.0 {
            let _ = hog.kill();
            let _ = hog.wait();
        }
    }
}

/// Six workers that cannot see each other's lock files, and far more to do than the machine can.
#[test]
fn nobody_is_taken_for_dead_behind_pgbouncer_because_it_is_slow() {
    let Some(seconds) = std::env::var_os("TASKMQ_TEST_LONG").map(|_| 60) else {
        say("SKIPPED, no machine was overloaded: TASKMQ_TEST_LONG=1 does it");
        return;
    };
    let server = Postgres::start().expect("PostgreSQL starts");
    server.create_database("app").expect("makes a database");
    let pooler = Pgbouncer::before(&server).expect("pgbouncer starts");
    let url = pooler.url("app");
    let mut conn = AnyConnection::establish(&url).expect("connects");
    execute(&mut conn, migration::up(taskmq_core::Backend::Postgres));
    let mut workers = Workers::new(&url);
    for _ in 0..6 {
        workers.start_elsewhere(&["--concurrency", "4"]);
    }
    workers.wait("all are ready", LONG, || workers.log().matches("worker ready").count() == 6);
    let hogs = Hogs::start(40);
    let began = std::time::Instant::now();
    let mut produced = 0;
    while began.elapsed() < Duration::from_secs(seconds) {
        produced += 500;
        produce_many(&mut conn, (produced - 500..produced).map(|n| NewMessage::new("note", &n)))
            .expect("produces");
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(hogs);
    let log = workers.log();
    let died = log.matches(" died;").count();
    say(&format!(
        "pgbouncer: {died} of 6 workers were taken for dead within {seconds} s beside 40 busy processes, {produced} messages"
    ));
    assert_eq!(died, 0, "{log}");
}

/// The sessions that the pooler lends to everybody, held all at once so that each is looked at.
fn nothing_is_left_on_sessions(url: &str) {
    let mut held = Vec::new();
    for _ in 0..10 {
        let mut conn = AnyConnection::establish(url).expect("connects");
        execute(
            &mut conn,
            "BEGIN;
             DO $$ BEGIN
                ASSERT current_setting('enable_seqscan') = 'on', 'enable_seqscan is left';
                ASSERT current_setting('synchronous_commit') = 'on', 'synchronous_commit is left';
                ASSERT current_setting('idle_session_timeout') = '0', 'idle_session_timeout is left';
                ASSERT current_setting('idle_in_transaction_session_timeout') = '0', 'a time-out is left';
                ASSERT NOT EXISTS (SELECT 1 FROM pg_prepared_statements), 'a prepared statement is left';
                ASSERT NOT EXISTS (SELECT 1 FROM pg_listening_channels()), 'a listener is left';
                ASSERT NOT EXISTS (SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()), 'a lock is left';
             END $$",
        );
        held.push(conn);
    }
}
