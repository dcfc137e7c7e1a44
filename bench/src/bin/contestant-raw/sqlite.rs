use diesel::connection::SimpleConnection;
use diesel::prelude::*;
use diesel::sql_query;
use diesel::sql_types::{BigInt, Text};

use super::{BATCH, Loop, Result, Row, raw_messages};

/// As taskmq sets its own connections up.
pub(super) fn connect(url: &str) -> Result<SqliteConnection> {
    let mut conn = SqliteConnection::establish(url)?;
    conn.batch_execute("PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL")?;
    Ok(conn)
}

impl Loop for SqliteConnection {
    fn create_table(&mut self) -> Result {
        Ok(self.batch_execute(
            "CREATE TABLE raw_messages (
                 id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT, topic TEXT NOT NULL,
                 priority INTEGER NOT NULL DEFAULT 0, status INTEGER NOT NULL DEFAULT 0,
                 attempts INTEGER NOT NULL DEFAULT 0, run_at INTEGER NOT NULL DEFAULT (unixepoch()),
                 locked_until INTEGER, locked_by INTEGER, body TEXT NOT NULL
             );
             CREATE INDEX raw_ready ON raw_messages (topic, priority DESC, run_at, id) WHERE status = 0",
        )?)
    }

    fn insert(&mut self, topic: &str, body: &str) -> Result {
        // Written with the query builder, for Diesel keeps its statements prepared.
        diesel::insert_into(raw_messages::table)
            .values((raw_messages::topic.eq(topic), raw_messages::body.eq(body)))
            .execute(self)?;
        Ok(())
    }

    fn insert_many(&mut self, topic: &str, bodies: &[String]) -> Result {
        sql_query("INSERT INTO raw_messages (topic, body) SELECT ?, value FROM json_each(?)")
            .bind::<Text, _>(topic)
            .bind::<Text, _>(serde_json::to_string(bodies)?)
            .execute(self)?;
        Ok(())
    }

    fn claim_and_ack(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize> {
        let worker = i64::from(std::process::id());
        let rows: Vec<Row> = self.immediate_transaction(|conn| {
            sql_query(
                "UPDATE raw_messages
                 SET status = 1, attempts = attempts + 1, locked_by = ?, locked_until = unixepoch() + 30
                 WHERE id IN (SELECT id FROM raw_messages WHERE status = 0 AND topic = ? AND run_at <= unixepoch()
                              ORDER BY priority DESC, run_at, id LIMIT ?)
                 RETURNING id, body",
            )
            .bind::<BigInt, _>(worker)
            .bind::<Text, _>(topic)
            .bind::<BigInt, _>(BATCH)
            .load(conn)
        })?;
        if !rows.is_empty() {
            handle(&rows)?;
            let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
            sql_query(
                "DELETE FROM raw_messages WHERE id IN (SELECT value FROM json_each(?)) AND locked_by = ?",
            )
            .bind::<Text, _>(serde_json::to_string(&ids)?)
            .bind::<BigInt, _>(worker)
            .execute(self)?;
        }
        Ok(rows.len())
    }

    fn one_write(&mut self, topic: &str, handle: &mut dyn FnMut(&[Row]) -> Result) -> Result<usize> {
        self.immediate_transaction(|conn| {
            let rows: Vec<Row> = sql_query(
                "DELETE FROM raw_messages
                 WHERE id IN (SELECT id FROM raw_messages WHERE status = 0 AND topic = ? AND run_at <= unixepoch()
                              ORDER BY priority DESC, run_at, id LIMIT ?)
                 RETURNING id, body",
            )
            .bind::<Text, _>(topic)
            .bind::<BigInt, _>(BATCH)
            .load(conn)?;
            handle(&rows)?;
            Ok(rows.len())
        })
    }
}
