//! A large payload is stored once, and is as good as any other.

use std::sync::Mutex;
use std::thread;
use std::time::Duration;

use diesel::sql_types::BigInt;
use diesel::{Connection, MysqlConnection, PgConnection, QueryableByName, RunQueryDsl, SqliteConnection};
use serde_json::{Value, json};
use taskmq_core::broker::{Action, Claim, Condition, Limit, Noted, Outcome, Selection, Share};
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Consumer, Error, MessageId, NewMessage, Produced, Registry,
    Retention, State, Worker, produce, produce_many, task_consumer,
};
use taskmq_tests::databases::TestDatabase;

use super::{claim, end, retry, worker};

each_database! {
    handlers_get_large_payloads,
    many_are_stored_in_their_order,
    each_gets_its_own_of_any_size,
    every_way_to_claim_brings_the_payload,
    a_large_payload_lives_as_long_as_its_message,
    a_transactional_consumer_takes_the_payload_along,
    people_see_large_payloads,
    what_is_rolled_back_leaves_no_payload,
    the_words_that_stand_for_one_are_a_payload_too,
    nobody_takes_the_words_for_the_payload_of_one_that_was_deleted,
}

const WORDS: &str = "in taskmq_payloads";

/// More than fits beside its message, with what a text can have that is hard to keep.
fn large(n: usize) -> String {
    format!("{n} '\"\\\u{0}😀\n{}", "wide".repeat(5_000 + n))
}

static SEEN: Mutex<Vec<(String, MessageId, String)>> = Mutex::new(Vec::new());

#[task_consumer(topic = "t", backoff = "1ms")]
fn note(payload: (String, String), ctx: &taskmq_core::Context) {
    SEEN.lock().expect("not poisoned").push((payload.0, ctx.id(), payload.1));
}

/// What a worker saw of the messages that are there, in the order in which they ran.
fn run(db: &TestDatabase, consumer: Consumer) -> Vec<(MessageId, String)> {
    let registry = Registry::default().with(consumer).expect("one");
    let worker = Worker::new(registry, db.url()).concurrency(1).handle_signals(false).until_empty(true);
    assert_eq!(worker.run().expect("runs"), Ended::Finished);
    let mut seen = SEEN.lock().expect("not poisoned");
    let own = seen.extract_if(.., |(url, ..)| url == db.url());
    own.map(|(_, id, payload)| (id, payload)).collect()
}

fn count(conn: &mut AnyConnection, sql: &str) -> i64 {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        n: i64,
    }
    let sql = diesel::sql_query(format!("SELECT count(*) AS n FROM {sql}"));
    let rows: Vec<Row> = match conn {
        AnyConnection::Sqlite(conn) => sql.load(conn),
        AnyConnection::Postgres(conn) => sql.load(conn),
        AnyConnection::Mysql(conn) => sql.load(conn),
        _ => unreachable!("taskmq knows three databases"),
    }
    .expect("counts");
    rows[0].n
}

fn stored(conn: &mut AnyConnection) -> i64 {
    count(conn, "taskmq_payloads")
}

fn handlers_get_large_payloads(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &(db.url(), large(1))).expect("produces");
    let mine =
        count(&mut conn, "taskmq_messages WHERE payload LIKE '%wide%'".replace("payload", text(db)).as_str());
    assert_eq!((mine, stored(&mut conn)), (0, 1), "it is not in the message's row");
    assert_eq!(run(db, note::consumer()), [(id, large(1))]);
    assert_eq!((count(&mut conn, "taskmq_archive"), stored(&mut conn)), (1, 1), "kept, and stored once");
}

/// PostgreSQL's JSON is no text of itself.
fn text(db: &TestDatabase) -> &'static str {
    if db.backend() == Backend::Postgres { "payload::text" } else { "payload" }
}

fn many_are_stored_in_their_order(db: &TestDatabase) {
    let mut conn = db.connect();
    let url = db.url();
    let payloads: Vec<(&str, String)> =
        (0..40).map(|n| (url, if n % 5 == 3 || n > 30 { large(n) } else { n.to_string() })).collect();
    let messages = payloads.iter().map(|payload| NewMessage::new("t", payload));
    assert_eq!(produce_many(&mut conn, messages).expect("produces"), 40);
    let seen: Vec<String> = run(db, note::consumer()).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(seen, payloads.into_iter().map(|(_, payload)| payload).collect::<Vec<_>>());

    // More than PostgreSQL is given with one statement.
    let wide = "w".repeat(3 * 1024 * 1024);
    let messages = (0..8).map(|_| NewMessage::new("t", &(url, &wide)));
    assert_eq!(produce_many(&mut conn, messages).expect("produces"), 8);
    assert!(
        run(db, note::consumer()).into_iter().map(|(_, payload)| payload).eq([&wide; 8].map(String::clone))
    );

    // Of two with the same key only the first is stored, with its payload.
    let before = stored(&mut conn);
    let keyed = ["a", "b", "a"]
        .into_iter()
        .zip(0..)
        .map(|(key, n)| NewMessage::new("t", &(url, large(n))).unique(key));
    assert_eq!(produce_many(&mut conn, keyed).expect("produces"), 2);
    let again = NewMessage::new("t", &(url, large(9))).unique("b").produce(&mut conn).expect("produces");
    assert!(matches!(again, Produced::Existing(_)));
    assert_eq!(stored(&mut conn), before + 2);
    let seen: Vec<String> = run(db, note::consumer()).into_iter().map(|(_, payload)| payload).collect();
    assert_eq!(seen, [large(0), large(1)]);
}

#[task_consumer(topic = "sized")]
fn sized(payload: Value, ctx: &taskmq_core::Context) {
    let url = payload["url"].as_str().unwrap_or_default().to_owned();
    assert_eq!(ctx.headers().get("n").map(String::as_str), payload["n"].as_str(), "it is another one's");
    let pad = payload["pad"].as_str().unwrap_or_default().len();
    SEEN.lock().expect("not poisoned").push((url, ctx.id(), format!("{} {pad}", payload["n"])));
}

fn each_gets_its_own_of_any_size(db: &TestDatabase) {
    const SIZES: [usize; 6] = [300, 1_200, 2_500, 5_000, 9_000, 20_000];
    /// So many of each size in a row: more than go into one statement.
    const ALIKE: usize = 250;
    const MANY: usize = ALIKE * SIZES.len();
    let pad = |n: usize| SIZES[n / ALIKE % SIZES.len()] + n % 100;
    let message = |n: usize| {
        let payload = json!({ "url": db.url(), "n": n.to_string(), "pad": "p".repeat(pad(n)) });
        NewMessage::new("sized", &payload).header("n", n.to_string())
    };
    // Two produce at once, and none of their payloads is taken for another one's.
    thread::scope(|scope| {
        for from in [0, MANY] {
            scope.spawn(move || {
                let messages = (from..from + MANY).map(message);
                assert_eq!(produce_many(&mut db.connect(), messages).expect("produces"), MANY);
            });
        }
    });
    for n in (2 * MANY..3 * MANY).step_by(ALIKE) {
        message(n).produce(&mut db.connect()).expect("produces");
    }
    let mut seen: Vec<String> = run(db, sized::consumer()).into_iter().map(|(_, seen)| seen).collect();
    let single = (2 * MANY..3 * MANY).step_by(ALIKE);
    let mut all: Vec<String> = (0..2 * MANY).chain(single).map(|n| format!("\"{n}\" {}", pad(n))).collect();
    seen.sort_unstable();
    all.sort_unstable();
    assert_eq!(seen, all);
    // What is small can be seen with SQL, whatever the size.
    let n = "taskmq_archive WHERE payload LIKE '%\"n\":\"%'".replace("payload", text(db));
    assert_eq!(usize::try_from(count(&mut db.connect(), &n)), Ok(all.len()));
}

fn every_way_to_claim_brings_the_payload(db: &TestDatabase) {
    let mut conn = db.connect();
    let mut ids = Vec::new();
    for n in 1..=4 {
        let message = NewMessage::new("t", &(db.url(), large(n)));
        let message = if n == 1 { message.ordering_key("k") } else { message };
        ids.push(message.produce(&mut conn).expect("produces").id());
    }
    // Two that a death has left: suspected, and set aside to run alone.
    db.execute(&format!("UPDATE taskmq_messages SET worker_id = -2, suspicions = 1 WHERE id = {}", ids[1]));
    db.execute(&format!("UPDATE taskmq_messages SET worker_id = -1, suspicions = 2 WHERE id = {}", ids[2]));
    let mut seen = run(db, note::consumer());
    seen.sort_unstable();
    assert_eq!(seen, (1..=4).map(|n| (ids[n - 1], large(n))).collect::<Vec<_>>());

    let limit = Limit { running: Some(1), rate: None };
    assert!(conn.broker().set_limit("t", &limit, "a person").expect("limits"));
    let id = produce(&mut conn, "t", &(db.url(), large(5))).expect("produces");
    assert_eq!(run(db, note::consumer()), [(id, large(5))]);
}

fn a_large_payload_lives_as_long_as_its_message(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let one = |conn: &mut AnyConnection| produce(conn, "t", &(db.url(), large(1))).expect("produces");
    let ended = |conn: &mut AnyConnection, outcome: Outcome| {
        let id = one(conn);
        let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
        assert_eq!(claimed.id, id);
        assert!(conn.broker().settle(&w, &[end(&claimed, outcome)]).expect("settles").is_empty());
        id
    };
    let retention = |retention| Outcome::Done { result: None, retention };
    ended(&mut conn, retention(Retention::None));
    assert_eq!(stored(&mut conn), 0, "done and not kept");
    ended(&mut conn, retention(Retention::For(Duration::from_secs(60))));
    assert_eq!(stored(&mut conn), 1);
    db.execute("UPDATE taskmq_archive SET finished_at = '2020-01-01 00:00:00'");
    assert_eq!(conn.broker().purge(10).expect("purges"), 1);
    assert_eq!(stored(&mut conn), 0, "purged");

    let dead = ended(&mut conn, Outcome::Dead { kind: Some("error"), error: "no".to_owned() });
    let cancelled = one(&mut conn);
    conn.broker().change(&Action::Cancel, &[cancelled], Noted::No).expect("cancels");
    assert_eq!(stored(&mut conn), 2, "kept for a person to look at");
    retry(conn.broker(), dead).expect("revives");
    retry(conn.broker(), cancelled).expect("revives");
    let mut seen = run(db, note::consumer());
    seen.sort_unstable();
    assert_eq!(seen, [(dead, large(1)), (cancelled, large(1))], "tried again");
    let waiting = one(&mut conn);
    conn.broker().change(&Action::Delete, &[dead, cancelled, waiting], Noted::No).expect("deletes");
    assert_eq!(stored(&mut conn), 0, "deleted");

    // A batch, whose worker forgets what is done.
    for n in 0..50 {
        produce(&mut conn, "t", &(db.url(), large(n))).expect("produces");
    }
    assert_eq!(run(db, note::consumer().retention(Retention::None)).len(), 50);
    assert_eq!((count(&mut conn, "taskmq_archive"), stored(&mut conn)), (0, 0));
}

#[task_consumer(topic = "t", retention = "0s")]
fn with_sqlite(_payload: (String, String), _conn: &mut SqliteConnection) {}

#[task_consumer(topic = "t", retention = "0s")]
fn with_postgres(_payload: (String, String), _conn: &mut PgConnection) {}

#[task_consumer(topic = "t", retention = "0s")]
fn with_mysql(_payload: (String, String), _conn: &mut MysqlConnection) {}

fn a_transactional_consumer_takes_the_payload_along(db: &TestDatabase) {
    let mut conn = db.connect();
    produce(&mut conn, "t", &(db.url(), large(1))).expect("produces");
    assert_eq!(stored(&mut conn), 1);
    let transactional = match db.backend() {
        Backend::Sqlite => with_sqlite::consumer(),
        Backend::Postgres => with_postgres::consumer(),
        Backend::Mysql => with_mysql::consumer(),
    };
    run(db, transactional);
    assert_eq!((count(&mut conn, "taskmq_messages"), stored(&mut conn)), (0, 0));
}

fn people_see_large_payloads(db: &TestDatabase) {
    let mut conn = db.connect();
    let payload = serde_json::json!({"url": "http://lab/7", "pad": large(7), "deep": {"seat": 12}});
    let small = produce(&mut conn, "t", &serde_json::json!({"deep": {"seat": 12}})).expect("produces");
    let live = produce(&mut conn, "t", &payload).expect("produces");
    let cancelled = produce(&mut conn, "t", &payload).expect("produces");
    conn.broker().change(&Action::Cancel, &[cancelled], Noted::No).expect("cancels");
    let url = match db.backend() {
        Backend::Sqlite => "payload ->> '$.url'",
        Backend::Postgres => "payload ->> 'url'",
        Backend::Mysql => "JSON_VALUE(payload, '$.url')",
    };
    for table in ["taskmq_messages", "taskmq_archive"] {
        assert_eq!(
            count(&mut conn, &format!("{table} WHERE {url} = 'http://lab/7'")),
            1,
            "what is small stays"
        );
    }
    for (id, state) in [(live, State::Ready), (cancelled, State::Cancelled)] {
        let message = conn.broker().message(id).expect("reads").expect("is there");
        assert_eq!((message.payload.get(), message.state), (&*payload.to_string(), state));
        let found = |conn: &mut AnyConnection, selection: Selection| -> Vec<MessageId> {
            let mut walk = selection.walk();
            let page = walk.next(conn.broker(), 10).expect("walks").unwrap_or_default();
            page.into_iter().map(|found| found.id).collect()
        };
        let text = Selection { text: Some("widewide".to_owned()), ..Selection::of(state) };
        assert_eq!(found(&mut conn, text), [id]);
        let text = Selection { text: Some(WORDS.to_owned()), ..Selection::of(state) };
        assert!(found(&mut conn, text).is_empty(), "what stands in its place is nobody's business");
        let condition = "$.deep.seat = 12".parse::<Condition>().expect("a condition");
        let mut expected = vec![id];
        if state == State::Ready {
            expected.insert(0, small);
        }
        assert_eq!(
            found(&mut conn, Selection { condition: Some(condition), ..Selection::of(state) }),
            expected
        );
        let summary = conn.broker().summaries(&[id], None).expect("reads").remove(0);
        assert!(summary.payload.contains("deep") && !summary.payload.contains(WORDS), "{}", summary.payload);
    }
}

fn what_is_rolled_back_leaves_no_payload(db: &TestDatabase) {
    let mut conn = db.connect();
    let produced = |conn: &mut AnyConnection| produce(conn, "t", &(db.url(), large(1)));
    let outcome: Result<(), Error> = match &mut conn {
        AnyConnection::Sqlite(conn) => conn.transaction(|conn| {
            produce(conn, "t", &large(1))?;
            Err(diesel::result::Error::RollbackTransaction.into())
        }),
        AnyConnection::Postgres(conn) => conn.transaction(|conn| {
            produce(conn, "t", &large(1))?;
            Err(diesel::result::Error::RollbackTransaction.into())
        }),
        AnyConnection::Mysql(conn) => conn.transaction(|conn| {
            produce(conn, "t", &large(1))?;
            Err(diesel::result::Error::RollbackTransaction.into())
        }),
        _ => unreachable!("taskmq knows three databases"),
    };
    assert!(outcome.is_err());
    assert_eq!((count(&mut conn, "taskmq_messages"), stored(&mut conn)), (0, 0));
    produced(&mut conn).expect("produces");
    assert_eq!((count(&mut conn, "taskmq_messages"), stored(&mut conn)), (1, 1));
}

static WORDS_SEEN: Mutex<Vec<(MessageId, String)>> = Mutex::new(Vec::new());

#[task_consumer(topic = "words")]
fn note_words(payload: String, ctx: &taskmq_core::Context) {
    WORDS_SEEN.lock().expect("not poisoned").push((ctx.id(), payload));
}

fn the_words_that_stand_for_one_are_a_payload_too(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "words", WORDS).expect("produces");
    assert_eq!(
        conn.broker().message(id).expect("reads").expect("is there").payload.get(),
        format!("{WORDS:?}")
    );
    run(db, note_words::consumer());
    let seen = WORDS_SEEN.lock().expect("not poisoned");
    assert!(seen.contains(&(id, WORDS.to_owned())));
}

fn nobody_takes_the_words_for_the_payload_of_one_that_was_deleted(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    produce(&mut conn, "t", &WORDS).expect("produces");
    produce(&mut conn, "t", &large(1)).expect("produces");
    let share = [Share { topic: "t", limit: 2, ageing: None }];
    let order = Claim { worker_id: w.id, topics: &share, limit: 2, as_batch: true, after: &[] };
    let mut claimed = conn.broker().claim(&order).expect("claims");
    assert!(claimed.iter().all(|message| message.payload == format!("{WORDS:?}")));
    db.execute(&format!("DELETE FROM taskmq_messages WHERE id = {0}", claimed[1].id));
    db.execute("DELETE FROM taskmq_payloads");
    conn.broker().fetch_payloads(&mut claimed).expect("reads");
    assert_eq!(claimed[0].payload, format!("{WORDS:?}"));
    assert_eq!(claimed[1].payload, "", "which is no JSON");
}
