//! Messages that share the lease of their batch have every promise that those with a lease of their own have.

use std::time::Duration;

use taskmq_core::broker::{Claim, Claimed, Outcome, Peer, Settlement, Share, WorkerIdentity};
use taskmq_core::{
    AnyConnection, BrokerConnection, MessageId, NewMessage, Retention, State, produce, produce_many,
};
use taskmq_tests::databases::TestDatabase;

use super::{claim, claim_batch, done, end, ids, worker};

each_database! {
    a_batch_has_the_order_of_single_claims,
    nobody_else_claims_what_a_batch_holds,
    each_outcome_of_a_batch_is_written,
    a_batch_ends_with_its_last_message,
    one_commit_acknowledges_a_batch_and_claims_the_next,
    a_lost_batch_cannot_end_a_message,
    an_acknowledgement_written_twice_counts_once,
    a_promoted_message_has_a_lease_of_its_own,
    a_dead_workers_batch_is_given_back_without_blame,
    the_one_message_of_a_dead_workers_batch_is_charged,
    a_batch_of_a_worker_that_is_not_there_is_seen,
    what_a_batch_holds_is_not_due,
}

fn ten(db: &TestDatabase) -> AnyConnection {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..10).map(|n| NewMessage::new("t", &n))).expect("produces");
    conn
}

fn state(conn: &mut AnyConnection, id: MessageId) -> State {
    conn.broker().message(id).expect("reads").expect("is there").state
}

fn a_batch_has_the_order_of_single_claims(db: &TestDatabase) {
    let mut conn = db.connect();
    for (n, priority) in [(0, 0), (1, 5), (2, 0), (3, -1), (4, 5)] {
        NewMessage::new("t", &n).priority(priority).produce(&mut conn).expect("produces");
    }
    NewMessage::new("t", &9).delay(Duration::from_secs(60)).produce(&mut conn).expect("produces");
    produce(&mut conn, "other", &9).expect("produces");
    let w = worker(&mut conn, 1);
    let payloads = |claimed: &[Claimed]| claimed.iter().map(|c| c.payload.clone()).collect::<Vec<_>>();
    assert_eq!(payloads(&claim_batch(conn.broker(), &w, 3)), ["1", "4", "0"]);
    assert_eq!(payloads(&claim_batch(conn.broker(), &w, 3)), ["2", "3"]);
    assert!(claim_batch(conn.broker(), &w, 3).is_empty());
}

fn nobody_else_claims_what_a_batch_holds(db: &TestDatabase) {
    let mut conn = ten(db);
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let batch = claim_batch(conn.broker(), &first, 4);
    let single = claim(conn.broker(), &second, &["t"], 4);
    let rest = claim_batch(conn.broker(), &second, 10);
    assert_eq!((batch.len(), single.len(), rest.len()), (4, 4, 2));
    let mut all = ids(&[batch, single, rest].concat());
    all.sort_unstable();
    all.dedup();
    assert_eq!(all.len(), 10);
    for id in all {
        let message = conn.broker().message(id).expect("reads").expect("is there");
        assert_eq!((message.state, message.attempts), (State::Running, 1));
        assert!(message.worker_id.is_some() && message.claimed_at.is_some());
    }
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.running, stats.ready), (10, 0));
}

fn each_outcome_of_a_batch_is_written(db: &TestDatabase) {
    let mut conn = ten(db);
    let w = worker(&mut conn, 1);
    let claimed = claim_batch(conn.broker(), &w, 6);
    let kept = Retention::For(Duration::from_secs(3600));
    let error = || "it's \u{202e}bad".to_owned();
    let outcomes = [
        Outcome::Done { result: Some(r#"{"a":"it's"}"#.to_owned()), retention: kept },
        Outcome::Done { result: None, retention: Retention::None },
        Outcome::Retry { delay: Duration::from_secs(9), kind: "error", error: error() },
        Outcome::Dead { kind: Some("error"), error: error() },
        Outcome::HandBack,
        Outcome::Done { result: None, retention: Retention::Forever },
    ];
    let settlements: Vec<Settlement> =
        claimed.iter().zip(outcomes).map(|(claimed, outcome)| end(claimed, outcome)).collect();
    let batches: Vec<i64> = claimed[0].batch.into_iter().collect();
    let exchanged = conn.broker().exchange(&w, &settlements, &batches, None).expect("settles");
    assert!(exchanged.lost.is_empty());
    assert_eq!(state(&mut conn, claimed[0].id), State::Done);
    let first = conn.broker().message(claimed[0].id).expect("reads").expect("is there");
    assert_eq!(first.result.map(|r| r.get().to_owned()).as_deref(), Some(r#"{"a":"it's"}"#));
    assert_eq!((first.attempts, first.worker_id), (1, Some(1)));
    assert!(first.claimed_at.is_some() && first.finished_at.is_some());
    assert!(conn.broker().message(claimed[1].id).expect("reads").is_none());
    for (at, expected) in [(2, State::Retrying), (3, State::Dead), (4, State::Ready), (5, State::Done)] {
        assert_eq!(state(&mut conn, claimed[at].id), expected, "{at}");
    }
    for at in [2, 3] {
        let failures = conn.broker().failures(claimed[at].id).expect("reads");
        assert_eq!((failures.len(), failures[0].attempt, failures[0].error.clone()), (1, 1, error()));
        assert_eq!(conn.broker().message(claimed[at].id).expect("reads").expect("is there").attempts, 1);
    }
    let again = claim_batch(conn.broker(), &w, 1);
    assert_eq!(
        (again[0].id, again[0].attempt),
        (claimed[4].id, 1),
        "the attempt that never was does not count"
    );
}

fn a_batch_ends_with_its_last_message(db: &TestDatabase) {
    let mut conn = ten(db);
    let w = worker(&mut conn, 1);
    let claimed = claim_batch(conn.broker(), &w, 10);
    let batches: Vec<i64> = claimed[0].batch.into_iter().collect();
    let (early, late): (Vec<Settlement>, Vec<Settlement>) =
        (claimed[..6].iter().map(done).collect(), claimed[6..].iter().map(done).collect());
    assert!(conn.broker().exchange(&w, &early, &[], None).expect("settles").lost.is_empty());
    assert_eq!(state(&mut conn, claimed[9].id), State::Running);
    assert!(conn.broker().exchange(&w, &late, &batches, None).expect("settles").lost.is_empty());
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.running, stats.ready), (10, 0, 0));
    // Nothing of the batch is left that a rescuer could find.
    conn.broker().deregister(w.id).expect("deregisters");
    assert!(conn.broker().look(2, &["t"]).expect("looks").peers.is_empty());
}

fn one_commit_acknowledges_a_batch_and_claims_the_next(db: &TestDatabase) {
    let mut conn = ten(db);
    let w = worker(&mut conn, 1);
    let first = claim_batch(conn.broker(), &w, 5);
    let batches: Vec<i64> = first[0].batch.into_iter().collect();
    let settlements: Vec<Settlement> = first.iter().map(done).collect();
    let claim = Claim {
        worker_id: w.id,
        topics: &[Share { topic: "t", limit: 3, ageing: None }],
        limit: 3,
        as_batch: true,
        after: &[],
    };
    let second = conn.broker().exchange(&w, &settlements, &batches, Some(&claim)).expect("exchanges");
    assert_eq!((second.lost.len(), second.claimed.len()), (0, 3));
    let claim = Claim { as_batch: false, ..claim };
    let third = conn.broker().exchange(&w, &[], &[], Some(&claim)).expect("exchanges");
    assert_eq!(third.claimed.len(), 2);
    assert!(third.claimed.iter().all(|c| c.batch.is_none()));
}

fn rescue(conn: &mut AnyConnection, id: i64) -> usize {
    conn.broker().rescue(&Peer { id, beat: Some(0), lock_free: Some(true) }).expect("rescues")
}

fn suspects(conn: &mut AnyConnection, worker: &WorkerIdentity) -> Vec<Claimed> {
    conn.broker().claim_suspects(worker.id, &["t"], 10).expect("claims")
}

fn a_lost_batch_cannot_end_a_message(db: &TestDatabase) {
    let mut conn = ten(db);
    let (stalled, fresh) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let old = claim_batch(conn.broker(), &stalled, 10);
    let batch = old[0].batch.expect("is a batch");
    assert_eq!(rescue(&mut conn, 1), 10);
    let new = suspects(&mut conn, &fresh);
    assert_eq!(ids(&new), ids(&old));
    let outcomes = [
        Outcome::Done { result: None, retention: Retention::Forever },
        Outcome::Retry { delay: Duration::ZERO, kind: "error", error: "late".to_owned() },
        Outcome::Dead { kind: Some("error"), error: "late".to_owned() },
        Outcome::HandBack,
    ];
    for (old, outcome) in old.iter().zip(outcomes) {
        let settlements = [end(old, outcome)];
        let exchanged = conn.broker().exchange(&stalled, &settlements, &[batch], None).expect("settles");
        assert_eq!(exchanged.lost, [old.id]);
        let message = conn.broker().message(old.id).expect("reads").expect("is there");
        assert_eq!((message.state, message.worker_id), (State::Running, Some(2)));
    }
    assert!(!conn.broker().promote(1, batch, &ids(&old), true).expect("looks"));
    let settlements: Vec<Settlement> = new.iter().map(done).collect();
    assert!(conn.broker().settle(&fresh, &settlements).expect("settles").is_empty());
}

fn an_acknowledgement_written_twice_counts_once(db: &TestDatabase) {
    let mut conn = ten(db);
    let w = worker(&mut conn, 1);
    let claimed = claim_batch(conn.broker(), &w, 10);
    let batches: Vec<i64> = claimed[0].batch.into_iter().collect();
    let settlements: Vec<Settlement> = claimed.iter().map(done).collect();
    // The second time, as after a reply that was lost, is no lost lease.
    for _ in 0..2 {
        assert!(conn.broker().exchange(&w, &settlements, &batches, None).expect("settles").lost.is_empty());
    }
}

fn a_promoted_message_has_a_lease_of_its_own(db: &TestDatabase) {
    let mut conn = ten(db);
    let w = worker(&mut conn, 1);
    let mut claimed = claim_batch(conn.broker(), &w, 10);
    let batch = claimed[0].batch.expect("is a batch");
    assert!(conn.broker().promote(w.id, batch, &ids(&claimed[..4]), false).expect("promotes"));
    for message in &mut claimed[..4] {
        message.batch = None;
    }
    let settlements: Vec<Settlement> = claimed.iter().map(done).collect();
    assert!(conn.broker().exchange(&w, &settlements, &[batch], None).expect("settles").lost.is_empty());
    for message in claimed {
        let message = conn.broker().message(message.id).expect("reads").expect("is there");
        assert_eq!((message.state, message.attempts), (State::Done, 1));
    }
}

fn a_dead_workers_batch_is_given_back_without_blame(db: &TestDatabase) {
    let mut conn = ten(db);
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let before = claim_batch(conn.broker(), &first, 10);
    conn.broker().exchange(&first, &[done(&before[0])], &[], None).expect("settles");
    assert_eq!(rescue(&mut conn, 1), 9);
    assert_eq!(rescue(&mut conn, 1), 0, "only once");
    let after = suspects(&mut conn, &second);
    assert_eq!(ids(&after), ids(&before[1..]));
    assert!(after.iter().all(|c| (c.attempt, c.crashes) == (1, 0)));
}

fn the_one_message_of_a_dead_workers_batch_is_charged(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    claim_batch(conn.broker(), &first, 10);
    assert_eq!(rescue(&mut conn, 1), 1);
    let again = suspects(&mut conn, &second);
    assert_eq!((again[0].id, again[0].attempt, again[0].crashes), (id, 2, 1));
    assert_eq!(conn.broker().failures(id).expect("reads")[0].kind, "crash");
}

fn a_batch_of_a_worker_that_is_not_there_is_seen(db: &TestDatabase) {
    let mut conn = ten(db);
    let w = worker(&mut conn, 1);
    let claimed: Vec<Settlement> = claim_batch(conn.broker(), &w, 10).iter().map(done).collect();
    conn.broker().deregister(1).expect("deregisters");
    assert!(claim_batch(conn.broker(), &w, 10).is_empty(), "nothing is leased to it any more");
    let peers = conn.broker().look(2, &["t"]).expect("looks").peers;
    assert_eq!(peers, [Peer { id: 1, beat: None, lock_free: None }]);
    assert_eq!(conn.broker().rescue(&peers[0]).expect("rescues"), 10);
    assert_eq!(conn.broker().settle(&w, &claimed).expect("settles").len(), 10);
}

fn what_a_batch_holds_is_not_due(db: &TestDatabase) {
    let mut conn = ten(db);
    NewMessage::new("t", &9).delay(Duration::from_secs(600)).produce(&mut conn).expect("produces");
    let w = worker(&mut conn, 1);
    assert_eq!(conn.broker().next_due(&["t"]).expect("looks"), Some(Duration::ZERO));
    claim_batch(conn.broker(), &w, 10);
    let next = conn.broker().next_due(&["t"]).expect("looks").expect("one is scheduled");
    assert!(next > Duration::from_secs(500), "{next:?}");
}
