//! What people do with messages.

use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt, Text};
use diesel::sqlite::Sqlite;

use super::admin::text;
use super::turns::pass_turns;
use super::{json_list, logs, payloads};
use crate::broker::action::Sorted;
use crate::broker::audit::write_down;
use crate::broker::{Action, Changed, Noted, out_of_line, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result, State};

pub(super) fn change(
    conn: &mut SqliteConnection,
    action: &Action,
    ids: &[MessageId],
    noted: Noted<'_>,
) -> Result<Changed> {
    conn.immediate_transaction(|conn| {
        let mut sorted = Sorted::of(action, ids, &states(conn, ids)?);
        let (live, finished) = (json_list(&sorted.live)?, json_list(&sorted.finished)?);
        match action {
            Action::Retry => {
                make_due(conn, &live)?;
                sorted.revived(&revive(conn, &finished)?);
            }
            Action::Cancel => {
                cancel(conn, &live)?;
                pass_turns(conn, &sorted.live)?;
            }
            Action::Delete => {
                delete(conn, &live, &finished)?;
                pass_turns(conn, &sorted.live)?;
            }
            Action::Priority(priority) => {
                execute!(
                    conn,
                    Sqlite,
                    concat!(
                        "UPDATE taskmq_messages SET priority = ?, ",
                        out_of_line!(),
                        " WHERE id IN (SELECT value FROM json_each(?))"
                    ),
                    SmallInt = *priority,
                    Text = &live,
                )?;
            }
            Action::RunAt(at) => {
                execute!(
                    conn,
                    Sqlite,
                    concat!(
                        "UPDATE taskmq_messages SET run_at = max(?, ",
                        now!(),
                        "), ",
                        out_of_line!(),
                        " WHERE id IN (SELECT value FROM json_each(?))"
                    ),
                    Text = text(*at),
                    Text = &live,
                )?;
            }
        }
        let changed = sorted.changed();
        write_down(conn, noted, &changed.changed)?;
        Ok(changed)
    })
}

/// The write lock is held, so that they stay as they are.
fn states(conn: &mut SqliteConnection, ids: &[MessageId]) -> Result<Vec<(MessageId, State)>> {
    let ids = json_list(ids)?;
    let found: Vec<(MessageId, String)> = load!(
        conn, Sqlite => (BigInt, Text),
        concat!("SELECT m.id, ", state!(), " FROM json_each(?) wanted
             CROSS JOIN taskmq_messages m NOT INDEXED ON m.id = wanted.value LEFT JOIN ", leased!(), " ON leased.id = m.id
         UNION ALL
         SELECT id, state FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))"),
        Text = &ids,
        Text = &ids,
    )?;
    Ok(found.into_iter().map(|(id, state)| (id, rows::state(&state))).collect())
}

fn make_due(conn: &mut SqliteConnection, ids: &str) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        concat!(
            "UPDATE taskmq_messages SET run_at = ",
            now!(),
            " WHERE id IN (SELECT value FROM json_each(?)) AND run_at > ",
            now!()
        ),
        Text = ids,
    )?;
    Ok(())
}

/// Gives those that no live message with their key is in the way of.
fn revive(conn: &mut SqliteConnection, ids: &str) -> Result<Vec<MessageId>> {
    let revived: Vec<MessageId> = load!(
        conn, Sqlite => BigInt,
        concat!("INSERT INTO taskmq_messages (id, topic, priority, run_at, created_at, max_attempts, unique_key, ordering_key, headers, payload)
         SELECT id, topic, priority, CASE state WHEN 'cancelled' THEN max(run_at, ", now!(), ") ELSE ", now!(), " END,
            created_at, max_attempts, unique_key, ordering_key, headers, payload
         FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))
         ON CONFLICT (topic, unique_key) WHERE unique_key IS NOT NULL DO NOTHING
         RETURNING id"),
        Text = ids,
    )?;
    execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))",
        Text = json_list(&revived)?,
    )?;
    Ok(revived)
}

fn cancel(conn: &mut SqliteConnection, ids: &str) -> Result<()> {
    execute!(
        conn, Sqlite,
        "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts, crashes,
            max_attempts, unique_key, ordering_key, headers, payload)
         SELECT id, topic, 'cancelled', priority, run_at, created_at, claimed_at, 0, attempts, crashes,
            max_attempts, unique_key, ordering_key, headers, payload
         FROM taskmq_messages WHERE id IN (SELECT value FROM json_each(?))",
        Text = ids,
    )?;
    delete_live(conn, ids)
}

fn delete(conn: &mut SqliteConnection, live: &str, finished: &str) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_failures WHERE message_id IN (SELECT value FROM json_each(?) UNION ALL SELECT value FROM json_each(?))",
        Text = live,
        Text = finished,
    )?;
    for ids in [live, finished] {
        logs::delete(conn, ids)?;
        payloads::delete(conn, ids)?;
    }
    execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_archive WHERE id IN (SELECT value FROM json_each(?))",
        Text = finished,
    )?;
    delete_live(conn, live)
}

fn delete_live(conn: &mut SqliteConnection, ids: &str) -> Result<()> {
    execute!(
        conn,
        Sqlite,
        "DELETE FROM taskmq_messages WHERE id IN (SELECT value FROM json_each(?))",
        Text = ids
    )?;
    Ok(())
}
