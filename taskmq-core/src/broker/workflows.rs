//! Workflows: the message of a step is produced when the steps that it waits for are done.
//!
//! Whoever changes the steps of a workflow holds the lock of its row, and of several workflows in the order of their ids.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::{Broker, Note, Outcome, Settlement, atomically, rows};
use crate::produce::MessageRecord;
use crate::workflow::WORKFLOW_HEADER;
use crate::{Error, MessageId, Result, State};

/// The number that the database gave a workflow.
pub type WorkflowId = i64;

/// A checked workflow in the form that the databases take.
#[derive(Clone, Debug)]
pub struct WorkflowRecord {
    pub(crate) name: String,
    pub(crate) keep_seconds: Option<i64>,
    pub(crate) steps: Vec<StepRecord>,
}

/// A step of it.
#[derive(Clone, Debug)]
pub(crate) struct StepRecord {
    pub(crate) name: String,
    /// The steps that it waits for, by their numbers: from 1, in the order of `WorkflowRecord::steps`.
    pub(crate) after: Vec<i32>,
    pub(crate) message: MessageRecord,
}

/// Where a workflow is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum WorkflowState {
    /// It has steps that are not done.
    Running,
    /// All its steps are done.
    Done,
    /// A person cancelled it: no further step begins.
    Cancelled,
}

impl WorkflowState {
    /// All of them.
    pub const ALL: [WorkflowState; 3] =
        [WorkflowState::Running, WorkflowState::Done, WorkflowState::Cancelled];

    /// Its name in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            WorkflowState::Running => "running",
            WorkflowState::Done => "done",
            WorkflowState::Cancelled => "cancelled",
        }
    }
}

impl fmt::Display for WorkflowState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for WorkflowState {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        WorkflowState::ALL.into_iter().find(|s| s.as_str() == text).ok_or_else(|| {
            let known = WorkflowState::ALL.map(WorkflowState::as_str).join(", ");
            format!("{text:?} is no state of a workflow; the states are {known}")
        })
    }
}

/// The workflows that are not finished.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct RunningWorkflows {
    /// How many they are, as far as they were counted.
    pub number: i64,
    /// When the first of them was produced.
    pub oldest: Option<DateTime<Utc>>,
}

/// A workflow and how far it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WorkflowEntry {
    /// Its id.
    pub id: WorkflowId,
    /// Its name. Many may have the same.
    pub name: String,
    /// Where it is.
    pub state: WorkflowState,
    /// How many steps it has.
    pub steps: i32,
    /// How many of them are done.
    pub done: i32,
    /// How many are dead or cancelled, and hold up what waits for them until a person retries them.
    pub stuck: i64,
    /// When it was produced.
    pub created_at: DateTime<Utc>,
    /// When its last step was done, or when it was cancelled.
    pub finished_at: Option<DateTime<Utc>>,
}

/// A step of a workflow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Step {
    /// Its number, from 1.
    pub step: i32,
    /// Its name.
    pub name: String,
    /// Its topic.
    pub topic: String,
    /// Where it is.
    pub state: StepState,
    /// Its message, once it waits for no other step.
    pub message_id: Option<MessageId>,
    /// The numbers of the steps that it waits for; they are smaller than its own.
    pub after: Vec<i32>,
    /// When it was done.
    pub done_at: Option<DateTime<Utc>>,
}

/// Where a step is on its way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum StepState {
    /// Other steps come first.
    Waiting,
    /// A person deleted its message before it was done.
    Deleted,
    /// As its message is.
    #[serde(untagged)]
    Message(State),
}

impl StepState {
    /// Its name in JSON and on the command line.
    pub fn as_str(self) -> &'static str {
        match self {
            StepState::Waiting => "waiting",
            StepState::Message(state) => state.as_str(),
            StepState::Deleted => "deleted",
        }
    }

    /// It holds up what waits for it until a person does something.
    pub fn is_stuck(self) -> bool {
        matches!(self, StepState::Deleted | StepState::Message(State::Dead | State::Cancelled))
    }
}

impl fmt::Display for StepState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl Settlement {
    /// What its consumer returned, if it is a step that is done and others may have waited for that.
    fn ended_step(&self) -> Option<(MessageId, Option<&str>)> {
        match &self.outcome {
            Outcome::Done { result, .. } if self.tied.step => Some((self.id, result.as_deref())),
            _ => None,
        }
    }

    /// Whether it ends a step.
    #[cfg(any(feature = "postgres", feature = "mysql"))]
    pub(super) fn ends_step(&self) -> bool {
        self.ended_step().is_some()
    }
}

/// id, name, created, finished, cancelled, steps, open steps, stuck ones.
pub(super) type EntryRow = (WorkflowId, String, i64, Option<i64>, bool, i32, i32, i64);

fn entry(row: EntryRow) -> WorkflowEntry {
    let (id, name, created, finished, cancelled, steps, open, stuck) = row;
    let state = match finished {
        _ if cancelled => WorkflowState::Cancelled,
        Some(_) => WorkflowState::Done,
        None => WorkflowState::Running,
    };
    let (created_at, finished_at) = (rows::time(created), finished.map(rows::time));
    WorkflowEntry { id, name, state, steps, done: steps - open, stuck, created_at, finished_at }
}

/// step, name, topic, message, done.
pub(super) type StepRow = (i32, String, String, Option<MessageId>, Option<i64>);

/// step, topic, priority, delay, max_attempts, ordering_key, headers, payload.
pub(super) type WaitingRow =
    (i32, String, i16, i64, Option<i16>, Option<String>, Option<String>, Option<String>);

fn message(row: WaitingRow) -> (i32, MessageRecord) {
    let (step, topic, priority, delay_micros, max_attempts, ordering_key, headers, payload) = row;
    let payload = payload.unwrap_or_else(|| "null".to_owned());
    let unique_key = None;
    (
        step,
        MessageRecord {
            topic,
            payload,
            priority,
            delay_micros,
            max_attempts,
            unique_key,
            ordering_key,
            headers,
        },
    )
}

/// What each database does itself for workflows, as part of the open transaction.
pub(super) trait Stepping: Broker {
    fn insert_workflow(&mut self, name: &str, keep: Option<i64>, steps: i32) -> Result<WorkflowId>;

    /// Stores a step; it waits, unless it has its message already.
    fn insert_step(
        &mut self,
        workflow: WorkflowId,
        number: i32,
        step: &StepRecord,
        message: Option<MessageId>,
    ) -> Result<()>;

    fn insert_edge(&mut self, workflow: WorkflowId, earlier: i32, later: i32) -> Result<()>;

    /// The workflow of a message, and its number there. Without a lock.
    fn step_of(&mut self, message: MessageId) -> Result<Option<(WorkflowId, i32)>>;

    /// Excludes all others to the end of the transaction, and tells whether further steps may begin; `None`: it is gone.
    fn lock_workflow(&mut self, workflow: WorkflowId) -> Result<Option<bool>>;

    /// `false`: it was done before.
    fn end_step(&mut self, workflow: WorkflowId, step: i32, result: Option<&str>) -> Result<bool>;

    /// What waits for this step waits for one less.
    fn count_down(&mut self, workflow: WorkflowId, step: i32) -> Result<()>;

    /// What waited for this step and waits for none any more.
    fn steps_after(&mut self, workflow: WorkflowId, step: i32) -> Result<Vec<WaitingRow>>;

    /// This is its message; what the message is made of is not needed any more.
    fn note_message(&mut self, workflow: WorkflowId, step: i32, message: MessageId) -> Result<()>;

    /// So many steps more are done; with the last one it is finished.
    fn count_done(&mut self, workflow: WorkflowId, steps: i32) -> Result<()>;

    /// `false`: it is finished, or not there.
    fn finish_cancelled(&mut self, workflow: WorkflowId) -> Result<bool>;

    /// Those with ids below this one, the highest id first.
    fn entry_rows(
        &mut self,
        state: Option<WorkflowState>,
        below: WorkflowId,
        limit: i64,
    ) -> Result<Vec<EntryRow>>;

    /// How many are not finished, up to so many, and when the first of them was produced.
    fn running(&mut self, at_most: i64) -> Result<(i64, Option<i64>)>;

    fn step_rows(&mut self, workflow: WorkflowId) -> Result<Vec<StepRow>>;

    /// Earlier and later ones.
    fn edges(&mut self, workflow: WorkflowId) -> Result<Vec<(i32, i32)>>;

    /// The names and results of the steps that this message's waited for.
    fn results_before(&mut self, message: MessageId) -> Result<Vec<(String, Option<String>)>>;

    /// Those that are kept no longer.
    fn over(&mut self, limit: i64) -> Result<Vec<WorkflowId>>;

    fn delete_workflow(&mut self, workflow: WorkflowId) -> Result<()>;
}

/// See [`Broker::produce_workflow`].
pub(super) fn produce(conn: &mut impl Stepping, workflow: &WorkflowRecord) -> Result<WorkflowId> {
    atomically(conn, |conn| {
        let steps = i32::try_from(workflow.steps.len()).unwrap_or(i32::MAX);
        let id = conn.insert_workflow(&workflow.name, workflow.keep_seconds, steps)?;
        for (number, step) in (1..).zip(&workflow.steps) {
            let mut step = step.clone();
            step.message.headers = Some(with_workflow(step.message.headers.as_deref(), id)?);
            let message = match step.after[..] {
                [] => Some(conn.produce(&step.message)?.id()),
                _ => None,
            };
            conn.insert_step(id, number, &step, message)?;
            for earlier in step.after {
                conn.insert_edge(id, earlier, number)?;
            }
        }
        Ok(id)
    })
}

/// The header by which a worker knows a step.
fn with_workflow(headers: Option<&str>, id: WorkflowId) -> Result<String> {
    let headers: Option<BTreeMap<String, String>> = headers
        .map(serde_json::from_str)
        .transpose()
        .map_err(|source| Error::Decode { what: "the headers of a step", source })?;
    let mut headers = headers.unwrap_or_default();
    headers.insert(WORKFLOW_HEADER.to_owned(), id.to_string());
    serde_json::to_string(&headers).map_err(|source| Error::Encode { what: "the headers", source })
}

/// These messages are acknowledged: if they are steps, those that waited for nothing else become messages now.
pub(super) fn advance<'s>(
    conn: &mut impl Stepping,
    written: impl Iterator<Item = &'s Settlement>,
) -> Result<()> {
    let mut ended = Vec::new();
    for (message, result) in written.filter_map(Settlement::ended_step) {
        if let Some((workflow, step)) = conn.step_of(message)? {
            ended.push((workflow, step, result));
        }
    }
    // In one order, so that nobody waits in a circle.
    ended.sort_unstable();
    for steps in ended.chunk_by(|a, b| a.0 == b.0) {
        let workflow = steps[0].0;
        let Some(open) = conn.lock_workflow(workflow)? else { continue };
        let mut done = 0;
        for &(_, step, result) in steps {
            if !conn.end_step(workflow, step, result)? {
                continue;
            }
            done += 1;
            if open {
                conn.count_down(workflow, step)?;
                for (next, record) in conn.steps_after(workflow, step)?.into_iter().map(message) {
                    let produced = conn.produce(&record)?;
                    conn.note_message(workflow, next, produced.id())?;
                }
            }
        }
        if done > 0 {
            conn.count_done(workflow, done)?;
        }
    }
    Ok(())
}

/// See [`Administration::workflows`](super::Administration::workflows).
pub(super) fn workflows(
    conn: &mut impl Stepping,
    state: Option<WorkflowState>,
    below: WorkflowId,
    limit: i64,
) -> Result<Vec<WorkflowEntry>> {
    Ok(conn.entry_rows(state, below, limit)?.into_iter().map(entry).collect())
}

/// See [`Administration::running_workflows`](super::Administration::running_workflows).
pub(super) fn running(conn: &mut impl Stepping, at_most: i64) -> Result<RunningWorkflows> {
    let (number, oldest) = conn.running(at_most)?;
    Ok(RunningWorkflows { number, oldest: oldest.map(rows::time) })
}

/// See [`Administration::workflow`](super::Administration::workflow).
pub(super) fn workflow(
    conn: &mut impl Stepping,
    id: WorkflowId,
) -> Result<Option<(WorkflowEntry, Vec<Step>)>> {
    let newest = conn.entry_rows(None, id.saturating_add(1), 1)?.into_iter().map(entry);
    let Some(entry) = newest.into_iter().find(|entry| entry.id == id) else { return Ok(None) };
    let rows = conn.step_rows(id)?;
    let open: Vec<MessageId> = rows.iter().filter(|row| row.4.is_none()).filter_map(|row| row.3).collect();
    let states: BTreeMap<MessageId, State> =
        conn.summaries(&open, None)?.into_iter().map(|message| (message.id, message.state)).collect();
    let mut after: BTreeMap<i32, Vec<i32>> = BTreeMap::new();
    for (earlier, later) in conn.edges(id)? {
        after.entry(later).or_default().push(earlier);
    }
    let step = |(step, name, topic, message_id, done): StepRow| {
        let state = match (done, message_id) {
            (Some(_), _) => StepState::Message(State::Done),
            (None, None) => StepState::Waiting,
            (None, Some(id)) => {
                states.get(&id).map_or(StepState::Deleted, |state| StepState::Message(*state))
            }
        };
        let after = after.get(&step).cloned().unwrap_or_default();
        Step { step, name, topic, state, message_id, after, done_at: done.map(rows::time) }
    };
    Ok(Some((entry, rows.into_iter().map(step).collect())))
}

/// See [`Administration::cancel_workflow`](super::Administration::cancel_workflow).
pub(super) fn cancel(conn: &mut impl Stepping, id: WorkflowId, actor: &str) -> Result<bool> {
    atomically(conn, |conn| {
        let cancelled = conn.finish_cancelled(id)?;
        if cancelled {
            let details = format!("workflow {id}");
            let action = "cancel workflow";
            let note = Note { actor, action, topic: None, message_id: None, details: &details, messages: 0 };
            conn.note(&note)?;
        }
        Ok(cancelled)
    })
}

/// See [`Broker::purge_workflows`].
pub(super) fn purge(conn: &mut impl Stepping, limit: i64) -> Result<usize> {
    // Without a lock first: most of the time there is nothing.
    let mut over = conn.over(limit)?;
    if over.is_empty() {
        return Ok(0);
    }
    over.sort_unstable();
    atomically(conn, |conn| over.iter().try_for_each(|id| conn.delete_workflow(*id)))?;
    Ok(over.len())
}
