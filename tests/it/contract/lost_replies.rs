//! A statement was carried out, and its reply never came. The worker connects again and asks what it holds.

use std::time::Duration;

use taskmq_core::broker::{Claimed, Leases, Outcome, Peer, Settlement, WorkerIdentity};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, State, produce_many};
use taskmq_tests::databases::TestDatabase;

use super::{claim, claim_batch, done, end, ids, worker};

each_database! {
    claims_are_given_back,
    a_batch_is_given_back,
    a_message_that_was_claimed_again_is_not_mistaken_for_the_former_attempt,
    a_promoted_message_is_settled_by_its_own_lease,
    a_retry_of_a_batch_that_lives_on_is_written_once,
    what_another_batch_holds_is_not_stolen,
    a_message_that_was_to_run_alone_still_is,
    suspects_that_are_handed_back_stay_suspects,
    what_a_worker_left_behind_is_nobodys_fault,
    what_a_crash_of_the_server_took_back_is_leased_anew,
}

fn some(db: &TestDatabase, number: i64) -> AnyConnection {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..number).map(|n| NewMessage::new("t", &n))).expect("produces");
    conn
}

fn known(claimed: &[Claimed]) -> Vec<(i64, i32)> {
    claimed.iter().map(|c| (c.id, c.attempt)).collect()
}

fn reconcile(conn: &mut AnyConnection, worker: &WorkerIdentity, claimed: &[Claimed]) -> Leases {
    conn.broker().reconcile(worker.id, &known(claimed)).expect("reconciles")
}

fn at_once(claimed: &Claimed) -> Settlement {
    end(claimed, Outcome::Retry { delay: Duration::ZERO, kind: "error", error: "no".to_owned() })
}

fn rescue(conn: &mut AnyConnection, id: i64) -> usize {
    conn.broker().rescue(&Peer { id, beat: Some(0), lock_free: Some(true) }).expect("rescues")
}

fn claims_are_given_back(db: &TestDatabase) {
    let mut conn = some(db, 3);
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 3);
    let leases = reconcile(&mut conn, &w, &claimed[..1]);
    assert_eq!(leases, Leases { single: vec![claimed[0].id], batches: Vec::new() });
    let again = claim(conn.broker(), &w, &["t"], 3);
    assert_eq!(ids(&again), ids(&claimed[1..]));
    assert!(again.iter().all(|c| c.attempt == 1), "the attempt that never was does not count");
}

fn a_batch_is_given_back(db: &TestDatabase) {
    let mut conn = some(db, 10);
    let w = worker(&mut conn, 1);
    let (kept, unknown) = (claim_batch(conn.broker(), &w, 4), claim_batch(conn.broker(), &w, 6));
    let leases = reconcile(&mut conn, &w, &kept[1..]);
    let batch = kept[0].batch.expect("is a batch");
    assert_eq!(leases.single, [0; 0]);
    assert_eq!(leases.batches.len(), 1);
    let mut members = leases.batches[0].1.clone();
    members.sort_unstable();
    assert_eq!((leases.batches[0].0, members), (batch, ids(&kept[1..])));
    let again = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(ids(&again), [&ids(&kept[..1])[..], &ids(&unknown)].concat());
    assert!(again.iter().all(|c| c.attempt == 1), "the attempt that never was does not count");
}

fn a_message_that_was_claimed_again_is_not_mistaken_for_the_former_attempt(db: &TestDatabase) {
    for as_batch in [false, true] {
        let mut conn = some(db, 1);
        let w = worker(&mut conn, 1 + i64::from(as_batch));
        let claim = |conn: &mut AnyConnection| match as_batch {
            true => claim_batch(conn.broker(), &w, 10),
            false => claim(conn.broker(), &w, &["t"], 10),
        };
        let first = claim(&mut conn);
        let ended: Vec<i64> = first[0].batch.into_iter().collect();
        conn.broker().exchange(&w, &[at_once(&first[0])], &ended, None).expect("settles");
        let second = claim(&mut conn);
        assert_eq!((second[0].id, second[0].attempt), (first[0].id, 2));
        assert_eq!(reconcile(&mut conn, &w, &first), Leases::default(), "the worker only knows of the first");
        let third = claim(&mut conn);
        assert_eq!((third[0].id, third[0].attempt), (first[0].id, 2), "it is there for everyone");
        conn.broker().settle(&w, &[done(&third[0])]).expect("settles");
    }
}

fn a_promoted_message_is_settled_by_its_own_lease(db: &TestDatabase) {
    let mut conn = some(db, 2);
    let w = worker(&mut conn, 1);
    let mut claimed = claim_batch(conn.broker(), &w, 2);
    let batch = claimed[0].batch.expect("is a batch");
    assert!(conn.broker().promote(w.id, batch, &ids(&claimed), true).expect("promotes"));
    let mut leases = reconcile(&mut conn, &w, &claimed);
    leases.single.sort_unstable();
    assert_eq!(leases, Leases { single: ids(&claimed), batches: Vec::new() });
    for message in &mut claimed {
        message.batch = None;
    }
    let outcomes: Vec<Settlement> = claimed.iter().map(done).collect();
    assert!(conn.broker().settle(&w, &outcomes).expect("settles").is_empty());
}

fn a_retry_of_a_batch_that_lives_on_is_written_once(db: &TestDatabase) {
    let mut conn = some(db, 2);
    let w = worker(&mut conn, 1);
    let claimed = claim_batch(conn.broker(), &w, 2);
    let batch = claimed[0].batch.expect("is a batch");
    conn.broker().settle(&w, &[at_once(&claimed[0])]).expect("settles");
    assert_eq!(
        reconcile(&mut conn, &w, &claimed),
        Leases { single: Vec::new(), batches: vec![(batch, vec![claimed[1].id])] }
    );
    // With the batch of old, as a statement that comes late would have it.
    conn.broker().settle(&w, &[at_once(&claimed[0])]).expect("settles");
    let message = conn.broker().message(claimed[0].id).expect("reads").expect("is there");
    assert_eq!((message.state, message.attempts), (State::Ready, 1));
    assert_eq!(conn.broker().failures(claimed[0].id).expect("reads").len(), 1);
    assert!(conn.broker().settle(&w, &[done(&claimed[1])]).expect("settles").is_empty());
}

fn what_another_batch_holds_is_not_stolen(db: &TestDatabase) {
    let mut conn = some(db, 2);
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let old = claim_batch(conn.broker(), &first, 2);
    let batch = old[0].batch.expect("is a batch");
    conn.broker().settle(&first, &[at_once(&old[0])]).expect("settles");
    let new = claim_batch(conn.broker(), &second, 2);
    assert_eq!(ids(&new), [old[0].id]);
    // A promotion and a settlement that come late.
    conn.broker().promote(first.id, batch, &ids(&old), false).expect("promotes");
    let settlement = Settlement { batch: None, ..at_once(&old[0]) };
    assert_eq!(conn.broker().settle(&first, &[settlement]).expect("settles"), [old[0].id]);
    assert!(conn.broker().settle(&second, &[done(&new[0])]).expect("settles").is_empty());
    let message = conn.broker().message(old[0].id).expect("reads").expect("is there");
    assert_eq!((message.state, message.attempts, message.worker_id), (State::Done, 2, Some(second.id)));
}

/// Leaves one message that two workers died with.
fn set_aside(db: &TestDatabase) -> AnyConnection {
    let mut conn = some(db, 2);
    let w = worker(&mut conn, 11);
    claim(conn.broker(), &w, &["t"], 2);
    rescue(&mut conn, 11);
    let w = worker(&mut conn, 12);
    let suspects = conn.broker().claim_suspects(12, &["t"], 2).expect("claims");
    rescue(&mut conn, 12);
    let w = WorkerIdentity { id: 13, ..w };
    conn.broker().register(&w).expect("registers");
    let alone = conn.broker().claim_alone(13, &["t"]).expect("claims").expect("is there");
    assert_eq!(alone.id, suspects[0].id);
    conn.broker().settle(&w, &[done(&alone)]).expect("settles");
    conn.broker().deregister(13).expect("ends");
    conn
}

fn a_message_that_was_to_run_alone_still_is(db: &TestDatabase) {
    let mut conn = set_aside(db);
    let w = worker(&mut conn, 1);
    let alone = conn.broker().claim_alone(1, &["t"]).expect("claims").expect("is there");
    assert_eq!(reconcile(&mut conn, &w, &[]), Leases::default());
    assert!(conn.broker().look(1, &["t"]).expect("looks").set_aside);
    // It was not the company of this worker, and is not charged with its death.
    produce_many(&mut conn, (0..2).map(|n| NewMessage::new("t", &n))).expect("produces");
    claim(conn.broker(), &w, &["t"], 2);
    rescue(&mut conn, 1);
    worker(&mut conn, 2);
    let again = conn.broker().claim_alone(2, &["t"]).expect("claims").expect("is there");
    assert_eq!((again.id, again.attempt, again.crashes), (alone.id, 1, 0));
}

fn suspects_that_are_handed_back_stay_suspects(db: &TestDatabase) {
    let mut conn = some(db, 2);
    let w = worker(&mut conn, 1);
    claim(conn.broker(), &w, &["t"], 2);
    rescue(&mut conn, 1);
    let w = worker(&mut conn, 2);
    let suspects = conn.broker().claim_suspects(2, &["t"], 2).expect("claims");
    let back: Vec<Settlement> = suspects.iter().map(|c| end(c, Outcome::HandBack)).collect();
    assert!(conn.broker().settle(&w, &back).expect("settles").is_empty());
    assert!(claim(conn.broker(), &w, &["t"], 2).is_empty());
    assert_eq!(ids(&conn.broker().claim_suspects(2, &["t"], 2).expect("claims")), ids(&suspects));
}

fn what_a_worker_left_behind_is_nobodys_fault(db: &TestDatabase) {
    let mut conn = some(db, 1);
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    conn.broker().deregister(1).expect("ends");
    assert_eq!(conn.broker().rescue(&Peer { id: 1, beat: None, lock_free: None }).expect("rescues"), 1);
    let w = worker(&mut conn, 2);
    let again = claim(conn.broker(), &w, &["t"], 1);
    assert_eq!((again[0].id, again[0].attempt, again[0].crashes), (claimed[0].id, 1, 0));
    assert!(conn.broker().failures(claimed[0].id).expect("reads").is_empty());
}

fn what_a_crash_of_the_server_took_back_is_leased_anew(db: &TestDatabase) {
    if db.backend() != Backend::Postgres {
        return; // only there do claims not wait for the disk
    }
    let mut conn = some(db, 4);
    let w = worker(&mut conn, 1);
    let (single, batch) = (claim(conn.broker(), &w, &["t"], 2), claim_batch(conn.broker(), &w, 2));
    db.execute("UPDATE taskmq_messages SET worker_id = 0, attempts = 0 WHERE worker_id = 1");
    db.execute("DELETE FROM taskmq_claims");
    let other = worker(&mut conn, 2);
    let taken = claim(conn.broker(), &other, &["t"], 1);
    let all = [single, batch].concat();
    let mut leases = reconcile(&mut conn, &w, &all);
    leases.single.sort_unstable();
    assert_eq!(leases, Leases { single: ids(&all[1..]), batches: Vec::new() }, "all but what another has");
    assert_eq!(ids(&taken), ids(&all[..1]));
    let outcomes: Vec<Settlement> = all[1..].iter().map(|c| Settlement { batch: None, ..done(c) }).collect();
    assert!(conn.broker().settle(&w, &outcomes).expect("settles").is_empty());
}
