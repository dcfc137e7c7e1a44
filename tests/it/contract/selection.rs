//! The messages that a person means.

use std::time::Duration;

use taskmq_core::broker::{Action, Condition, Noted, Outcome, Selection, Spot};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, NewMessage, State, produce};
use taskmq_tests::databases::TestDatabase;

use super::{claim, end, worker};

each_database! {
    a_selection_is_walked_through_once,
    a_walk_goes_on_from_its_text,
    what_a_walk_changes_hides_nothing,
    payloads_are_looked_into,
    messages_are_found_by_their_key,
    messages_are_found_by_their_ordering_key,
    messages_are_found_by_their_time,
    what_comes_after_a_question_is_not_meant,
}

fn walked(conn: &mut AnyConnection, selection: Selection, limit: i64) -> Vec<MessageId> {
    let mut walk = selection.walk();
    let mut ids = Vec::new();
    while let Some(page) = walk.next(conn.broker(), limit).expect("walks") {
        ids.extend(page.into_iter().map(|found| found.id));
    }
    ids
}

/// Nine ready ones in three lanes, two later ones, three dead ones.
fn fill(conn: &mut AnyConnection) -> (Vec<MessageId>, Vec<MessageId>, Vec<MessageId>) {
    let w = worker(conn, 1);
    let dead = ["took 3 s", "took 44 s", "gone"].map(|error| {
        produce(conn, "t", "dead").expect("produces");
        let claimed = claim(conn.broker(), &w, &["t"], 1);
        let outcome = Outcome::Dead { kind: Some("error"), error: error.to_owned() };
        conn.broker().settle(&w, &[end(&claimed[0], outcome)]).expect("settles");
        claimed[0].id
    });
    let lanes = [("t", 5), ("t", 0), ("u", 0)];
    let ready = lanes.iter().flat_map(|(topic, priority)| {
        [0; 3].map(|_| {
            let message = NewMessage::new(*topic, &format!("{topic} {priority}")).priority(*priority);
            message.produce(conn).expect("produces").id()
        })
    });
    let ready = ready.collect();
    let later = ["t", "u"].map(|topic| {
        let message = NewMessage::new(topic, "later").delay(Duration::from_secs(600));
        message.produce(conn).expect("produces").id()
    });
    (ready, later.to_vec(), dead.to_vec())
}

fn a_selection_is_walked_through_once(db: &TestDatabase) {
    let mut conn = db.connect();
    let (ready, later, dead) = fill(&mut conn);
    for limit in [1, 2, 100] {
        assert_eq!(walked(&mut conn, Selection::of(State::Ready), limit), ready);
        assert_eq!(walked(&mut conn, Selection::of(State::Scheduled), limit), later);
        let newest: Vec<MessageId> = dead.iter().rev().copied().collect();
        assert_eq!(walked(&mut conn, Selection::of(State::Dead), limit), newest);
        let mut all: Vec<MessageId> = [&dead[..], &ready, &later].concat();
        all.reverse();
        assert_eq!(walked(&mut conn, Selection::default(), limit), all);
        let topic = Some("u".to_owned());
        let of_topic = Selection { topic: topic.clone(), ..Selection::of(State::Ready) };
        assert_eq!(walked(&mut conn, of_topic, limit), ready[6..]);
        let text = Selection { text: Some("t 5".to_owned()), ..Selection::default() };
        assert_eq!(walked(&mut conn, text, limit), [ready[2], ready[1], ready[0]]);
        let error = Selection { error: Some("took # s".to_owned()), ..Selection::of(State::Dead) };
        assert_eq!(walked(&mut conn, error, limit), [dead[1], dead[0]]);
        assert!(walked(&mut conn, Selection { topic, ..Selection::of(State::Dead) }, limit).is_empty());
        assert!(walked(&mut conn, Selection::of(State::Running), limit).is_empty());
    }
}

fn a_walk_goes_on_from_its_text(db: &TestDatabase) {
    let mut conn = db.connect();
    fill(&mut conn);
    for selection in [Selection::of(State::Ready), Selection::of(State::Dead), Selection::default()] {
        let all = walked(&mut conn, selection.clone(), 100);
        // Behind each message are those that come after it.
        let mut walk = selection.clone().walk();
        let mut at = 0;
        while let Some(page) = walk.next(conn.broker(), 2).expect("walks") {
            for found in page {
                at += 1;
                let text = found.spot.to_string();
                let spot: Spot = text.parse().expect("a spot");
                assert_eq!(spot, found.spot, "{text}");
                let mut rest = selection.clone().walk_from(spot);
                let mut ids = Vec::new();
                while let Some(page) = rest.next(conn.broker(), 100).expect("walks") {
                    ids.extend(page.into_iter().map(|found| found.id));
                }
                assert_eq!(ids, all[at..], "{text}");
            }
        }
        assert_eq!(at, all.len());
    }
    for text in ["", "w.x", "w.1.2.3", "f.99999999999999999999.1", "f.-1.1", "p.", "<b>"] {
        assert!(matches!(text.parse(), Ok(Spot::Start | Spot::Waiting(..))), "{text}");
    }
}

fn what_a_walk_changes_hides_nothing(db: &TestDatabase) {
    let mut conn = db.connect();
    let (ready, later, dead) = fill(&mut conn);
    for (state, action, all) in [
        (State::Scheduled, Action::Retry, later),
        (State::Dead, Action::Retry, dead),
        (State::Ready, Action::Cancel, ready),
    ] {
        let mut walk = Selection::of(state).walk();
        let mut changed = Vec::new();
        while let Some(page) = walk.next(conn.broker(), 1).expect("walks") {
            let ids: Vec<MessageId> = page.iter().map(|found| found.id).collect();
            changed.extend(conn.broker().change(&action, &ids, Noted::No).expect("changes").changed);
        }
        assert!(all.iter().all(|id| changed.contains(id)), "{state}: {changed:?}");
        changed.sort_unstable();
        changed.dedup();
        let left = walked(&mut conn, Selection::of(state), 100);
        assert!(left.is_empty(), "{state}: {left:?} left");
    }
}

fn payloads_are_looked_into(db: &TestDatabase) {
    let mut conn = db.connect();
    let payloads = [
        r#"{"user":{"id":42},"tags":["new"]}"#,
        r#"{"user":{"id":"42"}}"#,
        // What some databases cannot look into, though they keep it.
        r#"{"user":{"id":42},"text":"\u0000"}"#,
        r#"{"user":{"name":"$.user.id = 42"}}"#,
        "[42]",
    ];
    let ids: Vec<MessageId> = payloads
        .iter()
        .map(|payload| {
            let payload: Box<serde_json::value::RawValue> =
                serde_json::from_str(payload).unwrap_or_else(|error| panic!("{error}: {payload}"));
            NewMessage::new("t", &payload).produce(&mut conn).expect("produces").id()
        })
        .collect();
    let long = format!(r#"{{"user":{{"id":42}},"text":"{}"}}"#, "x".repeat(1 << 20));
    let long: Box<serde_json::value::RawValue> = serde_json::from_str(&long).expect("JSON");
    produce(&mut conn, "t", &long).expect("produces");
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    assert_eq!(claimed[0].id, ids[0]);
    let outcome = Outcome::Dead { kind: Some("error"), error: "no".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], outcome)]).expect("settles");
    let mut found = |condition: &str, state| {
        let condition: Condition = condition.parse().expect("a condition");
        walked(&mut conn, Selection { state, condition: Some(condition), ..Selection::default() }, 2)
    };
    assert_eq!(found("$.user.id = 42", None), [ids[2], ids[0]]);
    assert_eq!(found("$.user.id = \"42\"", None), [ids[1]]);
    assert_eq!(found("$.tags[*] = new", Some(State::Dead)), [ids[0]]);
    assert_eq!(found("$.user", Some(State::Ready)), [ids[1], ids[2], ids[3]]);
    assert_eq!(found("$[0] = 42", None), [ids[4]]);
    assert!(found("$.user.id = 42' OR '1' = '1", None).is_empty());
}

fn messages_are_found_by_their_key(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let keyed = |conn: &mut AnyConnection, topic: &str, key: &str| {
        NewMessage::new(topic.to_owned(), key).unique(key.to_owned()).produce(conn).expect("produces").id()
    };
    let dead = keyed(&mut conn, "t", "k");
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    let outcome = Outcome::Dead { kind: Some("error"), error: "k".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], outcome)]).expect("settles");
    let live = ["t", "u", "v"].map(|topic| keyed(&mut conn, topic, "k"));
    keyed(&mut conn, "t", "kk");
    produce(&mut conn, "t", "k").expect("produces");
    let later = NewMessage::new("w", "k").unique("k").delay(Duration::from_secs(600));
    let later = later.produce(&mut conn).expect("produces").id();
    let sought = Selection { unique_key: Some("k".to_owned()), ..Selection::default() };
    let of = |topic: &str| Selection { topic: Some(topic.to_owned()), ..sought.clone() };
    for limit in [1, 3, 100] {
        let all = [&live[..], &[later, dead]].concat();
        assert_eq!(walked(&mut conn, sought.clone(), limit), all);
        assert_eq!(walked(&mut conn, of("t"), limit), [live[0], dead]);
        assert!(walked(&mut conn, of("none"), limit).is_empty());
        assert!(walked(&mut conn, of("närrisch"), limit).is_empty());
        let ready = Selection { state: Some(State::Ready), ..sought.clone() };
        assert_eq!(walked(&mut conn, ready, limit), live);
        let scheduled = Selection { state: Some(State::Scheduled), ..sought.clone() };
        assert_eq!(walked(&mut conn, scheduled, limit), [later]);
        let finished = Selection { state: Some(State::Dead), ..sought.clone() };
        assert_eq!(walked(&mut conn, finished, limit), [dead]);
    }
    // It goes on behind each of them.
    let mut walk = sought.clone().walk();
    let first = walk.next(conn.broker(), 2).expect("walks").expect("some").remove(0);
    let spot: Spot = first.spot.to_string().parse().expect("a spot");
    let rest = sought.walk_from(spot).next(conn.broker(), 100).expect("walks").expect("some");
    assert_eq!(rest.iter().map(|found| found.id).collect::<Vec<_>>(), [live[1], live[2], later]);
}

fn messages_are_found_by_their_ordering_key(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let ordered = |conn: &mut AnyConnection, topic: &str, key: &str| {
        let message = NewMessage::new(topic.to_owned(), key).ordering_key(key.to_owned());
        message.produce(conn).expect("produces").id()
    };
    let ids = ["k", "k", "k"].map(|key| ordered(&mut conn, "t", key));
    ordered(&mut conn, "t", "kk");
    NewMessage::new("t", "k").unique("k").produce(&mut conn).expect("produces");
    let other = ordered(&mut conn, "u", "k");
    // One runs, one is dead, and one waits in the line.
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    let outcome = Outcome::Dead { kind: Some("error"), error: "k".to_owned() };
    conn.broker().settle(&w, &[end(&claimed[0], outcome)]).expect("settles");
    assert_eq!(claim(conn.broker(), &w, &["t"], 1)[0].id, ids[1]);
    let sought = Selection { ordering_key: Some("k".to_owned()), ..Selection::default() };
    for limit in [1, 100] {
        assert_eq!(walked(&mut conn, sought.clone(), limit), [other, ids[2], ids[1], ids[0]]);
        for (state, id) in [(State::Dead, ids[0]), (State::Running, ids[1]), (State::Ready, ids[2])] {
            let of_state = Selection { state: Some(state), topic: Some("t".to_owned()), ..sought.clone() };
            assert_eq!(walked(&mut conn, of_state, limit), [id], "{state}");
        }
        let unknown = Selection { ordering_key: Some("none".to_owned()), ..Selection::default() };
        assert!(walked(&mut conn, unknown, limit).is_empty());
    }
}

fn messages_are_found_by_their_time(db: &TestDatabase) {
    let mut conn = db.connect();
    let ids: Vec<MessageId> = (0..40).map(|n| produce(&mut conn, "t", &n).expect("produces")).collect();
    // As if there were many more between them.
    db.execute("UPDATE taskmq_messages SET id = id * 1000");
    let ids: Vec<MessageId> = ids.into_iter().map(|id| id * 1000).collect();
    // One a day, the last one today.
    let now = conn.broker().now().expect("a time");
    for (n, id) in ids.iter().enumerate() {
        let at = (now - chrono::TimeDelta::days(39 - i64::try_from(n).expect("is small")))
            .format("%Y-%m-%d %H:%M:%S");
        db.execute(&format!(
            "UPDATE taskmq_messages SET created_at = '{at}', run_at = '{at}' WHERE id = {id}"
        ));
    }
    let day = |n: i64| Some(now - chrono::TimeDelta::days(39 - n) - chrono::TimeDelta::minutes(1));
    let between = |state, since, before| Selection { state, since, before, ..Selection::default() };
    let newest = |range: std::ops::Range<usize>| ids[range].iter().rev().copied().collect::<Vec<_>>();
    for limit in [1, 7, 100] {
        assert_eq!(walked(&mut conn, between(None, day(10), day(20)), limit), newest(10..20));
        assert_eq!(walked(&mut conn, between(None, None, day(3)), limit), newest(0..3));
        assert_eq!(walked(&mut conn, between(None, day(38), None), limit), newest(38..40));
        assert!(walked(&mut conn, between(None, None, day(-5)), limit).is_empty());
        let ready = Some(State::Ready);
        assert_eq!(walked(&mut conn, between(ready, day(10), day(20)), limit), ids[10..20]);
        assert_eq!(walked(&mut conn, between(ready, day(30), None), limit), ids[30..]);
    }
    // Neither the beginning nor the end is walked to.
    let mut walk = between(None, day(20), day(21)).walk();
    while walk.next(conn.broker(), 1).expect("walks").is_some() {}
    assert!(walk.looked_at() <= 3, "{} looked at", walk.looked_at());
    let w = worker(&mut conn, 1);
    let done = claim(conn.broker(), &w, &["t"], 3);
    let outcome = || Outcome::Dead { kind: Some("error"), error: "no".to_owned() };
    let ends: Vec<_> = done.iter().map(|claimed| end(claimed, outcome())).collect();
    conn.broker().settle(&w, &ends).expect("settles");
    let dead = Some(State::Dead);
    assert_eq!(walked(&mut conn, between(dead, day(39), None), 2).len(), 3);
    assert!(walked(&mut conn, between(dead, None, day(39)), 2).is_empty());
}

fn what_comes_after_a_question_is_not_meant(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let retried = |conn: &mut AnyConnection| {
        let id = produce(conn, "r", "again").expect("produces");
        let claimed = claim(conn.broker(), &w, &["r"], 1);
        let outcome =
            Outcome::Retry { delay: Duration::from_secs(600), kind: "error", error: "no".to_owned() };
        conn.broker().settle(&w, &[end(&claimed[0], outcome)]).expect("settles");
        id
    };
    let later = |conn: &mut AnyConnection| {
        let message = NewMessage::new("s", "later").delay(Duration::from_secs(600));
        message.produce(conn).expect("produces").id()
    };
    let meant = [
        (State::Scheduled, later(&mut conn)),
        (State::Retrying, retried(&mut conn)),
        (State::Ready, produce(&mut conn, "t", "now").expect("produces")),
    ];
    let now = conn.broker().now().expect("a time");
    std::thread::sleep(Duration::from_millis(5));
    let after = [later(&mut conn), retried(&mut conn), produce(&mut conn, "t", "now").expect("produces")];
    for ((state, id), after) in meant.into_iter().zip(after) {
        for limit in [1, 100] {
            assert_eq!(walked(&mut conn, Selection::of(state), limit), [id, after], "{state}");
            assert_eq!(walked(&mut conn, Selection::of(state).as_of(now), limit), [id], "{state}");
        }
    }
    // Those of a key, too.
    let sought = Selection { unique_key: Some("k".to_owned()), ..Selection::of(State::Scheduled) };
    let keyed = |topic: &'static str| NewMessage::new(topic, "k").unique("k").delay(Duration::from_secs(600));
    keyed("v").produce(&mut conn).expect("produces");
    assert_eq!(walked(&mut conn, sought.clone(), 100).len(), 1);
    assert!(walked(&mut conn, sought.as_of(now), 100).is_empty());
    let said = Selection::of(State::Scheduled).as_of(now).to_string();
    assert!(said.starts_with("all scheduled, produced before 20"), "{said}");
}
