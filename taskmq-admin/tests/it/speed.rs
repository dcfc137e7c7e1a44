//! How long the overview takes on a long backlog of many topics. `TASKMQ_ADMIN_SPEED=10` makes a thousand topics with 2 to
//! the power of 10 messages each, and demands what docs/admin.md promises; without it the backlog is short.

use std::time::{Duration, Instant};

use taskmq_core::NewMessage;
use taskmq_tests::databases::TestDatabase;

use crate::site::{Site, dead, run, worker};

each_database! { the_overview_is_quick_on_a_long_backlog }

const LOOKS: usize = 5;
const PROMISED: Duration = Duration::from_millis(100);

#[allow(clippy::print_stdout, reason = "the figures are worth knowing")]
fn the_overview_is_quick_on_a_long_backlog(db: TestDatabase) {
    let doublings: Option<u32> =
        std::env::var("TASKMQ_ADMIN_SPEED").ok().map(|text| text.parse().expect("a number of doublings"));
    let topics = if doublings.is_some() { 1_000 } else { 120 };
    let mut conn = db.connect();
    let worker = worker(&mut conn);
    let messages = (0..topics).map(|n| NewMessage::new(format!("topic-{n}"), "one"));
    taskmq_core::produce_many(&mut conn, messages).expect("produces");
    for _ in 0..doublings.unwrap_or(2) {
        db.execute("INSERT INTO taskmq_messages (topic, payload) SELECT topic, payload FROM taskmq_messages");
    }
    run(&mut conn, &worker, "topic-7", dead("no"));
    let kind = format!("{:?}", db.backend());
    let site = Site::new(db, |admin| admin);
    let first = Instant::now();
    let body = site.page("/overview");
    let first = first.elapsed();
    assert!(body.contains("topic-7") && body.contains(&format!("{} ", topics - 100)), "{body}");
    if doublings.is_none() {
        return;
    }
    let mut took = vec![first];
    for _ in 0..LOOKS {
        // Until what was read is too old to be shown again: the longer it took, the longer it is shown.
        let last = took.last().copied().unwrap_or_default();
        std::thread::sleep(Duration::from_millis(1_100).max(last * 6));
        let began = Instant::now();
        site.page("/overview");
        took.push(began.elapsed());
    }
    took.remove(0);
    took.sort_unstable();
    println!("{kind}: first {first:?}, then {took:?}");
    assert!(took[LOOKS / 2] < PROMISED, "{kind}: {took:?}");
}
