//! Carries out what was planned, and writes it down.

use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::journal::{Event, FaultKind, Journal};
use crate::plan::{Fault, Strike, WORKERS};
use crate::site::Site;

const TICK: Duration = Duration::from_millis(5);
/// As a service manager does.
const START_AGAIN: Duration = Duration::from_millis(500);

/// How a worker is.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Health {
    Well,
    /// Told to stop; once it has ended it is down for so long.
    Stopping {
        fault: usize,
        down: Duration,
    },
    /// Until then.
    Down {
        until: Instant,
    },
    Paused {
        fault: usize,
        /// With the file's lock.
        locked: Option<usize>,
        until: Instant,
    },
    Cut {
        fault: usize,
        until: Instant,
    },
}

#[derive(Debug)]
struct Nemesis<'a> {
    site: &'a mut Site,
    journal: Journal,
    health: [Health; WORKERS],
    faults: usize,
}

/// Carries out all of the plan, heals everything, and says how many faults there were.
///
/// # Panics
/// When a worker ends that was not told to, or anything of the site fails.
pub fn strike(site: &mut Site, plan: &[Strike]) -> usize {
    let journal = Journal::open(&site.journal("faults")).expect("the journal opens");
    let mut nemesis = Nemesis { site, journal, health: [Health::Well; WORKERS], faults: 0 };
    let began = Instant::now();
    let mut plan = plan.iter().peekable();
    while plan.peek().is_some() || nemesis.health != [Health::Well; WORKERS] {
        nemesis.heal();
        if let Some(strike) =
            plan.next_if(|strike| began.elapsed() >= strike.at && nemesis.allows(&strike.fault))
        {
            nemesis.carry_out(&strike.fault);
        }
        std::thread::sleep(TICK);
    }
    nemesis.faults
}

impl Nemesis<'_> {
    /// Whoever is to be struck, or the next one after it; one that is well and leaves another like it.
    fn victim(&self, worker: usize) -> Option<usize> {
        let well = |worker: usize| self.health[worker] == Health::Well;
        (0..WORKERS).map(|n| (worker + n) % WORKERS).find(|&worker| {
            well(worker)
                && (0..WORKERS).any(|other| other != worker && well(other) && Site::are_alike(other, worker))
        })
    }

    fn allows(&self, fault: &Fault) -> bool {
        match fault {
            Fault::Kill { worker, .. }
            | Fault::Stop { worker, .. }
            | Fault::Reset { worker }
            | Fault::Cut { worker, .. } => self.victim(*worker).is_some(),
            // With the file's lock in its hand it keeps everybody from working, and nobody could be caught.
            Fault::Pause { worker, .. } => {
                self.victim(*worker).is_some() && !(self.site.is_sabotaged() && self.site.is_locked())
            }
            Fault::KillServer { .. } | Fault::KillProducer { .. } | Fault::ResetProducer { .. } => true,
        }
    }

    fn carry_out(&mut self, fault: &Fault) {
        match *fault {
            Fault::Kill { worker, down } => {
                let Some(worker) = self.victim(worker) else { return };
                let far = self.site.is_alone_on_its_machine(worker);
                let id = self.begin(
                    if far { FaultKind::KillFar } else { FaultKind::Kill },
                    self.site.worker_pid(worker),
                );
                self.site.kill_worker(worker);
                self.end(id);
                self.health[worker] = Health::Down { until: Instant::now() + down };
            }
            Fault::Stop { worker, down } => {
                let Some(worker) = self.victim(worker) else { return };
                let fault = self.begin(FaultKind::Stop, self.site.worker_pid(worker));
                self.site.signal_worker(worker, Signal::TERM);
                self.health[worker] = Health::Stopping { fault, down };
            }
            Fault::Pause { worker, lasts } => {
                let Some(worker) = self.victim(worker) else { return };
                let fault = self.begin(FaultKind::Pause, self.site.worker_pid(worker));
                self.site.signal_worker(worker, Signal::STOP);
                let until = Instant::now() + lasts;
                let locked = self.site.is_locked().then(|| self.begin(FaultKind::Locked, None));
                self.health[worker] = Health::Paused { fault, locked, until };
            }
            Fault::Reset { worker } => {
                let Some(worker) = self.victim(worker) else { return };
                let id = self.begin(FaultKind::Reset, self.site.worker_pid(worker));
                self.site.worker_line(worker).expect("it has a line").reset();
                self.end(id);
            }
            Fault::Cut { worker, lasts } => {
                let Some(worker) = self.victim(worker) else { return };
                let fault = self.begin(FaultKind::Cut, self.site.worker_pid(worker));
                self.site.worker_line(worker).expect("it has a line").swallow(true);
                self.health[worker] = Health::Cut { fault, until: Instant::now() + lasts };
            }
            Fault::KillServer { down } => {
                let id = self.begin(FaultKind::Server, None);
                self.site.kill_server();
                std::thread::sleep(down);
                self.site.restart_server();
                self.end(id);
            }
            Fault::KillProducer { producer } => {
                let id = self.begin(FaultKind::Producer, self.site.producer_pid(producer));
                self.site.kill_producer(producer);
                self.site.start_producer(producer);
                self.end(id);
            }
            Fault::ResetProducer { producer } => {
                let id = self.begin(FaultKind::ProducerReset, self.site.producer_pid(producer));
                self.site.producer_line(producer).expect("it has a line").reset();
                self.end(id);
            }
        }
    }

    /// What is over is undone.
    fn heal(&mut self) {
        for worker in 0..WORKERS {
            let now = Instant::now();
            match self.health[worker] {
                Health::Well | Health::Cut { .. } => {
                    if let Some(status) = self.site.has_ended(worker) {
                        // One that is struck before it has begun says so and ends; its service manager starts it again.
                        let log = self.site.log(worker);
                        assert!(
                            !log.contains("worker ready"),
                            "worker {worker} ended by itself, {status}:\n{log}"
                        );
                        if self.health[worker] == Health::Well {
                            self.health[worker] = Health::Down { until: now + START_AGAIN };
                        }
                    }
                }
                Health::Stopping { fault, down } if self.site.has_ended(worker).is_some() => {
                    self.end(fault);
                    self.health[worker] = Health::Down { until: now + down };
                }
                _ => {}
            }
            match self.health[worker] {
                Health::Down { until } if until <= now => {
                    self.site.start_worker(worker);
                    self.health[worker] = Health::Well;
                }
                Health::Paused { fault, locked, until } if until <= now => {
                    self.site.signal_worker(worker, Signal::CONT);
                    self.end(fault);
                    if let Some(locked) = locked {
                        self.end(locked);
                    }
                    self.health[worker] = Health::Well;
                }
                Health::Cut { fault, until } if until <= now => {
                    self.site.worker_line(worker).expect("it has a line").swallow(false);
                    self.end(fault);
                    let runs = self.site.worker_pid(worker).is_some();
                    self.health[worker] = if runs { Health::Well } else { Health::Down { until: now } };
                }
                _ => {}
            }
        }
    }

    fn begin(&mut self, kind: FaultKind, pid: Option<u32>) -> usize {
        let id = self.faults;
        self.faults += 1;
        self.journal.write(Event::Fault { id, kind, pid }).expect("the journal is written");
        id
    }

    fn end(&self, id: usize) {
        self.journal.write(Event::Healed { id }).expect("the journal is written");
    }
}
