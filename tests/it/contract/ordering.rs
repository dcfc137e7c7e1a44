//! Messages that share an ordering key run one at a time, in order, and others go past them.

use std::collections::{HashMap, HashSet};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use taskmq_core::broker::{
    Action, Claim, Claimed, InLine, Note, Noted, Outcome, Peer, Position, Selection, Share, Spot,
    WorkerIdentity,
};
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Context, MessageId, NewMessage, Registry, State, Worker,
    produce, produce_many, task_consumer,
};
use taskmq_tests::databases::TestDatabase;

use super::{claim, done, end, ids, retry, worker};

each_database! {
    of_one_key_one_message_runs_at_a_time,
    who_goes_on_behind_others_takes_nobodys_turn,
    a_retry_keeps_its_turn,
    a_dead_letter_passes_its_turn_on,
    the_line_has_the_order_of_its_topic,
    who_cancels_deletes_or_changes_a_message_breaks_no_line,
    a_line_that_was_broken_by_hand_is_mended,
    who_mends_lines_keeps_nobody_out_of_turn,
    a_dead_workers_message_keeps_its_turn,
    who_was_given_up_passes_nothing_on,
    an_acknowledgement_in_the_hosts_transaction_passes_the_turn_on,
    a_long_line_does_not_keep_others_waiting,
    what_stands_in_line_is_walked_through_once,
    all_that_is_ready_is_taken_back,
    who_is_put_off_leaves_its_turn,
    many_workers_keep_every_line_in_order,
    a_worker_keeps_every_line_in_order,
}

fn keyed(conn: &mut AnyConnection, payload: &str, key: &str) -> MessageId {
    NewMessage::new("t", payload).ordering_key(key).produce(conn).expect("produces").id()
}

/// What a claim of each kind brings, the messages of its batch first.
fn claim_as(conn: &mut AnyConnection, worker: &WorkerIdentity, limit: i64, as_batch: bool) -> Vec<Claimed> {
    let topics = [Share { topic: "t", limit, ageing: None }];
    conn.broker()
        .claim(&Claim { worker_id: worker.id, topics: &topics, limit, as_batch, after: &[] })
        .expect("claims")
}

fn state(conn: &mut AnyConnection, id: MessageId) -> State {
    conn.broker().message(id).expect("reads").expect("is there").state
}

fn settle(conn: &mut AnyConnection, worker: &WorkerIdentity, claimed: &Claimed) {
    assert!(conn.broker().settle(worker, &[done(claimed)]).expect("settles").is_empty());
}

fn of_one_key_one_message_runs_at_a_time(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for as_batch in [false, true] {
        let [a1, a2, b1, a3] = [("a1", "a"), ("a2", "a"), ("b1", "b"), ("a3", "a")]
            .map(|(payload, key)| keyed(&mut conn, payload, key));
        let plain = NewMessage::new("t", "plain").produce(&mut conn).expect("produces").id();
        // Other topics have other lines.
        NewMessage::new("u", "other").ordering_key("a").produce(&mut conn).expect("produces");
        let first = claim_as(&mut conn, &w, 10, as_batch);
        assert_eq!(ids(&first), [plain, a1, b1]);
        assert_eq!(first[1].ordering_key.as_deref(), Some("a"));
        assert!(claim_as(&mut conn, &w, 10, as_batch).is_empty());
        assert_eq!(state(&mut conn, a2), State::Ready);
        for (ended, next) in [(&first[1], vec![a2]), (&first[2], vec![])] {
            settle(&mut conn, &w, ended);
            assert_eq!(ids(&claim_as(&mut conn, &w, 10, as_batch)), next);
        }
        settle(&mut conn, &w, &first[0]);
        let other = claim(conn.broker(), &w, &["u"], 10);
        assert_eq!(other.len(), 1, "the topic u has a line of its own");
        settle(&mut conn, &w, &other[0]);
        let second = Claimed { id: a2, ..first[1].clone() };
        settle(&mut conn, &w, &second);
        let third = claim_as(&mut conn, &w, 10, as_batch);
        assert_eq!(ids(&third), [a3]);
        settle(&mut conn, &w, &third[0]);
        assert!(claim_as(&mut conn, &w, 10, as_batch).is_empty());
    }
}

/// What was committed late, or given back, stands before where a claim goes on.
fn who_goes_on_behind_others_takes_nobodys_turn(db: &TestDatabase) {
    const SINCE_2000: i64 = 946_684_800_000_000;
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let topics = [Share { topic: "t", limit: 10, ageing: None }];
    for as_batch in [false, true] {
        let [first, second] = ["first", "second"].map(|payload| keyed(&mut conn, payload, "k"));
        let plain = NewMessage::new("t", "plain").produce(&mut conn).expect("produces").id();
        let due = conn.broker().message(first).expect("reads").expect("is there").run_at;
        // As PostgreSQL counts time; the others have no use for it, and begin at the beginning.
        let due = due.timestamp_micros() - SINCE_2000;
        let after = [Position { topic: "t".to_owned(), priority: 0, due, id: first }];
        let order = Claim { worker_id: w.id, topics: &topics, limit: 10, as_batch, after: &after };
        let exchanged = conn.broker().exchange(&w, &[], &[], Some(&order)).expect("claims");
        let mut claimed = exchanged.claimed;
        assert!(!ids(&claimed).contains(&second), "{claimed:?}");
        if db.backend() == Backend::Postgres {
            assert_eq!((ids(&claimed), exchanged.in_line > 0), (vec![plain], true));
            claimed.extend(claim_as(&mut conn, &w, 10, as_batch));
        }
        claimed.sort_by_key(|claimed| claimed.id);
        assert_eq!(ids(&claimed), [first, plain]);
        for (claimed, next) in claimed.iter().zip([vec![second], vec![]]) {
            settle(&mut conn, &w, claimed);
            let next_claimed = claim_as(&mut conn, &w, 10, as_batch);
            assert_eq!(ids(&next_claimed), next);
            next_claimed.iter().for_each(|claimed| settle(&mut conn, &w, claimed));
        }
    }
}

fn a_retry_keeps_its_turn(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let [first, second] = ["1", "2"].map(|payload| keyed(&mut conn, payload, "k"));
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    let later = Outcome::Retry { delay: Duration::from_secs(60), kind: "error", error: "no".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], later)]).expect("settles");
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty(), "the second must not overtake the first");
    retry(conn.broker(), first).expect("is made due");
    let again = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!((ids(&again), again[0].attempt), (vec![first], 2));
    let back = end(&again[0], Outcome::HandBack);
    conn.broker().settle(&w, &[back]).expect("settles");
    let again = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!((ids(&again), again[0].attempt), (vec![first], 2));
    settle(&mut conn, &w, &again[0]);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [second]);
}

fn a_dead_letter_passes_its_turn_on(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let [first, second] = ["1", "2"].map(|payload| keyed(&mut conn, payload, "k"));
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    let dead = Outcome::Dead { kind: Some("error"), error: "hopeless".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], dead)]).expect("settles");
    let next = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&next), [second]);
    // Made live again, it joins the line.
    retry(conn.broker(), first).expect("lives again");
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
    settle(&mut conn, &w, &next[0]);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [first]);
}

fn the_line_has_the_order_of_its_topic(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let running = keyed(&mut conn, "running", "k");
    let mut claimed = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&claimed), [running]);
    let ordinary = keyed(&mut conn, "ordinary", "k");
    let [low, high] = [-5, 5].map(|priority| {
        let message = NewMessage::new("t", "p").ordering_key("k").priority(priority);
        message.produce(&mut conn).expect("produces").id()
    });
    // Another program needs no more than the column.
    db.execute("INSERT INTO taskmq_messages (topic, ordering_key, payload) VALUES ('t', 'k', '\"sql\"')");
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
    let mut order = Vec::new();
    while let Some(message) = claimed.pop() {
        settle(&mut conn, &w, &message);
        claimed = claim(conn.broker(), &w, &["t"], 10);
        order.extend(ids(&claimed));
    }
    assert_eq!(order, [high, ordinary, high + 1, low]);
}

fn who_cancels_deletes_or_changes_a_message_breaks_no_line(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let messages: Vec<MessageId> = (0..6).map(|n| keyed(&mut conn, &n.to_string(), "k")).collect();
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&claimed), [messages[0]]);
    let mut change = |action: &Action, id| {
        let changed = conn.broker().change(action, &[id], Noted::No).expect("changes");
        assert_eq!(changed.changed, [id]);
    };
    change(&Action::Cancel, messages[1]);
    change(&Action::Priority(9), messages[4]);
    let retry = Outcome::Retry { delay: Duration::from_secs(60), kind: "error", error: "no".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], retry)]).expect("settles");
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty(), "whose priority is higher now waits as well");
    // The first of the line is not running: a person takes it away.
    conn.broker().change(&Action::Delete, &[messages[0]], Noted::No).expect("deletes");
    let next = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&next), [messages[4]]);
    settle(&mut conn, &w, &next[0]);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [messages[2]]);
}

fn a_line_that_was_broken_by_hand_is_mended(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let messages: Vec<MessageId> = (0..3).map(|n| keyed(&mut conn, &n.to_string(), "k")).collect();
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(conn.broker().mend_lines().expect("looks"), 0);
    db.execute(&format!("DELETE FROM taskmq_messages WHERE id = {}", messages[0]));
    assert_eq!(conn.broker().settle(&w, &[done(&claimed[0])]).expect("settles"), [messages[0]]);
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
    assert_eq!(conn.broker().mend_lines().expect("mends"), 1);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [messages[1]]);
    db.execute("DELETE FROM taskmq_turns");
    assert_eq!(conn.broker().mend_lines().expect("mends"), 1);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [messages[2]]);
}

/// The next in line is called up past those that are locked, so who only looks must lock none.
fn who_mends_lines_keeps_nobody_out_of_turn(db: &TestDatabase) {
    if db.backend() == Backend::Sqlite {
        return; // Nobody writes beside another there.
    }
    let (mut conn, mut other) = (db.connect(), db.connect());
    let w = worker(&mut conn, 1);
    let [first, second] = ["1", "2"].map(|payload| keyed(&mut conn, payload, "k"));
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&claimed), [first]);
    other.broker().begin().expect("begins");
    assert_eq!(other.broker().mend_lines().expect("looks"), 0);
    let third = keyed(&mut conn, "3", "k");
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty(), "the third joins the line");
    settle(&mut conn, &w, &claimed[0]);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [second], "and not {third}");
    other.broker().rollback().expect("rolls back");
}

fn a_dead_workers_message_keeps_its_turn(db: &TestDatabase) {
    let mut conn = db.connect();
    let (dies, lives) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let [first, second] = ["1", "2"].map(|payload| keyed(&mut conn, payload, "k"));
    assert_eq!(ids(&claim(conn.broker(), &dies, &["t"], 10)), [first]);
    let beat = conn.broker().look(2, &["t"]).expect("looks").peers.remove(0).beat;
    let rescued = conn.broker().rescue(&Peer { id: 1, beat, lock_free: None }).expect("rescues");
    assert_eq!(rescued, 1);
    assert!(claim(conn.broker(), &lives, &["t"], 10).is_empty(), "the second waits for the suspected first");
    let suspects = conn.broker().claim_suspects(2, &["t"], 10).expect("claims");
    assert_eq!(ids(&suspects), [first]);
    settle(&mut conn, &lives, &suspects[0]);
    assert_eq!(ids(&claim(conn.broker(), &lives, &["t"], 10)), [second]);
}

fn an_acknowledgement_in_the_hosts_transaction_passes_the_turn_on(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let [first, second] = ["1", "2"].map(|payload| keyed(&mut conn, payload, "k"));
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&claimed), [first]);
    for commits in [false, true] {
        conn.broker().begin().expect("begins");
        assert!(conn.broker().ack(&w, &done(&claimed[0])).expect("acknowledges"));
        if commits {
            conn.broker().commit().expect("commits");
        } else {
            conn.broker().rollback().expect("rolls back");
            assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
        }
    }
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [second]);
}

fn a_long_line_does_not_keep_others_waiting(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    produce_many(&mut conn, (0..3000).map(|n| NewMessage::new("t", &n).ordering_key("k"))).expect("produces");
    let last = keyed(&mut conn, "other", "other");
    for as_batch in [true, false] {
        // One after the other they join the line, once; then claims do not meet them again.
        let claims = (0..10).find(|_| claim_as(&mut conn, &w, 1000, as_batch).iter().any(|c| c.id == last));
        assert_eq!(claims, as_batch.then_some(3));
    }
    assert_eq!(conn.broker().next_due(&["t"]).expect("looks"), None);
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.running, stats.ready), (2, 2999));
    let mut lines: Vec<InLine> = Vec::new();
    loop {
        let next = conn.broker().in_line(lines.last(), 700).expect("reads");
        if next.is_empty() {
            break;
        }
        lines.extend(next);
    }
    let waiting: HashSet<MessageId> = lines.iter().map(|message| message.place.id).collect();
    assert_eq!((lines.len(), waiting.len()), (2999, 2999));
    let mut walk = Selection::of(State::Ready).walk();
    let mut ready = HashSet::new();
    while let Some(page) = walk.next(conn.broker(), 1000).expect("reads") {
        let spot: Spot = walk.spot().to_string().parse().expect("a spot");
        assert_eq!(&spot, walk.spot());
        ready.extend(page.into_iter().map(|found| found.id));
    }
    assert_eq!(ready, waiting);
}

fn what_stands_in_line_is_walked_through_once(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let topics = ["t", "u"];
    let messages = (0..90_i16).map(|n| {
        let message = NewMessage::new(topics[usize::from(n % 2 == 0)], &n).priority(n % 4 - 1);
        message.ordering_key(format!("k{}", n % 3))
    });
    produce_many(&mut conn, messages).expect("produces");
    let all = conn.broker().newest(MessageId::MAX, 1000).expect("reads");
    let all: HashSet<MessageId> = all.into_iter().map(|message| message.id).collect();
    let mut claimed = HashSet::new();
    for _ in 0..4 {
        claimed.extend(ids(&claim(conn.broker(), &w, &topics, 1000)));
    }
    assert_eq!(claimed.len(), 6, "one of each key of each topic");
    for page in [1, 7, 100] {
        let mut lines: Vec<InLine> = Vec::new();
        loop {
            let next = conn.broker().in_line(lines.last(), page).expect("reads");
            if next.is_empty() {
                break;
            }
            lines.extend(next);
        }
        let standing: HashSet<MessageId> = lines.iter().map(|message| message.place.id).collect();
        assert_eq!(lines.len(), standing.len(), "in pages of {page}");
        assert_eq!(&standing | &claimed, all, "in pages of {page}");
    }
}

/// A message is taken back though its turn comes while those before it are.
fn all_that_is_ready_is_taken_back(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for key in 0..3 {
        for n in 0..4 {
            keyed(&mut conn, &n.to_string(), &format!("k{key}"));
        }
    }
    let claimed = claim(conn.broker(), &w, &["t"], 100);
    assert_eq!(claimed.len(), 3);
    let back: Vec<_> = claimed.iter().map(|claimed| end(claimed, Outcome::HandBack)).collect();
    conn.broker().settle(&w, &back).expect("settles");
    let later = produce(&mut conn, "t", &1).expect("produces");
    let note =
        Note { actor: "test", action: "cancel", topic: None, message_id: None, details: "", messages: 0 };
    let note = conn.broker().note(&note).expect("notes");
    for page in [2, 500] {
        let mut walk = Selection::of(State::Ready).walk();
        let mut changed = 0;
        while let Some(page) = walk.change(conn.broker(), page, &Action::Cancel, note).expect("changes") {
            changed += page.changed.len();
        }
        assert_eq!(changed, if page == 2 { 13 } else { 0 });
    }
    assert_eq!(super::admin::state(&mut conn, later), Some(State::Cancelled));
    assert!(claim(conn.broker(), &w, &["t"], 100).is_empty(), "nothing is left");
}

/// The others of its key do not wait for a message that a person puts off.
fn who_is_put_off_leaves_its_turn(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let [first, second] = ["1", "2"].map(|payload| keyed(&mut conn, payload, "k"));
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    conn.broker().settle(&w, &[end(&claimed[0], Outcome::HandBack)]).expect("settles");
    let later = conn.broker().now().expect("reads") + chrono::TimeDelta::hours(1);
    conn.broker().change(&Action::RunAt(later), &[first], Noted::No).expect("changes");
    let next = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&next), [second]);
    settle(&mut conn, &w, &next[0]);
    retry(conn.broker(), first).expect("is made due");
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [first]);
}

/// Claims and settles until `all` are done; tells which ran, and that no two of a key did at once.
fn work(db: &TestDatabase, id: i64, all: usize, running: &Mutex<Running>) {
    let mut conn = db.connect_worker();
    let w = worker(&mut conn, id);
    loop {
        let claimed = claim_as(&mut conn, &w, 7, id % 2 == 0);
        for message in &claimed {
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            let key = message.ordering_key.clone().expect("a key");
            assert!(running.keys.insert(key.clone()), "two of the key {key} run at once");
            running.order.entry(key).or_default().push(message.id);
        }
        for message in &claimed {
            let mut running = running.lock().unwrap_or_else(PoisonError::into_inner);
            running.keys.remove(message.ordering_key.as_deref().expect("a key"));
        }
        let ended: Vec<_> = claimed.iter().map(done).collect();
        assert!(conn.broker().settle(&w, &ended).expect("settles").is_empty());
        let running = running.lock().unwrap_or_else(PoisonError::into_inner);
        if running.order.values().map(Vec::len).sum::<usize>() >= all {
            return;
        }
    }
}

#[derive(Default)]
struct Running {
    keys: HashSet<String>,
    order: HashMap<String, Vec<MessageId>>,
}

fn many_workers_keep_every_line_in_order(db: &TestDatabase) {
    const ALL: usize = 300;
    let mut conn = db.connect();
    let keys = ["a", "b", "c", "d", "e", "f", "g"];
    let messages = (0..ALL).map(|n| NewMessage::new("t", &n).ordering_key(keys[n * 31 % 7]));
    produce_many(&mut conn, messages).expect("produces");
    let running = Mutex::new(Running::default());
    std::thread::scope(|scope| {
        for id in 1..=4 {
            let running = &running;
            scope.spawn(move || work(db, id, ALL, running));
        }
    });
    let running = running.into_inner().unwrap_or_else(PoisonError::into_inner);
    assert_eq!(running.order.len(), keys.len());
    for (key, order) in running.order {
        assert!(order.is_sorted(), "{key}: {order:?}");
    }
}

static RAN: Mutex<Vec<(String, String, MessageId)>> = Mutex::new(Vec::new());

#[task_consumer(topic = "lines", max_attempts = 5, backoff = "1ms")]
fn lines(database: String, ctx: &Context) -> Result<(), &'static str> {
    if ctx.attempt() == 1 && ctx.id() % 5 == 0 {
        return Err("again");
    }
    let key = ctx.ordering_key().unwrap_or_default().to_owned();
    RAN.lock().unwrap_or_else(PoisonError::into_inner).push((database, key, ctx.id()));
    Ok(())
}

fn a_worker_keeps_every_line_in_order(db: &TestDatabase) {
    let mut conn = db.connect();
    let database = db.url().to_owned();
    let keys = ["a", "b", "c"];
    let messages = (0..90).map(|n| NewMessage::new("lines", &database).ordering_key(keys[n % 3]));
    produce_many(&mut conn, messages).expect("produces");
    let registry = Registry::default().with(lines::consumer()).expect("one consumer");
    let worker = Worker::new(registry, db.url()).handle_signals(false).concurrency(8);
    assert_eq!(worker.until_empty(true).run().expect("runs"), Ended::Finished);
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.dead, stats.ready), (90, 0, 0));
    let ran = RAN.lock().unwrap_or_else(PoisonError::into_inner);
    for key in keys {
        let order: Vec<MessageId> =
            ran.iter().filter(|(of, k, _)| *of == database && k == key).map(|(.., id)| *id).collect();
        assert_eq!(order.len(), 30);
        assert!(order.is_sorted(), "{key}: {order:?}");
    }
}

/// Its lease is lost: it must not pass on a turn that is not its own any more.
fn who_was_given_up_passes_nothing_on(db: &TestDatabase) {
    let mut conn = db.connect();
    let (paused, other) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let [first, _second] = ["1", "2"].map(|payload| keyed(&mut conn, payload, "k"));
    let old = claim(conn.broker(), &paused, &["t"], 10);
    let beat = conn.broker().look(2, &["t"]).expect("looks").peers.remove(0).beat;
    conn.broker().rescue(&Peer { id: 1, beat, lock_free: None }).expect("rescues");
    let again = conn.broker().claim_suspects(2, &["t"], 10).expect("claims");
    assert_eq!(ids(&again), [first]);
    assert_eq!(conn.broker().settle(&paused, &[done(&old[0])]).expect("settles"), [first]);
    assert!(claim(conn.broker(), &other, &["t"], 10).is_empty());
}
