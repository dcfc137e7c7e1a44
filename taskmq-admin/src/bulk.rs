//! Changes of many messages, done page by page while whoever asked for them looks on or goes away.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use chrono::{DateTime, Utc};
use taskmq_core::broker::{Action, Broker, Note, Selection, Walk};
use taskmq_core::overview::Count;

use crate::admin::Shared;
use crate::database::Pool;
use crate::problem::Problem;

/// Each page is a transaction, and noted by it: to stop between two loses nothing.
const PAGE: i64 = 500;

/// What somebody else was in the way of is tried again so often, after this time and then twice the last.
const TRIES: u32 = 5;
const PAUSE: Duration = Duration::from_millis(100);

/// So many are remembered.
const REMEMBERED: usize = 50;

/// One change of all messages of a selection.
#[derive(Debug)]
pub(crate) struct Bulk {
    pub(crate) id: u64,
    pub(crate) action: Action,
    pub(crate) selection: Selection,
    pub(crate) actor: String,
    pub(crate) total: Count,
    pub(crate) started_at: DateTime<Utc>,
    changed: AtomicI64,
    refused: AtomicI64,
    stopped: AtomicBool,
    end: Mutex<Option<End>>,
}

#[derive(Clone, Debug)]
pub(crate) enum End {
    Finished,
    Stopped,
    Failed(Arc<Problem>),
}

impl Bulk {
    pub(crate) fn changed(&self) -> i64 {
        self.changed.load(Ordering::Relaxed)
    }

    pub(crate) fn refused(&self) -> i64 {
        self.refused.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) -> Option<End> {
        self.end.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// After the page that is under way.
    pub(crate) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    fn is_stopped(&self) -> bool {
        self.stopped.load(Ordering::Relaxed)
    }

    async fn run(&self, shared: &Shared) -> Result<End, Problem> {
        let writing = shared.writing.as_ref().ok_or(Problem::NotFound)?;
        let (actor, action, topic) = (self.actor.clone(), self.action, self.selection.topic.clone());
        let details = details(&self.selection, &self.action);
        let note = self
            .ask(writing, move |broker| {
                broker.note(&Note {
                    actor: &actor,
                    action: action.as_str(),
                    topic: topic.as_deref(),
                    message_id: None,
                    details: &details,
                    messages: 0,
                })
            })
            .await?;
        let mut walk: Walk = self.selection.clone().walk();
        loop {
            if self.is_stopped() {
                return Ok(End::Stopped);
            }
            let step = self.ask(writing, move |broker| {
                let changed = walk.change(broker, PAGE, &action, note)?;
                Ok(changed.map(|changed| (walk, changed)))
            });
            let Some((next, changed)) = step.await? else { return Ok(End::Finished) };
            walk = next;
            let number = |list: usize| i64::try_from(list).unwrap_or_default();
            self.changed.fetch_add(number(changed.changed.len() + changed.asked.len()), Ordering::Relaxed);
            self.refused.fetch_add(number(changed.refused.len()), Ordering::Relaxed);
        }
    }

    /// Asks again what has come to nothing, unless it is stopped.
    async fn ask<T: Send + 'static>(
        &self,
        writing: &Pool,
        question: impl FnOnce(&mut dyn Broker) -> taskmq_core::Result<T> + Clone + Send + 'static,
    ) -> Result<T, Problem> {
        let mut tries = 0;
        loop {
            match writing.ask(question.clone()).await {
                Err(problem) if problem.passes() && tries < TRIES && !self.is_stopped() => {
                    tokio::time::sleep(PAUSE * 2_u32.pow(tries)).await;
                    tries += 1;
                }
                answer => return answer,
            }
        }
    }
}

/// What the audit log says beside the action and the topic.
pub(crate) fn details(selection: &Selection, action: &Action) -> String {
    let mut details = vec![selection.to_string()];
    details.extend(value(action));
    details.join(", ")
}

pub(crate) fn value(action: &Action) -> Option<String> {
    match action {
        Action::Priority(priority) => Some(format!("to {priority}")),
        Action::RunAt(at) => Some(format!("at {at}")),
        Action::Retry | Action::Cancel | Action::Delete => None,
    }
}

/// Those that run and the last ones that ran, in this process.
#[derive(Default)]
pub(crate) struct Bulks(Mutex<Vec<Arc<Bulk>>>);

impl Bulks {
    /// Begins one and goes on.
    pub(crate) fn start(
        &self,
        shared: &Arc<Shared>,
        action: Action,
        selection: Selection,
        actor: &str,
        total: Count,
        now: DateTime<Utc>,
    ) -> u64 {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The time tells it from those of the processes before and beside this one that are behind the same name.
        let id = all.last().map_or(0, |last| last.id + 1).max(now.timestamp_micros().unsigned_abs());
        let bulk = Arc::new(Bulk {
            id,
            action,
            selection,
            actor: actor.to_owned(),
            total,
            started_at: now,
            changed: AtomicI64::new(0),
            refused: AtomicI64::new(0),
            stopped: AtomicBool::new(false),
            end: Mutex::new(None),
        });
        if all.len() >= REMEMBERED
            && let Some(at) = all.iter().position(|bulk| bulk.end().is_some())
        {
            all.remove(at);
        }
        all.push(Arc::clone(&bulk));
        let shared = Arc::clone(shared);
        tokio::spawn(async move {
            let end = bulk.run(&shared).await.unwrap_or_else(|problem| {
                // Nobody waits any more for what was in the way.
                if problem.passes() && bulk.is_stopped() {
                    End::Stopped
                } else {
                    End::Failed(Arc::new(problem))
                }
            });
            *bulk.end.lock().unwrap_or_else(PoisonError::into_inner) = Some(end);
        });
        id
    }

    pub(crate) fn get(&self, id: u64) -> Option<Arc<Bulk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().find(|bulk| bulk.id == id).cloned()
    }

    /// The last one first.
    pub(crate) fn all(&self) -> Vec<Arc<Bulk>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).iter().rev().cloned().collect()
    }
}
