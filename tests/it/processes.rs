//! Real worker processes on every database: shared work, sudden death, poison, and signals.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use taskmq_core::broker::{Action, MessageFilter, Noted};
use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, State, produce, produce_many};
use taskmq_tests::databases::{TestDatabase, try_execute};

use crate::workers::{Entry, Workers};

each_database! {
    eight_workers_share_ten_thousand_messages,
    a_killed_workers_messages_run_elsewhere_within_five_seconds,
    when_the_last_worker_was_killed_the_next_one_goes_on,
    a_message_that_kills_its_process_is_found_out_and_no_other_is_blamed,
    what_was_cancelled_before_its_worker_was_killed_does_not_run_again,
    what_was_cancelled_is_not_handed_back,
    a_signal_stops_a_worker_cleanly,
    a_second_signal_ends_it_at_once,
    workers_that_are_stopped_and_continued_do_not_end_what_they_lost,
    suspected_messages_that_run_long_keep_no_other_waiting,
    what_another_worker_has_taken_to_run_alone_keeps_nobody_waiting,
}

mod servers {
    use super::a_locked_row_of_a_dead_worker_stops_nobody;

    each_server! { a_locked_row_of_a_dead_worker_stops_nobody }
}

const LONG: Duration = Duration::from_secs(90);

fn eight_workers_share_ten_thousand_messages(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..10_000).map(|n| NewMessage::new("note", &n))).expect("produces");
    for _ in 0..8 {
        workers.start(&["--until-empty", "--concurrency", "2"]);
    }
    workers.wait("all is done", LONG, || conn.broker().topics().expect("reads")[0].done == 10_000);
    let mut counts: BTreeMap<i64, u32> = BTreeMap::new();
    for entry in workers.journal() {
        *counts.entry(entry.number).or_default() += 1;
    }
    assert_eq!(counts.len(), 10_000);
    assert!(counts.values().all(|&n| n == 1), "a message ran twice");
}

fn a_killed_workers_messages_run_elsewhere_within_five_seconds(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..60).map(|n| NewMessage::new("slow", &n))).expect("produces");
    let victim = workers.start(&["--concurrency", "4"]);
    workers.start(&["--concurrency", "4"]);
    let victim_pid = workers.children[victim].id();
    workers.wait("both work", LONG, || {
        let journal = workers.journal();
        journal.iter().any(|e| e.pid == victim_pid && e.what == "end")
            && journal.iter().any(|e| e.pid != victim_pid)
    });
    workers.signal(victim, "KILL");
    let taken = workers.wait("its messages are taken over", LONG, || {
        let journal = workers.journal();
        let began = |e: &&Entry| e.what == "begin" && e.pid == victim_pid;
        journal
            .iter()
            .filter(began)
            .all(|b| journal.iter().any(|e| e.number == b.number && (e.what == "end" || e.pid != victim_pid)))
    });
    assert!(taken < Duration::from_secs(5), "{taken:?}");
    workers.wait("all is done", LONG, || conn.broker().topics().expect("reads")[0].done == 60);
    let journal = workers.journal();
    for number in 0..60 {
        let ends = journal.iter().filter(|e| e.number == number && e.what == "end").count();
        let at_the_victim = journal.iter().any(|e| e.number == number && e.pid == victim_pid);
        assert!(ends == 1 || ends == 2 && at_the_victim, "message {number} ended {ends} times");
    }
}

fn when_the_last_worker_was_killed_the_next_one_goes_on(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..30).map(|n| NewMessage::new("slow", &n))).expect("produces");
    for _ in 0..2 {
        workers.start(&["--concurrency", "4"]);
    }
    let pids: Vec<u32> = workers.children.iter().map(std::process::Child::id).collect();
    workers.wait("both work", LONG, || {
        pids.iter().all(|pid| workers.journal().iter().any(|e| e.pid == *pid && e.what == "end"))
    });
    workers.signal(0, "KILL");
    workers.signal(1, "KILL");
    for at in 0..2 {
        workers.end_of(at, LONG);
    }
    let next = workers.start(&["--concurrency", "4"]);
    let next = workers.children[next].id();
    workers.wait("all is done", LONG, || conn.broker().topics().expect("reads")[0].done == 30);
    let journal = workers.journal();
    let ran = |number, what, by: &dyn Fn(u32) -> bool| {
        journal.iter().filter(|e| e.number == number && e.what == what && by(e.pid)).count()
    };
    for number in 0..30 {
        let [before, after] =
            [ran(number, "end", &|pid| pid != next), ran(number, "end", &|pid| pid == next)];
        // One that had ended may not have been acknowledged yet.
        assert!(after == 1 || after == 0 && before == 1, "message {number}: {before} before, {after} after");
    }
}

fn a_message_that_kills_its_process_is_found_out_and_no_other_is_blamed(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..40).map(|n| NewMessage::new("poison", &n))).expect("produces");
    let mut starts = 0;
    let began = Instant::now();
    loop {
        let stats = conn.broker().topics().expect("reads").remove(0);
        if stats.done == 39 && stats.dead == 1 {
            break;
        }
        assert!(began.elapsed() < LONG, "{stats:?}\n{}", workers.log());
        // What a supervisor does: start it again when it died.
        if workers.children.last_mut().is_none_or(|child| child.try_wait().expect("asks").is_some()) {
            starts += 1;
            workers.start(&["--concurrency", "4"]);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    assert_eq!(starts, 4, "three deaths, as many as its attempts, and the worker that then lives");
    let filter = MessageFilter { topic: None, state: Some(State::Dead), limit: 10 };
    let dead = conn.broker().messages(&filter).expect("lists").remove(0);
    assert_eq!((dead.payload.get(), dead.attempts, dead.crashes), ("13", 3, 3));
    assert!(dead.error.expect("a reason").contains("worker process"));
    let done = MessageFilter { topic: None, state: Some(State::Done), limit: 100 };
    assert!(conn.broker().messages(&done).expect("lists").iter().all(|m| (m.attempts, m.crashes) == (1, 0)));
}

fn what_was_cancelled_before_its_worker_was_killed_does_not_run_again(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let id = produce(&mut conn, "slow", &1).expect("produces");
    workers.start(&["--concurrency", "1"]);
    workers.wait("it runs", LONG, || workers.journal().iter().any(|e| e.what == "begin"));
    // So that it learns nothing any more.
    workers.signal(0, "STOP");
    let changed = conn.broker().change(&Action::Cancel, &[id], Noted::No).expect("changes");
    assert_eq!(changed.asked, [id]);
    workers.signal(0, "KILL");
    workers.start(&["--concurrency", "1"]);
    let state = |conn: &mut AnyConnection| conn.broker().message(id).expect("reads").expect("is there").state;
    workers.wait("it is taken back", LONG, || state(&mut conn).is_finished());
    assert_eq!(state(&mut conn), State::Cancelled);
}

fn what_was_cancelled_is_not_handed_back(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    // Of one that never asks.
    let id = produce(&mut conn, "long", &1).expect("produces");
    workers.start(&["--concurrency", "1", "--shutdown-timeout", "1s"]);
    workers.wait("it runs", LONG, || workers.journal().iter().any(|e| e.what == "begin"));
    conn.broker().change(&Action::Cancel, &[id], Noted::No).expect("changes");
    workers.wait("its worker knows", LONG, || {
        workers.log().contains("a person cancelled messages of this worker")
    });
    workers.signal(0, "TERM");
    workers.end_of(0, LONG);
    let message = conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!((message.state, message.attempts), (State::Cancelled, 0));
}

fn a_signal_stops_a_worker_cleanly(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("slow", &n))).expect("produces");
    let at = workers.start(&["--concurrency", "2"]);
    workers.wait("it works", LONG, || !workers.journal().is_empty());
    workers.signal(at, "TERM");
    let status = workers.children[at].wait().expect("ends");
    assert!(status.success(), "{status}\n{}", workers.log());
    let journal = workers.journal();
    let (begun, ended) = (
        journal.iter().filter(|e| e.what == "begin").count(),
        journal.iter().filter(|e| e.what == "end").count(),
    );
    assert_eq!(begun, ended, "what ran was finished");
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.running, stats.done, stats.ready), (0, ended as i64, 20 - ended as i64));
}

fn a_second_signal_ends_it_at_once(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce(&mut conn, "long", &1).expect("produces");
    let at = workers.start(&[]);
    workers.wait("it works", LONG, || !workers.journal().is_empty());
    workers.signal(at, "TERM");
    workers.wait("it says so", LONG, || workers.log().contains("stopping"));
    workers.signal(at, "TERM");
    let status = workers.children[at].wait().expect("ends");
    assert_eq!(status.code(), Some(130), "{}", workers.log());
    workers.start(&[]);
    workers.wait("it runs elsewhere", LONG, || workers.journal().len() == 2);
}

fn workers_that_are_stopped_and_continued_do_not_end_what_they_lost(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let id = produce(&mut conn, "slow", &1).expect("produces");
    let stalled = workers.start(&[]);
    workers.wait("it works", LONG, || !workers.journal().is_empty());
    workers.signal(stalled, "STOP");
    let other = workers.start(&[]);
    let other_pid = workers.children[other].id();
    workers.wait("it runs elsewhere", LONG, || {
        workers.journal().iter().any(|e| e.pid == other_pid && e.what == "end")
    });
    workers.wait("it is done", LONG, || {
        conn.broker().message(id).expect("reads").expect("is there").state == State::Done
    });
    let settled_by = conn.broker().message(id).expect("reads").expect("is there").worker_id;
    workers.signal(stalled, "CONT");
    workers.wait("it notices", LONG, || workers.log().contains("given up by the others"));
    assert_eq!(conn.broker().message(id).expect("reads").expect("is there").worker_id, settled_by);
    // It works on, as another worker.
    workers.signal(other, "TERM");
    let next = produce(&mut conn, "slow", &2).expect("produces");
    workers.wait("it works again", LONG, || {
        conn.broker().message(next).expect("reads").expect("is there").state == State::Done
    });
}

/// As a death leaves them.
fn set(conn: &mut AnyConnection, topic: &str, worker_id: i64) {
    let suspicions = i64::from(worker_id == -2);
    let sql = format!(
        "UPDATE taskmq_messages SET worker_id = {worker_id}, suspicions = {suspicions} WHERE topic = '{topic}'"
    );
    try_execute(conn, &sql).expect("is set");
}

fn suspected_messages_that_run_long_keep_no_other_waiting(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..15).map(|n| NewMessage::new("long", &n))).expect("produces");
    set(&mut conn, "long", -2);
    workers.start(&["--concurrency", "20"]);
    let began = |workers: &Workers| workers.journal().iter().filter(|e| e.what == "begin").count();
    workers.wait("as many run as may", LONG, || began(&workers) == 10);
    produce(&mut conn, "note", &100).expect("produces");
    workers.wait("another message runs", LONG, || workers.journal().iter().any(|e| e.number == 100));
    assert!(
        workers.journal().iter().all(|e| e.what != "end" || e.number == 100),
        "it waited for one of them"
    );
}

fn what_another_worker_has_taken_to_run_alone_keeps_nobody_waiting(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..2).map(|n| NewMessage::new("long", &n))).expect("produces");
    workers.start(&["--concurrency", "4"]);
    workers.wait("it runs both", LONG, || workers.journal().len() == 2);
    conn.broker().begin().expect("begins");
    produce(&mut conn, "straying", &2).expect("produces");
    set(&mut conn, "straying", -1);
    conn.broker().commit().expect("commits");
    workers.start(&["--concurrency", "4"]);
    workers.wait("the other runs it alone", LONG, || workers.journal().iter().any(|e| e.number == 2));
    produce(&mut conn, "note", &100).expect("produces");
    workers.wait("the first takes more", LONG, || workers.journal().iter().any(|e| e.number == 100));
    assert!(workers.journal().iter().all(|e| e.what != "end" || e.number == 100), "it waited for its own");
}

fn a_locked_row_of_a_dead_worker_stops_nobody(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce_many(&mut conn, (0..2).map(|n| NewMessage::new("long", &n))).expect("produces");
    let victim = workers.start(&["--concurrency", "2", "--topics", "long"]);
    workers.wait("it runs both", LONG, || workers.journal().len() == 2);
    let mut person = db.connect();
    person.broker().begin().expect("begins");
    try_execute(&mut person, "UPDATE taskmq_messages SET claimed_at = claimed_at").expect("locks");
    workers.start(&[]);
    workers.signal(victim, "KILL");
    workers.wait("the other cannot rescue it", LONG, || workers.log().contains("cannot be given back yet"));
    // For longer than a worker begins nothing in that has not seen the others.
    let since = Instant::now();
    let mut number = 100;
    while since.elapsed() < Duration::from_secs(8) {
        produce(&mut conn, "note", &number).expect("produces");
        workers.wait("another message runs", LONG, || workers.journal().iter().any(|e| e.number == number));
        number += 1;
    }
    assert_eq!(workers.log().matches("cannot be given back yet").count(), 1, "{}", workers.log());
    person.broker().rollback().expect("rolls back");
    workers.wait("what it held runs elsewhere", LONG, || {
        workers.journal().iter().filter(|e| e.what == "begin").count() == 4
    });
}
