//! What people do with messages.

use diesel::mysql::Mysql;
use diesel::prelude::*;
use diesel::sql_types::{BigInt, SmallInt, Text};

use super::admin::{listed, listed_archive, listed_messages, text};
use super::claim::{claim_lock, leased};
use super::turns::pass_turns;
use super::{json, logs, payloads, transaction};
use crate::broker::action::Sorted;
use crate::broker::audit::write_down;
use crate::broker::{Action, Changed, Noted, out_of_line, rows};
use crate::statement::{execute, load};
use crate::{MessageId, Result, State};

pub(super) fn change(
    conn: &mut MysqlConnection,
    action: &Action,
    ids: &[MessageId],
    noted: Noted<'_>,
) -> Result<Changed> {
    transaction(conn, |conn| {
        let mut sorted = Sorted::of(action, ids, &lock(conn, ids)?);
        let (live, finished) = (json(&sorted.live)?, json(&sorted.finished)?);
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
                    Mysql,
                    concat!("UPDATE ", listed_messages!(), " SET m.priority = ?, ", out_of_line!()),
                    Text = &live,
                    SmallInt = *priority,
                )?;
            }
            Action::RunAt(at) => {
                execute!(
                    conn,
                    Mysql,
                    concat!(
                        "UPDATE ",
                        listed_messages!(),
                        "
                     SET m.run_at = greatest(CAST(? AS DATETIME(6)), CURRENT_TIMESTAMP(6)), ",
                        out_of_line!()
                    ),
                    Text = &live,
                    Text = text(*at),
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
fn lock(conn: &mut MysqlConnection, ids: &[MessageId]) -> Result<Vec<(MessageId, State)>> {
    claim_lock(conn, false)?;
    let leased = leased(conn)?;
    let ids = json(ids)?;
    let live: Vec<(MessageId, String)> = load!(
        conn, Mysql => (BigInt, Text),
        concat!("SELECT m.id, ", state!("m.worker_id > 0"), " FROM ", listed_messages!(), " FOR UPDATE"),
        Text = &ids,
    )?;
    let finished: Vec<(MessageId, String)> = load!(
        conn, Mysql => (BigInt, Text),
        concat!("SELECT a.id, a.state FROM ", listed_archive!(), " FOR UPDATE"),
        Text = &ids,
    )?;
    let live = live.into_iter().map(|(id, state)| match leased.contains(&id) {
        true => (id, State::Running),
        false => (id, rows::state(&state)),
    });
    Ok(live.chain(finished.into_iter().map(|(id, state)| (id, rows::state(&state)))).collect())
}

fn make_due(conn: &mut MysqlConnection, ids: &str) -> Result<()> {
    execute!(
        conn,
        Mysql,
        concat!(
            "UPDATE ",
            listed_messages!(),
            "
         SET m.run_at = CURRENT_TIMESTAMP(6) WHERE m.run_at > CURRENT_TIMESTAMP(6)"
        ),
        Text = ids,
    )?;
    Ok(())
}

/// Gives those that no live message with their key is in the way of.
fn revive(conn: &mut MysqlConnection, ids: &str) -> Result<Vec<MessageId>> {
    // Assigning a column to itself leaves out what has its key taken, and swallows no other error, as IGNORE would.
    execute!(
        conn, Mysql,
        concat!("INSERT INTO taskmq_messages (id, topic, priority, run_at, created_at, max_attempts, unique_key, ordering_key, headers, payload)
         SELECT a.id, a.topic, a.priority,
            CASE a.state WHEN 'cancelled' THEN greatest(a.run_at, CURRENT_TIMESTAMP(6)) ELSE CURRENT_TIMESTAMP(6) END, a.created_at, a.max_attempts, a.unique_key, a.ordering_key, a.headers, a.payload
         FROM ", listed_archive!(), "
         ON DUPLICATE KEY UPDATE taskmq_messages.id = taskmq_messages.id"),
        Text = ids,
    )?;
    let revived: Vec<MessageId> = load!(
        conn, Mysql => BigInt,
        concat!("SELECT m.id FROM ", listed_messages!()),
        Text = ids,
    )?;
    delete_finished(conn, &json(&revived)?)?;
    Ok(revived)
}

fn cancel(conn: &mut MysqlConnection, ids: &str) -> Result<()> {
    execute!(
        conn, Mysql,
        concat!("INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, claimed_at, worker_id, attempts, crashes,
            max_attempts, unique_key, ordering_key, headers, payload)
         SELECT m.id, m.topic, 'cancelled', m.priority, m.run_at, m.created_at, m.claimed_at, 0, m.attempts, m.crashes,
            m.max_attempts, m.unique_key, m.ordering_key, m.headers, m.payload
         FROM ", listed_messages!()),
        Text = ids,
    )?;
    delete_live(conn, ids)
}

fn delete(conn: &mut MysqlConnection, live: &str, finished: &str) -> Result<()> {
    for ids in [live, finished] {
        execute!(
            conn,
            Mysql,
            concat!(
                "DELETE f FROM ",
                listed!(),
                " STRAIGHT_JOIN taskmq_failures f FORCE INDEX (taskmq_failures_message) ON f.message_id = listed.id"
            ),
            Text = ids,
        )?;
        logs::delete(conn, ids)?;
        payloads::delete(conn, ids)?;
    }
    delete_finished(conn, finished)?;
    delete_live(conn, live)
}

fn delete_finished(conn: &mut MysqlConnection, ids: &str) -> Result<()> {
    execute!(conn, Mysql, concat!("DELETE a FROM ", listed_archive!()), Text = ids)?;
    Ok(())
}

fn delete_live(conn: &mut MysqlConnection, ids: &str) -> Result<()> {
    execute!(conn, Mysql, concat!("DELETE m FROM ", listed_messages!()), Text = ids)?;
    Ok(())
}
