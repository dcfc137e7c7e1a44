//! What can happen, and when.

use crate::broker::Claim;
use crate::bug::Bug;
use crate::liveness::sight;
use crate::server::{BatchId, Lock, Sighting, WorkerId};
use crate::sets::Ids;
use crate::state::State;
use crate::worker::{Life, Process};
use crate::{Fault, MessageId, PROCESSES, ProcessId, Protocol};

/// One step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// The dispatching thread calls the broker.
    Call {
        /// Whose.
        process: ProcessId,
        /// What for.
        call: CallKind,
        /// Whether the reply arrives. If not, the connection is lost, and the transaction is still to end somehow.
        answered: bool,
    },
    /// The dispatching thread connects anew, and gives back what it does not know of.
    Connect(ProcessId),
    /// A handler ends the whole process.
    Kill {
        /// Which process.
        process: ProcessId,
        /// With which message.
        message: MessageId,
    },
    /// A process that stops has nothing left to do.
    Leave(ProcessId),
    /// The time for stopping is over.
    GiveUp {
        /// Whose.
        process: ProcessId,
        /// Whether it still reached the database.
        answered: bool,
    },
    /// The liveness thread connects if it must, takes its lock if it has lost it, and looks around.
    Look(ProcessId),
    /// The liveness thread rescues what a worker held that its look took for dead.
    Rescue(ProcessId, WorkerId),
    /// The time passes that a rescuer waits. Whoever can takes its lock again before.
    Grace,
    /// What a lost connection had begun is committed,
    Commit(WorkerId),
    /// or undone.
    Abort(WorkerId),
    /// The server finds out that a session of this worker is no more, or was silent for too long.
    DropSession(WorkerId),
    /// The server ends the session that was stopped in the middle of a claim.
    TimeOutClaim,
    /// The server is back.
    ServerUp,
    /// A process begins.
    Start(ProcessId),
    /// It goes on.
    Resume(ProcessId),
    /// The connection of the liveness thread is cut.
    Cut(ProcessId),
    /// The process is stopped, asleep or cut off.
    Pause {
        /// Which.
        process: ProcessId,
        /// In the middle of a claim.
        in_claim: bool,
    },
    /// It is killed from outside.
    Crash(ProcessId),
    /// It is told to stop.
    Stop(ProcessId),
    /// The server crashes.
    Restart {
        /// Claims that were not on disk yet are undone.
        forgetful: bool,
    },
}

/// What the dispatching thread asks of the broker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// To write what has ended, and to claim.
    Exchange {
        /// What ended since the last time.
        returned: Returned,
        /// What to claim.
        claim: Option<Claim>,
    },
    /// To promote a batch.
    Promote(BatchId),
    /// For a message to run alone.
    ClaimAlone(MessageId),
    /// To be no longer alone.
    AloneEnded,
}

/// Messages whose handlers returned, or that are not to begin any more. When exactly a handler returns makes no
/// difference before its outcome is on its way, so it is no step of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Returned {
    /// With success.
    pub done: Ids,
    /// With an error.
    pub failed: Ids,
    /// Not begun.
    pub unbegun: Ids,
}

impl Action {
    /// The fault that it is; `None`: part of what has to happen.
    pub fn fault(&self) -> Option<Fault> {
        match self {
            Self::Call { answered: false, .. } | Self::GiveUp { answered: false, .. } => Some(Fault::NoReply),
            Self::Cut(_) => Some(Fault::Cut),
            Self::Pause { .. } => Some(Fault::Pause),
            Self::Crash(_) => Some(Fault::Crash),
            Self::Stop(_) => Some(Fault::Stop),
            Self::Restart { .. } => Some(Fault::Restart),
            _ => None,
        }
    }
}

/// Every step that changes something, and that has to come sooner or later.
pub(crate) fn due(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    for process in 0..PROCESSES {
        dispatch(protocol, state, process, actions);
        handlers(protocol, state, process, actions);
        liveness(protocol, state, process, actions);
    }
    server(protocol, state, actions);
    // Nobody has to come back as long as somebody works.
    if !somebody_works(state) {
        come_back(state, actions);
    }
}

/// Every step that changes something.
pub(crate) fn possible(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    if state.server.live().is_empty() && state.processes.iter().all(|process| process.holds().is_empty()) {
        return;
    }
    due(protocol, state, actions);
    if somebody_works(state) {
        come_back(state, actions);
    }
    if state.faults > 0 {
        faults(protocol, state, actions);
    }
}

fn somebody_works(state: &State) -> bool {
    state.processes.iter().any(|process| process.is_awake() && process.life == Life::Running)
}

fn come_back(state: &State, actions: &mut Vec<Action>) {
    for (number, process) in state.processes.iter().enumerate() {
        if process.paused {
            actions.push(Action::Resume(number));
        } else if process.life == Life::Gone && state.server.up {
            actions.push(Action::Start(number));
        }
    }
}

fn dispatch(protocol: &Protocol, state: &State, number: ProcessId, actions: &mut Vec<Action>) {
    let process = &state.processes[number];
    let server = &state.server;
    if !process.is_awake() || !server.up {
        return;
    }
    let waits = server.pending.iter().any(|pending| Some(pending.worker) == process.worker);
    if !process.linked {
        if !waits || protocol.bug == Some(Bug::CommitOvertaken) {
            actions.push(Action::Connect(number));
        }
        return;
    }
    calls(protocol, state, process, |call| {
        actions.push(Action::Call { process: number, call, answered: true })
    });
}

/// What the dispatching thread may ask for now.
fn calls(protocol: &Protocol, state: &State, process: &Process, mut push: impl FnMut(CallKind)) {
    let server = &state.server;
    let (holds, running) = (process.holds(), process.running());
    if process.alone && holds.is_empty() {
        push(CallKind::AloneEnded);
        return;
    }
    let works = process.life == Life::Running;
    // One that was given up may claim, but gets nothing.
    let known = process.worker.is_some_and(|worker| server.knows(worker));
    let mut claims = vec![None];
    if works && known && !process.alone {
        add_claims(server.claimable(protocol.bug), &mut claims);
    }
    each_return(protocol, running, !works, |returned| {
        let nothing = holds == running && returned == Returned::default();
        for claim in claims.iter().copied().filter(|claim| !nothing || claim.is_some()) {
            push(CallKind::Exchange { returned, claim });
        }
    });
    if !works {
        return;
    }
    if holds == running {
        for batch in process.batches() {
            if server.batches.iter().any(|b| b.id == batch && Some(b.worker) == process.worker) {
                push(CallKind::Promote(batch));
            }
        }
    }
    if known && holds.is_empty() {
        for message in server.set_aside().iter() {
            push(CallKind::ClaimAlone(message));
        }
    }
}

/// All that there are, with a lease for each or one for all, or any one of them.
fn add_claims(claimable: Ids, claims: &mut Vec<Option<Claim>>) {
    if claimable.is_empty() {
        return;
    }
    claims.push(Some(Claim { messages: claimable, as_batch: true }));
    claims.push(Some(Claim { messages: claimable, as_batch: false }));
    if claimable.len() > 1 {
        let one = claimable.iter().map(|message| Ids::NONE.with_one(message));
        claims.extend(one.map(|messages| Some(Claim { messages, as_batch: false })));
    }
}

/// Every way in which some of what runs may have ended by now.
fn each_return(protocol: &Protocol, running: Ids, stopping: bool, mut push: impl FnMut(Returned)) {
    let subsets = |of: Ids| Ids::subsets().filter(move |ids| ids.without(of).is_empty());
    let mortal = running.without(protocol.poison.map_or(Ids::NONE, |poison| Ids::NONE.with_one(poison)));
    let none = |condition: bool, ids: Ids| if condition { ids } else { Ids::NONE };
    for done in subsets(mortal) {
        for failed in subsets(none(protocol.errors, mortal.without(done))) {
            for unbegun in subsets(none(stopping, running.without(done).without(failed))) {
                push(Returned { done, failed, unbegun });
            }
        }
    }
}

fn handlers(protocol: &Protocol, state: &State, number: ProcessId, actions: &mut Vec<Action>) {
    let process = &state.processes[number];
    if !process.is_awake() {
        return;
    }
    if let Some(message) = protocol.poison.filter(|message| process.running().contains(*message)) {
        actions.push(Action::Kill { process: number, message });
    }
    if let Some(message) = process.stray {
        actions.push(Action::Kill { process: number, message });
    }
    if process.life == Life::Stopping {
        if process.holds().is_empty() {
            actions.push(Action::Leave(number));
        } else {
            actions.push(Action::GiveUp { process: number, answered: true });
        }
    }
}

fn liveness(protocol: &Protocol, state: &State, number: ProcessId, actions: &mut Vec<Action>) {
    let process = &state.processes[number];
    if !process.is_awake() || !state.server.up {
        return;
    }
    let dead =
        state.server.workers.iter().filter(|entry| matches!(entry.seen_by[number], Sighting::Dead { .. }));
    let dead: Vec<WorkerId> = dead.map(|entry| entry.id).collect();
    if dead.is_empty() {
        if looks_change(protocol, state, number) {
            actions.push(Action::Look(number));
        }
    } else {
        actions.extend(dead.into_iter().map(|worker| Action::Rescue(number, worker)));
    }
}

/// Whether this process would do or learn anything by looking around.
fn looks_change(protocol: &Protocol, state: &State, number: ProcessId) -> bool {
    let process = &state.processes[number];
    let Some(own) = process.worker else { return false };
    if !process.watching || process.excused {
        return true;
    }
    state.server.workers.iter().any(|entry| {
        if entry.id == own {
            return !entry.registered || entry.lock == Lock::Free;
        }
        sight(protocol, &state.server, entry, number) != entry.seen_by[number]
    })
}

fn server(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    let server = &state.server;
    if !server.up {
        actions.push(Action::ServerUp);
    }
    if state.grace_matters() && !state.grace_waits() {
        actions.push(Action::Grace);
    }
    for pending in &server.pending {
        actions.push(Action::Commit(pending.worker));
        actions.push(Action::Abort(pending.worker));
    }
    for entry in &server.workers {
        let silent = state.processes.iter().any(|p| p.paused && p.worker == Some(entry.id));
        if entry.lock == Lock::Former || entry.lock == Lock::Held && silent {
            actions.push(Action::DropSession(entry.id));
        }
    }
    if server.claiming.is_some() && protocol.bug != Some(Bug::NoTransactionTimeout) {
        actions.push(Action::TimeOutClaim);
    }
}

fn faults(protocol: &Protocol, state: &State, actions: &mut Vec<Action>) {
    let may = |fault: Fault| protocol.faults.contains(&fault);
    let server = &state.server;
    for (number, process) in state.processes.iter().enumerate() {
        if process.life == Life::Gone {
            continue;
        }
        if may(Fault::Crash) {
            actions.push(Action::Crash(number));
        }
        if process.paused {
            continue;
        }
        if may(Fault::NoReply) && server.up && process.linked {
            calls(protocol, state, process, |call| {
                actions.push(Action::Call { process: number, call, answered: false });
            });
            if process.life == Life::Stopping && !process.holds().is_empty() {
                actions.push(Action::GiveUp { process: number, answered: false });
            }
        }
        if may(Fault::Cut) && process.watching {
            actions.push(Action::Cut(number));
        }
        if may(Fault::Pause) {
            actions.push(Action::Pause { process: number, in_claim: false });
            let claims = process.life == Life::Running
                && process.linked
                && !process.alone
                && process.worker.is_some_and(|worker| server.knows(worker))
                && !server.claimable(protocol.bug).is_empty();
            if server.up && claims {
                actions.push(Action::Pause { process: number, in_claim: true });
            }
        }
        if may(Fault::Stop) && process.life == Life::Running {
            actions.push(Action::Stop(number));
        }
    }
    if may(Fault::Restart) && server.up {
        actions.push(Action::Restart { forgetful: false });
        if server.is_volatile() {
            actions.push(Action::Restart { forgetful: true });
        }
    }
}
