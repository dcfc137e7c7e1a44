//! Schedules under real workers, some of which die.

use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use taskmq_core::broker::MessageFilter;
use taskmq_core::schedule::{self, TICK_HEADER};
use taskmq_core::{BrokerConnection, NewMessage};
use taskmq_tests::databases::TestDatabase;

use crate::workers::Workers;

each_database! {
    each_second_ticks_once_while_workers_die,
}

const LONG: Duration = Duration::from_secs(60);

/// For so many seconds, by so many workers; one dies every third second, and is replaced.
fn extent() -> (u64, usize) {
    if std::env::var_os("TASKMQ_TEST_LONG").is_some() { (600, 16) } else { (9, 4) }
}

#[allow(clippy::print_stdout, reason = "figures for who runs it")]
fn each_second_ticks_once_while_workers_die(db: &TestDatabase) {
    let (seconds, number) = extent();
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    for _ in 0..number {
        workers.start(&["--concurrency", "2"]);
    }
    workers.wait("all of them run", LONG, || conn.broker().workers(100).expect("lists").len() == number);
    NewMessage::new("note", &1).schedule("every-second", "* * * * * *").store(&mut conn).expect("stores");
    let (began, mut died) = (Instant::now(), 0);
    while began.elapsed() < Duration::from_secs(seconds) {
        std::thread::sleep(Duration::from_millis(50));
        if began.elapsed() > Duration::from_secs(3 * (died + 1)) {
            workers.signal(workers.children.len() - number, "KILL");
            workers.start(&["--concurrency", "2"]);
            died += 1;
        }
    }
    schedule::pause(&mut conn, "every-second", "the test").expect("pauses");
    let stored = schedule::list(&mut conn).expect("lists").remove(0);
    let last = stored.last_at.expect("has ticked");
    let filter = MessageFilter { topic: None, state: None, limit: 10_000 };
    let messages = conn.broker().messages(&filter).expect("lists");
    let mut late = TimeDelta::zero();
    let mut ticks: Vec<DateTime<Utc>> = Vec::new();
    for message in &messages {
        let headers: serde_json::Value =
            serde_json::from_str(message.headers.as_ref().expect("headers").get()).expect("JSON");
        let tick: DateTime<Utc> = headers[TICK_HEADER].as_str().expect("a text").parse().expect("a time");
        late = late.max(message.created_at - tick);
        ticks.push(tick);
    }
    ticks.sort_unstable();
    let first = ticks[0];
    let due: Vec<DateTime<Utc>> =
        (0..=(last - first).num_seconds()).map(|n| first + TimeDelta::seconds(n)).collect();
    println!("{}: {} ticks, {died} deaths, the latest {late} late", db.backend(), ticks.len());
    assert_eq!(ticks, due, "each once, none left out\n{}", workers.log());
    assert!(ticks.len() as u64 >= seconds - 3, "{ticks:?}");
    workers
        .wait("each is handled", LONG, || conn.broker().topics().expect("reads")[0].done == due.len() as i64);
}
