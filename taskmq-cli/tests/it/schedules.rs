//! `taskmq-cli schedules`, on SQLite.

use serde_json::json;

use crate::host::{Host, MAIN, MANIFEST};

fn migrated() -> Host {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN, (".env", "DATABASE_URL=app.db\n")]);
    host.init(&[]);
    assert!(host.run(&["migrate"]).status.success());
    host
}

fn says(host: &Host, args: &[&str]) -> String {
    let out = host.run(args);
    assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).expect("text")
}

#[test]
fn schedules_are_added_listed_changed_and_removed() {
    let host = migrated();
    assert!(says(&host, &["schedules"]).contains("taskmq-cli schedules add"));
    assert_eq!(host.json(&["schedules", "--json"]), json!([]));
    let add = ["schedules", "add", "morning", "0 7 * * mon-fri", "report", "{\"days\": 1}"];
    let said = says(&host, &[&add[..], &["--time-zone", "Europe/Berlin", "--priority", "-2"]].concat());
    assert!(
        said.starts_with("schedule morning is stored, next 2") && said.contains(" 07:00:00 +0"),
        "{said}"
    );
    let listed = host.json(&["schedules", "--next", "3", "--json"]);
    assert_eq!(listed[0]["name"], "morning");
    assert_eq!(
        (&listed[0]["cron"], &listed[0]["time_zone"]),
        (&json!("0 7 * * mon-fri"), &json!("Europe/Berlin"))
    );
    assert_eq!((&listed[0]["payload"], &listed[0]["priority"]), (&json!({"days": 1}), &json!(-2)));
    assert_eq!((&listed[0]["paused"], &listed[0]["declared"]), (&json!(false), &json!(false)));
    assert_eq!(listed[0]["next"].as_array().map(Vec::len), Some(3));
    let table = says(&host, &["schedules", "--next", "3"]);
    assert_eq!(table.lines().count(), 4, "{table}");
    assert!(table.starts_with("NAME ") && table.contains("Europe/Berlin"), "{table}");
    assert_eq!(says(&host, &["schedules", "pause", "morning"]), "schedule morning is paused\n");
    assert_eq!(says(&host, &["schedules", "pause", "morning"]), "schedule morning was paused already\n");
    assert_eq!(host.json(&["schedules", "--json"])[0]["next"], json!([]));
    assert!(says(&host, &["schedules"]).contains(" paused "));
    assert_eq!(says(&host, &["schedules", "run", "morning"]), "schedule morning runs now (message 1)\n");
    let message = host.json(&["show", "1", "--json"]);
    assert_eq!((&message[0]["topic"], &message[0]["priority"]), (&json!("report"), &json!(-2)));
    assert_eq!(message[0]["headers"]["taskmq-schedule"], "morning");
    assert!(
        says(&host, &["schedules", "resume", "morning"]).starts_with("schedule morning is resumed, next 2")
    );
    assert_eq!(host.json(&["schedules", "run", "morning", "--json"])[0]["message_id"], 2);
    assert_eq!(says(&host, &["schedules", "remove", "morning"]), "schedule morning is removed\n");
    assert_eq!(host.json(&["schedules", "--json"]), json!([]));
    assert_eq!(host.json(&["messages", "--json"]).as_array().map(Vec::len), Some(2), "its messages stay");
}

#[test]
fn what_cannot_be_scheduled_is_explained_and_refused() {
    let host = migrated();
    // That nothing is stored is looked at in the end: opening the file may change some of its bytes.
    let ends = |args: &[&str], code: i32, words: &str| {
        let out = host.run(args);
        let text = String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{args:?}: {text}");
        assert!(text.contains(words), "{args:?}: {text}");
    };
    let refused = |args: &[&str], words: &str| ends(args, 2, words);
    let add = |cron: &'static str, payload: &'static str| ["schedules", "add", "s", cron, "report", payload];
    refused(&add("0 25 * * *", "1"), "its hour is \"25\": write 0 to 23");
    refused(&add("0 7 * *", "1"), "it has 4 fields");
    refused(&add("0 0 30 2 *", "1"), "there is no such day");
    refused(&add("@daily", "oops"), "the payload is no JSON");
    refused(&[&add("@daily", "1")[..], &["--time-zone", "berlin"]].concat(), "do you mean Europe/Berlin?");
    refused(&["schedules", "add", "two words", "@daily", "report", "1"], "schedule \"two words\"");
    refused(&["schedules", "add", "s", "@daily", "two words", "1"], "topic \"two words\"");
    for command in ["pause", "resume", "run", "remove"] {
        ends(&["schedules", command, "s"], 1, "schedule \"s\": there is none of this name");
    }
    assert_eq!(host.json(&["schedules", "--json"]), json!([]));
}
