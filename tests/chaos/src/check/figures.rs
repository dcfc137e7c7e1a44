//! What is counted and measured.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::time::Duration;

use super::history::{Execution, Fault, History};
use crate::journal::{FaultKind, Nanos, Outcome};

/// The figures of a run.
#[derive(Debug, Default)]
pub struct Figures {
    /// Messages whose producing was confirmed.
    pub messages: usize,
    /// Runs of handlers.
    pub executions: usize,
    /// Faults, by kind.
    pub faults: BTreeMap<FaultKind, usize>,
    /// Messages whose producer never learned what became of them,
    pub unknown: usize,
    /// and of those the ones that were handled.
    pub recovered: usize,
    /// Further executions that a fault explains, by the kind of the fault.
    pub duplicates: BTreeMap<FaultKind, Duplicates>,
    /// Executions of transactional consumers whose transaction the database broke off without a fault.
    pub broken_off: usize,
    /// Executions that overlapped with another of the same message.
    pub overlaps: usize,
    /// Messages that were charged with a death before which no handler had begun them.
    pub charged_unbegun: usize,
    /// Rows that transactional consumers left.
    pub effects: usize,
    /// From the fault to the next start of a message that ran then, by the kind of the fault, and whether the message
    /// had been struck before: then it is suspected, and waits for its turn to run alone.
    pub rescues: BTreeMap<(FaultKind, bool), Spread>,
    /// The longest time in which nothing began though messages waited and the database could be written,
    pub stall: Duration,
    /// and when it was over, by the journals' clock.
    pub stall_until: Nanos,
}

/// Messages that ran again.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Duplicates {
    /// The first handler had not ended.
    pub unfinished: usize,
    /// It had, but was not acknowledged.
    pub finished: usize,
}

/// Times.
#[derive(Clone, Debug, Default)]
pub struct Spread(Vec<Nanos>);

impl Spread {
    /// How many.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// So many of a hundred are not longer.
    pub fn percentile(&self, percent: usize) -> Duration {
        let mut sorted = self.0.clone();
        sorted.sort_unstable();
        let rank = (sorted.len() * percent).div_ceil(100).max(1) - 1;
        Duration::from_nanos(sorted.get(rank).copied().unwrap_or_default())
    }
}

impl Figures {
    pub(super) fn excuse(&mut self, kind: FaultKind, ended: bool) {
        let duplicates = self.duplicates.entry(kind).or_default();
        if ended {
            duplicates.finished += 1;
        } else {
            duplicates.unfinished += 1;
        }
    }

    pub(super) fn count(&mut self, history: &History) {
        let confirmed = |outcome| outcome == Outcome::Ok;
        self.messages = history
            .messages
            .values()
            .filter(|message| message.produced.as_ref().is_some_and(|p| confirmed(p.outcome.1)))
            .count();
        self.executions = history.messages.values().map(|message| message.executions.len()).sum();
        for fault in &history.faults {
            *self.faults.entry(fault.kind).or_default() += 1;
        }
        for message in history.messages.values() {
            let mut struck_before = false;
            for pair in message.executions.windows(2) {
                if let [first, second] = pair {
                    self.rescue(history, first, second, struck_before);
                    struck_before |= history.struck(first).is_some();
                }
            }
        }
        (self.stall, self.stall_until) = stall(history);
    }

    /// Of a message that ran when its worker was struck. What an outage of the server takes is no rescue's time.
    fn rescue(&mut self, history: &History, first: &Execution, second: &Execution, again: bool) {
        let rescued =
            |kind| matches!(kind, FaultKind::Kill | FaultKind::KillFar | FaultKind::Pause | FaultKind::Cut);
        let fault = history.faults.iter().find(|fault| {
            rescued(fault.kind)
                && fault.pid == Some(first.pid)
                && first.start <= fault.from
                && first.ends() >= fault.from
                && second.start > fault.from
        });
        let Some(fault) = fault.filter(|_| second.pid != first.pid) else { return };
        let disturbed = history.faults.iter().any(|other| {
            other.overlaps(fault.from, second.start)
                && (other.takes_the_database()
                    || other.pid == Some(second.pid)
                        && matches!(other.kind, FaultKind::Cut | FaultKind::Pause))
        });
        if !disturbed {
            self.rescues.entry((fault.kind, again)).or_default().0.push(second.start - fault.from);
        }
    }
}

/// The longest time in which nothing began though messages waited and the database could be written.
fn stall(history: &History) -> (Duration, Nanos) {
    /// What may happen at a moment, in this order.
    #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
    enum Change {
        Waits,
        Begins,
    }
    let mut changes: Vec<(Nanos, Change, &str)> = Vec::new();
    for (key, message) in &history.messages {
        if let Some(produced) = &message.produced
            && produced.outcome.1 == Outcome::Ok
        {
            changes.push((produced.outcome.0, Change::Waits, key));
        }
        changes.extend(message.executions.iter().map(|e| (e.start, Change::Begins, &**key)));
    }
    changes.sort_unstable();
    let (mut waiting, mut begun) = (BTreeSet::new(), BTreeSet::new());
    let mut longest = (0, 0);
    let mut since = None;
    for (at, change, key) in changes {
        match change {
            Change::Waits if !begun.contains(key) => {
                waiting.insert(key);
                since.get_or_insert(at);
            }
            Change::Waits => {}
            Change::Begins => {
                begun.insert(key);
                if let Some(since) = since {
                    let away = |fault: &Fault| fault.takes_the_database() && fault.overlaps(since, at);
                    if !history.faults.iter().any(away) {
                        longest = longest.max((at - since, at));
                    }
                }
                waiting.remove(key);
                since = (!waiting.is_empty()).then_some(at);
            }
        }
    }
    (Duration::from_nanos(longest.0), longest.1)
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let faults: usize = self.faults.values().sum();
        let kinds: Vec<String> =
            self.faults.iter().map(|(kind, number)| format!("{} {number}", kind.name())).collect();
        writeln!(f, "messages {}, executions {}", self.messages, self.executions)?;
        writeln!(f, "faults {faults}: {}", kinds.join(", "))?;
        writeln!(f, "producers without an answer {}, recovered {}", self.unknown, self.recovered)?;
        writeln!(
            f,
            "effects {}, transactions broken off {}, overlaps {}, charged unbegun {}",
            self.effects, self.broken_off, self.overlaps, self.charged_unbegun
        )?;
        for (kind, Duplicates { unfinished, finished }) in &self.duplicates {
            writeln!(
                f,
                "run again, {}: {unfinished} that had not ended, {finished} that had, unacknowledged",
                kind.name()
            )?;
        }
        for ((kind, again), times) in &self.rescues {
            let seconds = |percent| times.percentile(percent).as_secs_f64();
            writeln!(
                f,
                "rescue, {}{}: p50 {:.2} s, p99 {:.2} s, max {:.2} s, of {}",
                kind.name(),
                if *again { ", not for the first time" } else { "" },
                seconds(50),
                seconds(99),
                seconds(100),
                times.len()
            )?;
        }
        write!(f, "longest stall {:.2} s, until {}", self.stall.as_secs_f64(), self.stall_until)
    }
}
