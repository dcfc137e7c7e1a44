//! The worker's main thread: claims messages into the executors, and settles what they finish, in batches as large as
//! what came together while the last one was written.

mod claiming;
mod connection;
mod ending;
mod limiting;
mod settling;

use std::collections::HashSet;
use std::mem;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};

use super::executors::{Cancels, Event, Executors, Finished};
use super::holdings::Holdings;
use super::lanes::Lanes;
use super::limited::Limited;
use super::link::Link;
use super::liveness::Liveness;
use super::pace::{BATCH, Pace};
use super::patience::PATIENCE;
use super::report::Report;
use super::sessions::Sessions;
use super::wake::{POLL, Wake, sleep_for};
use super::{Ended, Setup};
use crate::broker::{Blame, Settlement, WorkerIdentity};
use crate::consumer::Handler;
use crate::schedule::Ticked;
use crate::{Error, MessageId, Result, schedule};

/// Wake-ups and the liveness thread's looks tell of due messages. Should both fail, the dispatching thread looks itself,
/// this often.
const LOOK_ANYWAY: Duration = Duration::from_secs(30);
/// The first pause before a new try to reach a database.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// So long after a connection was lost, a server has ended all that it was asked to do on it.
const RECONCILE_AGAIN: Duration = Duration::from_secs(10);

/// Works as one incarnation until it is told to stop, or is given up by the others (`Error::WorkerLost`).
pub(super) fn run(setup: &Arc<Setup>, worker_id: i64) -> Result<Ended> {
    let worker = Arc::new(WorkerIdentity {
        id: worker_id,
        host: gethostname::gethostname().to_string_lossy().into_owned(),
        pid: i32::try_from(std::process::id()).unwrap_or_default(),
        topics: setup.topics().join(","),
        concurrency: i32::try_from(setup.concurrency).unwrap_or(i32::MAX),
    });
    let (events_in, events) = unbounded();
    setup.stop.wakes(events_in.clone());
    let liveness = Liveness::start(setup, &worker, &events_in)?;
    let report = Arc::new(Report::new());
    let sessions = Sessions::of(worker.id);
    let executors = Executors::start(setup, &worker, &sessions, &report, &liveness.last_look, &events_in)?;
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
        sessions,
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
        left_cancels: Vec::new(),
        paused: HashSet::new(),
        limited: Limited::default(),
        maybe_due: true,
        due_at: None,
        looked: Instant::now(),
        gave_way: 0,
        in_vain: 0,
        alone: None,
        suspects_since: Instant::now(),
        noted: Some(Blame::Held),
        busy_since: Instant::now(),
        retry_at: None,
        failed: None,
        patience: PATIENCE,
        silences: 0,
        reconnect_delay: FIRST_PAUSE,
        connection_lost: false,
        reconciled: None,
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
    sessions: Arc<Sessions>,
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
    /// What a person wants ended, and this worker does not hold.
    left_cancels: Vec<MessageId>,
    /// Its topics of which it is to take nothing.
    paused: HashSet<&'static str>,
    limited: Limited,
    /// There may be messages that are due.
    maybe_due: bool,
    /// When the next scheduled message is due, by this machine's monotonic clock.
    due_at: Option<Instant>,
    /// When it last looked for due messages.
    looked: Instant,
    /// So many of its claims in a row met another worker's that was under way.
    gave_way: u32,
    /// So many of its claims in a row brought nothing, though something is due.
    in_vain: u32,
    /// The one message that it runs is set aside to run alone.
    alone: Option<MessageId>,
    /// When it last claimed suspected messages.
    suspects_since: Instant,
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
    /// When its holdings were last compared with its leases; `None` when they may differ.
    reconciled: Option<Instant>,
}

impl Dispatcher<'_> {
    fn run(&mut self) -> Result<Ended> {
        // The first look has told already what is paused or limited.
        for event in self.events.try_iter().collect::<Vec<_>>() {
            self.take(event);
        }
        loop {
            self.setup.pulse.turn();
            if self.liveness.is_lost() {
                return Err(Error::WorkerLost);
            }
            if self.setup.stop.is_stopping() {
                return self.shut_down();
            }
            match self.work() {
                Ok(true) => return self.shut_down(),
                Ok(false) => {}
                Err(error) => self.fail(&error),
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
        self.setup.pulse.has_database(self.retry_at.is_none());
    }

    /// One round: settle, claim, wait. `true` when there is nothing left and the worker is to end then.
    fn work(&mut self) -> Result<bool> {
        if self.retry_at.is_none_or(|at| at <= Instant::now()) {
            self.connect()?;
            if self.connection_lost && self.reconciled.is_some_and(|at| at.elapsed() > RECONCILE_AGAIN) {
                self.reconcile()?;
                self.connection_lost = false;
                self.patience = PATIENCE;
            }
            self.tick()?;
            self.take_back()?;
            self.settle_and_claim()?;
            self.promote()?;
            self.database_is_back();
            if self.holdings.is_empty() && !self.maybe_due && self.gave_way == 0 {
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
        let limited = self.limited_topics();
        link_of(&mut self.link)?.call(move |broker| {
            let look = broker.look(worker_id, &topics)?;
            let waits = !limited.is_empty() && broker.next_due(&limited)?.is_some();
            Ok(!look.set_aside && !look.suspects && !look.due && !waits)
        })
    }

    /// Writes the outcomes of everything that has ended, and takes more, with one commit.
    fn settle_and_claim(&mut self) -> Result<()> {
        // First, for what ran out of time is no more held once that is written.
        self.note_blame()?;
        let limited_first = self.limited.come_first();
        if limited_first {
            self.exchange(None)?;
            self.claim_limited()?;
        }
        if self.wants_more() {
            self.claim()?;
        } else {
            self.exchange(None)?;
        }
        if !limited_first {
            self.claim_limited()?;
        }
        if self.holdings.is_empty() && self.set_aside() {
            return self.claim_alone();
        }
        if self.suspects() && self.alone.is_none() && !self.set_aside() {
            return self.claim_suspects();
        }
        Ok(())
    }

    /// Until an attempt ends, a message may be there, or it is time to look.
    fn wait(&mut self) -> Result<()> {
        let full = self.holdings.len() >= self.setup.concurrency;
        let mut timeout = POLL.min(Duration::from_millis(if self.holdings.is_empty() { 1000 } else { 100 }));
        if let Some(at) = self.retry_at {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        } else if !self.finished.is_empty() || self.maybe_due && !full && !self.holds_off() {
            timeout = Duration::ZERO;
        } else if let Some(at) = self.due_at.filter(|_| !full && !self.holds_off()) {
            timeout = timeout.min(at.saturating_duration_since(Instant::now()));
        }
        if let Some(at) =
            self.limited.next().filter(|_| !full && self.retry_at.is_none() && !self.holds_off())
        {
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
            let event = if self.holdings.is_empty() {
                sleep_for(&self.events, until)
            } else {
                self.events.recv_deadline(until).ok()
            };
            if let Some(event) = event {
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
                let nobody_looks =
                    self.liveness.last_look.is_too_old() && self.looked.elapsed() > LOOK_ANYWAY;
                if nobody_looks && !full && can_look {
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
                self.maybe_due |= finished.tied.any();
                self.limited.ended(finished.metered.consumer.topic);
                self.finished.push(finished);
            }
            Event::Due => self.maybe_due = true,
            Event::Paused(topics) => self.pause(&topics),
            Event::Limited(topics) => self.limit(&topics),
            Event::Cancel(cancels) => self.cancel(cancels),
            Event::NotBegun(id) => self.hand_back(vec![id]),
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

    /// Ends what this worker holds of these; the rest is taken back with the next round.
    fn cancel(&mut self, Cancels { seen, ids, left }: Cancels) {
        let mut asked = self.holdings.ask_to_end(&ids, seen);
        asked.extend(self.holdings.ask_to_end(&left, seen));
        self.left_cancels = left.into_iter().filter(|id| !self.holdings.holds(*id)).collect();
        if asked.is_empty() {
            return;
        }
        let unbegun = self.executors.cancel(&asked);
        let running = asked.len() - unbegun.len();
        tracing::info!(
            running,
            unbegun = unbegun.len(),
            "a person cancelled messages of this worker: running, and to end: {running}; not begun yet, and never to: {}",
            unbegun.len(),
        );
        self.hand_back(unbegun);
        // What waits for their turns may be due.
        self.maybe_due = true;
    }

    /// Cancels what a person wanted ended while it ran, and what waits by now.
    fn take_back(&mut self) -> Result<()> {
        let left = mem::take(&mut self.left_cancels);
        if left.is_empty() {
            return Ok(());
        }
        match link_of(&mut self.link)?.call(move |broker| broker.take_back(&left)) {
            Ok(0) => {}
            Ok(messages) => {
                tracing::info!(
                    messages,
                    "{messages} messages that ran when a person cancelled them are taken back"
                );
                self.maybe_due = true;
            }
            Err(error @ Error::Silent(_)) => return Err(error),
            // The next look tells of them again.
            Err(error) if error.is_blocked() => {
                tracing::debug!("what was cancelled cannot be taken back yet: {error}");
            }
            Err(error) => tracing::warn!("what was cancelled cannot be taken back: {error}"),
        }
        Ok(())
    }

    fn hand_back(&mut self, ids: Vec<MessageId>) {
        self.handed_back.extend(ids.into_iter().filter_map(|id| self.holdings.hand_back(id)));
    }
}

fn link_of(link: &mut Option<Link>) -> Result<&mut Link> {
    link.as_mut().ok_or_else(|| Error::Configuration("not connected".to_owned()))
}
