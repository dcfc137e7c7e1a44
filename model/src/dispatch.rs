//! What the dispatching thread of a process does: it settles, claims and promotes, and connects anew.

use crate::actions::{CallKind, Returned};
use crate::broker::{Call, Outcome};
use crate::bug::Bug;
use crate::judge::{Deed, Event};
use crate::server::{BatchId, Pending, WorkerId};
use crate::state::State;
use crate::{ProcessId, Protocol};

impl State {
    /// What a process asks the broker for.
    pub(crate) fn call(&mut self, protocol: &Protocol, process: ProcessId, call: CallKind) -> Call {
        let process = &mut self.processes[process];
        match call {
            CallKind::Exchange { returned, claim } => {
                let early = u8::from(protocol.bug == Some(Bug::BuriedEarly));
                process.note(returned, protocol.max_attempts - early);
                let (settlements, ended) = (process.settlements(), process.ended_batches());
                Call::Exchange { settlements, ended, claim }
            }
            CallKind::Promote(batch) => Call::Promote { batch, messages: process.of_batch(batch) },
            CallKind::ClaimAlone(message) => Call::ClaimAlone { message },
            CallKind::AloneEnded => Call::AloneEnded,
        }
    }

    pub(crate) fn answered(&mut self, protocol: &Protocol, number: ProcessId, worker: WorkerId, call: &Call) {
        let new_batch = self.free_batch(protocol);
        let answer = self.server.commit(protocol.bug, worker, call, new_batch);
        let rows = self.server.rows;
        let process = &mut self.processes[number];
        match call {
            Call::Exchange { .. } => {
                process.drop_settled();
                process.failed_before = false;
                if !answer.lost.is_empty() {
                    self.events.insert(Event::Fenced);
                }
            }
            Call::Promote { batch, .. } if answer.promoted => {
                for held in process.held.iter_mut().flatten().filter(|held| held.batch == Some(*batch)) {
                    held.batch = None;
                }
            }
            Call::ClaimAlone { .. } => process.alone = !answer.claimed.is_empty(),
            Call::AloneEnded => process.alone = false,
            Call::Promote { .. } => {}
        }
        for message in answer.claimed.iter() {
            let attempts = rows[message].map_or(0, |row| row.attempts);
            let attempt = attempts + u8::from(answer.batch.is_some());
            process.take(message, attempt, answer.batch, protocol.max_attempts);
        }
    }

    pub(crate) fn unanswered(
        &mut self,
        protocol: &Protocol,
        number: ProcessId,
        worker: WorkerId,
        call: Call,
    ) {
        let process = &mut self.processes[number];
        process.linked = false;
        let settles = matches!(&call, Call::Exchange { settlements, .. } if !settlements.is_empty());
        if settles && protocol.bug == Some(Bug::SuccessReportedAsFailure) {
            let again = std::mem::replace(&mut process.failed_before, true);
            let done = process.held.iter_mut().flatten().find(|held| held.ended == Some(Outcome::Done));
            if let Some(held) = done.filter(|_| again) {
                held.ended = Some(Outcome::Unstored);
            }
        }
        self.server.pending.push(Pending { worker, call });
        self.server.pending.sort_unstable_by_key(|pending| pending.worker);
    }

    /// Half of what was to be one transaction is there.
    pub(crate) fn lose_half_archived(&mut self, worker: WorkerId) {
        let pending = self.server.pending.iter().filter(|pending| pending.worker == worker);
        let calls: Vec<Call> = pending.map(|pending| pending.call.clone()).collect();
        for call in calls {
            if let Call::Exchange { settlements, .. } = call {
                for settlement in settlements.iter().filter(|s| s.outcome == Outcome::Done) {
                    if self.server.leased_to(worker).contains(settlement.message) {
                        self.server.rows[settlement.message] = None;
                    }
                }
            }
        }
    }

    pub(crate) fn connect(&mut self, protocol: &Protocol, number: ProcessId) -> Deed {
        let process = &mut self.processes[number];
        process.linked = true;
        let known = process.known();
        let Some(worker) = process.worker else { return Deed::Nothing };
        self.server.hand_back_unknown(protocol.bug, worker, &known);
        Deed::HandedBack { worker }
    }

    /// Connecting anew is a step of its own only where it gives something back.
    pub(crate) fn connect_where_nothing_is_unknown(&mut self, protocol: &Protocol) {
        for process in self.processes.iter_mut().filter(|process| !process.linked && self.server.up) {
            let Some(worker) = process.worker else { continue };
            let waits = self.server.pending.iter().any(|pending| pending.worker == worker);
            if !waits && !self.server.holds_unknown(protocol.bug, worker, &process.known()) {
                process.linked = true;
            }
        }
    }

    pub(crate) fn give_up(&mut self, protocol: &Protocol, number: ProcessId, answered: bool) -> Deed {
        let process = &mut self.processes[number];
        let returned = Returned { unbegun: process.running(), ..Returned::default() };
        let linked = process.linked && self.server.up;
        let Some(worker) = process.worker else { return Deed::Nothing };
        let call = self.call(protocol, number, CallKind::Exchange { returned, claim: None });
        if linked && answered {
            self.answered(protocol, number, worker, &call);
            self.leave(number);
            return Deed::Called { worker, call };
        }
        if linked {
            self.unanswered(protocol, number, worker, call);
        }
        self.leave(number);
        Deed::Nothing
    }

    /// An id for a new batch that nothing refers to.
    pub(crate) fn free_batch(&self, protocol: &Protocol) -> BatchId {
        let known = |id: BatchId| {
            self.processes
                .iter()
                .flat_map(|process| process.held.iter().flatten())
                .any(|h| h.batch == Some(id))
                || self.server.pending.iter().any(|pending| refers(&pending.call, id))
        };
        let forgotten = protocol.bug == Some(Bug::BatchIdReused);
        let taken = |id| self.server.batches.iter().any(|b| b.id == id) || !forgotten && known(id);
        (1..BatchId::MAX).find(|id| !taken(*id)).unwrap_or(BatchId::MAX)
    }
}

fn refers(call: &Call, id: BatchId) -> bool {
    match call {
        Call::Exchange { settlements, ended, .. } => {
            ended.contains(&id) || settlements.iter().any(|settlement| settlement.batch == Some(id))
        }
        Call::Promote { batch, .. } => *batch == id,
        Call::ClaimAlone { .. } | Call::AloneEnded => false,
    }
}
