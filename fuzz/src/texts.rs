use std::cell::RefCell;
use std::io::Cursor;
use std::path::Path;

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use serde_json::value::RawValue;
use taskmq_core::broker::{Selection, Spot};
use taskmq_core::{Backend, BrokerConnection, NewMessage, migration};

use crate::payloads;
use crate::when::When;

thread_local! {
    static QUEUE: RefCell<SqliteConnection> = RefCell::new({
        let mut conn = SqliteConnection::establish(":memory:").expect("a database");
        conn.batch_execute(migration::up(Backend::Sqlite)).expect("tables");
        conn
    });
}

/// A payload, and behind a line's end a unique key and a header: refused by the producer with nothing stored, or stored
/// as it is. What the producer takes, the tables take.
pub fn payload(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (text, key) = text.rsplit_once('\u{1}').map_or((text, None), |(text, key)| (text, Some(key)));
    let Ok(json) = RawValue::from_string(text.to_owned()) else { return };
    QUEUE.with_borrow_mut(|conn| {
        conn.test_transaction::<_, diesel::result::Error, _>(|conn| {
            let mut message = NewMessage::new("t", &*json);
            if let Some(key) = key {
                message = message.unique(key).header(key, key);
            }
            match message.produce(conn) {
                Ok(produced) => {
                    let stored = conn.broker().message(produced.id()).expect("reads").expect("is stored");
                    assert_eq!(stored.payload.get(), json.get());
                    assert_eq!(stored.unique_key.as_deref(), key);
                }
                Err(
                    taskmq_core::Error::Json { .. }
                    | taskmq_core::Error::Key { .. }
                    | taskmq_core::Error::TooLarge { .. },
                ) => {}
                Err(other) => panic!("{other}"),
            }
            Ok(())
        });
    });
}

/// A file of messages: what is read of it is what its lines are, and the first wrong one is named.
pub fn line(data: &[u8]) {
    let read: Vec<_> = payloads::lines(Cursor::new(data), Path::new("a.jsonl")).collect();
    for payload in &read {
        match payload {
            Ok((_, json)) => assert!(serde_json::from_str::<serde::de::IgnoredAny>(json.get()).is_ok()),
            Err(error) => assert!(error.to_string().starts_with("a.jsonl line "), "{error}"),
        }
    }
    assert!(read.len() <= data.split(|byte| *byte == b'\n').count());
}

/// A duration or a time, as the command line reads them.
pub fn duration(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let now = chrono::DateTime::from_timestamp(1_774_000_000, 1).expect("a time");
    if let Ok(when) = text.parse::<When>() {
        let at = when.at(now);
        assert!(matches!(when, When::At(_)) || at <= now);
    }
    if let Ok(delay) = humantime::parse_duration(text) {
        let record = NewMessage::new("t", &1).delay(delay);
        QUEUE.with_borrow_mut(|conn| {
            conn.test_transaction::<_, diesel::result::Error, _>(|conn| {
                match record.produce(conn) {
                    Ok(_) => assert!(delay <= taskmq_core::limits::MAX_DELAY),
                    Err(error) => assert!(matches!(error, taskmq_core::Error::Delay { .. }), "{error}"),
                }
                Ok(())
            });
        });
    }
}

/// A query of the admin's list of messages: where it stands is read as it was written, and whatever is asked for is looked
/// for.
pub fn query(data: &[u8]) {
    let fields: Vec<(String, String)> = form_urlencoded::parse(data).into_owned().collect();
    let get = |name: &str| fields.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone());
    let spot: Spot = get("after").unwrap_or_default().parse().expect("never fails");
    assert_eq!(spot.to_string().parse::<Spot>().expect("never fails"), spot);
    let selection = Selection {
        state: get("state").and_then(|state| state.parse().ok()),
        topic: get("topic"),
        unique_key: get("key"),
        ordering_key: get("ordering"),
        text: get("text"),
        condition: get("json").and_then(|condition| condition.parse().ok()),
        error: get("error"),
        since: None,
        before: None,
        produced_before: None,
    };
    QUEUE.with_borrow_mut(|conn| {
        let mut walk = selection.walk_from(spot);
        while let Some(page) = walk.next(conn.broker(), 50).expect("reads") {
            assert!(page.is_empty());
        }
    });
}
