//! What consumers read, written by their workers for other programs.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use taskmq_core::broker::Schema;
use taskmq_core::limits::MAX_SCHEMA_BYTES;
use taskmq_core::worker::Ended;
use taskmq_core::{BrokerConnection, Consumer, Registry, Worker, task_consumer};
use taskmq_tests::databases::TestDatabase;

each_database! {
    a_worker_writes_what_its_consumers_read,
    a_start_that_changes_nothing_writes_nothing,
    a_schema_is_kept_as_it_is_up_to_its_limit,
}

#[derive(Serialize, Deserialize, JsonSchema)]
struct Described {
    /// How "many", in 中文.
    n: u8,
}

#[task_consumer(topic = "described", schema)]
fn described(_message: Described) {}

fn topic() -> Consumer {
    Consumer::new("t", "by hand", |_| Ok(None))
}

fn start(db: &TestDatabase, consumers: impl IntoIterator<Item = Consumer>) {
    let registry = consumers.into_iter().try_fold(Registry::default(), Registry::with).expect("consumers");
    let worker = Worker::new(registry, db.url()).handle_signals(false).until_empty(true);
    assert_eq!(worker.run().expect("runs"), Ended::Finished);
}

fn stored(db: &TestDatabase) -> Vec<Schema> {
    db.connect().broker().schemas(&["t", "T", "described"]).expect("reads")
}

fn a_worker_writes_what_its_consumers_read(db: &TestDatabase) {
    let before = db.connect().broker().now().expect("reads");
    start(db, [described::consumer(), topic()]);
    let after = db.connect().broker().now().expect("reads");
    let [schema] = &stored(db)[..] else { panic!("{:?}", stored(db)) };
    assert_eq!(schema.topic, "described");
    let definition: serde_json::Value = serde_json::from_str(&schema.definition).expect("JSON");
    assert_eq!(definition["properties"]["n"]["maximum"], 255);
    assert_eq!(definition["properties"]["n"]["description"], "How \"many\", in 中文.");
    assert!((before..=after).contains(&schema.written_at), "{before} {schema:?} {after}");
    // One that has not its consumer leaves it alone.
    start(db, [topic().schema::<u32>()]);
    assert_eq!(stored(db).len(), 2);
    // Of two versions the last one to start has written it.
    start(db, [topic().schema::<Vec<String>>(), described::consumer()]);
    let schemas = stored(db);
    assert_eq!(&schemas[0], schema);
    assert!(schemas[1].definition.contains("\"array\""), "{schemas:?}");
    start(db, [topic(), described::consumer()]);
    assert_eq!(stored(db), std::slice::from_ref(schema), "a consumer without one has none");
}

fn a_start_that_changes_nothing_writes_nothing(db: &TestDatabase) {
    start(db, [described::consumer(), topic()]);
    db.execute("UPDATE taskmq_schemas SET written_at = '2026-01-01 00:00:00'");
    let before = stored(db);
    start(db, [described::consumer(), topic()]);
    assert_eq!(stored(db), before);
}

fn a_schema_is_kept_as_it_is_up_to_its_limit(db: &TestDatabase) {
    let mut conn = db.connect();
    let largest = format!("\"{}\"", "x".repeat(MAX_SCHEMA_BYTES - 2));
    for definition in ["{\"a\": \"\\\\' \u{1f600} \"}", "no JSON at all", &largest] {
        conn.broker().store_schema("t", definition).expect("stores");
        assert_eq!(stored(db)[0].definition, definition);
    }
    let too_large = largest.replacen('x', "é", 1);
    assert!(conn.broker().store_schema("t", &too_large).is_err());
    assert!(conn.broker().store_schema("t", "").is_err());
    assert_eq!(stored(db)[0].definition, largest);
    assert!(conn.broker().schemas(&[]).expect("reads").is_empty());
    assert!(conn.broker().schemas(&["T"]).expect("reads").is_empty(), "another topic");
    assert!(conn.broker().remove_schema("t").expect("removes"));
    assert!(!conn.broker().remove_schema("t").expect("reads"));
    // A worker whose consumer has a larger one goes without.
    conn.broker().store_schema("t", "{}").expect("stores");
    start(db, [topic().schema::<Large>()]);
    assert!(stored(db).is_empty());
    // Nobody's work depends on it.
    db.execute("ALTER TABLE taskmq_schemas RENAME TO gone_schemas");
    start(db, [described::consumer()]);
}

struct Large;

impl JsonSchema for Large {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Large".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "description": "x".repeat(MAX_SCHEMA_BYTES) })
    }
}
