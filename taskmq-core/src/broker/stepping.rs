//! The SQL of workflows, which is the same on the three databases but for times and locks.

/// Implements `Stepping` for a connection.
macro_rules! stepping {
    (
        $conn:ty, $db:ty,
        now: $now:literal, purge_now: $purge_now:literal, kept_until: $kept_until:literal, micros: $micros:ident, lock: $lock:literal,
        insert_workflow: $insert_workflow:path $(,)?
    ) => {
        impl $crate::broker::workflows::Stepping for $conn {
            fn insert_workflow(
                &mut self,
                name: &str,
                keep: Option<i64>,
                steps: i32,
            ) -> Result<$crate::broker::WorkflowId> {
                $insert_workflow(self, name, keep, steps)
            }

            fn insert_step(
                &mut self,
                workflow: $crate::broker::WorkflowId,
                number: i32,
                step: &$crate::broker::workflows::StepRecord,
                message: Option<MessageId>,
            ) -> Result<()> {
                let of = &step.message;
                let waits = message.is_none();
                execute!(
                    self, $db,
                    "INSERT INTO taskmq_steps (workflow_id, step, name, waits_for, message_id, topic, priority, delay_micros,
                        max_attempts, ordering_key, headers, payload) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    BigInt = workflow,
                    Integer = number,
                    Text = &step.name,
                    Integer = i32::try_from(step.after.len()).unwrap_or(i32::MAX),
                    Nullable<BigInt> = message,
                    Text = &of.topic,
                    SmallInt = of.priority,
                    BigInt = of.delay_micros,
                    Nullable<SmallInt> = of.max_attempts,
                    Nullable<Text> = of.ordering_key.as_deref(),
                    Nullable<Text> = of.headers.as_deref().filter(|_| waits),
                    Nullable<Text> = Some(&*of.payload).filter(|_| waits),
                )?;
                Ok(())
            }

            fn insert_edge(
                &mut self,
                workflow: $crate::broker::WorkflowId,
                earlier: i32,
                later: i32,
            ) -> Result<()> {
                execute!(
                    self, $db,
                    "INSERT INTO taskmq_edges (workflow_id, earlier, later) VALUES (?, ?, ?)",
                    BigInt = workflow,
                    Integer = earlier,
                    Integer = later,
                )?;
                Ok(())
            }

            fn step_of(&mut self, message: MessageId) -> Result<Option<($crate::broker::WorkflowId, i32)>> {
                let found: Vec<(i64, i32)> = load!(
                    self, $db => (BigInt, Integer),
                    "SELECT workflow_id, step FROM taskmq_steps WHERE message_id = ?",
                    BigInt = message,
                )?;
                Ok(found.into_iter().next())
            }

            fn lock_workflow(&mut self, workflow: $crate::broker::WorkflowId) -> Result<Option<bool>> {
                let open: Vec<bool> = load!(
                    self, $db => Bool,
                    concat!("SELECT finished_at IS NULL FROM taskmq_workflows WHERE id = ?", $lock),
                    BigInt = workflow,
                )?;
                Ok(open.first().copied())
            }

            fn end_step(
                &mut self,
                workflow: $crate::broker::WorkflowId,
                step: i32,
                result: Option<&str>,
            ) -> Result<bool> {
                let touched = execute!(
                    self, $db,
                    concat!("UPDATE taskmq_steps SET done_at = ", $now, ", result = ? WHERE workflow_id = ? AND step = ? AND done_at IS NULL"),
                    Nullable<Text> = result,
                    BigInt = workflow,
                    Integer = step,
                )?;
                Ok(touched > 0)
            }

            fn count_down(&mut self, workflow: $crate::broker::WorkflowId, step: i32) -> Result<()> {
                execute!(
                    self, $db,
                    "UPDATE taskmq_steps SET waits_for = waits_for - 1 WHERE workflow_id = ? AND step IN (
                        SELECT later FROM taskmq_edges WHERE workflow_id = ? AND earlier = ?)",
                    BigInt = workflow,
                    BigInt = workflow,
                    Integer = step,
                )?;
                Ok(())
            }

            fn steps_after(
                &mut self,
                workflow: $crate::broker::WorkflowId,
                step: i32,
            ) -> Result<Vec<$crate::broker::workflows::WaitingRow>> {
                Ok(load!(
                    self, $db => (Integer, Text, SmallInt, BigInt, Nullable<SmallInt>, Nullable<Text>, Nullable<Text>, Nullable<Text>),
                    // A locking read sees what is committed, however old the snapshot of the host's transaction is.
                    concat!("SELECT step, topic, priority, delay_micros, max_attempts, ordering_key, headers, payload FROM taskmq_steps
                     WHERE workflow_id = ? AND waits_for = 0 AND message_id IS NULL
                     AND step IN (SELECT later FROM taskmq_edges WHERE workflow_id = ? AND earlier = ?) ORDER BY step", $lock),
                    BigInt = workflow,
                    BigInt = workflow,
                    Integer = step,
                )?)
            }

            fn note_message(
                &mut self,
                workflow: $crate::broker::WorkflowId,
                step: i32,
                message: MessageId,
            ) -> Result<()> {
                execute!(
                    self, $db,
                    "UPDATE taskmq_steps SET message_id = ?, headers = NULL, payload = NULL WHERE workflow_id = ? AND step = ?",
                    BigInt = message,
                    BigInt = workflow,
                    Integer = step,
                )?;
                Ok(())
            }

            fn count_done(&mut self, workflow: $crate::broker::WorkflowId, steps: i32) -> Result<()> {
                // MariaDB and MySQL assign from left to right, so what is compared comes last.
                execute!(
                    self, $db,
                    concat!("UPDATE taskmq_workflows SET
                        purge_at = CASE WHEN finished_at IS NULL AND open_steps <= ? THEN ", $kept_until, " ELSE purge_at END,
                        finished_at = CASE WHEN finished_at IS NULL AND open_steps <= ? THEN ", $now, " ELSE finished_at END,
                        open_steps = open_steps - ? WHERE id = ?"),
                    Integer = steps,
                    Integer = steps,
                    Integer = steps,
                    BigInt = workflow,
                )?;
                Ok(())
            }

            fn finish_cancelled(&mut self, workflow: $crate::broker::WorkflowId) -> Result<bool> {
                let touched = execute!(
                    self, $db,
                    concat!("UPDATE taskmq_workflows SET cancelled = TRUE, purge_at = ", $kept_until, ", finished_at = ", $now, "
                     WHERE id = ? AND finished_at IS NULL"),
                    BigInt = workflow,
                )?;
                Ok(touched > 0)
            }

            fn entry_rows(
                &mut self,
                state: Option<$crate::broker::WorkflowState>,
                below: $crate::broker::WorkflowId,
                limit: i64,
            ) -> Result<Vec<$crate::broker::workflows::EntryRow>> {
                use $crate::broker::WorkflowState::{Cancelled, Done, Running};
                macro_rules! entries {
                    ($which:literal) => { entries!($which, "w.id DESC") };
                    ($which:literal, $order:literal) => {
                        load!(
                            self, $db => (BigInt, Text, BigInt, Nullable<BigInt>, Bool, Integer, Integer, BigInt),
                            concat!("SELECT w.id, w.name, ", $micros!("w.created_at"), ", ", $micros!("w.finished_at"), ", w.cancelled, w.steps, w.open_steps,
                                (SELECT count(*) FROM taskmq_steps s JOIN taskmq_archive a ON a.id = s.message_id
                                 WHERE s.workflow_id = w.id AND s.done_at IS NULL AND a.state <> 'done')
                             FROM taskmq_workflows w WHERE w.id < ?", $which, " ORDER BY ", $order, " LIMIT ?"),
                            BigInt = below,
                            BigInt = limit,
                        )?
                    };
                }
                Ok(match state {
                    None => entries!(""),
                    // PostgreSQL takes `IS NULL` for no constant, and its index only in this order.
                    Some(Running) => entries!(" AND w.finished_at IS NULL", "w.finished_at DESC, w.id DESC"),
                    Some(Done) => entries!(" AND w.finished_at IS NOT NULL AND NOT w.cancelled"),
                    Some(Cancelled) => entries!(" AND w.cancelled"),
                })
            }

            fn running(&mut self, at_most: i64) -> Result<(i64, Option<i64>)> {
                let found: Vec<(i64, Option<i64>)> = load!(
                    self, $db => (BigInt, Nullable<BigInt>),
                    // Along the index of those that are not finished.
                    concat!("SELECT (SELECT count(*) FROM (SELECT id FROM taskmq_workflows WHERE finished_at IS NULL LIMIT ?) counted),
                     (SELECT ", $micros!("created_at"), " FROM taskmq_workflows WHERE finished_at IS NULL ORDER BY finished_at, id LIMIT 1)"),
                    BigInt = at_most,
                )?;
                Ok(found.into_iter().next().unwrap_or_default())
            }

            fn step_rows(
                &mut self,
                workflow: $crate::broker::WorkflowId,
            ) -> Result<Vec<$crate::broker::workflows::StepRow>> {
                Ok(load!(
                    self, $db => (Integer, Text, Text, Nullable<BigInt>, Nullable<BigInt>),
                    concat!("SELECT step, name, topic, message_id, ", $micros!("done_at"), " FROM taskmq_steps WHERE workflow_id = ? ORDER BY step"),
                    BigInt = workflow,
                )?)
            }

            fn edges(&mut self, workflow: $crate::broker::WorkflowId) -> Result<Vec<(i32, i32)>> {
                Ok(load!(
                    self, $db => (Integer, Integer),
                    "SELECT earlier, later FROM taskmq_edges WHERE workflow_id = ? ORDER BY earlier, later",
                    BigInt = workflow,
                )?)
            }

            fn results_before(&mut self, message: MessageId) -> Result<Vec<(String, Option<String>)>> {
                Ok(load!(
                    self, $db => (Text, Nullable<Text>),
                    "SELECT earlier.name, earlier.result FROM taskmq_steps own
                     JOIN taskmq_edges e ON e.workflow_id = own.workflow_id AND e.later = own.step
                     JOIN taskmq_steps earlier ON earlier.workflow_id = own.workflow_id AND earlier.step = e.earlier
                     WHERE own.message_id = ?",
                    BigInt = message,
                )?)
            }

            fn over(&mut self, limit: i64) -> Result<Vec<$crate::broker::WorkflowId>> {
                Ok(load!(
                    self, $db => BigInt,
                    concat!("SELECT id FROM taskmq_workflows WHERE purge_at IS NOT NULL AND purge_at <= ", $purge_now, " ORDER BY purge_at LIMIT ?"),
                    BigInt = limit,
                )?)
            }

            fn delete_workflow(&mut self, workflow: $crate::broker::WorkflowId) -> Result<()> {
                execute!(self, $db, "DELETE FROM taskmq_workflows WHERE id = ?", BigInt = workflow)?;
                execute!(self, $db, "DELETE FROM taskmq_edges WHERE workflow_id = ?", BigInt = workflow)?;
                execute!(self, $db, "DELETE FROM taskmq_steps WHERE workflow_id = ?", BigInt = workflow)?;
                Ok(())
            }
        }
    };
}
pub(super) use stepping;
