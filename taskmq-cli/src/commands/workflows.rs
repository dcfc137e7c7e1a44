//! `workflows`.

use serde::Serialize;
use taskmq_core::broker::{Changed, Step, StepState, WorkflowEntry, WorkflowId, WorkflowState};
use taskmq_core::{AnyConnection, BrokerConnection, State, workflow};

use super::ACTOR;
use super::change::{confirm, messages};
use crate::cli::{WorkflowCommand, WorkflowsArgs};
use crate::error::{Error, Result};
use crate::{database, output};

/// As JSON shows one with its steps.
#[derive(Debug, Serialize)]
struct Shown<'a> {
    #[serde(flatten)]
    workflow: &'a WorkflowEntry,
    all_steps: &'a [Step],
}

pub(crate) fn run(args: &WorkflowsArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    match args.command {
        None => list(args, &mut conn),
        Some(WorkflowCommand::Show { id }) => show(args, &mut conn, id),
        Some(WorkflowCommand::Retry { id }) => {
            let changed = workflow::retry(&mut conn, id, &ACTOR)?;
            tell(args, id, "goes on", "made due", &changed)
        }
        Some(WorkflowCommand::Cancel { id, yes }) => {
            let (workflow, steps) = find(&mut conn, id)?;
            let open = workflow.steps - workflow.done;
            let name = output::cell(&workflow.name);
            let already = workflow.state == WorkflowState::Cancelled;
            // What ran the first time may have failed since, and wait to be tried again.
            if already && !steps.iter().any(waits) {
                return tell(args, id, "was already cancelled", "taken back", &Changed::default());
            }
            let now = if already { "was already cancelled" } else { "is cancelled" };
            confirm(&format!("cancel workflow {id} ({name}) with {open} steps that are not done"), yes)?;
            let changed = workflow::cancel(&mut conn, id, &ACTOR)?;
            tell(args, id, now, "taken back", &changed)
        }
    }
}

/// Whether its message can be taken back.
fn waits(step: &Step) -> bool {
    matches!(step.state, StepState::Message(State::Ready | State::Scheduled | State::Retrying))
}

fn find(conn: &mut AnyConnection, id: WorkflowId) -> Result<(WorkflowEntry, Vec<Step>)> {
    let found = conn.broker().workflow(id)?;
    found.ok_or_else(|| Error::Failed(format!("workflow {id}: there is none of this id")))
}

fn list(args: &WorkflowsArgs, conn: &mut AnyConnection) -> Result<()> {
    let workflows = conn.broker().workflows(args.state, WorkflowId::MAX, args.limit)?;
    if args.json {
        output::json(&workflows);
        return Ok(());
    }
    if workflows.is_empty() {
        say!("there are no such workflows");
        return Ok(());
    }
    let row = |workflow: &WorkflowEntry| {
        vec![
            workflow.id.to_string(),
            output::cell(&workflow.name),
            workflow.state.to_string(),
            format!("{} of {}", workflow.done, workflow.steps),
            if workflow.stuck > 0 { workflow.stuck.to_string() } else { "-".to_owned() },
            workflow.created_at.format("%F %T").to_string(),
            workflow.finished_at.map_or_else(|| "-".to_owned(), |at| at.format("%F %T").to_string()),
        ]
    };
    let heading = ["ID", "NAME", "STATE", "DONE", "STUCK", "PRODUCED (UTC)", "FINISHED (UTC)"];
    output::table(&heading, &workflows.iter().map(row).collect::<Vec<_>>(), 1);
    Ok(())
}

fn show(args: &WorkflowsArgs, conn: &mut AnyConnection, id: WorkflowId) -> Result<()> {
    let (workflow, steps) = find(conn, id)?;
    if args.json {
        output::json(&[Shown { workflow: &workflow, all_steps: &steps }]);
        return Ok(());
    }
    let name = output::cell(&workflow.name);
    say!("workflow {id} ({name}): {}, {} of {} steps done", workflow.state, workflow.done, workflow.steps);
    let row = |step: &Step| {
        let after: Vec<String> = step.after.iter().map(i32::to_string).collect();
        vec![
            step.step.to_string(),
            output::cell(&step.name),
            step.state.to_string(),
            output::cell(&step.topic),
            step.message_id.map_or_else(|| "-".to_owned(), |id| id.to_string()),
            if after.is_empty() { "-".to_owned() } else { after.join(", ") },
            step.done_at.map_or_else(|| "-".to_owned(), |at| at.format("%F %T").to_string()),
        ]
    };
    let heading = ["STEP", "NAME", "STATE", "TOPIC", "MESSAGE", "AFTER", "DONE (UTC)"];
    output::table(&heading, &steps.iter().map(row).collect::<Vec<_>>(), 1);
    Ok(())
}

fn tell(args: &WorkflowsArgs, id: WorkflowId, now: &str, what: &str, changed: &Changed) -> Result<()> {
    if args.json {
        output::json(&[
            serde_json::json!({ "workflow": id, "changed": changed.changed, "asked": changed.asked }),
        ]);
    } else {
        say!("workflow {id} {now}; {what}: {}", messages(changed.changed.len()));
        if !changed.asked.is_empty() {
            say!("asked the workers of {} to end what runs", messages(changed.asked.len()));
        }
    }
    if changed.refused.is_empty() {
        return Ok(());
    }
    let refused = changed.refused.iter().map(|(id, why)| format!("message {id}: {why}"));
    Err(Error::Failed(refused.collect::<Vec<_>>().join("\n")))
}
