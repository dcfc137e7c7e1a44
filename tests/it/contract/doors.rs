//! Messages of every kind by every door: each database says the same of each, what is taken comes back as it was, and what
//! is refused has left nothing.

use std::cell::RefCell;
use std::io::Write;
use std::mem::{Discriminant, discriminant};
use std::process::{Command, Stdio};
use std::time::Duration;

use proptest::prelude::*;
use serde::Serialize;
use serde_json::value::RawValue;
use taskmq_core::broker::{Action, Claim, MessageFilter, Note, Noted, Share};
use taskmq_core::message::Message;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Error, MessageId, NewMessage, Registry, State, Worker, produce,
    produce_many, task_consumer,
};
use taskmq_tests::databases::{self, TestDatabase, try_execute};
use taskmq_tests::inputs::{cases, payloads, texts, topics};

use crate::hosts::host::taskmq_cli;

#[derive(Clone, Debug)]
struct Wanted {
    topic: String,
    payload: String,
    priority: i16,
    delay: Duration,
    key: Option<String>,
    headers: Vec<(String, String)>,
}

fn wanted() -> impl Strategy<Value = Wanted> {
    let delay = prop_oneof![
        3 => Just(Duration::ZERO),
        1 => any::<u32>().prop_map(|seconds| Duration::from_secs(seconds.into())),
        1 => any::<u64>().prop_map(Duration::from_nanos),
        1 => Just(Duration::MAX),
    ];
    let key = proptest::option::weighted(0.3, texts());
    let headers = proptest::collection::vec((texts(), texts()), 0..3);
    (topics(), payloads(), any::<i16>(), delay, key, headers).prop_map(
        |(topic, payload, priority, delay, key, headers)| Wanted {
            topic,
            payload,
            priority,
            delay,
            key,
            headers,
        },
    )
}

impl Wanted {
    /// None where the payload is no JSON.
    fn message(&self) -> Option<NewMessage<'_>> {
        let payload = RawValue::from_string(self.payload.clone()).ok()?;
        let mut message = NewMessage::new(&*self.topic, &*payload).priority(self.priority).delay(self.delay);
        if let Some(key) = &self.key {
            message = message.unique(&**key);
        }
        Some(self.headers.iter().fold(message, |message, (name, text)| message.header(&**name, &**text)))
    }

    fn is(&self, stored: &Message) -> bool {
        let headers: std::collections::BTreeMap<&str, &str> =
            self.headers.iter().map(|(name, text)| (&**name, &**text)).collect();
        let stored_headers = stored.headers.as_ref().map(|json| {
            serde_json::from_str::<std::collections::BTreeMap<String, String>>(json.get()).expect("texts")
        });
        let same_headers = match &stored_headers {
            None => headers.is_empty(),
            Some(stored) => {
                stored.iter().map(|(name, text)| (&**name, &**text)).collect::<Vec<_>>()
                    == headers.into_iter().collect::<Vec<_>>()
            }
        };
        stored.topic == self.topic
            && stored.payload.get() == self.payload.trim_matches([' ', '\t', '\r', '\n'])
            && stored.priority == self.priority
            && stored.unique_key == self.key
            && same_headers
            // SQLite's times have milliseconds.
            && (stored.run_at - stored.created_at).to_std().expect("is later").abs_diff(self.delay) <= Duration::from_millis(2)
    }
}

fn all(conn: &mut AnyConnection) -> Vec<Message> {
    conn.broker().messages(&MessageFilter { topic: None, state: None, limit: 10 }).expect("reads")
}

fn delete(conn: &mut AnyConnection, ids: &[MessageId]) {
    let note =
        Note { actor: "the test", action: "delete", topic: None, message_id: None, details: "", messages: 0 };
    let changed = conn.broker().change(&Action::Delete, ids, Noted::New(&note)).expect("deletes");
    assert_eq!(changed.changed.len(), ids.len());
}

/// What is stored, or which error there is.
fn verdict(conn: &mut AnyConnection, wanted: &Wanted, many: bool) -> Result<(), Option<Discriminant<Error>>> {
    // What an input before has left, if it failed.
    let left: Vec<MessageId> = all(conn).iter().map(|message| message.id).collect();
    delete(conn, &left);
    let message = wanted.message().ok_or(None)?;
    let produced = if many {
        // Beside another, so that it is refused with it.
        let beside = NewMessage::new("beside", &1);
        produce_many(conn, [beside, message]).map(|count| assert_eq!(count, 2))
    } else {
        message.produce(conn).map(|_| ())
    };
    let stored = all(conn);
    if let Err(error) = produced {
        assert!(stored.is_empty(), "{wanted:?}: {error}, and yet {stored:?}");
        let text = error.to_string();
        assert!(!text.is_empty() && text.len() < 1000, "{text}");
        let clear = matches!(
            error,
            Error::Topic { .. }
                | Error::Key { .. }
                | Error::Json { .. }
                | Error::TooLarge { .. }
                | Error::Delay { .. }
        );
        assert!(clear, "{wanted:?}: the database said it: {error}");
        return Err(Some(discriminant(&error)));
    }
    assert_eq!(stored.len(), if many { 2 } else { 1 });
    assert!(stored.iter().any(|stored| wanted.is(stored)), "{wanted:?} came back as {stored:?}");
    delete(conn, &stored.iter().map(|stored| stored.id).collect::<Vec<_>>());
    Ok(())
}

#[test]
fn programs_have_the_same_said_on_every_database() {
    let databases = Backend::ALL.map(databases::fresh);
    let conns = RefCell::new(databases.each_ref().map(TestDatabase::connect));
    proptest!(ProptestConfig { cases: cases(200), ..ProptestConfig::default() }, |(wanted in wanted())| {
        let mut conns = conns.borrow_mut();
        let verdicts = conns.each_mut().map(|conn| verdict(conn, &wanted, false));
        prop_assert!(verdicts.iter().all(|verdict| *verdict == verdicts[0]), "{:?}", verdicts);
        let many = conns.each_mut().map(|conn| verdict(conn, &wanted, true));
        prop_assert!(many.iter().all(|verdict| *verdict == verdicts[0]), "{:?}", many);
    });
}

#[derive(Clone, Debug, Serialize)]
struct Typed {
    text: String,
    float: f64,
    number: i128,
    bytes: Vec<u8>,
    maybe: Option<char>,
    map: std::collections::BTreeMap<String, Option<f32>>,
}

fn typed() -> impl Strategy<Value = Typed> {
    let map = proptest::collection::btree_map(any::<String>(), any::<Option<f32>>(), 0..4);
    (any::<String>(), any::<f64>(), any::<i128>(), any::<Vec<u8>>(), any::<Option<char>>(), map)
        .prop_map(|(text, float, number, bytes, maybe, map)| Typed { text, float, number, bytes, maybe, map })
}

#[test]
fn what_a_type_is_written_as_comes_back() {
    let databases = Backend::ALL.map(databases::fresh);
    let conns = RefCell::new(databases.each_ref().map(TestDatabase::connect));
    proptest!(ProptestConfig { cases: cases(100), ..ProptestConfig::default() }, |(typed in typed())| {
        for conn in conns.borrow_mut().each_mut() {
            let id = produce(conn, "typed", &typed).expect("produces");
            let stored = conn.broker().message(id).expect("reads").expect("is there");
            prop_assert_eq!(stored.payload.get(), serde_json::to_string(&typed).expect("JSON"));
            delete(conn, &[id]);
        }
    });
}

/// The ways on the command line: an argument, standard input, a file.
fn cli(db: &TestDatabase, wanted: &Wanted, door: usize) -> Option<i32> {
    let file = tempfile::NamedTempFile::new().expect("a file");
    let mut command = Command::new(taskmq_cli());
    command.env("DATABASE_URL", db.url()).current_dir(file.path().parent().expect("a folder"));
    command.arg("produce").arg(format!("--priority={}", wanted.priority));
    command.arg(format!("--delay={}ns", wanted.delay.as_nanos().min(u128::from(u64::MAX))));
    for (name, text) in &wanted.headers {
        command.arg(format!("--header={name}={text}"));
    }
    if let Some(key) = &wanted.key {
        command.arg(format!("--unique={key}"));
    }
    match door {
        0 => command.args(["--", &wanted.topic, &wanted.payload]).stdin(Stdio::null()),
        1 => command.args(["--", &wanted.topic, "-"]).stdin(Stdio::piped()),
        _ => {
            // A line of its own, behind an empty one.
            let line = wanted.payload.replace(['\r', '\n'], " ");
            std::fs::write(file.path(), format!("\n{line}\n")).expect("a file");
            command.arg("--file").arg(file.path()).args(["--", &wanted.topic]).stdin(Stdio::null())
        }
    };
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("starts");
    if let Some(mut stdin) = child.stdin.take() {
        // It may have refused the rest before.
        let _ = stdin.write_all(wanted.payload.as_bytes());
    }
    let out = child.wait_with_output().expect("ends");
    let said = String::from_utf8_lossy(&out.stderr);
    assert!(!said.contains("panicked"), "{wanted:?}: {said}");
    out.status.code()
}

#[test]
fn people_have_the_same_said_as_programs() {
    let databases = Backend::ALL.map(databases::fresh);
    let conns = RefCell::new(databases.each_ref().map(TestDatabase::connect));
    // No argument has a NUL, and the name of a header has to end.
    let typed = wanted().prop_map(|wanted| {
        let clean = |text: &String| text.replace('\0', "");
        let headers = wanted
            .headers
            .iter()
            .map(|(name, text)| (format!("n{}", clean(name).replace('=', "")), clean(text)));
        Wanted {
            headers: headers.collect(),
            key: wanted.key.as_ref().map(clean),
            payload: wanted.payload.chars().take(20_000).collect(),
            delay: wanted.delay.min(Duration::from_nanos(u64::MAX)),
            ..wanted
        }
    });
    proptest!(ProptestConfig { cases: cases(24), max_shrink_iters: 100, ..ProptestConfig::default() }, |(wanted in typed)| {
        let mut conns = conns.borrow_mut();
        // A mark in front of a text is no part of it.
        let marked = Wanted { payload: wanted.payload.trim_start_matches('\u{feff}').to_owned(), ..wanted.clone() };
        let expected = verdict(&mut conns[0], &marked, false);
        for (db, conn) in databases.iter().zip(conns.iter_mut()) {
            for door in 0..3 {
                // Keys are for one message; a line that is empty is none.
                let wanted = Wanted { key: wanted.key.clone().filter(|_| door < 2), ..wanted.clone() };
                let expected = if door < 2 { expected } else { verdict(conn, &Wanted { key: None, ..marked.clone() }, false) };
                let empty = door == 2 && wanted.payload.trim().is_empty();
                // The one hyphen means standard input, which is empty here.
                let code = cli(db, &wanted, door);
                let stored = all(conn);
                let marked = Wanted { key: wanted.key.clone(), ..marked.clone() };
                match expected {
                    Ok(()) => {
                        prop_assert_eq!(code, Some(0), "door {}: {:?}", door, wanted);
                        prop_assert_eq!(stored.len(), 1);
                        let same = marked.is(&stored[0]) || door == 2 && marked.payload.contains(['\r', '\n']);
                        prop_assert!(same, "door {}: {:?} came back as {:?}", door, wanted, stored);
                        delete(conn, &[stored[0].id]);
                    }
                    Err(_) => {
                        let topic_is_good = taskmq_core::limits::check_topic(&wanted.topic).is_ok();
                        let code_expected = if empty && topic_is_good { 0 } else { 2 };
                        prop_assert_eq!(code, Some(code_expected), "door {}: {:?}", door, wanted);
                        prop_assert!(stored.is_empty(), "door {}: {:?} left {:?}", door, wanted, stored);
                    }
                }
            }
        }
    });
}

#[task_consumer(topic = "sql", max_attempts = 1)]
fn take(_anything: serde_json::Value) {}

/// As another program would write it into its SQL.
fn literal(backend: Backend, text: &str) -> String {
    let text = text.replace('\'', "''");
    format!("'{}'", if backend == Backend::Mysql { text.replace('\\', "\\\\") } else { text })
}

/// What SQL stores is run, or is dead and says why; nothing beside it suffers.
fn sql_hurts_nobody(db: &TestDatabase) {
    let conn = RefCell::new(db.connect());
    let taken = RefCell::new(0_usize);
    proptest!(ProptestConfig { cases: cases(150), ..ProptestConfig::default() }, |(payload in payloads())| {
        let mut conn = conn.borrow_mut();
        let sql = format!("INSERT INTO taskmq_messages (topic, payload) VALUES ('sql', {})", literal(db.backend(), &payload));
        let stored = try_execute(&mut conn, &sql).is_ok();
        let producer = RawValue::from_string(payload.clone()).ok().map(|json| produce(&mut *conn, "good", &*json));
        prop_assert!(stored || !matches!(producer, Some(Ok(_))), "only the producer takes {:?}", payload);
        *taken.borrow_mut() += usize::from(stored);
    });
    let (mut conn, taken) = (conn.into_inner(), taken.into_inner());
    assert!(taken > 20, "{taken}");
    // Beside those that no producer would store.
    for n in 0..100 {
        produce(&mut conn, "sql", &n).expect("produces");
    }
    let registry = Registry::default().with(take::consumer()).expect("one");
    Worker::new(registry, db.url())
        .handle_signals(false)
        .concurrency(4)
        .until_empty(true)
        .run()
        .expect("runs");
    let of_topic =
        |state| MessageFilter { topic: Some("sql".to_owned()), state: Some(state), limit: 100_000 };
    let dead = conn.broker().messages(&of_topic(State::Dead)).expect("reads");
    let done = conn.broker().messages(&of_topic(State::Done)).expect("reads");
    assert_eq!(dead.len() + done.len(), taken + 100);
    for message in &dead {
        assert!(message.error.as_ref().is_some_and(|error| !error.is_empty()), "{message:?}");
        let failures = conn.broker().failures(message.id).expect("reads");
        assert!(failures.iter().all(|failure| failure.kind == "payload"), "{failures:?}");
        // What is no JSON at all is shown as a text.
        let shown = message.payload.get();
        let text = serde_json::from_str::<String>(shown).unwrap_or_else(|_| shown.to_owned());
        assert!(serde_json::from_str::<serde_json::Value>(&text).is_err(), "{message:?}");
    }
    // Those that the producer took come back as they were: claimed and read the same.
    let worker = super::worker(&mut conn, 9);
    let claim = Claim {
        worker_id: worker.id,
        topics: &[Share { topic: "good", limit: 500, ageing: None }],
        limit: 500,
        as_batch: false,
        after: &[],
    };
    let mut claimed = conn.broker().claim(&claim).expect("claims");
    conn.broker().fetch_payloads(&mut claimed).expect("reads");
    for claimed in claimed {
        let shown = conn.broker().message(claimed.id).expect("reads").expect("is there");
        assert_eq!(&*claimed.payload, shown.payload.get());
    }
}

each_database! {
    sql_hurts_nobody,
}
