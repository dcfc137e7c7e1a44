//! Workflows: messages that wait for one another.
//!
//! A workflow is stored whole, as part of the producer's transaction. Its steps are ordinary messages of ordinary consumers:
//! the message of a step is produced when the steps that it waits for are done, in the very transaction that acknowledges
//! the last of them, so that no crash can come in between. A step that fails is retried like any message; while it is dead
//! or cancelled, what waits for it goes on waiting, until a person retries it or cancels the workflow.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use serde_json::Value;

use crate::broker::{
    Action, Broker, Changed, Note, Noted, Step, StepRecord, StepState, WorkflowEntry, WorkflowId,
    WorkflowRecord, WorkflowState,
};
use crate::limits::{MAX_STEPS, MAX_STEPS_BEFORE, check_key};
use crate::trace::Producing;
use crate::{BrokerConnection, Context, Error, MessageId, NewMessage, Result, Retention, State};

/// The header that the message of a step has: the workflow's id.
pub const WORKFLOW_HEADER: &str = "taskmq-workflow";

/// How long a workflow is kept that is finished, unless it says otherwise.
const KEPT: Duration = Duration::from_secs(24 * 3600);
/// What is kept longer is kept for ever: 100 years, which the databases can add to any time.
const FOR_EVER: Duration = Duration::from_secs(100 * 366 * 24 * 3600);

/// A workflow that is about to be produced.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] {
/// # use diesel::prelude::*;
/// # let mut conn = SqliteConnection::establish("app.db").unwrap();
/// use taskmq_core::{NewMessage, Workflow};
///
/// let id = Workflow::new("nightly report")
///     .step("orders", NewMessage::new("fetch", "orders"), &[])
///     .step("prices", NewMessage::new("fetch", "prices"), &[])
///     .step("report", NewMessage::new("report", &2026), &["orders", "prices"])
///     .produce(&mut conn)?;
/// # }
/// # Ok::<(), taskmq_core::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a workflow is stored only when `produce` is called"]
pub struct Workflow<'a> {
    name: Cow<'a, str>,
    retention: Retention,
    steps: Vec<(String, NewMessage<'a>, Vec<String>)>,
}

impl<'a> Workflow<'a> {
    /// One without steps. Its name (1 to 255 characters) is for people; many may have the same.
    pub fn new(name: impl Into<Cow<'a, str>>) -> Self {
        Self { name: name.into(), retention: Retention::For(KEPT), steps: Vec::new() }
    }

    /// Adds a step, which waits until the steps named are done; they have been added before it. The delay of its
    /// message counts from then on. It cannot have a unique key.
    pub fn step(mut self, name: impl Into<String>, message: NewMessage<'a>, after: &[&str]) -> Self {
        self.steps.push((name.into(), message, after.iter().map(|&name| name.to_owned()).collect()));
        self
    }

    /// How long it can be looked at once it is finished; a day if nothing is said. The messages of its steps are kept
    /// as their consumers say.
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// Stores it, as part of the transaction that is open on `conn`, or at once if none is.
    ///
    /// # Errors
    /// [`Error::Workflow`] for steps that do not fit together, [`Error::Key`] for a name, what
    /// [`NewMessage::produce`] says of a message, and what the database reports. Then nothing is stored.
    pub fn produce(self, conn: &mut impl BrokerConnection) -> Result<WorkflowId> {
        let producing = Producing::many();
        let record = self.into_record(&producing)?;
        producing.run(|| conn.broker().produce_workflow(&record))
    }

    /// Checks everything before anything is written.
    fn into_record(self, producing: &Producing) -> Result<WorkflowRecord> {
        let Self { name, retention, steps } = self;
        check_key("the name of a workflow", &name)?;
        let wrong = |problem: String| Error::Workflow { name: name.clone().into_owned(), problem };
        if steps.is_empty() {
            return Err(wrong("it has no steps".to_owned()));
        }
        if steps.len() > MAX_STEPS {
            return Err(wrong(format!("it has {} steps, but {MAX_STEPS} can be at most", steps.len())));
        }
        let mut numbers: HashMap<String, i32> = HashMap::new();
        let mut records = Vec::new();
        for (number, (step, mut message, mut names)) in (1..).zip(steps) {
            check_key("the name of a step", &step)?;
            names.sort_unstable();
            names.dedup();
            if names.len() > MAX_STEPS_BEFORE {
                let problem = format!("step {step:?} waits for more than {MAX_STEPS_BEFORE} others");
                return Err(wrong(problem));
            }
            let after = names.iter().map(|earlier| {
                numbers.get(earlier).copied().ok_or_else(|| {
                    let problem =
                        format!("step {step:?} waits for {earlier:?}, which was not added before it");
                    wrong(problem)
                })
            });
            let after = after.collect::<Result<Vec<i32>>>()?;
            producing.goes_with(message.headers_mut());
            let message = message.into_record()?;
            if message.unique_key.is_some() {
                let problem = format!(
                    "the message of step {step:?} has a unique key, which may be taken when its turn comes"
                );
                return Err(wrong(problem));
            }
            if numbers.insert(step.clone(), number).is_some() {
                return Err(wrong(format!("two of its steps are called {step:?}")));
            }
            records.push(StepRecord { name: step, after, message });
        }
        let keep_seconds = match retention {
            Retention::For(time) if time > FOR_EVER => None,
            retention => retention.seconds(),
        };
        Ok(WorkflowRecord { name: name.into_owned(), keep_seconds, steps: records })
    }
}

/// Lets no further step of a workflow begin, and cancels the messages of its steps that wait; what runs is finished. Both
/// is noted.
///
/// # Errors
/// [`Error::Workflow`] when there is none of this id, or when it is done; and what the database reports.
pub fn cancel(conn: &mut impl BrokerConnection, id: WorkflowId, actor: &str) -> Result<Changed> {
    let broker = conn.broker();
    broker.cancel_workflow(id, actor)?;
    // In a transaction of its own: who acknowledges a step has the locks the other way round.
    let (workflow, steps) = find(broker, id)?;
    if workflow.state == WorkflowState::Done {
        return Err(refused(id, "it is done"));
    }
    change(broker, Action::Cancel, id, actor, &steps, |state| {
        matches!(state, State::Ready | State::Scheduled | State::Retrying)
    })
}

/// Makes the messages of all steps of a workflow live again that are dead or cancelled, and notes it.
///
/// # Errors
/// [`Error::Workflow`] when there is none of this id, when it is cancelled, or when no step of it is dead or cancelled;
/// and what the database reports.
pub fn retry(conn: &mut impl BrokerConnection, id: WorkflowId, actor: &str) -> Result<Changed> {
    let broker = conn.broker();
    let (workflow, steps) = find(broker, id)?;
    if workflow.state == WorkflowState::Cancelled {
        return Err(refused(id, "it is cancelled; produce it again if it is to run again"));
    }
    if workflow.stuck == 0 {
        return Err(refused(id, "no step of it is dead or cancelled"));
    }
    change(broker, Action::Retry, id, actor, &steps, |state| matches!(state, State::Dead | State::Cancelled))
}

fn find(broker: &mut dyn Broker, id: WorkflowId) -> Result<(WorkflowEntry, Vec<Step>)> {
    broker.workflow(id)?.ok_or_else(|| refused(id, "there is none of this id"))
}

fn refused(id: WorkflowId, problem: &str) -> Error {
    Error::Workflow { name: id.to_string(), problem: problem.to_owned() }
}

fn change(
    broker: &mut dyn Broker,
    action: Action,
    id: WorkflowId,
    actor: &str,
    steps: &[Step],
    which: fn(State) -> bool,
) -> Result<Changed> {
    let is_meant = |step: &&Step| matches!(step.state, StepState::Message(state) if which(state));
    let ids: Vec<MessageId> = steps.iter().filter(is_meant).filter_map(|step| step.message_id).collect();
    let details = format!("workflow {id}");
    let note = Note {
        actor,
        action: action.as_str(),
        topic: None,
        message_id: None,
        details: &details,
        messages: 0,
    };
    broker.change(&action, &ids, Noted::New(&note))
}

/// The workflow that a message with these headers is a step of.
pub(crate) fn workflow_of(headers: &BTreeMap<String, String>) -> Option<WorkflowId> {
    headers.get(WORKFLOW_HEADER)?.parse().ok()
}

impl Context {
    /// The workflow that the message is a step of.
    pub fn workflow(&self) -> Option<WorkflowId> {
        workflow_of(self.headers())
    }

    /// What the steps returned that this one waited for, by their names; `null` of those that returned nothing. For
    /// what is no step, and when the workflow was deleted, there is none.
    ///
    /// ```
    /// # #[cfg(feature = "sqlite")] {
    /// use diesel::SqliteConnection;
    /// use taskmq_core::{Context, task_consumer};
    ///
    /// #[task_consumer(topic = "report")]
    /// fn report(year: i32, ctx: &Context, conn: &mut SqliteConnection) -> Result<(), taskmq_core::Error> {
    ///     for (step, rows) in ctx.results(conn)? {
    ///         println!("{year}: {step} fetched {rows}");
    ///     }
    ///     Ok(())
    /// }
    /// # }
    /// ```
    ///
    /// # Errors
    /// What the database reports.
    pub fn results(&self, conn: &mut impl BrokerConnection) -> Result<BTreeMap<String, Value>> {
        if self.workflow().is_none() {
            return Ok(BTreeMap::new());
        }
        let results = conn.broker().results_before(self.id())?.into_iter().map(|(step, result)| {
            let value = result.as_deref().map_or(Ok(Value::Null), serde_json::from_str);
            value
                .map(|value| (step, value))
                .map_err(|source| Error::Decode { what: "the result of a step", source })
        });
        results.collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(workflow: Workflow<'_>) -> String {
        workflow.into_record(&Producing::many()).expect_err("it is refused").to_string()
    }

    fn message<'a>() -> NewMessage<'a> {
        NewMessage::new("t", &1)
    }

    #[test]
    fn what_does_not_fit_together_is_refused_with_words() {
        assert_eq!(refused(Workflow::new("w")), "workflow \"w\": it has no steps");
        let text = refused(Workflow::new("w").step("a", message(), &["b"]).step("b", message(), &[]));
        assert!(text.contains("step \"a\" waits for \"b\", which was not added before it"), "{text}");
        let text = refused(Workflow::new("w").step("a", message(), &["a"]));
        assert!(text.contains("which was not added before it"), "{text}");
        let text = refused(Workflow::new("w").step("a", message(), &[]).step("a", message(), &[]));
        assert!(text.contains("two of its steps are called \"a\""), "{text}");
        let text = refused(Workflow::new("w").step("a", message().unique("k"), &[]));
        assert!(text.contains("has a unique key"), "{text}");
        let text = refused(Workflow::new("").step("a", message(), &[]));
        assert!(text.contains("the name of a workflow cannot be used"), "{text}");
        let text = refused(Workflow::new("w").step("a", NewMessage::new("no topic", &1), &[]));
        assert!(text.contains("topic \"no topic\""), "{text}");
        let many = (0..=MAX_STEPS).fold(Workflow::new("w"), |w, n| w.step(n.to_string(), message(), &[]));
        assert!(refused(many).contains("it has 1001 steps"));
    }

    #[test]
    fn steps_are_known_by_their_numbers() {
        let workflow = Workflow::new("w")
            .step("a", message(), &[])
            .step("b", message(), &["a", "a"])
            .step("c", message(), &["b", "a"])
            .retention(Retention::None);
        let record = workflow.into_record(&Producing::many()).expect("it is right");
        let after: Vec<&[i32]> = record.steps.iter().map(|step| &*step.after).collect();
        assert_eq!(after, [&[][..], &[1], &[1, 2]]);
        assert_eq!(record.keep_seconds, Some(0));
    }
}
