//! The threads (and, for `async` consumers, the runtime) on which handlers run.

#[cfg(feature = "async")]
mod asynchronous;

use std::collections::{HashSet, VecDeque};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crossbeam_channel::{Receiver, Sender, unbounded};
use rustc_hash::FxHashSet;

use super::execute::{self, Ran};
use super::holdings::unused;
use super::liveness::LastLook;
use super::pace::Pace;
use super::pool::{Pool, pool};
use super::report::Report;
use super::sessions::Sessions;
use super::strays::Run;
use super::{Metered, Setup, execute::THREAD_PREFIX};
use crate::broker::{Claimed, Outcome, Settlement, Tied, WorkerIdentity};
use crate::consumer::{Consumer, Handler};
use crate::{Context, Error, MessageId, Result};

/// So often who does not know whether it holds its messages still asks again.
const UNSURE: Duration = Duration::from_millis(10);

/// So often the running handlers are looked at.
const WATCH: Duration = Duration::from_millis(50);
/// A runtime that is so late with a time-out is blocked.
#[cfg(feature = "async")]
const BLOCKED: Duration = Duration::from_millis(500);

/// What the dispatching thread waits for.
#[derive(Debug)]
pub(super) enum Event {
    /// An attempt ended.
    Finished(Finished),
    /// There may be messages that are due.
    Due,
    /// These topics are paused, and no others.
    Paused(Vec<String>),
    /// These topics have a limit, and no others.
    Limited(Vec<String>),
    /// A person wants messages ended.
    Cancel(Cancels),
    /// It was not begun, for a person wants it ended.
    NotBegun(MessageId),
    /// Look around: the worker is to stop, or is lost.
    Wake,
}

/// Messages that a person wants ended, as seen at a look.
#[derive(Debug)]
pub(super) struct Cancels {
    /// When it began. What is held since later may be a later life of the message.
    pub(super) seen: Instant,
    /// Those that this worker held, or perhaps did.
    pub(super) ids: Vec<MessageId>,
    /// Those that nobody held, or only with their batch.
    pub(super) left: Vec<MessageId>,
}

/// An attempt that ended.
#[derive(Debug)]
pub(super) struct Finished {
    pub(super) id: MessageId,
    pub(super) metered: Arc<Metered>,
    pub(super) attempt: u32,
    pub(super) max_attempts: u32,
    /// `None`: it never began.
    pub(super) took: Option<Duration>,
    /// Its beginning was shown, so its end is too.
    pub(super) shown: bool,
    /// What others may have waited for.
    pub(super) tied: Tied,
    /// `None`: it committed its own end.
    pub(super) settlement: Option<Settlement>,
}

/// A message on its way to a handler.
#[derive(Debug)]
struct Assignment {
    claimed: Claimed,
    /// When the claim brought it.
    since: Instant,
    metered: Arc<Metered>,
    context: Context,
}

/// The message that a thread or task runs. Whoever takes it out reports its end: what runs the handler when it returns,
/// or the watch over time-outs when that came first. Of a worker that has given up, nobody reports it.
type Slot = Arc<Mutex<Option<Running>>>;

#[derive(Debug)]
struct Running {
    metered: Arc<Metered>,
    context: Context,
    /// One that has a transaction begins when that is open.
    began: Instant,
    /// It has not begun yet, but waits for its transaction.
    waits: bool,
    shown: bool,
    run: Arc<Run>,
    /// That it looks stuck is known.
    told: bool,
    /// What ends the task of an `async` consumer.
    #[cfg(feature = "async")]
    task: Option<tokio::task::AbortHandle>,
}

/// Runs at most `concurrency` handlers at once.
#[derive(Debug)]
pub(super) struct Executors {
    shared: Arc<Shared>,
    assignments: Sender<Assignment>,
    unbegun: Receiver<Assignment>,
    watched: Instant,
    #[cfg(feature = "async")]
    runtime: Option<asynchronous::Lane>,
}

#[derive(Debug)]
struct Shared {
    setup: Arc<Setup>,
    worker: WorkerIdentity,
    pool: Pool,
    report: Arc<Report>,
    last_look: Arc<LastLook>,
    events: Sender<Event>,
    queue: Receiver<Assignment>,
    /// Taken from the queue by threads that wait for a place.
    waiting: Mutex<VecDeque<Assignment>>,
    slots: Mutex<Vec<Slot>>,
    places: Places,
    threads: AtomicUsize,
    /// So many handlers run.
    running: AtomicU32,
    /// Nothing more begins.
    given_up: AtomicBool,
}

impl Executors {
    pub(super) fn start(
        setup: &Arc<Setup>,
        worker: &WorkerIdentity,
        sessions: &Arc<Sessions>,
        report: &Arc<Report>,
        last_look: &Arc<LastLook>,
        events: &Sender<Event>,
    ) -> Result<Self> {
        execute::install_panic_hook();
        let (assignments, queue) = unbounded();
        let shared = Arc::new(Shared {
            setup: Arc::clone(setup),
            worker: worker.clone(),
            pool: pool(&setup.database_url, setup.concurrency, sessions)?,
            report: Arc::clone(report),
            last_look: Arc::clone(last_look),
            events: events.clone(),
            queue: queue.clone(),
            waiting: Mutex::default(),
            slots: Mutex::default(),
            places: Places::new(setup.concurrency),
            threads: AtomicUsize::new(0),
            running: AtomicU32::new(0),
            given_up: AtomicBool::new(false),
        });
        if setup.consumers().any(|c| !is_async(c)) {
            for _ in 0..setup.concurrency {
                spawn(&shared)?;
            }
        }
        Ok(Self {
            #[cfg(feature = "async")]
            runtime: setup
                .consumers()
                .any(is_async)
                .then(|| asynchronous::Lane::start(&shared))
                .transpose()?,
            shared,
            assignments,
            unbegun: queue,
            watched: Instant::now(),
        })
    }

    /// Takes a message that is to run as soon as there is room.
    pub(super) fn assign(&self, claimed: Claimed, since: Instant, metered: &Arc<Metered>, context: Context) {
        let assignment = Assignment { claimed, since, metered: Arc::clone(metered), context };
        #[cfg(feature = "async")]
        if is_async(&assignment.metered.consumer) {
            if let Some(lane) = &self.runtime {
                lane.assign(assignment);
            }
            return;
        }
        // It cannot fail: `unbegun` keeps the channel open.
        let _ = self.assignments.send(assignment);
    }

    /// How many handlers run.
    pub(super) fn running(&self) -> u32 {
        self.shared.running.load(Ordering::Relaxed)
    }

    /// Takes back everything that has not begun.
    pub(super) fn take_unbegun(&self) -> Vec<MessageId> {
        let waiting = std::mem::take(&mut *self.shared.waiting());
        let unbegun = waiting.into_iter().chain(self.unbegun.try_iter());
        #[cfg(feature = "async")]
        let unbegun = unbegun.chain(self.runtime.iter().flat_map(|lane| lane.unbegun.try_iter()));
        unbegun.map(|a| a.claimed.id).collect()
    }

    /// Takes back what has not begun of these topics.
    pub(super) fn take_unbegun_of(&self, topics: &HashSet<&str>) -> Vec<MessageId> {
        self.take_unbegun_if(|assignment| topics.contains(assignment.metered.consumer.topic))
    }

    /// Takes back those of these messages that have not begun, and ends the tasks of `async` handlers that have. The others have
    /// been told.
    pub(super) fn cancel(&self, ids: &FxHashSet<MessageId>) -> Vec<MessageId> {
        let unbegun = self.take_unbegun_if(|assignment| ids.contains(&assignment.claimed.id));
        #[cfg(feature = "async")]
        for slot in self.runtime.iter().flat_map(asynchronous::Lane::slots) {
            let running = slot.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(running) = running.as_ref().filter(|running| ids.contains(&running.context.id()))
                && let Some(task) = &running.task
            {
                task.abort(); // at its next `await`, if it comes to one
            }
        }
        unbegun
    }

    fn take_unbegun_if(&self, wanted: impl Fn(&Assignment) -> bool) -> Vec<MessageId> {
        let mut waiting = self.shared.waiting();
        let (taken, others): (VecDeque<_>, VecDeque<_>) = waiting.drain(..).partition(&wanted);
        waiting.extend(others);
        drop(waiting);
        let taken =
            taken.into_iter().map(|a| a.claimed.id).chain(take_if(&self.unbegun, &self.assignments, &wanted));
        #[cfg(feature = "async")]
        let taken = taken
            .chain(self.runtime.iter().flat_map(|lane| take_if(&lane.unbegun, &lane.assignments, &wanted)));
        taken.collect()
    }

    /// Gives up handlers that ran out of time, and tells of those that look stuck and have no time-out.
    pub(super) fn watch(&mut self, pace: &Pace) -> Result<()> {
        if self.watched.elapsed() < WATCH {
            return Ok(());
        }
        self.watched = Instant::now();
        for slot in self.shared.slots() {
            tell_if_stuck(&slot, pace);
            if self.shared.give_up_late(&slot, Duration::ZERO).is_some() {
                let mut slots = self.shared.slots.lock().unwrap_or_else(PoisonError::into_inner);
                slots.retain(|other| !Arc::ptr_eq(other, &slot));
                drop(slots);
                // A thread cannot be stopped, so this one is replaced.
                spawn(&self.shared)?;
            }
        }
        #[cfg(feature = "async")]
        for slot in self.runtime.iter().flat_map(asynchronous::Lane::slots) {
            tell_if_stuck(&slot, pace);
            // The runtime does so itself, if it can.
            if let Some((topic, id)) = self.shared.give_up_late(&slot, BLOCKED) {
                tracing::warn!(
                    topic,
                    id,
                    "{topic} #{id}: the async runtime did not end it at its time-out: handlers block all its threads"
                );
            }
        }
        Ok(())
    }

    /// Begins nothing more, and waits no longer for what runs, which is told so.
    pub(super) fn give_up(&self) {
        self.shared.given_up.store(true, Ordering::Release);
        drop(self.take_unbegun());
        let slots = self.shared.slots();
        #[cfg(feature = "async")]
        let slots = slots.into_iter().chain(self.runtime.iter().flat_map(asynchronous::Lane::slots));
        for slot in slots {
            if let Some(running) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() {
                running.give_up();
                self.shared.places.give_back();
            }
        }
    }
}

/// The others keep their order.
fn take_if(
    unbegun: &Receiver<Assignment>,
    assignments: &Sender<Assignment>,
    wanted: impl Fn(&Assignment) -> bool,
) -> Vec<MessageId> {
    let all: Vec<Assignment> = unbegun.try_iter().collect();
    let (taken, left): (Vec<_>, Vec<_>) = all.into_iter().partition(wanted);
    for assignment in left {
        let _ = assignments.send(assignment);
    }
    taken.into_iter().map(|assignment| assignment.claimed.id).collect()
}

fn is_async(consumer: &Consumer) -> bool {
    match consumer.handler {
        Handler::Sync(_) | Handler::Transactional { .. } => false,
        #[cfg(feature = "async")]
        Handler::Async(_) => true,
    }
}

fn spawn(shared: &Arc<Shared>) -> Result<()> {
    let slot: Slot = Slot::default();
    shared.slots.lock().unwrap_or_else(PoisonError::into_inner).push(Arc::clone(&slot));
    let number = shared.threads.fetch_add(1, Ordering::Relaxed);
    let shared = Arc::clone(shared);
    thread::Builder::new()
        .name(format!("{THREAD_PREFIX}-{number}"))
        .spawn(move || work(&shared, &slot))
        .map_err(|e| Error::Configuration(format!("cannot start a thread for handlers: {e}")))?;
    Ok(())
}

/// A thread's life: takes messages and runs them, until the worker ends or the watch has given the thread up.
fn work(shared: &Shared, slot: &Slot) {
    while let Some(assignment) = shared.next() {
        shared.wait_to_be_sure();
        let Some(_run) = shared.begin(slot, &assignment) else {
            shared.places.give_back();
            if shared.given_up.load(Ordering::Acquire) {
                return;
            }
            continue;
        };
        let Assignment { claimed, metered, context, .. } = assignment;
        let ran = execute::run(
            &shared.setup.states,
            &shared.pool,
            &shared.worker,
            &metered.consumer,
            &claimed,
            &context,
            || its_time_counts(slot),
        );
        let Some(running) = slot.lock().unwrap_or_else(PoisonError::into_inner).take() else {
            came_late(&context);
            return; // its place was given back when it was given up
        };
        shared.places.give_back();
        shared.finish(running, ran);
    }
}

impl Running {
    /// Nobody waits for it any more.
    fn give_up(&self) {
        self.run.give_up();
        self.context.shared.cancel();
    }
}

/// From now on, if it has not before. `false`: nobody waits for it any more.
fn its_time_counts(slot: &Slot) -> bool {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let Some(running) = slot.as_mut() else { return false };
    if std::mem::take(&mut running.waits) {
        running.began = Instant::now();
    }
    true
}

/// Once for each handler.
fn tell_if_stuck(slot: &Slot, pace: &Pace) {
    let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
    let may_be = |r: &Running| r.metered.consumer.timeout.is_none() && !r.waits && !r.told;
    let Some(running) = slot.as_mut().filter(|running| may_be(running)) else { return };
    let ran = running.began.elapsed();
    if ran <= pace.stuck_after(running.metered.consumer.topic) {
        return;
    }
    running.told = true;
    let (topic, id) = (running.metered.consumer.topic, running.context.id());
    let since = humantime::format_rfc3339_seconds(SystemTime::now() - ran);
    tracing::warn!(
        topic,
        id,
        "{topic} #{id} runs since {since}, far longer than others of its topic: is it stuck? A `timeout` on its \
         consumer would end it"
    );
}

fn came_late(context: &Context) {
    tracing::warn!(
        topic = context.topic(),
        id = context.id(),
        "{} #{}: the handler returned when nobody waited for it any more; what it returned is not used",
        context.topic(),
        context.id()
    );
}

impl Shared {
    /// The next message for a thread, and a place for it. Until there is one, what the thread has taken can be taken back: the
    /// places may be those of `async` handlers, for long. `None`: there will be none any more.
    fn next(&self) -> Option<Assignment> {
        loop {
            let assignment = self.queue.recv().ok()?;
            if self.places.try_take() {
                return Some(assignment);
            }
            self.waiting().push_back(assignment);
            self.places.wait();
            let first = self.waiting().pop_front();
            if let Some(assignment) = first.or_else(|| self.queue.try_recv().ok()) {
                return Some(assignment);
            }
            self.places.give_back();
        }
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, VecDeque<Assignment>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What others may have taken over is not begun: this worker was stopped for long, or cannot reach its database.
    fn wait_to_be_sure(&self) {
        while self.last_look.is_too_old() && !self.given_up.load(Ordering::Acquire) {
            thread::sleep(UNSURE);
        }
    }

    /// What runs the handler holds what this gives until it has ended. `None`: nothing begins any more.
    fn begin(&self, slot: &Slot, assignment: &Assignment) -> Option<Arc<Run>> {
        let Assignment { claimed, since, metered, context } = assignment;
        let mut slot = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if self.given_up.load(Ordering::Acquire) {
            return None;
        }
        if context.shared.is_asked_to_end() {
            let _ = self.events.send(Event::NotBegun(context.id()));
            return None;
        }
        let shown = self.report.began(context);
        let run = Arc::<Run>::default();
        let began = Instant::now();
        self.running.fetch_add(1, Ordering::Relaxed);
        metered.meter.started(claimed.waited + began.saturating_duration_since(*since));
        *slot = Some(Running {
            metered: Arc::clone(metered),
            context: context.clone(),
            began,
            waits: matches!(metered.consumer.handler, Handler::Transactional { .. }),
            shown,
            run: Arc::clone(&run),
            told: false,
            #[cfg(feature = "async")]
            task: None,
        });
        Some(run)
    }

    /// If it ran for this much longer than it may, that is its end.
    fn give_up_late(&self, slot: &Slot, grace: Duration) -> Option<(&'static str, MessageId)> {
        let is_late = |running: &mut Running| {
            let limit = running.metered.consumer.timeout.filter(|_| !running.waits);
            limit.is_some_and(|limit| running.began.elapsed() > limit.saturating_add(grace))
        };
        let late = slot.lock().unwrap_or_else(PoisonError::into_inner).take_if(is_late)?;
        late.give_up();
        let of = (late.metered.consumer.topic, late.context.id());
        let outcome = execute::timed_out(&late.metered.consumer, &late.context);
        self.places.give_back();
        self.finish(late, Ran::Outcome(outcome));
        Some(of)
    }

    fn slots(&self) -> Vec<Slot> {
        self.slots.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn finish(&self, running: Running, ran: Ran) {
        self.running.fetch_sub(1, Ordering::Relaxed);
        let Running { metered, context, began, waits, shown, .. } = running;
        let settlement = match ran {
            Ran::Settled => None,
            Ran::Outcome(outcome) => Some(settlement(&context, outcome)),
        };
        // It fails only when the dispatching thread is gone, and then nobody wants to know.
        let _ = self.events.send(Event::Finished(Finished {
            id: context.id(),
            metered,
            attempt: context.attempt(),
            max_attempts: context.max_attempts(),
            took: (!waits).then(|| began.elapsed()),
            shown,
            tied: context.tied(),
            settlement,
        }));
    }
}

fn settlement(context: &Context, outcome: Outcome) -> Settlement {
    let outcome = if matches!(outcome, Outcome::HandBack) { unused(&context.shared) } else { outcome };
    let attempt = i32::try_from(context.attempt()).unwrap_or(i32::MAX);
    // Whether it is leased with a batch still, the dispatching thread knows.
    let (id, tied, log) = (context.id(), context.tied(), context.logged());
    Settlement { id, attempt, batch: None, tied, outcome, log }
}

/// The context of an attempt, and the flag that cancels it.
pub(super) fn context(claimed: &Claimed, consumer: &Consumer, worker_id: i64) -> Context {
    let max_attempts =
        claimed.max_attempts.and_then(|n| u32::try_from(n).ok()).unwrap_or(u32::from(consumer.max_attempts));
    Context {
        id: claimed.id,
        topic: consumer.topic,
        attempt: u32::try_from(claimed.attempt).unwrap_or(1),
        max_attempts: max_attempts.max(1),
        worker_id,
        ordering_key: claimed.ordering_key.clone(),
        has_large_payload: claimed.tied().payload,
        // Another program may have stored headers that are no texts; they are not worth a dead letter.
        headers: claimed
            .headers
            .as_deref()
            .and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default(),
        shared: Arc::default(),
    }
}

/// Places for running handlers, shared by threads and tasks.
#[derive(Debug)]
struct Places {
    state: Mutex<PlacesState>,
    freed: Condvar,
}

#[derive(Debug)]
struct PlacesState {
    free: usize,
    /// So many wait for one. Only then is anybody told: that asks the system each time.
    waiting: usize,
}

impl Places {
    fn new(number: usize) -> Self {
        Self { state: Mutex::new(PlacesState { free: number, waiting: 0 }), freed: Condvar::new() }
    }

    fn wait(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.free == 0 {
            state.waiting += 1;
            state = self.freed.wait(state).unwrap_or_else(PoisonError::into_inner);
            state.waiting -= 1;
        }
        state.free -= 1;
    }

    fn try_take(&self) -> bool {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let is_free = state.free > 0;
        state.free -= usize::from(is_free);
        is_free
    }

    fn give_back(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.free += 1;
        if state.waiting > 0 {
            self.freed.notify_one();
        }
    }
}
