//! The rows of schemas.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::Text;

use super::json;
use crate::Result;
use crate::broker::schemas::{Schema, SchemaSql, Schemas, schema};
use crate::statement::{execute, load};

impl Schemas for MysqlConnection {
    fn schemas(&mut self, topics: &[&str]) -> Result<Vec<Schema>> {
        let rows = load!(
            self, Mysql => SchemaSql,
            concat!("SELECT s.topic, s.definition, ", micros!("s.written_at"), "
             FROM JSON_TABLE(?, '$[*]' COLUMNS (topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin PATH '$')) t
             STRAIGHT_JOIN taskmq_schemas s ON s.topic = t.topic ORDER BY s.topic"),
            Text = json(topics)?,
        )?;
        Ok(rows.into_iter().map(schema).collect())
    }

    fn store_schema(&mut self, topic: &str, definition: &str) -> Result<()> {
        execute!(
            self,
            Mysql,
            "INSERT INTO taskmq_schemas (topic, definition) VALUES (?, ?)
             ON DUPLICATE KEY UPDATE definition = VALUES(definition), written_at = CURRENT_TIMESTAMP(6)",
            Text = topic,
            Text = definition,
        )?;
        Ok(())
    }

    fn remove_schema(&mut self, topic: &str) -> Result<bool> {
        if !topic.is_ascii() {
            return Ok(false); // there is no such topic, and the server cannot compare it
        }
        Ok(execute!(self, Mysql, "DELETE FROM taskmq_schemas WHERE topic = ?", Text = topic)? > 0)
    }
}
