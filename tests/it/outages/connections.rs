//! A server ends sessions at random, or has none left.

use std::time::{Duration, Instant};

use diesel::RunQueryDsl;
use diesel::dsl::sql;
use diesel::sql_types::BigInt;
use taskmq_core::{AnyConnection, Backend, NewMessage, produce_many};
use taskmq_tests::databases::try_execute;
use taskmq_tests::servers::{Kind, MariadbKind, PostgresKind};

use super::{LONG, complaints, connect, counts, done, long, ordinary_user, say, server_set};
use crate::workers::Workers;

/// The sessions of the ordinary user, that is, of the workers, in no order.
fn sessions(conn: &mut AnyConnection) -> Vec<i64> {
    match conn {
        AnyConnection::Postgres(conn) => sql::<BigInt>(
            "SELECT pid::bigint FROM pg_stat_activity WHERE usename = 'ordinary' AND application_name = 'taskmq' ORDER BY random()",
        )
        .load(conn),
        AnyConnection::Mysql(conn) => sql::<BigInt>(
            "SELECT CAST(id AS SIGNED) FROM information_schema.processlist WHERE user = 'ordinary' ORDER BY RAND()",
        )
        .load(conn),
        _ => unreachable!("these are servers"),
    }
    .expect("reads")
}

/// Ends a session, if it has not ended by itself.
fn end(conn: &mut AnyConnection, session: i64) {
    let kill = match conn.backend() {
        Backend::Postgres => format!("SELECT pg_terminate_backend({session})"),
        _ => format!("KILL {session}"),
    };
    let _ = try_execute(conn, &kill);
}

fn nothing_is_lost_while_sessions_are_ended_at_random<K: Kind>(backend: Backend) {
    const NOTES: i64 = 20_000;
    const SLOW: i64 = 120;
    let (_server, url) = server_set::<K>(backend, &[]);
    let ordinary = ordinary_user(&url);
    let mut workers = Workers::new(&ordinary);
    let mut conn = connect(&url);
    produce_many(&mut conn, (0..SLOW).map(|n| NewMessage::new("slow", &n))).expect("produces");
    produce_many(&mut conn, (1000..1000 + NOTES).map(|n| NewMessage::new("note", &n))).expect("produces");
    for _ in 0..2 {
        workers.start(&["--concurrency", "4"]);
    }
    workers.wait("both are ready", LONG, || workers.log().matches("worker ready").count() == 2);
    let storm = Duration::from_secs(if long() { 60 } else { 4 });
    let began = Instant::now();
    let mut ended = 0;
    while began.elapsed() < storm {
        if let Some(session) = sessions(&mut conn).first() {
            end(&mut conn, *session);
            ended += 1;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    assert!(ended > 20, "{ended}");
    let calm = Instant::now();
    produce_many(&mut conn, [NewMessage::new("note", &-1).priority(10)]).expect("produces");
    let recovered =
        workers.wait("a new one is run", LONG, || workers.journal().iter().any(|e| e.number == -1));
    workers.wait("all are done", LONG, || done(&url, "note") == NOTES + 1 && done(&url, "slow") == SLOW);
    say(&format!(
        "{backend}, {ended} sessions ended: a new message was run {recovered:.1?} later, all done after {:.1?}",
        calm.elapsed()
    ));
    let twice: Vec<i64> =
        counts(&workers, "end").into_iter().filter(|(_, times)| *times > 1).map(|(n, _)| n).collect();
    assert!(twice.is_empty(), "run twice: {twice:?}\n{}", workers.log());
    let log = workers.log();
    assert!(!log.contains("died"), "{log}");
    for (second, lines) in complaints(&log) {
        assert!(lines.len() <= 2, "two workers complain more than once in {second}: {lines:#?}");
    }
}

fn nothing_is_lost_while_no_session_is_left<K: Kind>(backend: Backend, options: &[&str]) {
    let (_server, url) = server_set::<K>(backend, options);
    let ordinary = ordinary_user(&url);
    let mut workers = Workers::new(&ordinary);
    let mut conn = connect(&url);
    produce_many(&mut conn, (0..4).map(|n| NewMessage::new("patient", &n))).expect("produces");
    workers.start(&["--concurrency", "2"]);
    workers.start(&["--concurrency", "2"]);
    workers.wait("all places are taken", LONG, || counts(&workers, "begin").len() == 4);
    // Others take every session that there is, and those of the workers when they are ended.
    let mut others = Vec::new();
    workers.wait("no worker has a session", LONG, || {
        while let Ok(other) = AnyConnection::establish(&format!("{url}{}", other_name(backend))) {
            others.push(other);
        }
        let left = sessions(&mut conn);
        for session in &left {
            end(&mut conn, *session);
        }
        left.is_empty()
    });
    let Err(error) = AnyConnection::establish(&ordinary) else { panic!("there is one left") };
    assert!(
        error.to_string().to_lowercase().contains("too many") || error.to_string().contains("slots"),
        "{error}"
    );
    let complained = || workers.log().matches("the database cannot be used").count();
    workers.wait("both workers say so", LONG, || complained() == 2);
    produce_many(&mut conn, (100..1100).map(|n| NewMessage::new("note", &n))).expect("produces");
    std::thread::sleep(Duration::from_secs(if long() { 30 } else { 4 }));
    drop(others);
    let took = workers.wait("they work again", LONG, || done(&url, "note") > 0);
    workers.wait("all is done", LONG, || done(&url, "note") == 1000 && done(&url, "patient") == 4);
    say(&format!("{backend}, no session left: a message done {took:.1?} after there was one"));
    assert!(took < Duration::from_secs(4), "{took:?}");
    let begun = counts(&workers, "begin");
    assert!(begun.values().all(|times| *times == 1), "{begun:?}");
    let log = workers.log();
    assert!(!log.contains("died"), "{log}");
    assert!(complaints(&log).values().all(|lines| lines.len() <= 2), "{log}");
}

/// So that it is not taken for a worker's.
fn other_name(backend: Backend) -> &'static str {
    if backend == Backend::Postgres { "?application_name=other" } else { "" }
}

#[test]
fn postgres_ends_sessions_at_random() {
    nothing_is_lost_while_sessions_are_ended_at_random::<PostgresKind>(Backend::Postgres);
}

#[test]
fn mariadb_ends_sessions_at_random() {
    nothing_is_lost_while_sessions_are_ended_at_random::<MariadbKind>(Backend::Mysql);
}

#[test]
fn postgres_has_no_session_left() {
    nothing_is_lost_while_no_session_is_left::<PostgresKind>(
        Backend::Postgres,
        &["-c", "max_connections=16"],
    );
}

#[test]
fn mariadb_has_no_session_left() {
    nothing_is_lost_while_no_session_is_left::<MariadbKind>(Backend::Mysql, &["--max-connections=16"]);
}
