//! Workers, producers and people at the same messages at once, on every database: nobody is refused because another is
//! in the way, and each message is where it should be in the end. Four seconds of it; a minute when `TASKMQ_TEST_LONG`
//! is set.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use diesel::sql_types::Text;
use diesel::{QueryableByName, RunQueryDsl};
use taskmq_core::broker::{Action, Note, Noted, Selection, WorkflowState};
use taskmq_core::overview::Overview;
use taskmq_core::{
    AnyConnection, BrokerConnection, MessageId, NewMessage, Produced, State, Workflow, produce, produce_many,
};
use taskmq_tests::databases::TestDatabase;

use crate::outages::say;
use crate::workers::Workers;

each_database! {
    nobody_is_refused_and_each_message_is_accounted_for,
}

const LONG: Duration = Duration::from_secs(120);
const TOPIC: &str = "note";

/// What somebody has done.
#[derive(Debug, Default)]
struct Done {
    produced: i64,
    deleted: i64,
    calls: usize,
}

type Part = fn(&mut AnyConnection, i64, &mut Done) -> taskmq_core::Result<()>;

fn one(conn: &mut AnyConnection, number: i64, done: &mut Done) -> taskmq_core::Result<()> {
    produce(conn, TOPIC, &number)?;
    done.produced += 1;
    Ok(())
}

/// Of few keys, so that two often want the same.
fn keyed(conn: &mut AnyConnection, number: i64, done: &mut Done) -> taskmq_core::Result<()> {
    let message = NewMessage::new(TOPIC, &number).unique(format!("k{}", number % 5)).ordering_key("one");
    done.produced += i64::from(matches!(message.produce(conn)?, Produced::New(_)));
    Ok(())
}

fn many(conn: &mut AnyConnection, number: i64, done: &mut Done) -> taskmq_core::Result<()> {
    let later = |n: i64| if n % 4 == 0 { Duration::from_secs(3600) } else { Duration::ZERO };
    let messages = (0..100).map(|n| NewMessage::new(TOPIC, &(number * 100 + n)).delay(later(n)));
    done.produced += i64::try_from(produce_many(conn, messages)?).expect("is small");
    Ok(())
}

fn steps(conn: &mut AnyConnection, number: i64, done: &mut Done) -> taskmq_core::Result<()> {
    Workflow::new("two")
        .step("a", NewMessage::new(TOPIC, &number), &[])
        .step("b", NewMessage::new(TOPIC, &number), &["a"])
        .produce(conn)?;
    done.produced += 2;
    thread::sleep(Duration::from_millis(20));
    Ok(())
}

/// Changes a page of what there is, whatever its state is by then.
fn change(conn: &mut AnyConnection, number: i64, done: &mut Done) -> taskmq_core::Result<()> {
    let broker = conn.broker();
    let states = [State::Ready, State::Scheduled, State::Running, State::Cancelled, State::Retrying];
    let state = states[usize::try_from(number).expect("is small") % states.len()];
    let found = Selection::of(state).walk().next(broker, 50)?.unwrap_or_default();
    let ids: Vec<MessageId> = found.iter().map(|found| found.id).collect();
    let soon = broker.now()? + Duration::from_millis(200);
    let actions = [
        Action::Priority(i16::try_from(number % 7).expect("is small")),
        Action::RunAt(soon),
        Action::Retry,
        Action::Cancel,
        Action::Priority(0),
        Action::Delete,
        Action::Retry,
    ];
    let action = actions[usize::try_from(number).expect("is small") % actions.len()];
    let note =
        Note { actor: "a", action: action.as_str(), topic: None, message_id: None, details: "", messages: 0 };
    let changed = broker.change(&action, &ids, Noted::New(&note))?;
    if action == Action::Delete {
        done.deleted += i64::try_from(changed.changed.len()).expect("is small");
    }
    thread::sleep(Duration::from_millis(30));
    Ok(())
}

fn pause(conn: &mut AnyConnection, number: i64, _done: &mut Done) -> taskmq_core::Result<()> {
    if number % 2 == 0 {
        conn.broker().pause(TOPIC, "a")?
    } else {
        conn.broker().resume(TOPIC, "a")?
    };
    thread::sleep(Duration::from_millis(if number % 2 == 0 { 50 } else { 500 }));
    Ok(())
}

fn look(conn: &mut AnyConnection, _number: i64, _done: &mut Done) -> taskmq_core::Result<()> {
    Overview::read(conn.broker())?;
    thread::sleep(Duration::from_millis(100));
    Ok(())
}

const PARTS: [(&str, Part, usize); 7] = [
    ("one at a time", one, 4),
    ("with a key", keyed, 2),
    ("a hundred at a time", many, 1),
    ("workflows", steps, 1),
    ("changes", change, 2),
    ("pauses", pause, 1),
    ("looks", look, 1),
];

fn nobody_is_refused_and_each_message_is_accounted_for(db: &TestDatabase) {
    let length = Duration::from_secs(if std::env::var_os("TASKMQ_TEST_LONG").is_some() { 60 } else { 4 });
    let mut workers = Workers::new(db.url());
    for _ in 0..3 {
        workers.start(&["--concurrency", "4"]);
    }
    let over = AtomicBool::new(false);
    let parts: Vec<(&str, taskmq_core::Result<Done>)> = thread::scope(|scope| {
        let start = |(name, part, number): (&'static str, Part, usize)| {
            (0..number)
                .map(|place| {
                    let (mut conn, over) = (db.connect(), &over);
                    let run = move || {
                        let mut done = Done::default();
                        let mut number = i64::try_from(place).expect("is small") * 1_000_000;
                        while !over.load(Ordering::Relaxed) {
                            part(&mut conn, number, &mut done)?;
                            (number, done.calls) = (number + 1, done.calls + 1);
                            thread::sleep(Duration::from_millis(1));
                        }
                        Ok(done)
                    };
                    (name, scope.spawn(run))
                })
                .collect::<Vec<_>>()
        };
        let running: Vec<_> = PARTS.into_iter().flat_map(start).collect();
        thread::sleep(length);
        over.store(true, Ordering::Relaxed);
        running.into_iter().map(|(name, thread)| (name, thread.join().expect("no panic"))).collect()
    });
    let mut all = Done::default();
    let mut calls: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, done) in parts {
        let done = done.unwrap_or_else(|error| panic!("{name}: {error}\n{}", workers.log()));
        assert!(done.calls > 0, "{name}: nothing was done");
        all = Done { produced: all.produced + done.produced, deleted: all.deleted + done.deleted, calls: 0 };
        *calls.entry(name).or_default() += done.calls;
    }
    let mut conn = db.connect();
    conn.broker().resume(TOPIC, "a").expect("resumes");
    // What is put off for an hour, and the steps whose first was taken away, stay where they are.
    let stats = |conn: &mut AnyConnection| {
        let topics = conn.broker().topics().expect("reads");
        topics.into_iter().find(|stats| stats.topic == TOPIC).expect("it has messages")
    };
    let unborn = |conn: &mut AnyConnection| {
        let broker = conn.broker();
        let entries = broker.workflows(None, i64::MAX, 100_000).expect("reads");
        let running = entries.iter().filter(|entry| entry.state == WorkflowState::Running);
        let steps = running.flat_map(|entry| broker.workflow(entry.id).expect("reads").expect("is there").1);
        i64::try_from(steps.filter(|step| step.message_id.is_none()).count()).expect("is small")
    };
    // What was put off for a moment may become due between two looks.
    workers.wait("each message is handled, waits for an hour, or was deleted", LONG, || {
        let (end, unborn) = (stats(&mut conn), unborn(&mut conn));
        end.ready + end.running + end.retrying == 0
            && all.produced == end.done + end.cancelled + end.scheduled + all.deleted + unborn
    });
    let end = stats(&mut conn);
    say(&format!("{} {all:?} {calls:?} {end:?}{}", db.backend(), deadlocks(&mut conn)));
    assert_eq!(end.dead, 0, "nothing fails");
    let log = workers.log();
    assert!(!log.contains(" WARN ") && !log.contains(" ERROR "), "{log}");
}

#[derive(QueryableByName)]
struct Status {
    #[diesel(sql_type = Text)]
    value: String,
}

/// What the server counted since it began, whoever had them.
fn deadlocks(conn: &mut AnyConnection) -> String {
    let AnyConnection::Mysql(conn) = conn else { return String::new() };
    let status: Vec<Status> = diesel::sql_query(
        "SELECT VARIABLE_VALUE AS value FROM information_schema.GLOBAL_STATUS WHERE VARIABLE_NAME = 'INNODB_DEADLOCKS'",
    )
    .load(conn)
    .expect("reads");
    status.first().map(|status| format!(", {} deadlocks in the server", status.value)).unwrap_or_default()
}
