use std::time::Duration;

use taskmq_core::broker::{Outcome, Peer};
use taskmq_core::{BrokerConnection, Retention, State, produce};
use taskmq_tests::databases::TestDatabase;

use super::{claim, done, end, worker};

each_database! {
    a_lost_lease_cannot_end_a_message,
    an_outcome_written_twice_counts_once,
    one_lost_lease_does_not_spoil_a_batch,
}

fn rescue(conn: &mut impl BrokerConnection, id: i64) {
    let peer = Peer { id, beat: Some(0), lock_free: Some(true) };
    conn.broker().rescue(&peer).expect("rescues");
}

fn a_lost_lease_cannot_end_a_message(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    let (stalled, fresh) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let old = claim(conn.broker(), &stalled, &["t"], 1).remove(0);
    rescue(&mut conn, 1);
    let new = conn.broker().claim_suspects(fresh.id, &["t"], 1).expect("claims").remove(0);
    let outcomes = [
        Outcome::Done { result: None, retention: Retention::Forever },
        Outcome::Retry { delay: Duration::ZERO, kind: "error", error: "late".to_owned() },
        Outcome::Dead { kind: Some("error"), error: "late".to_owned() },
        Outcome::HandBack,
    ];
    for outcome in outcomes {
        assert_eq!(conn.broker().settle(&stalled, &[end(&old, outcome)]).expect("settles"), [id]);
        assert_eq!(conn.broker().message(id).expect("reads").expect("is there").worker_id, Some(2));
    }
    assert!(conn.broker().failures(id).expect("reads").iter().all(|f| f.kind == "crash"));
    assert!(conn.broker().settle(&fresh, &[done(&new)]).expect("settles").is_empty());
    let message = conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!((message.state, message.worker_id), (State::Done, Some(2)));
}

fn an_outcome_written_twice_counts_once(db: &TestDatabase) {
    let mut conn = db.connect();
    produce(&mut conn, "t", &1).expect("produces");
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    // The second time, as after a reply that was lost, is no lost lease.
    for _ in 0..2 {
        assert!(conn.broker().settle(&w, &[done(&claimed)]).expect("settles").is_empty());
    }
}

fn one_lost_lease_does_not_spoil_a_batch(db: &TestDatabase) {
    let mut conn = db.connect();
    for n in 0..3 {
        produce(&mut conn, "t", &n).expect("produces");
    }
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 3);
    db.execute(&format!("UPDATE taskmq_messages SET worker_id = 99 WHERE id = {}", claimed[1].id));
    let failed =
        Outcome::Retry { delay: Duration::from_secs(9), kind: "error", error: "it's \u{202e}bad".to_owned() };
    let batch = [done(&claimed[0]), done(&claimed[1]), end(&claimed[2], failed)];
    assert_eq!(conn.broker().settle(&w, &batch).expect("settles"), [claimed[1].id]);
    let mut state =
        |at: usize| conn.broker().message(claimed[at].id).expect("reads").expect("is there").state;
    assert_eq!([state(0), state(1), state(2)], [State::Done, State::Running, State::Retrying]);
}
