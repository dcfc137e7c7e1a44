use std::time::Duration;

use taskmq_core::broker::{Claim, Outcome, Share};
use taskmq_core::{Backend, BrokerConnection, MessageId, NewMessage, produce, produce_many};
use taskmq_tests::databases::TestDatabase;

use super::{claim, claim_batch, end, ids, worker};

each_database! {
    higher_priority_first_then_first_in_first_out,
    only_the_topics_that_are_asked_for,
    scheduled_and_foreign_messages_are_passed_over,
    two_workers_never_get_the_same_message,
    nothing_is_leased_to_a_worker_that_is_not_entered,
    a_claim_never_exceeds_its_limit,
    with_ageing_a_low_priority_does_not_wait_for_ever,
}

#[test]
fn two_workers_never_get_the_same_batch_whatever_isolation_is_the_default() {
    let db = taskmq_tests::databases::fresh(Backend::Postgres);
    db.execute(
        "DO $$ BEGIN
            EXECUTE format('ALTER DATABASE %I SET default_transaction_isolation = %L', current_database(), 'repeatable read');
         END $$",
    );
    let mut conn = db.connect();
    produce_many(&mut conn, (0..2_000).map(|n| NewMessage::new("t", &n))).expect("produces");
    let mut all: Vec<i64> = std::thread::scope(|scope| {
        let claimers: Vec<_> = (1..=4)
            .map(|id| {
                let db = &db;
                scope.spawn(move || {
                    let mut conn = db.connect_worker();
                    let w = worker(&mut conn, id);
                    let mut mine = Vec::new();
                    loop {
                        let batch = claim_batch(conn.broker(), &w, 20);
                        if batch.is_empty() {
                            return mine;
                        }
                        mine.extend(ids(&batch));
                    }
                })
            })
            .collect();
        claimers.into_iter().flat_map(|claimer| claimer.join().expect("ends")).collect()
    });
    assert_eq!(all.len(), 2_000);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 2_000, "some were leased twice");
}

fn higher_priority_first_then_first_in_first_out(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut expected = Vec::new();
    for priority in [0, 5, -3, 5, 0, i16::MAX, i16::MIN] {
        expected.push((
            priority,
            NewMessage::new("t", &1).priority(priority).produce(&mut conn).expect("produces").id(),
        ));
    }
    expected.sort_by_key(|(priority, id)| (-i32::from(*priority), *id));
    let w = worker(&mut conn, 1);
    let mut got = ids(&claim(conn.broker(), &w, &["t"], 3));
    got.extend(ids(&claim(conn.broker(), &w, &["t"], 100)));
    assert_eq!(got, expected.into_iter().map(|(_, id)| id).collect::<Vec<_>>());
}

fn only_the_topics_that_are_asked_for(db: &TestDatabase) {
    let mut conn = db.connect();
    let a = produce(&mut conn, "a", &1).expect("produces");
    produce(&mut conn, "B", &1).expect("produces");
    let c = produce(&mut conn, "c", &1).expect("produces");
    let w = worker(&mut conn, 1);
    assert_eq!(
        ids(&claim(conn.broker(), &w, &["c", "b", "a"], 10)),
        [c, a],
        "in the order asked for, and b is not B"
    );
}

fn scheduled_and_foreign_messages_are_passed_over(db: &TestDatabase) {
    let mut conn = db.connect();
    let far = Duration::from_secs(86_400);
    produce_many(&mut conn, (0..500).map(|n| NewMessage::new("t", &n).priority(9).delay(far)))
        .expect("produces");
    produce_many(&mut conn, (0..500).map(|n| NewMessage::new("u", &n).priority(9))).expect("produces");
    let mine = produce(&mut conn, "t", &1).expect("produces");
    let w = worker(&mut conn, 1);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 10)), [mine]);
    assert!(
        conn.broker().next_due(&["t"]).expect("reads").expect("500 are scheduled")
            > Duration::from_secs(86_000)
    );
    assert_eq!(conn.broker().next_due(&["t", "u"]).expect("reads"), Some(Duration::ZERO));
    assert_eq!(conn.broker().next_due(&["nothing"]).expect("reads"), None);
}

fn two_workers_never_get_the_same_message(db: &TestDatabase) {
    let mut conn = db.connect();
    let total = 2_000_usize;
    produce_many(&mut conn, (0..total).map(|n| NewMessage::new("t", &n))).expect("produces");
    let mut all: Vec<i64> = std::thread::scope(|scope| {
        let claimers: Vec<_> = (1..=4)
            .map(|id| {
                scope.spawn(move || {
                    let mut conn = db.connect();
                    let w = worker(&mut conn, id);
                    let (mut mine, mut empty) = (Vec::new(), 0);
                    // An empty claim may only mean that the others hold the rows' locks.
                    while empty < 20 {
                        let claimed = ids(&claim(conn.broker(), &w, &["t"], 37));
                        empty = if claimed.is_empty() { empty + 1 } else { 0 };
                        mine.extend(claimed);
                    }
                    mine
                })
            })
            .collect();
        claimers.into_iter().flat_map(|c| c.join().expect("claims")).collect()
    });
    assert_eq!(all.len(), total);
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), total);
}

fn nothing_is_leased_to_a_worker_that_is_not_entered(db: &TestDatabase) {
    let mut conn = db.connect();
    produce(&mut conn, "t", &1).expect("produces");
    let w = worker(&mut conn, 1);
    conn.broker().deregister(w.id).expect("deregisters");
    assert!(claim(conn.broker(), &w, &["t"], 10).is_empty());
}

fn a_claim_never_exceeds_its_limit(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..30).map(|n| NewMessage::new("t", &n).priority(n % 3))).expect("produces");
    produce_many(&mut conn, (0..30).map(|n| NewMessage::new("u", &n))).expect("produces");
    let w = worker(&mut conn, 1);
    for expected in [25, 25, 10, 0] {
        assert_eq!(claim(conn.broker(), &w, &["t", "u"], 25).len(), expected);
    }
}

fn with_ageing_a_low_priority_does_not_wait_for_ever(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    db.execute(
        "INSERT INTO taskmq_messages (topic, payload, run_at) VALUES ('t', '1', '2026-01-01 00:00:00')",
    );
    let low = conn.broker().newest(MessageId::MAX, 1).expect("reads")[0].id;
    let high = NewMessage::new("t", &1).priority(100).produce(&mut conn).expect("produces").id();
    let lower = NewMessage::new("t", &1).priority(-100).produce(&mut conn).expect("produces").id();
    let mut order = |ageing: Option<Duration>, as_batch| {
        let topics = [Share { topic: "t", limit: 1, ageing }];
        let claim = Claim { worker_id: w.id, topics: &topics, limit: 2, as_batch, after: &[] };
        let claimed = conn.broker().claim(&claim).expect("claims");
        let back: Vec<_> = claimed.iter().map(|c| end(c, Outcome::HandBack)).collect();
        assert!(conn.broker().settle(&w, &back).expect("hands back").is_empty());
        claimed.iter().map(|c| c.id).collect::<Vec<_>>()
    };
    let day = Duration::from_secs(86_400);
    for as_batch in [true, false] {
        assert_eq!(order(None, as_batch), [high, low]);
        assert_eq!(order(Some(1000 * day), as_batch), [high, low], "it has not waited long enough");
        let aged = order(Some(day), as_batch);
        assert!(aged.contains(&low) && aged.contains(&high) && !aged.contains(&lower));
        if as_batch {
            assert_eq!(aged, [low, high], "more than a hundred days count more than a priority of a hundred");
        }
    }
}
