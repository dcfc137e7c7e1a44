//! Forms that are as large as messages may be.

use axum::http::StatusCode;
use taskmq_core::BrokerConnection;
use taskmq_core::broker::MessageFilter;
use taskmq_tests::databases::TestDatabase;

use crate::site::Site;

each_database! {
    a_large_payload_is_produced_by_the_form,
    a_nul_is_as_little_in_a_form_as_in_an_address,
}

fn a_large_payload_is_produced_by_the_form(db: TestDatabase) {
    // Three times as large in a form, where each byte is `%XX`.
    let payload = format!("\"{}\"", "ä".repeat(3 << 20));
    let site = Site::new(db, |admin| admin);
    let produced = site.post("/produce", &[("topic", "mail"), ("payload", &payload)]);
    assert_eq!(produced.status, StatusCode::SEE_OTHER, "{}", produced.body);
    let filter = MessageFilter { topic: None, state: None, limit: 10 };
    let messages = site.db.connect().broker().messages(&filter).expect("reads");
    assert_eq!(messages.len(), 1);
    assert!(messages[0].payload.get() == payload);
    let too_large = format!("\"{}\"", "a".repeat(8 << 20));
    let refused = site.post("/produce", &[("topic", "mail"), ("payload", &too_large)]);
    assert_eq!(refused.status, StatusCode::UNPROCESSABLE_ENTITY, "by the queue, with words");
}

fn a_nul_is_as_little_in_a_form_as_in_an_address(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let nul = "a\0b";
    for field in ["topic", "text", "key", "ordering_key", "error"] {
        let posted =
            site.post("/change", &[("all", "cancel"), ("state", "ready"), (field, nul), ("confirm", "yes")]);
        assert_eq!(posted.status, StatusCode::UNPROCESSABLE_ENTITY, "{field}: {}", posted.body);
        assert!(posted.body.contains("No message matches."), "{field}: {}", posted.body);
    }
    let produced = site.post("/produce", &[("topic", "mail"), ("payload", "1"), ("ordering_key", nul)]);
    assert_eq!(produced.status, StatusCode::SEE_OTHER, "{}", produced.body);
    let listed = site.page("/messages?ordering_key=a%00b");
    assert!(listed.contains("mail"), "{listed}");
}
