//! What operators do, on SQLite.

use std::fs;

use taskmq_core::{AnyConnection, BrokerConnection, NewMessage, Workflow};

use crate::database::{execute, migrated};

fn connect(host: &crate::host::Host) -> AnyConnection {
    AnyConnection::establish(&host.path("app.db").display().to_string()).expect("connects")
}

fn said(host: &crate::host::Host, args: &[&str]) -> String {
    let out = host.run(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn a_topic_is_paused_and_resumed() {
    let host = migrated();
    host.run(&["produce", "mail", "1"]);
    assert_eq!(
        said(&host, &["pause", "mail"]),
        "mail paused: what runs is finished, nothing more is begun\n"
    );
    assert_eq!(said(&host, &["pause", "mail"]), "mail was paused already\n");
    assert_eq!(host.json(&["pause", "mail", "--json"])[0]["changed"], false);
    let note = String::from_utf8(host.run(&["pause", "tpyo"]).stderr).expect("text");
    assert_eq!(note, "note: tpyo has no messages and no worker\n");
    host.fails(&["pause", "two words"], "two words");
    let text = said(&host, &["topics"]);
    assert!(text.contains("mail is paused since") && text.contains("by taskmq-cli"), "{text}");
    let topics = host.json(&["topics", "--json"]);
    let actor = topics[0]["paused"]["actor"].as_str();
    assert!(actor.is_some_and(|actor| actor.starts_with("taskmq-cli")), "{topics}");
    assert_eq!((&topics[1]["topic"], &topics[1]["ready"]), (&"tpyo".into(), &0.into()), "{topics}");
    assert_eq!(said(&host, &["resume", "mail"]), "mail resumed\n");
    assert_eq!(said(&host, &["resume", "mail"]), "mail was not paused\n");
    assert!(host.json(&["topics", "--json"])[0]["paused"].is_null());
}

#[test]
fn a_topic_is_limited_over_all_workers() {
    let host = migrated();
    host.run(&["produce", "mail", "1"]);
    assert_eq!(said(&host, &["limits"]), "no topic has a limit\n");
    assert_eq!(
        said(&host, &["limit", "mail", "--running", "5", "--rate", "100/1m"]),
        "mail is limited over all workers: 5 at once, 100/1m\n"
    );
    assert_eq!(
        said(&host, &["limit", "mail", "--running", "5", "--rate", "100/m"]),
        "mail had this limit already: 5 at once, 100/1m\n"
    );
    let note = String::from_utf8(host.run(&["limit", "tpyo", "--rate", "1/90s"]).stderr).expect("text");
    assert_eq!(note, "note: tpyo has no messages and no worker\n");
    let limits = host.json(&["limits", "--json"]);
    assert_eq!(
        (&limits[0]["topic"], &limits[0]["running"], &limits[0]["rate"]),
        (&"mail".into(), &5.into(), &"100/1m".into())
    );
    assert_eq!(
        (&limits[1]["running"], &limits[1]["rate"], &limits[1]["begun"]),
        (&().into(), &"1/90s".into(), &0.into())
    );
    let text = said(&host, &["limits"]);
    assert!(text.contains("AT ONCE") && text.contains("100/1m") && text.contains("taskmq-cli"), "{text}");
    let text = said(&host, &["topics"]);
    assert!(text.contains("mail is limited over all workers: 5 at once, 100/1m; 0 run now"), "{text}");
    assert_eq!(host.json(&["topics", "--json"])[0]["limit"]["running"], 5);
    let unclear: [&[&str]; 6] = [
        &["limit", "mail"],
        &["limit", "mail", "--none", "--running", "1"],
        &["limit", "mail", "--rate", "5"],
        &["limit", "mail", "--running", "0"],
        &["limit", "mail", "--rate", "1/2d"],
        &["limit", "two words", "--running", "1"],
    ];
    for args in unclear {
        assert_eq!(host.run(args).status.code(), Some(2), "{args:?}");
    }
    assert_eq!(said(&host, &["limit", "mail", "--none"]), "mail has no limit any more\n");
    assert_eq!(said(&host, &["limit", "mail", "--none"]), "mail had no limit\n");
    assert_eq!(host.json(&["limit", "tpyo", "--none", "--json"])[0]["changed"], true);
    assert!(host.json(&["topics", "--json"])[0]["limit"].is_null());
}

#[test]
fn the_worker_of_a_running_message_is_asked_to_end_it() {
    let host = migrated();
    host.run(&["produce", "mail", "1"]);
    host.run(&["produce", "mail", "2"]);
    execute(&host, "UPDATE taskmq_messages SET worker_id = 7, claimed_at = run_at WHERE id = 1");
    assert_eq!(
        said(&host, &["cancel", "1", "2", "--yes"]),
        "cancelled 1 message\nasked the workers of 1 message to end what runs\n"
    );
    let text = said(&host, &["show", "1"]);
    assert!(text.contains("to end       its worker was asked at 20"), "{text}");
    assert!(host.json(&["show", "1", "--json"])[0]["cancel_asked_at"].is_string());
    assert!(host.json(&["show", "2", "--json"])[0]["cancel_asked_at"].is_null());
    let all = host.json(&["cancel", "--state", "running", "--yes", "--json"]);
    assert_eq!((&all[0]["asked"][0], &all[0]["changed"]), (&1.into(), &serde_json::json!([])), "{all}");
    assert_eq!(said(&host, &["delete", "2"]), "deleted 1 message\n");
    host.fails(&["delete", "1"], "message 1: it is running");
}

#[test]
fn workflows_are_listed_shown_retried_and_cancelled() {
    let host = migrated();
    assert_eq!(said(&host, &["workflows"]), "there are no such workflows\n");
    let mut conn = connect(&host);
    let message = |payload: &str| NewMessage::new("mail".to_owned(), payload);
    let workflow = Workflow::new("a \u{1b}[2J name").step("first", message("1"), &[]);
    let id = workflow.step("second", message("2"), &["first"]).produce(&mut conn).expect("produces");
    let listed = said(&host, &["workflows", "--state", "running"]);
    assert!(listed.contains("0 of 2") && listed.contains("a \\u{1b}[2J name"), "{listed}");
    assert_eq!(said(&host, &["workflows", "--state", "done"]), "there are no such workflows\n");
    let shown = said(&host, &["workflows", "show", "1"]);
    assert!(shown.contains("running, 0 of 2 steps done") && shown.contains("waiting"), "{shown}");
    let json = host.json(&["workflows", "show", "1", "--json"]);
    assert_eq!(
        (&json[0]["id"], &json[0]["state"], &json[0]["stuck"]),
        (&id.into(), &"running".into(), &0.into())
    );
    let steps = &json[0]["all_steps"];
    assert_eq!((&steps[0]["state"], &steps[1]["state"]), (&"ready".into(), &"waiting".into()), "{json}");
    assert_eq!(steps[1]["after"], serde_json::json!([1]));
    let text = said(&host, &["show", "1"]);
    assert!(text.contains("workflow     1\n"), "{text}");
    // A message of it that is cancelled holds it up until it is retried.
    host.fails(&["workflows", "retry", "1"], "no step of it is dead or cancelled");
    said(&host, &["cancel", "1"]);
    assert_eq!(host.json(&["workflows", "--json"])[0]["stuck"], 1);
    assert_eq!(said(&host, &["workflows", "retry", "1"]), "workflow 1 goes on; made due: 1 message\n");
    host.fails(&["workflows", "cancel", "1"], "say --yes");
    let said_so = said(&host, &["workflows", "cancel", "1", "--yes"]);
    assert_eq!(said_so, "workflow 1 is cancelled; taken back: 1 message\n");
    assert_eq!(host.json(&["workflows", "--json"])[0]["state"], "cancelled");
    // Nothing is left to do, so nothing is asked, and nothing is noted.
    let noted = conn.broker().notes(i64::MAX, 100).expect("reads").len();
    let said_so = said(&host, &["workflows", "cancel", "1"]);
    assert_eq!(said_so, "workflow 1 was already cancelled; taken back: 0 messages\n");
    assert_eq!(conn.broker().notes(i64::MAX, 100).expect("reads").len(), noted);
    host.fails(&["workflows", "retry", "1"], "it is cancelled");
    for command in ["show", "retry"] {
        host.fails(&["workflows", command, "7"], "there is none of this id");
    }
    host.fails(&["workflows", "cancel", "7", "--yes"], "there is none of this id");
    assert_eq!(host.run(&["workflows", "--state", "dead"]).status.code(), Some(2));
}

const DEAD: &str = "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, finished_at, worker_id, attempts, crashes, payload, error)
    SELECT value, CASE WHEN value < 700 THEN 'mail' ELSE 'play' END, 'dead', 0, '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000',
    strftime('%Y-%m-%d %H:%M:%f', '2026-01-02', '+' || value || ' seconds'), 0, 3, 0, '1',
    CASE WHEN value % 3 = 0 THEN 'order ' || value || ' was refused' ELSE 'timed out' || char(27) || '[2J' END
    FROM generate_series(1, 1200)";

/// SQLite as it is compiled in has no series.
fn dead(host: &crate::host::Host) {
    let numbers = "(WITH RECURSIVE n (value) AS (SELECT 1 UNION ALL SELECT value + 1 FROM n WHERE value < 1200) SELECT value FROM n)";
    execute(host, &DEAD.replace("generate_series(1, 1200)", numbers));
}

#[test]
fn dead_letters_are_grouped_by_topic_and_error() {
    let host = migrated();
    assert_eq!(said(&host, &["dead"]), "no dead letters\n");
    dead(&host);
    let groups = host.json(&["dead", "--json"]);
    let counts: Vec<_> = groups.as_array().expect("an array").iter().map(|g| g["messages"].clone()).collect();
    assert_eq!(counts, [466, 334, 233, 167]);
    assert_eq!(groups[2]["error"], "order 699 was refused", "that of the newest");
    assert_eq!(groups[2]["ids"].as_array().expect("ids").len(), 233);
    let text = said(&host, &["dead"]);
    assert!(!text.contains('\u{1b}') && text.contains("timed out\\u{1b}[2J"), "{text}");
    assert_eq!(host.json(&["dead", "--topic", "play", "--json"]).as_array().expect("an array").len(), 2);
    let out = host.run(&["dead", "--limit", "5"]);
    assert!(String::from_utf8_lossy(&out.stderr).contains("newest 5"), "there are more");
}

#[test]
fn finished_messages_are_purged_by_state_topic_and_age() {
    let host = migrated();
    dead(&host);
    host.run(&["produce", "mail", "1"]);
    let count = |more: &[&str]| {
        host.json(&[&["purge", "--state", "dead", "--dry-run", "--json"], more].concat())[0]["messages"]
            .clone()
    };
    assert_eq!(count(&[]), 1200);
    assert_eq!(count(&["--topic", "mail"]), 699);
    execute(
        &host,
        "UPDATE taskmq_archive SET finished_at = strftime('%Y-%m-%d %H:%M:%f', 'now') WHERE id > 1000",
    );
    assert_eq!(count(&["--older-than", "1h"]), 1000);
    assert_eq!(host.json(&["purge", "--state", "done,cancelled", "--dry-run", "--json"])[0]["messages"], 0);
    host.fails(&["purge", "--state", "dead"], "delete 1200 messages: say --yes");
    host.fails(&["purge", "--state", "ready", "--yes"], "not finished");
    host.fails(&["purge", "--yes"], "--state");
    let text = said(&host, &["purge", "--state", "dead", "--older-than", "1h", "--yes"]);
    assert_eq!(text, "deleted 1000 messages\n");
    assert_eq!((count(&[]), host.json(&["topics", "--json"])[0]["ready"].clone()), (200.into(), 1.into()));
    assert_eq!(host.json(&["purge", "--state", "dead", "--yes", "--json"])[0]["deleted"], 200);
    assert_eq!(said(&host, &["purge", "--state", "dead", "--yes"]), "there are no such messages\n");
}

#[test]
fn messages_that_are_named_are_asked_about_and_changed_page_by_page() {
    let host = migrated();
    dead(&host);
    let ids: Vec<String> = (1..=1200).map(|id| id.to_string()).collect();
    let named = |command: &'static str, ids: &[String], more: &[&'static str]| {
        let ids = ids.iter().map(|id| &**id);
        host.run(&std::iter::once(command).chain(ids).chain(more.iter().copied()).collect::<Vec<_>>())
    };
    for command in ["delete", "cancel"] {
        let out = named(command, &ids, &[]);
        let text = String::from_utf8_lossy(&out.stderr);
        assert!(text.contains(&format!("this would {command} 1200 messages: say --yes")), "{text}");
        assert_eq!(out.status.code(), Some(2));
    }
    // Nothing is lost by that.
    let text = |out: &std::process::Output| String::from_utf8_lossy(&out.stdout).into_owned();
    assert_eq!(text(&named("retry", &ids[..600], &[])), "retried 600 messages\n");
    assert_eq!(text(&named("delete", &ids[..1], &[])), "deleted 1 message\n");
    // Named twice, and one that is not there any more.
    let out = named("delete", &[&ids[..], &ids[..]].concat(), &["--yes"]);
    assert_eq!((text(&out), out.status.code()), ("deleted 1199 messages\n".to_owned(), Some(1)));
    assert_eq!(host.json(&["delete", "1", "1", "2", "--dry-run", "--json"])[0]["messages"], 2);
    let notes = connect(&host).broker().notes(i64::MAX, 100).expect("reads");
    let notes: Vec<_> =
        notes.iter().rev().map(|note| (&*note.action, note.message_id, note.messages)).collect();
    let pages = [("delete", None, 499), ("delete", None, 500), ("delete", None, 200)];
    let before = [("retry", None, 500), ("retry", None, 100), ("delete", Some(1), 1)];
    assert_eq!(notes, [before, pages].concat());
}

#[test]
fn a_change_of_many_that_fails_says_what_it_did_before() {
    let ids: Vec<String> = (1..=1200).map(|id| id.to_string()).collect();
    let named: Vec<&str> = std::iter::once("delete").chain(ids.iter().map(|id| &**id)).collect();
    for command in [&named[..], &["delete", "--state", "dead"], &["purge", "--state", "dead"]] {
        let host = migrated();
        dead(&host);
        // One of the second page.
        execute(
            &host,
            "CREATE TRIGGER no BEFORE DELETE ON taskmq_archive WHEN old.id = 600 BEGIN SELECT RAISE(ABORT, 'no more'); END",
        );
        let run = |more: &[&str]| {
            let out = host.run(&[command, &["--yes"], more].concat());
            let error = String::from_utf8_lossy(&out.stderr).into_owned();
            assert!(out.status.code() == Some(1) && error.contains("no more"), "{command:?}: {error}");
            String::from_utf8(out.stdout).expect("text")
        };
        assert_eq!(run(&[]), "deleted 500 messages\n", "{command:?}");
        let left = host.json(&["purge", "--state", "dead", "--dry-run", "--json"]);
        assert_eq!(left[0]["messages"], 700, "{command:?}");
        // What was done is told to a program, too, even if it is nothing.
        let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).expect("JSON");
        let nothing = [serde_json::json!(0), serde_json::json!([])];
        let done = if command[0] == "purge" { &json[0]["deleted"] } else { &json[0]["changed"] };
        assert!(nothing.contains(done), "{command:?}: {json}");
    }
}

#[test]
fn messages_are_found_by_key_text_and_time() {
    let host = migrated();
    host.run(&["produce", "mail", "{\"to\": \"Ann\"}", "--unique", "order:7"]);
    host.run(&["produce", "mail", "{\"to\": \"order:7\"}"]);
    host.run(&["produce", "play", "{\"to\": \"Ann\"}"]);
    assert!(!said(&host, &["messages"]).contains("ORDERING KEY"));
    host.run(&["produce", "play", "{\"to\": \"Bob\"}", "--ordering-key", "account 7"]);
    host.run(&["produce", "play", "{\"to\": \"account 7\"}", "--ordering-key", "account 77"]);
    execute(&host, "UPDATE taskmq_messages SET created_at = '2026-01-01 00:00:00.000' WHERE id = 2");
    let found = |args: &[&str]| -> Vec<i64> {
        let messages = host.json(&[&["messages", "--json"], args].concat());
        messages.as_array().expect("an array").iter().map(|m| m["id"].as_i64().expect("an id")).collect()
    };
    assert_eq!(found(&["--key", "order:7"]), [1]);
    assert_eq!(found(&["--ordering-key", "account 7"]), [4]);
    assert_eq!(found(&["--text", "account 7"]), [5, 4]);
    let listed = said(&host, &["messages"]);
    let listed: Vec<&str> =
        listed.lines().filter(|l| l.contains("ORDERING KEY") || l.contains("account 7 ")).collect();
    assert_eq!(
        (listed.len(), listed[0].find("ORDERING KEY")),
        (2, listed[1].find("account 7 ")),
        "{listed:?}"
    );
    assert_eq!(found(&["--text", "order:7"]), [2, 1]);
    assert_eq!(found(&["--text", "Ann", "--topic", "play"]), [3]);
    assert_eq!(found(&["--text", "ann"]), [0_i64; 0]);
    assert_eq!(found(&["--before", "2026-01-02"]), [2]);
    assert_eq!(found(&["--after", "1h"]), [5, 4, 3, 1]);
    assert_eq!(found(&["--after", "1h", "--limit", "1"]), [5]);
    assert_eq!(found(&["--after", "1h", "--state", "dead"]), [0_i64; 0]);
    host.fails(&["messages", "--after", "yesterday"], "2h (two hours ago)");
}

#[test]
fn completions_and_manual_pages_name_every_command() {
    let host = migrated();
    let help = said(&host, &["--help"]);
    let commands: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "Commands:")
        .skip(1)
        .take_while(|line| !line.is_empty())
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    assert!(commands.contains(&"doctor"), "{help}");
    said(&host, &["man", "pages/man1"]);
    for shell in ["bash", "zsh", "fish", "powershell", "elvish"] {
        let script = said(&host, &["completions", shell]);
        assert!(commands.iter().all(|command| script.contains(command)), "{shell}");
    }
    for command in commands.iter().filter(|command| **command != "help") {
        let page = host.read(&format!("pages/man1/taskmq-cli-{command}.1"));
        assert!(page.contains(".SH NAME"), "{page}");
    }
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/cli.md")).expect("a page");
    for command in commands.iter().filter(|command| **command != "help") {
        assert!(page.contains(&format!("`{command}")), "docs/cli.md does not name {command}");
    }
}
