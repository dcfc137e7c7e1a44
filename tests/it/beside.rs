//! The admin that a worker serves beside its work.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use taskmq_core::{BrokerConnection, produce};
use taskmq_tests::databases::TestDatabase;

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
