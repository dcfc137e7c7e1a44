//! What handlers log is kept with their messages, as long as these, and no longer.

use std::process::Command;
use std::time::{Duration, Instant};

use diesel::{MysqlConnection, PgConnection, SqliteConnection};
use taskmq_core::broker::{Action, Logged, Noted, Outcome, Peer, Settlement};
use taskmq_core::limits::{MAX_LOG_LINE_BYTES, MAX_LOG_LINES};
use taskmq_core::message::LogLine;
use taskmq_core::worker::Ended;
use taskmq_core::{
    AnyConnection, Backend, BrokerConnection, Consumer, Context, LogLevel, MessageId, Registry, Retention,
    State, Worker, produce, task_consumer,
};
use taskmq_tests::databases::TestDatabase;

use super::{claim, claim_batch, done, end, worker};
use crate::hosts::host::taskmq_cli;

each_database! {
    what_handlers_log_is_kept,
    of_many_lines_the_last_are_kept,
    a_late_line_is_not_kept,
    lines_go_with_their_message,
    lines_of_a_batch_are_kept,
    without_a_lease_no_line_is_written,
}

fn run(db: &TestDatabase, consumer: Consumer) {
    let registry = Registry::default().with(consumer).expect("one");
    let worker = Worker::new(registry, db.url()).handle_signals(false).until_empty(true);
    assert_eq!(worker.run().expect("runs"), Ended::Finished);
}

fn log(conn: &mut AnyConnection, id: MessageId) -> Vec<LogLine> {
    conn.broker().log(id).expect("reads")
}

fn words(conn: &mut AnyConnection, id: MessageId) -> Vec<(i32, String, String)> {
    log(conn, id).into_iter().map(|line| (line.attempt, line.level, line.line)).collect()
}

fn logging(settlement: Settlement, lines: &[&str]) -> Settlement {
    let logged = |line: &&str| Logged { at: Instant::now(), level: LogLevel::Info, line: (*line).to_owned() };
    Settlement { log: lines.iter().map(logged).collect(), ..settlement }
}

/// Fails once.
#[task_consumer(topic = "t", backoff = "1ms", retention = "1h")]
fn quick(_n: u8, ctx: &Context) -> Result<(), &'static str> {
    ctx.log(format_args!("attempt {}", ctx.attempt()));
    std::thread::sleep(Duration::from_millis(20));
    ctx.log_at(LogLevel::Error, "it's <b>\u{1b}[31m\u{0} \"bad\" 😀\n\tat line 2");
    if ctx.attempt() == 1 { Err("no") } else { Ok(()) }
}

#[task_consumer(topic = "t", backoff = "1ms")]
async fn later(_n: u8, ctx: &Context) -> Result<(), &'static str> {
    quick(0, ctx)
}

#[task_consumer(topic = "t", backoff = "1ms")]
fn with_sqlite(_n: u8, ctx: &Context, _conn: &mut SqliteConnection) -> Result<(), &'static str> {
    quick(0, ctx)
}

#[task_consumer(topic = "t", backoff = "1ms")]
fn with_postgres(_n: u8, ctx: &Context, _conn: &mut PgConnection) -> Result<(), &'static str> {
    quick(0, ctx)
}

#[task_consumer(topic = "t", backoff = "1ms")]
fn with_mysql(_n: u8, ctx: &Context, _conn: &mut MysqlConnection) -> Result<(), &'static str> {
    quick(0, ctx)
}

fn what_handlers_log_is_kept(db: &TestDatabase) {
    let transactional = match db.backend() {
        Backend::Sqlite => with_sqlite::consumer(),
        Backend::Postgres => with_postgres::consumer(),
        Backend::Mysql => with_mysql::consumer(),
    };
    let mut conn = db.connect();
    for consumer in [quick::consumer(), later::consumer(), transactional] {
        let id = produce(&mut conn, "t", &1).expect("produces");
        let before = conn.broker().now().expect("reads");
        run(db, consumer);
        let after = conn.broker().now().expect("reads");
        let bad = "it's <b>\u{fffd}[31m\u{fffd} \"bad\" 😀\n\tat line 2";
        let line = |attempt, level: &str, line: &str| (attempt, level.to_owned(), line.to_owned());
        assert_eq!(
            words(&mut conn, id),
            [
                line(1, "info", "attempt 1"),
                line(1, "error", bad),
                line(2, "info", "attempt 2"),
                line(2, "error", bad)
            ]
        );
        let at: Vec<_> = log(&mut conn, id).iter().map(|line| line.logged_at).collect();
        let leeway = chrono::TimeDelta::milliseconds(5);
        assert!(
            at.is_sorted() && before <= at[0] + leeway && at[3] <= after + leeway,
            "{before} {at:?} {after}"
        );
        assert!(at[1] - at[0] >= chrono::TimeDelta::milliseconds(15), "{at:?}");

        let show = |json: Option<&str>| {
            let mut command = Command::new(taskmq_cli());
            command.args(["show", &id.to_string()]).args(json).env("DATABASE_URL", db.url());
            String::from_utf8(command.output().expect("runs").stdout).expect("text")
        };
        let text = show(None);
        let lines: Vec<&str> =
            text.lines().filter(|l| l.starts_with("log") || l.starts_with("fail")).collect();
        assert_eq!(lines.len(), 5, "{text}");
        assert!(
            lines[0].starts_with("log          attempt 1 at ") && lines[0].ends_with(", info: attempt 1")
        );
        assert!(lines[2].starts_with("failure      attempt 1 at "), "{text}");
        assert!(lines[3].ends_with(", info: attempt 2"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&show(Some("--json"))).expect("JSON");
        assert_eq!(
            (json[0]["log"].as_array().map(Vec::len), &json[0]["log"][1]["line"]),
            (Some(4), &bad.into())
        );
    }
}

#[task_consumer(topic = "t", max_attempts = 1)]
fn talks(_n: u8, ctx: &Context) -> Result<(), &'static str> {
    for number in 0..MAX_LOG_LINES + 50 {
        ctx.log(number);
    }
    ctx.log("é".repeat(MAX_LOG_LINE_BYTES));
    Err("no")
}

fn of_many_lines_the_last_are_kept(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    run(db, talks::consumer());
    let lines: Vec<String> = log(&mut conn, id).into_iter().map(|line| line.line).collect();
    assert_eq!(lines.len(), 1 + MAX_LOG_LINES);
    assert_eq!(lines[..2], ["[51 lines before are not kept]", "51"]);
    let cut = format!("{} [cut]", "é".repeat(MAX_LOG_LINE_BYTES / 2));
    assert_eq!(lines[MAX_LOG_LINES - 1..], [(MAX_LOG_LINES + 49).to_string(), cut]);
}

#[task_consumer(topic = "t", max_attempts = 1, timeout = "100ms")]
fn overtime(database: String, ctx: &Context) {
    ctx.log("early");
    let mut conn = AnyConnection::establish(&database).expect("connects");
    // Until its end is written, which does not wait for it.
    while conn.broker().message(ctx.id()).expect("reads").expect("is there").state != State::Dead {
        std::thread::sleep(Duration::from_millis(5));
    }
    ctx.log("late");
}

fn a_late_line_is_not_kept(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", db.url()).expect("produces");
    run(db, overtime::consumer());
    assert_eq!(conn.broker().message(id).expect("reads").expect("is there").state, State::Dead);
    assert_eq!(words(&mut conn, id), [(1, "info".to_owned(), "early".to_owned())]);
}

#[task_consumer(topic = "t", backoff = "1ms", retention = "0s")]
fn forgotten(_n: u8, ctx: &Context) -> Result<(), &'static str> {
    quick(0, ctx)
}

fn lines_go_with_their_message(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    run(db, forgotten::consumer());
    assert!(conn.broker().message(id).expect("reads").is_none());
    assert!(log(&mut conn, id).is_empty(), "of one that is not kept");

    let [purged, deleted, kept] = [1, 2, 3].map(|n| produce(&mut conn, "t", &n).expect("produces"));
    run(db, quick::consumer());
    db.execute(&format!("UPDATE taskmq_archive SET finished_at = '2020-01-01 00:00:00' WHERE id = {purged}"));
    assert_eq!(conn.broker().purge(10).expect("purges"), 1);
    conn.broker().change(&Action::Delete, &[deleted], Noted::No).expect("deletes");
    assert!(log(&mut conn, purged).is_empty() && log(&mut conn, deleted).is_empty());
    assert_eq!(log(&mut conn, kept).len(), 4);

    // One that waits for its second attempt.
    let id = produce(&mut conn, "t", &1).expect("produces");
    let w = worker(&mut conn, 1);
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    let failed = Outcome::Retry { delay: Duration::from_secs(9), kind: "error", error: "no".to_owned() };
    let failed = logging(end(&claimed, failed), &["a"]);
    assert!(conn.broker().settle(&w, &[failed]).expect("settles").is_empty());
    assert_eq!(log(&mut conn, id).len(), 1);
    conn.broker().change(&Action::Delete, &[id], Noted::No).expect("deletes");
    assert!(log(&mut conn, id).is_empty());
}

fn lines_of_a_batch_are_kept(db: &TestDatabase) {
    let mut conn = db.connect();
    for n in 0..4 {
        produce(&mut conn, "t", &n).expect("produces");
    }
    let w = worker(&mut conn, 1);
    let claimed = claim_batch(conn.broker(), &w, 4);
    let failed = Outcome::Retry { delay: Duration::from_secs(9), kind: "error", error: "no".to_owned() };
    let not_kept = Outcome::Done { result: None, retention: Retention::None };
    // Together more than one statement has.
    let long = "x".repeat(30_000);
    let lines = vec![&*long; 50];
    let ends = [
        logging(done(&claimed[0]), &lines),
        logging(end(&claimed[1], failed), &["failed", "again"]),
        logging(end(&claimed[2], not_kept), &["not kept"]),
        logging(end(&claimed[3], Outcome::HandBack), &["begins anew"]),
    ];
    assert!(conn.broker().settle(&w, &ends).expect("settles").is_empty());
    let mut lines =
        |at: usize| log(&mut conn, claimed[at].id).into_iter().map(|l| l.line).collect::<Vec<_>>();
    assert_eq!(lines(0), vec![long; 50]);
    assert_eq!(lines(1), ["failed", "again"]);
    assert!(lines(2).is_empty() && lines(3).is_empty());
}

fn without_a_lease_no_line_is_written(db: &TestDatabase) {
    let mut conn = db.connect();
    let id = produce(&mut conn, "t", &1).expect("produces");
    let (stalled, fresh) = (worker(&mut conn, 1), worker(&mut conn, 2));
    let old = claim(conn.broker(), &stalled, &["t"], 1).remove(0);
    let peer = Peer { id: 1, beat: Some(0), lock_free: Some(true) };
    conn.broker().rescue(&peer).expect("rescues");
    let new = conn.broker().claim_suspects(fresh.id, &["t"], 1).expect("claims").remove(0);
    for outcome in [
        Outcome::Done { result: None, retention: Retention::Forever },
        Outcome::Retry { delay: Duration::ZERO, kind: "error", error: "late".to_owned() },
        Outcome::Dead { kind: Some("error"), error: "late".to_owned() },
    ] {
        let late = logging(end(&old, outcome), &["late"]);
        assert_eq!(conn.broker().settle(&stalled, &[late]).expect("settles"), [id]);
    }
    assert!(log(&mut conn, id).is_empty());
    // The second time, as after a reply that was lost, nothing is written again.
    for _ in 0..2 {
        let settled = logging(done(&new), &["in time"]);
        assert!(conn.broker().settle(&fresh, &[settled]).expect("settles").is_empty());
    }
    assert_eq!(words(&mut conn, id), [(new.attempt, "info".to_owned(), "in time".to_owned())]);
}
