//! The worker's main thread: claims messages into the executors, and settles what they finish, in batches as large as
//! what came together while the last one was written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::executors::{Event, Executors, Finished, context};
use super::liveness::Liveness;
use super::report::Report;
use super::wake::{POLL, Wake};
use super::{Ended, Held, Setup};
use crate::broker::{Claim, Claimed, Outcome, Settlement, WorkerIdentity};
use crate::{AnyConnection, BrokerConnection, Error, MessageId, Result};

/// The most that one claim takes.
const BATCH: usize = 1000;
/// Messages are claimed ahead for this much work, so that handlers never wait for a claim, yet another worker that
/// comes up finds something to do, and little is held when this one dies.
const AHEAD: Duration = Duration::from_millis(100);
/// A worker that is never idle finishes all it has after this long, when a message waits to run alone.
const ALONE_AT_LAST: Duration = Duration::from_secs(30);

/// Works as one incarnation until it is told to stop, or is given up by the others (`Error::WorkerLost`).
pub(super) fn run(setup: &Arc<Setup>, worker_id: i64) -> Result<Ended> {
    let worker = WorkerIdentity {
        id: worker_id,
        host: hostname(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        topics: setup.topics().join(","),
        concurrency: i32::try_from(setup.concurrency).unwrap_or(i32::MAX),
    };
    let (events_in, events) = unbounded();
    setup.stop.wakes(events_in.clone());
    let liveness = Liveness::start(setup, &worker, &events_in)?;
    let report = Arc::new(Report::new());
    let executors = Executors::start(setup, &worker, &report, &events_in)?;
    tracing::info!(
        worker = worker.id,
        concurrency = setup.concurrency,
        "worker ready: {} at once, topics {}, {} {}",
        setup.concurrency,
        worker.topics,
        setup.backend,
        crate::broker::without_password(&setup.database_url)
    );
    let mut dispatcher = Dispatcher {
        setup,
        worker,
        executors,
        liveness,
        report,
        events,
        _events_in: events_in,
        conn: None,
        wake: Wake::default(),
        running: HashMap::new(),
        finished: Vec::new(),
        failed_settlements: 0,
        pace: Pace::default(),
        turn: 0,
        maybe_due: true,
        due_at: None,
        alone: false,
        busy_since: Instant::now(),
        retry_at: None,
        reconnect_delay: Duration::from_millis(100),
    };
    let ended = dispatcher.run();
    match &ended {
        Err(Error::WorkerLost) => dispatcher.executors.cancel_all(),
        _ => dispatcher.liveness.end(),
    }
    if let Ok(ended) = &ended {
        match ended {
            Ended::Finished => tracing::info!("stopped, all that ran is finished"),
            Ended::LeftRunning => {
                tracing::warn!("stopped, handlers that were too slow to finish are run again elsewhere")
            }
        }
    }
    ended
}

struct Dispatcher<'a> {
    setup: &'a Arc<Setup>,
    worker: WorkerIdentity,
    executors: Executors,
    liveness: Liveness,
    report: Arc<Report>,
    events: Receiver<Event>,
    _events_in: Sender<Event>,
    conn: Option<AnyConnection>,
    wake: Wake,
    /// Everything leased whose end is not written yet, with the attempt.
    running: HashMap<MessageId, i32>,
    /// Ended, and to be written.
    finished: Vec<Finished>,
    failed_settlements: u32,
    pace: Pace,
    /// Which topic comes first in the next claim.
    turn: usize,
    /// There may be messages that are due.
    maybe_due: bool,
    /// When the next scheduled message is due, by this machine's monotonic clock.
    due_at: Option<Instant>,
    /// The one message that it runs is set aside to run alone.
    alone: bool,
    busy_since: Instant,
    /// The database is away; the next try.
    retry_at: Option<Instant>,
    reconnect_delay: Duration,
}

impl Dispatcher<'_> {
    fn run(&mut self) -> Result<Ended> {
        loop {
            if self.liveness.is_lost() {
                return Err(Error::WorkerLost);
            }
            if self.setup.stop.is_stopping() {
                return self.shut_down();
            }
            match self.work() {
                Ok(true) => return self.shut_down(),
                Ok(false) => {}
                Err(error) => self.lose_connection(&error),
            }
            self.executors.watch_timeouts()?;
            self.report.tick();
        }
    }

    /// One round: settle, claim, wait. `true` when there is nothing left and the worker is to end then.
    fn work(&mut self) -> Result<bool> {
        if self.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.connect()?;
            self.settle()?;
            self.claim()?;
            if self.running.is_empty() && !self.maybe_due {
                self.report.idle(&self.worker.topics);
                if self.setup.until_empty
                    && self.due_at.is_none()
                    && !self.liveness.set_aside.load(Ordering::Acquire)
                {
                    return Ok(true);
                }
            }
        }
        self.wait()?;
        Ok(false)
    }

    fn connect(&mut self) -> Result<()> {
        if self.conn.is_some() {
            return Ok(());
        }
        let mut conn = AnyConnection::establish(&self.setup.database_url)?;
        self.wake.connect(&mut conn)?;
        // The reply to a claim may have been lost with the last connection.
        let known: Vec<MessageId> = self.running.keys().copied().collect();
        conn.broker().hand_back_unknown(self.worker.id, &known)?;
        self.conn = Some(conn);
        self.maybe_due = true;
        if self.retry_at.take().is_some() {
            tracing::info!("the database is back");
        }
        self.reconnect_delay = Duration::from_millis(100);
        Ok(())
    }

    fn lose_connection(&mut self, error: &Error) {
        self.conn = None;
        if self.retry_at.is_none() {
            tracing::error!("the database cannot be used, trying again until it can: {error}");
        }
        // Jitter, so that many workers do not come back all at once.
        self.retry_at = Some(Instant::now() + self.reconnect_delay.mul_f64(0.5 + fastrand::f64()));
        self.reconnect_delay = (self.reconnect_delay * 2).min(Duration::from_secs(5));
    }

    /// Writes the outcomes of everything that has ended.
    fn settle(&mut self) -> Result<()> {
        if self.finished.is_empty() {
            return Ok(());
        }
        let Some(conn) = &mut self.conn else { return Ok(()) };
        let settlements: Vec<Settlement> =
            self.finished.iter().filter_map(|f| f.settlement.clone()).collect();
        let lost: Held = match conn.broker().settle(&self.worker, &settlements) {
            Ok(lost) => lost.into_iter().collect(),
            Err(error) if self.failed_settlements == 0 => {
                self.failed_settlements = 1;
                return Err(error);
            }
            Err(_) => self.settle_one_by_one()?,
        };
        self.failed_settlements = 0;
        for finished in self.finished.drain(..) {
            self.running.remove(&finished.id);
            self.report.ended(&finished, lost.contains(&finished.id));
            if let Some(Outcome::Retry { delay, .. }) = finished.settlement.map(|s| s.outcome) {
                let at = Instant::now() + delay;
                self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
            }
        }
        if self.alone && self.running.is_empty() {
            conn_of(&mut self.conn)?.broker().alone_ended(self.worker.id)?;
            self.alone = false;
        }
        Ok(())
    }

    /// A batch failed twice: one bad outcome must not keep the good ones from being written.
    fn settle_one_by_one(&mut self) -> Result<Held> {
        let mut lost = Held::new();
        for finished in &mut self.finished {
            let Some(settlement) = finished.settlement.clone() else { continue };
            let broker = conn_of(&mut self.conn)?.broker();
            match broker.settle(&self.worker, &[settlement]) {
                Ok(ids) => lost.extend(ids),
                Err(error) => {
                    let text =
                        crate::limits::clean_error(&format!("its outcome could not be stored: {error}"));
                    let outcome =
                        Outcome::Retry { delay: Duration::from_secs(60), kind: "error", error: text };
                    if let Some(settlement) = &mut finished.settlement {
                        settlement.outcome = outcome;
                        lost.extend(broker.settle(&self.worker, std::slice::from_ref(settlement))?);
                    }
                }
            }
        }
        Ok(lost)
    }

    fn claim(&mut self) -> Result<()> {
        let set_aside = self.liveness.set_aside.load(Ordering::Acquire);
        if self.running.is_empty() {
            self.busy_since = Instant::now();
            if set_aside {
                return self.claim_alone();
            }
        } else if self.alone || set_aside && self.busy_since.elapsed() > ALONE_AT_LAST {
            return Ok(()); // what runs alone has no company, and waits no longer than this for its turn
        }
        if self.due_at.is_some_and(|at| at <= Instant::now()) {
            self.maybe_due = true;
        }
        let ahead = self.pace.within(AHEAD, self.setup.concurrency);
        let target = self.setup.concurrency + ahead.min(2 * BATCH);
        let held = self.running.len();
        if !self.maybe_due || held >= self.setup.concurrency.max(target / 2) {
            return Ok(());
        }
        let limit = (target - held).min(BATCH);
        let mut topics = self.setup.topics();
        let places = topics.len().max(1);
        topics.rotate_left(self.turn % places);
        self.turn = (self.turn + 1) % places;
        let conn = conn_of(&mut self.conn)?;
        // On SQLite a look costs far less than the write lock that a claim takes.
        if matches!(conn.backend(), crate::Backend::Sqlite) {
            let due = conn.broker().next_due(&topics)?;
            self.due_at = due.map(|wait| Instant::now() + wait);
            if due != Some(Duration::ZERO) {
                self.maybe_due = false;
                return Ok(());
            }
        }
        let claim = Claim {
            worker_id: self.worker.id,
            topics: &topics,
            limit: i64::try_from(limit).unwrap_or(i64::MAX),
        };
        let claimed = conn.broker().claim(&claim)?;
        if claimed.len() < limit {
            let due = conn.broker().next_due(&topics)?;
            self.due_at = due.map(|wait| Instant::now() + wait);
            self.maybe_due = due == Some(Duration::ZERO) && !claimed.is_empty();
        }
        if !claimed.is_empty() {
            self.wake.saw_messages();
        }
        for message in claimed {
            self.assign(message);
        }
        Ok(())
    }

    fn claim_alone(&mut self) -> Result<()> {
        let topics = self.setup.topics();
        match conn_of(&mut self.conn)?.broker().claim_alone(self.worker.id, &topics)? {
            Some(message) => {
                tracing::warn!(
                    topic = message.topic,
                    id = message.id,
                    "{} #{} runs alone: workers died while they held it",
                    message.topic,
                    message.id
                );
                self.alone = true;
                self.assign(message);
            }
            None => self.liveness.set_aside.store(false, Ordering::Release),
        }
        Ok(())
    }

    fn assign(&mut self, claimed: Claimed) {
        let Some(consumer) = self.setup.registry.get(&claimed.topic) else { return };
        self.running.insert(claimed.id, claimed.attempt);
        let context = context(&claimed, consumer, self.worker.id);
        if context.attempt() > context.max_attempts() {
            // Its last attempts ended no handler but the whole process, so nobody could bury it then.
            let error = format!(
                "{} of its {} attempts ended the whole worker process",
                claimed.crashes,
                context.max_attempts()
            );
            self.finished.push(Finished {
                id: claimed.id,
                topic: consumer.topic,
                attempt: context.attempt(),
                max_attempts: context.max_attempts(),
                took: Duration::ZERO,
                shown: true,
                settlement: Some(Settlement {
                    id: claimed.id,
                    attempt: claimed.attempt,
                    outcome: Outcome::Dead { kind: None, error },
                }),
            });
            return;
        }
        self.executors.assign(claimed, consumer, context);
    }

    /// Until an attempt ends, a message may be there, or it is time to look.
    fn wait(&mut self) -> Result<()> {
        let full = self.running.len() >= self.setup.concurrency;
        let mut timeout = POLL.min(Duration::from_millis(if self.running.is_empty() { 1000 } else { 100 }));
        if let Some(at) = self.retry_at {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        } else if !self.finished.is_empty() || self.maybe_due && !full && !self.alone {
            timeout = Duration::ZERO;
        } else if let Some(at) = self.due_at.filter(|_| !full) {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        }
        let deadline = Instant::now() + timeout;
        loop {
            let look = match &self.conn {
                Some(conn) if !full && !self.maybe_due && self.retry_at.is_none() => self.wake.interval(conn),
                _ => POLL,
            };
            let until = deadline.min(Instant::now() + look);
            if let Ok(event) = self.events.recv_deadline(until) {
                self.take(event);
                for event in self.events.try_iter().take(2 * BATCH).collect::<Vec<_>>() {
                    self.take(event);
                }
                return Ok(());
            }
            if look < POLL
                && let Some(conn) = &mut self.conn
                && self.wake.look(conn)?
            {
                self.maybe_due = true;
                return Ok(());
            }
            if Instant::now() >= deadline {
                // No wake-up is needed for correctness: once a second it looks without one.
                self.maybe_due |= !full;
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: Event) {
        if let Event::Finished(finished) = event {
            self.pace.count(finished.took);
            self.finished.push(finished);
        }
    }

    /// Hands back what has not begun, and gives what runs its time.
    fn shut_down(&mut self) -> Result<Ended> {
        let deadline = Instant::now() + self.setup.shutdown_timeout;
        let hand_back = |id, attempt| Settlement { id, attempt, outcome: Outcome::HandBack };
        let unbegun: Vec<Settlement> =
            self.executors.take_unbegun().into_iter().map(|(id, attempt)| hand_back(id, attempt)).collect();
        if !unbegun.is_empty() {
            tracing::info!("handed back {} messages that had not begun", unbegun.len());
        }
        for settlement in &unbegun {
            self.running.remove(&settlement.id);
        }
        let mut unbegun = Some(unbegun);
        loop {
            let written = self.connect().and_then(|()| {
                if let Some(settlements) = unbegun.take_if(|s| !s.is_empty())
                    && let Err(error) = conn_of(&mut self.conn)?.broker().settle(&self.worker, &settlements)
                {
                    unbegun = Some(settlements);
                    return Err(error);
                }
                self.settle()
            });
            if let Err(error) = &written {
                self.lose_connection(error);
            }
            if self.liveness.is_lost() {
                return Err(Error::WorkerLost);
            }
            if written.is_ok() && self.running.is_empty() {
                return Ok(Ended::Finished);
            }
            if Instant::now() >= deadline {
                break;
            }
            let next = Instant::now() + Duration::from_millis(100);
            if let Ok(event) = self.events.recv_deadline(next.min(deadline)) {
                self.take(event);
                for event in self.events.try_iter().collect::<Vec<_>>() {
                    self.take(event);
                }
            }
            self.executors.watch_timeouts()?;
        }
        self.executors.cancel_all();
        let left: Vec<Settlement> =
            self.running.iter().map(|(&id, &attempt)| hand_back(id, attempt)).collect();
        if let Ok(conn) = conn_of(&mut self.conn) {
            // If this fails too, the messages are rescued as those of a dead worker.
            let _ = conn.broker().settle(&self.worker, &left);
        }
        Ok(Ended::LeftRunning)
    }
}

fn conn_of(conn: &mut Option<AnyConnection>) -> Result<&mut AnyConnection> {
    conn.as_mut().ok_or_else(|| Error::Configuration("not connected".to_owned()))
}

/// How long an attempt takes, of late.
#[derive(Debug, Default)]
struct Pace {
    seconds: Option<f64>,
}

impl Pace {
    fn count(&mut self, took: Duration) {
        let took = took.as_secs_f64();
        self.seconds = Some(self.seconds.map_or(took, |mean| 0.8 * mean + 0.2 * took));
    }

    /// How many messages `handlers` of them finish within `time`. Nobody knows before the first one has ended.
    fn within(&self, time: Duration, handlers: usize) -> usize {
        self.seconds.map_or(0, |mean| (handlers as f64 * time.as_secs_f64() / mean.max(1e-9)) as usize)
    }
}

fn hostname() -> String {
    let name = std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME"));
    name.or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "localhost".to_owned(), |n| n.trim().to_owned())
}
