//! A worker's sessions, found by a lock that has their number in its name: a number alone would be another session's
//! after the server has begun anew, or on another server.

use diesel::connection::SimpleConnection;
use diesel::mysql::Mysql;
use diesel::prelude::*;
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

pub(super) fn end_sessions(conn: &mut MysqlConnection, worker_id: i64, but: &[SessionId]) -> Result<usize> {
    // Without further rights a user sees, and may end, what is its own.
    let marked: Vec<SessionId> = load!(
        conn, Mysql => BigInt,
        "SELECT CAST(id AS SIGNED) FROM information_schema.processlist
         WHERE id <> CONNECTION_ID() AND IS_USED_LOCK(CONCAT('taskmq:', ?, ':', id)) = id",
        BigInt = worker_id,
    )?;
    let mut ended = 0;
    for id in marked.into_iter().filter(|id| !but.contains(id)) {
        conn.batch_execute(&format!("KILL CONNECTION {id}"))?;
        ended += 1;
    }
    Ok(ended)
}
