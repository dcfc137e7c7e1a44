//! Running messages that a person cancels.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{MysqlConnection, PgConnection};
use taskmq_core::broker::{Action, Changed, Noted, Outcome, Settlement};
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Consumer, Context, Failure, MessageId, NewMessage, Result,
    State, produce, task_consumer,
};
use taskmq_tests::databases::TestDatabase;

use super::worker::registry;
use super::{claim, claim_batch, done, end, identity, ids, retry, worker};

each_database! {
    their_workers_see_it_and_what_they_write_is_kept,
    one_that_waits_by_then_is_taken_back,
    one_that_is_done_by_then_is_done,
    what_a_person_wants_later_counts,
    the_next_of_its_ordering_key_runs,
    every_kind_of_handler_learns_it,
    what_has_not_begun_does_not_begin,
}

const LONG: Duration = Duration::from_secs(60);

fn cancel(conn: &mut AnyConnection, ids: &[MessageId]) -> Changed {
    conn.broker().change(&Action::Cancel, ids, Noted::No).expect("changes")
}

fn cancelled(kind: Option<&'static str>) -> Outcome {
    Outcome::Cancelled { kind, error: "it was stopped".to_owned() }
}

fn state(conn: &mut AnyConnection, id: MessageId) -> Option<State> {
    conn.broker().message(id).expect("reads").map(|message| message.state)
}

/// What a worker sees of such messages: those that are held, and the others.
fn seen(conn: &mut AnyConnection) -> (Vec<MessageId>, Vec<MessageId>) {
    let look = conn.broker().look(1, &["t"]).expect("looks");
    (look.cancels, look.left_cancels)
}

fn their_workers_see_it_and_what_they_write_is_kept(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for n in 0..4 {
        produce(&mut conn, "t", &n).expect("produces");
    }
    let single = claim(conn.broker(), &w, &["t"], 2);
    let batch = claim_batch(conn.broker(), &w, 2);
    let all = [ids(&single), ids(&batch)].concat();
    let changed = cancel(&mut conn, &all);
    assert_eq!((&changed.changed[..], changed.refused.len()), (&[][..], 0));
    assert_eq!(changed.asked, all);
    assert_eq!(seen(&mut conn), (ids(&single), ids(&batch)), "a batch may be over the next moment");
    assert!(conn.broker().cancel_asked_at(all[0]).expect("reads").is_some());
    let batch_id = batch[0].batch.expect("a batch");
    assert_eq!(conn.broker().take_back(&ids(&batch)).expect("takes"), 0, "they run");
    conn.broker().promote(w.id, batch_id, &ids(&batch), true).expect("promotes");
    assert_eq!(seen(&mut conn), (all.clone(), Vec::new()));
    // Ended while it ran, before it began, and the two of the batch.
    let mut settlements: Vec<Settlement> = single
        .iter()
        .chain(&batch)
        .map(|c| Settlement { batch: None, ..end(c, cancelled(Some("error"))) })
        .collect();
    settlements[1].outcome = cancelled(None);
    assert!(conn.broker().settle(&w, &settlements).expect("settles").is_empty());
    for (id, attempts) in all.iter().zip([1, 0, 1, 1]) {
        let message = conn.broker().message(*id).expect("reads").expect("is there");
        assert_eq!((message.state, message.attempts), (State::Cancelled, attempts));
        assert_eq!(message.error.as_deref(), Some("it was stopped"));
        assert_eq!(conn.broker().failures(*id).expect("reads").len(), usize::from(attempts > 0));
    }
    assert_eq!(conn.broker().take_back(&all).expect("takes"), 0);
    assert_eq!(seen(&mut conn), (Vec::new(), Vec::new()), "that is over");
    // A batch that ends before it is promoted.
    produce(&mut conn, "t", &5).expect("produces");
    let batch = claim_batch(conn.broker(), &w, 1);
    cancel(&mut conn, &ids(&batch));
    let outcome = end(&batch[0], cancelled(Some("cancelled")));
    assert!(conn.broker().settle(&w, &[outcome]).expect("settles").is_empty());
    assert_eq!(state(&mut conn, batch[0].id), Some(State::Cancelled));
}

fn one_that_waits_by_then_is_taken_back(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for n in 0..3 {
        produce(&mut conn, "t", &n).expect("produces");
    }
    let claimed = claim(conn.broker(), &w, &["t"], 3);
    cancel(&mut conn, &ids(&claimed));
    let outcomes = [
        Outcome::Retry { delay: Duration::from_secs(60), kind: "error", error: "no".to_owned() },
        Outcome::HandBack,
    ];
    let ended: Vec<Settlement> = claimed.iter().zip(outcomes).map(|(c, outcome)| end(c, outcome)).collect();
    conn.broker().settle(&w, &ended).expect("settles");
    assert_eq!(seen(&mut conn), (vec![claimed[2].id], vec![claimed[0].id, claimed[1].id]));
    // The third one loses its worker.
    let beat = conn.broker().look(2, &["t"]).expect("looks").peers.remove(0);
    assert_eq!(conn.broker().rescue(&beat).expect("rescues"), 1);
    assert_eq!(state(&mut conn, claimed[2].id), Some(State::Cancelled), "nobody can have it in between");
    assert_eq!(conn.broker().take_back(&ids(&claimed)).expect("takes"), 2);
    for (claimed, attempts) in claimed.iter().zip([1, 0, 1]) {
        let message = conn.broker().message(claimed.id).expect("reads").expect("is there");
        assert_eq!((message.state, message.attempts), (State::Cancelled, attempts));
    }
    assert_eq!(seen(&mut conn), (Vec::new(), Vec::new()));
}

fn one_that_is_done_by_then_is_done(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    produce(&mut conn, "t", &1).expect("produces");
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    cancel(&mut conn, &ids(&claimed));
    conn.broker().settle(&w, &[done(&claimed[0])]).expect("settles");
    assert_eq!(seen(&mut conn), (Vec::new(), ids(&claimed)));
    assert_eq!(conn.broker().take_back(&ids(&claimed)).expect("takes"), 0);
    assert_eq!(state(&mut conn, claimed[0].id), Some(State::Done));
    assert_eq!(seen(&mut conn), (Vec::new(), Vec::new()));
}

fn what_a_person_wants_later_counts(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    produce(&mut conn, "t", &1).expect("produces");
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    let id = claimed[0].id;
    cancel(&mut conn, &[id]);
    assert!(conn.broker().change(&Action::Delete, &[id], Noted::No).expect("refuses").changed.is_empty());
    assert_eq!(cancel(&mut conn, &[id]).asked, [id], "once more is the same");
    assert_eq!(seen(&mut conn), (vec![id], Vec::new()));
    conn.broker().settle(&w, &[end(&claimed[0], cancelled(Some("error")))]).expect("settles");
    retry(conn.broker(), id).expect("retries");
    assert_eq!(seen(&mut conn), (Vec::new(), Vec::new()), "it is to run");
    assert_eq!(conn.broker().take_back(&[id]).expect("takes"), 0, "who had seen that comes too late");
    assert_eq!(state(&mut conn, id), Some(State::Ready));
}

fn the_next_of_its_ordering_key_runs(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for n in 0..2 {
        NewMessage::new("t", &n).ordering_key("k").produce(&mut conn).expect("produces");
    }
    let claimed = claim(conn.broker(), &w, &["t"], 2);
    assert_eq!(claimed.len(), 1);
    cancel(&mut conn, &ids(&claimed));
    conn.broker().settle(&w, &[end(&claimed[0], cancelled(Some("error")))]).expect("settles");
    assert_eq!(claim(conn.broker(), &identity(1), &["t"], 2).len(), 1);
}

/// What the handlers of this file have begun, and what they may end, by what their messages say.
static BEGUN: Mutex<Vec<u64>> = Mutex::new(Vec::new());
static RELEASED: Mutex<Vec<u64>> = Mutex::new(Vec::new());

fn begin(token: u64) {
    BEGUN.lock().expect("no panic").push(token);
}

fn has_begun(token: u64) -> bool {
    BEGUN.lock().expect("no panic").contains(&token)
}

fn until_cancelled(token: u64, ctx: &Context) {
    begin(token);
    until("it is told", || ctx.is_cancelled());
}

#[task_consumer(topic = "obeys")]
fn obeys(token: u64, ctx: &Context) -> Result<(), Failure> {
    until_cancelled(token, ctx);
    Err(Failure::new("stopped half-way"))
}

#[task_consumer(topic = "finishes")]
fn finishes(token: u64, ctx: &Context) {
    until_cancelled(token, ctx);
}

/// Its time-out comes after the worker has learnt it.
#[task_consumer(topic = "overruns", timeout = "6s")]
fn overruns(token: u64) {
    begin(token);
    std::thread::sleep(Duration::from_secs(12));
}

#[task_consumer(topic = "waits")]
async fn waits(token: u64) {
    begin(token);
    std::future::pending().await
}

#[task_consumer(topic = "blocks")]
fn blocks(token: u64) {
    begin(token);
    until("it is released", || RELEASED.lock().expect("no panic").contains(&token));
}

/// Runs a worker while `test` is under way.
fn beside_a_worker(
    db: &TestDatabase,
    consumers: impl IntoIterator<Item = Consumer>,
    concurrency: usize,
    test: impl FnOnce(&mut AnyConnection),
) {
    let worker = super::worker::worker(db, registry(consumers)).concurrency(concurrency);
    let stop = worker.stop_handle();
    let running = std::thread::spawn(move || worker.run());
    test(&mut db.connect());
    stop.stop();
    assert_eq!(running.join().expect("joins").expect("runs"), Ended::Finished);
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < LONG, "{what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn produce_token(conn: &mut AnyConnection, topic: &'static str) -> (MessageId, u64) {
    let token = fastrand::u64(..);
    (produce(conn, topic, &token).expect("produces"), token)
}

fn every_kind_of_handler_learns_it(db: &TestDatabase) {
    let consumers = [obeys::consumer(), finishes::consumer(), overruns::consumer(), waits::consumer()];
    let topics = consumers.each_ref().map(|consumer| consumer.topic());
    beside_a_worker(db, consumers, 4, |conn| {
        let made = topics.map(|topic| produce_token(conn, topic));
        until("all run", || made.iter().all(|(_, token)| has_begun(*token)));
        let ids = made.map(|(id, _)| id);
        assert_eq!(cancel(conn, &ids).asked, ids);
        until("all end", || ids.iter().all(|id| state(conn, *id).is_some_and(State::is_finished)));
        let mut read = |id| {
            let message = conn.broker().message(id).expect("reads").expect("is there");
            let kind = conn.broker().failures(id).expect("reads").pop().map(|failure| failure.kind);
            (message.state, message.error, kind)
        };
        let told =
            |error: &str, kind: &str| (State::Cancelled, Some(error.to_owned()), Some(kind.to_owned()));
        assert_eq!(read(ids[0]), told("stopped half-way", "error"));
        assert_eq!(read(ids[1]), (State::Done, None, None), "it succeeded");
        assert_eq!(read(ids[2]), told("it ran longer than its timeout of 6s", "timeout"));
        assert_eq!(read(ids[3]), told("it was cancelled while it ran", "cancelled"));
        until("nothing is left to ask", || seen(conn) == (Vec::new(), Vec::new()));
    });
}

fn what_has_not_begun_does_not_begin(db: &TestDatabase) {
    beside_a_worker(db, [blocks::consumer()], 1, |conn| {
        // Quick ones, which a worker holds beyond those that run.
        for _ in 0..50 {
            let (_, token) = produce_token(conn, "blocks");
            RELEASED.lock().expect("no panic").push(token);
        }
        until("they are done", || conn.broker().topics().expect("reads")[0].done == 50);
        let (first, blocking) = produce_token(conn, "blocks");
        until("it runs", || has_begun(blocking));
        let (second, token) = produce_token(conn, "blocks");
        until("it is held", || state(conn, second) == Some(State::Running));
        assert_eq!(cancel(conn, &[second]).asked, [second]);
        until("it is cancelled", || state(conn, second) == Some(State::Cancelled));
        assert_eq!(conn.broker().message(second).expect("reads").expect("is there").attempts, 0);
        RELEASED.lock().expect("no panic").push(blocking);
        until("the first ends", || state(conn, first) == Some(State::Done));
        assert!(!has_begun(token));
    });
}

mod servers {
    use super::a_transactional_handler_leaves_nothing;

    each_server! { a_transactional_handler_leaves_nothing }
}

fn leave(token: u64, ctx: &Context, conn: &mut impl SimpleConnection) -> Result<(), Failure> {
    conn.batch_execute("INSERT INTO effects (number) VALUES (1)")?;
    until_cancelled(token, ctx);
    Err(Failure::new("stopped half-way"))
}

#[task_consumer(topic = "leaves")]
fn leaves_postgres(token: u64, ctx: &Context, conn: &mut PgConnection) -> Result<(), Failure> {
    leave(token, ctx, conn)
}

#[task_consumer(topic = "leaves")]
fn leaves_mysql(token: u64, ctx: &Context, conn: &mut MysqlConnection) -> Result<(), Failure> {
    leave(token, ctx, conn)
}

/// On SQLite nobody writes while such a handler runs, not even what a person wants.
fn a_transactional_handler_leaves_nothing(db: &TestDatabase) {
    db.execute("CREATE TABLE effects (number INTEGER NOT NULL)");
    let consumer = match db.backend() {
        Backend::Postgres => leaves_postgres::consumer(),
        _ => leaves_mysql::consumer(),
    };
    beside_a_worker(db, [consumer], 1, |conn| {
        let (id, token) = produce_token(conn, "leaves");
        until("it runs", || has_begun(token));
        assert_eq!(cancel(conn, &[id]).asked, [id]);
        until("it is cancelled", || state(conn, id) == Some(State::Cancelled));
    });
    // A row would make this table's constraint fail.
    db.execute("CREATE TABLE effect_count (number INTEGER NOT NULL CHECK (number = 0))");
    db.execute("INSERT INTO effect_count SELECT count(*) FROM effects");
}
