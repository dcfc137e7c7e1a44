//! The worker's main thread: claims messages into the executors, and settles what they finish, in batches as large as
//! what came together while the last one was written.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::executors::{Event, Executors, Finished, context};
use super::holdings::Holdings;
use super::lanes::Lanes;
use super::link::{Link, Order};
use super::liveness::Liveness;
use super::pace::{BATCH, Pace};
use super::patience::{self, PATIENCE};
use super::report::Report;
use super::wake::{POLL, Wake};
use super::{Ended, Held, Setup, strays, supervised};
use crate::broker::{Blame, Claimed, Exchanged, Outcome, Settlement, WorkerIdentity};
use crate::consumer::Handler;
use crate::schedule::Ticked;
use crate::{Backend, Error, MessageId, Result, schedule};

/// While an attempt takes less than this, messages are leased in batches;
const MOMENTS: Duration = Duration::from_millis(1);
/// and what a batch has not finished by then is leased message by message, so that the other workers need not walk
/// over it again and again.
const BATCH_LIFE: Duration = Duration::from_millis(150);
/// Wake-ups and the liveness thread's looks tell of due messages. Should both fail, the dispatching thread looks itself.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// The first pause before a new try to reach a database, and
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// the longest: whoever waits for the worker after an outage waits two seconds at most.
const LONGEST_PAUSE: Duration = Duration::from_millis(1300);
/// A database is back when it has done all that it was asked for so long. One whose disk is full still stores this and
/// that, and one that ends sessions takes new ones: each time may be said once, and not each failure.
const CALM: Duration = Duration::from_secs(1);
/// So long after a connection was lost, a server has ended all that it was asked to do on it.
const RECONCILE_AGAIN: Duration = Duration::from_secs(10);
/// A worker that is never idle finishes all it has after this long, when a message waits to run alone.
const ALONE_AT_LAST: Duration = Duration::from_secs(2);
/// So long a worker that ends waits for an answer.
const IMPATIENCE: Duration = Duration::from_secs(1);
/// After so many tries that the server did not answer, some two minutes, there is less hurry.
const MANY_SILENCES: u32 = 25;
/// So many suspected messages are held at once: all that the next death can leave to run alone.
const SUSPECTS: usize = 10;

/// Works as one incarnation until it is told to stop, or is given up by the others (`Error::WorkerLost`).
pub(super) fn run(setup: &Arc<Setup>, worker_id: i64) -> Result<Ended> {
    let worker = Arc::new(WorkerIdentity {
        id: worker_id,
        host: hostname(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        topics: setup.topics().join(","),
        concurrency: i32::try_from(setup.concurrency).unwrap_or(i32::MAX),
    });
    let (events_in, events) = unbounded();
    setup.stop.wakes(events_in.clone());
    let liveness = Liveness::start(setup, &worker, &events_in)?;
    let report = Arc::new(Report::new());
    let executors = Executors::start(setup, &worker, &report, &liveness.last_look, &events_in)?;
    tracing::info!(
        worker = worker.id,
        concurrency = setup.concurrency,
        "worker ready: {} at once, topics {}, {} {}",
        setup.concurrency,
        worker.topics,
        setup.backend,
        crate::database_url::without_password(&setup.database_url)
    );
    let mut dispatcher = Dispatcher {
        setup,
        worker,
        executors,
        liveness,
        report,
        events,
        wake: Wake::new(&setup.database_url, setup.topics(), &events_in),
        _events_in: events_in,
        link: None,
        holdings: Holdings::default(),
        lanes: Lanes::default(),
        batches: setup.locks_of_all
            && setup.consumers().all(|c| !matches!(c.handler, Handler::Transactional { .. })),
        finished: Vec::new(),
        handed_back: Vec::new(),
        failed_settlements: 0,
        pace: Pace::new(setup.concurrency),
        turn: 0,
        paused: HashSet::new(),
        maybe_due: true,
        due_at: None,
        looked: Instant::now(),
        alone: None,
        noted: Some(Blame::Held),
        busy_since: Instant::now(),
        retry_at: None,
        failed: None,
        patience: PATIENCE,
        silences: 0,
        reconnect_delay: FIRST_PAUSE,
        connection_lost: false,
        reconciled: Instant::now(),
    };
    let ended = dispatcher.run();
    match &ended {
        Err(Error::WorkerLost) => dispatcher.executors.give_up(),
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
    worker: Arc<WorkerIdentity>,
    executors: Executors,
    liveness: Liveness,
    report: Arc<Report>,
    events: Receiver<Event>,
    _events_in: Sender<Event>,
    link: Option<Link>,
    wake: Wake,
    holdings: Holdings,
    lanes: Lanes,
    /// Whether batches may be leased: a transactional consumer needs a lease of its own.
    batches: bool,
    /// Ended, and to be written.
    finished: Vec<Finished>,
    /// Not begun, or given up, and to be given back.
    handed_back: Vec<Settlement>,
    failed_settlements: u32,
    pace: Pace,
    /// Which topic comes first in the next claim.
    turn: usize,
    /// Its topics of which it is to take nothing.
    paused: HashSet<&'static str>,
    /// There may be messages that are due.
    maybe_due: bool,
    /// When the next scheduled message is due, by this machine's monotonic clock.
    due_at: Option<Instant>,
    /// When it last looked for due messages.
    looked: Instant,
    /// The one message that it runs is set aside to run alone.
    alone: Option<MessageId>,
    /// What the others know of whom to blame for this worker's death, if it is certain.
    noted: Option<Blame>,
    busy_since: Instant,
    /// The database is away; the next try.
    retry_at: Option<Instant>,
    /// When it failed last, while it is not known to be back.
    failed: Option<Instant>,
    /// How long the server may take for an answer.
    patience: Duration,
    /// Tries in a row that the server did not answer.
    silences: u32,
    reconnect_delay: Duration,
    /// Since the holdings were last reconciled for good.
    connection_lost: bool,
    reconciled: Instant,
}

impl Dispatcher<'_> {
    fn run(&mut self) -> Result<Ended> {
        // The first look has told already what is paused.
        for event in self.events.try_iter().collect::<Vec<_>>() {
            self.take(event);
        }
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
            self.executors.watch(&self.pace)?;
            self.report.tick();
        }
    }

    fn measure(&self) {
        let meters = &self.setup.meters;
        meters.running.set(self.executors.running());
        meters.held.set(u32::try_from(self.holdings.len()).unwrap_or(u32::MAX));
        meters.database_up.set(u32::from(self.retry_at.is_none()));
    }

    /// One round: settle, claim, wait. `true` when there is nothing left and the worker is to end then.
    fn work(&mut self) -> Result<bool> {
        if self.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.connect()?;
            if self.connection_lost && self.reconciled.elapsed() > RECONCILE_AGAIN {
                self.reconcile()?;
                self.connection_lost = false;
                self.patience = PATIENCE;
            }
            self.tick()?;
            self.settle_and_claim()?;
            self.promote()?;
            self.database_is_back();
            if self.holdings.is_empty() && !self.maybe_due {
                self.report.idle(&self.worker.topics);
                if self.setup.until_empty && self.due_at.is_none() && self.nothing_is_left()? {
                    return Ok(true);
                }
            }
        }
        self.measure();
        self.wait()?;
        Ok(false)
    }

    /// Lets the schedules tick that are due.
    fn tick(&mut self) -> Result<()> {
        if self.liveness.next_tick.at().is_none_or(|at| at > Instant::now()) {
            return Ok(());
        }
        let topics = self.setup.topics();
        let link = link_of(&mut self.link)?;
        let ticked = link.call(move |broker| schedule::tick(broker, &topics)).unwrap_or_else(|error| {
            // Messages do not wait for schedules; the next look around tells of them again.
            tracing::warn!("schedules could not tick: {error}");
            Ticked::default()
        });
        self.liveness.next_tick.is_in(ticked.next);
        self.maybe_due |= ticked.messages > 0;
        Ok(())
    }

    /// Not even what a death has just left.
    fn nothing_is_left(&mut self) -> Result<bool> {
        let topics = self.setup.topics();
        let worker_id = self.worker.id;
        let look = link_of(&mut self.link)?.call(move |broker| broker.look(worker_id, &topics))?;
        Ok(!look.set_aside && !look.suspects && !look.due)
    }

    fn connect(&mut self) -> Result<()> {
        if self.link.is_some() {
            return Ok(());
        }
        let mut link = Link::establish(&self.setup.database_url, self.patience)?;
        if self.connection_lost {
            self.setup.meters.dispatch.reconnects.increment(1);
        }
        self.wake.connect(link.conn())?;
        self.link = Some(link);
        self.reconcile()?;
        self.maybe_due = true;
        Ok(())
    }

    /// Only what was written tells it: a database that takes no writes (its disk is full, it was made read-only) can
    /// be connected to and read.
    fn database_is_back(&mut self) {
        self.retry_at = None;
        if self.failed.take_if(|failed| failed.elapsed() > CALM).is_some() {
            tracing::info!("the database is back");
            self.reconnect_delay = FIRST_PAUSE;
        }
    }

    /// A reply may have been lost with the last connection, and what it asked for may even come about later.
    fn reconcile(&mut self) -> Result<()> {
        let known = self.holdings.attempts();
        let worker_id = self.worker.id;
        let leases = link_of(&mut self.link)?.call(move |broker| broker.reconcile(worker_id, &known))?;
        self.holdings.held_as(&leases);
        self.noted = None;
        self.reconciled = Instant::now();
        Ok(())
    }

    fn lose_connection(&mut self, error: &Error) {
        let connected = self.link.take().is_some();
        self.connection_lost = true;
        self.setup.meters.dispatch.errors.increment(1);
        if self.failed.replace(Instant::now()).is_none() {
            tracing::error!("the database cannot be used, trying again until it can: {error}");
        }
        let delay = if matches!(error, Error::Silent(_)) {
            if connected && !self.setup.stop.is_stopping() {
                self.patience = patience::more(self.patience); // it may only be slow
            }
            self.silences += 1;
            // Each silence took its time already, but leaves a thread behind that waits for its end.
            if self.silences < MANY_SILENCES { Duration::from_millis(500) } else { Duration::from_secs(60) }
        } else {
            self.reconnect_delay
        };
        // Jitter, so that many workers do not come back all at once.
        self.retry_at = Some(Instant::now() + delay.mul_f64(0.5 + fastrand::f64()));
        self.reconnect_delay = (self.reconnect_delay * 2).min(LONGEST_PAUSE);
    }

    /// Writes the outcomes of everything that has ended, and takes more, with one commit.
    fn settle_and_claim(&mut self) -> Result<()> {
        // First, for what ran out of time is no more held once that is written.
        self.note_blame()?;
        if self.wants_more() {
            self.claim()?;
        } else {
            self.exchange(None)?;
        }
        if self.holdings.is_empty() && self.set_aside() {
            return self.claim_alone();
        }
        if self.suspects() && self.alone.is_none() && !self.set_aside() {
            return self.claim_suspects();
        }
        Ok(())
    }

    fn set_aside(&self) -> bool {
        self.liveness.doubts.set_aside.load(Ordering::Acquire)
    }

    fn suspects(&self) -> bool {
        self.liveness.doubts.suspects.load(Ordering::Acquire)
    }

    fn claim(&mut self) -> Result<()> {
        if self.finished.is_empty() && self.handed_back.is_empty() && self.setup.backend == Backend::Sqlite {
            // On SQLite a look costs far less than the write lock that a claim takes.
            self.look_for_due()?;
            if !self.maybe_due {
                return Ok(());
            }
        }
        let topics = self.topics_in_turn();
        self.maybe_due &= !topics.is_empty();
        let wanted = self.pace.room(self.holdings.len() - self.finished.len()).min(BATCH);
        let mut shares = self.pace.shares(&topics, &self.holdings, self.finished.len(), wanted);
        if shares.is_empty() {
            return self.exchange(None).map(drop);
        }
        for share in &mut shares {
            share.ageing = self.setup.consumers.get(share.topic).and_then(|metered| metered.consumer.ageing);
        }
        let as_batch = self.batches && self.pace.is_below(MOMENTS);
        let limit = i64::try_from(wanted).unwrap_or(i64::MAX);
        let after = self.lanes.after().to_vec();
        let going_on = !after.is_empty();
        let order = Order { worker_id: self.worker.id, topics: shares.clone(), limit, as_batch, after };
        let began = Instant::now();
        self.wake.rest_or_rise(link_of(&mut self.link)?.conn())?;
        let Exchanged { claimed, in_line, .. } = self.exchange(Some(order))?;
        self.pace.brought(&shares, &claimed);
        if self.setup.backend == Backend::Postgres {
            self.lanes.claimed(&claimed, began.elapsed(), !going_on);
        }
        let brought = claimed.len();
        self.setup.meters.claim_messages.record(u32::try_from(brought).unwrap_or(u32::MAX));
        self.wake.saw(brought);
        let now = Instant::now();
        // Handlers first: the question after them is a round trip.
        for message in in_turns(claimed) {
            self.assign(message, now);
        }
        if brought < wanted && !self.pace.has_plenty() {
            if going_on {
                self.due_at = self.lanes.going_on_until().or(Some(began));
                self.maybe_due = false;
            } else {
                self.look_for_due()?;
                self.maybe_due &= brought + in_line > 0;
            }
        }
        Ok(())
    }

    /// Those that are not paused.
    fn topics(&self) -> Vec<&'static str> {
        self.setup.topics().into_iter().filter(|topic| !self.paused.contains(topic)).collect()
    }

    fn topics_in_turn(&mut self) -> Vec<&'static str> {
        let mut topics = self.topics();
        let places = topics.len().max(1);
        topics.rotate_left(self.turn % places);
        self.turn = (self.turn + 1) % places;
        topics
    }

    fn look_for_due(&mut self) -> Result<()> {
        let topics = self.topics();
        self.looked = Instant::now();
        let due = link_of(&mut self.link)?.call(move |broker| broker.next_due(&topics))?;
        self.due_at = due.map(|wait| Instant::now() + wait);
        self.maybe_due = due == Some(Duration::ZERO);
        Ok(())
    }

    /// Settles what has ended, and claims if there is a claim.
    fn exchange(&mut self, order: Option<Order>) -> Result<Exchanged> {
        if self.finished.is_empty() && self.handed_back.is_empty() && order.is_none() {
            return Ok(Exchanged::default());
        }
        let finished = self.finished.iter_mut().filter_map(|f| f.settlement.as_mut());
        for settlement in finished.chain(&mut self.handed_back) {
            settlement.batch = self.holdings.batch_of(settlement.id);
        }
        let finished = self.finished.iter().filter_map(|f| f.settlement.as_ref());
        let settlements: Vec<Settlement> = finished.chain(&self.handed_back).cloned().collect();
        let ended = self.holdings.ended_by(&settlements);
        let (settles, claims, began) = (!settlements.is_empty(), order.is_some(), Instant::now());
        let exchanged = if self.failed_settlements < 2 {
            let link = link_of(&mut self.link)?;
            link.exchange(&self.worker, settlements, ended, order)
                .inspect_err(|_| self.failed_settlements += 1)?
        } else {
            let lost = self.settle_in_halves(&settlements)?;
            let link = link_of(&mut self.link)?;
            Exchanged { lost, ..link.exchange(&self.worker, Vec::new(), ended, order)? }
        };
        self.setup.meters.exchanged(settles, claims, began.elapsed());
        self.failed_settlements = 0;
        self.silences = 0;
        let lost: Held = exchanged.lost.iter().copied().collect();
        for settlement in self.handed_back.drain(..) {
            let metered = self.holdings.topic_of(settlement.id).and_then(|t| self.setup.consumers.get(t));
            if let Some(metered) = metered {
                metered.meter.finished(Some(&settlement.outcome), lost.contains(&settlement.id));
            }
            self.holdings.remove(settlement.id);
        }
        if !self.finished.is_empty() {
            supervised::worked();
        }
        for finished in self.finished.drain(..) {
            self.holdings.remove(finished.id);
            let is_lost = lost.contains(&finished.id);
            let outcome = finished.settlement.as_ref().map(|s| &s.outcome);
            finished.metered.meter.finished(outcome, is_lost);
            self.report.ended(&finished, is_lost);
            if let Some(Outcome::Retry { delay, .. }) = finished.settlement.map(|s| s.outcome) {
                let at = Instant::now() + delay;
                self.due_at = Some(self.due_at.map_or(at, |due| due.min(at)));
            }
        }
        if self.alone.is_some() && self.holdings.is_empty() {
            self.alone = None;
            self.note_blame()?;
        }
        Ok(exchanged)
    }

    /// Tells the others whom to blame for this worker's death, when that has changed.
    fn note_blame(&mut self) -> Result<()> {
        let blame =
            if strays::exist() { Blame::Nobody } else { self.alone.map_or(Blame::Held, Blame::Alone) };
        if self.noted != Some(blame) {
            let worker_id = self.worker.id;
            link_of(&mut self.link)?.call(move |broker| broker.blame(worker_id, blame))?;
            self.noted = Some(blame);
        }
        Ok(())
    }

    /// A batch failed twice, on two connections: one bad outcome must not keep the good ones from being written.
    fn settle_in_halves(&mut self, settlements: &[Settlement]) -> Result<Vec<MessageId>> {
        let link = link_of(&mut self.link)?;
        let error = match settle(link, &self.worker, settlements) {
            Ok(lost) => return Ok(lost),
            Err(error) => error,
        };
        let worker_id = self.worker.id;
        if matches!(error, Error::DiskFull(_) | Error::ReadOnly(_))
            || link.call(move |broker| broker.beat(worker_id)).is_err()
        {
            return Err(error); // it is the database, and not what is to be written
        }
        match settlements {
            [] => Err(error),
            [bad] => {
                let error = crate::limits::clean_error(&format!("its outcome could not be stored: {error}"));
                let outcome = Outcome::Retry { delay: Duration::from_secs(60), kind: "error", error };
                let told = Settlement { outcome: outcome.clone(), ..bad.clone() };
                let lost = settle(link, &self.worker, &[told])?;
                let finished = self.finished.iter_mut().filter_map(|f| f.settlement.as_mut());
                for settlement in finished.filter(|s| s.id == bad.id) {
                    settlement.outcome = outcome.clone();
                }
                Ok(lost)
            }
            many => {
                let (first, second) = many.split_at(many.len() / 2);
                let mut lost = self.settle_in_halves(first)?;
                lost.extend(self.settle_in_halves(second)?);
                Ok(lost)
            }
        }
    }

    /// What a batch has not finished in its short life is leased message by message.
    fn promote(&mut self) -> Result<()> {
        // What has ended since is about to be written with its batch.
        if !self.finished.is_empty() {
            return Ok(());
        }
        let Some((batch, left)) = self.holdings.older_than(BATCH_LIFE) else { return Ok(()) };
        let worker_id = self.worker.id;
        if link_of(&mut self.link)?.call(move |broker| broker.promote(worker_id, batch, &left, true))? {
            self.holdings.promoted(batch);
        } else {
            self.holdings.lost(batch);
        }
        Ok(())
    }

    fn wants_more(&mut self) -> bool {
        let held = self.holdings.len() - self.finished.len();
        if held == 0 {
            self.busy_since = Instant::now();
        }
        if self.holds_off() {
            return false;
        }
        if self.due_at.is_some_and(|at| at <= Instant::now()) {
            self.maybe_due = true;
        }
        self.maybe_due && !self.pace.is_enough(held, &self.holdings)
    }

    /// Whether a death has left something that comes before ordinary messages, and wants no company.
    fn holds_off(&self) -> bool {
        let idle = self.holdings.len() == self.finished.len();
        let its_turn = idle || self.busy_since.elapsed() > ALONE_AT_LAST;
        self.alone.is_some() && !idle || self.set_aside() && its_turn || self.suspects()
    }

    fn claim_alone(&mut self) -> Result<()> {
        let topics = self.topics();
        let worker_id = self.worker.id;
        match link_of(&mut self.link)?.call(move |broker| broker.claim_alone(worker_id, &topics))? {
            Some(message) => {
                tracing::warn!(
                    topic = message.topic,
                    id = message.id,
                    "{} #{} runs alone: workers died while they held it",
                    message.topic,
                    message.id
                );
                self.alone = Some(message.id);
                if self.noted != Some(Blame::Nobody) {
                    self.noted = Some(Blame::Alone(message.id));
                }
                self.assign(message, Instant::now());
            }
            None => self.liveness.doubts.set_aside.store(false, Ordering::Release),
        }
        Ok(())
    }

    fn claim_suspects(&mut self) -> Result<()> {
        let idle = self.setup.concurrency.saturating_sub(self.holdings.len());
        let room = SUSPECTS.saturating_sub(self.holdings.suspects()).min(idle);
        if room == 0 {
            return Ok(());
        }
        let topics = self.topics();
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        let worker_id = self.worker.id;
        let claimed =
            link_of(&mut self.link)?.call(move |broker| broker.claim_suspects(worker_id, &topics, limit))?;
        if claimed.len() < room {
            self.liveness.doubts.suspects.store(false, Ordering::Release);
        }
        for message in claimed {
            self.holdings.suspect(message.id);
            self.assign(message, Instant::now());
        }
        Ok(())
    }

    /// Gives a message that came at this time to its handler.
    fn assign(&mut self, claimed: Claimed, since: Instant) {
        let Some(metered) = self.setup.consumers.get(&*claimed.topic) else { return };
        let consumer = &metered.consumer;
        self.holdings.add(&claimed, consumer.topic);
        self.pace.weigh(consumer.topic, &claimed.payload);
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
                metered: Arc::clone(metered),
                attempt: context.attempt() - 1, // this one is not used
                max_attempts: context.max_attempts(),
                took: None,
                shown: true,
                ordered: claimed.ordering_key.is_some(),
                settlement: Some(Settlement {
                    id: claimed.id,
                    attempt: claimed.attempt,
                    batch: claimed.batch,
                    ordered: claimed.ordering_key.is_some(),
                    outcome: Outcome::Dead { kind: None, error },
                }),
            });
            return;
        }
        self.executors.assign(claimed, since, metered, context);
    }

    /// Until an attempt ends, a message may be there, or it is time to look.
    fn wait(&mut self) -> Result<()> {
        let full = self.holdings.len() >= self.setup.concurrency;
        let mut timeout = POLL.min(Duration::from_millis(if self.holdings.is_empty() { 1000 } else { 100 }));
        if let Some(at) = self.retry_at {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        } else if !self.finished.is_empty() || self.maybe_due && !full && !self.holds_off() {
            timeout = Duration::ZERO;
        } else if let Some(at) = self.due_at.filter(|_| !full) {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        }
        if let Some(at) = self.liveness.next_tick.at().filter(|_| self.retry_at.is_none()) {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        }
        let deadline = Instant::now() + timeout;
        if let Some(link) = &self.link
            && !full
            && !timeout.is_zero()
            && self.retry_at.is_none()
        {
            self.wake.prepare(link.backend());
        }
        loop {
            let look = match &self.link {
                Some(link) if !full && !self.maybe_due && self.retry_at.is_none() => {
                    self.wake.interval(link.backend())
                }
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
                && let Some(link) = &mut self.link
                && self.wake.look(link.conn().local()?)?
            {
                self.maybe_due = true;
                return Ok(());
            }
            if Instant::now() >= deadline {
                let can_look = self.link.is_some() && self.retry_at.is_none();
                if self.looked.elapsed() > LOOK_ANYWAY && !full && can_look {
                    self.look_for_due()?;
                }
                return Ok(());
            }
        }
    }

    fn take(&mut self, event: Event) {
        match event {
            Event::Finished(finished) => {
                if let Some(took) = finished.took {
                    self.pace.count(finished.metered.consumer.topic, took);
                    finished.metered.meter.ran(took);
                }
                self.maybe_due |= finished.ordered;
                self.finished.push(finished);
            }
            Event::Due => self.maybe_due = true,
            Event::Paused(topics) => self.pause(&topics),
            Event::Wake => {}
        }
    }

    /// Takes nothing more of these topics, and of all others again.
    fn pause(&mut self, paused: &[String]) {
        let topics = self.setup.topics().into_iter();
        let paused: HashSet<&str> = topics.filter(|topic| paused.iter().any(|p| p == topic)).collect();
        for topic in paused.difference(&self.paused) {
            tracing::info!(topic, "{topic} is paused: what runs goes on, nothing more is begun");
        }
        for topic in self.paused.difference(&paused) {
            tracing::info!(topic, "{topic} is resumed");
            self.maybe_due = true;
        }
        self.paused = paused;
        self.hand_back(self.executors.take_unbegun_of(&self.paused));
    }

    fn hand_back(&mut self, ids: Vec<MessageId>) {
        self.handed_back.extend(ids.into_iter().filter_map(|id| self.holdings.hand_back(id)));
    }

    /// A server that does not answer must not keep a worker from ending.
    fn be_impatient(&mut self) {
        self.retry_at = self.retry_at.and(Some(Instant::now()));
        self.reconnect_delay = FIRST_PAUSE;
        self.patience = IMPATIENCE;
        if let Some(link) = &mut self.link {
            link.wait_at_most(IMPATIENCE);
        }
    }

    /// Hands back what has not begun, and gives what runs its time.
    fn shut_down(&mut self) -> Result<Ended> {
        // It may have come while a server did not answer.
        let told = self.setup.stop.since().unwrap_or_else(Instant::now);
        let deadline = told + self.setup.shutdown_timeout;
        self.be_impatient();
        self.hand_back(self.executors.take_unbegun());
        if !self.handed_back.is_empty() {
            tracing::info!("handed back {} messages that had not begun", self.handed_back.len());
        }
        loop {
            if self.retry_at.is_none_or(|at| at <= Instant::now()) {
                let written =
                    self.connect().and_then(|()| self.note_blame()).and_then(|()| self.exchange(None));
                match written {
                    Ok(_) => self.database_is_back(),
                    Err(error) => self.lose_connection(&error),
                }
            }
            if self.liveness.is_lost() {
                return Err(Error::WorkerLost);
            }
            if self.holdings.is_empty() {
                return Ok(Ended::Finished);
            }
            if Instant::now() >= deadline {
                break;
            }
            self.measure();
            let next = Instant::now() + Duration::from_millis(100);
            if let Ok(event) = self.events.recv_deadline(next.min(deadline)) {
                self.take(event);
                for event in self.events.try_iter().collect::<Vec<_>>() {
                    self.take(event);
                }
            }
            self.executors.watch(&self.pace)?;
        }
        self.executors.give_up();
        let ended: Held = self.finished.iter().map(|finished| finished.id).collect();
        self.handed_back.clear();
        self.hand_back(self.holdings.messages().into_iter().filter(|id| !ended.contains(id)).collect());
        // If this fails too, the messages are rescued as those of a dead worker.
        self.be_impatient();
        let _ = self.exchange(None);
        Ok(Ended::LeftRunning)
    }
}

/// One of each topic, then the next of each: no topic waits for another, and messages that were produced one after the
/// other end together, so that their rows, which lie side by side, are written once.
fn in_turns(claimed: Vec<Claimed>) -> Vec<Claimed> {
    if claimed.iter().all(|message| message.topic == claimed[0].topic) {
        return claimed;
    }
    let mut numbers: HashMap<String, usize> = HashMap::new();
    let turn = |message: Claimed| {
        let number = match numbers.get_mut(&message.topic) {
            Some(number) => number,
            None => numbers.entry(message.topic.clone()).or_default(),
        };
        *number += 1;
        (*number, message)
    };
    let mut turns: Vec<(usize, Claimed)> = claimed.into_iter().map(turn).collect();
    turns.sort_by_key(|(number, _)| *number);
    turns.into_iter().map(|(_, message)| message).collect()
}

fn settle(
    link: &mut Link,
    worker: &Arc<WorkerIdentity>,
    settlements: &[Settlement],
) -> Result<Vec<MessageId>> {
    let (worker, settlements) = (Arc::clone(worker), settlements.to_vec());
    link.call(move |broker| broker.settle(&worker, &settlements))
}

fn link_of(link: &mut Option<Link>) -> Result<&mut Link> {
    link.as_mut().ok_or_else(|| Error::Configuration("not connected".to_owned()))
}

fn hostname() -> String {
    let name = std::env::var("HOSTNAME").or_else(|_| std::env::var("COMPUTERNAME"));
    name.or_else(|_| std::fs::read_to_string("/etc/hostname"))
        .map_or_else(|_| "localhost".to_owned(), |n| n.trim().to_owned())
}
