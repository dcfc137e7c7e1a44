//! What others have written reaches no terminal and no log as a command, whichever command shows it.

use std::io::{Read, Write};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use taskmq_core::{Backend, BrokerConnection, NewMessage, Workflow, produce};
use taskmq_tests::databases::{TestDatabase, try_execute};

use crate::hosts::host::taskmq_cli;
use crate::workers::Workers;

each_database! {
    no_command_lets_a_text_through,
    the_live_screen_lets_no_text_through,
    no_line_of_a_log_is_anybody_elses,
}

/// Where a column has ASCII only: sets the clipboard, makes a link, clears the screen, goes back to the line's start.
const ASCII: &str = "evil\u{1b}]52;c;aGFjaw==\u{7}\u{1b}]8;;http://e\u{1b}\\x\u{1b}[2J\rb\ntaskmq c\u{7f}\td";
/// And one byte that begins a sequence, and what turns the direction of writing or begins a line.
const ANY: &str =
    "evil\u{1b}]52;c;aGFjaw==\u{7}\u{1b}[31m\r\n\u{9b}2J\u{85}\u{202e}gnp\u{2066}\u{200f}\u{2028}\u{7f}\td";

/// As SQL, in which no character has to be told from another's.
fn literal(backend: Backend, text: &str) -> String {
    let hex: String = text.bytes().map(|byte| format!("{byte:02x}")).collect();
    match backend {
        Backend::Sqlite => format!("CAST(x'{hex}' AS TEXT)"),
        Backend::Postgres => format!("convert_from(decode('{hex}', 'hex'), 'UTF8')"),
        Backend::Mysql => format!("CONVERT(x'{hex}' USING utf8mb4)"),
    }
}

/// Something of everything, and says how much of it the tables would not take.
fn fill(db: &TestDatabase) -> usize {
    let text = |text: &str| literal(db.backend(), text);
    // In JSON as it is, where JSON has it.
    let json = text(&format!("\"{}\"", "evil\u{9b}2J\u{202e}\u{7f}\u{2028} \\u001b[2J"));
    let white = text("{\"a\":\r1,\r\n\t\"b\": 2}");
    let (ascii, any) = (text(ASCII), text(ANY));
    let now = "CURRENT_TIMESTAMP";
    let mut conn = db.connect();
    NewMessage::new("t", ANY)
        .unique(format!("{ANY}."))
        .header(ANY, ANY)
        .produce(&mut conn)
        .expect("produces");
    let statements = [
        format!("INSERT INTO taskmq_messages (topic, payload) VALUES ('t', {json}), ('t', {white})"),
        format!(
            "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, worker_id, attempts, crashes, unique_key, headers, payload, result, error)
             VALUES (900, {ascii}, 'dead', 0, {now}, {now}, 0, 1, 0, {any}, {json}, {json}, {json}, {any}),
                    (901, 't', 'done', 0, {now}, {now}, 0, 1, 0, NULL, NULL, {white}, {white}, NULL)"
        ),
        format!("INSERT INTO taskmq_failures (message_id, attempt, kind, error, worker) VALUES (900, 1, 'error', {any}, {any})"),
        format!("INSERT INTO taskmq_logs (message_id, attempt, logged_at, level, line) VALUES (900, 1, {now}, 'info', {any})"),
        format!("INSERT INTO taskmq_workers (id, host, pid, version, topics, concurrency) VALUES (5, {any}, 1, {ascii}, {any}, 1)"),
        format!("INSERT INTO taskmq_paused (topic, actor) VALUES ({ascii}, {any})"),
        format!("INSERT INTO taskmq_limits (topic, running, actor) VALUES ('t', 2, {any})"),
        format!("INSERT INTO taskmq_schedules (name, cron, time_zone, topic, payload) VALUES ({ascii}, {ascii}, 'UTC', 't', '1')"),
        format!("INSERT INTO taskmq_schedules (name, cron, topic, unique_key, payload) VALUES ('odd', '@daily', {ascii}, {any}, {json})"),
        format!("INSERT INTO taskmq_audit (actor, action, topic, details, messages) VALUES ({any}, 'x', {ascii}, {any}, 1)"),
    ];
    let refused = statements.iter().filter(|sql| try_execute(&mut conn, sql).is_err()).count();
    let workflow = Workflow::new(ANY).step(ANY, NewMessage::new("t", &1), &[]);
    workflow.produce(&mut conn).expect("produces");
    refused
}

const COMMANDS: [&[&str]; 19] = [
    &["topics"],
    &["messages"],
    &["messages", "--state", "dead"],
    &["messages", "--text", "evil"],
    &["show", "1"],
    &["show", "2"],
    &["show", "3"],
    &["show", "900"],
    &["show", "901"],
    &["dead"],
    &["workers"],
    &["schedules"],
    &["limits"],
    &["workflows"],
    &["workflows", "show", "1"],
    &["doctor"],
    &["produce", "t", "1"],
    &["retry", "900"],
    &["purge", "--state", "done", "--dry-run"],
];

/// Everything that is no text, but for the ends of lines.
fn commands_in(text: &str) -> String {
    text.chars().filter(|c| *c != '\n' && !taskmq_core::limits::is_printable(*c)).collect()
}

fn ran(out: &Output, args: &[&str]) -> (String, String) {
    // The doctor finds much that is wrong, and errors are texts too.
    assert!(matches!(out.status.code(), Some(0..=2)), "{args:?}: {out:?}");
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap_or_else(|e| panic!("{args:?}: {e}"));
    (text(&out.stdout), text(&out.stderr))
}

fn no_command_lets_a_text_through(db: &TestDatabase) {
    assert!(fill(db) <= 3, "what is to be shown has to be there");
    let mut seen = 0;
    for args in COMMANDS {
        let out = Command::new(taskmq_cli()).args(args).env("DATABASE_URL", db.url()).output().expect("runs");
        let (said, complained) = ran(&out, args);
        for text in [&said, &complained] {
            assert_eq!(commands_in(text), "", "{args:?}: {text:?}");
        }
        seen += usize::from(said.contains("evil") || complained.contains("evil"));
        // On a terminal, where tables are cut.
        let command = format!("'{}' {}", taskmq_cli().display(), args.join(" "));
        let out = Command::new("script")
            .args(["--quiet", "--return", "--command", &command, "/dev/null"])
            .env("DATABASE_URL", db.url())
            .stdin(Stdio::null())
            .output()
            .expect("runs");
        let shown = String::from_utf8_lossy(&out.stdout).replace("\r\n", "\n");
        assert_eq!(commands_in(&shown), "", "{args:?} on a terminal: {shown:?}");
        let args = [args, &["--json"]].concat();
        let out =
            Command::new(taskmq_cli()).args(&args).env("DATABASE_URL", db.url()).output().expect("runs");
        let (said, complained) = ran(&out, &args);
        // White space between values is as it was written.
        let left = commands_in(&said);
        assert!(left.chars().all(|c| c == '\t') && commands_in(&complained).is_empty(), "{args:?}: {said:?}");
        if out.status.success() || !said.is_empty() {
            let json: serde_json::Value =
                serde_json::from_str(&said).unwrap_or_else(|e| panic!("{args:?}: {e}: {said}"));
            assert!(json.is_array(), "{args:?}");
        }
    }
    assert!(seen >= 9, "{seen} commands showed one");
    let json =
        Command::new(taskmq_cli()).args(["show", "1", "--json"]).env("DATABASE_URL", db.url()).output();
    let json: serde_json::Value = serde_json::from_slice(&json.expect("runs").stdout).expect("JSON");
    assert_eq!((json[0]["payload"].as_str(), json[0]["headers"][ANY].as_str()), (Some(ANY), Some(ANY)));
}

/// It draws with sequences of its own, which are others.
fn the_live_screen_lets_no_text_through(db: &TestDatabase) {
    fill(db);
    let command = format!("stty rows 40 cols 160; exec '{}' watch", taskmq_cli().display());
    let mut child = Command::new("timeout")
        .args(["30", "script", "--quiet", "--return", "--command", &command, "/dev/null"])
        .env("DATABASE_URL", db.url())
        .env("TERM", "xterm")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("starts");
    let (mut keyboard, mut output) =
        (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
    let (mut shown, mut bytes, mut typed) = (Vec::new(), [0; 4096], false);
    loop {
        let read = output.read(&mut bytes).expect("reads");
        if read == 0 {
            break;
        }
        shown.extend_from_slice(&bytes[..read]);
        // What is typed before it listens is lost.
        if !typed && String::from_utf8_lossy(&shown).contains("quit") {
            // All there is of the first of each list, and out.
            keyboard.write_all(b"\rq\t\rq\t\rqq").expect("is typed");
            typed = true;
        }
    }
    assert!(child.wait().expect("ends").success());
    let shown = String::from_utf8_lossy(&shown);
    assert!(shown.contains("evil") && !shown.contains("cannot look"), "{shown:?}");
    for sequence in ["\u{1b}]", "\u{7}", "\u{9b}", "\u{85}", "\u{202e}", "\u{2066}", "\u{200f}", "\u{2028}"] {
        assert!(!shown.contains(sequence), "{sequence:?} in {shown:?}");
    }
}

fn no_line_of_a_log_is_anybody_elses(db: &TestDatabase) {
    fill(db);
    let mut conn = db.connect();
    for how in ["odd error", "panic"] {
        produce(&mut conn, "ending", how).expect("produces");
    }
    let mut workers = Workers::new(db.url());
    for (args, environment) in [
        (&["--concurrency", "2"][..], &[("RUST_LOG", "debug"), ("RUST_BACKTRACE", "0")][..]),
        (&["--log", "json"], &[("RUST_LOG", "debug"), ("RUST_BACKTRACE", "0")]),
    ] {
        let at = workers.start_with(db.url(), args, environment);
        workers.wait("both are dead", Duration::from_secs(60), || {
            let topics = conn.broker().topics().expect("reads");
            topics.iter().any(|stats| stats.topic == "ending" && stats.dead == 2)
        });
        workers.signal(at, "TERM");
        workers.end_of(at, Duration::from_secs(60));
    }
    let log = workers.log();
    assert_eq!(commands_in(&log), "", "{log:?}");
    for line in log.lines() {
        let is_json = serde_json::from_str::<serde_json::Value>(line).is_ok();
        // The time, or what Rust itself says of a panic.
        let is_ours =
            line.get(..12).is_some_and(|time| time.bytes().filter(|byte| *byte == b':').count() == 2);
        let is_panics = line.is_empty()
            || line.starts_with("thread '")
            || line == "in words"
            || line.starts_with("note: ");
        assert!(is_json || is_ours || is_panics, "{line:?} in {log}");
    }
}
