//! The worker in this process: outcomes, time-outs, order of stopping.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use taskmq_core::worker::Ended;
use taskmq_core::{
    BrokerConnection, Context, Error, Failure, NewMessage, Registry, State, Worker, produce, task_consumer,
};
use taskmq_tests::databases::{self, TestDatabase};

use super::transactional;

each_database! {
    every_kind_of_outcome_is_written,
    an_invalid_payload_is_dead_at_once_and_hurts_nobody,
    a_retry_comes_after_its_backoff,
    a_handler_that_takes_too_long_is_given_up,
    state_and_context_reach_the_handler,
    an_async_handler_runs_many_at_once,
    sync_and_async_handlers_share_one_place,
    a_stopping_worker_finishes_what_runs_and_hands_back_the_rest,
    what_is_missing_is_said_before_the_first_message,
}

pub(super) fn run(db: &TestDatabase, registry: Registry) {
    let ended = worker(db, registry).until_empty(true).run().expect("runs");
    assert_eq!(ended, Ended::Finished);
}

pub(super) fn worker(db: &TestDatabase, registry: Registry) -> Worker {
    Worker::new(registry, db.url()).handle_signals(false).concurrency(4)
}

pub(super) fn registry(consumers: impl IntoIterator<Item = taskmq_core::Consumer>) -> Registry {
    consumers.into_iter().try_fold(Registry::default(), Registry::with).expect("different topics")
}

#[task_consumer(topic = "outcome", max_attempts = 2, backoff = "1ms")]
fn outcome(what: String) -> Result<String, Failure> {
    match &*what {
        "good" => Ok("fine 😀".to_owned()),
        "error" => Err(std::io::Error::other("broken \u{0}\u{1b}[31m"))?,
        "dead" => Err(Failure::dead("hopeless")),
        _ => panic!("unknown: {what}"),
    }
}

fn every_kind_of_outcome_is_written(db: &TestDatabase) {
    let mut conn = db.connect();
    let [good, error, dead, panic] = ["good", "error", "dead", "other"]
        .map(|what| outcome::message(&what.to_owned()).produce(&mut conn).expect("produces").id());
    run(db, registry([outcome::consumer()]));
    let mut read = |id| conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!((read(good).state, read(good).result.expect("a result").get()), (State::Done, "\"fine 😀\""));
    assert_eq!((read(error).state, read(error).attempts), (State::Dead, 2));
    assert_eq!(
        read(error).error.as_deref(),
        Some("broken \u{fffd}\u{fffd}[31m"),
        "what no terminal should see is gone"
    );
    assert_eq!(
        (read(dead).state, read(dead).attempts, read(dead).error.as_deref()),
        (State::Dead, 1, Some("hopeless"))
    );
    assert_eq!((read(panic).state, read(panic).attempts), (State::Dead, 2));
    let failures = conn.broker().failures(panic).expect("reads");
    assert!(
        failures.iter().all(|f| f.kind == "panic"
            && f.error.contains("unknown: other")
            && f.error.contains("worker.rs"))
    );
}

#[task_consumer(topic = "number")]
fn number(n: u8) -> u8 {
    n
}

fn an_invalid_payload_is_dead_at_once_and_hurts_nobody(db: &TestDatabase) {
    let mut conn = db.connect();
    for payload in ["256", "\"text\"", "{}", "null", "-1"] {
        db.execute(&format!("INSERT INTO taskmq_messages (topic, payload) VALUES ('number', '{payload}')"));
    }
    let good = produce(&mut conn, "number", &255).expect("produces");
    run(db, registry([number::consumer()]));
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead), (1, 5));
    assert_eq!(conn.broker().message(good).expect("reads").expect("is there").state, State::Done);
    let failure = conn.broker().failures(1).expect("reads").remove(0);
    assert_eq!(failure.kind, "payload");
    assert!(failure.error.contains("u8") && failure.error.contains("256"), "{}", failure.error);
}

#[task_consumer(topic = "backoff", max_attempts = 3, backoff = "200ms..10s")]
fn backoff(_n: u8) -> Result<(), &'static str> {
    Err("no")
}

fn a_retry_comes_after_its_backoff(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = backoff::message(&1).produce(&mut conn).expect("produces").id();
    run(db, registry([backoff::consumer()]));
    let at: Vec<_> = conn.broker().failures(id).expect("reads").iter().map(|f| f.failed_at).collect();
    // By the database's clock: 200 and 400 ms, each with a factor from 0.5 to 1.5; later by what a busy machine needs.
    for (index, (least, most)) in [(100, 1300), (200, 1600)].into_iter().enumerate() {
        let waited = (at[index + 1] - at[index]).num_milliseconds();
        assert!(waited >= least - 2 && waited <= most, "{waited} ms before attempt {}", index + 2);
    }
}

#[task_consumer(topic = "hang", timeout = "200ms", max_attempts = 1)]
fn hang(_n: u8, ctx: &Context) {
    while !ctx.is_cancelled() {
        std::thread::yield_now();
    }
}

fn a_handler_that_takes_too_long_is_given_up(db: &TestDatabase) {
    let mut conn = db.connect();
    for _ in 0..5 {
        hang::message(&1).produce(&mut conn).expect("produces");
    }
    let good = number::message(&1).produce(&mut conn).expect("produces").id();
    let ended =
        worker(db, registry([hang::consumer(), number::consumer()])).concurrency(1).until_empty(true).run();
    assert_eq!(ended.expect("runs"), Ended::Finished);
    assert_eq!(conn.broker().message(good).expect("reads").expect("is there").state, State::Done);
    let hung = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((&*hung.topic, hung.dead), ("hang", 5));
    assert_eq!(conn.broker().failures(1).expect("reads").remove(0).kind, "timeout");
}

struct Offset(i64);

#[task_consumer(topic = "stateful")]
fn stateful(ctx: &Context, n: i64, offset: &Offset) -> (i64, u32, Option<String>) {
    (n + offset.0, ctx.attempt(), ctx.headers().get("who").cloned())
}

fn state_and_context_reach_the_handler(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = stateful::message(&2).header("who", "me").produce(&mut conn).expect("produces").id();
    worker(db, registry([stateful::consumer()])).state(Offset(40)).until_empty(true).run().expect("runs");
    let result = conn.broker().message(id).expect("reads").expect("is there").result.expect("a result");
    assert_eq!(result.get(), r#"[42,1,"me"]"#);
}

#[task_consumer(topic = "nap")]
async fn nap(millis: u64, ctx: &Context) -> u32 {
    // Without tokio here: yields until the time is over.
    let until = Instant::now() + Duration::from_millis(millis);
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if Instant::now() >= until { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
    ctx.attempt()
}

fn an_async_handler_runs_many_at_once(db: &TestDatabase) {
    let mut conn = db.connect();
    for _ in 0..50 {
        nap::message(&200).produce(&mut conn).expect("produces");
    }
    let began = Instant::now();
    worker(db, registry([nap::consumer()])).concurrency(50).until_empty(true).run().expect("runs");
    assert_eq!(conn.broker().topics().expect("reads")[0].done, 50);
    assert!(
        began.elapsed() < Duration::from_secs(8),
        "one after the other they need ten seconds: {:?}",
        began.elapsed()
    );
}

fn sync_and_async_handlers_share_one_place(db: &TestDatabase) {
    let mut conn = db.connect();
    for n in 0..5 {
        nap::message(&1).produce(&mut conn).expect("produces");
        number::message(&n).produce(&mut conn).expect("produces");
    }
    let worker = worker(db, registry([nap::consumer(), number::consumer()])).concurrency(1).until_empty(true);
    let (ends, ended) = std::sync::mpsc::channel();
    let thread = std::thread::spawn(move || ends.send(worker.run().expect("runs")));
    assert_eq!(ended.recv_timeout(Duration::from_secs(60)), Ok(Ended::Finished), "neither keeps the place");
    thread.join().expect("no panic").expect("was heard");
    let stats = conn.broker().topics().expect("reads");
    assert!(stats.iter().all(|stats| stats.done == 5), "{stats:?}");
}

static STARTED: AtomicU32 = AtomicU32::new(0);

#[task_consumer(topic = "gate")]
fn gate(_n: u32) {
    STARTED.fetch_add(1, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(500));
}

fn a_stopping_worker_finishes_what_runs_and_hands_back_the_rest(db: &TestDatabase) {
    let mut conn = db.connect();
    for n in 0..40 {
        gate::message(&n).produce(&mut conn).expect("produces");
    }
    let worker = worker(db, registry([gate::consumer()]));
    let stop = worker.stop_handle();
    let before = STARTED.load(Ordering::SeqCst);
    let running = std::thread::spawn(move || worker.run());
    while STARTED.load(Ordering::SeqCst) < before + 1 {
        std::thread::yield_now();
    }
    stop.stop();
    assert_eq!(running.join().expect("joins").expect("runs"), Ended::Finished);
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.running, stats.ready + stats.done), (0, 40));
    assert!(stats.done >= 1 && stats.ready >= 1, "{stats:?}");
    let waiting = taskmq_core::broker::MessageFilter { topic: None, state: Some(State::Ready), limit: 100 };
    assert!(
        conn.broker().messages(&waiting).expect("lists").iter().all(|m| m.attempts == 0),
        "no attempt was used up"
    );
}

fn what_is_missing_is_said_before_the_first_message(db: &TestDatabase) {
    let none = worker(db, Registry::default()).run();
    assert!(matches!(none, Err(Error::Configuration(_))));
    let stateless = worker(db, registry([stateful::consumer()])).run().expect_err("has no state").to_string();
    assert!(stateless.contains("Offset") && stateless.contains("main_with"), "{stateless}");
    let wrong = if db.backend() == taskmq_core::Backend::Sqlite {
        transactional::effect_mysql::consumer()
    } else {
        transactional::effect_sqlite::consumer()
    };
    let wrong = worker(db, registry([wrong])).run().expect_err("is of another database").to_string();
    assert!(wrong.contains("takes a connection to"), "{wrong}");
    let twice = Registry::default()
        .with(number::consumer())
        .expect("first")
        .with(number::consumer())
        .expect_err("second");
    assert!(matches!(twice, Error::DuplicateConsumer { .. }));
    let unknown =
        registry([number::consumer()]).only(&["typo".to_owned()]).expect_err("no such topic").to_string();
    assert!(unknown.contains("typo") && unknown.contains("number"), "{unknown}");
    let empty = databases::empty(db.backend());
    let missing = Worker::new(registry([number::consumer()]), empty.url())
        .handle_signals(false)
        .run()
        .expect_err("no tables");
    assert!(matches!(missing, Error::NotMigrated(_)), "{missing:?}");
    assert!(
        NewMessage::new("t", &1)
            .produce(&mut empty.connect())
            .expect_err("no tables")
            .to_string()
            .contains("diesel migration run")
    );
}
