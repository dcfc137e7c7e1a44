//! Real worker processes on topics that are paused.

use std::time::{Duration, Instant};

use taskmq_core::message::TopicStats;
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, State, produce, produce_many};
use taskmq_tests::databases::{TestDatabase, try_execute};

use crate::workers::{Workers, processor_time};

each_database! {
    a_paused_topic_rests_while_others_go_on,
    what_a_death_left_rests_too,
    what_waits_for_a_place_rests_too,
    a_paused_backlog_costs_an_idle_worker_nothing,
}

mod servers {
    use super::a_message_that_somebody_has_locked_costs_an_idle_worker_little;

    each_server! { a_message_that_somebody_has_locked_costs_an_idle_worker_little }
}

const LONG: Duration = Duration::from_secs(60);
/// In which a pause takes effect.
const SOON: Duration = Duration::from_secs(4);

fn stats(conn: &mut AnyConnection, topic: &str) -> TopicStats {
    let topics = conn.broker().topics().expect("reads");
    topics.into_iter().find(|stats| stats.topic == topic).expect("it has messages")
}

fn a_paused_topic_rests_while_others_go_on(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..60).map(|n| NewMessage::new("slow", &n))).expect("produces");
    workers.start(&["--concurrency", "2"]);
    workers.wait("it works", LONG, || workers.journal().len() > 4);
    conn.broker().pause("slow", "test").expect("pauses");
    // Until it knows, nothing may be held for a moment, between two claims.
    workers.wait("it knows", SOON, || workers.log().contains("slow is paused"));
    workers.wait("nothing is held", SOON, || stats(&mut conn, "slow").running == 0);
    let rested = stats(&mut conn, "slow");
    let begun = workers.journal().iter().filter(|e| e.what == "begin").count();
    let ended = workers.journal().iter().filter(|e| e.what == "end").count();
    assert_eq!((begun, rested.done), (ended, ended as i64), "what ran was finished");
    assert_eq!(rested.ready, 60 - rested.done, "the rest was handed back");
    // Other topics go on, and a worker that begins anew finds the pause.
    let note = produce(&mut conn, "note", &99).expect("produces");
    let done = |conn: &mut AnyConnection, id| {
        conn.broker().message(id).expect("reads").expect("is there").state == State::Done
    };
    workers.wait("another topic goes on", LONG, || done(&mut conn, note));
    workers.signal(0, "TERM");
    assert_eq!(workers.end_of(0, LONG), Some(0));
    let second = workers.start(&["--until-empty"]);
    assert_eq!(workers.end_of(second, LONG), Some(0), "what is paused is not waited for");
    assert_eq!(stats(&mut conn, "slow").done, rested.done);
    workers.start(&["--concurrency", "10"]);
    let note = produce(&mut conn, "note", &100).expect("produces");
    workers.wait("it works", LONG, || done(&mut conn, note));
    conn.broker().resume("slow", "test").expect("resumes");
    workers.wait("it goes on", SOON, || stats(&mut conn, "slow").done > rested.done);
    workers.wait("all is done", LONG, || stats(&mut conn, "slow").done == 60);
}

/// Threads have taken it already, but tasks of `async` consumers have all places.
fn what_waits_for_a_place_rests_too(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    // Those that it knows to be quick it holds others beside.
    for topic in ["dozing", "note"] {
        produce_many(&mut conn, (0..50).map(|_| NewMessage::new(topic, &-1))).expect("produces");
    }
    workers.start(&["--concurrency", "2"]);
    workers.wait("they are quick", LONG, || {
        ["dozing", "note"].iter().all(|topic| stats(&mut conn, topic).done == 50)
    });
    produce_many(&mut conn, (0..2).map(|n| NewMessage::new("dozing", &n))).expect("produces");
    workers.wait("two have all places", LONG, || {
        workers.journal().iter().filter(|e| e.what == "begin").count() == 2
    });
    produce_many(&mut conn, (10..30).map(|n| NewMessage::new("note", &n))).expect("produces");
    workers.wait("others wait for them", LONG, || stats(&mut conn, "note").running == 20);
    conn.broker().pause("note", "test").expect("pauses");
    workers.wait("they are handed back", LONG, || stats(&mut conn, "note").ready == 20);
}

fn what_a_death_left_rests_too(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..4).map(|n| NewMessage::new("slow", &n))).expect("produces");
    db.execute("UPDATE taskmq_messages SET worker_id = -1 WHERE id = 1");
    db.execute("UPDATE taskmq_messages SET worker_id = -2 WHERE id = 2");
    conn.broker().pause("slow", "test").expect("pauses");
    workers.start(&[]);
    for n in 1..=3 {
        // A pause is seen by a look, and so is its end: two further ones.
        conn.broker().pause("patient", "test").expect("pauses");
        workers.wait("it has looked", LONG, || workers.log().matches("patient is paused").count() == n);
        conn.broker().resume("patient", "test").expect("resumes");
        workers.wait("it has looked", LONG, || workers.log().matches("patient is resumed").count() == n);
        let note = produce(&mut conn, "note", &n).expect("produces");
        workers.wait("another topic goes on", LONG, || {
            conn.broker().message(note).expect("reads").expect("is there").state == State::Done
        });
    }
    assert!(workers.journal().iter().all(|entry| entry.what != "begin"), "{}", workers.log());
    conn.broker().resume("slow", "test").expect("resumes");
    workers.wait("all is done", LONG, || stats(&mut conn, "slow").done == 4);
}

fn a_paused_backlog_costs_an_idle_worker_nothing(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    for _ in 0..10 {
        produce_many(&mut conn, (0..5000).map(|n| NewMessage::new("note", &n))).expect("produces");
    }
    conn.broker().pause("note", "test").expect("pauses");
    let at = workers.start(&["--topics", "note"]);
    workers.wait("it is up", LONG, || workers.log().contains("note is paused"));
    let used = processor_time_of(&workers, at);
    assert!(used < Duration::from_millis(250), "{used:?} in three seconds\n{}", workers.log());
    assert_eq!(stats(&mut conn, "note").ready, 50_000);
}

fn a_message_that_somebody_has_locked_costs_an_idle_worker_little(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce(&mut conn, "slow", &1).expect("produces");
    let mut person = db.connect();
    person.broker().begin().expect("begins");
    try_execute(&mut person, "UPDATE taskmq_messages SET claimed_at = claimed_at").expect("locks");
    let at = workers.start(&["--topics", "slow"]);
    workers.wait("it is up", LONG, || workers.log().contains("worker ready"));
    let used = processor_time_of(&workers, at);
    assert!(used < Duration::from_millis(500), "{used:?} in three seconds\n{}", workers.log());
    person.broker().rollback().expect("rolls back");
    workers.wait("then it runs", LONG, || stats(&mut conn, "slow").done == 1);
}

/// In three seconds. One that asks again and again takes far more; the first second is for what a start costs.
fn processor_time_of(workers: &Workers, at: usize) -> Duration {
    let pid = workers.children[at].id();
    let began = Instant::now();
    let mut before = None;
    while began.elapsed() < Duration::from_secs(4) {
        if began.elapsed() > Duration::from_secs(1) {
            before.get_or_insert_with(|| processor_time(pid));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    processor_time(pid) - before.expect("was taken")
}
