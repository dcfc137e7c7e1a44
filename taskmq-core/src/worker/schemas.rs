//! What the consumers of a worker read, written down for programs that have no consumers: the admin and `taskmq-cli`.

use crate::limits::MAX_SCHEMA_BYTES;
use crate::{AnyConnection, BrokerConnection, Consumer, Registry, Result};

/// Stores the schemas of its consumers, and removes those of consumers that have none; once in the life of a process,
/// so that workers of two versions do not take turns. Nobody's work depends on it, so an error is only told.
pub(super) fn declare(conn: &mut AnyConnection, registry: &Registry) {
    if let Err(error) = write(conn, registry) {
        tracing::warn!("the schemas of the consumers are not stored: {error}");
    }
}

/// What is there already is not written: most starts change nothing.
fn write(conn: &mut AnyConnection, registry: &Registry) -> Result<()> {
    let broker = conn.broker();
    let stored = broker.schemas(&registry.topics())?;
    for consumer in registry.iter() {
        let stored = stored.iter().find(|schema| schema.topic == consumer.topic);
        match (definition(consumer), stored) {
            (Some(definition), Some(stored)) if stored.definition == definition => {}
            (Some(definition), _) => broker.store_schema(consumer.topic, &definition)?,
            (None, Some(_)) => {
                broker.remove_schema(consumer.topic)?;
            }
            (None, None) => {}
        }
    }
    Ok(())
}

fn definition(consumer: &Consumer) -> Option<String> {
    let definition = consumer.schema.map(|schema| schema())?;
    if definition.len() > MAX_SCHEMA_BYTES {
        tracing::warn!(
            "the schema of consumer {} has {} bytes, the limit is {MAX_SCHEMA_BYTES}: it is not stored, and payloads are not \
             checked by it",
            consumer.name,
            definition.len()
        );
        return None;
    }
    Some(definition)
}
