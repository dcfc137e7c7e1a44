//! The judge: says of each step what is to be said of it, by comparing the tables before and after it with what it was
//! entitled to, however the step was done.

use std::fmt;

use crate::broker::{Call, Outcome};
use crate::server::{Batch, End, Row, Server, WorkerId};
use crate::sets::Ids;
use crate::state::State;
use crate::{MessageId, Protocol};

/// What is to be said of a step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// A worker was removed, and its messages given back.
    Rescued,
    /// What was left of a batch was given back.
    PartRescued,
    /// An outcome was refused.
    Fenced,
    /// A lock was taken again that another worker had seen free.
    Retaken,
    /// An outcome was written, or a lease taken away, by somebody who had no lease.
    Trespassed,
    /// What had not succeeded was archived as done.
    NotDone,
    /// An attempt was charged that neither failed nor ended its worker.
    Overcharged,
    /// A message was buried before its attempts were used up.
    BuriedEarly,
    /// A message was charged with a death that it did not cause.
    Blamed,
    /// A worker was taken for dead that could have taken its lock again.
    Condemned,
}

impl Event {
    const NAMES: [(Self, &str); 10] = [
        (Self::Rescued, "a worker is rescued"),
        (Self::PartRescued, "what is left of a batch is rescued"),
        (Self::Fenced, "an outcome is refused"),
        (Self::Retaken, "a lock in doubt is taken again"),
        (Self::Trespassed, "WITHOUT A LEASE"),
        (Self::NotDone, "DONE WITHOUT SUCCESS"),
        (Self::Overcharged, "CHARGED FOR NOTHING"),
        (Self::BuriedEarly, "BURIED TOO EARLY"),
        (Self::Blamed, "BLAMED FOR ANOTHER'S DEED"),
        (Self::Condemned, "NOT DEAD"),
    ];
}

/// What is to be said of a step, altogether.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Events(u16);

impl Events {
    /// Whether this is to be said.
    pub fn has(self, event: Event) -> bool {
        self.0 & 1 << event as u16 != 0
    }

    pub(crate) fn insert(&mut self, event: Event) {
        self.0 |= 1 << event as u16;
    }
}

impl fmt::Display for Events {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let said = Event::NAMES.iter().filter(|(event, _)| self.has(*event)).map(|(_, name)| *name);
        write!(f, "{}", said.collect::<Vec<_>>().join(", "))
    }
}

/// What a step did to the tables.
#[derive(Debug)]
pub(crate) enum Deed {
    /// Nothing, or what no rule is about.
    Nothing,
    /// A call was committed.
    Called {
        /// Whose.
        worker: WorkerId,
        /// Which.
        call: Call,
    },
    /// A worker gave back what it did not know of.
    HandedBack {
        /// Which.
        worker: WorkerId,
    },
    /// A worker was rescued, or was not after all.
    Rescued {
        /// Which.
        worker: WorkerId,
    },
}

/// Adds to the events of a step what its deed tells.
pub(crate) fn judge(protocol: &Protocol, before: &State, after: &mut State, deed: &Deed) {
    let mut events = after.events;
    match deed {
        Deed::Nothing => {}
        Deed::Called { worker, call } => {
            judge_call(protocol, &before.server, &after.server, *worker, call, &mut events)
        }
        Deed::HandedBack { worker } => {
            let own = before.server.leased_to(*worker);
            for message in changed(&before.server, &after.server).iter() {
                if !own.contains(message) {
                    events.insert(Event::Trespassed);
                }
                if charge(&after.server, message) > charge(&before.server, message) {
                    events.insert(Event::Overcharged);
                }
            }
        }
        Deed::Rescued { worker } => judge_rescue(before, &after.server, *worker, &mut events),
    }
    after.events = events;
}

fn judge_call(
    protocol: &Protocol,
    before: &Server,
    after: &Server,
    worker: WorkerId,
    call: &Call,
    events: &mut Events,
) {
    let own = before.leased_to(worker);
    let (settlements, claimed) = match call {
        Call::Exchange { settlements, claim, .. } => {
            (settlements.as_slice(), claim.map_or(Ids::NONE, |claim| claim.messages))
        }
        Call::ClaimAlone { message } => (&[][..], Ids::NONE.with_one(*message)),
        Call::Promote { .. } | Call::AloneEnded => (&[][..], Ids::NONE),
    };
    for message in changed(before, after).iter() {
        let outcome = settlements.iter().find(|s| s.message == message).map(|s| s.outcome);
        let mine = own.contains(message);
        let taken_up = claimed.contains(message) && before.leases(message) == 0;
        if !mine && !taken_up {
            events.insert(Event::Trespassed);
        }
        let failed = mine && matches!(outcome, Some(Outcome::Retry | Outcome::Dead));
        let charged_by_now = charged(before, message) + u8::from(failed);
        match after.archive[message].filter(|_| before.archive[message].is_none()) {
            Some(archived) if archived.done => {
                if outcome != Some(Outcome::Done) {
                    events.insert(Event::NotDone);
                }
            }
            Some(_) => {
                if charged_by_now < protocol.max_attempts {
                    events.insert(Event::BuriedEarly);
                }
            }
            None => {
                let suspicions = |server: &Server| server.rows[message].map_or(0, |row| row.suspicions);
                if charged(after, message) > charged_by_now || suspicions(after) > suspicions(before) {
                    events.insert(Event::Overcharged);
                }
            }
        }
    }
}

fn judge_rescue(before: &State, after: &Server, worker: WorkerId, events: &mut Events) {
    let Some(entry) = before.server.entry(worker) else { return };
    let own = before.server.leased_to(worker);
    let removed = entry.registered && !after.knows(worker);
    if removed {
        events.insert(Event::Rescued);
        let mut batches = before.server.batches.iter().filter(|batch| batch.worker == worker);
        if batches.any(|batch| is_settled_in_part(&before.server, batch)) {
            events.insert(Event::PartRescued);
        }
        let process = &before.processes[worker.process];
        if process.worker == Some(worker) && process.is_awake() && !process.excused {
            events.insert(Event::Condemned);
        }
    }
    for message in changed(&before.server, after).iter() {
        if !own.contains(message) {
            events.insert(Event::Trespassed);
        }
        if charge(after, message) > charge(&before.server, message) + u8::from(removed) {
            events.insert(Event::Overcharged);
        }
        let another = matches!(entry.end, End::Killed(Some(killer)) if killer != message);
        if charged(after, message) > charged(&before.server, message) && (another || !removed) {
            events.insert(Event::Blamed);
        }
    }
}

fn is_settled_in_part(server: &Server, batch: &Batch) -> bool {
    let live = batch.messages.and(server.live());
    !live.is_empty() && live != batch.messages
}

/// Attempts that ended.
fn charged(server: &Server, message: MessageId) -> u8 {
    server.rows[message].as_ref().map_or(0, Row::charged)
}

/// Attempts that ended, and suspicions, which may be charged later.
fn charge(server: &Server, message: MessageId) -> u8 {
    server.rows[message].map_or(0, |row| row.charged() + row.suspicions)
}

/// The messages whose state or lease is another one.
fn changed(before: &Server, after: &Server) -> Ids {
    let holder = |server: &Server, message: MessageId| {
        server.batches.iter().find(|batch| batch.messages.contains(message)).map(|batch| batch.worker)
    };
    Ids::of(|m| {
        let state = |server: &Server| {
            server.rows[m].map(|row| (row.holder, row.attempts, row.suspicions, row.crashed))
        };
        state(before) != state(after)
            || before.archive[m].is_some() != after.archive[m].is_some()
            || after.rows[m].is_some() && holder(before, m) != holder(after, m)
    })
}
