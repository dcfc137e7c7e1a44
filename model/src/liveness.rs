//! How processes begin and end, how they see each other, and what becomes of their sessions.

use crate::bug::Bug;
use crate::judge::{Deed, Event};
use crate::server::{End, Entry, Lock, Server, Sighting, WorkerId};
use crate::state::State;
use crate::worker::{Life, Process};
use crate::{MessageId, PROCESSES, ProcessId, Protocol};

impl State {
    pub(crate) fn begin(&mut self, number: ProcessId) {
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

    pub(crate) fn die(&mut self, number: ProcessId, killer: Option<MessageId>) {
        self.end(number, End::Killed(killer));
    }

    pub(crate) fn end(&mut self, number: ProcessId, end: End) {
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
    pub(crate) fn leave(&mut self, number: ProcessId) {
        let process = self.processes[number];
        match process.worker.filter(|_| self.server.up && process.watching) {
            Some(worker) => {
                self.server.deregister(worker);
                self.end(number, End::Left);
            }
            None => self.end(number, End::Killed(None)),
        }
    }

    pub(crate) fn look(&mut self, protocol: &Protocol, number: ProcessId) {
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
    pub(crate) fn begin_anew(&mut self, protocol: &Protocol, number: ProcessId) {
        let process = self.processes[number];
        if process.life == Life::Stopping {
            self.end(number, End::Left);
            return;
        }
        self.end(number, End::NotYet);
        self.begin(number);
        // What it ran runs on, and may still end the process.
        let poison = protocol.poison.filter(|message| process.running().contains(*message));
        self.processes[number].stray = poison.or(process.stray);
        let stray = self.processes[number].stray.is_some();
        if let Some(entry) = self.own_entry(number) {
            entry.unproven = stray && protocol.bug != Some(Bug::HandlersOutliveWorker);
        }
    }

    pub(crate) fn rescue(&mut self, protocol: &Protocol, number: ProcessId, worker: WorkerId) -> Deed {
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

    pub(crate) fn pass_grace(&mut self) {
        for entry in &mut self.server.workers {
            for sighting in &mut entry.seen_by {
                if let Sighting::Free { ripe, .. } = sighting {
                    *ripe = true;
                }
            }
        }
    }

    pub(crate) fn restart(&mut self, forgetful: bool) {
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

    pub(crate) fn lose_session(&mut self, number: ProcessId) {
        self.processes[number].watching = false;
        for entry in &mut self.server.workers {
            if let Sighting::Dead { moved } = entry.seen_by[number] {
                entry.seen_by[number] = Sighting::Free { ripe: true, moved };
            }
        }
    }

    pub(crate) fn own_entry(&mut self, number: ProcessId) -> Option<&mut Entry> {
        let worker = self.processes[number].worker?;
        self.server.entry_mut(worker)
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
