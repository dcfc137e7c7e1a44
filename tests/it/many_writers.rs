//! One SQLite file with many writers: workers, producers in each of the ways that a host may have, and whoever looks on.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::sql;
use diesel::sql_types::{BigInt, Text};
use diesel::{Connection, RunQueryDsl, SqliteConnection};
use taskmq_core::overview::Overview;
use taskmq_core::{Backend, BrokerConnection, Error, NewMessage, Result, produce, produce_many};
use taskmq_tests::databases::{TestDatabase, fresh};

use crate::outages::say;
use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(60);
/// What `docs/performance.md` says of how large the write-ahead log gets, with room for a reader that stays.
const WAL_BYTES: u64 = 64 << 20;

/// How a host produces a message of this number.
type Way = fn(&mut SqliteConnection, i64) -> Result<()>;

/// A host's own connection, which writes to a table of the host's as well.
fn host_connection(db: &TestDatabase) -> SqliteConnection {
    let mut conn = SqliteConnection::establish(db.url()).expect("connects");
    conn.batch_execute("PRAGMA busy_timeout = 5000").expect("is set");
    conn
}

fn order(conn: &mut SqliteConnection, number: i64) -> Result<()> {
    diesel::sql_query("INSERT INTO orders (number) VALUES (?)").bind::<BigInt, _>(number).execute(conn)?;
    produce(conn, "note", &number).map(drop)
}

/// As taskmq's documentation asks for it.
fn in_an_immediate_transaction(conn: &mut SqliteConnection, number: i64) -> Result<()> {
    conn.immediate_transaction(|conn| order(conn, number))
}

fn by_itself(conn: &mut SqliteConnection, number: i64) -> Result<()> {
    produce(conn, "note", &number).map(drop)
}

fn several(conn: &mut SqliteConnection, number: i64) -> Result<()> {
    let messages = [NewMessage::new("note", &number)];
    produce_many(conn, messages).map(drop)
}

/// Reads first, so that SQLite refuses it at once when somebody else has written since.
fn after_it_has_read(conn: &mut SqliteConnection, number: i64) -> Result<()> {
    conn.transaction(|conn| {
        let _orders: i64 = diesel::select(sql::<BigInt>("(SELECT count(*) FROM orders)")).get_result(conn)?;
        order(conn, number)
    })
}

/// Produces until it is over; gives how many it did, and how often it was refused.
fn producer(db: &TestDatabase, over: &AtomicBool, first: i64, way: Way) -> (i64, usize) {
    let mut conn = host_connection(db);
    let (mut number, mut refused) = (first, 0);
    while !over.load(Ordering::Relaxed) {
        match way(&mut conn, number) {
            Ok(()) => number += 1,
            Err(error @ Error::Locked(_)) => {
                assert!(error.to_string().contains("immediate_transaction"), "{error}");
                refused += 1;
            }
            Err(error) => panic!("{error}"),
        }
        thread::sleep(Duration::from_millis(2));
    }
    (number - first, refused)
}

fn look_on(db: &TestDatabase, over: &AtomicBool) -> u64 {
    let mut conn = db.connect();
    let mut largest = 0;
    while !over.load(Ordering::Relaxed) {
        Overview::read(conn.broker()).expect("reads");
        largest = largest.max(std::fs::metadata(format!("{}-wal", db.url())).map_or(0, |file| file.len()));
        thread::sleep(Duration::from_millis(200));
    }
    largest
}

#[test]
fn they_take_turns() {
    const WAYS: [(&str, Way); 8] = [
        ("in an immediate transaction", in_an_immediate_transaction),
        ("in an immediate transaction", in_an_immediate_transaction),
        ("in an immediate transaction", in_an_immediate_transaction),
        ("by itself", by_itself),
        ("by itself", by_itself),
        ("several at once", several),
        ("after it has read", after_it_has_read),
        ("after it has read", after_it_has_read),
    ];
    let length = Duration::from_secs(if std::env::var_os("TASKMQ_TEST_LONG").is_some() { 60 } else { 4 });
    let db = fresh(Backend::Sqlite);
    db.execute("CREATE TABLE orders (number INTEGER PRIMARY KEY)");
    let mut workers = Workers::new(db.url());
    for _ in 0..4 {
        workers.start(&["--concurrency", "4"]);
    }
    let over = AtomicBool::new(false);
    let (produced, wal) = thread::scope(|scope| {
        let producers: Vec<_> = (0..)
            .zip(WAYS)
            .map(|(place, (_, way))| {
                scope.spawn({
                    let (db, over) = (&db, &over);
                    move || producer(db, over, place * 1_000_000, way)
                })
            })
            .collect();
        let onlooker = scope.spawn(|| look_on(&db, &over));
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        let produced: Vec<_> = producers.into_iter().map(|one| one.join().expect("produces")).collect();
        (produced, onlooker.join().expect("looks on"))
    });
    let all: i64 = produced.iter().map(|(number, _)| number).sum();
    let began = Instant::now();
    let done = || {
        let stats = db.connect().broker().topics().expect("reads");
        stats.iter().find(|topic| topic.topic == "note").map_or(0, |topic| topic.done)
    };
    workers.wait("all are done", LONG, || done() == all);
    for ((way, _), (number, refused)) in WAYS.iter().zip(&produced) {
        say(&format!("{way}: {number} produced, {refused} refused"));
        assert!(*number > 0, "{way}: none was produced");
    }
    say(&format!("{all} were done {:.1?} after the last; the log was {} KiB", began.elapsed(), wal >> 10));
    // Whoever leaves the way to taskmq is never refused; the host's own BEGIN may be, for SQLite has no line for it.
    for ((way, _), (_, refused)) in WAYS.iter().zip(&produced).filter(|((way, _), _)| !way.contains("read")) {
        assert!(*refused == 0 || way.contains("transaction"), "{way}: {refused} refused");
    }
    assert!(wal < WAL_BYTES, "{wal} bytes");
    let mut conn = host_connection(&db);
    let integrity: String =
        diesel::select(sql::<Text>("(SELECT integrity_check FROM pragma_integrity_check)"))
            .get_result(&mut conn)
            .expect("is checked");
    assert_eq!(integrity, "ok");
    let mut ends = std::collections::BTreeMap::new();
    for entry in workers.journal().iter().filter(|entry| entry.what == "end") {
        *ends.entry(entry.number).or_insert(0) += 1;
    }
    assert_eq!(i64::try_from(ends.len()).expect("is small"), all, "each was handled");
    assert!(ends.values().all(|times| *times == 1), "some ran twice");
    let log = workers.log();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}
