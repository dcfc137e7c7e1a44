//! Topics that people have paused.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, Text};

use super::transaction;
use crate::broker::paused::{PausedTopic, paused as paused_topic, write_down};
use crate::statement::{execute, load};
use crate::{Result, limits};

pub(super) fn pause(conn: &mut MysqlConnection, topic: &str, actor: &str) -> Result<bool> {
    limits::check_topic(topic)?;
    transaction(conn, |conn| {
        let added = execute!(
            conn,
            Mysql,
            "INSERT IGNORE INTO taskmq_paused (topic, actor) VALUES (?, ?)",
            Text = topic,
            Text = actor,
        )?;
        if added > 0 {
            write_down(conn, "pause", topic, actor)?;
        }
        Ok(added > 0)
    })
}

pub(super) fn resume(conn: &mut MysqlConnection, topic: &str, actor: &str) -> Result<bool> {
    if !topic.is_ascii() {
        return Ok(false); // there is no such topic, and the server cannot compare it
    }
    transaction(conn, |conn| {
        let removed = execute!(conn, Mysql, "DELETE FROM taskmq_paused WHERE topic = ?", Text = topic)?;
        if removed > 0 {
            write_down(conn, "resume", topic, actor)?;
        }
        Ok(removed > 0)
    })
}

pub(super) fn paused(conn: &mut MysqlConnection) -> Result<Vec<PausedTopic>> {
    let rows: Vec<(String, i64, String)> = load!(
        conn, Mysql => (Text, BigInt, Text),
        concat!("SELECT topic, ", micros!("since"), ", actor FROM taskmq_paused ORDER BY topic"),
    )?;
    Ok(rows.into_iter().map(paused_topic).collect())
}
