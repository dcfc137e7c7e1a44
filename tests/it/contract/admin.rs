//! What a person may look at.

use std::collections::BTreeSet;
use std::time::Duration;

use taskmq_core::broker::{Action, FinishedMessage, Lane, LaneCount, Noted, Outcome, Place, Span, Summary};
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Error, MessageId, NewMessage, Retention, State, produce,
    produce_many,
};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::plans::measured;
use super::{claim, claim_batch, done, end, worker};

each_database! {
    lanes_are_listed,
    a_lane_is_counted,
    many_lanes_are_counted_as_each_is,
    what_waits_is_walked_through_once,
    what_is_held_is_listed,
    the_newest_messages_come_from_both_tables,
    what_finished_last_comes_first_whatever_its_retention,
    finished_messages_are_counted_by_topic,
    summaries_are_cut_and_searched,
    a_summary_of_what_failed_has_its_last_error_and_is_found_by_any,
    a_row_that_is_no_text_spoils_no_list,
    workers_are_listed,
    a_restricted_connection_is_stopped_and_cannot_write,
    looking_reads_little,
}

fn lane(topic: &str, priority: i16) -> Lane {
    Lane { topic: topic.to_owned(), priority }
}

fn everything(limit: i64) -> Span {
    let from = Place::before("2001-01-01T00:00:00Z".parse().expect("a time"));
    Span { from, to: Place::after("2037-01-01T00:00:00Z".parse().expect("a time")), limit }
}

pub(super) fn dead(error: &str) -> Outcome {
    Outcome::Dead { kind: Some("error"), error: error.to_owned() }
}

pub(super) fn state(conn: &mut AnyConnection, id: MessageId) -> Option<State> {
    conn.broker().message(id).expect("reads").map(|message| message.state)
}

fn lanes_are_listed(db: &TestDatabase) {
    let mut conn = db.connect();
    assert_eq!(conn.broker().lanes(10).expect("reads"), []);
    for (topic, priority) in [("b", 0), ("a", -5), ("a", 7), ("a", 7), ("A", i16::MIN), ("b", i16::MAX)] {
        NewMessage::new(topic, &1).priority(priority).produce(&mut conn).expect("produces");
    }
    let hour = Duration::from_secs(3600);
    NewMessage::new("later", &1).delay(hour).produce(&mut conn).expect("produces");
    let all = [
        lane("A", i16::MIN),
        lane("a", 7),
        lane("a", -5),
        lane("b", i16::MAX),
        lane("b", 0),
        lane("later", 0),
    ];
    assert_eq!(conn.broker().lanes(10).expect("reads"), all);
    assert_eq!(conn.broker().lanes(2).expect("reads").len(), 2);
    for topic in all.iter().map(|lane| &lane.topic) {
        let of_topic: Vec<Lane> = all.iter().filter(|lane| lane.topic == *topic).cloned().collect();
        assert_eq!(conn.broker().lanes_of(topic).expect("reads"), of_topic);
    }
    assert_eq!(conn.broker().lanes_of("no such").expect("reads"), []);
}

fn a_lane_is_counted(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let hour = Duration::from_secs(3600);
    produce_many(&mut conn, (0..30).map(|n| NewMessage::new("t", &n))).expect("produces");
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("t", &n).delay(hour))).expect("produces");
    for claimed in claim(conn.broker(), &w, &["t"], 5) {
        let outcome = Outcome::Retry { delay: hour, kind: "error", error: "no".to_owned() };
        conn.broker().settle(&w, &[end(&claimed, outcome)]).expect("settles");
    }
    let held = claim(conn.broker(), &w, &["t"], 3);
    let count = conn.broker().count_lane(&lane("t", 0), 1000).expect("counts");
    assert_eq!((count.due, count.scheduled, count.retrying), (22, 20, 5));
    let first = conn.broker().message(held[0].id + 3).expect("reads").expect("is there");
    assert_eq!(count.oldest_due, Some(first.run_at));
    let count = conn.broker().count_lane(&lane("t", 0), 10).expect("counts");
    assert_eq!((count.due, count.scheduled + count.retrying), (10, 10));
    assert_eq!(conn.broker().count_lane(&lane("t", 1), 10).expect("counts"), LaneCount::default());
    let lanes = [lane("t", 1), lane("t", 0), lane("no such", 0)];
    for at_most in [1000, 10] {
        let each: Vec<LaneCount> =
            lanes.iter().map(|lane| conn.broker().count_lane(lane, at_most).expect("counts")).collect();
        assert_eq!(conn.broker().count_lanes(&lanes, at_most).expect("counts"), each);
    }
}

fn many_lanes_are_counted_as_each_is(db: &TestDatabase) {
    let mut conn = db.connect();
    let hour = Duration::from_secs(3600);
    let messages = (0..35_usize).flat_map(|n| {
        let message =
            move || NewMessage::new(format!("t{n}"), &n).priority(i16::try_from(n % 3).unwrap_or(0));
        let due = (0..n % 7).map(move |_| message());
        due.chain((0..n % 5).map(move |_| message().delay(hour)))
    });
    produce_many(&mut conn, messages).expect("produces");
    db.execute("UPDATE taskmq_messages SET attempts = 1 WHERE id % 3 = 0");
    let lanes = conn.broker().lanes(100).expect("reads");
    assert_eq!(lanes.len(), 34);
    for at_most in [1, 3, 4, 1000] {
        let each: Vec<LaneCount> =
            lanes.iter().map(|lane| conn.broker().count_lane(lane, at_most).expect("counts")).collect();
        assert_eq!(conn.broker().count_lanes(&lanes, at_most).expect("counts"), each, "{at_most}");
    }
}

fn what_waits_is_walked_through_once(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..25).map(|n| NewMessage::new("t", &n))).expect("produces");
    produce_many(&mut conn, (0..25).map(|n| NewMessage::new("t", &n))).expect("produces");
    let hour = Duration::from_secs(3600);
    produce_many(&mut conn, (0..10).map(|n| NewMessage::new("t", &n).delay(hour))).expect("produces");
    let mut walk = |mut span: Span| {
        let mut seen = Vec::new();
        loop {
            let places = conn.broker().waiting(&lane("t", 0), &span).expect("reads");
            let Some(last) = places.last() else { return seen };
            span.from = *last;
            seen.extend(places.iter().map(|place| place.id));
        }
    };
    let all = walk(everything(7));
    assert_eq!(all.len(), 60);
    assert!(all.is_sorted(), "those of one time by id: {all:?}");
    let now = db.connect().broker().now().expect("reads");
    assert_eq!(walk(Span { to: Place::after(now), ..everything(7) }), all[..50]);
    assert_eq!(walk(Span { from: Place::after(now), ..everything(7) }), all[50..]);
}

fn what_is_held_is_listed(db: &TestDatabase) {
    let mut conn = db.connect();
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    produce_many(&mut conn, (0..6).map(|n| NewMessage::new("t", &n))).expect("produces");
    let single = claim(conn.broker(), &first, &["t"], 2);
    let batch = claim_batch(conn.broker(), &second, 2);
    let aside = batch[1].id + 1;
    db.execute(&format!("UPDATE taskmq_messages SET worker_id = -1 WHERE id = {aside}"));
    let mut held = conn.broker().held(100).expect("reads");
    held.sort_by_key(|held| held.id);
    let seen: Vec<_> = held.iter().map(|h| (h.id, h.worker_id, h.in_batch, h.claimed_at.is_some())).collect();
    let expected = [
        (single[0].id, Some(1), false, true),
        (single[1].id, Some(1), false, true),
        (batch[0].id, Some(2), true, true),
        (batch[1].id, Some(2), true, true),
        (aside, None, false, false),
    ];
    assert_eq!(seen, expected);
    assert!(held.iter().all(|h| h.topic == "t"));
    assert_eq!(conn.broker().held(3).expect("reads").len(), 3);
}

fn the_newest_messages_come_from_both_tables(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("t", &n))).expect("produces");
    let settled: Vec<_> = claim(conn.broker(), &w, &["t"], 20).iter().step_by(2).map(done).collect();
    conn.broker().settle(&w, &settled).expect("settles");
    let mut seen = Vec::new();
    let mut below = MessageId::MAX;
    loop {
        let page = conn.broker().newest(below, 3).expect("reads");
        let Some(last) = page.last() else { break };
        below = last.id;
        assert!(page.len() <= 3 && page.iter().all(|message| message.topic == "t"));
        seen.extend(page.iter().map(|message| message.id));
    }
    assert_eq!(seen.len(), 20);
    assert!(seen.is_sorted_by(|a, b| a > b));
    let newest = conn.broker().newest(MessageId::MAX, 1).expect("reads").remove(0);
    let message = conn.broker().message(newest.id).expect("reads").expect("is there");
    assert_eq!(newest.created_at, message.created_at);
}

fn what_finished_last_comes_first_whatever_its_retention(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let hours = |n: u64| Retention::For(Duration::from_secs(n * 3600));
    let mut order = Vec::new();
    for retention in [hours(1), Retention::Forever, hours(24), hours(1), Retention::Forever, hours(2)] {
        produce_many(&mut conn, (0..4).map(|n| NewMessage::new("t", &n))).expect("produces");
        let claimed = claim(conn.broker(), &w, &["t"], 4);
        let done = |c| end(c, Outcome::Done { result: None, retention });
        conn.broker().settle(&w, &claimed.iter().map(done).collect::<Vec<_>>()).expect("settles");
        order.extend(super::ids(&claimed));
        produce(&mut conn, "u", &1).expect("produces");
        let buried = claim(conn.broker(), &w, &["u"], 1).remove(0);
        conn.broker().settle(&w, &[end(&buried, dead(&"é".repeat(5000)))]).expect("settles");
    }
    order.reverse();
    assert_eq!(conn.broker().retentions().expect("reads"), [3600, 7200, 86_400]);
    let mut seen: Vec<FinishedMessage> = Vec::new();
    loop {
        let to = seen.last().map_or(everything(1).to, FinishedMessage::place);
        let page = conn.broker().finished(State::Done, &Span { to, ..everything(5) }).expect("reads");
        if page.is_empty() {
            break;
        }
        assert!(page.len() <= 5);
        seen.extend(page);
    }
    assert!(seen.is_sorted_by(|a, b| a.place() > b.place()));
    let ids: BTreeSet<MessageId> = seen.iter().map(|f| f.id).collect();
    assert_eq!((seen.len(), ids), (24, order.iter().copied().collect()));
    assert!(seen.iter().all(|f| f.claimed_at.is_some_and(|at| at >= f.run_at && at <= f.finished_at)));
    let from = Place::before(seen[7].finished_at);
    assert_eq!(
        conn.broker().finished(State::Done, &Span { from, ..everything(99) }).expect("reads").len(),
        8
    );
    let dead = conn.broker().finished(State::Dead, &everything(100)).expect("reads");
    assert_eq!(dead.len(), 6);
    let cut = dead[0].error.as_deref().expect("an error").chars().count();
    assert_eq!(i32::try_from(cut), Ok(FinishedMessage::ERROR_CHARS));
    assert!(conn.broker().finished(State::Cancelled, &everything(100)).expect("reads").is_empty());
}

fn finished_messages_are_counted_by_topic(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    for topic in ["a", "b", "a", "c"] {
        produce(&mut conn, topic, &1).expect("produces");
        let claimed = claim(conn.broker(), &w, &[topic], 1).remove(0);
        let outcome = if topic == "c" { done(&claimed) } else { end(&claimed, dead("no")) };
        conn.broker().settle(&w, &[outcome]).expect("settles");
    }
    let mut count = |at_most| {
        let mut counts = conn.broker().count_finished(State::Dead, at_most).expect("counts");
        counts.sort();
        counts
    };
    assert_eq!(count(10), [("a".to_owned(), 2), ("b".to_owned(), 1)]);
    assert_eq!(count(2), [("a".to_owned(), 1), ("b".to_owned(), 1)], "the last two");
}

fn summaries_are_cut_and_searched(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let long = produce(&mut conn, "t", &"é".repeat(2000)).expect("produces");
    let percent = produce(&mut conn, "t", &"100% of_it's \\ 中文").expect("produces");
    let keyed = NewMessage::new("t", &1)
        .unique("Key:7")
        .header("trace", "abc")
        .produce(&mut conn)
        .expect("produces")
        .id();
    let failed = NewMessage::new("t", &2).priority(9).produce(&mut conn).expect("produces").id();
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    assert_eq!(claimed.id, failed);
    conn.broker().settle(&w, &[end(&claimed, dead("it broke 中"))]).expect("settles");
    let all = [long, percent, keyed, failed, failed + 100];
    let mut search = |text: Option<&str>| {
        let found = conn.broker().summaries(&all, text).expect("reads");
        found.into_iter().map(|summary| summary.id).collect::<BTreeSet<_>>()
    };
    assert_eq!(search(None), BTreeSet::from([long, percent, keyed, failed]));
    assert_eq!(search(Some("%")), BTreeSet::from([percent]), "no wildcard");
    assert_eq!(search(Some("of_it's")), BTreeSet::from([percent]));
    assert_eq!(search(Some("中")), BTreeSet::from([percent, failed]));
    assert_eq!(search(Some("Key:7")), BTreeSet::from([keyed]));
    assert_eq!(search(Some("key:7")), BTreeSet::new(), "upper and lower case count");
    assert_eq!(search(Some("\"abc\"")), BTreeSet::from([keyed]));
    assert_eq!(search(Some("nowhere")), BTreeSet::new());
    let batch = claim_batch(conn.broker(), &w, 1).remove(0);
    let single = claim(conn.broker(), &w, &["t"], 1).remove(0);
    let summaries = conn.broker().summaries(&all, None).expect("reads");
    for Summary { id, state, attempts, priority, payload, error, finished_at, .. } in summaries {
        assert_eq!(
            state,
            if id == failed {
                State::Dead
            } else if id == keyed {
                State::Ready
            } else {
                State::Running
            }
        );
        assert_eq!(attempts, i32::from([batch.id, single.id, failed].contains(&id)));
        assert_eq!(
            (priority == 9, error.is_some(), finished_at.is_some()),
            (id == failed, id == failed, id == failed)
        );
        assert!(payload.chars().count() <= usize::try_from(Summary::PAYLOAD_CHARS).expect("is small"));
    }
}

fn a_summary_of_what_failed_has_its_last_error_and_is_found_by_any(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = produce(&mut conn, "t", &1).expect("produces");
    let error =
        |conn: &mut AnyConnection| conn.broker().summaries(&[id], None).expect("reads").remove(0).error;
    assert_eq!(error(&mut conn), None);
    for n in 1..=2 {
        let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
        let failed = Outcome::Retry {
            kind: "error",
            error: format!("attempt {n} {}", "x".repeat(1000)),
            delay: Duration::ZERO,
        };
        conn.broker().settle(&w, &[end(&claimed, failed)]).expect("settles");
        let told = error(&mut conn).expect("an error");
        assert!(told.starts_with(&format!("attempt {n} x")) && told.len() == 300, "{told}");
    }
    let mut found = |text| conn.broker().summaries(&[id], Some(text)).expect("reads").len();
    assert_eq!(["attempt 1", "attempt 2", "attempt 3", "Attempt 1"].map(&mut found), [1, 1, 0, 0]);
    // Attempts are counted from one again when a person gives it another chance.
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    let dead = Outcome::Dead { kind: None, error: "no more".to_owned() };
    conn.broker().settle(&w, &[end(&claimed, dead)]).expect("settles");
    conn.broker().change(&Action::Retry, &[id], Noted::No).expect("retries");
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    let failed = Outcome::Retry { kind: "error", error: "again".to_owned(), delay: Duration::ZERO };
    conn.broker().settle(&w, &[end(&claimed, failed)]).expect("settles");
    assert_eq!(error(&mut conn).as_deref(), Some("again"));
}

fn a_row_that_is_no_text_spoils_no_list(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &"good").expect("produces");
    let odd = match db.backend() {
        Backend::Sqlite => {
            r#"INSERT INTO taskmq_messages (topic, payload) VALUES ('t', CAST(x'22ff22' AS TEXT))"#
        }
        _ => "INSERT INTO taskmq_messages (topic, payload) VALUES ('t', '1e400')",
    };
    try_execute(&mut conn, odd).expect("another program can store it");
    let summaries = conn.broker().summaries(&[id, id + 1], None).expect("reads");
    assert_eq!(summaries.len(), 2);
}

fn workers_are_listed(db: &TestDatabase) {
    let mut conn = db.connect();
    assert!(conn.broker().workers(10).expect("reads").is_empty());
    worker(&mut conn, 5);
    worker(&mut conn, 3);
    let workers = conn.broker().workers(10).expect("reads");
    assert_eq!(workers.len(), 2);
    let one = workers.iter().find(|w| w.id == 5).expect("is listed");
    assert_eq!(
        (&*one.host, one.pid, &*one.topics, one.concurrency, one.alone_with),
        ("host", 1, "t", 1, None)
    );
    assert_eq!(one.version, env!("CARGO_PKG_VERSION"));
    assert!((conn.broker().now().expect("reads") - one.started_at).num_seconds() < 60);
    assert_eq!(conn.broker().workers(1).expect("reads").len(), 1);
}

fn a_restricted_connection_is_stopped_and_cannot_write(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    conn.broker().restrict(Duration::from_millis(300), true).expect("restricts");
    let refused = conn.broker().change(&Action::Delete, &[id], Noted::No);
    assert!(matches!(refused, Err(Error::ReadOnly(_))), "{refused:?}");
    let refused = produce(&mut conn, "t", &2);
    assert!(matches!(refused, Err(Error::ReadOnly(_))), "{refused:?}");
    assert_eq!(state(&mut conn, id), Some(State::Ready), "reading goes on");
    let slow = match db.backend() {
        Backend::Sqlite => return, // no statement here reads more than a bounded number of rows
        Backend::Postgres => "SELECT pg_sleep(9)",
        Backend::Mysql => "SELECT SLEEP(9) FROM taskmq_messages",
    };
    let stopped = try_execute(&mut conn, slow).map_err(Error::from);
    assert!(matches!(stopped, Err(Error::TooSlow(_))), "{stopped:?}");
}

fn looking_reads_little(db: &TestDatabase) {
    let mut conn = db.connect();
    conn.broker().restrict(Duration::from_secs(20), false).expect("restricts");
    let w = worker(&mut conn, 1);
    // Statistics of tables that were empty.
    super::plans::analyze(&mut conn);
    super::plans::fill(&mut conn, 100_000);
    let claimed = claim(conn.broker(), &w, &["t"], 500);
    conn.broker().settle(&w, &claimed.iter().map(done).collect::<Vec<_>>()).expect("settles");
    let claimed = claim(conn.broker(), &w, &["t"], 500);
    let outcomes: Vec<_> = claimed.iter().map(|claimed| end(claimed, dead("no"))).collect();
    conn.broker().settle(&w, &outcomes).expect("settles");
    let ids = super::ids(&claimed);
    if db.backend() == Backend::Postgres {
        // Its index has no ids, so all that finished in one moment is read together.
        let apart = "UPDATE taskmq_archive SET finished_at = finished_at - id * interval '1 millisecond'";
        try_execute(&mut conn, apart).expect("sets them apart");
    }
    let read = measured(&mut conn, 10, |conn| {
        let broker = conn.broker();
        assert_eq!(broker.lanes(100).expect("reads").len(), 4);
        assert_eq!(broker.count_lane(&lane("t", 0), 50).expect("reads").due, 50);
        assert_eq!(broker.waiting(&lane("t", 0), &everything(50)).expect("reads").len(), 50);
        assert!(broker.held(50).expect("reads").is_empty());
        assert_eq!(broker.newest(MessageId::MAX, 50).expect("reads").len(), 50);
        assert_eq!(broker.summaries(&ids[..50], Some("nothing")).expect("reads").len(), 0);
        for state in [State::Done, State::Dead] {
            assert_eq!(broker.finished(state, &everything(50)).expect("reads").len(), 50);
        }
        let summed: i64 = broker.count_finished(State::Dead, 50).expect("reads").iter().map(|(_, n)| n).sum();
        assert_eq!(summed, 50);
        let waiting = broker.waiting(&lane("t", 0), &everything(20)).expect("reads");
        let waiting: Vec<MessageId> = waiting.into_iter().map(|place| place.id).collect();
        assert_eq!(broker.change(&Action::Delete, &waiting, Noted::No).expect("changes").changed.len(), 20);
    });
    assert!(read < 1_000, "{read} rows read");
}
