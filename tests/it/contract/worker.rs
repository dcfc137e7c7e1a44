//! The worker in this process: outcomes, order of stopping, transactional consumers.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::{MysqlConnection, PgConnection, SqliteConnection};
use taskmq_core::broker::MessageFilter;
use taskmq_core::worker::Ended;
use taskmq_core::{
    BrokerConnection, Context, Error, Failure, NewMessage, Registry, State, Worker, produce, task_consumer,
};
use taskmq_tests::databases::{self, TestDatabase};

each_database! {
    every_kind_of_outcome_is_written,
    an_invalid_payload_is_dead_at_once_and_hurts_nobody,
    a_retry_comes_after_its_backoff,
    a_handler_that_takes_too_long_is_given_up,
    state_and_context_reach_the_handler,
    an_async_handler_runs_many_at_once,
    sync_and_async_handlers_share_one_place,
    a_stopping_worker_finishes_what_runs_and_hands_back_the_rest,
    a_transactional_consumer_commits_with_its_ack_or_not_at_all,
    a_transaction_that_is_over_acknowledges_nothing,
    what_a_handler_leaves_open_is_no_other_handlers,
    what_is_missing_is_said_before_the_first_message,
}

fn run(db: &TestDatabase, registry: Registry) {
    let ended = worker(db, registry).until_empty(true).run().expect("runs");
    assert_eq!(ended, Ended::Finished);
}

fn worker(db: &TestDatabase, registry: Registry) -> Worker {
    Worker::new(registry, db.url()).handle_signals(false).concurrency(4)
}

fn registry(consumers: impl IntoIterator<Item = taskmq_core::Consumer>) -> Registry {
    consumers.into_iter().try_fold(Registry::default(), Registry::with).expect("different topics")
}

#[task_consumer(topic = "outcome", max_attempts = 2, backoff = "1ms")]
fn outcome(what: String) -> Result<String, Failure> {
    match &*what {
        "good" => Ok("fine 😀".to_owned()),
        "error" => Err(std::io::Error::other("broken \u{0}\u{1b}[31m"))?,
        "dead" => Err(Failure::dead("hopeless")),
        _ => panic!("unknown: {what}"),
    }
}

fn every_kind_of_outcome_is_written(db: &TestDatabase) {
    let mut conn = db.connect();
    let [good, error, dead, panic] = ["good", "error", "dead", "other"]
        .map(|what| outcome::message(&what.to_owned()).produce(&mut conn).expect("produces").id());
    run(db, registry([outcome::consumer()]));
    let mut read = |id| conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!((read(good).state, read(good).result.expect("a result").get()), (State::Done, "\"fine 😀\""));
    assert_eq!((read(error).state, read(error).attempts), (State::Dead, 2));
    assert_eq!(
        read(error).error.as_deref(),
        Some("broken \u{fffd}\u{fffd}[31m"),
        "what no terminal should see is gone"
    );
    assert_eq!(
        (read(dead).state, read(dead).attempts, read(dead).error.as_deref()),
        (State::Dead, 1, Some("hopeless"))
    );
    assert_eq!((read(panic).state, read(panic).attempts), (State::Dead, 2));
    let failures = conn.broker().failures(panic).expect("reads");
    assert!(
        failures.iter().all(|f| f.kind == "panic"
            && f.error.contains("unknown: other")
            && f.error.contains("worker.rs"))
    );
}

#[task_consumer(topic = "number")]
fn number(n: u8) -> u8 {
    n
}

fn an_invalid_payload_is_dead_at_once_and_hurts_nobody(db: &TestDatabase) {
    let mut conn = db.connect();
    for payload in ["256", "\"text\"", "{}", "null", "-1"] {
        db.execute(&format!("INSERT INTO taskmq_messages (topic, payload) VALUES ('number', '{payload}')"));
    }
    let good = produce(&mut conn, "number", &255).expect("produces");
    run(db, registry([number::consumer()]));
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead), (1, 5));
    assert_eq!(conn.broker().message(good).expect("reads").expect("is there").state, State::Done);
    let failure = conn.broker().failures(1).expect("reads").remove(0);
    assert_eq!(failure.kind, "payload");
    assert!(failure.error.contains("u8") && failure.error.contains("256"), "{}", failure.error);
}

#[task_consumer(topic = "backoff", max_attempts = 3, backoff = "200ms..10s")]
fn backoff(_n: u8) -> Result<(), &'static str> {
    Err("no")
}

fn a_retry_comes_after_its_backoff(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = backoff::message(&1).produce(&mut conn).expect("produces").id();
    run(db, registry([backoff::consumer()]));
    let at: Vec<_> = conn.broker().failures(id).expect("reads").iter().map(|f| f.failed_at).collect();
    // By the database's clock: 200 and 400 ms, each with a factor from 0.5 to 1.5; later by what a busy machine needs.
    for (index, (least, most)) in [(100, 1300), (200, 1600)].into_iter().enumerate() {
        let waited = (at[index + 1] - at[index]).num_milliseconds();
        assert!(waited >= least - 2 && waited <= most, "{waited} ms before attempt {}", index + 2);
    }
}

#[task_consumer(topic = "hang", timeout = "200ms", max_attempts = 1)]
fn hang(_n: u8, ctx: &Context) {
    while !ctx.is_cancelled() {
        std::thread::yield_now();
    }
}

fn a_handler_that_takes_too_long_is_given_up(db: &TestDatabase) {
    let mut conn = db.connect();
    for _ in 0..5 {
        hang::message(&1).produce(&mut conn).expect("produces");
    }
    let good = number::message(&1).produce(&mut conn).expect("produces").id();
    let ended =
        worker(db, registry([hang::consumer(), number::consumer()])).concurrency(1).until_empty(true).run();
    assert_eq!(ended.expect("runs"), Ended::Finished);
    assert_eq!(conn.broker().message(good).expect("reads").expect("is there").state, State::Done);
    let hung = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((&*hung.topic, hung.dead), ("hang", 5));
    assert_eq!(conn.broker().failures(1).expect("reads").remove(0).kind, "timeout");
}

struct Offset(i64);

#[task_consumer(topic = "stateful")]
fn stateful(ctx: &Context, n: i64, offset: &Offset) -> (i64, u32, Option<String>) {
    (n + offset.0, ctx.attempt(), ctx.headers().get("who").cloned())
}

fn state_and_context_reach_the_handler(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = stateful::message(&2).header("who", "me").produce(&mut conn).expect("produces").id();
    worker(db, registry([stateful::consumer()])).state(Offset(40)).until_empty(true).run().expect("runs");
    let result = conn.broker().message(id).expect("reads").expect("is there").result.expect("a result");
    assert_eq!(result.get(), r#"[42,1,"me"]"#);
}

#[task_consumer(topic = "nap")]
async fn nap(millis: u64, ctx: &Context) -> u32 {
    // Without tokio here: yields until the time is over.
    let until = Instant::now() + Duration::from_millis(millis);
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if Instant::now() >= until { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    ctx.attempt()
}

fn an_async_handler_runs_many_at_once(db: &TestDatabase) {
    let mut conn = db.connect();
    for _ in 0..50 {
        nap::message(&200).produce(&mut conn).expect("produces");
    }
    let began = Instant::now();
    worker(db, registry([nap::consumer()])).concurrency(50).until_empty(true).run().expect("runs");
    assert_eq!(conn.broker().topics().expect("reads")[0].done, 50);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "one after the other they need ten seconds: {:?}",
        began.elapsed()
    );
}

fn sync_and_async_handlers_share_one_place(db: &TestDatabase) {
    let mut conn = db.connect();
    for n in 0..5 {
        nap::message(&1).produce(&mut conn).expect("produces");
        number::message(&n).produce(&mut conn).expect("produces");
    }
    let worker = worker(db, registry([nap::consumer(), number::consumer()])).concurrency(1).until_empty(true);
    let (ends, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || ends.send(worker.run().expect("runs")));
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(Ended::Finished), "neither keeps the place");
    thread.join().expect("no panic").expect("was heard");
    let stats = conn.broker().topics().expect("reads");
    assert!(stats.iter().all(|stats| stats.done == 5), "{stats:?}");
}

static STARTED: AtomicU32 = AtomicU32::new(0);

#[task_consumer(topic = "gate")]
fn gate(_n: u32) {
    STARTED.fetch_add(1, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(500));
}

fn a_stopping_worker_finishes_what_runs_and_hands_back_the_rest(db: &TestDatabase) {
    let mut conn = db.connect();
    for n in 0..40 {
        gate::message(&n).produce(&mut conn).expect("produces");
    }
    let worker = worker(db, registry([gate::consumer()]));
    let stop = worker.stop_handle();
    let before = STARTED.load(Ordering::SeqCst);
    let running = std::thread::spawn(move || worker.run());
    while STARTED.load(Ordering::SeqCst) < before + 1 {
        std::thread::yield_now();
    }
    stop.stop();
    assert_eq!(running.join().expect("joins").expect("runs"), Ended::Finished);
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.running, stats.ready + stats.done), (0, 40));
    assert!(stats.done >= 1 && stats.ready >= 1, "{stats:?}");
    let waiting = taskmq_core::broker::MessageFilter { topic: None, state: Some(State::Ready), limit: 100 };
    assert!(
        conn.broker().messages(&waiting).expect("lists").iter().all(|m| m.attempts == 0),
        "no attempt was used up"
    );
}

const EFFECT: &str = "INSERT INTO effects (number) VALUES (1)";

fn effect(conn: &mut impl SimpleConnection, fail: bool) -> Result<(), Failure> {
    conn.batch_execute(EFFECT)?;
    if fail { Err(Failure::dead("after its effect")) } else { Ok(()) }
}

#[task_consumer(topic = "effect")]
fn effect_sqlite(fail: bool, conn: &mut SqliteConnection) -> Result<(), Failure> {
    effect(conn, fail)
}

#[task_consumer(topic = "effect")]
fn effect_postgres(fail: bool, conn: &mut PgConnection) -> Result<(), Failure> {
    effect(conn, fail)
}

#[task_consumer(topic = "effect")]
fn effect_mysql(fail: bool, conn: &mut MysqlConnection) -> Result<(), Failure> {
    effect(conn, fail)
}

fn a_transactional_consumer_commits_with_its_ack_or_not_at_all(db: &TestDatabase) {
    let consumer = match db.backend() {
        taskmq_core::Backend::Sqlite => effect_sqlite::consumer(),
        taskmq_core::Backend::Postgres => effect_postgres::consumer(),
        taskmq_core::Backend::Mysql => effect_mysql::consumer(),
    };
    db.execute("CREATE TABLE effects (number INTEGER NOT NULL)");
    let mut conn = db.connect();
    for n in 0..30 {
        produce(&mut conn, "effect", &(n % 3 == 0)).expect("produces");
    }
    run(db, registry([consumer]));
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead), (20, 10));
    // Another row than 20 would make this table's constraint fail.
    db.execute("CREATE TABLE effect_count (number INTEGER NOT NULL CHECK (number = 20))");
    db.execute("INSERT INTO effect_count SELECT count(*) FROM effects");
}

/// Goes on as if its transaction were open.
fn end_early(conn: &mut impl SimpleConnection) -> diesel::QueryResult<()> {
    conn.batch_execute("ROLLBACK")
}

#[task_consumer(topic = "early", max_attempts = 1)]
fn early_sqlite(_n: u32, conn: &mut SqliteConnection) -> diesel::QueryResult<()> {
    end_early(conn)
}

#[task_consumer(topic = "early", max_attempts = 1)]
fn early_postgres(_n: u32, conn: &mut PgConnection) -> diesel::QueryResult<()> {
    end_early(conn)
}

#[task_consumer(topic = "early", max_attempts = 1)]
fn early_mysql(_n: u32, conn: &mut MysqlConnection) -> diesel::QueryResult<()> {
    end_early(conn)
}

fn a_transaction_that_is_over_acknowledges_nothing(db: &TestDatabase) {
    let consumer = match db.backend() {
        taskmq_core::Backend::Sqlite => early_sqlite::consumer(),
        taskmq_core::Backend::Postgres => early_postgres::consumer(),
        taskmq_core::Backend::Mysql => early_mysql::consumer(),
    };
    let mut conn = db.connect();
    let id = produce(&mut conn, "early", &1).expect("produces");
    run(db, registry([consumer]));
    let message = conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!(message.state, State::Dead);
    let error = message.error.unwrap_or_default();
    assert!(error.contains("was over before its end"), "{error}");
}

/// Leaves a transaction in each of the ways that there are, or has its effect.
fn leave<C>(what: &str, conn: &mut C) -> Result<(), Failure>
where
    C: Connection + SimpleConnection,
{
    conn.batch_execute(EFFECT)?;
    match what {
        "by a panic" => conn.transaction(|conn| {
            conn.batch_execute(EFFECT)?;
            panic!("within a transaction");
        }),
        "open" => Ok(C::TransactionManager::begin_transaction(conn)?),
        "ended" => Ok(conn.batch_execute("ROLLBACK")?),
        _ => Ok(()),
    }
}

#[task_consumer(topic = "leave", max_attempts = 1)]
fn leave_sqlite(what: String, conn: &mut SqliteConnection) -> Result<(), Failure> {
    leave(&what, conn)
}

#[task_consumer(topic = "leave", max_attempts = 1)]
fn leave_postgres(what: String, conn: &mut PgConnection) -> Result<(), Failure> {
    leave(&what, conn)
}

#[task_consumer(topic = "leave", max_attempts = 1)]
fn leave_mysql(what: String, conn: &mut MysqlConnection) -> Result<(), Failure> {
    leave(&what, conn)
}

fn what_a_handler_leaves_open_is_no_other_handlers(db: &TestDatabase) {
    let consumer = match db.backend() {
        taskmq_core::Backend::Sqlite => leave_sqlite::consumer(),
        taskmq_core::Backend::Postgres => leave_postgres::consumer(),
        taskmq_core::Backend::Mysql => leave_mysql::consumer(),
    };
    db.execute("CREATE TABLE effects (number INTEGER NOT NULL)");
    let mut conn = db.connect();
    let all: Vec<_> = ["by a panic", "", "open", "", "ended", ""]
        .map(|what| produce(&mut conn, "leave", &what).expect("produces"))
        .into();
    let began = Instant::now();
    // One after the other, each on the connection of the one before if there is nothing wrong with that.
    let ended = worker(db, registry([consumer])).concurrency(1).until_empty(true).run().expect("runs");
    assert_eq!(ended, Ended::Finished);
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "nobody waited for what was left: {:?}",
        began.elapsed()
    );
    let mut errors = all.into_iter().map(|id| {
        let message = conn.broker().message(id).expect("reads").expect("is there");
        assert_eq!(message.attempts, 1, "{message:?}");
        (message.state, message.error.unwrap_or_default())
    });
    for words in ["within a transaction", "a transaction was open", "was over before its end"] {
        let (state, error) = errors.next().expect("six");
        assert!(state == State::Dead && error.contains(words), "{words}: {state} {error}");
        assert_eq!(errors.next().expect("six"), (State::Done, String::new()), "after {words}");
    }
    // Another row than 3 would make this table's constraint fail.
    db.execute("CREATE TABLE effect_count (number INTEGER NOT NULL CHECK (number = 3))");
    db.execute("INSERT INTO effect_count SELECT count(*) FROM effects");
}

diesel::table! {
    rows_of_two (id) {
        id -> Integer,
        number -> Integer,
    }
}

/// Adds to two rows, the second once both handlers have the first that they want.
fn cross<C: SimpleConnection>(
    server: usize,
    rows: [i32; 2],
    conn: &mut C,
    lock: fn(&mut C, i32) -> diesel::QueryResult<i32>,
) -> diesel::QueryResult<()> {
    static HALF: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];
    let mut add = |row| {
        lock(conn, row)?;
        conn.batch_execute(&format!("UPDATE rows_of_two SET number = number + 1 WHERE id = {row}"))
    };
    add(rows[0])?;
    HALF[server].fetch_add(1, Ordering::SeqCst);
    while HALF[server].load(Ordering::SeqCst) < 2 {
        std::thread::sleep(Duration::from_millis(1));
    }
    add(rows[1])
}

/// By a range of one, which the server has begun to answer when it comes to the lock.
#[diesel::dsl::auto_type]
fn pick(row: i32) -> _ {
    rows_of_two::table
        .filter(rows_of_two::id.gt(row - 1_i32))
        .filter(rows_of_two::id.lt(row + 1_i32))
        .select(rows_of_two::number)
}

#[task_consumer(topic = "cross", max_attempts = 1, timeout = "60s")]
fn cross_postgres(rows: [i32; 2], conn: &mut PgConnection) -> diesel::QueryResult<()> {
    cross(0, rows, conn, |conn, row| pick(row).for_update().first(conn))
}

/// The statement that fails stays prepared, and is the one that the second run begins with.
#[task_consumer(topic = "cross", max_attempts = 1, timeout = "60s")]
fn cross_mysql(rows: [i32; 2], conn: &mut MysqlConnection) -> diesel::QueryResult<()> {
    cross(1, rows, conn, |conn, row| pick(row).for_update().first(conn))
}

fn a_deadlock_costs_no_attempt(db: &TestDatabase, consumer: taskmq_core::Consumer) {
    db.execute("CREATE TABLE rows_of_two (id INTEGER PRIMARY KEY, number INTEGER NOT NULL)");
    db.execute("INSERT INTO rows_of_two VALUES (1, 0), (2, 0)");
    let mut conn = db.connect();
    for rows in [[1, 2], [2, 1]] {
        produce(&mut conn, "cross", &rows).expect("produces");
    }
    run(db, registry([consumer]));
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead), (2, 0));
    // Another number than 2 would make this table's constraint fail.
    db.execute("CREATE TABLE both_added (number INTEGER NOT NULL CHECK (number = 2))");
    db.execute("INSERT INTO both_added SELECT number FROM rows_of_two");
}

#[test]
fn a_deadlock_costs_no_attempt_on_postgres() {
    a_deadlock_costs_no_attempt(
        &databases::fresh(taskmq_core::Backend::Postgres),
        cross_postgres::consumer(),
    );
}

#[test]
fn a_deadlock_costs_no_attempt_on_mariadb() {
    a_deadlock_costs_no_attempt(&databases::fresh(taskmq_core::Backend::Mysql), cross_mysql::consumer());
}

/// The runs of each server's handler.
static CUT_OFF: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// Ends its own session in its first run, as a server does that is started anew, and then writes.
#[task_consumer(topic = "cut-off", max_attempts = 1)]
fn cut_off_postgres(number: i32, conn: &mut PgConnection) -> Result<(), Failure> {
    if CUT_OFF[0].fetch_add(1, Ordering::SeqCst) == 0 {
        let _ = conn.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())");
    }
    conn.batch_execute(&format!("INSERT INTO written_once VALUES ({number})")).map_err(Failure::new)
}

#[task_consumer(topic = "cut-off", max_attempts = 1)]
fn cut_off_mysql(number: i32, conn: &mut MysqlConnection) -> Result<(), Failure> {
    if CUT_OFF[1].fetch_add(1, Ordering::SeqCst) == 0 {
        let _ = conn.batch_execute("KILL CONNECTION CONNECTION_ID()");
    }
    conn.batch_execute(&format!("INSERT INTO written_once VALUES ({number})")).map_err(Failure::new)
}

fn a_lost_connection_costs_no_attempt(db: &TestDatabase, consumer: taskmq_core::Consumer) {
    db.execute("CREATE TABLE written_once (number INTEGER PRIMARY KEY)");
    let mut conn = db.connect();
    produce(&mut conn, "cut-off", &7).expect("produces");
    run(db, registry([consumer]));
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead), (1, 0));
    db.execute("CREATE TABLE is_seven (number INTEGER NOT NULL CHECK (number = 7))");
    db.execute("INSERT INTO is_seven SELECT sum(number) FROM written_once");
}

#[test]
fn a_lost_connection_costs_no_attempt_on_postgres() {
    let db = databases::fresh(taskmq_core::Backend::Postgres);
    a_lost_connection_costs_no_attempt(&db, cut_off_postgres::consumer());
    assert_eq!(CUT_OFF[0].load(Ordering::SeqCst), 2);
}

#[test]
fn a_lost_connection_costs_no_attempt_on_mariadb() {
    let db = databases::fresh(taskmq_core::Backend::Mysql);
    a_lost_connection_costs_no_attempt(&db, cut_off_mysql::consumer());
    assert_eq!(CUT_OFF[1].load(Ordering::SeqCst), 2);
}

/// Ends its own session whenever it runs.
#[task_consumer(topic = "ends", max_attempts = 1)]
fn ends_its_session(_n: u32, conn: &mut PgConnection) -> Result<(), Failure> {
    conn.batch_execute("SELECT pg_terminate_backend(pg_backend_pid())").map_err(Failure::new)
}

#[test]
fn who_ends_its_own_connection_again_and_again_has_failed() {
    let db = databases::fresh(taskmq_core::Backend::Postgres);
    let mut conn = db.connect();
    produce(&mut conn, "ends", &1).expect("produces");
    run(&db, registry([ends_its_session::consumer()]));
    assert_eq!(conn.broker().topics().expect("reads")[0].dead, 1);
}

static LATE: [AtomicU32; 2] = [AtomicU32::new(0), AtomicU32::new(0)];

/// Counts the end of its thread.
struct EndsLate;

impl Drop for EndsLate {
    fn drop(&mut self) {
        LATE[1].fetch_add(1, Ordering::SeqCst);
    }
}

thread_local! {
    static ENDS_LATE: EndsLate = const { EndsLate };
}

#[task_consumer(topic = "late", timeout = "200ms", max_attempts = 1)]
fn late(_n: u32, ctx: &Context, _conn: &mut SqliteConnection) -> Result<(), Failure> {
    ENDS_LATE.with(|_| ());
    LATE[0].fetch_add(1, Ordering::SeqCst);
    while !ctx.is_cancelled() {
        std::thread::sleep(Duration::from_millis(5));
    }
    Err(Failure::new("deadlock detected"))
}

#[test]
fn what_was_given_up_is_not_run_again_for_a_deadlock() {
    let db = databases::fresh(taskmq_core::Backend::Sqlite);
    let mut conn = db.connect();
    produce(&mut conn, "late", &1).expect("produces");
    run(&db, registry([late::consumer()]));
    let deadline = Instant::now() + Duration::from_secs(20);
    while LATE[1].load(Ordering::SeqCst) == 0 {
        assert!(Instant::now() < deadline, "its thread runs on");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(LATE[0].load(Ordering::SeqCst), 1);
    assert_eq!(conn.broker().topics().expect("reads")[0].dead, 1);
}

/// Keeps the file's write lock for longer than others wait for it.
#[task_consumer(topic = "hog", max_attempts = 1)]
fn hog(seconds: f64, conn: &mut SqliteConnection) -> Result<(), Failure> {
    conn.batch_execute("SELECT 1")?;
    std::thread::sleep(Duration::from_secs_f64(seconds));
    Ok(())
}

#[test]
fn a_transaction_that_cannot_begin_costs_no_attempt() {
    let db = databases::fresh(taskmq_core::Backend::Sqlite);
    let mut conn = db.connect();
    for seconds in [5.5, 0.0, 0.1, 0.2] {
        let priority = if seconds > 1.0 { 1 } else { 0 };
        hog::message(&seconds).priority(priority).produce(&mut conn).expect("produces");
    }
    run(&db, registry([hog::consumer()]));
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead), (4, 0), "no handler had begun that could have failed: {stats:?}");
    let filter = MessageFilter { topic: None, state: Some(State::Done), limit: 10 };
    let done = conn.broker().messages(&filter).expect("lists");
    assert!(done.iter().all(|message| message.attempts == 1), "{done:?}");
}

/// Has the file's write lock for most of its time-out.
#[task_consumer(topic = "brief", timeout = "2s", max_attempts = 1)]
fn brief(_n: u32, conn: &mut SqliteConnection) -> Result<(), Failure> {
    conn.batch_execute("SELECT 1")?;
    std::thread::sleep(Duration::from_millis(700));
    Ok(())
}

#[test]
fn the_time_for_which_a_transaction_is_waited_for_is_not_the_handlers() {
    let db = databases::fresh(taskmq_core::Backend::Sqlite);
    let mut conn = db.connect();
    for n in 0..6 {
        brief::message(&n).produce(&mut conn).expect("produces");
    }
    run(&db, registry([brief::consumer()]));
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead), (6, 0), "each ran for less than its time: {stats:?}");
}

fn what_is_missing_is_said_before_the_first_message(db: &TestDatabase) {
    let none = worker(db, Registry::default()).run();
    assert!(matches!(none, Err(Error::Configuration(_))));
    let stateless = worker(db, registry([stateful::consumer()])).run().expect_err("has no state").to_string();
    assert!(stateless.contains("Offset") && stateless.contains("main_with"), "{stateless}");
    let wrong = if db.backend() == taskmq_core::Backend::Sqlite {
        effect_mysql::consumer()
    } else {
        effect_sqlite::consumer()
    };
    let wrong = worker(db, registry([wrong])).run().expect_err("is of another database").to_string();
    assert!(wrong.contains("takes a connection to"), "{wrong}");
    let twice = Registry::default()
        .with(number::consumer())
        .expect("first")
        .with(number::consumer())
        .expect_err("second");
    assert!(matches!(twice, Error::DuplicateConsumer { .. }));
    let unknown =
        registry([number::consumer()]).only(&["typo".to_owned()]).expect_err("no such topic").to_string();
    assert!(unknown.contains("typo") && unknown.contains("number"), "{unknown}");
    let empty = databases::empty(db.backend());
    let missing = Worker::new(registry([number::consumer()]), empty.url())
        .handle_signals(false)
        .run()
        .expect_err("no tables");
    assert!(matches!(missing, Error::NotMigrated(_)), "{missing:?}");
    assert!(
        NewMessage::new("t", &1)
            .produce(&mut empty.connect())
            .expect_err("no tables")
            .to_string()
            .contains("diesel migration run")
    );
}
