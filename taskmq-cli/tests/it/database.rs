//! The commands that need a database, on SQLite.

use std::fs::{self, File};
use std::process::Command;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use taskmq_core::{BrokerConnection, State};

use crate::host::{Host, MAIN, MANIFEST};

/// A project whose tables are there.
pub(crate) fn migrated() -> Host {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN, (".env", "DATABASE_URL=app.db\n")]);
    host.init(&[]);
    assert!(host.run(&["migrate"]).status.success());
    host
}

pub(crate) fn execute(host: &Host, sql: &str) {
    let mut conn = SqliteConnection::establish(&host.path("app.db").display().to_string()).expect("connects");
    conn.batch_execute(sql).expect("is executed");
}

/// Enters a worker, which lives as long as its file is locked.
fn enter_worker(host: &Host) -> File {
    execute(
        host,
        "INSERT INTO taskmq_workers (id, host, pid, version, topics, concurrency, memory_bytes) VALUES (5, 'h', 7, '0', 'mail,typo', 1, 4096)",
    );
    let file = File::create(host.path("app.db-taskmq-0000000000000005.lock")).expect("a file");
    file.lock().expect("locks");
    file
}

#[test]
fn messages_are_produced_and_looked_at() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN, (".env", "DATABASE_URL=app.db\n")]);
    let (fails, json) =
        (|args: &[&str], words: &str| host.fails(args, words), |args: &[&str]| host.json(args));
    fails(&["topics"], "diesel migration run");
    fails(&["migrate"], "taskmq-cli init");
    host.init(&[]);
    assert!(host.run(&["migrate"]).status.success());
    assert!(String::from_utf8_lossy(&host.run(&["migrate"]).stdout).contains("nothing to do"));
    fails(&["produce", "yace", "{url: 1}"], "line 1 column 2");
    fails(&["produce", "two words", "1"], "two words");
    fails(&["show", "1"], "none of this id");
    fails(&["retry", "1"], "none of this id");
    assert_eq!(json(&["topics", "--json"]), serde_json::json!([]));
    let produced = json(&[
        "produce",
        "yace",
        "{\"b\": 1, \"a\": \"\\u001b[31m\"}",
        "--priority",
        "-3",
        "--header",
        "k=v",
        "--json",
    ]);
    assert_eq!(
        (&produced[0]["id"], &produced[0]["priority"], &produced[0]["state"]),
        (&1.into(), &(-3).into(), &"ready".into())
    );
    host.run(&["produce", "yace", "2", "--delay", "1h"]);
    let listed = json(&["messages", "--topic", "yace", "--json"]);
    assert_eq!(
        listed.as_array().expect("an array").iter().map(|m| m["state"].as_str()).collect::<Vec<_>>(),
        [Some("scheduled"), Some("ready")]
    );
    assert_eq!(json(&["messages", "--state", "scheduled", "--json"])[0]["payload"], 2);
    let text = host.run(&["show", "1"]).stdout;
    assert!(!text.contains(&0x1b), "no escape sequence reaches the terminal");
    assert_eq!(json(&["retry", "2", "--json"])[0]["changed"], serde_json::json!([2]));
    assert_eq!(json(&["show", "2", "--json"])[0]["state"], "ready");
    fs::write(host.path("bad.jsonl"), "1\n\n{oops\n").expect("a file");
    fails(&["produce", "many", "--file", "bad.jsonl"], "bad.jsonl line 3");
    assert_eq!(json(&["messages", "--topic", "many", "--json"]), serde_json::json!([]), "none of them");
    let lines: String = (0..2500).map(|n| format!("{n}\n")).collect();
    fs::write(host.path("good.jsonl"), lines).expect("a file");
    assert!(host.run(&["produce", "many", "--file", "good.jsonl"]).status.success());
    assert_eq!(json(&["topics", "--json"])[0]["ready"], 2500);
}

#[test]
fn nothing_in_a_message_reaches_the_terminal_as_a_command() {
    let host = migrated();
    execute(
        &host,
        "PRAGMA ignore_check_constraints = 1;
         INSERT INTO taskmq_messages (topic, payload) VALUES ('a' || char(27) || '[2J', '\"' || char(155) || '31m' || char(8238) || '\"')",
    );
    for args in
        [&["topics"][..], &["messages"], &["show", "1"], &["topics", "--json"], &["messages", "--json"]]
    {
        let text = String::from_utf8(host.run(args).stdout).expect("text");
        assert!(text.contains("[2J"), "{text}");
        assert!(
            !text.contains(|c: char| c.is_control() && c != '\n' || c == '\u{202e}'),
            "{args:?}: {text:?}"
        );
    }
    assert_eq!(host.json(&["messages", "--json"])[0]["payload"], "\u{9b}31m\u{202e}");
}

#[test]
fn a_payload_is_printed_as_it_was_written() {
    let host = migrated();
    let deep = format!("{}{}", "[".repeat(500), "]".repeat(500));
    execute(&host, &format!("INSERT INTO taskmq_messages (topic, payload) VALUES ('t', '{deep}')"));
    for (id, payload) in [(2, "1e400"), (3, "{\"b\":123456789012345678901234567890,  \"a\":-0.0}")] {
        host.run(&["produce", "t", payload]);
        for args in [&["messages", "--json"][..], &["show", &id.to_string(), "--json"]] {
            let out = String::from_utf8(host.run(args).stdout).expect("text");
            assert!(out.contains(&format!("\"payload\": {payload}")), "{args:?}: {out}");
        }
    }
    let out = String::from_utf8(host.run(&["show", "1", "--json"]).stdout).expect("text");
    assert!(out.contains(&deep) && out.contains("\"failures\": []"), "{out}");
    host.fails(&["produce", "t", &deep], "nested deeper than 31 levels");
    host.fails(&["produce", "t", "\"\\ud800\""], "half of a surrogate pair");
}

#[test]
fn a_topic_that_no_worker_consumes_is_seen() {
    let host = migrated();
    host.run(&["produce", "tpyo", "1"]);
    let said = String::from_utf8(host.run(&["topics"]).stdout).expect("text");
    assert!(said.contains("no worker is running"), "{said}");
    let worker = enter_worker(&host);
    let said = String::from_utf8(host.run(&["topics"]).stdout).expect("text");
    assert!(said.contains("no running worker consumes tpyo"), "{said}");
    let warned = |topic| String::from_utf8(host.run(&["produce", topic, "1"]).stderr).expect("text");
    assert_eq!(warned("tpyo"), "note: no running worker consumes tpyo; they consume mail, typo\n");
    assert_eq!(warned("mail"), "");
    let topics = host.json(&["topics", "--json"]);
    assert_eq!((&topics[0]["workers"], &topics[1]["workers"]), (&1.into(), &0.into()), "{topics}");
    // Dead, it consumes nothing.
    worker.unlock().expect("unlocks");
    let said = String::from_utf8(host.run(&["topics"]).stdout).expect("text");
    assert!(said.contains("no worker is running"), "{said}");
    assert_eq!(warned("tpyo"), "");
    let topics = host.json(&["topics", "--json"]);
    assert_eq!((&topics[0]["workers"], &topics[1]["workers"]), (&0.into(), &0.into()), "{topics}");
}

#[test]
fn tables_of_another_version_are_refused() {
    let host = migrated();
    execute(&host, "INSERT INTO taskmq_schema (version) VALUES (99)");
    host.fails(&["topics"], "schema version 99");
    host.fails(&["produce", "x", "1"], "schema version 99");
}

#[test]
fn mistakes_are_explained() {
    let host = migrated();
    host.fails(&["produce", "x", "hello"], "a text is written with double quotes");
    host.fails(&["produce", "x", " "], "it is empty");
    fs::write(host.path("bytes"), [b'1', b'\n', 0xff]).expect("a file");
    host.fails(
        &["produce", "x", "--file", "bytes"],
        "bytes line 2 is no JSON: it is no UTF-8 text; nothing was produced",
    );
    host.fails(&["produce", "x", "--file", "nowhere"], "nowhere: ");
    for url in
        ["", "host=h password=s3cret", "postgres:/u:s3cret@h", "mysql//u:s3cret@h", "oracle://u:s3cret@h/x"]
    {
        for command in ["topics", "migrate"] {
            let out = Command::new(env!("CARGO_BIN_EXE_taskmq-cli"))
                .arg(command)
                .current_dir(host.path(""))
                .env("DATABASE_URL", url)
                .output()
                .expect("runs");
            let said = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(!out.status.success() && !said.contains("s3cret"), "{url}: {said}");
        }
    }
    assert_eq!(host.json(&["messages", "--json"]), serde_json::json!([]));
}

#[test]
fn a_database_may_be_named_by_a_uri() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN, (".env", "DATABASE_URL=file:data.db?mode=rwc\n")]);
    host.init(&[]);
    let migrated = host.run(&["migrate"]);
    assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
    assert!(host.run(&["produce", "x", "1"]).status.success());
    assert_eq!(host.json(&["topics", "--json"])[0]["ready"], 1);
    let locks: Vec<String> = host.tree().into_keys().filter(|name| name.contains("-taskmq-")).collect();
    assert_eq!(locks, ["data.db-taskmq-migrate.lock"]);
}

#[test]
fn numbers_are_shown_as_they_were_written() {
    let host = migrated();
    let payload = r#"{"price": 1.50, "id": 12345678901234567890123}"#;
    host.run(&["produce", "x", payload]);
    host.run(&["schedules", "add", "daily", "@daily", "x", payload]);
    for args in [&["show", "1"][..], &["show", "1", "--json"], &["schedules"], &["schedules", "--json"]] {
        let said = String::from_utf8(host.run(args).stdout).expect("text");
        assert!(said.contains("1.50") && said.contains("12345678901234567890123"), "{args:?}: {said}");
    }
}

#[test]
fn nobody_has_to_read_to_the_end() {
    let host = migrated();
    let lines: String = (0..5000).map(|n| format!("{n}\n")).collect();
    fs::write(host.path("lines"), lines).expect("a file");
    host.run(&["produce", "x", "--file", "lines"]);
    for args in [&["messages", "--limit", "5000"][..], &["messages", "--limit", "5000", "--json"]] {
        let mut child = host.start(args);
        drop(child.stdout.take());
        let out = child.wait_with_output().expect("ends");
        assert!(out.status.success() && out.stderr.is_empty(), "{}", String::from_utf8_lossy(&out.stderr));
    }
}

#[test]
fn many_messages_are_changed_at_once() {
    let host = migrated();
    let lines: String = (0..1200).map(|n| format!("{n}\n")).collect();
    fs::write(host.path("many.jsonl"), lines).expect("a file");
    host.run(&["produce", "many", "--file", "many.jsonl", "--delay", "1h"]);
    host.run(&["produce", "few", "1", "--delay", "1h"]);
    let all = |command: &'static str, state: &'static str| [command, "--state", state, "--topic", "many"];
    let count = |command, state| {
        host.json(&[&all(command, state)[..], &["--dry-run", "--json"]].concat())[0]["messages"].clone()
    };
    assert_eq!(count("cancel", "scheduled"), 1200);
    host.fails(&all("cancel", "scheduled"), "cancel 1200 messages: say --yes");
    assert_eq!(count("cancel", "scheduled"), 1200, "none is changed without leave");
    let change = |command, state| {
        let out = host.run(&[&all(command, state)[..], &["--yes"]].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    };
    assert_eq!(change("cancel", "scheduled"), "cancelled 1200 messages\n");
    assert_eq!(change("cancel", "scheduled"), "there are no such messages\n");
    assert_eq!(change("retry", "cancelled"), "live again: 1200 messages\n");
    assert_eq!(change("retry", "scheduled"), "made due: 1200 messages\n");
    assert_eq!(change("delete", "ready"), "deleted 1200 messages\n");
    assert_eq!(host.json(&["messages", "--json"])[0]["topic"], "few", "another topic's is left");
    host.fails(&["delete", "--state", "running", "--yes"], "running");
    host.fails(&["retry", "--state", "done", "--yes"], "produce it again");
    let mut conn = SqliteConnection::establish(&host.path("app.db").display().to_string()).expect("connects");
    conn.batch_execute(
        "CREATE TEMP TABLE checked (n CHECK (n = '1200,1200,1200,1200'));
         INSERT INTO checked SELECT group_concat(messages) FROM taskmq_audit",
    )
    .expect("each is written down");
}

#[cfg(unix)]
#[test]
fn a_change_of_many_says_how_far_it_was_when_it_is_interrupted() {
    const ALL: usize = 200_000;
    let host = migrated();
    let lines: String = (0..ALL).map(|n| format!("{n}\n")).collect();
    fs::write(host.path("many.jsonl"), lines).expect("a file");
    assert!(host.run(&["produce", "many", "--file", "many.jsonl", "--delay", "1h"]).status.success());
    let change = host.start(&["cancel", "--state", "scheduled", "--yes"]);
    let mut conn = SqliteConnection::establish(&host.path("app.db").display().to_string()).expect("connects");
    let cancelled = |conn: &mut SqliteConnection| -> usize {
        let counted = conn.broker().count_finished(State::Cancelled, i64::MAX).expect("counts");
        counted.iter().map(|(_, number)| usize::try_from(*number).expect("a number")).sum()
    };
    let began = Instant::now();
    while cancelled(&mut conn) == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "nothing is cancelled");
    }
    let sent = Command::new("kill").args(["-INT", &change.id().to_string()]).status().expect("kills");
    assert!(sent.success());
    let out = change.wait_with_output().expect("ends");
    let done = cancelled(&mut conn);
    assert!(done < ALL);
    assert_eq!(String::from_utf8_lossy(&out.stdout), format!("cancelled {done} messages\n"));
    let said = format!("interrupted after {done} of {ALL} messages: the rest is as it was");
    assert!(String::from_utf8_lossy(&out.stderr).contains(&said), "{}", String::from_utf8_lossy(&out.stderr));
    assert_eq!(out.status.code(), Some(130));
    let note = conn.broker().notes(i64::MAX, 1).expect("reads").remove(0);
    assert_eq!(usize::try_from(note.messages).expect("a number"), done, "all of it is noted");
}

#[test]
fn workers_are_listed() {
    let host = migrated();
    assert!(String::from_utf8_lossy(&host.run(&["workers"]).stdout).contains("no worker is running"));
    let worker = enter_worker(&host);
    execute(&host, "INSERT INTO taskmq_messages (topic, payload, worker_id) VALUES ('mail', '1', 5)");
    let workers = host.json(&["workers", "--json"]);
    assert_eq!((&workers[0]["pid"], &workers[0]["holds"]), (&7.into(), &1.into()), "{workers}");
    assert_eq!((&workers[0]["alive"], &workers[0]["memory_bytes"]), (&true.into(), &4096.into()));
    let listed = || String::from_utf8(host.run(&["workers"]).stdout).expect("text");
    let text = listed();
    assert!(text.contains("HOST") && text.contains("1      alive  mail, typo"), "{text}");
    worker.unlock().expect("unlocks");
    assert_eq!(host.json(&["workers", "--json"])[0]["alive"], false);
    let text = listed();
    assert!(text.contains("1      not alive  mail, typo") && text.contains("no worker is running"), "{text}");
    let told = host.run(&["workers", "drain", "h:7"]);
    assert!(told.status.success() && String::from_utf8_lossy(&told.stderr).contains("it is not alive"));
}

#[test]
fn a_wrong_line_of_env_is_said_and_not_shown() {
    let host = migrated();
    for line in ["PASSWORD=s3cret word", "s3cret", "=s3cret", "A='s3cret", "A=\"s3cret\\q\""] {
        fs::write(host.path(".env"), format!("DATABASE_URL=app.db\n{line}\n")).expect("a file");
        let out = host.run(&["topics"]);
        let said = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(out.status.success(), "{line}: {said}");
        assert!(said.contains("note: .env is not read beyond") && !said.contains("s3cret"), "{line}: {said}");
    }
}
