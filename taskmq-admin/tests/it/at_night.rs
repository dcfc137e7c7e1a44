//! What somebody looks for whom an alert woke up.

use std::time::Duration;

use axum::http::StatusCode;
use taskmq_core::NewMessage;
use taskmq_core::broker::Outcome;
use taskmq_tests::databases::TestDatabase;

use crate::site::{Site, produce, run};

each_database! {
    what_waits_for_no_worker_is_marked,
    a_failed_attempt_is_told_where_its_message_is_listed,
    a_message_is_produced_again_by_a_form,
}

fn what_waits_for_no_worker_is_marked(db: TestDatabase) {
    let mut conn = db.connect();
    crate::site::worker(&mut conn);
    for topic in ["mail", "forgotten"] {
        produce(&mut conn, topic, "one");
    }
    NewMessage::new("later", &1).delay(Duration::from_secs(3600)).produce(&mut conn).expect("produces");
    let site = Site::new(db, |admin| admin);
    let body = site.page("/overview");
    assert_eq!(body.matches("badge late").count(), 1, "{body}");
    let at = body.find("badge late").expect("a badge");
    assert!(body[..at].ends_with("forgotten</a> <span class=\""), "{body}");
    assert!(body.contains("At once 4"), "{body}");
    let words = "No running worker consumes this topic";
    assert!(site.page("/topic?name=forgotten").contains(words));
    for topic in ["mail", "later", "unknown"] {
        assert!(!site.page(&format!("/topic?name={topic}")).contains(words), "{topic}");
    }
}

fn a_failed_attempt_is_told_where_its_message_is_listed(db: TestDatabase) {
    let mut conn = db.connect();
    let worker = crate::site::worker(&mut conn);
    let id = produce(&mut conn, "mail", "one");
    let retry = Outcome::Retry {
        delay: Duration::from_secs(60),
        kind: "timeout",
        error: "no answer in 3 s\nat line 7".to_owned(),
    };
    assert_eq!(run(&mut conn, &worker, "mail", Some(retry)), id);
    for n in 0..20 {
        produce(&mut conn, "mail", &format!("{n}"));
    }
    let site = Site::new(db, |admin| admin);
    for path in ["/topic?name=mail", "/messages?state=retrying", "/messages?topic=mail"] {
        let body = site.page(path);
        assert!(body.contains("no answer in 3 s") && !body.contains("at line 7"), "{path}: {body}");
    }
    let path = format!("/messages/{id}");
    assert!(site.page(&path).contains("Attempt 1: timeout"));
    let chinese = site.get_in("zh", &path).body;
    assert!(chinese.contains("第 1 次尝试: 超时"), "{chinese}");
}

fn a_message_is_produced_again_by_a_form(db: TestDatabase) {
    let mut conn = db.connect();
    let payload = serde_json::json!({ "note": "<b>a</b>", "n": 1 });
    let message =
        NewMessage::new("mail", &payload).unique("mail:1").ordering_key("kim").priority(-3).max_attempts(4);
    let message = message.header("tenant", "acme").header("taskmq-schedule", "morning");
    let id = message.produce(&mut conn).expect("produces").id();
    let site = Site::new(db, |admin| admin);
    let link = format!("produce?like={id}");
    assert!(site.page(&format!("/messages/{id}")).contains(&link));
    let body = site.page(&format!("/{link}"));
    for words in [
        "name=\"topic\" required maxlength=\"100\" list=\"topics\" value=\"mail\"",
        "&quot;note&quot;: &quot;&lt;b&gt;a&lt;/b&gt;&quot;",
        "placeholder=\"0\" value=\"-3\"",
        "max=\"32767\" value=\"4\"",
        "value=\"mail:1\"",
        "value=\"kim\"",
        "{&quot;tenant&quot;:&quot;acme&quot;}",
    ] {
        assert!(body.contains(words), "{words}: {body}");
    }
    assert!(!body.contains("taskmq-schedule"), "{body}");
    assert_eq!(site.get("/produce?like=987654").status, StatusCode::NOT_FOUND);
    assert_eq!(site.get("/produce?like=x").status, StatusCode::OK);
    // Nothing is shown by it that is hidden.
    let Site { db, .. } = site;
    let site = Site::new(db, |admin| admin.hide_payloads(true));
    for path in [format!("/messages/{id}"), format!("/{link}")] {
        let body = site.page(&path);
        assert!(
            !body.contains("href=\"../produce?like") && !body.contains("note") && !body.contains("acme"),
            "{path}: {body}"
        );
    }
}
