//! On Chinese pages there is no English but names, and what others wrote.

use std::collections::BTreeSet;
use std::time::Duration;

use html5gum::{DefaultEmitter, Token, Tokenizer};
use serde_json::json;
use taskmq_core::broker::{Action, Limit, Note, Noted, Outcome};
use taskmq_core::{BrokerConnection, NewMessage, Retention, Workflow, schedule};
use taskmq_tests::databases::TestDatabase;

use crate::site::{Site, dead, produce, run, worker};

each_database! { no_page_is_half_english }

/// What is called so in Chinese, too; words of a path in a payload, and of a cron text; what the messages here have in them.
const NAMES: &str = "taskmq English UTC JSON Schema Cron MiB Enter IANA ASCII systemd Kubernetes warn \
    user id tags new name hourly daily weekly monthly yearly Asia Shanghai \
    kim mail bill web acme tenant logged count Moon";

/// People see or hear what these attributes say.
const SAID: &str =
    "title aria-label placeholder alt label data-confirm data-lost data-reload data-off data-on";

fn is_among(list: &str, word: &str) -> bool {
    list.split_whitespace().any(|other| other == word)
}

/// Words of the page that are neither Chinese nor such names.
fn english(body: &str) -> BTreeSet<String> {
    let mut emitter = DefaultEmitter::default();
    emitter.naively_switch_states(true);
    let mut said = Vec::new();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    for token in Tokenizer::new_with_emitter(body, emitter) {
        match token {
            Ok(Token::String(words)) => said.push(text(&words)),
            Ok(Token::StartTag(tag)) => {
                let attributes = tag.attributes.iter().filter(|(name, _)| is_among(SAID, &text(name)));
                said.extend(attributes.map(|(_, value)| text(value)));
            }
            _ => {}
        }
    }
    let words = said.iter().flat_map(|said| said.split(|c: char| !c.is_ascii_alphabetic()));
    words.filter(|word| word.len() > 1 && !is_among(NAMES, word)).map(str::to_owned).collect()
}

fn no_page_is_half_english(db: TestDatabase) {
    let mut conn = db.connect();
    let runner = worker(&mut conn);
    db.execute(
        "INSERT INTO taskmq_workers (id, host, pid, version, topics, concurrency, beat_at)
         VALUES (8, 'web', 43, '0.1.0', 'mail', 1, '2020-01-01 00:00:00')",
    );
    let mut ids = Vec::new();
    let outcomes = [
        Some(Outcome::Done { result: Some("1".to_owned()), retention: Retention::Forever }),
        Some(Outcome::Retry {
            delay: Duration::from_secs(600),
            kind: "timeout",
            error: "超时 3 秒".to_owned(),
        }),
        dead("没有这个用户"),
        dead(""),
        None,
    ];
    for outcome in outcomes {
        produce(&mut conn, "mail", "1");
        ids.push(run(&mut conn, &runner, "mail", outcome));
    }
    let keyed = NewMessage::new("mail", &1).unique("键").ordering_key("序").priority(3);
    ids.push(keyed.produce(&mut conn).expect("produces").id());
    let later = NewMessage::new("bill", &1).delay(Duration::from_secs(3600));
    ids.push(later.produce(&mut conn).expect("produces").id());
    for n in 0..60 {
        produce(&mut conn, "bill", &n.to_string());
    }
    let step = |n: i32| NewMessage::new("mail", &n).priority(9);
    let workflow = Workflow::new("流程").step("一", step(1), &[]).step("二", step(2), &["一"]);
    let workflow = workflow.produce(&mut conn).expect("produces");
    run(&mut conn, &runner, "mail", dead("断开"));
    let ended = Workflow::new("流程").step("一", step(1), &[]).produce(&mut conn).expect("produces");
    taskmq_core::workflow::cancel(&mut conn, ended, "kim").expect("cancels");
    for name in ["1", "2"] {
        NewMessage::new("bill", &1)
            .schedule(name, "0 7 * * *")
            .store_noted(&mut conn, "kim")
            .expect("stores");
    }
    schedule::run_now(&mut conn, "1", "kim").expect("runs");
    schedule::pause(&mut conn, "1", "kim").expect("pauses");
    schedule::resume(&mut conn, "1", "kim").expect("resumes");
    schedule::remove(&mut conn, "2", "kim").expect("removes");
    db.execute("INSERT INTO taskmq_schedules (name, topic, payload, cron, time_zone, next_at) VALUES ('3', 'mail', '1', '0 7', 'UTC', '2020-01-01 00:00:00'), ('4', 'mail', '1', '0 7 * * *', 'Moon', NULL)");
    conn.broker().store_schema("bill", &json!({ "x": 1 }).to_string()).expect("stores");
    let limit = Limit { running: Some(5), rate: Some("100/1m".parse().expect("a rate")) };
    conn.broker().set_limit("mail", &limit, "kim").expect("limits");
    conn.broker().set_limit("bill", &limit, "kim").expect("limits");
    conn.broker().lift_limit("bill", "kim").expect("lifts");
    conn.broker().pause("bill", "kim").expect("pauses");
    conn.broker().drain(7, "kim").expect("drains");

    let site = Site::new(db, |admin| admin);
    let mut seen = BTreeSet::new();
    let mut check = |what: &str, body: &str| {
        assert!(body.contains("lang=\"zh-CN\""), "{what}: {body}");
        seen.extend(english(body).into_iter().map(|word| format!("{what}: {word}")));
    };
    // Questions, and what comes of them.
    let [scheduled, ready] = [ids[6], ids[5]].map(|id| id.to_string());
    let post = |path: &str, fields: &[(&str, &str)]| site.post_in("zh", path, fields);
    for fields in [
        &[("id", &*ready), ("action", "priority"), ("priority", "4")][..],
        &[("id", &*scheduled), ("action", "run at"), ("run_at", "2036-01-02T03:04:05")],
    ] {
        assert!(post("/change", fields).location.contains("told="), "{fields:?}");
    }
    let sought =
        [("all", "delete"), ("state", "dead"), ("text", "1"), ("json", "$.user.id = 42"), ("error", "断开")];
    check("several", &post("/change", &[("id", "1"), ("id", "2"), ("action", "retry")]).body);
    check("nothing", &post("/change", &sought).body);
    let all = [("all", "retry"), ("state", "scheduled"), ("topic", "bill"), ("since", "2026-01-01T00:00")];
    check("all", &post("/change", &all).body);
    let confirmed = [&all[..], &[("confirm", "yes")]].concat();
    let change = post("/change", &confirmed);
    site.wait(change.change(), ">Finished<");
    check(
        "refused",
        &post("/change", &[("id", &*ids[4].to_string()), ("action", "delete"), ("confirm", "yes")]).body,
    );
    let several = [("id", &*scheduled), ("id", &*ready), ("action", "cancel"), ("confirm", "yes")];
    check("changed", &post("/change", &several).body);
    check("drain", &post("/workers", &[("id", "7"), ("action", "drain")]).body);
    let workflow = format!("/workflows/{workflow}");
    check("cancel", &post(&workflow, &[("action", "cancel")]).body);
    check("cancelled", &post(&format!("/workflows/{ended}"), &[("action", "retry")]).body);
    check("no limit", &post("/topic", &[("name", "mail"), ("action", "limit")]).body);
    check("no schedule", &post("/schedules", &[("name", "0"), ("action", "run")]).body);
    check("no topic", &post("/produce", &[("topic", "?"), ("payload", "1")]).body);
    // What the forms here write down, and what workers and `taskmq-cli` do.
    for (actor, action, details) in [
        ("kim", "delete", "all dead, done that finished before 2026-01-01T00:00:00+00:00"),
        (
            "kim",
            "cancel",
            "all ready, key \"键\", ordering key \"序\", text \"1\", error \"断开\", since 2026",
        ),
        ("a worker", "pause schedule", "3"),
    ] {
        let note = Note { actor, action, topic: None, message_id: None, details, messages: 0 };
        conn.broker().note(&note).expect("notes");
    }
    let note =
        Note { actor: "kim", action: "retry", topic: None, message_id: None, details: "", messages: 0 };
    conn.broker().change(&Action::Retry, &[ids[2], ids[3]], Noted::New(&note)).expect("retries");

    let mut paths: Vec<String> = [
        "/overview",
        "/topic?name=mail",
        "/topic?name=bill",
        "/messages",
        "/messages?state=ready",
        "/messages?text=1&json=%24.user.id",
        "/dead",
        "/dead?topic=mail",
        "/workers",
        "/schedules",
        "/workflows",
        "/changes",
        change.change(),
        "/audit",
        "/produce?topic=bill",
        "/nowhere",
        "/overview?told=drain",
        "/messages?state=x",
        "/messages?id=x",
        "/messages?json=x",
    ]
    .map(str::to_owned)
    .into();
    paths.push(format!("/produce?like={}", ids[0]));
    paths.push(workflow);
    paths.extend(ids.iter().map(|id| format!("/messages/{id}")));
    for path in paths {
        check(&path, &site.get_in("zh", &path).body);
    }
    assert!(seen.is_empty(), "{seen:#?}");
}
