//! The state of everything, and what each step makes of it.

use crate::actions::Action;
use crate::bug::Bug;
use crate::judge::{Deed, Events, judge};
use crate::server::{Lock, Pending, Row, Server, WorkerId};
use crate::worker::{Life, Process};
use crate::{Fault, MESSAGES, PROCESSES, Protocol};

/// The database and the processes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct State {
    /// The database.
    pub server: Server,
    /// The workers' processes.
    pub processes: [Process; PROCESSES],
    /// How many faults may still come.
    pub faults: u8,
    /// What is to be said of the step that led here.
    pub events: Events,
}

impl State {
    /// All messages produced, all processes up.
    pub(crate) fn first(protocol: &Protocol) -> Self {
        let mut rows = [None; MESSAGES];
        rows[..protocol.messages].fill(Some(Row::NEW));
        let server = Server {
            up: true,
            rows,
            archive: [None; MESSAGES],
            batches: Vec::new(),
            workers: Vec::new(),
            pending: Vec::new(),
            claiming: None,
        };
        let mut state = Self {
            server,
            processes: [Process::GONE; PROCESSES],
            faults: protocol.budget,
            events: Events::default(),
        };
        (0..PROCESSES).for_each(|process| state.begin(process));
        state
    }

    /// The state after a step.
    pub(crate) fn after(&self, protocol: &Protocol, action: &Action) -> Self {
        let mut next = self.clone();
        next.events = Events::default();
        if action.fault().is_some() {
            next.faults -= 1;
        }
        let deed = next.take(protocol, action);
        judge(protocol, self, &mut next, &deed);
        next.forget_what_is_over(protocol);
        next
    }

    fn take(&mut self, protocol: &Protocol, action: &Action) -> Deed {
        match *action {
            Action::Call { process, call, answered } => {
                let Some(worker) = self.processes[process].worker else { return Deed::Nothing };
                let call = self.call(protocol, process, call);
                if answered {
                    self.answered(protocol, process, worker, &call);
                    return Deed::Called { worker, call };
                }
                self.unanswered(protocol, process, worker, call);
            }
            Action::Connect(process) => return self.connect(protocol, process),
            Action::Kill { process, message } => self.die(process, Some(message)),
            Action::Leave(process) => self.leave(process),
            Action::GiveUp { process, answered } => return self.give_up(protocol, process, answered),
            Action::Look(process) => self.look(protocol, process),
            Action::Rescue(process, worker) => return self.rescue(protocol, process, worker),
            Action::Grace => self.pass_grace(),
            Action::Commit(worker) => {
                let at = self.server.pending.iter().position(|pending| pending.worker == worker);
                let Some(at) = at else { return Deed::Nothing };
                let Pending { worker, call } = self.server.pending.remove(at);
                let batch = self.free_batch(protocol);
                self.server.commit(protocol.bug, worker, &call, batch);
                return Deed::Called { worker, call };
            }
            Action::Abort(worker) => {
                if protocol.bug == Some(Bug::ArchivedLater) {
                    self.lose_half_archived(worker);
                }
                self.server.pending.retain(|pending| pending.worker != worker);
            }
            Action::DropSession(worker) => {
                if let Some(entry) = self.server.entry_mut(worker) {
                    let lock = std::mem::replace(&mut entry.lock, Lock::Free);
                    if lock == Lock::Held {
                        self.lose_session(worker.process);
                    }
                }
            }
            Action::TimeOutClaim => {
                if let Some(process) = self.server.claiming.take() {
                    self.processes[process].linked = false;
                }
            }
            Action::ServerUp => self.server.up = true,
            Action::Start(process) => self.begin(process),
            Action::Resume(process) => {
                self.processes[process].paused = false;
                if self.server.claiming == Some(process) {
                    self.server.claiming = None;
                }
            }
            Action::Cut(process) => {
                self.lose_session(process);
                if let Some(entry) = self.own_entry(process).filter(|entry| entry.lock == Lock::Held) {
                    entry.lock = Lock::Former;
                }
            }
            Action::Pause { process, in_claim } => {
                (self.processes[process].paused, self.processes[process].excused) = (true, true);
                if in_claim {
                    self.server.claiming = Some(process);
                }
            }
            Action::Crash(process) => self.die(process, None),
            Action::Stop(process) => self.processes[process].life = Life::Stopping,
            Action::Restart { forgetful } => self.restart(forgetful),
        }
        Deed::Nothing
    }

    /// States that differ only in what nobody can ask for any more are one.
    fn forget_what_is_over(&mut self, protocol: &Protocol) {
        if self.faults == 0 || !protocol.lazy_claims || !protocol.faults.contains(&Fault::Restart) {
            self.server.reach_disk();
        }
        self.connect_where_nothing_is_unknown(protocol);
        let processes = &self.processes;
        let current = |worker: WorkerId| processes.iter().any(|process| process.worker == Some(worker));
        let pending = |worker: WorkerId| self.server.pending.iter().any(|p| p.worker == worker);
        for (message, archived) in self.server.archive.iter_mut().enumerate() {
            let asked = |(worker, _): &(WorkerId, u8)| {
                let process = &processes[worker.process];
                pending(*worker) || current(*worker) && process.held[message].is_some()
            };
            if let Some(archived) = archived {
                archived.lease = archived.lease.filter(asked);
            }
        }
        let over: Vec<WorkerId> = (self.server.workers.iter())
            .filter(|entry| !entry.registered && !current(entry.id) && !pending(entry.id))
            .filter(|entry| self.server.leased_to(entry.id).is_empty())
            .map(|entry| entry.id)
            .collect();
        self.server.workers.retain(|entry| !over.contains(&entry.id));
        self.server.batches.retain(|batch| !over.contains(&batch.worker));
    }
}
