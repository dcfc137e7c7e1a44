//! The journals, put in order: what was produced, each execution of each message, and the faults.

use std::collections::{BTreeMap, HashMap};

use crate::journal::{Entry, Event, FaultKind, Lease, Nanos, Outcome, Step};

/// All that was written down.
#[derive(Debug, Default)]
pub(super) struct History {
    pub(super) messages: BTreeMap<String, Message>,
    pub(super) faults: Vec<Fault>,
}

/// A message's life outside the tables.
#[derive(Debug, Default)]
pub(super) struct Message {
    pub(super) produced: Option<Produced>,
    /// In the order in which they began.
    pub(super) executions: Vec<Execution>,
}

#[derive(Debug)]
pub(super) struct Produced {
    pub(super) at: Nanos,
    pub(super) topic: String,
    pub(super) ordering: Option<String>,
    /// When, and what; a producer that died said nothing.
    pub(super) outcome: (Nanos, Outcome),
}

/// One run of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Execution {
    pub(super) lease: Lease,
    pub(super) pid: u32,
    pub(super) start: Nanos,
    /// When it ended, and whether it succeeded.
    pub(super) end: Option<(Nanos, bool)>,
}

impl Execution {
    /// If it never ended, it may be under way for ever.
    pub(super) fn ends(&self) -> Nanos {
        self.end.map_or(Nanos::MAX, |(at, _)| at)
    }

    pub(super) fn has_failed(&self) -> bool {
        matches!(self.end, Some((_, false)))
    }

    pub(super) fn has_succeeded(&self) -> bool {
        matches!(self.end, Some((_, true)))
    }
}

/// What the nemesis did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) kind: FaultKind,
    pub(super) pid: Option<u32>,
    pub(super) from: Nanos,
    pub(super) until: Nanos,
}

impl History {
    pub(super) fn new(mut entries: Vec<Entry>) -> Self {
        // Of one process the lines are in order already; between processes the clock decides.
        entries.sort_by_key(|entry| entry.at);
        let mut history = Self::default();
        let mut numbers = HashMap::new();
        for Entry { at, event } in entries {
            match event {
                Event::Attempt { key, topic, ordering } => {
                    let produced = Produced { at, topic, ordering, outcome: (at, Outcome::Unknown) };
                    history.messages.entry(key).or_default().produced = Some(produced);
                }
                Event::Produced { key, outcome } => {
                    if let Some(produced) = &mut history.messages.entry(key).or_default().produced {
                        produced.outcome = (at, outcome);
                    }
                }
                Event::Handler { step, key, lease, pid } => {
                    let executions = &mut history.messages.entry(key).or_default().executions;
                    let same = |e: &&mut Execution| e.lease == lease && e.pid == pid && e.end.is_none();
                    match step {
                        Step::Start => executions.push(Execution { lease, pid, start: at, end: None }),
                        Step::End | Step::Fail => {
                            if let Some(execution) = executions.iter_mut().rev().find(same) {
                                execution.end = Some((at, step == Step::End));
                            }
                        }
                    }
                }
                Event::Fault { id, kind, pid } => {
                    numbers.insert(id, history.faults.len());
                    history.faults.push(Fault { kind, pid, from: at, until: Nanos::MAX });
                }
                Event::Healed { id } => {
                    if let Some(&number) = numbers.get(&id) {
                        history.faults[number].until = at;
                    }
                }
            }
        }
        history
    }

    /// The first fault of these kinds that may have kept an execution from being acknowledged.
    pub(super) fn struck(&self, execution: &Execution) -> Option<&Fault> {
        let held_up = |until: Nanos| {
            self.faults.iter().any(|other| other.cuts_off() && other.overlaps(execution.ends(), until))
        };
        self.faults.iter().find(|fault| {
            fault.strikes(execution) || fault.strikes_within(execution, HELD_UP) && held_up(fault.from)
        })
    }

    /// A fault after which a worker may begin what it no longer has.
    pub(super) fn belated(&self, execution: &Execution) -> Option<&Fault> {
        self.faults.iter().find(|fault| fault.cuts_off() && fault.strikes(execution))
    }
}

const MILLI: Nanos = 1_000_000;
/// An acknowledgement is written at most so long after its handler ended, as long as nothing is wrong;
const ACKNOWLEDGED: Nanos = 1000 * MILLI;
/// and so long while another worker is paused or cut off: if that was in the middle of a claim, nobody else can write for up
/// to five seconds.
const HELD_UP: Nanos = 6000 * MILLI;

impl Fault {
    /// Whether a worker that it strikes goes on, without knowing what the others did meanwhile.
    pub(super) fn cuts_off(&self) -> bool {
        matches!(self.kind, FaultKind::Pause | FaultKind::Cut | FaultKind::Reset) || self.takes_the_database()
    }

    /// Whether nobody can write meanwhile.
    pub(super) fn takes_the_database(&self) -> bool {
        matches!(self.kind, FaultKind::Server | FaultKind::Locked)
    }

    /// So long after its end it still has consequences: the worker connects anew, or learns that it was given up.
    fn afterwards(&self) -> Nanos {
        match self.kind {
            FaultKind::Pause => 1000 * MILLI,
            FaultKind::Cut | FaultKind::Reset | FaultKind::Server | FaultKind::Locked => 6000 * MILLI,
            _ => 0,
        }
    }

    /// Whether it was in the way of an execution, or of its acknowledgement.
    pub(super) fn strikes(&self, execution: &Execution) -> bool {
        self.strikes_within(execution, ACKNOWLEDGED)
    }

    /// The same, where an acknowledgement may take so long.
    fn strikes_within(&self, execution: &Execution, acknowledged: Nanos) -> bool {
        let hits = match self.kind {
            FaultKind::Producer | FaultKind::ProducerReset => false,
            FaultKind::Server | FaultKind::Locked => true,
            _ => self.pid == Some(execution.pid),
        };
        // A worker that is told to stop lets its handlers end, for a while.
        let from = match self.kind {
            FaultKind::Stop => {
                self.from + u64::try_from(crate::site::SHUTDOWN.as_nanos()).unwrap_or_default()
            }
            _ => self.from,
        };
        hits && execution.ends().saturating_add(acknowledged) >= from
            && execution.start <= self.until.saturating_add(self.afterwards())
    }

    /// How much of a span it takes.
    pub(super) fn overlaps(&self, from: Nanos, until: Nanos) -> bool {
        self.from <= until && self.until.saturating_add(self.afterwards()) >= from
    }
}
