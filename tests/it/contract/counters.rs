//! Counters at the edges of their types.

use std::process::Command;

use taskmq_core::broker::{Action, Note, Noted};
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Error, NewMessage, Registry, State, Worker, produce,
    produce_many, task_consumer,
};
use taskmq_tests::databases::TestDatabase;

use super::{claim, claim_batch, done, ids, worker};
use crate::hosts::host::taskmq_cli;

each_database! {
    ids_are_right_up_to_the_last,
    attempts_are_right_up_to_the_last,
}

/// The next row of the table gets this id.
fn next_id(db: &TestDatabase, table: &str, id: i64) {
    match db.backend() {
        Backend::Sqlite => db.execute(&format!(
            "DELETE FROM sqlite_sequence WHERE name = '{table}';
             INSERT INTO sqlite_sequence (name, seq) VALUES ('{table}', {})",
            id - 1
        )),
        Backend::Postgres => {
            db.execute(&format!("SELECT setval(pg_get_serial_sequence('{table}', 'id'), {id}, false)"))
        }
        Backend::Mysql => db.execute(&format!("ALTER TABLE {table} AUTO_INCREMENT = {id}")),
    }
}

fn ids_are_right_up_to_the_last(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, i64::MAX);
    for edge in [1 << 31, 1 << 32, 1 << 53, i64::MAX - 20] {
        for table in ["taskmq_messages", "taskmq_claims", "taskmq_failures", "taskmq_logs", "taskmq_audit"] {
            next_id(db, table, edge - 2);
        }
        let first = produce(&mut conn, "t", &1).expect("produces");
        produce_many(&mut conn, (0..4).map(|n| NewMessage::new("t", &n))).expect("produces");
        let expected: Vec<i64> = (edge - 2..edge + 3).collect();
        assert_eq!(first, expected[0]);
        // A batch's list of ids as well.
        let as_batch = edge == 1 << 53;
        let broker = conn.broker();
        let claimed = if as_batch { claim_batch(broker, &w, 10) } else { claim(broker, &w, &["t"], 10) };
        assert_eq!(ids(&claimed), expected);
        let dead = super::end(
            &claimed[0],
            taskmq_core::broker::Outcome::Dead { kind: Some("error"), error: "broken".to_owned() },
        );
        let mut ends: Vec<_> = claimed[1..].iter().map(done).collect();
        ends.push(dead);
        assert!(conn.broker().settle(&w, &ends).expect("settles").is_empty());
        assert_eq!(conn.broker().failures(first).expect("reads").len(), 1);
        is_shown_exactly(db, first);
        let note = Note {
            actor: "a",
            action: "delete",
            topic: None,
            message_id: Some(first),
            details: "",
            messages: 0,
        };
        let changed = conn.broker().change(&Action::Delete, &expected, Noted::New(&note)).expect("deletes");
        assert_eq!(changed.changed.len(), expected.len());
    }
    // The last one, and then an error; nothing is stored over another.
    next_id(db, "taskmq_messages", i64::MAX - 1);
    let mut stored = Vec::new();
    let error = loop {
        match produce(&mut conn, "last", &1) {
            Ok(id) => stored.push(id),
            Err(error) => break error,
        }
        assert!(stored.len() <= 2, "{stored:?}");
    };
    assert!(matches!(error, Error::Database(_) | Error::DiskFull(_)), "{error:?}");
    assert!(stored.len() == 2 && stored[1] == i64::MAX || stored == [i64::MAX - 1], "{stored:?}: {error}");
    is_shown_exactly(db, i64::MAX - 1);
    assert_eq!(ids(&claim(conn.broker(), &w, &["last"], 10)), stored);
}

fn is_shown_exactly(db: &TestDatabase, id: i64) {
    let show = |args: &[&str]| {
        let out = Command::new(taskmq_cli()).args(args).env("DATABASE_URL", db.url()).output().expect("runs");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    };
    let text = id.to_string();
    for args in [&["show", &text, "--json"][..], &["show", &text], &["messages", "--json"], &["messages"]] {
        assert!(show(args).contains(&text), "{args:?}: {}", show(args));
    }
    let listed: serde_json::Value = serde_json::from_str(&show(&["show", &text, "--json"])).expect("JSON");
    assert_eq!(listed[0]["id"].as_i64(), Some(id));
}

#[task_consumer(topic = "fails", max_attempts = 1000)]
fn fails(_n: u8) -> Result<(), &'static str> {
    Err("broken")
}

fn attempts_are_right_up_to_the_last(db: &TestDatabase) {
    // The archive has whatever an older program left.
    db.execute(
        "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, worker_id, attempts, crashes, payload)
         SELECT 9, 'fails', 'dead', 32767, CURRENT_TIMESTAMP, CURRENT_TIMESTAMP, 9223372036854775807, 2147483647, 32767, '1'",
    );
    db.execute("INSERT INTO taskmq_messages (topic, payload, attempts, max_attempts) VALUES ('fails', '2', 309, 1000)");
    db.execute("INSERT INTO taskmq_messages (topic, payload, attempts) VALUES ('fails', '3', 1000000000)");
    let mut conn = db.connect();
    let note =
        Note { actor: "a", action: "retry", topic: None, message_id: Some(9), details: "", messages: 0 };
    assert_eq!(conn.broker().message(9).expect("reads").expect("is there").attempts, i32::MAX);
    is_shown_exactly(db, 9);
    let revived = conn.broker().change(&Action::Retry, &[9], Noted::New(&note)).expect("retries").changed;
    let registry = Registry::default().with(fails::consumer()).expect("one");
    let worker = Worker::new(registry, db.url()).handle_signals(false);
    let stop = worker.stop_handle();
    let running = std::thread::spawn(move || worker.run());
    let began = std::time::Instant::now();
    let waiting = |conn: &mut AnyConnection| {
        let stats = conn.broker().topics().expect("reads");
        (stats[0].retrying, stats[0].dead)
    };
    // Two wait for their next attempt, the third has had too many.
    while waiting(&mut conn) != (2, 1) {
        assert!(began.elapsed().as_secs() < 30, "{:?}", waiting(&mut conn));
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    stop.stop();
    running.join().expect("no panic").expect("ends");
    assert_eq!(revived.len(), 1);
    let all = taskmq_core::broker::MessageFilter { topic: None, state: None, limit: 10 };
    for message in conn.broker().messages(&all).expect("reads") {
        match message.payload.get() {
            "1" => assert_eq!((message.state, message.attempts), (State::Retrying, 1)),
            "2" => {
                assert_eq!((message.state, message.attempts), (State::Retrying, 310));
                let later = message.run_at - conn.broker().now().expect("reads");
                assert!(
                    later > chrono::TimeDelta::minutes(20) && later < chrono::TimeDelta::minutes(91),
                    "{later}"
                );
            }
            // It is not begun any more.
            _ => assert_eq!((message.state, message.attempts), (State::Dead, 1_000_000_000)),
        }
    }
}
