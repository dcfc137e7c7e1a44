//! Whatever door a message comes by, it is refused whole, or comes back as it was, and spoils nothing beside it.

use serde_json::value::RawValue;
use taskmq_core::broker::MessageFilter;
use taskmq_core::message::Message;
use taskmq_core::{AnyConnection, Backend, BrokerConnection, Error, NewMessage, produce, produce_many};
use taskmq_tests::databases::{TestDatabase, try_execute};

use super::{claim, done, ids, worker};

each_database! {
    sql_stores_only_what_a_worker_can_run,
    sql_may_use_what_is_allowed,
    an_attempt_can_always_be_counted,
    json_means_the_same_on_every_database,
    a_key_is_told_from_every_other,
}

/// A message whose columns are given as SQL.
fn insert(conn: &mut AnyConnection, column: &str, value: &str) -> diesel::QueryResult<()> {
    let columns = match column {
        "topic" => format!("(topic, payload) VALUES ({value}, '1')"),
        "payload" => format!("(topic, payload) VALUES ('t', {value})"),
        _ => format!("(topic, payload, {column}) VALUES ('t', '1', {value})"),
    };
    try_execute(conn, &format!("INSERT INTO taskmq_messages {columns}"))
}

fn listed(conn: &mut AnyConnection) -> Vec<Message> {
    let all = MessageFilter { topic: None, state: None, limit: 100 };
    conn.broker().messages(&all).expect("reads")
}

fn sql_stores_only_what_a_worker_can_run(db: &TestDatabase) {
    let everywhere = [
        ("topic", "''"),
        ("topic", "' '"),
        ("topic", "'a b'"),
        ("topic", "'a '"),
        ("topic", "'a,b'"),
        ("topic", "'a;b'"),
        ("topic", "'a\nb'"),
        ("topic", "'a\n'"),
        ("topic", "'a\u{1b}[2J'"),
        ("topic", "'é'"),
        ("topic", "'ａ'"),
        ("topic", "NULL"),
        ("priority", "70000"),
        ("priority", "-32769"),
        ("priority", "NULL"),
        ("run_at", "'2026-13-01 00:00:00'"),
        ("run_at", "'2026-xx-yy aa:bb:cc'"),
        ("run_at", "'infinity'"),
        ("run_at", "''"),
        ("created_at", "'infinity'"),
        ("created_at", "'yesterday or so'"),
        ("attempts", "-1"),
        ("attempts", "2147483647"),
        ("crashes", "-1"),
        ("crashes", "32767"),
        ("suspicions", "32767"),
        ("max_attempts", "0"),
        ("max_attempts", "-1"),
        ("max_attempts", "40000"),
        ("unique_key", "''"),
        ("unique_key", "'k '"),
        ("unique_key", "' '"),
        ("ordering_key", "''"),
        ("ordering_key", "'k '"),
        ("headers", "'{'"),
        ("payload", "''"),
        ("payload", "'{'"),
        ("payload", "'[1,]'"),
        ("payload", "NULL"),
    ];
    let only: &[_] = match db.backend() {
        Backend::Sqlite => &[
            ("topic", "x'61'"),
            ("priority", "1.5"),
            ("attempts", "0.5"),
            ("crashes", "0.5"),
            ("suspicions", "0.5"),
            ("max_attempts", "1.5"),
            ("priority", "'high'"),
            ("run_at", "0"),
            ("run_at", "x'32'"),
            ("run_at", "'now'"),
            ("run_at", "'2026-01-01 10:00:00+08:00'"),
            ("run_at", "'2026-01-01 10:00:00.123-08:00'"),
            ("run_at", "'2026-01-01T10:00:00'"),
            ("run_at", "'2026-01-01 10:00:00 or so'"),
            ("unique_key", "x'61'"),
            ("headers", "x'7b7d'"),
            ("payload", "x'31'"),
        ],
        Backend::Postgres => &[
            ("run_at", "'-infinity'"),
            ("run_at", "'294276-01-01'"),
            ("run_at", "'4713-01-01 BC'"),
            ("created_at", "'-infinity'"),
        ],
        Backend::Mysql => &[("run_at", "'9999-01-01 00:00:00'"), ("payload", "'\"\\\\ud800\"'")],
    };
    let mut conn = db.connect();
    for (column, value) in everywhere.iter().chain(only) {
        assert!(insert(&mut conn, column, value).is_err(), "{column} = {value}");
    }
    // Nor can it make one of a message that taskmq stored.
    let id = NewMessage::new("t", &1).header("a", "b").produce(&mut conn).expect("produces").id();
    for (column, value) in everywhere.iter().chain(only) {
        let changed =
            try_execute(&mut conn, &format!("UPDATE taskmq_messages SET {column} = {value} WHERE id = {id}"));
        assert!(changed.is_err(), "{column} = {value}");
    }
    try_execute(&mut conn, &format!("DELETE FROM taskmq_messages WHERE id = {id}")).expect("deletes");
    for column in ["topic", "unique_key", "ordering_key"] {
        let longest = if column == "topic" { 100 } else { 255 };
        let (fits, long) = (format!("'{}'", "x".repeat(longest)), format!("'{}'", "x".repeat(longest + 1)));
        assert!(insert(&mut conn, column, &fits).is_ok(), "{column}");
        assert!(insert(&mut conn, column, &long).is_err(), "{column}");
    }
    assert_eq!(listed(&mut conn).len(), 3);
}

fn sql_may_use_what_is_allowed(db: &TestDatabase) {
    let mut conn = db.connect();
    let good = [
        ("topic", "'azAZ09_.:/-'"),
        ("priority", "-32768"),
        ("priority", "32767"),
        ("run_at", "'2026-01-01 10:00:00'"),
        ("run_at", "'2026-01-01 10:00:00.5'"),
        ("run_at", "'2026-01-01 10:00:00.123456'"),
        ("run_at", "'1971-01-01 10:00:00'"),
        ("run_at", "'2037-12-31 10:00:00'"),
        ("max_attempts", "1"),
        ("max_attempts", "32767"),
        ("unique_key", "' clé 😀'"),
        ("headers", "'{\"a\": \"b\"}'"),
        ("headers", "NULL"),
    ];
    for (column, value) in good {
        insert(&mut conn, column, value).unwrap_or_else(|error| panic!("{column} = {value}: {error}"));
    }
    let listed = listed(&mut conn);
    assert_eq!(listed.len(), good.len());
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t", "azAZ09_.:/-"], 100);
    assert_eq!(claimed.len(), good.len() - 1, "all but what is due in years");
}

fn an_attempt_can_always_be_counted(db: &TestDatabase) {
    db.execute(
        "INSERT INTO taskmq_messages (topic, payload, attempts, crashes, suspicions)
         VALUES ('t', '1', 1000000000, 10000, 10000), ('t', '2', 0, 0, 0)",
    );
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 10);
    assert_eq!(claimed.iter().map(|c| c.attempt).collect::<Vec<_>>(), [1_000_000_001, 1]);
    conn.broker().settle(&w, &claimed.iter().map(done).collect::<Vec<_>>()).expect("settles");
    assert_eq!(conn.broker().topics().expect("reads")[0].done, 2);
}

fn json_means_the_same_on_every_database(db: &TestDatabase) {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let deep = nested(31);
    let good = [
        &*deep,
        "1e400",
        "-0",
        "9223372036854775808",
        "  {\"a\" : 1, \"a\" : 2}\n",
        r#""\u0000""#,
        r#""\ud83d\ude00""#,
        r#"{"": {"$ne": ["';--", "%s", "\\"]}}"#,
        "\"\u{7f}\u{85}\u{2028}\u{feff}\"",
    ];
    let mut conn = db.connect();
    let raw = |json: &str| RawValue::from_string(json.to_owned()).expect("is JSON");
    for json in good {
        produce(&mut conn, "t", &*raw(json)).unwrap_or_else(|error| panic!("{json}: {error}"));
        let two = [NewMessage::new("t", &*raw(json)), NewMessage::new("t", &*raw(json)).header(json, json)];
        produce_many(&mut conn, two).unwrap_or_else(|error| panic!("{json}: {error}"));
    }
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 100);
    let expected: Vec<&str> = good.iter().flat_map(|json| [json.trim(); 3]).collect();
    assert_eq!(claimed.iter().map(|c| &*c.payload).collect::<Vec<_>>(), expected);
    let listed = listed(&mut conn);
    assert!(listed.iter().all(|m| expected.contains(&m.payload.get())), "a list shows what was produced");
    for json in [&*nested(32), r#""\ud800""#, r#"["\udc00\ud800"]"#] {
        assert!(matches!(produce(&mut conn, "u", &*raw(json)), Err(Error::Json { .. })), "{json}");
        let many = produce_many(&mut conn, [NewMessage::new("u", &1), NewMessage::new("u", &*raw(json))]);
        assert!(matches!(many, Err(Error::Json { .. })), "{json}");
    }
    assert!(claim(conn.broker(), &w, &["u"], 1).is_empty());
}

fn a_key_is_told_from_every_other(db: &TestDatabase) {
    let mut conn = db.connect();
    let keys = ["k", "K", " k", "k\t", "ﬀ", "ff", "é", "e\u{301}", "e"];
    let mut seen = Vec::new();
    for key in keys {
        seen.push(NewMessage::new("t", &1).unique(key).produce(&mut conn).expect("produces").id());
    }
    let w = worker(&mut conn, 1);
    assert_eq!(ids(&claim(conn.broker(), &w, &["t"], 100)), seen, "each is a message of its own");
    for key in ["k ", " ", "", "k\0"] {
        assert!(
            matches!(NewMessage::new("t", &1).unique(key).produce(&mut conn), Err(Error::Key { .. })),
            "{key:?}"
        );
    }
}
