//! Messages that end their process in every way, under a supervisor: each is found out and says how, and no other
//! message suffers.

use std::time::Duration;

use taskmq_core::broker::MessageFilter;
use taskmq_core::{BrokerConnection, NewMessage, State, produce, produce_many};
use taskmq_tests::databases::TestDatabase;

use crate::workers::Workers;

each_database! {
    every_death_is_found_out_and_explained_and_no_other_message_suffers,
    what_hangs_is_given_up_and_no_other_message_suffers,
    what_takes_all_memory_is_found_out_and_no_other_message_suffers,
    what_blocks_the_async_runtime_is_given_up,
    a_supervised_worker_stops_as_any_other,
    a_worker_stops_when_its_supervisor_is_killed,
    a_panic_says_where_and_by_which_calls_if_that_is_asked_for,
}

const LONG: Duration = Duration::from_secs(90);
const INNOCENT: i64 = 1000;
const ATTEMPTS: i32 = 3;

/// What is told of a death for which a message was only suspected.
const IN_COMPANY: &str = "perhaps because of another one";

/// How each ends, the kind of its failures, and what they say.
const ENDINGS: [(&str, &str, &str); 11] = [
    ("panic", "panic", "in words"),
    ("panic without words", "panic", "no text"),
    ("panic with a bomb", "panic", "no text"),
    ("double panic", "crash", "SIGABRT"),
    ("abort", "crash", "SIGABRT"),
    ("overflow", "crash", "SIGABRT"),
    ("exit 0", "crash", "exited with code 0"),
    ("exit 3", "crash", "exited with code 3"),
    ("segmentation fault", "crash", "SIGSEGV"),
    ("large error", "error", "[cut]"),
    ("odd error", "error", "\u{fffd}\u{fffd}[31m\u{fffd}\u{fffd}"),
];

/// How many messages of each ending: `TASKMQ_TEST_POISON=10` makes it a hundred altogether.
fn of_each() -> usize {
    std::env::var("TASKMQ_TEST_POISON").map_or(1, |number| number.parse().expect("a number"))
}

#[allow(clippy::print_stdout, reason = "the figures are worth knowing")]
fn every_death_is_found_out_and_explained_and_no_other_message_suffers(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let guilty = ENDINGS.len() * of_each();
    let every = usize::try_from(INNOCENT).expect("is small") / guilty;
    let mut culprits = ENDINGS.iter().cycle().take(guilty);
    for _ in 0..guilty {
        let (how, ..) = culprits.next().expect("as many as there are");
        produce(&mut conn, "ending", how).expect("produces");
        let innocent = (0..every).map(|_| NewMessage::new("ending", &"well"));
        produce_many(&mut conn, innocent).expect("produces");
    }
    let at = workers.start(&["--supervise", "--concurrency", "4"]);
    let limit = LONG * u32::try_from(of_each()).expect("is small");
    let took = workers.wait("all have ended", limit, || {
        let stats = conn.broker().topics().expect("reads").remove(0);
        stats.done + stats.dead == i64::try_from(guilty + guilty * every).expect("is small")
    });
    let listed = |state| MessageFilter { topic: None, state: Some(state), limit: 10_000 };
    let dead = conn.broker().messages(&listed(State::Dead)).expect("lists");
    assert_eq!(dead.len(), guilty, "the guilty and nobody else");
    for message in &dead {
        let (_, kind, says) = ENDINGS
            .into_iter()
            .find(|(how, ..)| message.payload.get() == format!("\"{how}\""))
            .unwrap_or_else(|| panic!("{message:?} is innocent"));
        assert_eq!(message.attempts, ATTEMPTS, "{message:?}");
        let failures = conn.broker().failures(message.id).expect("reads");
        assert!(!failures.is_empty(), "{message:?}");
        assert!(
            failures
                .iter()
                .all(|f| f.kind == kind && (f.error.contains(says) || f.error.contains(IN_COMPANY)))
                && failures.last().is_some_and(|last| last.error.contains(says)),
            "{message:?}: {failures:?}\n{}",
            workers.log()
        );
    }
    let done = conn.broker().messages(&listed(State::Done)).expect("lists");
    assert_eq!(done.len(), guilty * every);
    assert!(done.iter().all(|message| (message.attempts, message.crashes) == (1, 0)), "an attempt was lost");
    let crashing = ENDINGS.iter().filter(|(_, kind, _)| *kind == "crash").count() * of_each();
    let deaths = workers.log().matches("it is started again").count();
    println!("{}: {crashing} poisoned, {deaths} deaths, {took:?}", db.backend());
    let bound = crashing * usize::try_from(ATTEMPTS).expect("is small");
    assert!(deaths <= bound + 2 + bound / 10, "{deaths} deaths");
    workers.signal(at, "TERM");
    assert_eq!(workers.end_of(at, LONG), Some(0));
}

fn what_hangs_is_given_up_and_no_other_message_suffers(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    for how in ["loop", "stuck"] {
        produce(&mut conn, "hanging", how).expect("produces");
    }
    produce_many(&mut conn, (0..100).map(|_| NewMessage::new("hanging", &"well"))).expect("produces");
    workers.start(&["--supervise", "--concurrency", "2"]);
    workers.wait("all have ended", LONG, || {
        let stats = conn.broker().topics().expect("reads").remove(0);
        (stats.done, stats.dead) == (100, 2)
    });
    let filter = MessageFilter { topic: None, state: Some(State::Dead), limit: 10 };
    for message in conn.broker().messages(&filter).expect("lists") {
        let failures = conn.broker().failures(message.id).expect("reads");
        assert_eq!(failures.iter().map(|f| &*f.kind).collect::<Vec<_>>(), ["timeout", "timeout"]);
    }
    assert!(!workers.log().contains("it is started again"), "{}", workers.log());
}

fn what_takes_all_memory_is_found_out_and_no_other_message_suffers(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let guilty = produce(&mut conn, "ending", "allocate").expect("produces");
    produce_many(&mut conn, (0..100).map(|_| NewMessage::new("ending", &"well"))).expect("produces");
    workers.start_after("ulimit -v 3000000", &["--supervise", "--concurrency", "4"]);
    workers.wait("all have ended", LONG, || {
        let stats = conn.broker().topics().expect("reads").remove(0);
        (stats.done, stats.dead) == (100, 1)
    });
    let dead = conn.broker().message(guilty).expect("reads").expect("is there");
    assert_eq!((dead.state, dead.attempts), (State::Dead, ATTEMPTS), "{}", workers.log());
    let failures = conn.broker().failures(guilty).expect("reads");
    let told = |words: &str| failures.iter().filter(|failure| failure.error.contains(words)).count();
    assert_eq!(told("SIGABRT") + told(IN_COMPANY), failures.len(), "{failures:?}");
    assert!(
        told("SIGABRT") > 0 && failures.len() == usize::try_from(ATTEMPTS).expect("is small"),
        "{failures:?}"
    );
    let filter = MessageFilter { topic: None, state: Some(State::Done), limit: 1000 };
    let done = conn.broker().messages(&filter).expect("lists");
    assert!(done.iter().all(|message| (message.attempts, message.crashes) == (1, 0)), "an attempt was lost");
}

/// One leaves a thread to the others; two leave none, and only what is not async goes on.
fn what_blocks_the_async_runtime_is_given_up(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    let first = workers.start_after("export TOKIO_WORKER_THREADS=2", &["--concurrency", "4"]);
    let stats = |topic: &str| {
        let all = db.connect().broker().topics().expect("reads");
        all.into_iter().find(|stats| stats.topic == topic).map_or((0, 0), |stats| (stats.done, stats.dead))
    };
    produce(&mut conn, "blocking", &true).expect("produces");
    workers.wait("it is given up", LONG, || stats("blocking") == (0, 1));
    produce_many(&mut conn, (0..100).map(|_| NewMessage::new("blocking", &false))).expect("produces");
    workers.wait("the others go on", LONG, || stats("blocking") == (100, 1));
    assert!(!workers.log().contains("block all its threads"), "{}", workers.log());
    produce(&mut conn, "blocking", &true).expect("produces");
    workers.wait("this too is given up", LONG, || stats("blocking") == (100, 2));
    assert!(workers.log().contains("block all its threads"), "{}", workers.log());
    produce(&mut conn, "blocking", &false).expect("produces");
    produce(&mut conn, "note", &1).expect("produces");
    workers.wait("what is not async goes on", LONG, || stats("note") == (1, 0));
    workers.signal(first, "TERM");
    workers.wait("it stops claiming", LONG, || workers.log().contains("stopping"));
    workers.signal(first, "TERM");
    assert_eq!(workers.end_of(first, LONG), Some(130));
    workers.start(&["--concurrency", "4"]);
    workers.wait("the last one is done by another", LONG, || stats("blocking") == (101, 2));
}

fn a_supervised_worker_stops_as_any_other(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce(&mut conn, "long", &1).expect("produces");
    let at = workers.start(&["--supervise", "--shutdown-timeout", "1s"]);
    workers.wait("it works", LONG, || !workers.journal().is_empty());
    workers.signal(at, "TERM");
    let took = std::time::Instant::now();
    assert_eq!(workers.end_of(at, LONG), Some(1), "it left a message to others");
    assert!(took.elapsed() < Duration::from_secs(5), "{:?}", took.elapsed());
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.ready, stats.running), (1, 0), "it was handed back");
    let at = workers.start(&["--supervise"]);
    workers.wait("it works again", LONG, || workers.journal().len() == 2);
    workers.signal(at, "TERM");
    workers.wait("it says so", LONG, || workers.log().matches("stopping").count() == 2);
    workers.signal(at, "TERM");
    assert_eq!(workers.end_of(at, Duration::from_secs(4)), Some(130));
}

fn a_worker_stops_when_its_supervisor_is_killed(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut workers = Workers::new(db.url());
    produce(&mut conn, "slow", &1).expect("produces");
    let at = workers.start(&["--supervise"]);
    workers.wait("it works", LONG, || !workers.journal().is_empty());
    workers.signal(at, "KILL");
    workers.wait("it finishes and leaves", LONG, || workers.log().contains("all that ran is finished"));
    assert!(workers.log().contains("the supervisor is gone"));
    assert_eq!(conn.broker().topics().expect("reads")[0].done, 1);
}

fn a_panic_says_where_and_by_which_calls_if_that_is_asked_for(db: &TestDatabase) {
    let mut conn = db.connect();
    for asked in ["0", "1"] {
        let mut workers = Workers::new(db.url());
        let panics = [
            (produce(&mut conn, "ending", &"panic").expect("produces"), "in words"),
            (produce(&mut conn, "dozing", &-13).expect("produces"), "in its sleep"),
        ];
        workers.start_with(db.url(), &[], &[("RUST_BACKTRACE", asked)]);
        for (id, words) in panics {
            workers.wait("it has failed", LONG, || !conn.broker().failures(id).expect("reads").is_empty());
            let error = conn.broker().failures(id).expect("reads").remove(0).error;
            let (line, frames) = error.split_once('\n').unwrap_or((&error, ""));
            assert!(
                line.starts_with("panicked at ") && line.contains(".rs:") && line.ends_with(words),
                "{error}"
            );
            assert_eq!(frames.contains("test-worker.rs:"), asked == "1", "{error}");
            assert!(!frames.contains("panicking") && !frames.contains("catch_unwind"), "{error}");
        }
        assert!(!workers.log().contains("backtrace"), "{}", workers.log());
    }
}
