//! A session that lives on at the server when nobody uses it any more keeps its locks.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{MysqlConnection, PgConnection};
use taskmq_core::broker::{Peer, SessionId};
use taskmq_core::worker::Stop;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, NewMessage, Worker, produce_many, task_consumer,
};
use taskmq_core::{Error, Registry, produce};
use taskmq_tests::databases::TestDatabase;
use taskmq_tests::proxy::Proxy;

use super::{claim, done, ids, worker};

each_server! {
    abandoned_sessions_are_ended_and_no_others,
    what_a_dead_workers_session_has_locked_is_rescued,
    who_connects_anew_holds_nobody_up,
    a_transaction_ends_with_its_worker,
}

/// The server may have sessions of other tests' workers.
fn some_id() -> i64 {
    fastrand::i64(1..)
}

fn marked(db: &TestDatabase, worker_id: i64) -> (AnyConnection, SessionId) {
    let mut conn = db.connect();
    let id = conn.broker().session().expect("asks").expect("has one");
    conn.broker().mark_session(worker_id).expect("marks");
    (conn, id)
}

fn lives(conn: &mut AnyConnection) -> bool {
    conn.broker().schema_version().is_ok()
}

fn abandoned_sessions_are_ended_and_no_others(db: &TestDatabase) {
    let (this, other) = (some_id(), some_id());
    let [(mut abandoned, gone), (mut used, id)] = [marked(db, this), marked(db, this)];
    let (mut foreign, others) = marked(db, other);
    let (mut ender, own) = marked(db, this);
    assert_ne!(id, own);
    let mut found = ender.broker().marked_sessions(this).expect("finds");
    found.sort_unstable();
    let mut both = [gone, id];
    both.sort_unstable();
    assert_eq!(found, both);
    ender.broker().end_sessions(this, &[gone, others]).expect("ends");
    // The server says so before the session has let go of what it held.
    wait("it has ended", || ender.broker().marked_sessions(this).expect("finds") == [id]);
    assert!(!lives(&mut abandoned));
    assert!(lives(&mut used) && lives(&mut foreign) && lives(&mut ender));
    assert!(ender.broker().marked_sessions(some_id()).expect("finds").is_empty());
}

/// A worker that claimed one message, and its session with the acknowledgement in a transaction that nobody commits.
fn stuck(db: &TestDatabase, conn: &mut AnyConnection) -> (i64, AnyConnection) {
    produce_many(conn, (0..2).map(|n| NewMessage::new("t", &n))).expect("produces");
    let w = worker(conn, some_id());
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    let (mut session, _) = marked(db, w.id);
    session.broker().begin().expect("begins");
    assert!(session.broker().ack(&w, &done(&claimed[0])).expect("acknowledges"));
    (w.id, session)
}

fn what_a_dead_workers_session_has_locked_is_rescued(db: &TestDatabase) {
    let mut conn = db.connect();
    let (id, mut session) = stuck(db, &mut conn);
    let began = Instant::now();
    let found = conn.broker().marked_sessions(id).expect("finds");
    conn.broker().end_sessions(id, &found).expect("ends");
    let dead = Peer { id, beat: Some(0), lock_free: Some(true) };
    assert_eq!(conn.broker().rescue(&dead).expect("rescues"), 1);
    assert!(began.elapsed() < Duration::from_secs(10), "nothing was waited for");
    assert!(session.broker().commit().is_err(), "nothing of it happened");
}

fn who_connects_anew_holds_nobody_up(db: &TestDatabase) {
    let mut conn = db.connect();
    let (id, _session) = stuck(db, &mut conn);
    let began = Instant::now();
    assert!(conn.broker().reconcile(id, &[]).is_err(), "it cannot know what the open transaction will do");
    let second = worker(&mut conn, some_id());
    assert_eq!(ids(&claim(conn.broker(), &second, &["t"], 2)).len(), 1, "others claim");
    assert!(began.elapsed() < Duration::from_secs(10), "nobody waited for the transaction");
}

/// How often the handler wrote, and how often it began.
static WRITTEN: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];
static BEGUN: [AtomicUsize; 2] = [AtomicUsize::new(0), AtomicUsize::new(0)];

/// The first to write goes on when the second has written the same row, for which it must have been undone.
fn write(server: usize, conn: &mut impl SimpleConnection) -> diesel::QueryResult<()> {
    BEGUN[server].fetch_add(1, Ordering::SeqCst);
    conn.batch_execute("INSERT INTO written (number) VALUES (1)")?;
    WRITTEN[server].fetch_add(1, Ordering::SeqCst);
    wait("the second writes", || WRITTEN[server].load(Ordering::SeqCst) == 2);
    Ok(())
}

fn wait(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(40);
    while !is_so() {
        assert!(Instant::now() < until, "{what}: waited in vain");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[task_consumer(topic = "write")]
fn write_postgres(_n: u32, conn: &mut PgConnection) -> diesel::QueryResult<()> {
    write(0, conn)
}

#[task_consumer(topic = "write")]
fn write_mysql(_n: u32, conn: &mut MysqlConnection) -> diesel::QueryResult<()> {
    write(1, conn)
}

fn a_transaction_ends_with_its_worker(db: &TestDatabase) {
    let (server, consumer) = match db.backend() {
        Backend::Postgres => (0, write_postgres::consumer()),
        _ => (1, write_mysql::consumer()),
    };
    db.execute("CREATE TABLE written (number INTEGER PRIMARY KEY)");
    let mut conn = db.connect();
    produce(&mut conn, "write", &1).expect("produces");
    let proxy = Proxy::before(db.url()).expect("a proxy");
    let worker = |url: &str| {
        let registry = Registry::default().with(consumer.clone()).expect("one");
        Worker::new(registry, url).handle_signals(false).concurrency(1)
    };
    let (cut_off, other) = (worker(proxy.url()), worker(db.url()));
    let stops = [cut_off.stop_handle(), other.stop_handle()];
    std::thread::scope(|scope| {
        let cut_off = scope.spawn(|| cut_off.run());
        wait("it is in its transaction", || WRITTEN[server].load(Ordering::SeqCst) == 1);
        proxy.swallow(true);
        let other = scope.spawn(|| other.run());
        wait("it is done", || db.connect().broker().topics().expect("reads")[0].done == 1);
        proxy.swallow(false);
        stops.iter().for_each(Stop::stop);
        for worker in [cut_off, other] {
            let ended = worker.join().expect("no panic");
            assert!(matches!(ended, Ok(_) | Err(Error::WorkerLost)), "{ended:?}");
        }
    });
    assert_eq!(BEGUN[server].load(Ordering::SeqCst), 2);
}
