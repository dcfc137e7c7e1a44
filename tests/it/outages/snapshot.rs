//! A transaction that was forgotten under load, on MariaDB: it sees the queue as it was, so that InnoDB keeps every version
//! of every row since.

use std::process::Command;
use std::time::{Duration, Instant};

use taskmq_core::{Backend, NewMessage, produce_many};
use taskmq_tests::servers::MariadbKind;

use super::{LONG, connect, done, execute, long, say, server};
use crate::hosts::host::taskmq_cli;
use crate::workers::Workers;

/// All of one length in the journal.
const FIRST: i64 = 1_000_000;

/// Always has something to do, and tells how much has been handled.
struct Load<'a> {
    workers: &'a Workers,
    url: &'a str,
    produced: i64,
}

impl Load<'_> {
    fn handled(&self) -> i64 {
        let line = format!("end {FIRST} 1 {}\n", self.workers.children[0].id()).len() as u64;
        i64::try_from(self.workers.journal_bytes() / line).unwrap_or_default()
    }

    /// For so long; how many were handled a second.
    fn run(&mut self, time: Duration) -> f64 {
        let mut conn = connect(self.url);
        let (began, before) = (Instant::now(), self.handled());
        while began.elapsed() < time {
            if self.produced - self.handled() < 3000 {
                let messages = (0..1000).map(|n| NewMessage::new("note", &(FIRST + self.produced + n)));
                produce_many(&mut conn, messages).expect("produces");
                self.produced += 1000;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        (self.handled() - before) as f64 / began.elapsed().as_secs_f64()
    }
}

/// In its long form it is open for ten minutes.
#[test]
fn a_forgotten_transaction_on_mariadb() {
    let (_server, url) = server::<MariadbKind>(Backend::Mysql);
    let mut workers = Workers::new(&url);
    workers.start(&[]);
    let window = Duration::from_secs(if long() { 20 } else { 2 });
    let mut load = Load { workers: &workers, url: &url, produced: 0 };
    load.run(window);
    let before = load.run(window);
    let mut forgotten = connect(&url);
    execute(&mut forgotten, "SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ");
    execute(&mut forgotten, "START TRANSACTION WITH CONSISTENT SNAPSHOT");
    let first = load.run(window);
    if long() {
        load.run(Duration::from_secs(560));
        let doctor =
            Command::new(taskmq_cli()).arg("doctor").env("DATABASE_URL", &url).output().expect("runs");
        let said = String::from_utf8_lossy(&doctor.stdout);
        assert!(said.contains("transaction") && said.contains("KILL"), "it names the culprit: {said}");
        say(&said);
    }
    let last = load.run(window);
    assert!(last > 0.0, "it is worked on all the time");
    execute(&mut forgotten, "ROLLBACK");
    let after = load.run(window);
    let produced = load.produced;
    workers.wait("all is done", LONG, || done(&url, "note") == produced);
    say(&format!(
        "MariaDB, forgotten transaction: {before:.0} messages a second before, {first:.0} and {last:.0} at its begin and end, \
         {after:.0} after it"
    ));
    assert_eq!(i64::try_from(workers.journal().len()).expect("is small"), produced, "each is run once");
}
