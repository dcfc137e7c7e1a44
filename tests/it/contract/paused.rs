//! Topics that people have paused.

use std::time::{Duration, Instant};

use taskmq_core::broker::{NoteId, PausedTopic};
use taskmq_core::worker::Ended;
use taskmq_core::{
    BrokerConnection, Error, NewMessage, Registry, Worker, produce, produce_many, task_consumer,
};
use taskmq_tests::databases::TestDatabase;

use super::worker;

each_database! {
    a_pause_is_kept_and_noted,
    a_look_tells_what_is_paused_and_passes_it_over,
    async_handlers_begin_nothing_more,
}

fn a_pause_is_kept_and_noted(db: &TestDatabase) {
    let mut conn = db.connect();
    assert_eq!(conn.broker().paused().expect("reads"), []);
    let before = conn.broker().now().expect("reads");
    assert!(conn.broker().pause("mail", "a person").expect("pauses"));
    assert!(!conn.broker().pause("mail", "another").expect("reads"), "it is paused already");
    assert!(conn.broker().pause("Mail", "a person").expect("pauses"), "another topic");
    assert!(matches!(conn.broker().pause("two words", "a person"), Err(Error::Topic { .. })));
    let paused = db.connect().broker().paused().expect("reads");
    let names: Vec<(&str, &str)> = paused.iter().map(|p| (&*p.topic, &*p.actor)).collect();
    assert_eq!(names, [("Mail", "a person"), ("mail", "a person")]);
    let after = conn.broker().now().expect("reads");
    assert!(paused.iter().all(|PausedTopic { since, .. }| (before..=after).contains(since)), "{paused:?}");
    assert!(conn.broker().resume("mail", "a third").expect("resumes"));
    assert!(!conn.broker().resume("mail", "a third").expect("reads"), "it is not paused");
    assert_eq!(conn.broker().paused().expect("reads").len(), 1);
    let notes = conn.broker().notes(NoteId::MAX, 10).expect("reads");
    let notes: Vec<_> = notes.iter().map(|n| (&*n.actor, &*n.action, n.topic.as_deref())).collect();
    let expected = [
        ("a third", "resume", Some("mail")),
        ("a person", "pause", Some("Mail")),
        ("a person", "pause", Some("mail")),
    ];
    assert_eq!(notes, expected);
}

fn a_look_tells_what_is_paused_and_passes_it_over(db: &TestDatabase) {
    let mut conn = db.connect_worker();
    worker(&mut conn, 1);
    produce_many(&mut conn, (0..3).map(|n| NewMessage::new("t", &n))).expect("produces");
    db.execute("UPDATE taskmq_messages SET worker_id = -1 WHERE id = 1");
    db.execute("UPDATE taskmq_messages SET worker_id = -2 WHERE id = 2");
    let mut look = |topics: &[&str]| conn.broker().look(1, topics).expect("looks");
    let before = look(&["t", "u"]);
    assert!(before.set_aside && before.suspects && before.paused.is_empty(), "{before:?}");
    db.connect().broker().pause("t", "a person").expect("pauses");
    db.connect().broker().pause("a", "a person").expect("pauses");
    let paused = look(&["t", "u"]);
    assert_eq!(paused.paused, ["a", "t"]);
    assert!(paused.alive && paused.peers.is_empty(), "{paused:?}");
    assert!(!paused.set_aside && !paused.suspects && !paused.due, "{paused:?}");
    produce(&mut db.connect(), "u", &1).expect("produces");
    assert_eq!(look(&["t", "u"]).due, look(&["u"]).due, "other topics are seen as before");
    db.connect().broker().resume("t", "a person").expect("resumes");
    assert_eq!(look(&["t", "u"]).set_aside, before.set_aside);
}

#[task_consumer(topic = "breath")]
async fn breath(_n: u32) {
    // Without tokio here: yields until the time is over.
    let until = Instant::now() + Duration::from_millis(20);
    std::future::poll_fn(|cx| {
        cx.waker().wake_by_ref();
        if Instant::now() >= until { std::task::Poll::Ready(()) } else { std::task::Poll::Pending }
    })
    .await;
}

fn async_handlers_begin_nothing_more(db: &TestDatabase) {
    let mut conn = db.connect();
    produce_many(&mut conn, (0..2000).map(|n| NewMessage::new("breath", &n))).expect("produces");
    let registry = Registry::default().with(breath::consumer()).expect("one consumer");
    let worker = Worker::new(registry, db.url()).handle_signals(false).concurrency(2);
    let stop = worker.stop_handle();
    let running = std::thread::spawn(move || worker.run());
    let began = Instant::now();
    while conn.broker().topics().expect("reads").remove(0).done < 5 {
        assert!(began.elapsed() < Duration::from_secs(30), "it does not work");
        std::thread::sleep(Duration::from_millis(1));
    }
    conn.broker().pause("breath", "a person").expect("pauses");
    let began = Instant::now();
    let rested = loop {
        let stats = conn.broker().topics().expect("reads").remove(0);
        if stats.running == 0 && stats.done > 0 {
            break stats;
        }
        assert!(began.elapsed() < Duration::from_secs(10), "{stats:?}");
        std::thread::sleep(Duration::from_millis(50));
    };
    assert!(rested.ready > 0, "{rested:?}");
    conn.broker().resume("breath", "a person").expect("resumes");
    let began = Instant::now();
    while conn.broker().topics().expect("reads").remove(0).done == rested.done {
        assert!(began.elapsed() < Duration::from_secs(10), "it goes on");
        std::thread::sleep(Duration::from_millis(50));
    }
    stop.stop();
    assert_eq!(running.join().expect("joins").expect("runs"), Ended::Finished);
}
