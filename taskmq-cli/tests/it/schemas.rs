//! `produce` and `schedules add` refuse what the consumer of the topic could not read.
#![cfg(feature = "schema")]

use std::fs;

use crate::database::{execute, migrated};

fn has_schema(definition: &str) -> crate::host::Host {
    let host = migrated();
    execute(
        &host,
        &format!("INSERT INTO taskmq_schemas (topic, definition) VALUES ('yace', '{definition}')"),
    );
    host
}

#[test]
fn what_does_not_fit_is_refused_with_its_place() {
    let host = has_schema(
        r#"{"type": "object", "required": ["url"], "properties": {"users": {"type": "integer", "minimum": 0}}}"#,
    );
    let out = host.run(&["produce", "yace", r#"{"users": -3}"#]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    for words in [
        "error: the consumer of yace could not read this payload:\n",
        "\n  the payload: \"url\" is a required property\n",
        "\n  /users: -3 is less than the minimum of 0\n",
        "--unchecked",
    ] {
        assert!(said.contains(words), "{said}");
    }
    fs::write(host.path("lines.jsonl"), "{\"url\": \"u\"}\n\n17\n").expect("a file");
    let out = host.run(&["produce", "yace", "--file", "lines.jsonl"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    assert!(said.contains("lines.jsonl line 3:\n  the payload: 17 is not of type \"object\"\n"), "{said}");
    let deceiving = host.run(&[
        "produce",
        "yace",
        "{\"url\": \"\", \"\\u001b[31m\\nerror\": 1, \"users\": \"\\u001b[31m\"}",
    ]);
    let said = String::from_utf8_lossy(&deceiving.stderr).into_owned();
    assert!(deceiving.status.code() == Some(2) && !said.contains('\u{1b}'), "{said:?}");
    assert_eq!(host.json(&["messages", "--json"]), serde_json::json!([]), "nothing was produced");
    host.json(&["produce", "yace", r#"{"url": "u", "users": 3}"#, "--json"]);
    host.json(&["produce", "yace", "17", "--unchecked", "--json"]);
    host.json(&["produce", "yace", "--file", "lines.jsonl", "--unchecked", "--json"]);
    host.json(&["produce", "mail", "17", "--json"]);
    assert_eq!(host.json(&["messages", "--json"]).as_array().map(Vec::len), Some(5));
}

#[test]
fn a_schedule_whose_payload_does_not_fit_is_refused() {
    let host = has_schema(r#"{"type": "object"}"#);
    let add = |payload: &'static str| ["schedules", "add", "hourly", "@hourly", "yace", payload];
    let out = host.run(&add("17"));
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert_eq!(out.status.code(), Some(2), "{said}");
    for words in [
        "the consumer of yace could not read this payload:\n",
        "17 is not of type \"object\"\n",
        "--unchecked",
    ] {
        assert!(said.contains(words), "{said}");
    }
    assert_eq!(host.json(&["schedules", "--json"]), serde_json::json!([]), "nothing is stored");
    assert!(host.run(&[&add("17")[..], &["--unchecked"]].concat()).status.success());
    assert!(host.run(&add("{}")).status.success());
    assert_eq!(host.json(&["schedules", "--json"])[0]["payload"], serde_json::json!({}));
}

#[test]
fn what_cannot_be_used_is_told_and_checks_nothing() {
    let host = has_schema(r#"{"$ref": "file:///etc/passwd"}"#);
    let out = host.run(&["produce", "yace", "17"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("note: payloads are not checked: the schema cannot be used: "), "{said}");
}

#[test]
fn what_cannot_be_read_is_told_and_checks_nothing() {
    let host = has_schema("{}");
    execute(&host, "ALTER TABLE taskmq_schemas RENAME TO taskmq_elsewhere");
    let out = host.run(&["produce", "yace", "17"]);
    let said = String::from_utf8_lossy(&out.stderr).into_owned();
    assert!(out.status.success(), "{said}");
    assert!(said.contains("note: payloads are not checked: "), "{said}");
}
