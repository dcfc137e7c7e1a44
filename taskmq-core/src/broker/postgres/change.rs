//! What people do with messages.

use diesel::pg::Pg;
use diesel::prelude::*;
use diesel::sql_types::{Array, BigInt, SmallInt, Text, Timestamptz};

use super::admin::timestamp;
use super::claim::exclude_batch_claims;
use super::turns::pass_turns;
use super::{logs, payloads};
use crate::broker::action::Sorted;
use crate::broker::audit::write_down;
use crate::broker::{Action, Changed, Noted, out_of_line, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result, State};

pub(super) fn change(
    conn: &mut PgConnection,
    action: &Action,
    ids: &[MessageId],
    noted: Noted<'_>,
) -> Result<Changed> {
    conn.transaction(|conn| {
        let mut sorted = Sorted::of(action, ids, &lock(conn, ids)?);
        match action {
            Action::Retry => {
                make_due(conn, &sorted.live)?;
                let revived = revive(conn, &sorted.finished)?;
                sorted.revived(&revived);
            }
            Action::Cancel => {
                cancel(conn, &sorted.live)?;
                pass_turns(conn, &sorted.live)?;
            }
            Action::Delete => {
                delete(conn, &sorted.live, &sorted.finished)?;
                pass_turns(conn, &sorted.live)?;
            }
            Action::Priority(priority) => {
                execute!(
                    conn,
                    Pg,
                    concat!("UPDATE taskmq_messages SET priority = ?, ", out_of_line!(), " WHERE id = ANY(?)"),
                    SmallInt = *priority,
                    Array<BigInt> = &sorted.live,
                )?;
            }
            Action::RunAt(at) => {
                execute!(
                    conn,
                    Pg,
                    concat!("UPDATE taskmq_messages SET run_at = greatest(?, statement_timestamp()), ", out_of_line!(), " WHERE id = ANY(?)"),
                    Timestamptz = timestamp(*at),
                    Array<BigInt> = &sorted.live,
                )?;
            }
        }
        let changed = sorted.changed();
        write_down(conn, noted, &changed.changed)?;
        Ok(changed)
    })
}

/// Locks the messages, so that nobody can claim them until the end of the open transaction: against claims of single
/// messages by their rows, against those of batches as a whole.
fn lock(conn: &mut PgConnection, ids: &[MessageId]) -> Result<Vec<(MessageId, State)>> {
    exclude_batch_claims(conn)?;
    let mut found: Vec<(MessageId, String)> = load!(
        conn, Pg => (BigInt, Text),
        concat!("SELECT m.id, ", state!(), " FROM ", live_messages!(), " WHERE m.id = ANY(?) ORDER BY m.id FOR UPDATE OF m"),
        Array<BigInt> = ids,
    )?;
    let finished: Vec<(MessageId, String)> = load!(
        conn, Pg => (BigInt, Text),
        "SELECT id, state FROM taskmq_archive WHERE id = ANY(?) ORDER BY id FOR UPDATE",
        Array<BigInt> = ids,
    )?;
    found.extend(finished);
    Ok(found.into_iter().map(|(id, state)| (id, rows::state(&state))).collect())
}

fn make_due(conn: &mut PgConnection, ids: &[MessageId]) -> Result<()> {
    execute!(
        conn,
        Pg,
        "UPDATE taskmq_messages SET run_at = statement_timestamp() WHERE id = ANY(?) AND run_at > statement_timestamp()",
        Array<BigInt> = ids,
    )?;
    Ok(())
}

/// Gives those that no live message with their key is in the way of.
fn revive(conn: &mut PgConnection, ids: &[MessageId]) -> Result<Vec<MessageId>> {
    let revived: Vec<MessageId> = load!(
        conn, Pg => BigInt,
        "INSERT INTO taskmq_messages (id, topic, priority, run_at, created_at, max_attempts, unique_key, ordering_key, headers, payload)
         SELECT id, topic, priority, CASE state WHEN 'cancelled' THEN greatest(run_at, statement_timestamp()) ELSE statement_timestamp() END,
            created_at, max_attempts, unique_key, ordering_key, headers, payload
         FROM taskmq_archive WHERE id = ANY(?)
         ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
         RETURNING id",
        Array<BigInt> = ids,
    )?;
    execute!(conn, Pg, "DELETE FROM taskmq_archive WHERE id = ANY(?)", Array<BigInt> = &revived)?;
    Ok(revived)
}

fn cancel(conn: &mut PgConnection, ids: &[MessageId]) -> Result<()> {
    execute!(
        conn, Pg,
        "WITH gone AS (DELETE FROM taskmq_messages WHERE id = ANY(?) RETURNING *)
         INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts, crashes,
            max_attempts, unique_key, ordering_key, headers, payload)
         SELECT id, topic, 'cancelled', priority, run_at, created_at, claimed_at, 0, attempts, crashes,
            max_attempts, unique_key, ordering_key, headers, payload FROM gone",
        Array<BigInt> = ids,
    )?;
    Ok(())
}

fn delete(conn: &mut PgConnection, live: &[MessageId], finished: &[MessageId]) -> Result<()> {
    execute!(
        conn,
        Pg,
        "DELETE FROM taskmq_failures WHERE message_id = ANY(?)",
        Array<BigInt> = [live, finished].concat(),
    )?;
    logs::delete(conn, &[live, finished].concat())?;
    payloads::delete(conn, &[live, finished].concat())?;
    execute!(conn, Pg, "DELETE FROM taskmq_archive WHERE id = ANY(?)", Array<BigInt> = finished)?;
    execute!(conn, Pg, "DELETE FROM taskmq_messages WHERE id = ANY(?)", Array<BigInt> = live)?;
    Ok(())
}
