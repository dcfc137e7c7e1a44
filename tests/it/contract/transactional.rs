//! Consumers whose writes commit with their acknowledgement, or not at all.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use diesel::connection::{SimpleConnection, TransactionManager};
use diesel::prelude::*;
use diesel::{MysqlConnection, PgConnection, SqliteConnection};
use taskmq_core::broker::MessageFilter;
use taskmq_core::worker::Ended;
use taskmq_core::{BrokerConnection, Context, Failure, State, produce, task_consumer};
use taskmq_tests::databases::{self, TestDatabase};

use super::worker::{registry, run, worker};

each_database! {
    a_transactional_consumer_commits_with_its_ack_or_not_at_all,
    a_transaction_that_is_over_acknowledges_nothing,
    what_a_handler_leaves_open_is_no_other_handlers,
}

const EFFECT: &str = "INSERT INTO effects (number) VALUES (1)";

fn effect(conn: &mut impl SimpleConnection, fail: bool) -> Result<(), Failure> {
    conn.batch_execute(EFFECT)?;
    if fail { Err(Failure::dead("after its effect")) } else { Ok(()) }
}

#[task_consumer(topic = "effect")]
pub(super) fn effect_sqlite(fail: bool, conn: &mut SqliteConnection) -> Result<(), Failure> {
    effect(conn, fail)
}

#[task_consumer(topic = "effect")]
fn effect_postgres(fail: bool, conn: &mut PgConnection) -> Result<(), Failure> {
    effect(conn, fail)
}

#[task_consumer(topic = "effect")]
pub(super) fn effect_mysql(fail: bool, conn: &mut MysqlConnection) -> Result<(), Failure> {
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
