//! Hosts whose clocks are wrong by an hour: the database's clock alone decides. And a database whose clock jumps.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use diesel::Connection;
use diesel::connection::SimpleConnection;
use taskmq_core::broker::{Limit, Rate};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, migration, produce_many};
use taskmq_tests::servers::{Kind, MariadbKind, PostgresKind, Server};

use crate::outages::say;
use crate::workers::Workers;

const LONG: Duration = Duration::from_secs(60);
const DELAY: Duration = Duration::from_secs(4);

fn libfaketime() -> PathBuf {
    let folders = std::fs::read_dir("/usr/lib").expect("a folder").flatten();
    let mut libraries = folders.map(|folder| folder.path().join("faketime/libfaketime.so.1"));
    libraries
        .find(|library| library.is_file())
        .expect("libfaketime: run `cargo xtask test`, which installs it")
}

/// A worker an hour ahead and one an hour behind: none runs anything early or late, and none takes another for dead.
fn an_hour_off<K: Kind>(backend: Backend) {
    let server = Server::<K>::start().expect("the server starts");
    server.create_database("app").expect("makes a database");
    let url = server.url("app");
    let mut conn = AnyConnection::establish(&url).expect("connects");
    match &mut conn {
        AnyConnection::Postgres(conn) => conn.batch_execute(migration::up(backend)),
        AnyConnection::Mysql(conn) => conn.batch_execute(migration::up(backend)),
        _ => unreachable!("these are servers"),
    }
    .expect("makes the tables");
    let library = libfaketime();
    let library = library.to_str().expect("a path in UTF-8");
    let mut workers = Workers::new(&url);
    for offset in ["+1h", "-1h"] {
        let clock = [("LD_PRELOAD", library), ("FAKETIME", offset), ("FAKETIME_DONT_FAKE_MONOTONIC", "1")];
        workers.start_with(&url, &["--concurrency", "4"], &clock);
    }
    workers.wait("both are ready", LONG, || workers.log().matches("worker ready").count() == 2);
    let log = workers.log();
    let hours = log.lines().filter(|line| line.contains("worker ready")).map(|line| line.get(..2));
    assert_eq!(hours.collect::<BTreeSet<_>>().len(), 2, "their clocks are not changed: {log}");
    let produced = Instant::now();
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("slow", &n))).expect("produces");
    produce_many(&mut conn, (100..120).map(|n| NewMessage::new("note", &n).delay(DELAY))).expect("produces");
    let late = || workers.journal().iter().filter(|e| e.number >= 100).count();
    workers.wait("a delayed one runs", LONG, || late() > 0);
    let first = produced.elapsed();
    assert!(first >= DELAY - Duration::from_millis(50), "{first:?} is early");
    workers.wait("all run", LONG, || late() == 20);
    let last = produced.elapsed();
    assert!(last < DELAY + Duration::from_millis(1500), "{last:?} is late");
    workers.wait("all is done", LONG, || {
        conn.broker().topics().expect("reads").iter().map(|topic| topic.done).sum::<i64>() == 40
    });
    let begun = workers.journal().iter().filter(|e| e.what == "begin").count();
    assert_eq!(begun, 20, "none ran twice");
    assert!(!workers.log().contains("died"), "{}", workers.log());
}

#[test]
fn postgres_workers_are_an_hour_off() {
    an_hour_off::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_workers_are_an_hour_off() {
    an_hour_off::<MariadbKind>(Backend::Mysql);
}

/// A clock that can be set while programs run by it.
struct Clock {
    file: PathBuf,
    library: PathBuf,
}

impl Clock {
    fn new(folder: &std::path::Path) -> Self {
        let clock = Self { file: folder.join("clock"), library: libfaketime() };
        clock.set(0);
        clock
    }

    /// So many seconds from the real time.
    fn set(&self, offset: i64) {
        // Renamed, so that nobody reads the half of it.
        let new = self.file.with_extension("new");
        std::fs::write(&new, format!("{offset:+}\n")).expect("writes");
        std::fs::rename(new, &self.file).expect("renames");
    }

    fn environment(&self) -> [(&str, &str); 5] {
        [
            ("LD_PRELOAD", self.library.to_str().expect("a path in UTF-8")),
            ("FAKETIME_TIMESTAMP_FILE", self.file.to_str().expect("a path in UTF-8")),
            ("FAKETIME_NO_CACHE", "1"),
            ("FAKETIME_DONT_FAKE_MONOTONIC", "1"),
            ("FAKETIME_DONT_RESET", "1"),
        ]
    }
}

/// The clock jumps an hour ahead, back, an hour behind, ten seconds ahead of that. All that is produced after a jump runs at once, what runs is
/// not run twice, nobody is taken for dead, and a worker that is killed is rescued as ever.
fn the_clock_jumps(backend: Backend, clock: &Clock, url: &str, environment: &[(&str, &str)]) {
    let mut conn = AnyConnection::establish(url).expect("connects");
    let limit = Limit { running: None, rate: Some(Rate { messages: 20, per: Duration::from_secs(1) }) };
    conn.broker().set_limit("uneven", &limit, "a test").expect("sets a limit");
    let mut workers = Workers::new(url);
    for _ in 0..3 {
        workers.start_with(url, &["--concurrency", "4"], environment);
    }
    workers.wait("all are ready", LONG, || workers.log().matches("worker ready").count() == 3);
    // On SQLite the clock is that of the process, and this one has its own: what it produces is due at once by both.
    let due = |conn: &mut AnyConnection| {
        if let AnyConnection::Sqlite(conn) = conn {
            conn.batch_execute("UPDATE taskmq_messages SET run_at = strftime('%Y-%m-%d %H:%M:%f', run_at, '-1 day') WHERE worker_id = 0  AND run_at < strftime('%Y-%m-%d %H:%M:%f', 'now', '+40 minutes')").expect("writes");
        }
    };
    let of = |workers: &Workers, what: &str, numbers: std::ops::Range<i64>| {
        workers.journal().iter().filter(|e| e.what == what && numbers.contains(&e.number)).count()
    };
    // By the clock that is to jump it is not due for most of an hour.
    produce_many(&mut conn, [NewMessage::new("note", &9_000).delay(Duration::from_secs(3000))])
        .expect("produces");
    let mut number = 0;
    for (at, offset) in [3600, 0, -3600, -3590].into_iter().enumerate() {
        let patient = 100_000 + 10 * at as i64..100_004 + 10 * at as i64;
        produce_many(&mut conn, patient.clone().map(|n| NewMessage::new("patient", &n))).expect("produces");
        due(&mut conn);
        workers.wait("handlers run", LONG, || of(&workers, "begin", patient.clone()) == 4);
        clock.set(offset);
        let jumped = Instant::now();
        let quick = number + 1..number + 101;
        number += 100;
        let all = quick.clone().map(|n| NewMessage::new(if n % 5 == 0 { "uneven" } else { "note" }, &n));
        produce_many(&mut conn, all).expect("produces");
        due(&mut conn);
        workers.wait("what is produced runs", LONG, || of(&workers, "end", quick.clone()) == 100);
        let took = jumped.elapsed();
        if offset == 3600 && backend != Backend::Sqlite {
            let late = workers.wait("what was to run within the hour runs", LONG, || {
                of(&workers, "end", 9_000..9_001) == 1
            });
            say(&format!("{backend}: what the jump made due had run {:.1?} after it", late + took));
        }
        say(&format!("{backend}: at {offset:+} s all that was produced had run after {took:.1?}"));
        assert!(took < Duration::from_secs(20), "{took:?} at {offset}");
        workers.wait("the handlers end", LONG, || of(&workers, "end", patient.clone()) == 4);
        assert_eq!(of(&workers, "begin", patient), 4, "none ran twice at {offset}");
        assert!(!workers.log().contains("died"), "at {offset}: {}", workers.log());
    }
    clock.set(-7200);
    produce_many(&mut conn, (200_000..200_009).map(|n| NewMessage::new("patient", &n))).expect("produces");
    due(&mut conn);
    let pid = workers.children[0].id();
    workers.wait("all run some", LONG, || {
        of(&workers, "begin", 200_000..200_009) == 9
            && workers.journal().iter().any(|e| e.pid == pid && e.number >= 200_000)
    });
    workers.signal(0, "KILL");
    let took = workers.wait("it is found dead", LONG, || workers.log().contains(" died;"));
    say(&format!("{backend}: a worker that was killed after a jump back was found dead after {took:.1?}"));
    assert!(took < Duration::from_secs(10), "{took:?}");
    workers.wait("all is done", LONG, || {
        let topics = conn.broker().topics().expect("reads");
        let left = i64::from(backend == Backend::Sqlite); // the one that only the jump of a server makes due
        topics.iter().map(|topic| topic.ready + topic.scheduled + topic.running + topic.retrying).sum::<i64>()
            == left
    });
}

/// libfaketime in the server, whose clock decides.
fn the_clock_of_a_server_jumps<K: Kind>(backend: Backend) {
    let mut server = Server::<K>::start().expect("the server starts");
    server.stop().expect("stops");
    let clock = Clock::new(server.folder());
    server.set_environment(&clock.environment());
    server.restart().expect("starts again");
    server.create_database("app").expect("makes a database");
    let url = server.url("app");
    make_tables(&url, backend);
    the_clock_jumps(backend, &clock, &url, &[]);
}

fn make_tables(url: &str, backend: Backend) {
    let up = migration::up(backend);
    match &mut AnyConnection::establish(url).expect("connects") {
        AnyConnection::Postgres(conn) => conn.batch_execute(up),
        AnyConnection::Mysql(conn) => conn.batch_execute(up),
        AnyConnection::Sqlite(conn) => conn.batch_execute(up),
        _ => unreachable!("taskmq knows three databases"),
    }
    .expect("makes the tables");
}

#[test]
fn the_clock_of_postgres_jumps() {
    the_clock_of_a_server_jumps::<PostgresKind>(Backend::Postgres);
}

#[test]
fn the_clock_of_mariadb_jumps() {
    the_clock_of_a_server_jumps::<MariadbKind>(Backend::Mysql);
}

/// There the clock is that of the machine, that is, of each worker.
#[test]
fn the_clock_of_a_machine_with_sqlite_jumps() {
    let folder = tempfile::tempdir().expect("a folder");
    let url = folder.path().join("app.db").to_str().expect("a path in UTF-8").to_owned();
    diesel::SqliteConnection::establish(&url).expect("a SQLite file");
    make_tables(&url, Backend::Sqlite);
    let clock = Clock::new(folder.path());
    the_clock_jumps(Backend::Sqlite, &clock, &url, &clock.environment());
}
