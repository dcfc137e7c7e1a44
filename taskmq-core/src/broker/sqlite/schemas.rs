//! The rows of schemas.

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;

use super::json_list;
use crate::Result;
use crate::broker::schemas::{Schema, SchemaSql, Schemas, schema};
use crate::statement::{execute, load};

impl Schemas for SqliteConnection {
    fn schemas(&mut self, topics: &[&str]) -> Result<Vec<Schema>> {
        let rows = load!(
            self, Sqlite => SchemaSql,
            concat!("SELECT topic, definition, ", micros!("written_at"), " FROM taskmq_schemas
             WHERE topic IN (SELECT value FROM json_each(?)) ORDER BY topic"),
            Text = json_list(topics)?,
        )?;
        Ok(rows.into_iter().map(schema).collect())
    }

    fn store_schema(&mut self, topic: &str, definition: &str) -> Result<()> {
        execute!(
            self,
            Sqlite,
            "INSERT INTO taskmq_schemas (topic, definition) VALUES (?, ?)
             ON CONFLICT (topic) DO UPDATE SET definition = excluded.definition, written_at = excluded.written_at",
            Text = topic,
            Text = definition,
        )?;
        Ok(())
    }

    fn remove_schema(&mut self, topic: &str) -> Result<bool> {
        Ok(execute!(self, Sqlite, "DELETE FROM taskmq_schemas WHERE topic = ?", Text = topic)? > 0)
    }
}
