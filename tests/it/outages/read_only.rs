//! A server takes no writes for a while, as when its operator makes it read-only, and reads all the time.

use std::time::Duration;

use taskmq_core::{Backend, Error, NewMessage, produce, produce_many};
use taskmq_tests::servers::{Kind, MariadbKind, PostgresKind};

use super::{LONG, complaints, connect, counts, done, long, ordinary_user, say, server};
use crate::workers::Workers;

fn nothing_is_lost_while_a_server_is_read_only<K: Kind>(
    backend: Backend,
    read_only: fn(bool) -> &'static str,
) {
    let (server, url) = server::<K>(backend);
    let url = ordinary_user(&url);
    let mut workers = Workers::new(&url);
    let mut conn = connect(&url);
    produce_many(&mut conn, (0..4).map(|n| NewMessage::new("patient", &n))).expect("produces");
    workers.start(&["--concurrency", "2"]);
    workers.start(&["--concurrency", "2"]);
    workers.wait("all places are taken", LONG, || counts(&workers, "begin").len() == 4);
    produce_many(&mut conn, (100..1100).map(|n| NewMessage::new("note", &n))).expect("produces");
    for sql in read_only(true).split("; ") {
        server.sql("app", sql).expect("sets it");
    }
    let refused = workers.wait("the producer is refused", LONG, || produce(&mut conn, "note", &0).is_err());
    let error = produce(&mut conn, "note", &0).expect_err("it is read-only");
    assert!(matches!(error, Error::ReadOnly(_)), "{error:?} after {refused:?}");
    workers.wait("the handlers end", LONG, || counts(&workers, "end").len() == 4);
    let complained = || workers.log().matches("the database cannot be used").count();
    workers.wait("both workers say so", LONG, || complained() == 2);
    std::thread::sleep(Duration::from_secs(if long() { 30 } else { 3 }));
    // Some were produced before it took effect.
    let stored = {
        let stats = taskmq_core::BrokerConnection::broker(&mut conn).topics().expect("reads");
        stats
            .iter()
            .filter(|topic| topic.topic == "note")
            .map(|topic| topic.ready + topic.running)
            .sum::<i64>()
    };
    for sql in read_only(false).split("; ") {
        server.sql("app", sql).expect("sets it");
    }
    let took =
        workers.wait("all is done", LONG, || done(&url, "note") == stored && done(&url, "patient") == 4);
    say(&format!("{backend}, read-only: all done after {took:.1?}"));
    assert!(took < Duration::from_secs(4), "{took:?}");
    let begun = counts(&workers, "begin");
    assert!(begun.values().all(|times| *times == 1), "{begun:?}");
    let log = workers.log();
    assert!(complaints(&log).values().all(|lines| lines.len() <= 2), "{log}");
    assert_eq!(complained(), 2, "each says it once: {log}");
}

#[test]
fn postgres_is_read_only_for_a_while() {
    nothing_is_lost_while_a_server_is_read_only::<PostgresKind>(Backend::Postgres, |on| {
        if on {
            "ALTER SYSTEM SET default_transaction_read_only = on; SELECT pg_reload_conf()"
        } else {
            "SET default_transaction_read_only = off; ALTER SYSTEM RESET default_transaction_read_only; SELECT pg_reload_conf()"
        }
    });
}

#[test]
fn mariadb_is_read_only_for_a_while() {
    nothing_is_lost_while_a_server_is_read_only::<MariadbKind>(Backend::Mysql, |on| {
        if on { "SET GLOBAL read_only = 1" } else { "SET GLOBAL read_only = 0" }
    });
}
