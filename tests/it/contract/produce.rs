use std::time::Duration;

use diesel::Connection;
use serde_json::{Value, json};
use taskmq_core::{
    AnyConnection, BrokerConnection, Error, NewMessage, Produced, State, produce, produce_many,
};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::{claim, worker};

each_database! {
    a_plain_insert_is_a_complete_message,
    a_plain_insert_that_is_no_message_is_refused,
    payloads_come_back_as_they_were,
    a_payload_of_a_mebibyte,
    what_cannot_be_stored_is_refused_before_anything_is_written,
    a_rolled_back_transaction_leaves_nothing,
    many_are_stored_by_one_call,
    one_live_message_has_a_unique_key,
    who_produce_one_key_at_once_get_one_message,
    a_delay_is_counted_by_the_database_in_any_time_zone,
    more_than_a_packet_is_produced_at_once,
}

fn a_plain_insert_is_a_complete_message(db: &TestDatabase) {
    db.execute(r#"INSERT INTO taskmq_messages (topic, payload) VALUES ('yace', '{"url": "http://x"}')"#);
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["yace"], 10);
    assert_eq!(claimed.len(), 1);
    assert_eq!((claimed[0].attempt, claimed[0].crashes, claimed[0].max_attempts), (1, 0, None));
    assert_eq!(claimed[0].payload, r#"{"url": "http://x"}"#);
    let message = conn.broker().message(claimed[0].id).expect("reads").expect("is there");
    assert_eq!((message.state, message.priority, message.attempts), (State::Running, 0, 1));
}

fn a_plain_insert_that_is_no_message_is_refused(db: &TestDatabase) {
    let mut conn = db.connect();
    for (topic, payload) in [("yace", "{not json"), ("", "1"), (&*"x".repeat(101), "1")] {
        let sql = format!("INSERT INTO taskmq_messages (topic, payload) VALUES ('{topic}', '{payload}')");
        assert!(try_execute(&mut conn, &sql).is_err(), "{sql}");
    }
}

fn payloads_come_back_as_they_were(db: &TestDatabase) {
    let payloads = [
        json!(null),
        json!({"zero": "a\u{0}b", "emoji": "😀", "rtl": "\u{202e}x", "quote": "'\"\\?$1", "中文": ["é", "\u{10ffff}"]}),
        json!([i64::MIN, u64::MAX, 0.1, -0.0, true]),
        json!("plain"),
        json!({}),
    ];
    let mut conn = db.connect();
    for payload in &payloads {
        produce(&mut conn, "t", payload).expect("produces");
    }
    produce_many(&mut conn, payloads.iter().map(|p| NewMessage::new("t", p))).expect("produces");
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 100);
    let back: Vec<Value> =
        claimed.iter().map(|c| serde_json::from_str(&c.payload).expect("is JSON")).collect();
    assert_eq!(back, [&payloads[..], &payloads[..]].concat());
}

fn a_payload_of_a_mebibyte(db: &TestDatabase) {
    let payload = "x".repeat(1024 * 1024);
    let mut conn = db.connect();
    produce(&mut conn, "t", &payload).expect("produces");
    produce_many(&mut conn, [NewMessage::new("t", &payload)]).expect("produces");
    let w = worker(&mut conn, 1);
    for claimed in claim(conn.broker(), &w, &["t"], 2) {
        assert_eq!(serde_json::from_str::<String>(&claimed.payload).expect("is JSON"), payload);
    }
}

fn what_cannot_be_stored_is_refused_before_anything_is_written(db: &TestDatabase) {
    let mut conn = db.connect();
    let huge = "x".repeat(8 * 1024 * 1024);
    assert!(matches!(produce(&mut conn, "", &1), Err(Error::Topic { .. })));
    assert!(matches!(produce(&mut conn, "two words", &1), Err(Error::Topic { .. })));
    assert!(matches!(produce(&mut conn, "t", &huge), Err(Error::TooLarge { .. })));
    assert!(matches!(
        produce(&mut conn, "t", &std::collections::HashMap::from([((1, 2), 3)])),
        Err(Error::Encode { .. })
    ));
    assert!(matches!(NewMessage::new("t", &1).unique("").produce(&mut conn), Err(Error::Key { .. })));
    let century = Duration::from_secs(100 * 366 * 86_400);
    assert!(matches!(NewMessage::new("t", &1).delay(century).produce(&mut conn), Err(Error::Delay { .. })));
    let two = [NewMessage::new("t", &1), NewMessage::new("t", &huge)];
    assert!(produce_many(&mut conn, two).is_err());
    assert!(conn.broker().topics().expect("reads").is_empty());
}

fn a_rolled_back_transaction_leaves_nothing(db: &TestDatabase) {
    fn fails(conn: &mut impl BrokerConnection) -> Result<(), diesel::result::Error> {
        produce(conn, "t", &1).expect("produces");
        Err(diesel::result::Error::RollbackTransaction)
    }
    let mut conn = db.connect();
    let rolled_back = match &mut conn {
        AnyConnection::Sqlite(conn) => conn.immediate_transaction(fails),
        AnyConnection::Postgres(conn) => conn.transaction(fails),
        AnyConnection::Mysql(conn) => conn.transaction(fails),
        _ => unreachable!("there are three databases"),
    };
    assert!(rolled_back.is_err());
    assert!(conn.broker().topics().expect("reads").is_empty());
}

fn many_are_stored_by_one_call(db: &TestDatabase) {
    let mut conn = db.connect();
    let stored = produce_many(
        &mut conn,
        (0..1000).map(|n| NewMessage::new("t", &n).priority(i16::try_from(n % 2).unwrap_or(0))),
    );
    assert_eq!(stored.expect("produces"), 1000);
    let w = worker(&mut conn, 1);
    let numbers: Vec<i64> = claim(conn.broker(), &w, &["t"], 1000)
        .iter()
        .map(|c| c.payload.parse().expect("is a number"))
        .collect();
    let expected: Vec<i64> =
        (0..1000).filter(|n| n % 2 == 1).chain((0..1000).filter(|n| n % 2 == 0)).collect();
    assert_eq!(numbers, expected);
}

fn one_live_message_has_a_unique_key(db: &TestDatabase) {
    let mut conn = db.connect();
    let first = NewMessage::new("t", &1).unique("k").produce(&mut conn).expect("produces");
    assert!(matches!(first, Produced::New(_)));
    let second = NewMessage::new("t", &2).unique("k").produce(&mut conn).expect("produces");
    assert_eq!(second, Produced::Existing(first.id()));
    let other = NewMessage::new("u", &2).unique("k").produce(&mut conn).expect("produces");
    assert!(matches!(other, Produced::New(_)), "another topic has keys of its own");
    let stored =
        produce_many(&mut conn, [NewMessage::new("t", &3).unique("k"), NewMessage::new("t", &4).unique("l")]);
    assert_eq!(stored.expect("produces"), 1);
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 1);
    conn.broker().settle(&w, &[super::done(&claimed[0])]).expect("settles");
    let again = NewMessage::new("t", &5).unique("k").produce(&mut conn).expect("produces");
    assert!(matches!(again, Produced::New(_)), "the key is free when its message is done");
}

fn who_produce_one_key_at_once_get_one_message(db: &TestDatabase) {
    const KEYS: usize = 40;
    let produce_all = |number: usize| {
        let mut conn = db.connect();
        let keys = (0..KEYS).map(|key| {
            let message = NewMessage::new("t", &number).unique(key.to_string());
            message.produce(&mut conn).expect("produces")
        });
        keys.collect::<Vec<_>>()
    };
    let produced: Vec<Vec<Produced>> = std::thread::scope(|scope| {
        let producers: Vec<_> = (0..6).map(|number| scope.spawn(move || produce_all(number))).collect();
        producers.into_iter().map(|producer| producer.join().expect("ends")).collect()
    });
    for key in 0..KEYS {
        let of_key: Vec<Produced> = produced.iter().map(|all| all[key]).collect();
        let new = of_key.iter().filter(|produced| matches!(produced, Produced::New(_))).count();
        assert_eq!(new, 1, "{of_key:?}");
        assert!(of_key.iter().all(|produced| produced.id() == of_key[0].id()), "{of_key:?}");
    }
    let live = db.connect().broker().topics().expect("reads").remove(0);
    assert_eq!(live.ready, i64::try_from(KEYS).expect("is small"));
}

fn a_delay_is_counted_by_the_database_in_any_time_zone(db: &TestDatabase) {
    let mut conn = db.connect();
    match &mut conn {
        AnyConnection::Postgres(_) => {
            try_execute(&mut conn, "SET TIME ZONE 'Asia/Shanghai'").expect("sets the zone")
        }
        AnyConnection::Mysql(_) => try_execute(&mut conn, "SET time_zone = '+08:00'").expect("sets the zone"),
        _ => {}
    }
    let now = produce(&mut conn, "t", &1).expect("produces");
    NewMessage::new("t", &2).delay(Duration::from_secs(60)).produce(&mut conn).expect("produces");
    match &conn {
        AnyConnection::Mysql(_) => {
            try_execute(&mut conn, "INSERT INTO taskmq_messages (topic, payload, run_at) VALUES ('t', '3', NOW(6) + INTERVAL 90 SECOND)")
        }
        AnyConnection::Postgres(_) => {
            try_execute(&mut conn, "INSERT INTO taskmq_messages (topic, payload, run_at) VALUES ('t', '3', now() + interval '90 s')")
        }
        _ => try_execute(&mut conn, "INSERT INTO taskmq_messages (topic, payload, run_at) VALUES ('t', '3', datetime('now', '+90 seconds'))"),
    }
    .expect("inserts");
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    assert_eq!(super::ids(&claim(conn.broker(), &w, &["t"], 10)), [now]);
    let due = conn.broker().next_due(&["t"]).expect("reads").expect("two are scheduled");
    assert!(due > Duration::from_secs(50) && due <= Duration::from_secs(60), "{due:?}");
}

/// MariaDB drops a connection that sends it more than 16 MiB at once.
fn more_than_a_packet_is_produced_at_once(db: &TestDatabase) {
    const MANY: usize = 30_000;
    let mut conn = db.connect();
    let pad = "x".repeat(700);
    let alike = (0..MANY).map(|n| NewMessage::new("alike", &(n, &pad)));
    assert_eq!(produce_many(&mut conn, alike).expect("produces"), MANY);
    let keyed = || (0..MANY).map(|n| NewMessage::new("keyed", &(n, &pad)).unique(n.to_string()));
    assert_eq!(produce_many(&mut conn, keyed()).expect("produces"), MANY);
    assert_eq!(produce_many(&mut conn, keyed()).expect("produces"), 0, "every key is taken");
    // A quote is two characters of JSON, and four of JSON within JSON.
    let large =
        (0..3).map(|n| NewMessage::new("large", &"\"".repeat(3_000_000)).header("number", n.to_string()));
    assert_eq!(produce_many(&mut conn, large).expect("produces"), 3);
    let stats = conn.broker().topics().expect("reads");
    let ready: Vec<i64> = stats.iter().map(|topic| topic.ready).collect();
    assert_eq!(ready, [30_000, 30_000, 3]);
}
