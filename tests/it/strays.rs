//! Handlers that nobody waits for any more and that end their process: no message beside them is charged, and nothing
//! that is set aside waits for them.

use std::process::Command;
use std::time::Duration;

use taskmq_core::broker::MessageFilter;
use taskmq_core::{BrokerConnection, MessageId, NewMessage, State, produce, produce_many};
use taskmq_tests::databases::TestDatabase;

use crate::workers::Workers;

each_database! {
    who_runs_beside_a_handler_past_its_time_out_is_not_charged,
    who_runs_alone_beside_a_handler_past_its_time_out_is_not_charged,
    who_runs_beside_a_handler_of_a_worker_that_was_given_up_is_not_charged,
    beside_a_handler_that_is_stuck_messages_go_on_and_the_guilty_is_found,
    what_a_worker_that_was_given_up_had_not_begun_runs_once,
}

const LONG: Duration = Duration::from_secs(90);

/// It ran to its end, and what happened beside it has cost it nothing.
fn is_done_and_was_not_charged(workers: &Workers, db: &TestDatabase, id: MessageId) {
    let mut conn = db.connect();
    workers.wait("the innocent is done", LONG, || {
        conn.broker().message(id).expect("reads").expect("is there").state == State::Done
    });
    let innocent = conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!((innocent.attempts, innocent.crashes), (1, 0), "{}", workers.log());
    assert!(conn.broker().failures(id).expect("reads").is_empty(), "{}", workers.log());
    assert_eq!(workers.log().matches("it exited with code 3; it is started again").count(), 1);
}

fn a_stray(workers: &mut Workers, db: &TestDatabase) {
    let mut conn = db.connect();
    let stray = produce(&mut conn, "stray", &1).expect("produces");
    workers.start(&["--supervise"]);
    workers.wait("its time is over", LONG, || {
        conn.broker().message(stray).expect("reads").expect("is there").state == State::Dead
    });
}

fn who_runs_beside_a_handler_past_its_time_out_is_not_charged(db: &TestDatabase) {
    let mut workers = Workers::new(db.url());
    a_stray(&mut workers, db);
    let innocent = produce(&mut db.connect(), "slow", &2).expect("produces");
    is_done_and_was_not_charged(&workers, db, innocent);
}

fn who_runs_alone_beside_a_handler_past_its_time_out_is_not_charged(db: &TestDatabase) {
    let mut workers = Workers::new(db.url());
    a_stray(&mut workers, db);
    // As two deaths leave it.
    db.execute(
        "INSERT INTO taskmq_messages (topic, payload, worker_id, suspicions) VALUES ('slow', '2', -1, 2)",
    );
    workers.wait("it runs alone", LONG, || workers.log().contains("runs alone"));
    let filter = MessageFilter { topic: Some("slow".to_owned()), state: None, limit: 1 };
    let innocent = db.connect().broker().messages(&filter).expect("lists").remove(0).id;
    is_done_and_was_not_charged(&workers, db, innocent);
}

fn who_runs_beside_a_handler_of_a_worker_that_was_given_up_is_not_charged(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let lost = produce(&mut conn, "straying", &1).expect("produces");
    workers.start(&["--supervise", "--topics", "straying,slow"]);
    workers.wait("it works", LONG, || !workers.journal().is_empty());
    give_up(&mut workers);
    db.execute(&format!("DELETE FROM taskmq_messages WHERE id = {lost}"));
    go_on(&workers);
    let innocent = produce(&mut conn, "slow", &2).expect("produces");
    is_done_and_was_not_charged(&workers, db, innocent);
}

/// Stops the process that began the first message, until another worker has given it up.
fn give_up(workers: &mut Workers) {
    send(workers, "STOP");
    workers.start(&["--topics", "note"]);
    workers.wait("it is given up", LONG, || workers.log().contains("died; "));
}

fn go_on(workers: &Workers) {
    send(workers, "CONT");
    workers.wait("it begins anew", LONG, || workers.log().matches("worker ready").count() == 3);
}

fn send(workers: &Workers, signal: &str) {
    let pid = workers.journal()[0].pid.to_string();
    assert!(Command::new("kill").args([&format!("-{signal}"), &pid]).status().expect("kill runs").success());
}

fn beside_a_handler_that_is_stuck_messages_go_on_and_the_guilty_is_found(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce(&mut conn, "hanging", "stuck").expect("produces");
    workers.start(&["--supervise", "--concurrency", "4"]);
    let stats = |topic: &str| {
        let all = db.connect().broker().topics().expect("reads");
        all.into_iter().find(|stats| stats.topic == topic).map(|stats| (stats.done, stats.dead))
    };
    workers.wait("it is given up", LONG, || stats("hanging") == Some((0, 1)));
    db.execute(
        "INSERT INTO taskmq_messages (topic, payload, worker_id, suspicions) VALUES ('slow', '1', -1, 2)",
    );
    workers.wait("what is set aside runs", LONG, || stats("slow") == Some((1, 0)));
    assert!(!workers.log().contains("it is started again"), "the stuck handler is there still");
    for number in 0..20 {
        produce(&mut conn, "poison", &number).expect("produces");
    }
    workers.wait("the guilty is found", LONG, || stats("poison") == Some((19, 1)));
    let listed = |state| MessageFilter { topic: Some("poison".to_owned()), state: Some(state), limit: 100 };
    let dead = conn.broker().messages(&listed(State::Dead)).expect("lists").remove(0);
    assert_eq!((dead.payload.get(), dead.attempts, dead.crashes), ("13", 3, 3), "{}", workers.log());
    let done = conn.broker().messages(&listed(State::Done)).expect("lists");
    assert!(done.iter().all(|message| (message.attempts, message.crashes) == (1, 0)), "{done:?}");
    let log = workers.log();
    assert!(log.contains("is dead after 3 of 3 attempts"), "{log}");
}

fn what_a_worker_that_was_given_up_had_not_begun_runs_once(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let first = workers.start(&["--concurrency", "1", "--topics", "uneven"]);
    for number in 100..105 {
        produce(&mut conn, "uneven", &number).expect("produces");
        workers.wait("they are quick", LONG, || workers.journal().iter().any(|e| e.number == number));
    }
    // Claimed ahead, behind one that keeps the only place until the worker is stopped.
    produce_many(&mut conn, (0..6).map(|number| NewMessage::new("uneven", &number))).expect("produces");
    workers.wait("it works", LONG, || workers.journal().iter().any(|e| e.number == 0));
    workers.wait("all are claimed", LONG, || conn.broker().topics().expect("reads")[0].running == 6);
    give_up(&mut workers);
    workers.start(&["--topics", "uneven"]);
    workers.wait("another does it", LONG, || conn.broker().topics().expect("reads")[0].done == 11);
    send(&workers, "CONT");
    workers.wait("it begins anew", LONG, || workers.log().matches("worker ready").count() == 4);
    workers.signal(first, "TERM");
    workers.end_of(first, LONG);
    let mut begun: Vec<i64> =
        workers.journal().iter().filter(|e| e.what == "begin").map(|e| e.number).collect();
    begun.retain(|number| *number < 100);
    begun.sort_unstable();
    assert_eq!(begun, [0, 0, 1, 2, 3, 4, 5], "only what ran at the moment ran twice");
}
