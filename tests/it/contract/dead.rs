use std::time::Duration;

use taskmq_core::broker::{MessageFilter, Outcome};
use taskmq_core::{BrokerConnection, Error, NewMessage, Retention, State, produce};
use taskmq_tests::databases::TestDatabase;

use super::{claim, done, end, retry, worker};

each_database! {
    a_dead_letter_keeps_every_attempts_error,
    a_dead_letter_can_be_revived,
    a_waiting_retry_can_be_made_due,
    what_is_done_is_kept_as_long_as_its_retention_says,
    messages_are_listed,
}

fn a_dead_letter_keeps_every_attempts_error(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    let w = worker(&mut conn, 1);
    for error in ["one", "two"] {
        let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
        let outcome = Outcome::Retry { delay: Duration::ZERO, kind: "error", error: error.to_owned() };
        assert!(conn.broker().settle(&w, &[end(&claimed, outcome)]).expect("settles").is_empty());
    }
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    assert_eq!(claimed.attempt, 3);
    let outcome = Outcome::Dead { kind: Some("panic"), error: "three".to_owned() };
    assert!(conn.broker().settle(&w, &[end(&claimed, outcome)]).expect("settles").is_empty());
    let message = conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!((message.state, message.attempts, message.error.as_deref()), (State::Dead, 3, Some("three")));
    let failures = conn.broker().failures(id).expect("reads");
    let texts: Vec<_> = failures.iter().map(|f| (f.attempt, &*f.kind, &*f.error, &*f.worker)).collect();
    assert_eq!(
        texts,
        [(1, "error", "one", "host:1"), (2, "error", "two", "host:1"), (3, "panic", "three", "host:1")]
    );
}

fn a_dead_letter_can_be_revived(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = NewMessage::new("t", &"x")
        .priority(3)
        .unique("k")
        .header("a", "b")
        .produce(&mut conn)
        .expect("produces")
        .id();
    let w = worker(&mut conn, 1);
    assert!(matches!(retry(conn.broker(), id + 1), Err(Error::Message { .. })));
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    assert!(matches!(retry(conn.broker(), id), Err(Error::Message { .. })), "it is running");
    let outcome = Outcome::Dead { kind: Some("error"), error: "no".to_owned() };
    conn.broker().settle(&w, &[end(&claimed, outcome)]).expect("settles");
    let usurper = NewMessage::new("t", &"y").unique("k").produce(&mut conn).expect("produces").id();
    assert!(matches!(retry(conn.broker(), id), Err(Error::Message { .. })), "its key is taken");
    db.execute(&format!("DELETE FROM taskmq_messages WHERE id = {usurper}"));
    retry(conn.broker(), id).expect("retries");
    let again = claim(conn.broker(), &w, &["t"], 1).remove(0);
    assert_eq!((again.id, again.attempt, &*again.payload), (id, 1, "\"x\""));
    assert!(again.headers.is_some());
    assert_eq!(conn.broker().failures(id).expect("reads").len(), 1, "its past is kept");
    conn.broker().settle(&w, &[done(&again)]).expect("settles");
    assert!(matches!(retry(conn.broker(), id), Err(Error::Message { .. })), "it is done");
}

fn a_waiting_retry_can_be_made_due(db: &TestDatabase) {
    let mut conn = db.connect();
    let id =
        NewMessage::new("t", &1).delay(Duration::from_secs(3600)).produce(&mut conn).expect("produces").id();
    let w = worker(&mut conn, 1);
    assert!(claim(conn.broker(), &w, &["t"], 1).is_empty());
    retry(conn.broker(), id).expect("retries");
    assert_eq!(super::ids(&claim(conn.broker(), &w, &["t"], 1)), [id]);
}

fn what_is_done_is_kept_as_long_as_its_retention_says(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let mut finish = |retention| {
        let id = produce(&mut conn, "t", &1).expect("produces");
        let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
        let outcome = Outcome::Done { result: Some("{\"r\":1}".to_owned()), retention };
        conn.broker().settle(&w, &[end(&claimed, outcome)]).expect("settles");
        id
    };
    let forever = finish(Retention::Forever);
    let long = finish(Retention::For(Duration::from_secs(3600)));
    let not = finish(Retention::None);
    let over = finish(Retention::For(Duration::from_secs(3600)));
    let past = match db.backend() {
        taskmq_core::Backend::Sqlite => "datetime('now', '-3601 seconds')",
        _ => "CURRENT_TIMESTAMP - INTERVAL '3601' SECOND",
    };
    db.execute(&format!("UPDATE taskmq_archive SET finished_at = {past} WHERE id = {over}"));
    assert_eq!(conn.broker().purge(100).expect("purges"), 1);
    let mut there = |id| conn.broker().message(id).expect("reads").is_some();
    assert_eq!([there(forever), there(long), there(not), there(over)], [true, true, false, false]);
    let kept = conn.broker().message(forever).expect("reads").expect("is there");
    assert_eq!(kept.result.expect("a result").get(), "{\"r\":1}");
}

fn messages_are_listed(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let finished = produce(&mut conn, "a", &1).expect("produces");
    let claimed = claim(conn.broker(), &w, &["a"], 1).remove(0);
    conn.broker().settle(&w, &[done(&claimed)]).expect("settles");
    let low = produce(&mut conn, "a", &2).expect("produces");
    let high = NewMessage::new("a", &3).priority(1).produce(&mut conn).expect("produces").id();
    let later =
        NewMessage::new("b", &4).delay(Duration::from_secs(99)).produce(&mut conn).expect("produces").id();
    let mut list = |topic: Option<&str>, state| {
        let filter = MessageFilter { topic: topic.map(str::to_owned), state, limit: 10 };
        let messages = conn.broker().messages(&filter).expect("lists");
        messages.iter().map(|m| m.id).collect::<Vec<_>>()
    };
    assert_eq!(list(None, None), [high, low, later, finished]);
    assert_eq!(list(Some("a"), None), [high, low, finished]);
    assert_eq!(list(None, Some(State::Scheduled)), [later]);
    assert_eq!(list(Some("a"), Some(State::Done)), [finished]);
    assert_eq!(list(Some("b"), Some(State::Ready)), Vec::<i64>::new());
    let topics = conn.broker().topics().expect("reads");
    assert_eq!(
        topics.iter().map(|t| (&*t.topic, t.ready, t.scheduled, t.done)).collect::<Vec<_>>(),
        [("a", 2, 0, 1), ("b", 0, 1, 0)]
    );
}
