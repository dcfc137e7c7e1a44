//! A worker's sessions, found by a lock that has their number in its name: a number alone would be another session's
//! after the server has begun anew, or on another server.

use diesel::connection::SimpleConnection;
use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::result::Error;
use diesel::sql_types::{BigInt, Integer, Nullable};

use super::is_galera;
use crate::Result;
use crate::broker::SessionId;
use crate::statement::load;

pub(super) fn session(conn: &mut MysqlConnection) -> Result<Option<SessionId>> {
    if is_galera(conn)? {
        return Ok(None);
    }
    Ok(load!(conn, Mysql => BigInt, "SELECT CAST(CONNECTION_ID() AS SIGNED)")?.first().copied())
}

pub(super) fn mark_session(conn: &mut MysqlConnection, worker_id: i64) -> Result<()> {
    let _: Vec<Option<i32>> = load!(
        conn, Mysql => Nullable<Integer>,
        "SELECT GET_LOCK(CONCAT('taskmq:', ?, ':', CONNECTION_ID()), 0)",
        BigInt = worker_id,
    )?;
    Ok(())
}

pub(super) fn marked_sessions(conn: &mut MysqlConnection, worker_id: i64) -> Result<Vec<SessionId>> {
    // Without further rights a user sees, and may end, what is its own.
    Ok(load!(
        conn, Mysql => BigInt,
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist
         WHERE id <> CONNECTION_ID() AND IS_USED_LOCK(CONCAT('taskmq:', ?, ':', id)) = id",
        BigInt = worker_id,
    )?)
}

pub(super) fn end_sessions(conn: &mut MysqlConnection, worker_id: i64, sessions: &[SessionId]) -> Result<()> {
    // Looked at once more, for a number may have become another's by now.
    for id in marked_sessions(conn, worker_id)?.into_iter().filter(|id| sessions.contains(id)) {
        match conn.batch_execute(&format!("KILL CONNECTION {id}")) {
            Err(Error::DatabaseError(_, info)) if info.message().contains("Unknown thread id") => {} // it has ended by itself
            ended => ended?,
        }
    }
    Ok(())
}
