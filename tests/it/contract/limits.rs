//! Topics that have a limit.

use std::sync::Mutex;
use std::sync::atomic::{AtomicI64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use diesel::{MysqlConnection, PgConnection, SqliteConnection};
use taskmq_core::broker::{Among, Limit, NoteId, Outcome, Peer, Reached, Share, Within, WorkerIdentity};
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Error, NewMessage, Registry, Worker, produce, produce_many,
    task_consumer,
};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::{claim, claim_batch, done, end, ids, worker};

each_database! {
    a_limit_is_kept_and_noted,
    what_limits_nothing_is_refused,
    a_look_tells_what_is_limited,
    those_that_claim_at_once_never_exceed_the_limit,
    a_rate_is_kept_over_many_periods,
    a_retry_is_a_new_begin,
    whatever_ends_frees_its_place,
    what_a_death_left_is_within_the_limit,
    a_limit_can_be_raised_lowered_and_lifted,
    what_was_leased_before_counts,
    one_topic_is_limited_and_another_is_not,
    ordering_keys_take_turns_within_a_limit,
    priorities_and_ageing_hold_within_a_limit,
    a_transactional_consumer_stays_within_its_limit,
}

fn running(running: u32) -> Limit {
    Limit { running: Some(running), rate: None }
}

fn rate(rate: &str) -> Limit {
    Limit { running: None, rate: Some(rate.parse().expect("a rate")) }
}

fn limit(db: &TestDatabase, topic: &str, limit: Limit) {
    assert!(db.connect().broker().set_limit(topic, &limit, "a person").expect("limits"));
}

fn within(conn: &mut AnyConnection, w: &WorkerIdentity, topic: &str, limit: i64) -> Within {
    let share = Share { topic, limit, ageing: None };
    conn.broker().claim_limited(w.id, &share, Among::Ordinary).expect("claims")
}

fn settle(conn: &mut AnyConnection, w: &WorkerIdentity, within: &Within) {
    let settlements: Vec<_> = within.claimed.iter().map(done).collect();
    assert!(conn.broker().settle(w, &settlements).expect("settles").is_empty());
}

/// As if so many seconds had passed since the last begin.
fn pass(db: &TestDatabase, seconds: i64) {
    let nanoseconds = seconds * 1_000_000_000;
    db.execute(&format!("UPDATE taskmq_limits SET spent_until = spent_until - {nanoseconds}"));
}

fn a_limit_is_kept_and_noted(db: &TestDatabase) {
    let mut conn = db.connect();
    assert_eq!(conn.broker().limits().expect("reads"), []);
    let before = conn.broker().now().expect("reads");
    let both = Limit { running: Some(5), ..rate("100/1m") };
    assert!(conn.broker().set_limit("mail", &running(2), "a person").expect("limits"));
    assert!(!conn.broker().set_limit("mail", &running(2), "another").expect("reads"), "it is so already");
    assert!(conn.broker().set_limit("mail", &both, "another").expect("limits"));
    assert!(conn.broker().set_limit("Mail", &rate("1/1d"), "a person").expect("limits"), "another topic");
    let limits = db.connect().broker().limits().expect("reads");
    let told: Vec<_> = limits.iter().map(|l| (&*l.topic, l.limit, &*l.actor)).collect();
    assert_eq!(told, [("Mail", rate("1/1d"), "a person"), ("mail", both, "another")]);
    let after = conn.broker().now().expect("reads");
    assert!(limits.iter().all(|l| (before..=after).contains(&l.since)), "{limits:?}");
    assert!(conn.broker().lift_limit("mail", "a third").expect("lifts"));
    assert!(!conn.broker().lift_limit("mail", "a third").expect("reads"), "it has none");
    assert_eq!(conn.broker().limits().expect("reads").len(), 1);
    let notes = conn.broker().notes(NoteId::MAX, 10).expect("reads");
    let notes: Vec<_> =
        notes.iter().map(|n| (&*n.actor, &*n.action, n.topic.as_deref(), &*n.details)).collect();
    let expected = [
        ("a third", "lift limit", Some("mail"), ""),
        ("a person", "limit", Some("Mail"), "1/1d"),
        ("another", "limit", Some("mail"), "5 at once, 100/1m"),
        ("a person", "limit", Some("mail"), "2 at once"),
    ];
    assert_eq!(notes, expected);
}

fn what_limits_nothing_is_refused(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut set = |topic: &str, limit: Limit| conn.broker().set_limit(topic, &limit, "a person");
    assert!(matches!(set("two words", running(1)), Err(Error::Topic { .. })));
    for wrong in [Limit::default(), running(0), running(10_001), rate("0/1s"), rate("1/0s"), rate("1/2d")] {
        assert!(matches!(set("t", wrong), Err(Error::Limit { .. })), "{wrong:?}");
    }
    // The table takes nothing else by hand.
    for columns in [
        "NULL, NULL, NULL",
        "0, NULL, NULL",
        "10001, NULL, NULL",
        "1, 5, NULL",
        "1, NULL, 5",
        "NULL, 1, 86401",
    ] {
        let insert = format!(
            "INSERT INTO taskmq_limits (topic, running, rate, per_seconds, actor) VALUES ('t', {columns}, 'by hand')"
        );
        assert!(try_execute(&mut db.connect(), &insert).is_err(), "{columns}");
    }
    assert_eq!(conn.broker().limits().expect("reads"), []);
    assert!(conn.broker().notes(NoteId::MAX, 10).expect("reads").is_empty());
}

fn a_look_tells_what_is_limited(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    worker(&mut conn, 1);
    limit(db, "u", running(1));
    limit(db, "t", running(1));
    db.connect().broker().pause("t", "a person").expect("pauses");
    let look = conn.broker().look(1, &["t", "u"]).expect("looks");
    assert_eq!((look.limited, look.paused), (vec!["t".to_owned(), "u".to_owned()], vec!["t".to_owned()]));
    assert!(look.alive && look.peers.is_empty());
    assert!(db.connect().broker().lift_limit("t", "a person").expect("lifts"));
    assert_eq!(conn.broker().look(1, &["t", "u"]).expect("looks").limited, ["u"]);
}

fn those_that_claim_at_once_never_exceed_the_limit(db: &TestDatabase) {
    const TOTAL: usize = 150;
    let mut conn = db.connect();
    produce_many(&mut conn, (0..TOTAL).map(|n| NewMessage::new("t", &n))).expect("produces");
    limit(db, "t", running(3));
    let (held, most, ended) = (AtomicI64::new(0), AtomicI64::new(0), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for id in 1..=4 {
            let (held, most, ended) = (&held, &most, &ended);
            scope.spawn(move || {
                let mut conn = db.connect_worker();
                let w = worker(&mut conn, id);
                while ended.load(Ordering::SeqCst) < TOTAL {
                    let within = within(&mut conn, &w, "t", 2);
                    let claimed = i64::try_from(within.claimed.len()).expect("few");
                    let now = held.fetch_add(claimed, Ordering::SeqCst) + claimed;
                    most.fetch_max(now, Ordering::SeqCst);
                    std::thread::yield_now();
                    held.fetch_sub(claimed, Ordering::SeqCst);
                    settle(&mut conn, &w, &within);
                    ended.fetch_add(within.claimed.len(), Ordering::SeqCst);
                }
            });
        }
    });
    assert!(most.load(Ordering::SeqCst) <= 3, "{most:?}");
    let limited = conn.broker().limits().expect("reads").remove(0);
    assert_eq!((limited.running_now, limited.begun), (0, 150));
}

fn a_rate_is_kept_over_many_periods(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    produce_many(&mut conn, (0..100).map(|n| NewMessage::new("t", &n))).expect("produces");
    limit(db, "t", rate("5/1d"));
    let w = worker(&mut conn, 1);
    for _period in 0..3 {
        // Several at once have no more than one has.
        let begun = Mutex::new(Vec::new());
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let (begun, w) = (&begun, &w);
                scope.spawn(move || {
                    let mut conn = db.connect_worker();
                    for _ in 0..3 {
                        let within = within(&mut conn, w, "t", 2);
                        begun.lock().expect("locks").extend(ids(&within.claimed));
                    }
                });
            }
        });
        let mut begun = begun.into_inner().expect("locks");
        begun.sort_unstable();
        begun.dedup();
        assert_eq!(begun.len(), 5);
        let empty = within(&mut conn, &w, "t", 10);
        let Some(Reached::Rate(wait)) = empty.reached else { panic!("{empty:?}") };
        let part = Duration::from_secs(86_400 / 5);
        assert!(
            empty.claimed.is_empty() && wait <= part && wait > part - Duration::from_secs(300),
            "{wait:?}"
        );
        pass(db, 86_400);
    }
    // A part of a period gives a part of the rate, and many periods no more than one.
    assert_eq!(within(&mut conn, &w, "t", 10).claimed.len(), 5);
    pass(db, 2 * 86_400 / 5);
    assert_eq!(within(&mut conn, &w, "t", 10).claimed.len(), 2);
    pass(db, 100 * 86_400);
    let first = within(&mut conn, &w, "t", 3);
    assert_eq!((first.claimed.len(), first.reached), (3, None), "as many as it wanted");
    assert_eq!(within(&mut conn, &w, "t", 10).claimed.len(), 2);
}

fn a_retry_is_a_new_begin(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    produce(&mut conn, "t", &1).expect("produces");
    limit(db, "t", rate("2/1d"));
    let w = worker(&mut conn, 1);
    for _attempt in 0..2 {
        let first = within(&mut conn, &w, "t", 10);
        let retry = Outcome::Retry { delay: Duration::ZERO, kind: "error", error: "no".to_owned() };
        let settlement = end(&first.claimed[0], retry);
        assert!(conn.broker().settle(&w, &[settlement]).expect("settles").is_empty());
    }
    let third = within(&mut conn, &w, "t", 10);
    assert!(third.claimed.is_empty() && matches!(third.reached, Some(Reached::Rate(_))), "{third:?}");
}

fn whatever_ends_frees_its_place(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("t", &n))).expect("produces");
    limit(db, "t", running(2));
    let w = worker(&mut conn, 1);
    let later = Duration::from_secs(3600);
    let dead = || Outcome::Dead { kind: Some("error"), error: "no".to_owned() };
    let retry = || Outcome::Retry { delay: later, kind: "error", error: "no".to_owned() };
    for outcome in [dead(), retry(), Outcome::HandBack] {
        let full = within(&mut conn, &w, "t", 10);
        assert_eq!((full.claimed.len(), full.reached), (2, Some(Reached::Running)));
        let none = within(&mut conn, &w, "t", 10);
        assert_eq!((none.claimed.len(), none.reached), (0, Some(Reached::Running)));
        assert_eq!(conn.broker().limits().expect("reads")[0].running_now, 2);
        let settlement = end(&full.claimed[0], outcome);
        assert!(conn.broker().settle(&w, &[settlement]).expect("settles").is_empty());
        let one = within(&mut conn, &w, "t", 10);
        assert_eq!((one.claimed.len(), one.reached), (1, Some(Reached::Running)));
        settle(&mut conn, &w, &one);
        settle(&mut conn, &w, &Within { claimed: vec![full.claimed[1].clone()], ..Within::default() });
    }
}

fn what_a_death_left_is_within_the_limit(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("t", &n))).expect("produces");
    limit(db, "t", running(3));
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    assert_eq!(within(&mut conn, &first, "t", 10).claimed.len(), 3);
    assert!(within(&mut conn, &second, "t", 10).claimed.is_empty());
    let peers = conn.broker().look(2, &["t"]).expect("looks").peers;
    let dead: &Peer = peers.iter().find(|peer| peer.id == 1).expect("it is there");
    assert_eq!(conn.broker().rescue(dead).expect("rescues"), 3);
    assert_eq!(conn.broker().limits().expect("reads")[0].running_now, 0);
    // Those are suspects now. One more waits to run alone.
    let aside = produce(&mut conn, "t", &20).expect("produces");
    db.execute(&format!("UPDATE taskmq_messages SET worker_id = -1 WHERE id = {aside}"));
    let two = within(&mut conn, &second, "t", 2);
    assert_eq!(two.claimed.len(), 2);
    let left = |conn: &mut AnyConnection, among| {
        let share = Share { topic: "t", limit: 10, ageing: None };
        conn.broker().claim_limited(2, &share, among).expect("claims")
    };
    let suspect = left(&mut conn, Among::Suspects);
    assert_eq!((suspect.claimed.len(), suspect.reached), (1, Some(Reached::Running)));
    assert!(left(&mut conn, Among::SetAside).claimed.is_empty(), "no place is left");
    settle(&mut conn, &second, &suspect);
    assert_eq!(ids(&left(&mut conn, Among::SetAside).claimed), [aside]);
    assert!(left(&mut conn, Among::Suspects).claimed.is_empty());
}

fn a_limit_can_be_raised_lowered_and_lifted(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    produce_many(&mut conn, (0..40).map(|n| NewMessage::new("t", &n))).expect("produces");
    let w = worker(&mut conn, 1);
    limit(db, "t", running(2));
    let first = within(&mut conn, &w, "t", 30);
    limit(db, "t", running(5));
    assert_eq!(within(&mut conn, &w, "t", 30).claimed.len(), 3);
    limit(db, "t", running(4));
    assert!(within(&mut conn, &w, "t", 30).claimed.is_empty());
    settle(&mut conn, &w, &first);
    assert_eq!(within(&mut conn, &w, "t", 30).claimed.len(), 1, "three of four run");
    assert!(db.connect().broker().lift_limit("t", "a person").expect("lifts"));
    let free = within(&mut conn, &w, "t", 30);
    assert_eq!((free.claimed.len(), free.reached), (30, None), "as a claim without a limit");
    // What a limit has used up is not given anew by another one.
    limit(db, "u", rate("10/1d"));
    produce_many(&mut conn, (0..40).map(|n| NewMessage::new("u", &n))).expect("produces");
    assert_eq!(within(&mut conn, &w, "u", 30).claimed.len(), 10);
    limit(db, "u", rate("20/1d"));
    assert!(within(&mut conn, &w, "u", 30).claimed.is_empty());
    pass(db, 86_400);
    assert_eq!(within(&mut conn, &w, "u", 30).claimed.len(), 20);
}

fn what_was_leased_before_counts(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    produce_many(&mut conn, (0..20).map(|n| NewMessage::new("t", &n))).expect("produces");
    let (first, second) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let batch = claim_batch(conn.broker(), &first, 3);
    let single = claim(conn.broker(), &first, &["t"], 2);
    limit(db, "t", running(6));
    let limited = conn.broker().limits().expect("reads").remove(0);
    assert_eq!((limited.running_now, limited.begun), (5, 0));
    assert_eq!(within(&mut conn, &second, "t", 10).claimed.len(), 1);
    let settlements: Vec<_> = batch.iter().chain(&single).map(done).collect();
    let ended = [batch[0].batch.expect("a batch")];
    let lost = conn.broker().exchange(&first, &settlements, &ended, None).expect("settles").lost;
    assert!(lost.is_empty());
    assert_eq!(within(&mut conn, &second, "t", 10).claimed.len(), 5);
}

fn one_topic_is_limited_and_another_is_not(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    for topic in ["t", "u"] {
        produce_many(&mut conn, (0..20).map(|n| NewMessage::new(topic, &n))).expect("produces");
    }
    limit(db, "t", running(2));
    let w = worker(&mut conn, 1);
    assert_eq!(claim(conn.broker(), &w, &["u"], 5).len(), 5, "others count for nothing");
    assert_eq!(within(&mut conn, &w, "t", 10).claimed.len(), 2);
    assert_eq!(claim(conn.broker(), &w, &["u"], 15).len(), 15);
}

fn ordering_keys_take_turns_within_a_limit(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    for n in 0..12 {
        let key = ["a", "a", "a", "b"][n % 4];
        NewMessage::new("t", &n).ordering_key(key).produce(&mut conn).expect("produces");
    }
    produce_many(&mut conn, (12..15).map(|n| NewMessage::new("t", &n))).expect("produces");
    limit(db, "t", running(2));
    let w = worker(&mut conn, 1);
    let (mut held, mut begun) = (Vec::new(), Vec::new());
    let began = Instant::now();
    while begun.len() < 15 {
        assert!(began.elapsed() < Duration::from_secs(60), "{begun:?}");
        let more = within(&mut conn, &w, "t", 10);
        begun.extend(more.claimed.iter().map(|c| (c.ordering_key.clone(), c.id)));
        held.extend(more.claimed);
        assert!(held.len() <= 2);
        let keys: Vec<_> = held.iter().filter_map(|c| c.ordering_key.as_deref()).collect();
        assert!(keys.len() < 2 || keys[0] != keys[1], "two of one key: {keys:?}");
        // What is in line keeps no other from its turn for ever.
        if more.in_line == 0 || held.len() == 2 {
            let first = held.remove(0);
            settle(&mut conn, &w, &Within { claimed: vec![first], ..Within::default() });
        }
    }
    for key in [Some("a"), Some("b"), None] {
        let of_key: Vec<_> = begun.iter().filter(|(k, _)| k.as_deref() == key).map(|(_, id)| *id).collect();
        assert!(of_key.is_sorted(), "{of_key:?}");
    }
}

fn priorities_and_ageing_hold_within_a_limit(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    let mut expected = Vec::new();
    for priority in [0, 5, -3, 5, 0] {
        let id = NewMessage::new("t", &1).priority(priority).produce(&mut conn).expect("produces").id();
        expected.push((-priority, id));
    }
    expected.sort_unstable();
    let expected: Vec<_> = expected.into_iter().map(|(_, id)| id).collect();
    limit(db, "t", running(2));
    let w = worker(&mut conn, 1);
    let mut got = Vec::new();
    while got.len() < 5 {
        let two = within(&mut conn, &w, "t", 10);
        got.extend(ids(&two.claimed));
        settle(&mut conn, &w, &two);
    }
    assert_eq!(got, expected);
    db.execute(
        "INSERT INTO taskmq_messages (topic, payload, run_at) VALUES ('t', '1', '2026-01-01 00:00:00')",
    );
    let high = NewMessage::new("t", &1).priority(100).produce(&mut conn).expect("produces").id();
    limit(db, "t", running(1));
    let aged = Share { topic: "t", limit: 10, ageing: Some(Duration::from_secs(86_400)) };
    let claimed = conn.broker().claim_limited(w.id, &aged, Among::Ordinary).expect("claims").claimed;
    assert!(claimed.len() == 1 && claimed[0].id != high, "months count more than a priority of a hundred");
}

/// How many run at once and ran at most, one pair for each database.
static AT_ONCE: [(AtomicI64, AtomicI64); 3] = [const { (AtomicI64::new(0), AtomicI64::new(0)) }; 3];

fn book(database: usize) {
    let (now, most) = &AT_ONCE[database];
    most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(3));
    now.fetch_sub(1, Ordering::SeqCst);
}

#[task_consumer(topic = "book.sqlite")]
fn book_sqlite(_n: u32, _conn: &mut SqliteConnection) {
    book(0);
}

#[task_consumer(topic = "book.postgres")]
fn book_postgres(_n: u32, _conn: &mut PgConnection) {
    book(1);
}

#[task_consumer(topic = "book.mysql")]
fn book_mysql(_n: u32, _conn: &mut MysqlConnection) {
    book(2);
}

fn a_transactional_consumer_stays_within_its_limit(db: &TestDatabase) {
    let (consumer, at) = match db.backend() {
        Backend::Sqlite => (book_sqlite::consumer(), 0),
        Backend::Postgres => (book_postgres::consumer(), 1),
        Backend::Mysql => (book_mysql::consumer(), 2),
    };
    let topic = consumer.topic();
    let mut conn = db.connect();
    produce_many(&mut conn, (0..30).map(|n| NewMessage::new(topic, &n))).expect("produces");
    limit(db, topic, running(2));
    let registry = Registry::default().with(consumer).expect("one consumer");
    let worker = Worker::new(registry, db.url()).handle_signals(false).concurrency(4).until_empty(true);
    assert_eq!(worker.run().expect("runs"), Ended::Finished);
    let stats = conn.broker().topics().expect("reads").remove(0);
    assert_eq!((stats.done, stats.ready, stats.running), (30, 0, 0), "it ended when nothing was left");
    // SQLite's one write lock lets no two transactions run at once.
    let most = if db.backend() == Backend::Sqlite { 1 } else { 2 };
    assert_eq!(AT_ONCE[at].1.load(Ordering::SeqCst), most);
}
