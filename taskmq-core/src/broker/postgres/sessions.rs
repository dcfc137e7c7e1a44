//! A worker's sessions, found by a lock that each of them shares.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, Bool, Integer};

use super::has_own_session;
use crate::Result;
use crate::broker::SessionId;
use crate::statement::load;

pub(super) fn session(conn: &mut PgConnection) -> Result<Option<SessionId>> {
    if !has_own_session(conn)? {
        return Ok(None);
    }
    let pid: Vec<i32> = load!(conn, Pg => Integer, "SELECT pg_backend_pid()")?;
    Ok(pid.first().copied().map(SessionId::from))
}

/// The worker's id is the key of the lock that tells that it lives; its negative is that of its sessions.
pub(super) fn mark_session(conn: &mut PgConnection, worker_id: i64) -> Result<()> {
    let _: Vec<bool> = load!(conn, Pg => Bool, "SELECT pg_try_advisory_lock_shared(-?)", BigInt = worker_id)?;
    Ok(())
}

/// The rows of `pg_locks` that are marks of the worker's sessions.
macro_rules! marks {
    () => {
        "pg_locks WHERE locktype = 'advisory' AND granted AND objsubid = 1
         AND database = (SELECT oid FROM pg_database WHERE datname = current_database())
         AND (classid::bigint << 32) | objid::bigint = -? AND pid <> pg_backend_pid()"
    };
}

pub(super) fn marked_sessions(conn: &mut PgConnection, worker_id: i64) -> Result<Vec<SessionId>> {
    Ok(load!(conn, Pg => BigInt, concat!("SELECT pid::bigint FROM ", marks!()), BigInt = worker_id)?)
}

pub(super) fn end_sessions(conn: &mut PgConnection, worker_id: i64, sessions: &[SessionId]) -> Result<()> {
    let _: Vec<bool> = load!(
        conn, Pg => Bool,
        concat!("SELECT pg_terminate_backend(pid) FROM ", marks!(), " AND pid = ANY(?)"),
        BigInt = worker_id,
        Array<BigInt> = sessions,
    )?;
    Ok(())
}
