//! The admin that a worker serves beside its work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use taskmq_core::{AnyConnection, Backend, BrokerConnection, migration, produce};
use taskmq_tests::databases::{TestDatabase, try_execute};
use taskmq_tests::servers::{Pgbouncer, Postgres};

use crate::workers::Workers;

each_database! { a_worker_shows_the_admin_beside_its_work }

const LONG: Duration = Duration::from_secs(60);

fn a_worker_shows_the_admin_beside_its_work(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    workers.start(&["--admin", "127.0.0.1:0"]);
    let mut link = None;
    workers.wait("it says where", LONG, || {
        let log = workers.log();
        let after = log.split("the admin is at http://").nth(1);
        link = after.and_then(|rest| rest.split_whitespace().next()).map(str::to_owned);
        link.is_some()
    });
    let (address, token) = link.as_deref().expect("a link").split_once("/?token=").expect("a token");
    produce(&mut conn, "note", &7).expect("produces");
    workers.wait("it works", LONG, || conn.broker().topics().expect("reads")[0].done == 1);
    let answer = |headers: &str| {
        let mut stream = TcpStream::connect(address).expect("connects");
        let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).expect("asks");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("answers");
        answer
    };
    assert!(answer("").starts_with("HTTP/1.1 401 "), "nobody comes in without the token");
    let page = answer(&format!("Authorization: Bearer {token}\r\n"));
    assert!(page.starts_with("HTTP/1.1 200 ") && page.contains("note"), "{page}");
}

/// Its connections would limit the other clients of the pooler, so there would be no page.
#[test]
fn behind_a_pooler_it_says_at_once_why_there_is_no_admin() {
    let server = Postgres::start().expect("PostgreSQL starts");
    server.create_database("app").expect("makes a database");
    let pooler = Pgbouncer::before(&server).expect("pgbouncer starts");
    let url = pooler.url("app");
    let mut conn = AnyConnection::establish(&url).expect("connects");
    try_execute(&mut conn, migration::up(Backend::Postgres)).expect("has tables");
    let mut workers = Workers::new(&url);
    let at = workers.start(&["--admin", "127.0.0.1:0"]);
    assert_eq!(workers.end_of(at, LONG), Some(1), "{}", workers.log());
    let log = workers.log();
    assert!(log.contains("use a DATABASE_URL that leads to PostgreSQL itself"), "{log}");
    // Metrics need no database.
    workers.start(&["--metrics", "127.0.0.1:0"]);
    crate::metrics::address(&workers, "the metrics are at");
}
