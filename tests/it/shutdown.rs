//! How fast a worker that is told to stop does what it promises, under load and beside handlers that go on for long.

use std::time::{Duration, Instant};

use taskmq_core::broker::MessageFilter;
use taskmq_core::{BrokerConnection, NewMessage, State, produce, produce_many};
use taskmq_tests::databases::TestDatabase;

use crate::workers::Workers;

each_database! {
    under_load_nothing_more_begins_and_the_rest_is_handed_back_at_once,
    a_second_signal_ends_it_at_once_under_load,
}

const LONG: Duration = Duration::from_secs(90);
const LOAD: i64 = 20_000;
const RUNNING: i64 = 2;
/// What a worker has to hand back after a second signal.
const LAST_SECOND: Duration = Duration::from_secs(1);
const TRIES: usize = 4;
/// Nothing has begun or ended for so long.
const QUIET: Duration = Duration::from_millis(300);

/// A worker that runs two messages for a minute each, and quick ones beside them.
fn under_load(db: &TestDatabase, workers: &mut Workers) -> usize {
    let mut conn = db.connect();
    for number in 0..RUNNING {
        produce(&mut conn, "long", &number).expect("produces");
    }
    let at = workers.start(&["--concurrency", "4", "--shutdown-timeout", "5s"]);
    workers.wait("they run", LONG, || workers.journal().len() == 2);
    produce_many(&mut conn, (0..LOAD).map(|n| NewMessage::new("note", &n))).expect("produces");
    workers.wait("it works", LONG, || workers.journal().len() > 1000);
    at
}

#[allow(clippy::print_stdout, reason = "the figures are worth knowing")]
fn under_load_nothing_more_begins_and_the_rest_is_handed_back_at_once(db: &TestDatabase) {
    let mut workers = Workers::new(db.url());
    let at = under_load(db, &mut workers);
    let mut conn = db.connect();
    let signalled = Instant::now();
    workers.signal(at, "TERM");
    let mut last = (workers.journal_bytes(), Duration::ZERO);
    let mut back = None;
    while signalled.elapsed() < Duration::from_secs(3) {
        let bytes = workers.journal_bytes();
        if bytes != last.0 {
            last = (bytes, signalled.elapsed());
        }
        // Not while thousands are leased as one batch: counting them takes longer than the whole shutdown.
        if back.is_none() && signalled.elapsed() > last.1 + QUIET {
            let running: i64 = conn.broker().topics().expect("reads").iter().map(|stats| stats.running).sum();
            back = (running == RUNNING).then(|| signalled.elapsed());
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let back = back
        .unwrap_or_else(|| panic!("it was not handed back: {:?}\n{}", conn.broker().topics(), workers.log()));
    assert!(last.1 < Duration::from_millis(500), "one began {:?} after the signal", last.1);
    assert!(back < Duration::from_secs(2), "it was handed back after {back:?}");
    assert_eq!(workers.end_of(at, LONG), Some(1), "it left two to others");
    let ended = signalled.elapsed();
    assert!(ended > Duration::from_secs(5) && ended < Duration::from_secs(7), "{ended:?}");
    println!("{}: last start {:?}, handed back {back:?}, exit {ended:?}", db.backend(), last.1);
    let filter = MessageFilter { topic: None, state: Some(State::Ready), limit: 2 * LOAD };
    let left = conn.broker().messages(&filter).expect("lists");
    assert!(left.len() > 2, "there was load until the end");
    assert!(left.iter().all(|message| message.attempts == 0), "an attempt was used up");
    let notes = i64::try_from(workers.journal().len()).expect("is small") - RUNNING;
    let stats = conn.broker().topics().expect("reads");
    let done = stats.iter().find(|stats| stats.topic == "note").map(|stats| stats.done);
    assert_eq!(done, Some(notes), "what ended is acknowledged");
}

/// A database that does not answer in its last second leaves the rest to a rescue, which is no fault: on a machine that is
/// busy with other tests it is asked again.
#[allow(clippy::print_stdout, reason = "the figures are worth knowing")]
fn a_second_signal_ends_it_at_once_under_load(db: &TestDatabase) {
    for _ in 0..TRIES {
        let mut workers = Workers::new(db.url());
        let at = under_load(db, &mut workers);
        workers.signal(at, "TERM");
        workers.wait("it says so", LONG, || workers.log().contains("stopping"));
        let signalled = Instant::now();
        workers.signal(at, "TERM");
        assert_eq!(workers.end_of(at, LONG), Some(130));
        let ended = signalled.elapsed();
        println!("{}: exit {ended:?} after the second signal", db.backend());
        assert!(ended < LAST_SECOND + Duration::from_secs(1), "{ended:?}");
        if ended < LAST_SECOND {
            let filter = MessageFilter { topic: Some("long".to_owned()), state: None, limit: 10 };
            let long = db.connect().broker().messages(&filter).expect("lists");
            let states: Vec<(State, i32)> = long.iter().map(|m| (m.state, m.attempts)).collect();
            assert_eq!(states, [(State::Ready, 0); 2], "what ran is nobody's fault");
            return;
        }
        db.execute("DELETE FROM taskmq_messages");
    }
    panic!("it never handed back what it ran within a second");
}
