//! Compares what the journals say with what the tables say.

mod figures;
mod history;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

pub use figures::{Duplicates, Figures, Spread};

use crate::journal::{Entry, FaultKind, Nanos, Outcome};
use crate::tables::{Finished, Tables};
use crate::work::Topic;
use history::{Execution, Fault, History, Message};

/// What of a run was not as promised.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Violation {
    /// Which promise.
    pub promise: Promise,
    /// Of which message.
    pub key: String,
    /// What happened.
    pub what: String,
}

/// What is promised of every message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Promise {
    /// What was committed is handled, or kept.
    Lost,
    /// And that within the time there is.
    Stuck,
    /// Nothing is handled that was not produced, or was rolled back.
    Unexpected,
    /// What a fault had no part in is handled once.
    Duplicate,
    /// Two executions do not overlap, unless one worker was cut off from the rest.
    Overlap,
    /// It is acknowledged once, by whoever has the lease.
    Settled,
    /// A transactional consumer's effect is there once.
    Effects,
    /// Messages of one ordering key are handled one after the other.
    Order,
    /// No death is charged to a message that was not there, and no message is given up.
    Blame,
}

impl fmt::Display for Promise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Lost => "lost",
            Self::Stuck => "stuck",
            Self::Unexpected => "unexpected",
            Self::Duplicate => "duplicates, forbidden",
            Self::Overlap => "overlap",
            Self::Settled => "double settle",
            Self::Effects => "effects",
            Self::Order => "order",
            Self::Blame => "blame",
        })
    }
}

/// A worker's clock and the database's may differ by so much, and a process may be kept waiting so long between a
/// thing and its being written down.
const SLACK: Nanos = 100_000_000;

/// Everything that the checker finds.
///
/// ```
/// use taskmq_chaos::{check::check, journal::Entry, tables::Tables};
/// let journal = Entry::parse_all("5 attempt 1-1 quick -\n6 ok 1-1\n");
/// let (figures, violations) = check(&journal, &Tables::default());
/// assert_eq!((figures.messages, violations.len()), (1, 1)); // it was lost
/// ```
pub fn check(journal: &[Entry], tables: &Tables) -> (Figures, Vec<Violation>) {
    let history = History::new(journal.to_vec());
    let mut checker = Checker { history: &history, figures: Figures::default(), violations: Vec::new() };
    checker.check(tables);
    let Checker { mut figures, mut violations, .. } = checker;
    figures.count(&history);
    violations.sort_by_key(|violation| violation.promise);
    (figures, violations)
}

struct Checker<'a> {
    history: &'a History,
    figures: Figures,
    violations: Vec<Violation>,
}

impl Checker<'_> {
    fn violates(&mut self, promise: Promise, key: &str, what: impl Into<String>) {
        self.violations.push(Violation { promise, key: key.to_owned(), what: what.into() });
    }

    fn check(&mut self, tables: &Tables) {
        let mut finished: HashMap<&str, Vec<&Finished>> = HashMap::new();
        for row in &tables.finished {
            finished.entry(&row.key).or_default().push(row);
        }
        let mut live: HashMap<&str, usize> = HashMap::new();
        for key in &tables.live {
            *live.entry(key).or_default() += 1;
        }
        let mut effects: HashMap<&str, usize> = HashMap::new();
        for key in &tables.effects {
            *effects.entry(key).or_default() += 1;
        }
        let known = self.history.messages.keys().map(String::as_str);
        let stored = tables.finished.iter().map(|row| &*row.key).chain(tables.live.iter().map(|key| &**key));
        let keys: HashSet<&str> = known.chain(stored).collect();
        let none = Message::default();
        for key in keys {
            let message = self.history.messages.get(key).unwrap_or(&none);
            let finished = finished.get(key).map_or(&[][..], |rows| rows);
            let live = live.get(key).copied().unwrap_or_default();
            self.production(key, message, finished, live);
            self.executions(key, message);
            self.settlement(key, message, finished, live);
            self.effects(key, message, finished, effects.get(key).copied().unwrap_or_default());
            self.blame(key, message, finished);
        }
        self.order();
    }

    /// Lost, stuck, unexpected, recovered.
    fn production(&mut self, key: &str, message: &Message, finished: &[&Finished], live: usize) {
        let outcome = message.produced.as_ref().map(|produced| produced.outcome.1);
        let handled = message.executions.iter().any(Execution::has_succeeded);
        let dead = finished.iter().any(|row| row.state == "dead");
        let stored = live > 0 || !finished.is_empty();
        match outcome {
            None | Some(Outcome::Failed) if stored || !message.executions.is_empty() => {
                let how = if outcome.is_none() { "nobody produced it" } else { "its producing was undone" };
                self.violates(Promise::Unexpected, key, format!("it is there, yet {how}"));
            }
            Some(Outcome::Ok) if !handled && !dead && live == 0 => {
                let how = if finished.is_empty() { "it is gone" } else { "it is acknowledged" };
                self.violates(Promise::Lost, key, format!("{how}, and no handler ended with success"));
            }
            Some(Outcome::Unknown) => {
                self.figures.unknown += 1;
                self.figures.recovered += usize::from(handled);
            }
            _ => {}
        }
        if live > 0 {
            self.violates(Promise::Stuck, key, "it is still live");
        }
    }

    /// Duplicates and overlaps.
    fn executions(&mut self, key: &str, message: &Message) {
        for pair in message.executions.windows(2) {
            let [first, second] = pair else { continue };
            let fault = self.history.struck(first).or_else(|| self.history.belated(second)).copied();
            if !first.has_failed() {
                match fault {
                    Some(fault) => self.figures.excuse(fault.kind, first.end.is_some()),
                    // A transaction that the database broke off, a deadlock's victim, is run again within the attempt.
                    None if transactional(message) && first.lease == second.lease => {
                        self.figures.broken_off += 1;
                    }
                    None => self.violates(
                        Promise::Duplicate,
                        key,
                        format!(
                            "it ran again under {}, though no fault struck {}",
                            second.lease, first.lease
                        ),
                    ),
                }
            }
            if second.start < self.really_ends(first) {
                let cut_off = self.history.faults.iter().any(|fault| {
                    (fault.cuts_off() || fault.kind == FaultKind::Stop)
                        && (fault.strikes(first) || fault.strikes(second))
                });
                if cut_off {
                    self.figures.overlaps += 1;
                } else {
                    let what = format!("{} and {} ran at the same time", first.lease, second.lease);
                    self.violates(Promise::Overlap, key, what);
                }
            }
        }
    }

    /// A process that is killed ends all that runs in it.
    fn really_ends(&self, execution: &Execution) -> Nanos {
        let ends_process = |fault: &&Fault| {
            matches!(fault.kind, FaultKind::Kill | FaultKind::KillFar | FaultKind::Stop)
                && fault.pid == Some(execution.pid)
                && fault.until >= execution.start
        };
        let killed =
            self.history.faults.iter().find(ends_process).map_or(Nanos::MAX, |fault| {
                if fault.kind == FaultKind::Stop { fault.until } else { fault.from }
            });
        execution.ends().min(killed)
    }

    fn settlement(&mut self, key: &str, message: &Message, finished: &[&Finished], live: usize) {
        if finished.len() + live > 1 {
            let what = format!("it is there {} times, {live} of them live", finished.len() + live);
            self.violates(Promise::Settled, key, what);
        }
        for row in finished.iter().filter(|row| row.state == "done") {
            let accepted = message.executions.iter().rev().find(|execution| execution.lease == row.lease);
            let Some(accepted) = accepted.filter(|execution| execution.has_succeeded()) else {
                let what =
                    format!("{} acknowledged it, under which no handler ended with success", row.lease);
                self.violates(Promise::Settled, key, what);
                continue;
            };
            for other in message.executions.iter().filter(|other| *other != accepted) {
                if self.history.belated(other).is_some() {
                    continue; // it may have begun what it no longer had
                }
                if other.start > row.at + SLACK {
                    let what = format!("it ran under {} after it was acknowledged", other.lease);
                    self.violates(Promise::Duplicate, key, what);
                } else if other.start > accepted.start && other.start + SLACK < row.at {
                    let what = format!("{} acknowledged it when {} had it already", row.lease, other.lease);
                    self.violates(Promise::Settled, key, what);
                }
            }
        }
    }

    fn effects(&mut self, key: &str, message: &Message, finished: &[&Finished], effects: usize) {
        if !transactional(message) {
            return;
        }
        let due = finished.iter().filter(|row| row.state == "done").count();
        self.figures.effects += effects;
        if effects != due.min(1) {
            self.violates(Promise::Effects, key, format!("its effect is there {effects} times, not {due}"));
        }
    }

    fn blame(&mut self, key: &str, message: &Message, finished: &[&Finished]) {
        for row in finished {
            if row.state != "done" {
                self.violates(Promise::Blame, key, format!("it is {}", row.state));
            }
            let struck = message.executions.iter().filter(|e| self.history.struck(e).is_some()).count();
            let crashes = row.crashes as usize;
            // A worker may have been struck when this was all that it held, though it had not begun it yet.
            let produced = message.produced.as_ref().map_or(0, |produced| produced.at);
            let faults = self.history.faults.iter().filter(|fault| fault.overlaps(produced, row.at)).count();
            if crashes > struck.max(faults) {
                let what = format!(
                    "it is charged with {crashes} deaths, and was there at {struck} faults of {faults}"
                );
                self.violates(Promise::Blame, key, what);
            } else if crashes > struck {
                self.figures.charged_unbegun += 1;
            }
            let failures = row.failures as usize;
            let failed = failures_of(message);
            let broken =
                if transactional(message) { message.executions.len().saturating_sub(failed) } else { 0 };
            if failures > failed + broken {
                let what = format!(
                    "{failures} failures of it are noted: {failed} handlers failed, {broken} transactions"
                );
                self.violates(Promise::Blame, key, what);
            }
            let charged = usize::try_from(row.lease.attempt).unwrap_or_default();
            if charged > 1 + failures + crashes {
                let what = format!(
                    "it is charged with {charged} attempts: it failed {failures} times and is charged with {crashes} deaths"
                );
                self.violates(Promise::Blame, key, what);
            }
        }
    }

    /// Within an ordering key, none begins before the one before it has ended.
    fn order(&mut self) {
        let mut keys: BTreeMap<&str, Vec<(Nanos, &String, &Message)>> = BTreeMap::new();
        for (key, message) in &self.history.messages {
            if let Some(produced) = &message.produced
                && let Some(ordering) = &produced.ordering
                && !message.executions.is_empty()
            {
                keys.entry(ordering).or_default().push((produced.at, key, message));
            }
        }
        for (ordering, mut messages) in keys {
            messages.sort_by_key(|(at, ..)| *at);
            for pair in messages.windows(2) {
                let [(_, first, before), (_, second, after)] = pair else { continue };
                let ended = before.executions.iter().filter(|e| e.has_succeeded()).map(Execution::ends).min();
                let began = after.executions.iter().map(|execution| execution.start).min();
                if began < ended.or(Some(Nanos::MAX)) {
                    let what =
                        format!("it began before {first} had ended, of the same ordering key {ordering}");
                    self.violates(Promise::Order, second, what);
                }
            }
        }
    }
}

fn transactional(message: &Message) -> bool {
    message.produced.as_ref().is_some_and(|produced| Topic::leaves_effect(&produced.topic))
}

fn failures_of(message: &Message) -> usize {
    message.executions.iter().filter(|execution| execution.has_failed()).count()
}

/// Violations, each with the journal's lines of its message and the faults about that time.
pub fn explain(violations: &[Violation], journal: &[Entry], tables: &Tables) -> String {
    const SHOWN: usize = 10;
    let mut text = String::new();
    let mut counts: BTreeMap<Promise, usize> = BTreeMap::new();
    for violation in violations {
        *counts.entry(violation.promise).or_default() += 1;
    }
    for (promise, count) in counts {
        text += &format!("{promise}: {count}, not 0\n");
    }
    for violation in violations.iter().take(SHOWN) {
        text += &format!("\n{}: message {}: {}\n", violation.promise, violation.key, violation.what);
        let mut own: Vec<&Entry> =
            journal.iter().filter(|entry| entry.event.key() == Some(&violation.key)).collect();
        let first = own.iter().map(|entry| entry.at).min().unwrap_or_default();
        let last = own.iter().map(|entry| entry.at).max().unwrap_or_default();
        let about = first..=last.saturating_add(10_000_000_000);
        own.extend(journal.iter().filter(|entry| entry.event.key().is_none() && about.contains(&entry.at)));
        own.sort_by_key(|entry| entry.at);
        for entry in own {
            text += &format!("    {entry}\n");
        }
        for row in tables.finished.iter().filter(|row| row.key == violation.key) {
            let Finished { state, lease, crashes, at, .. } = row;
            text += &format!("    {at} {state} in taskmq_archive, lease {lease}, {crashes} deaths\n");
        }
    }
    if violations.len() > SHOWN {
        text += &format!("\nand {} more\n", violations.len() - SHOWN);
    }
    text
}
