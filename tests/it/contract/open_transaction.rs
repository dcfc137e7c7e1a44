//! A producer's transaction that stays open for long stops nobody: not one operation waits for its rows. The table is
//! small, so that a database would rather read it whole than go by an index. SQLite has one writer, and is left out.

use std::time::Duration;

use taskmq_core::broker::{Action, Claimed, Noted, Outcome, Peer};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, Retention, State};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::{claim, claim_batch, done, end, ids, worker};

mod postgres {
    #[test]
    fn a_producers_open_transaction_stops_nobody() {
        super::a_producers_open_transaction_stops_nobody(&taskmq_tests::databases::fresh(
            taskmq_core::Backend::Postgres,
        ));
    }
}

mod mariadb {
    #[test]
    fn a_producers_open_transaction_stops_nobody() {
        super::a_producers_open_transaction_stops_nobody(&taskmq_tests::databases::fresh(
            taskmq_core::Backend::Mysql,
        ));
    }
}

fn a_producers_open_transaction_stops_nobody(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    let impatient = match db.backend() {
        Backend::Postgres => "SET lock_timeout = '1s'",
        _ => "SET SESSION innodb_lock_wait_timeout = 1",
    };
    try_execute(&mut conn, impatient).expect("is set");
    produce_some(&mut conn);
    let mut producer = db.connect();
    producer.broker().begin().expect("begins");
    produce_some(&mut producer);
    work(&mut conn);
    // Behind them, too.
    produce_some(&mut conn);
    work(&mut conn);
    producer.broker().rollback().expect("rolls back");
}

fn produce_some(conn: &mut AnyConnection) {
    for n in 0..12 {
        let message = NewMessage::new("t", &n);
        let message = if n % 4 == 0 { message.ordering_key(format!("{}", n % 8)) } else { message };
        message.produce(conn).expect("produces");
    }
}

/// Every operation of a worker, and those of people.
fn work(conn: &mut AnyConnection) {
    let [w, dies] = [1, 2].map(|id| worker(conn, id));
    let retry = || Outcome::Retry { delay: Duration::ZERO, kind: "error", error: "no".to_owned() };
    let dead = || Outcome::Dead { kind: Some("error"), error: "no".to_owned() };
    let forgotten = || Outcome::Done { result: None, retention: Retention::None };
    let settle_each = |conn: &mut AnyConnection, claimed: &[Claimed]| {
        let outcomes = [retry(), dead(), Outcome::HandBack, forgotten()];
        let ends: Vec<_> = claimed.iter().zip(outcomes).map(|(c, outcome)| end(c, outcome)).collect();
        assert!(conn.broker().settle(&w, &ends).expect("settles").is_empty());
        let rest: Vec<_> = claimed.iter().skip(ends.len()).map(done).collect();
        assert!(conn.broker().settle(&w, &rest).expect("settles").is_empty());
    };
    let batch = claim_batch(conn.broker(), &w, 4);
    assert!(batch.len() > 1);
    settle_each(conn, &batch);
    let single = claim(conn.broker(), &w, &["t"], 4);
    assert!(!single.is_empty());
    settle_each(conn, &single);
    let promoted = claim_batch(conn.broker(), &w, 2);
    if let Some(batch) = promoted.first().and_then(|claimed| claimed.batch) {
        let of_batch: Vec<_> = promoted.iter().filter(|c| c.batch == Some(batch)).map(|c| c.id).collect();
        assert!(conn.broker().promote(w.id, batch, &of_batch, true).expect("promotes"));
    }
    conn.broker().reconcile(w.id, &[]).expect("gives everything back");
    conn.broker().begin().expect("begins");
    if let Some(claimed) = claim(conn.broker(), &w, &["t"], 1).first() {
        assert!(conn.broker().ack(&w, &done(claimed)).expect("acknowledges"));
    }
    conn.broker().commit().expect("commits");
    claim_batch(conn.broker(), &dies, 2);
    claim(conn.broker(), &dies, &["t"], 2);
    let look = conn.broker().look(w.id, &["t"]).expect("looks");
    let beat = look.peers.iter().find(|peer| peer.id == dies.id).and_then(|peer| peer.beat);
    conn.broker().rescue(&Peer { id: dies.id, beat, lock_free: None }).expect("rescues");
    let suspects = conn.broker().claim_suspects(w.id, &["t"], 10).expect("claims");
    settle_each(conn, &suspects);
    conn.broker().claim_alone(w.id, &["t"]).expect("looks");
    conn.broker().reconcile(w.id, &[]).expect("gives everything back");
    conn.broker().next_due(&["t"]).expect("looks");
    conn.broker().mend_lines().expect("looks");
    conn.broker().purge(10).expect("purges");
    let ready: Vec<_> = conn.broker().in_line(None, 10).expect("reads").iter().map(|m| m.place.id).collect();
    for action in [Action::Priority(1), Action::Retry, Action::Cancel, Action::Delete] {
        conn.broker().change(&action, &ready, Noted::No).expect("changes");
    }
    let left = claim(conn.broker(), &w, &["t"], 100);
    assert!(ids(&left).iter().all(|id| {
        conn.broker().message(*id).expect("reads").is_some_and(|message| message.state == State::Running)
    }));
    let ends: Vec<_> = left.iter().map(done).collect();
    conn.broker().settle(&w, &ends).expect("settles");
    conn.broker().deregister(w.id).expect("goes");
}
