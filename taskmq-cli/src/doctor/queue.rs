//! What the messages and the workers have to do with it.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use indicatif::HumanDuration;
use taskmq_core::broker::{HeldMessage, LimitedTopic, Place, Span, WorkerEntry};
use taskmq_core::overview::{LANES, Lanes, MOST};
use taskmq_core::{AnyConnection, BrokerConnection, State};

use super::{Finding, Level};
use crate::commands::change::messages;
use crate::error::Result;

/// Messages that are due for so long are not only waiting for their turn.
const STUCK: TimeDelta = TimeDelta::minutes(2);
/// Dead letters of this time are new.
const LATELY: TimeDelta = TimeDelta::hours(1);
/// At most so many of them are counted.
const COUNTED: i64 = 10_000;

/// A topic's messages that nobody holds.
#[derive(Debug, Default)]
struct Waiting {
    due_since: Option<DateTime<Utc>>,
    later: bool,
}

pub(super) fn examine(conn: &mut AnyConnection) -> Result<Vec<Finding>> {
    let broker = conn.broker();
    let now = broker.now()?;
    let workers = broker.workers(MOST)?;
    let held = broker.held(MOST)?;
    let paused: HashSet<String> = broker.paused()?.into_iter().map(|paused| paused.topic).collect();
    let limits = broker.limits()?;
    let mut topics: BTreeMap<String, Waiting> = BTreeMap::new();
    let lanes = Lanes::read(broker)?;
    for (lane, count) in lanes.all().iter().zip(lanes.count(broker, 1)?) {
        let waiting = topics.entry(lane.topic.clone()).or_default();
        waiting.due_since = [waiting.due_since, count.oldest_due].into_iter().flatten().min();
        waiting.later |= count.scheduled + count.retrying > 0;
    }
    let mut findings = Vec::new();
    findings.extend(judge_topics(&topics, &workers, &held, &paused, &limits, now));
    if lanes.are_more() {
        findings.push(Finding::new(
            Level::Remark,
            "many-topics",
            format!("only {LANES} of the topics and their priorities were looked at"),
            "there are more, and each costs a claim and every look some time",
            "use fewer topics, and a handful of priorities",
        ));
    }
    findings.extend(judge_workers(&workers, &held));
    let mut span = Span::everything(COUNTED);
    span.from = Place::before(now - LATELY);
    findings.extend(judge_dead(broker.finished(State::Dead, &span)?.len()));
    Ok(findings)
}

fn judge_topics(
    topics: &BTreeMap<String, Waiting>,
    workers: &[WorkerEntry],
    held: &[HeldMessage],
    paused: &HashSet<String>,
    limits: &[LimitedTopic],
    now: DateTime<Utc>,
) -> Vec<Finding> {
    let mut findings = Vec::new();
    let alive: Vec<&WorkerEntry> = workers.iter().filter(|worker| worker.alive).collect();
    // What a dead worker holds nobody runs.
    let running: HashSet<i64> = alive.iter().map(|worker| worker.id).collect();
    for (topic, waiting) in topics {
        let consumers = alive.iter().filter(|w| w.topics.split(',').any(|t| t == topic)).count();
        let due = waiting.due_since.map(|since| now - since);
        if paused.contains(topic) {
            findings.push(Finding::new(
                Level::Remark,
                "paused",
                format!("{topic} is paused, and messages of it wait"),
                "no worker takes them",
                format!("taskmq-cli resume {topic}, when it is time"),
            ));
        } else if consumers == 0 && (due.is_some() || waiting.later) {
            findings.push(Finding::new(
                Level::Warning,
                "no-worker",
                format!("{topic} has messages, and no running worker consumes it"),
                "they wait until one comes; or their producer wrote the topic wrongly",
                "start a worker that has its consumer: cargo run --bin worker",
            ));
        } else if let Some(due) = due.filter(|due| *due > STUCK) {
            let due = HumanDuration(due.to_std().unwrap_or_default());
            if let Some(LimitedTopic { limit, .. }) = limits.iter().find(|limited| limited.topic == *topic) {
                findings.push(Finding::new(
                    Level::Remark,
                    "limited",
                    format!("the oldest message of {topic} has been due for {due}, and the topic has a limit: {limit}"),
                    "its messages wait for the limit, or for workers that are busy",
                    format!("taskmq-cli limit {topic} with more, or --none, if that is not wanted"),
                ));
                continue;
            }
            let runs = held
                .iter()
                .any(|held| held.topic == *topic && held.worker_id.is_some_and(|id| running.contains(&id)));
            findings.push(if runs {
                Finding::new(
                    Level::Warning,
                    "backlog",
                    format!("the oldest message of {topic} has been due for {due}; workers are at it"),
                    "they do not keep up, or something of higher priority comes first",
                    "run more workers, or with more --concurrency",
                )
            } else {
                Finding::new(
                    Level::Error,
                    "stuck",
                    format!("a message of {topic} has been due for {due}, {consumers} workers consume it, and none runs it"),
                    "messages are not run",
                    "see whether the workers are busy with other topics; read their logs, and start them anew",
                )
            });
        }
    }
    let aside = held.iter().filter(|held| held.worker_id.is_none()).count();
    if aside > 0 {
        findings.push(Finding::new(
            Level::Remark,
            "set-aside",
            format!("{aside} messages were there when a worker died, and wait to run in small company"),
            "one of them may be what killed it; this slows their topics down until it is found",
            "nothing, if it passes; else read the logs of the workers that died",
        ));
    }
    findings
}

fn judge_workers(workers: &[WorkerEntry], held: &[HeldMessage]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let any_lives = workers.iter().any(|worker| worker.alive);
    let known: HashSet<i64> = workers.iter().map(|worker| worker.id).collect();
    let strays = held.iter().filter(|held| held.worker_id.is_some_and(|id| !known.contains(&id))).count();
    if strays > 0 {
        findings.push(Finding::new(
            Level::Warning,
            "held-by-nobody",
            format!("{strays} messages are leased to workers that are not entered any more"),
            "they do not run until another worker has given them back",
            if any_lives {
                "wait some seconds and look again; if they stay, start the workers anew"
            } else {
                "start a worker: it gives them back within seconds"
            },
        ));
    }
    for worker in workers.iter().filter(|worker| !worker.alive) {
        let holds = held.iter().filter(|held| held.worker_id == Some(worker.id)).count();
        findings.push(Finding::new(
            Level::Warning,
            "worker-silent",
            format!("worker {} is not alive, and holds {}", worker.label(), messages(holds)),
            "it was killed, stopped or cut off; what it holds waits until another worker gives it back",
            if any_lives {
                "see what has become of its process; any other worker takes over from it within seconds"
            } else {
                "start a worker: it takes over within seconds; and see what has become of that process"
            },
        ));
    }
    findings
}

fn judge_dead(lately: usize) -> Option<Finding> {
    let count = if i64::try_from(lately).is_ok_and(|n| n >= COUNTED) {
        format!("{lately} or more messages")
    } else if lately == 1 {
        "1 message".to_owned()
    } else {
        format!("{lately} messages")
    };
    (lately > 0).then(|| {
        Finding::new(
            Level::Warning,
            "dead-letters",
            format!("{count} became dead letters in the last hour"),
            "they are given up and wait for a person",
            "taskmq-cli dead shows their errors; taskmq-cli retry revives them once the cause is gone",
        )
    })
}
