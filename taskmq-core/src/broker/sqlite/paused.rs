//! Topics that people have paused.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};
use diesel::sqlite::Sqlite;

use super::write_lock;
use crate::broker::paused::{PausedTopic, paused as paused_topic, write_down};
use crate::statement::{execute, load};
use crate::{Result, limits};

pub(super) fn pause(conn: &mut SqliteConnection, topic: &str, actor: &str) -> Result<bool> {
    limits::check_topic(topic)?;
    write_lock::transaction(conn, |conn| {
        let added = execute!(
            conn,
            Sqlite,
            "INSERT INTO taskmq_paused (topic, actor) VALUES (?, ?) ON CONFLICT DO NOTHING",
            Text = topic,
            Text = actor,
        )?;
        if added > 0 {
            write_down(conn, "pause", topic, actor)?;
        }
        Ok(added > 0)
    })
}

pub(super) fn resume(conn: &mut SqliteConnection, topic: &str, actor: &str) -> Result<bool> {
    write_lock::transaction(conn, |conn| {
        let removed = execute!(conn, Sqlite, "DELETE FROM taskmq_paused WHERE topic = ?", Text = topic)?;
        if removed > 0 {
            write_down(conn, "resume", topic, actor)?;
        }
        Ok(removed > 0)
    })
}

pub(super) fn paused(conn: &mut SqliteConnection) -> Result<Vec<PausedTopic>> {
    let rows: Vec<(String, i64, String)> = load!(
        conn, Sqlite => (Text, BigInt, Text),
        concat!("SELECT topic, ", micros!("since"), ", actor FROM taskmq_paused ORDER BY topic"),
    )?;
    Ok(rows.into_iter().map(paused_topic).collect())
}
