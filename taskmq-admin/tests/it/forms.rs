//! The form takes what a producer takes, and refuses the rest as one does.

use axum::http::StatusCode;
use proptest::prelude::*;
use serde_json::value::RawValue;
use taskmq_core::broker::{Action, MessageFilter, Note, Noted};
use taskmq_core::message::Message;
use taskmq_core::{BrokerConnection, NewMessage};
use taskmq_tests::databases::TestDatabase;
use taskmq_tests::inputs::{cases, payloads, texts, topics};

use crate::site::Site;

each_database! {
    a_form_is_taken_as_a_producer_is,
}

fn a_form_is_taken_as_a_producer_is(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let conn = std::cell::RefCell::new(site.db.connect());
    let all_and_delete = || -> Vec<Message> {
        let mut conn = conn.borrow_mut();
        let all =
            conn.broker().messages(&MessageFilter { topic: None, state: None, limit: 10 }).expect("reads");
        let ids: Vec<_> = all.iter().map(|message| message.id).collect();
        let note =
            Note { actor: "t", action: "delete", topic: None, message_id: None, details: "", messages: 0 };
        conn.broker().change(&Action::Delete, &ids, Noted::New(&note)).expect("deletes");
        all
    };
    let headers = proptest::collection::btree_map(texts(), texts(), 0..3);
    let numbers = prop_oneof![
        any::<i16>().prop_map(|number| number.to_string()),
        any::<i128>().prop_map(|number| number.to_string()),
        any::<String>()
    ];
    proptest!(ProptestConfig { cases: cases(64), ..ProptestConfig::default() }, |(topic in topics(), payload in payloads(), key in texts(), headers in headers, priority in numbers)| {
        // Around what is typed, white space says nothing.
        let (topic, payload, key, priority) = (topic.trim(), payload.trim(), key.trim(), priority.trim());
        let expected = RawValue::from_string(payload.to_owned()).ok().and_then(|json| {
            let mut message = NewMessage::new(topic, &*json);
            if !key.is_empty() {
                message = message.unique(key);
            }
            if !priority.is_empty() {
                message = message.priority(priority.parse().ok()?);
            }
            for (name, text) in &headers {
                message = message.header(&**name, &**text);
            }
            message.produce(&mut *conn.borrow_mut()).ok()
        });
        let produced = all_and_delete();
        let json = serde_json::to_string(&headers).expect("JSON");
        let answer = site.post("/produce", &[("topic", topic), ("payload", payload), ("key", key), ("headers", &json), ("priority", priority)]);
        let posted = all_and_delete();
        if expected.is_some() {
            prop_assert_eq!(answer.status, StatusCode::SEE_OTHER, "{}", answer.body);
            prop_assert_eq!((posted.len(), produced.len()), (1, 1));
            let what = |message: &Message| {
                let Message { topic, payload, unique_key, priority, headers, .. } = message;
                (topic.clone(), payload.get().to_owned(), unique_key.clone(), *priority, headers.as_ref().map(|json| json.get().to_owned()))
            };
            prop_assert_eq!(what(&posted[0]), what(&produced[0]));
        } else {
            prop_assert_eq!(answer.status, StatusCode::UNPROCESSABLE_ENTITY, "{}", answer.body);
            prop_assert!(posted.is_empty() && produced.is_empty(), "{:?} {:?}", posted, produced);
        }
    });
}
