//! A queue at a glance.

use std::time::Duration;

use taskmq_core::broker::{Limit, Outcome};
use taskmq_core::overview::{Count, Overview, Throughput};
use taskmq_core::{BrokerConnection, NewMessage, produce_many};
use taskmq_tests::databases::TestDatabase;

use super::admin::dead;
use super::{claim, claim_batch, done, end, worker};

each_database! {
    it_has_the_figures_of_each_topic_and_of_all,
    what_shares_a_lease_runs_and_does_not_wait,
    who_waits_for_its_turn_is_ready,
}

fn exactly(number: i64) -> Count {
    Count { number, or_more: false }
}

fn it_has_the_figures_of_each_topic_and_of_all(db: &TestDatabase) {
    let mut conn = db.connect();
    assert!(Overview::read(conn.broker()).expect("reads").is_empty());
    let hour = Duration::from_secs(3600);
    produce_many(&mut conn, (0..12).map(|n| NewMessage::new("t", &n))).expect("produces");
    produce_many(&mut conn, (0..3).map(|n| NewMessage::new("t", &n).delay(hour))).expect("produces");
    produce_many(&mut conn, (0..2).map(|n| NewMessage::new("u", &n).priority(5))).expect("produces");
    conn.broker().pause("silent", "kim").expect("pauses");
    let limit = Limit { running: Some(3), rate: None };
    conn.broker().set_limit("bounded", &limit, "kim").expect("limits");
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 8);
    let retry = || Outcome::Retry { delay: hour, kind: "error", error: "no".to_owned() };
    let mut settlements = vec![end(&claimed[0], dead("no")), end(&claimed[1], retry())];
    settlements.extend(claimed[2..6].iter().map(done));
    conn.broker().settle(&w, &settlements).expect("settles");
    let overview = Overview::read(conn.broker()).expect("reads");
    assert_eq!(
        overview.topics.keys().map(String::as_str).collect::<Vec<_>>(),
        ["bounded", "silent", "t", "u"]
    );
    let t = &overview.topics["t"];
    assert_eq!([t.ready, t.running, t.scheduled, t.retrying, t.dead], [4, 2, 3, 1, 1].map(exactly));
    assert!(t.oldest_due.is_some_and(|due| due <= overview.now), "{t:?}");
    // Four were done and one was given up.
    assert_eq!([t.rate_in, t.rate_out].map(|rate| (rate * 60.0).round()), [15.0, 5.0]);
    let share = t.error_share.expect("attempts ended");
    assert!(share > 0.0 && share < 0.5, "{share}");
    assert!(t.wait.is_some() && t.run.is_some());
    let (u, total) = (&overview.topics["u"], &overview.total);
    assert_eq!([u.ready, u.running, u.dead], [2, 0, 0].map(exactly));
    assert_eq!((u.error_share, u.run), (None, None));
    assert_eq!(
        [total.ready, total.running, total.scheduled, total.retrying, total.dead],
        [6, 2, 3, 1, 1].map(exactly)
    );
    assert_eq!([total.rate_in, total.rate_out].map(|rate| (rate * 60.0).round()), [17.0, 5.0]);
    assert!(overview.is_paused("silent") && !overview.is_paused("t"));
    assert!(overview.limit_of("bounded").is_some() && overview.limit_of("t").is_none());
    assert_eq!((overview.workers.len(), overview.held.len(), overview.more_lanes), (1, 2, false));
    let mut throughput = Throughput::default();
    throughput.add(&overview);
    let sum = |history: Vec<Option<f64>>| history.into_iter().flatten().sum::<f64>();
    let after = overview.now + chrono::TimeDelta::seconds(2);
    assert!(sum(throughput.produced.seconds(300, after)) <= 17.0);
}

fn what_shares_a_lease_runs_and_does_not_wait(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..10).map(|n| NewMessage::new("t", &n))).expect("produces");
    let w = worker(&mut conn, 1);
    assert_eq!(claim_batch(conn.broker(), &w, 7).len(), 7);
    let overview = Overview::read(conn.broker()).expect("reads");
    assert_eq!([overview.total.ready, overview.total.running], [3, 7].map(exactly));
    assert!(overview.topics["t"].waits());
}

fn who_waits_for_its_turn_is_ready(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..4).map(|n| NewMessage::new("t", &n).ordering_key("k"))).expect("produces");
    let w = worker(&mut conn, 1);
    assert_eq!(claim(conn.broker(), &w, &["t"], 10).len(), 1);
    let overview = Overview::read(conn.broker()).expect("reads");
    assert_eq!([overview.total.ready, overview.total.running], [3, 1].map(exactly));
}
