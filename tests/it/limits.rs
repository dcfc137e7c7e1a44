//! Real worker processes on topics that have a limit.

use std::time::{Duration, Instant};

use taskmq_core::broker::Limit;
use taskmq_core::message::TopicStats;
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, produce, produce_many};
use taskmq_tests::databases::TestDatabase;

use crate::workers::{Entry, Workers, processor_time};

each_database! {
    two_workers_together_stay_within_a_limit,
    a_rate_lasts_until_the_topic_is_empty,
    a_limit_that_is_reached_costs_a_worker_nothing,
    retries_of_a_limited_topic_keep_no_worker_awake,
    a_limited_topic_and_another_get_their_handlers,
}

const LONG: Duration = Duration::from_secs(60);
/// In which a limit takes effect.
const SOON: Duration = Duration::from_secs(4);

fn stats(conn: &mut AnyConnection, topic: &str) -> TopicStats {
    let topics = conn.broker().topics().expect("reads");
    topics.into_iter().find(|stats| stats.topic == topic).expect("it has messages")
}

fn limit(conn: &mut AnyConnection, topic: &str, running: Option<u32>, rate: Option<&str>) {
    let limit = Limit { running, rate: rate.map(|rate| rate.parse().expect("a rate")) };
    assert!(conn.broker().set_limit(topic, &limit, "test").expect("limits"));
}

/// How many ran at once at most, as the handlers wrote it down. And in how many processes.
fn most_at_once(journal: &[Entry]) -> (usize, usize) {
    let (mut now, mut most) = (0_usize, 0);
    for entry in journal {
        now = if entry.what == "begin" { now + 1 } else { now - 1 };
        most = most.max(now);
    }
    let mut processes: Vec<u32> = journal.iter().map(|entry| entry.pid).collect();
    processes.sort_unstable();
    processes.dedup();
    (most, processes.len())
}

fn two_workers_together_stay_within_a_limit(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    limit(&mut conn, "slow", Some(3), None);
    for _ in 0..2 {
        workers.start(&["--concurrency", "2"]);
    }
    workers.wait("both know of it", LONG, || told(&workers, "slow has a limit") == 2);
    produce_many(&mut conn, (0..200).map(|n| NewMessage::new("slow", &n))).expect("produces");
    workers.wait("both run some", LONG, || most_at_once(&workers.journal()) >= (3, 2));
    workers.wait("some are done", LONG, || stats(&mut conn, "slow").done >= 9);
    let journal = workers.journal();
    assert_eq!(most_at_once(&journal), (3, 2), "{journal:?}");
    // Lifted and set while they run.
    assert!(conn.broker().lift_limit("slow", "test").expect("lifts"));
    workers.wait("both know that", SOON, || told(&workers, "slow has no limit") == 2);
    workers.wait("more run at once", SOON, || stats(&mut conn, "slow").running > 3);
    limit(&mut conn, "slow", Some(2), None);
    // Until they know, few may run for a moment, between two claims.
    workers.wait("both know of it", SOON, || told(&workers, "slow has a limit") == 4);
    workers.wait("few run at once", SOON, || stats(&mut conn, "slow").running <= 2);
    let (from, done) = (workers.journal().len(), stats(&mut conn, "slow").done);
    workers.wait("more are done", LONG, || stats(&mut conn, "slow").done >= done + 8);
    let mut open: Vec<i64> = Vec::new();
    for (at, entry) in workers.journal().iter().enumerate() {
        if entry.what == "begin" {
            open.push(entry.number);
            assert!(at < from || open.len() <= 2, "{open:?}");
        } else {
            open.retain(|number| *number != entry.number);
        }
    }
}

/// So many times a worker has said so.
fn told(workers: &Workers, what: &str) -> usize {
    workers.log().matches(what).count()
}

fn a_rate_lasts_until_the_topic_is_empty(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    limit(&mut conn, "note", None, Some("4/2s"));
    produce_many(&mut conn, (0..10).map(|n| NewMessage::new("note", &n))).expect("produces");
    let began = Instant::now();
    let at = workers.start(&["--until-empty"]);
    assert_eq!(workers.end_of(at, LONG), Some(0));
    assert_eq!(stats(&mut conn, "note").done, 10, "{}", workers.log());
    assert!(began.elapsed() >= Duration::from_secs(3), "six of them waited for half a second each");
}

fn a_limit_that_is_reached_costs_a_worker_nothing(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    limit(&mut conn, "note", None, Some("1/1d"));
    limit(&mut conn, "long", Some(1), None);
    for topic in ["note", "long"] {
        produce_many(&mut conn, (0..5000).map(|n| NewMessage::new(topic, &n))).expect("produces");
    }
    let at = workers.start(&["--topics", "note,long"]);
    workers.wait("both are reached", LONG, || {
        stats(&mut conn, "note").done == 1 && stats(&mut conn, "long").running == 1
    });
    let pid = workers.children[at].id();
    // Far less than one that asks again and again; the first second is for what a start costs.
    std::thread::sleep(Duration::from_secs(1));
    let before = processor_time(pid);
    std::thread::sleep(Duration::from_secs(3));
    let used = processor_time(pid) - before;
    assert!(used < Duration::from_millis(250), "{used:?} in three seconds\n{}", workers.log());
    assert_eq!(stats(&mut conn, "note").done, 1);
    // Another topic goes on at once.
    let slow = produce(&mut conn, "slow", &1).expect("produces");
    let second = workers.start(&["--topics", "slow,long", "--until-empty"]);
    workers.wait("it is done", LONG, || {
        conn.broker().message(slow).expect("reads").is_some_and(|message| message.state.is_finished())
    });
    assert_eq!(stats(&mut conn, "long").running, 1);
    workers.signal(second, "TERM");
}

fn retries_of_a_limited_topic_keep_no_worker_awake(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    limit(&mut conn, "ending", Some(2), None);
    let at = workers.start(&["--topics", "ending"]);
    produce(&mut conn, "ending", &"panic").expect("produces");
    workers.wait("it has used its attempts", LONG, || stats(&mut conn, "ending").dead == 1);
    let pid = workers.children[at].id();
    let before = processor_time(pid);
    std::thread::sleep(Duration::from_secs(3));
    let used = processor_time(pid) - before;
    assert!(used < Duration::from_millis(250), "{used:?} in three seconds\n{}", workers.log());
}

fn a_limited_topic_and_another_get_their_handlers(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    limit(&mut conn, "uneven", Some(2), None);
    produce_many(&mut conn, (0..200).map(|n| NewMessage::new("slow", &n))).expect("produces");
    produce_many(&mut conn, (1..40).map(|n| NewMessage::new("uneven", &n))).expect("produces");
    workers.start(&["--concurrency", "2", "--topics", "slow,uneven"]);
    // The backlog of the other would take half a minute.
    workers.wait("the limited one comes in between", Duration::from_secs(20), || {
        stats(&mut conn, "uneven").done > 10
    });
    let slow = stats(&mut conn, "slow");
    assert!(slow.done > 2 && slow.ready > 100, "{slow:?}");
}
