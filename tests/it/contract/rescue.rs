use std::time::Duration;

use taskmq_core::broker::{Blame, Lock, Look, Peer, Settlement};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, produce, produce_many};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::{claim, done, worker};

each_database! {
    a_look_tells_what_there_is,
    a_dead_workers_messages_are_given_back_without_blame,
    a_worker_that_moved_is_not_rescued,
    what_was_there_at_two_deaths_runs_alone_and_the_culprit_is_charged,
    nobody_is_charged_where_a_death_proves_nothing,
    messages_of_a_worker_that_is_not_there_are_seen,
    the_lock_of_a_worker_is_free_when_its_connection_ends,
    a_worker_tells_its_memory_and_people_see_whether_it_lives,
}

mod locked_rows {
    use super::a_row_that_somebody_has_locked_keeps_no_other_worker_from_being_rescued;

    each_server! { a_row_that_somebody_has_locked_keeps_no_other_worker_from_being_rescued }
}

fn a_row_that_somebody_has_locked_keeps_no_other_worker_from_being_rescued(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..4).map(|n| NewMessage::new("t", &n))).expect("produces");
    let [first, second] = [1, 2].map(|id| worker(&mut conn, id));
    let held = claim(conn.broker(), &first, &["t"], 2);
    claim(conn.broker(), &second, &["t"], 2);
    let mut person = db.connect();
    person.broker().begin().expect("begins");
    let lock = format!("UPDATE taskmq_messages SET claimed_at = claimed_at WHERE id = {}", held[0].id);
    try_execute(&mut person, &lock).expect("locks");
    // Should it wait without end, this ends it, and the error is missing.
    let (free, freed) = std::sync::mpsc::channel::<()>();
    let person = std::thread::spawn(move || {
        let _ = freed.recv_timeout(Duration::from_secs(20));
        person.broker().rollback().expect("rolls back");
    });
    let blocked = conn.broker().rescue(&dead(1));
    assert!(blocked.is_err(), "it waited: {blocked:?}");
    assert_eq!(conn.broker().rescue(&dead(2)).expect("rescues"), 2);
    free.send(()).expect("is waited for");
    person.join().expect("ends");
    assert_eq!(conn.broker().rescue(&dead(1)).expect("rescues"), 2, "once the row is free");
}

fn a_worker_tells_its_memory_and_people_see_whether_it_lives(db: &TestDatabase) {
    let mut conn = db.connect();
    let entry = |conn: &mut AnyConnection| conn.broker().workers(10).expect("reads").remove(0);
    let w = worker(&mut conn, 1);
    assert_eq!(entry(&mut conn).memory_bytes, None);
    assert!(conn.broker().beat(w.id, Some(123_456_789)).expect("beats"));
    assert!(conn.broker().beat(w.id, None).expect("beats"));
    assert_eq!(entry(&mut conn).memory_bytes, Some(123_456_789), "as it was told last");
    assert!(entry(&mut conn).alive);
    // What tells its death: on SQLite its file, which nobody has locked; on a server its lock, or that it is silent.
    if db.backend() == Backend::Sqlite {
        let path = format!("{}-taskmq-{:016x}.lock", db.url().trim_start_matches("sqlite://"), w.id);
        let lock = std::fs::File::create(&path).expect("makes it");
        lock.lock().expect("locks it");
        assert!(entry(&mut conn).alive);
        lock.unlock().expect("unlocks it");
        assert!(!entry(&mut conn).alive);
        return;
    }
    let mut session = db.connect();
    assert_eq!(session.broker().lock(w.id).expect("locks"), Lock::Held);
    assert!(entry(&mut conn).alive);
    drop(session);
    let begin = std::time::Instant::now();
    while entry(&mut conn).alive {
        assert!(begin.elapsed() < Duration::from_secs(20), "its lock is free and it looks alive");
        std::thread::sleep(Duration::from_millis(10));
    }
    let a_minute_ago = match db.backend() {
        Backend::Postgres => "clock_timestamp() - interval '60 seconds'",
        _ => "CURRENT_TIMESTAMP(6) - INTERVAL 60 SECOND",
    };
    let mut session = db.connect();
    assert_eq!(session.broker().lock(w.id).expect("locks"), Lock::Held);
    db.execute(&format!("UPDATE taskmq_workers SET beat_at = {a_minute_ago}"));
    assert!(entry(&mut conn).alive, "it beats each 39 s where it has a lock");
    db.execute("UPDATE taskmq_workers SET locked = FALSE");
    assert!(!entry(&mut conn).alive, "and twice a second where it has none");
}

fn dead(id: i64) -> Peer {
    Peer { id, beat: Some(0), lock_free: Some(true) }
}

fn a_dead_workers_messages_are_given_back_without_blame(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..10).map(|n| NewMessage::new("t", &n))).expect("produces");
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let before = claim(conn.broker(), &first, &["t"], 10);
    assert_eq!(conn.broker().rescue(&dead(1)).expect("rescues"), 10);
    assert_eq!(conn.broker().rescue(&dead(1)).expect("rescues"), 0, "only once");
    assert!(claim(conn.broker(), &second, &["t"], 10).is_empty(), "not among others");
    assert!(conn.broker().look(second.id, &["t"]).expect("looks").suspects);
    assert!(!conn.broker().look(second.id, &["u"]).expect("looks").suspects, "of another topic");
    assert!(conn.broker().claim_suspects(second.id, &["u"], 10).expect("claims").is_empty());
    let mut after = conn.broker().claim_suspects(second.id, &["t"], 4).expect("claims");
    assert_eq!(after.len(), 4, "no more than asked for");
    after.extend(conn.broker().claim_suspects(second.id, &["t"], 10).expect("claims"));
    assert_eq!(super::ids(&after), super::ids(&before));
    assert!(after.iter().all(|c| (c.attempt, c.crashes, c.batch) == (1, 0, None)));
    assert!(!conn.broker().look(second.id, &["t"]).expect("looks").suspects);
    let outcomes: Vec<Settlement> = after.iter().map(done).collect();
    assert!(conn.broker().settle(&second, &outcomes).expect("settles").is_empty());
}

fn a_look_tells_what_there_is(db: &TestDatabase) {
    let mut conn = db.connect();
    let look = conn.broker().look(1, &["t", "u"]).expect("looks");
    assert_eq!(look, Look::default(), "there is nothing, not even this worker");
    worker(&mut conn, 1);
    worker(&mut conn, 2);
    NewMessage::new("t", &1).priority(7).delay(Duration::from_secs(60)).produce(&mut conn).expect("produces");
    produce(&mut conn, "other", &1).expect("produces");
    let look = conn.broker().look(1, &["t", "u"]).expect("looks");
    assert!(look.alive && !look.due && !look.set_aside && !look.suspects);
    assert_eq!(look.peers.iter().map(|peer| peer.id).collect::<Vec<_>>(), [2]);
    NewMessage::new("t", &1).priority(-7).produce(&mut conn).expect("produces");
    assert!(conn.broker().look(1, &["t", "u"]).expect("looks").due);
}

fn a_worker_that_moved_is_not_rescued(db: &TestDatabase) {
    if db.backend() == Backend::Sqlite {
        return; // there no counter moves: the file's lock tells
    }
    let mut conn = db.connect();
    produce(&mut conn, "t", &1).expect("produces");
    let w = worker(&mut conn, 1);
    claim(conn.broker(), &w, &["t"], 1);
    assert!(conn.broker().beat(w.id, None).expect("beats"));
    assert_eq!(conn.broker().rescue(&dead(1)).expect("looks"), 0);
    assert!(conn.broker().beat(w.id, None).expect("beats"), "it still lives");
}

fn what_was_there_at_two_deaths_runs_alone_and_the_culprit_is_charged(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..3).map(|n| NewMessage::new("t", &n))).expect("produces");
    let first = worker(&mut conn, 1);
    assert_eq!(claim(conn.broker(), &first, &["t"], 10).len(), 3);
    conn.broker().rescue(&dead(1)).expect("rescues");
    worker(&mut conn, 2);
    assert_eq!(conn.broker().claim_suspects(2, &["t"], 10).expect("claims").len(), 3);
    conn.broker().rescue(&dead(2)).expect("rescues");
    assert!(conn.broker().look(3, &["t"]).expect("looks").set_aside);
    let innocent_worker = worker(&mut conn, 3);
    assert!(
        claim(conn.broker(), &innocent_worker, &["t"], 10).is_empty(),
        "they are claimed one by one only"
    );
    let innocent = conn.broker().claim_alone(3, &["t"]).expect("claims").expect("is there");
    assert_eq!((innocent.attempt, innocent.crashes), (1, 0));
    conn.broker().settle(&innocent_worker, &[done(&innocent)]).expect("settles");
    conn.broker().blame(3, Blame::Held).expect("writes");
    let culprit = conn.broker().claim_alone(3, &["t"]).expect("claims").expect("is there");
    conn.broker().rescue(&dead(3)).expect("rescues");
    worker(&mut conn, 4);
    let again = conn.broker().claim_alone(4, &["t"]).expect("claims").expect("is there");
    assert_eq!(again.id, culprit.id);
    assert_eq!((again.attempt, again.crashes), (4, 3), "all three deaths are its own");
    let failures = conn.broker().failures(again.id).expect("reads");
    let told: Vec<(i32, bool)> =
        failures.iter().map(|f| (f.attempt, f.error.contains("perhaps because of another"))).collect();
    assert_eq!(told, [(1, true), (2, true), (3, false)], "{failures:?}");
}

fn nobody_is_charged_where_a_death_proves_nothing(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    for death in 1..=3 {
        let w = worker(&mut conn, death);
        conn.broker().blame(w.id, Blame::Nobody).expect("notes");
        let claimed = match death {
            1 => claim(conn.broker(), &w, &["t"], 10),
            2 => conn.broker().claim_suspects(w.id, &["t"], 10).expect("claims"),
            _ => conn.broker().claim_alone(w.id, &["t"]).expect("claims").into_iter().collect(),
        };
        assert_eq!(claimed.iter().map(|c| (c.id, c.attempt, c.crashes)).collect::<Vec<_>>(), [(id, 1, 0)]);
        assert_eq!(conn.broker().workers(1).expect("lists")[0].alone_with, None);
        assert_eq!(conn.broker().rescue(&dead(death)).expect("rescues"), 1);
        let look = conn.broker().look(9, &["t"]).expect("looks");
        assert_eq!((look.suspects, look.set_aside), (death == 1, death > 1), "it stays suspected");
    }
    assert!(conn.broker().failures(id).expect("reads").is_empty());
    worker(&mut conn, 4);
    conn.broker().blame(4, Blame::Nobody).expect("notes");
    conn.broker().claim_alone(4, &["t"]).expect("claims").expect("is there");
    conn.broker().blame(4, Blame::Alone(id)).expect("notes");
    conn.broker().rescue(&dead(4)).expect("rescues");
    assert_eq!(conn.broker().failures(id).expect("reads").len(), 4, "its own death is proof again");
}

fn messages_of_a_worker_that_is_not_there_are_seen(db: &TestDatabase) {
    let mut conn = db.connect();
    produce(&mut conn, "t", &1).expect("produces");
    let w = worker(&mut conn, 1);
    let claimed: Vec<Settlement> = claim(conn.broker(), &w, &["t"], 1).iter().map(done).collect();
    conn.broker().deregister(1).expect("deregisters");
    let peers = conn.broker().look(2, &["t"]).expect("looks").peers;
    assert_eq!(peers, [Peer { id: 1, beat: None, lock_free: None }]);
    assert_eq!(conn.broker().rescue(&peers[0]).expect("rescues"), 1);
    assert_eq!(conn.broker().settle(&w, &claimed).expect("settles").len(), 1);
}

fn the_lock_of_a_worker_is_free_when_its_connection_ends(db: &TestDatabase) {
    let (mut conn, mut session) = (db.connect(), db.connect());
    let w = worker(&mut conn, i64::MAX - 5);
    if db.backend() == Backend::Sqlite {
        assert_eq!(session.broker().lock(w.id).expect("asks"), Lock::Unsupported);
        return;
    }
    assert_eq!(session.broker().lock(w.id).expect("locks"), Lock::Held);
    assert_eq!(conn.broker().lock(w.id).expect("asks"), Lock::Busy);
    assert_eq!(conn.broker().look(1, &["t"]).expect("looks").peers[0].lock_free, Some(false));
    drop(session);
    let began = std::time::Instant::now();
    while conn.broker().look(1, &["t"]).expect("looks").peers[0].lock_free != Some(true) {
        assert!(began.elapsed().as_secs() < 5, "the lock is still held");
        std::thread::yield_now();
    }
}
