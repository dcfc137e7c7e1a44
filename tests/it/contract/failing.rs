//! However a handler fails, the failure is written down, and those that ran beside it are done.

use std::ffi::OsString;

use taskmq_core::broker::MessageFilter;
use taskmq_core::{BrokerConnection, NewMessage, Registry, State, Worker, produce_many, task_consumer};
use taskmq_tests::databases::TestDatabase;

each_database! {
    one_failure_of_any_kind_costs_no_other_message,
}

const TEXT: &str = "\0\u{1b}[31m\u{1b}]52;c;aGFjaw==\u{7}\r\u{9b}2J\u{7f}😀 'quoted' \\ %s \u{202e}";

#[cfg(unix)]
fn no_utf8() -> OsString {
    use std::os::unix::ffi::OsStringExt;
    OsString::from_vec(b"\xff\xfe\xc3 \xed\xa0\x80".to_vec())
}

#[cfg(not(unix))]
fn no_utf8() -> OsString {
    OsString::from("\u{fffd}")
}

#[task_consumer(topic = "failing", max_attempts = 1)]
fn failing(how: String) -> Result<String, String> {
    match &*how {
        "text" => Err(TEXT.to_owned()),
        "large" => Err("é\u{1b}".repeat(5 << 20)),
        "no utf-8" => Err(format!("{} {:?}", no_utf8().to_string_lossy(), no_utf8())),
        "nothing" => Err(String::new()),
        "panic" => panic!("{TEXT}"),
        "large panic" => panic!("{}", "x".repeat(10 << 20)),
        "panic of another kind" => std::panic::panic_any(no_utf8()),
        "odd result" => Ok(TEXT.to_owned()),
        _ => Ok(how),
    }
}

const HOW: [&str; 7] =
    ["text", "large", "no utf-8", "nothing", "panic", "large panic", "panic of another kind"];

fn one_failure_of_any_kind_costs_no_other_message(db: &TestDatabase) {
    let mut conn = db.connect();
    for how in HOW {
        let messages =
            (0..50).map(|_| "well").chain([how]).chain((0..48).map(|_| "well")).chain(["odd result"]);
        let messages: Vec<String> = messages.map(str::to_owned).collect();
        let messages = messages.iter().map(|how| NewMessage::new(failing::TOPIC, how));
        assert_eq!(produce_many(&mut conn, messages).expect("produces"), 100);
    }
    let registry = Registry::default().with(failing::consumer()).expect("one");
    Worker::new(registry, db.url())
        .handle_signals(false)
        .concurrency(4)
        .until_empty(true)
        .run()
        .expect("runs");
    let mut listed = |state| {
        conn.broker()
            .messages(&MessageFilter { topic: None, state: Some(state), limit: 1000 })
            .expect("lists")
    };
    let (done, dead) = (listed(State::Done), listed(State::Dead));
    assert_eq!(done.len(), 99 * HOW.len());
    assert!(done.iter().all(|message| message.attempts == 1), "an attempt was lost");
    let odd = done.iter().filter(|message| message.payload.get() == "\"odd result\"");
    for message in odd {
        let result = message.result.as_ref().expect("is kept").get();
        assert_eq!(serde_json::from_str::<String>(result).expect("JSON"), TEXT);
    }
    let mut seen: Vec<&str> = dead.iter().map(|message| message.payload.get().trim_matches('"')).collect();
    seen.sort_unstable();
    let mut expected = HOW.to_vec();
    expected.sort_unstable();
    assert_eq!(seen, expected);
    for message in &dead {
        let failures = conn.broker().failures(message.id).expect("reads");
        assert_eq!(failures.len(), 1, "{message:?}");
        for error in [message.error.as_deref().expect("is kept"), &failures[0].error] {
            assert!(error.len() <= taskmq_core::limits::MAX_ERROR_BYTES + " [cut]".len(), "{}", error.len());
            assert!(!error.contains(|c: char| c.is_control() && c != '\n' && c != '\t'), "{error:?}");
            let how = message.payload.get();
            assert_eq!(error.ends_with(" [cut]"), how.contains("large"), "{how}: {error}");
            assert_eq!(error.contains("😀"), how.contains("text") || how == "\"panic\"", "{how}: {error}");
        }
    }
}
