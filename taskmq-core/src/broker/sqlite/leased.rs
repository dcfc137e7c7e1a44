//! What workers hold in batches, for whoever walks a lane: it stays in the index of what is ready, in the way of every
//! claim. Looked up id by id, two batches would cost a claim almost as much as what it takes.

use diesel::prelude::*;
use diesel::sql_types::Text;
use diesel::sqlite::Sqlite;

use super::json_list;
use super::runs::{Run, runs};
use crate::statement::{execute, load};
use crate::{Error, MessageId, Result};

/// Whether no batch has the message: the ends of [`Leased::longest`] are to be bound. The plus keeps SQLite from going
/// through the ids below and the ids above instead of through the lane.
macro_rules! unleased {
    () => {
        "+id NOT BETWEEN ? AND ? AND id NOT IN temp.taskmq_leased"
    };
}
pub(super) use unleased;

/// All that is leased with batches, until the transaction ends.
#[derive(Debug)]
pub(super) struct Leased {
    /// Most of it or all, where one topic is drained. The rest is in `temp.taskmq_leased`.
    pub(super) longest: Run,
}

/// Between its ends is no id.
const NOTHING: Run = (0, -1);

impl Leased {
    /// Reads the lists of all batches once; whoever goes from lane to lane would otherwise have SQLite read them anew in
    /// each.
    pub(super) fn note(conn: &mut SqliteConnection) -> Result<Self> {
        let lists: Vec<String> = load!(conn, Sqlite => Text, "SELECT message_ids FROM taskmq_claims")?;
        let mut ids: Vec<MessageId> = Vec::new();
        for list in lists {
            let list: Vec<MessageId> = serde_json::from_str(&list)
                .map_err(|source| Error::Decode { what: "the messages of a batch", source })?;
            ids.extend(list);
        }
        let mut runs = runs(ids);
        let longest = (0..runs.len()).max_by_key(|at| runs[*at].1 - runs[*at].0);
        let longest = longest.map(|at| runs.swap_remove(at)).unwrap_or(NOTHING);
        execute!(conn, Sqlite, "CREATE TEMP TABLE IF NOT EXISTS taskmq_leased (id INTEGER PRIMARY KEY)")?;
        execute!(conn, Sqlite, "DELETE FROM temp.taskmq_leased")?;
        if !runs.is_empty() {
            let rest: Vec<MessageId> = runs.into_iter().flat_map(|(first, last)| first..=last).collect();
            execute!(
                conn,
                Sqlite,
                "INSERT INTO temp.taskmq_leased SELECT value FROM json_each(?)",
                Text = json_list(&rest)?
            )?;
        }
        Ok(Self { longest })
    }
}
