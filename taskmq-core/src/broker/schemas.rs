//! The rows of schemas: what the consumers of topics read, as their workers have written it.

use chrono::{DateTime, Utc};
use diesel::sql_types::{BigInt, Text};

use super::{rows, sealed};
use crate::Result;

/// The operations on the rows of schemas. [`Broker`](super::Broker) has them too.
///
/// Each is one statement, and joins whatever transaction is open.
pub trait Schemas: sealed::Sealed {
    /// Those of these topics that have one, by topic.
    ///
    /// # Errors
    /// What the database reports.
    fn schemas(&mut self, topics: &[&str]) -> Result<Vec<Schema>>;

    /// Stores the schema of a topic, in place of any other.
    ///
    /// # Errors
    /// What the database reports: beyond [`MAX_SCHEMA_BYTES`](crate::limits::MAX_SCHEMA_BYTES) it takes none.
    fn store_schema(&mut self, topic: &str, definition: &str) -> Result<()>;

    /// Removes the schema of a topic. `false`: it has none.
    ///
    /// # Errors
    /// What the database reports.
    fn remove_schema(&mut self, topic: &str) -> Result<bool>;
}

/// What the consumer of a topic reads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    /// The topic.
    pub topic: String,
    /// A JSON schema, as a worker or another program has stored it: it may be anything.
    pub definition: String,
    /// When it was stored.
    pub written_at: DateTime<Utc>,
}

/// topic, definition, written_at.
pub(super) type SchemaSql = (Text, Text, BigInt);

pub(super) fn schema((topic, definition, written_at): (String, String, i64)) -> Schema {
    Schema { topic, definition, written_at: rows::time(written_at) }
}
