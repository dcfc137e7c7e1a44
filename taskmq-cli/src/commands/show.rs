use chrono::{DateTime, Utc};
use serde::Serialize;
use taskmq_admin::json::pretty;
use taskmq_core::message::{FailedAttempt, LogLine, Message, log_by_failure};
use taskmq_core::{BrokerConnection, State};

use crate::cli::ShowArgs;
use crate::error::{Error, Result};
use crate::{database, output};

#[derive(Serialize)]
struct Row<'a> {
    #[serde(flatten)]
    message: &'a Message,
    failures: &'a [FailedAttempt],
    log: &'a [LogLine],
    /// Since when it runs although a person has cancelled it.
    cancel_asked_at: Option<DateTime<Utc>>,
}

pub(crate) fn run(args: &ShowArgs, url: Option<&str>) -> Result<()> {
    let mut conn = database::connect(url)?;
    let Some(message) = conn.broker().message(args.id)? else {
        return Err(Error::Failed(format!("message {}: there is none of this id", args.id)));
    };
    let failures = conn.broker().failures(args.id)?;
    let log = conn.broker().log(args.id)?;
    let cancel_asked_at = match message.state {
        State::Running => conn.broker().cancel_asked_at(args.id)?,
        _ => None,
    };
    if args.json {
        output::json(&[Row { message: &message, failures: &failures, log: &log, cancel_asked_at }]);
        return Ok(());
    }
    let workflow = message.workflow();
    // Further lines of a text are indented, so that none can pass for a line of taskmq's.
    let line = |name: &str, text: String| {
        say!("{name:<13}{}", output::printable(&text).replace('\n', "\n             "));
    };
    line("message", message.id.to_string());
    line("topic", message.topic);
    line("state", message.state.to_string());
    if let Some(at) = cancel_asked_at {
        line("to end", format!("its worker was asked at {}", at.to_rfc3339()));
    }
    line("priority", message.priority.to_string());
    line("attempts", message.attempts.to_string());
    if message.crashes > 0 {
        line("crashes", message.crashes.to_string());
    }
    line("produced", message.created_at.to_rfc3339());
    line("due", message.run_at.to_rfc3339());
    if let Some(at) = message.finished_at {
        line("finished", at.to_rfc3339());
    }
    if let Some(key) = message.unique_key {
        line("unique key", key);
    }
    if let Some(key) = message.ordering_key {
        line("ordering key", key);
    }
    if let Some(headers) = message.headers {
        line("headers", headers.get().to_owned());
    }
    if let Some(workflow) = workflow {
        line("workflow", workflow.to_string());
    }
    if let Some(error) = message.error {
        line("error", error);
    }
    if let Some(result) = message.result {
        line("result", result.get().to_owned());
    }
    line("payload", pretty(message.payload.get(), usize::MAX));
    let logged = |lines: &[&LogLine]| {
        for LogLine { attempt, logged_at, level, line: words } in lines {
            line("log", format!("attempt {attempt} at {}, {level}: {words}", logged_at.to_rfc3339()));
        }
    };
    let (of_failures, others) = log_by_failure(&failures, &log);
    for (failure, lines) in failures.iter().zip(&of_failures) {
        logged(lines);
        let at = failure.failed_at.to_rfc3339();
        line(
            "failure",
            format!(
                "attempt {} at {at} on {}, {}: {}",
                failure.attempt, failure.worker, failure.kind, failure.error
            ),
        );
    }
    logged(&others);
    Ok(())
}
