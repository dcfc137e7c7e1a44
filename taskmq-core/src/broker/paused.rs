//! Topics that people have paused.

use chrono::{DateTime, Utc};

use super::{Administration, Note, rows};
use crate::Result;

/// A topic whose messages no worker takes until a person resumes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PausedTopic {
    /// The topic.
    pub topic: String,
    /// When it was paused.
    pub since: DateTime<Utc>,
    /// Who paused it.
    pub actor: String,
}

/// topic, since, actor.
pub(super) fn paused((topic, since, actor): (String, i64, String)) -> PausedTopic {
    PausedTopic { topic, since: rows::time(since), actor }
}

/// Writes down that a topic was paused or resumed, as part of the open transaction.
pub(super) fn write_down(
    broker: &mut dyn Administration,
    action: &str,
    topic: &str,
    actor: &str,
) -> Result<()> {
    let note = Note { actor, action, topic: Some(topic), message_id: None, details: "", messages: 0 };
    broker.note(&note).map(|_| ())
}
