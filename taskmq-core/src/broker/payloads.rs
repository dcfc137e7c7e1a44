//! Large payloads are stored once, in `taskmq_payloads`, so that a message that moves to the archive leaves its payload
//! where it is. The message itself says so, and keeps what is small in it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::value::RawValue;

use super::{Broker, Claimed, Outcome, Settlement, atomically};
use crate::produce::{MessageRecord, Produced};
use crate::{Backend, MessageId, Result, Retention};

/// A payload of more bytes than this has a row of its own: from there on, what it costs to produce is less than what it
/// saves when its message moves to the archive. Figures: `docs/benchmarks.md`.
fn large(backend: Backend) -> usize {
    match backend {
        Backend::Sqlite => 1024,
        Backend::Mysql => 3 * 1024,
        // It stores larger texts apart from their rows itself, and compresses them.
        Backend::Postgres => LARGE_ANYWHERE,
    }
}

/// And one of more bytes than this even if no member of it is large, so that nothing of it stays with the message.
const LARGE_ANYWHERE: usize = 8 * 1024;

/// Small members of a large object stay with the message, for whoever looks with SQL: of up to so many bytes each,
const SMALL: usize = 200;
/// and so many together.
const SMALL_TOGETHER: usize = 2_000;

/// What a message has in place of its payload that is in `taskmq_payloads`, or at the end of what is left of that: JSON, as
/// everything there is. Somebody's payload may have the same words; if `taskmq_payloads` has nothing of this message, it
/// is what it is.
macro_rules! elsewhere {
    () => {
        "\"in taskmq_payloads\""
    };
}
pub(super) use elsewhere;

/// The payload of `m` as people see it, as an SQL expression.
#[cfg(any(feature = "sqlite", feature = "mysql"))]
macro_rules! payload {
    ($of:literal) => {
        concat!(
            "coalesce((SELECT p.payload FROM taskmq_payloads p WHERE p.id = ",
            $of,
            ".id AND ",
            $of,
            ".payload LIKE '%",
            $crate::broker::payloads::elsewhere!(),
            "%'), ",
            $of,
            ".payload)"
        )
    };
}
#[cfg(any(feature = "sqlite", feature = "mysql"))]
pub(super) use payload;

impl MessageRecord {
    /// If its payload is large, the same message with what is small in it.
    fn without_payload(&self, backend: Backend) -> Option<Self> {
        if self.payload.len() <= large(backend) {
            return None;
        }
        let payload = match what_is_small(&self.payload) {
            Some(small) => small,
            None if self.payload.len() > LARGE_ANYWHERE => elsewhere!().to_owned(),
            None => return None,
        };
        Some(Self {
            topic: self.topic.clone(),
            payload,
            priority: self.priority,
            delay_micros: self.delay_micros,
            max_attempts: self.max_attempts,
            unique_key: self.unique_key.clone(),
            ordering_key: self.ordering_key.clone(),
            headers: self.headers.clone(),
        })
    }
}

/// The small members of an object, and for the others, which stand last, where they are. `None`: it is none, or has too
/// many.
fn what_is_small(payload: &str) -> Option<String> {
    let members: BTreeMap<Cow<'_, str>, &RawValue> = serde_json::from_str(payload).ok()?;
    let (small, large): (Vec<_>, Vec<_>) =
        members.into_iter().partition(|(_, value)| value.get().len() <= SMALL);
    let small = small.into_iter().map(|(name, value)| (name, value.get()));
    let members = small.chain(large.into_iter().map(|(name, _)| (name, elsewhere!())));
    let members =
        members.map(|(name, value)| Some(format!("{}:{value}", serde_json::to_string(&name).ok()?)));
    let text = format!("{{{}}}", members.collect::<Option<Vec<_>>>()?.join(","));
    (text.len() <= SMALL_TOGETHER && is_elsewhere(&text)).then_some(text)
}

pub(super) fn is_elsewhere(payload: &str) -> bool {
    payload.strip_suffix('}').unwrap_or(payload).ends_with(elsewhere!())
}

pub(super) fn produce<B: Broker + ?Sized>(broker: &mut B, message: &MessageRecord) -> Result<Produced> {
    match message.without_payload(broker.backend()) {
        Some(without) => atomically(broker, |broker| produce_large(broker, message, &without)),
        None => broker.insert(message),
    }
}

/// In the order in which they are given.
pub(super) fn produce_many<B: Broker + ?Sized>(broker: &mut B, messages: &[MessageRecord]) -> Result<usize> {
    let backend = broker.backend();
    let without: Vec<Option<MessageRecord>> =
        messages.iter().map(|message| message.without_payload(backend)).collect();
    if without.iter().all(Option::is_none) {
        return broker.insert_many(messages);
    }
    atomically(broker, |broker| {
        let (mut stored, mut begin) = (0, 0);
        for alike in without.chunk_by(|a, b| a.is_some() == b.is_some()) {
            let messages = &messages[begin..begin + alike.len()];
            begin += alike.len();
            let large: Vec<MessageRecord> = alike.iter().flatten().cloned().collect();
            stored += if large.is_empty() {
                broker.insert_many(messages)?
            } else {
                produce_many_large(broker, messages, &large)?
            };
        }
        Ok(stored)
    })
}

fn produce_large<B: Broker + ?Sized>(
    broker: &mut B,
    message: &MessageRecord,
    without: &MessageRecord,
) -> Result<Produced> {
    let produced = broker.insert(without)?;
    if let Produced::New(id) = produced {
        broker.insert_payloads(&[(id, &message.payload)])?;
    }
    Ok(produced)
}

fn produce_many_large<B: Broker + ?Sized>(
    broker: &mut B,
    messages: &[MessageRecord],
    without: &[MessageRecord],
) -> Result<usize> {
    if messages.iter().any(|message| message.unique_key.is_some()) {
        let both = messages.iter().zip(without);
        let produced = both.map(|(message, without)| produce_large(broker, message, without));
        let produced = produced.collect::<Result<Vec<_>>>()?;
        return Ok(produced.iter().filter(|produced| matches!(produced, Produced::New(_))).count());
    }
    let ids = broker.insert_each(without)?;
    let payloads: Vec<(MessageId, &str)> =
        ids.into_iter().zip(messages.iter().map(|message| message.payload.as_str())).collect();
    broker.insert_payloads(&payloads)?;
    Ok(payloads.len())
}

/// Gives claimed messages their payloads.
pub(super) fn fetch<B: Broker + ?Sized>(broker: &mut B, claimed: &mut [Claimed]) -> Result<()> {
    let ids: Vec<MessageId> =
        claimed.iter().filter(|message| is_elsewhere(&message.payload)).map(|message| message.id).collect();
    if ids.is_empty() {
        return Ok(());
    }
    let mut found = broker.large_payloads(&ids)?;
    for message in claimed.iter_mut().filter(|message| is_elsewhere(&message.payload)) {
        if let Some(payload) = found.remove(&message.id) {
            message.payload = payload;
            message.large = true;
        } else if broker.message(message.id)?.is_none() {
            // Deleted since it was claimed. No handler is to take the words for its payload, and none can read this.
            message.payload.clear();
        }
    }
    Ok(())
}

impl Settlement {
    /// The message is done and not kept, so its payload is not either.
    pub(super) fn forgets_payload(&self) -> bool {
        self.tied.payload && matches!(self.outcome, Outcome::Done { retention: Retention::None, .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_members_stay() {
        let pad = "x".repeat(SMALL);
        let text = format!(r#"{{"pad": "{pad}", "key": "a\"b", "at": {{"n": [1, 2]}}, "": null}}"#);
        let stays = what_is_small(&text).expect("an object");
        assert_eq!(stays, r#"{"":null,"at":{"n": [1, 2]},"key":"a\"b","pad":"in taskmq_payloads"}"#);
        assert!(is_elsewhere(&stays) && is_elsewhere(elsewhere!()));
        assert!(!is_elsewhere(&text) && !is_elsewhere("{}") && !is_elsewhere(""));
    }

    #[test]
    fn nothing_stays_of_what_is_no_object_or_has_too_many_members() {
        assert_eq!(what_is_small(r#"["a"]"#), None);
        assert_eq!(what_is_small("1"), None);
        let many = |n: usize| (0..n).map(|n| format!("\"{n}\":1")).collect::<Vec<_>>().join(",");
        assert_eq!(what_is_small(&format!("{{{}}}", many(3))), None, "none is large");
        assert_eq!(what_is_small(&format!("{{{},\"pad\":{:?}}}", many(1_000), "x".repeat(SMALL))), None);
    }
}
