//! The state of everything, and what each step makes of it.

use crate::actions::{Action, CallKind, Returned};
use crate::bug::Bug;
use crate::judge::{Deed, Event, Events, judge};
use crate::server::{BatchId, Call, End, Entry, Lock, Outcome, Pending, Row, Server, Sighting, WorkerId};
use crate::worker::{Life, Process};
use crate::{Fault, MESSAGES, MessageId, PROCESSES, ProcessId, Protocol};

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

    /// What a process asks the broker for.
    fn call(&mut self, protocol: &Protocol, process: ProcessId, call: CallKind) -> Call {
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

    fn answered(&mut self, protocol: &Protocol, number: ProcessId, worker: WorkerId, call: &Call) {
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

    fn unanswered(&mut self, protocol: &Protocol, number: ProcessId, worker: WorkerId, call: Call) {
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
    fn lose_half_archived(&mut self, worker: WorkerId) {
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

    fn connect(&mut self, protocol: &Protocol, number: ProcessId) -> Deed {
        let process = &mut self.processes[number];
        process.linked = true;
        let known = process.known();
        let Some(worker) = process.worker else { return Deed::Nothing };
        self.server.hand_back_unknown(protocol.bug, worker, &known);
        Deed::HandedBack { worker }
    }

    /// Connecting anew is a step of its own only where it gives something back.
    fn connect_where_nothing_is_unknown(&mut self, protocol: &Protocol) {
        for process in self.processes.iter_mut().filter(|process| !process.linked && self.server.up) {
            let Some(worker) = process.worker else { continue };
            let waits = self.server.pending.iter().any(|pending| pending.worker == worker);
            if !waits && !self.server.holds_unknown(protocol.bug, worker, &process.known()) {
                process.linked = true;
            }
        }
    }

    fn begin(&mut self, number: ProcessId) {
        let taken = |life| {
            let id = WorkerId { process: number, life };
            self.server.entry(id).is_some() || self.server.pending.iter().any(|p| p.worker == id)
        };
        let life = (1..u8::MAX).find(|life| !taken(*life)).unwrap_or(u8::MAX);
        let worker = WorkerId { process: number, life };
        for entry in &mut self.server.workers {
            entry.seen_by[number] = Sighting::Well;
        }
        self.server.enter(worker);
        self.processes[number] = Process::begin(worker);
    }

    fn die(&mut self, number: ProcessId, killer: Option<MessageId>) {
        self.end(number, End::Killed(killer));
    }

    fn end(&mut self, number: ProcessId, end: End) {
        if let Some(entry) = self.own_entry(number) {
            entry.lock = Lock::Free;
            entry.end = end;
        }
        if self.server.claiming == Some(number) {
            self.server.claiming = None;
        }
        for entry in &mut self.server.workers {
            entry.seen_by[number] = Sighting::Well;
        }
        self.processes[number] = Process::GONE;
    }

    /// Ends in good order, and says so if it can.
    fn leave(&mut self, number: ProcessId) {
        let process = self.processes[number];
        match process.worker.filter(|_| self.server.up && process.watching) {
            Some(worker) => {
                self.server.deregister(worker);
                self.end(number, End::Left);
            }
            None => self.end(number, End::Killed(None)),
        }
    }

    fn give_up(&mut self, protocol: &Protocol, number: ProcessId, answered: bool) -> Deed {
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

    fn look(&mut self, protocol: &Protocol, number: ProcessId) {
        let process = &mut self.processes[number];
        let connects = !std::mem::replace(&mut process.watching, true);
        process.excused = false;
        let Some(own) = process.worker else { return };
        let Some(entry) = self.server.entry_mut(own) else { return };
        if !entry.registered {
            self.begin_anew(protocol, number);
            return;
        }
        if entry.lock == Lock::Free {
            entry.lock = Lock::Held;
            let in_doubt = entry.seen_by.iter().any(|sighting| *sighting != Sighting::Well);
            entry.beat();
            if in_doubt {
                self.events.insert(Event::Retaken);
            }
        }
        if connects && protocol.bug != Some(Bug::NoGraceAfterConnect) {
            self.server.workers.iter_mut().for_each(|entry| entry.doubt_anew(number));
        }
        let seen: Vec<Sighting> =
            self.server.workers.iter().map(|entry| sight(protocol, &self.server, entry, number)).collect();
        for (entry, sighting) in self.server.workers.iter_mut().zip(seen).filter(|(entry, _)| entry.id != own)
        {
            entry.seen_by[number] = sighting;
        }
    }

    /// The others have given its worker up: it begins as another one, if it is not to stop anyway.
    fn begin_anew(&mut self, protocol: &Protocol, number: ProcessId) {
        let process = self.processes[number];
        if process.life == Life::Stopping {
            self.end(number, End::Left);
            return;
        }
        self.end(number, End::NotYet);
        self.begin(number);
        if protocol.bug == Some(Bug::HandlersOutliveWorker) {
            let poison = protocol.poison.filter(|message| process.running().contains(*message));
            self.processes[number].stray = poison.or(process.stray);
        }
    }

    fn rescue(&mut self, protocol: &Protocol, number: ProcessId, worker: WorkerId) -> Deed {
        let Some(entry) = self.server.entry_mut(worker) else { return Deed::Nothing };
        let moved = match std::mem::replace(&mut entry.seen_by[number], Sighting::Well) {
            Sighting::Dead { moved } => moved,
            _ => return Deed::Nothing,
        };
        let known = entry.registered;
        self.server.rescue(protocol.bug, worker, moved);
        if let Some(entry) = self.server.entry_mut(worker)
            && protocol.bug == Some(Bug::WorkerPrunedFirst)
            && known
            && !entry.registered
        {
            // Its messages come next, if this process lives to do it.
            entry.seen_by[number] = Sighting::Dead { moved: false };
        }
        Deed::Rescued { worker }
    }

    /// Some rescuer waits for the grace to pass.
    pub(crate) fn grace_matters(&self) -> bool {
        self.processes.iter().enumerate().any(|(number, process)| {
            let mut seen = self.server.workers.iter().map(|entry| entry.seen_by[number]);
            process.life != Life::Gone
                && seen.any(|sighting| sighting == Sighting::Free { ripe: false, moved: false })
        })
    }

    /// Some worker that can is still to take its lock again.
    pub(crate) fn grace_waits(&self) -> bool {
        self.server.up
            && self.processes.iter().any(|process| {
                let entry = process.worker.and_then(|worker| self.server.entry(worker));
                process.is_awake() && entry.is_some_and(|e| e.registered && e.lock == Lock::Free)
            })
    }

    fn pass_grace(&mut self) {
        for entry in &mut self.server.workers {
            for sighting in &mut entry.seen_by {
                if let Sighting::Free { ripe, .. } = sighting {
                    *ripe = true;
                }
            }
        }
    }

    fn restart(&mut self, forgetful: bool) {
        if forgetful {
            self.server.forget_volatile();
        }
        self.server.reach_disk();
        self.server.up = false;
        self.server.pending.clear();
        self.server.claiming = None;
        for number in 0..PROCESSES {
            self.processes[number].linked = false;
            self.lose_session(number);
        }
        for entry in &mut self.server.workers {
            entry.lock = Lock::Free;
        }
    }

    fn lose_session(&mut self, number: ProcessId) {
        self.processes[number].watching = false;
        for entry in &mut self.server.workers {
            if let Sighting::Dead { moved } = entry.seen_by[number] {
                entry.seen_by[number] = Sighting::Free { ripe: true, moved };
            }
        }
    }

    fn own_entry(&mut self, number: ProcessId) -> Option<&mut Entry> {
        let worker = self.processes[number].worker?;
        self.server.entry_mut(worker)
    }

    /// An id for a new batch that nothing refers to.
    fn free_batch(&self, protocol: &Protocol) -> BatchId {
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

fn refers(call: &Call, id: BatchId) -> bool {
    match call {
        Call::Exchange { settlements, ended, .. } => {
            ended.contains(&id) || settlements.iter().any(|settlement| settlement.batch == Some(id))
        }
        Call::Promote { batch, .. } => *batch == id,
        Call::ClaimAlone { .. } | Call::AloneEnded => false,
    }
}

/// What a process makes of a look at a worker.
pub(crate) fn sight(protocol: &Protocol, server: &Server, entry: &Entry, number: ProcessId) -> Sighting {
    let seen = entry.seen_by[number];
    if !entry.registered {
        let looked_for =
            protocol.bug != Some(Bug::WorkerPrunedFirst) || matches!(seen, Sighting::Dead { .. });
        return if looked_for && !server.leased_to(entry.id).is_empty() {
            Sighting::Dead { moved: false }
        } else {
            Sighting::Well
        };
    }
    if entry.lock != Lock::Free {
        return Sighting::Well;
    }
    match seen {
        Sighting::Well if protocol.bug == Some(Bug::OneLook) => Sighting::Dead { moved: false },
        Sighting::Free { ripe: true, moved: false } => Sighting::Dead { moved: false },
        Sighting::Free { moved: false, .. } | Sighting::Dead { .. } => seen,
        Sighting::Well | Sighting::Free { moved: true, .. } => Sighting::Free { ripe: false, moved: false },
    }
}
