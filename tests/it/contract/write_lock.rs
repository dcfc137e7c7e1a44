//! SQLite's one write lock, which others have most of the time.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use diesel::dsl::sql;
use diesel::sql_types::BigInt;
use taskmq_core::{AnyConnection, Backend, BrokerConnection, Error, NewMessage, produce, produce_many};
use taskmq_tests::databases::{TestDatabase, fresh, try_execute};

/// In turns: 400 ms together, a multiple of those after which SQLite itself asks again, so that it would come at the same
/// moment of each turn.
const TAKEN: Duration = Duration::from_millis(380);
const FREE: Duration = Duration::from_millis(20);

fn write_in_turns(db: &TestDatabase, over: &AtomicBool) {
    let mut conn = db.connect();
    while !over.load(Ordering::Relaxed) {
        try_execute(&mut conn, "BEGIN IMMEDIATE").expect("has the lock");
        thread::sleep(TAKEN);
        try_execute(&mut conn, "COMMIT").expect("lets go of it");
        thread::sleep(FREE);
    }
}

#[test]
fn whoever_produces_finds_it_free() {
    let db = fresh(Backend::Sqlite);
    let over = AtomicBool::new(false);
    let mut conn = db.connect();
    thread::scope(|scope| {
        scope.spawn(|| write_in_turns(&db, &over));
        let produced = (0..4).try_for_each(|n| {
            produce(&mut conn, "t", &n)?;
            produce_many(&mut conn, [NewMessage::new("t", &n)]).map(drop)
        });
        over.store(true, Ordering::Relaxed);
        produced.expect("produces");
    });
    assert_eq!(conn.broker().topics().expect("reads")[0].ready, 8);
}

/// The host's own statements wait as long as they did.
#[test]
fn it_is_waited_for_as_long_as_the_connection_says() {
    let db = fresh(Backend::Sqlite);
    let mut holder = db.connect();
    try_execute(&mut holder, "BEGIN IMMEDIATE").expect("has the lock");
    let mut conn = db.connect();
    for millis in [0, 300] {
        try_execute(&mut conn, &format!("PRAGMA busy_timeout = {millis}")).expect("is set");
        let began = Instant::now();
        let refused = produce(&mut conn, "t", &1).expect_err("it is taken");
        assert!(matches!(refused, Error::Locked(_)), "{refused}");
        assert!(began.elapsed() >= Duration::from_millis(millis), "{:?}", began.elapsed());
        assert_eq!(busy_timeout(&mut conn), millis);
    }
    try_execute(&mut holder, "COMMIT").expect("lets go of it");
    produce(&mut conn, "t", &1).expect("produces");
    assert_eq!(busy_timeout(&mut conn), 300);
}

fn busy_timeout(conn: &mut AnyConnection) -> u64 {
    let AnyConnection::Sqlite(conn) = conn else { unreachable!("it is SQLite") };
    let timeout: i64 =
        diesel::select(sql::<BigInt>("timeout FROM pragma_busy_timeout")).get_result(conn).expect("reads");
    timeout.unsigned_abs()
}
