//! What the consumer of a topic reads is shown, and payloads are checked by it.

use axum::http::StatusCode;
use serde_json::json;
use taskmq_core::{BrokerConnection, NewMessage};
use taskmq_tests::databases::TestDatabase;

use crate::site::Site;

each_database! {
    a_payload_that_does_not_fit_is_refused_with_its_place,
    a_schema_of_others_is_a_text,
    what_cannot_be_used_is_told_and_checks_nothing,
    what_cannot_be_read_is_told_and_checks_nothing,
}

fn site(db: TestDatabase, definition: &str) -> Site {
    db.connect().broker().store_schema("yace", definition).expect("stores");
    Site::new(db, |admin| admin)
}

fn a_payload_that_does_not_fit_is_refused_with_its_place(db: TestDatabase) {
    let definition = json!({
        "type": "object",
        "required": ["url"],
        "properties": {"url": {"type": "string"}, "users": {"type": "integer", "minimum": 0}},
    });
    let site = site(db, &definition.to_string());
    let send = |payload| site.post("/produce", &[("topic", "yace"), ("payload", payload)]);
    let refused = send(r#"{"users": -3}"#);
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    for words in [
        "The consumer of this topic could not read this payload:",
        "<li>the payload: &quot;url&quot; is a required property</li>",
        "<li><code>/users</code>: -3 is less than the minimum of 0</li>",
        "What its consumer reads (JSON schema)",
        "{&quot;users&quot;: -3}</textarea>",
    ] {
        assert!(refused.body.contains(words), "{words}: {}", refused.body);
    }
    assert!(site.db.connect().broker().topics().expect("reads").is_empty());
    assert_eq!(send(r#"{"url": "u", "users": 3}"#).status, StatusCode::SEE_OTHER);
    // Another topic's are not checked by it.
    assert_eq!(site.post("/produce", &[("topic", "mail"), ("payload", "1")]).status, StatusCode::SEE_OTHER);
    let chinese = site.post_in("zh", "/produce", &[("topic", "yace"), ("payload", r#"{"users": -3}"#)]).body;
    assert!(chinese.contains("<code>/users</code>: -3 小于最小值 0"), "{chinese}");
    let chinese = site.get_in("zh", "/produce?topic=yace").body;
    assert!(chinese.contains("消费者可读取的内容"), "{chinese}");
    for path in ["/produce?topic=yace", "/topic?name=yace"] {
        let body = site.page(path);
        assert!(body.contains("<details") && body.contains("&quot;required&quot;: ["), "{path}: {body}");
    }
    for path in ["/produce", "/produce?topic=mail", "/topic?name=mail", "/produce?topic=%C3%A9"] {
        assert!(!site.page(path).contains("<details"), "{path}");
    }
}

fn a_schema_of_others_is_a_text(db: TestDatabase) {
    let evil = "<script>alert(1)</script>";
    let definition =
        json!({ "description": evil, "properties": {evil: {"const": evil}}, "required": [evil] });
    let site = site(db, &definition.to_string());
    let payload = json!({ evil: "x" }).to_string();
    let refused = site.post("/produce", &[("topic", "yace"), ("payload", &payload)]);
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", refused.body);
    assert!(
        refused.body.contains("<code>/&lt;script&gt;alert(1)&lt;~1script&gt;</code>"),
        "{}",
        refused.body
    );
    for body in [refused.body, site.page("/produce?topic=yace"), site.page("/topic?name=yace")] {
        assert!(body.contains("&lt;script&gt;alert(1)&lt;/script&gt;") && !body.contains(evil), "{body}");
    }
}

fn what_cannot_be_used_is_told_and_checks_nothing(db: TestDatabase) {
    let site = site(db, r#"{"$ref": "http://127.0.0.1:1/schema.json"}"#);
    for path in ["/produce?topic=yace", "/topic?name=yace"] {
        let body = site.page(path);
        assert!(
            body.contains("Payloads are not checked by it: the schema cannot be used: "),
            "{path}: {body}"
        );
        let chinese = site.get_in("zh", path).body;
        assert!(chinese.contains("不据此检查负载： 须为有效的 JSON Schema"), "{path}: {chinese}");
        assert!(!chinese.contains("cannot be used"), "{path}: {chinese}");
    }
    goes_unchecked(&site);
    // A producer's own code knows nothing of schemas.
    NewMessage::new("yace", &1).produce(&mut site.db.connect()).expect("produces");
}

fn what_cannot_be_read_is_told_and_checks_nothing(db: TestDatabase) {
    let site = site(db, "{}");
    site.db.execute("ALTER TABLE taskmq_schemas RENAME TO taskmq_elsewhere");
    for path in ["/produce?topic=yace", "/topic?name=yace"] {
        let body = site.page(path);
        assert!(body.contains("the schema of this topic cannot be read"), "{path}: {body}");
    }
    goes_unchecked(&site);
}

/// It is produced, and its page says so.
fn goes_unchecked(site: &Site) {
    let answer = site.post("/produce", &[("topic", "yace"), ("payload", "1")]);
    assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
    let path = answer.location.strip_prefix('.').expect("a relative address");
    assert!(site.page(path).contains("its payload was not checked"), "{path}");
    let path = path.split('?').next().unwrap_or_default();
    assert!(!site.page(path).contains("its payload was not checked"), "{path}");
}
