//! A worker's life as the other workers see it, and its eye on theirs. All on a thread and a connection that nothing
//! else uses, so that no handler and no long claim can make a healthy worker look dead.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::executors::{Cancels, Event};
use super::lock_file::LockFile;
use super::meters::Meters;
use super::patience::{self, PATIENCE, Patient};
use super::sighting::{Rhythm, Sighting};
use super::ticks::NextTick;
use super::wake::sleep_for;
use super::{Setup, sessions, stop::Stop, supervised};
use crate::broker::{Lock, Look, Peer, ScheduleRecord, WorkerIdentity};
use crate::lock_files::{LockFiles, Sign};
use crate::{AnyConnection, Backend, BrokerConnection, Error, Result, schedule};

/// Once a lock is seen free, the next look comes sooner.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// The lock files of the machine are looked at this often, which asks no database anything;
const GLANCE: Duration = Duration::from_millis(150);
/// each worker at those of so many others, the next ones in a circle of all.
const NEIGHBOURS: usize = 8;
/// After a process was seen to have ended, the looks come this soon,
const SOON: Duration = Duration::from_millis(30);
/// for so long: its server may not have noticed yet.
const SOON_FOR: Duration = Duration::from_secs(1);
/// Who has not looked for so long does not know how long the others were silent: the whole machine may have slept.
const OVERSLEPT: Duration = Duration::from_secs(4);
/// So long lies between two beats of a worker whose lock tells that it lives,
const BEAT: Duration = Duration::from_secs(39);
/// and between two rounds of housekeeping.
const HOUSEKEEPING: Duration = Duration::from_secs(78);
/// So many messages whose time is over are deleted in one transaction, if there are as many,
const PURGED: u16 = 1_000;
/// and so many workflows.
const PURGED_WORKFLOWS: u16 = 100;
/// A worker that ends takes this long at most to say so to its database.
const FAREWELL: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Liveness {
    lost: Arc<AtomicBool>,
    pub(super) doubts: Arc<Doubts>,
    pub(super) last_look: Arc<LastLook>,
    pub(super) next_tick: Arc<NextTick>,
    /// Since its last beat it has ended messages.
    pub(super) worked: Arc<AtomicBool>,
    end: Sender<()>,
    ended: Receiver<()>,
}

/// What deaths have left behind, as of the last look; whoever finds nothing of it any more says so.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Messages wait to run alone.
    pub(super) set_aside: AtomicBool,
    /// Suspected messages wait to run in small company.
    pub(super) suspects: AtomicBool,
}

/// When this worker last saw that the others have not given it up.
#[derive(Debug)]
pub(super) struct LastLook {
    first: Instant,
    millis: AtomicU64,
    too_old: Duration,
}

impl LastLook {
    fn first(too_old: Duration) -> Self {
        Self { first: Instant::now(), millis: AtomicU64::new(0), too_old }
    }

    fn is_now(&self) {
        let millis = u64::try_from(self.first.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.millis.store(millis, Ordering::Release);
    }

    fn elapsed(&self) -> Duration {
        self.first.elapsed().saturating_sub(Duration::from_millis(self.millis.load(Ordering::Acquire)))
    }

    /// Whether it is so long ago that others may have taken over what this worker holds.
    pub(super) fn is_too_old(&self) -> bool {
        self.elapsed() > self.too_old
    }
}

impl Doubts {
    fn saw(&self, look: &Look) {
        self.set_aside.store(look.set_aside, Ordering::Release);
        self.suspects.store(look.suspects, Ordering::Release);
    }
}

impl Liveness {
    /// Enters the worker, takes its lock, and keeps both.
    pub(super) fn start(
        setup: &Arc<Setup>,
        worker: &Arc<WorkerIdentity>,
        events: &Sender<Event>,
    ) -> Result<Self> {
        let (end, ends) = bounded(1);
        let (over, ended) = bounded(1);
        let lost = Arc::new(AtomicBool::new(false));
        let doubts = Arc::<Doubts>::default();
        let rhythm = if setup.own_session && setup.locks_of_all { Rhythm::LOCKED } else { Rhythm::COUNTED };
        let last_look = Arc::new(LastLook::first(rhythm.too_old));
        let next_tick = Arc::<NextTick>::default();
        let worked = Arc::<AtomicBool>::default();
        let mut keeper = Keeper {
            url: setup.database_url.to_string(),
            backend: setup.backend,
            worker: Arc::clone(worker),
            topics: setup.topics(),
            events: events.clone(),
            lost: Arc::clone(&lost),
            doubts: Arc::clone(&doubts),
            next_tick: Arc::clone(&next_tick),
            worked: Arc::clone(&worked),
            schedules: Arc::clone(&setup.schedules),
            paused: Vec::new(),
            limited: Vec::new(),
            stop: setup.stop.clone(),
            meters: setup.meters.clone(),
            session: None,
            file: None,
            sightings: BTreeMap::new(),
            unrescued: BTreeSet::new(),
            rhythm,
            patience: rhythm.patience,
            next_beat: Instant::now() + BEAT,
            next_housekeeping: Instant::now() + HOUSEKEEPING,
            next_purge: Instant::now() + HOUSEKEEPING,
            last_look: Arc::clone(&last_look),
            failures: 0,
            silent: false,
        };
        keeper.enter()?;
        thread::Builder::new()
            .name("taskmq-liveness".to_owned())
            .spawn(move || {
                keeper.live(&ends);
                let _ = over.send(());
            })
            .map_err(|e| Error::Configuration(format!("cannot start the liveness thread: {e}")))?;
        Ok(Self { lost, doubts, last_look, next_tick, worked, end, ended })
    }

    /// Whether the others have given this worker up.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Removes the worker from the database.
    pub(super) fn end(&self) {
        let _ = self.end.send(());
        // It may wait for a server that does not answer.
        let _ = self.ended.recv_timeout(FAREWELL);
    }
}

struct Keeper {
    url: String,
    backend: Backend,
    worker: Arc<WorkerIdentity>,
    topics: Vec<&'static str>,
    events: Sender<Event>,
    lost: Arc<AtomicBool>,
    doubts: Arc<Doubts>,
    next_tick: Arc<NextTick>,
    worked: Arc<AtomicBool>,
    /// What its consumers declare.
    schedules: Arc<[ScheduleRecord]>,
    /// The topics that were paused at the last look.
    paused: Vec<String>,
    /// And those that had a limit.
    limited: Vec<String>,
    stop: Stop,
    meters: Meters,
    session: Option<Session>,
    file: Option<(LockFiles, LockFile)>,
    sightings: BTreeMap<i64, Sighting>,
    /// Dead ones whose messages could not be given back yet.
    unrescued: BTreeSet<i64>,
    rhythm: Rhythm,
    /// How long the server may take for an answer.
    patience: Duration,
    next_beat: Instant,
    next_housekeeping: Instant,
    /// Of what has been kept for long enough.
    next_purge: Instant,
    last_look: Arc<LastLook>,
    /// In a row.
    failures: u32,
    silent: bool,
}

/// What there was to delete.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Purged {
    /// So little that it may gather again.
    Little,
    /// So much that the next look does the same: deleted as it comes it is a part of the load, gathered it would be a burst.
    Much,
    /// More than there was time for.
    NotAll,
}

struct Session {
    conn: Patient,
    since: Instant,
    lock: Lock,
}

impl Keeper {
    fn enter(&mut self) -> Result<()> {
        // Nobody waits yet for it to show itself, and a server that is slow gives all these answers later.
        let mut conn = Patient::establish(&self.url, PATIENCE)?;
        // Before the worker is entered: from then on the others look for it.
        let files = self.lock_files(&mut conn)?;
        self.file = match LockFile::hold(&files, self.worker.id) {
            Ok(lock) => Some((files, lock)),
            Err(error) if self.backend == Backend::Sqlite => return Err(error),
            Err(error) => {
                tracing::debug!("the server's lock will do: {error}");
                None
            }
        };
        let (worker, topics) = (Arc::clone(&self.worker), self.topics.clone());
        let schedules = Arc::clone(&self.schedules);
        let seen = Instant::now();
        let look = conn.call(move |conn| {
            conn.broker().register(&worker)?;
            conn.broker().beat(worker.id, memory_bytes())?;
            let look = conn.broker().look(worker.id, &topics)?;
            supervised::explain_deaths(conn, &look.peers)?;
            schedule::declare(conn.broker(), worker.id, &topics, &schedules, true)?;
            conn.broker().look(worker.id, &topics)
        })?;
        supervised::works_as(self.worker.id);
        self.saw(&look, seen);
        let mut session = self.session_on(conn)?;
        session.conn.wait_at_most(self.patience);
        self.session = Some(session);
        Ok(())
    }

    #[allow(unused_variables, clippy::unnecessary_wraps, reason = "when SQLite is not chosen")]
    fn lock_files(&self, conn: &mut Patient) -> Result<LockFiles> {
        #[cfg(feature = "sqlite")]
        #[allow(irrefutable_let_patterns, reason = "when SQLite is the only database")]
        if let AnyConnection::Sqlite(conn) = conn.local()?
            && let Some(file) = crate::broker::sqlite::file_of(conn)?
        {
            return Ok(LockFiles::beside(file.as_ref()));
        }
        Ok(LockFiles::of_machine(&self.worker.host))
    }

    fn session_on(&self, mut conn: Patient) -> Result<Session> {
        let worker_id = self.worker.id;
        let own_session = conn.has_own_session();
        let lock = conn.call(move |conn| {
            if own_session {
                end_when_silent(conn)?;
            }
            conn.broker().lock(worker_id)
        })?;
        Ok(Session { conn, since: Instant::now(), lock })
    }

    fn live(mut self, ends: &Receiver<()>) {
        let mut pause = self.rhythm.look.mul_f64(0.5 + fastrand::f64());
        loop {
            let next = Instant::now() + pause;
            loop {
                if sleep_for(ends, next.min(Instant::now() + GLANCE)).is_some() {
                    return self.leave();
                }
                if Instant::now() >= next || self.glance() {
                    break;
                }
            }
            match self.round() {
                Ok(next) => {
                    if std::mem::take(&mut self.silent) {
                        tracing::info!("this worker can be seen by the others again");
                    }
                    self.failures = 0;
                    self.patience = self.rhythm.patience;
                    if let Some(session) = &mut self.session {
                        session.conn.wait_at_most(self.patience);
                    }
                    pause = next;
                }
                Err(Error::WorkerLost) => {
                    self.lost.store(true, Ordering::Release);
                    let _ = self.events.send(Event::Wake);
                    return;
                }
                Err(error) => {
                    self.session = None;
                    if matches!(error, Error::Silent(_)) {
                        self.patience = patience::more(self.patience).min(self.rhythm.most_patience);
                    }
                    // At once, while the others still wait for this worker to come back.
                    let wait = if self.failures == 0 { SOON } else { self.rhythm.look / 2 };
                    pause = wait.mul_f64(1.0 + fastrand::f64());
                    self.failures += 1;
                    self.meters.liveness.errors.increment(1);
                    tracing::debug!("no beat: {error}");
                    if self.last_look.is_too_old() && !std::mem::replace(&mut self.silent, true) {
                        tracing::warn!(
                            "this worker cannot reach the database ({error}); others may take over what it runs"
                        );
                    }
                }
            }
        }
    }

    fn leave(mut self) {
        // If the database is away, the others will find the free lock.
        if let Some(session) = &mut self.session {
            let worker_id = self.worker.id;
            session.conn.wait_at_most(FAREWELL);
            let _ = session.conn.call(move |conn| conn.broker().deregister(worker_id));
        }
    }

    /// Looks at the files of the neighbours alone; whether one of them may be dead.
    fn glance(&mut self) -> bool {
        let Some((files, _)) = &self.file else { return false };
        let now = Instant::now();
        let after = self.sightings.range(self.worker.id..).map(|(id, _)| *id);
        let before = self.sightings.range(..self.worker.id).map(|(id, _)| *id);
        let mut doubtful = false;
        for id in after.chain(before).take(NEIGHBOURS).collect::<Vec<_>>() {
            if let Some(sighting) = self.sightings.get_mut(&id) {
                let silent = sighting.file(files.look(id), now);
                // A server has its own way to find a process that is stopped.
                doubtful |= sighting.ended_within(SOON_FOR, now) || silent && self.backend == Backend::Sqlite;
            }
        }
        doubtful
    }

    /// What a look that began then has shown.
    fn saw(&mut self, look: &Look, seen: Instant) {
        self.doubts.saw(look);
        if look.paused != self.paused {
            self.paused.clone_from(&look.paused);
            let _ = self.events.send(Event::Paused(look.paused.clone()));
        }
        if look.limited != self.limited {
            self.limited.clone_from(&look.limited);
            let _ = self.events.send(Event::Limited(look.limited.clone()));
        }
        if !look.cancels.is_empty() || !look.left_cancels.is_empty() {
            let (ids, left) = (look.cancels.clone(), look.left_cancels.clone());
            let _ = self.events.send(Event::Cancel(Cancels { seen, ids, left }));
        }
        if look.draining && !self.stop.is_stopping() {
            tracing::info!("told to drain: no new messages, waiting for the running ones");
            self.stop.stop();
        }
        if self.next_tick.is_in(look.next_tick) {
            let _ = self.events.send(Event::Wake);
        }
    }

    /// One look around; gives the pause before the next.
    fn round(&mut self) -> Result<Duration> {
        let mut session = match self.session.take() {
            Some(session) => session,
            None => {
                let session = self.session_on(Patient::establish(&self.url, self.patience)?)?;
                self.meters.liveness.reconnects.increment(1);
                session
            }
        };
        // Where a lock tells that this worker lives, its counter need not.
        let is_time = Instant::now() >= self.next_beat;
        let beats = session.lock != Lock::Held || is_time;
        // On SQLite an idle worker writes nothing.
        let notes =
            is_time && (self.backend != Backend::Sqlite || self.worked.swap(false, Ordering::Relaxed));
        let memory = memory_bytes();
        self.meters.memory_bytes.set(memory.map_or(0.0, |bytes| bytes as f64));
        let memory = memory.filter(|_| notes);
        let (worker_id, topics, mut lock) = (self.worker.id, self.topics.clone(), session.lock);
        let seen = Instant::now();
        let (lock, look) = session.conn.call(move |conn| {
            let broker = conn.broker();
            if beats && !broker.beat(worker_id, memory)? {
                return Err(Error::WorkerLost);
            }
            if lock == Lock::Busy {
                lock = broker.lock(worker_id)?;
            }
            Ok((lock, broker.look(worker_id, &topics)?))
        })?;
        if !look.alive {
            return Err(Error::WorkerLost);
        }
        let overslept = self.last_look.elapsed() > OVERSLEPT;
        // Whatever becomes of the rest of this round.
        self.last_look.is_now();
        session.lock = lock;
        if notes {
            self.next_beat = Instant::now() + BEAT;
        }
        self.saw(&look, seen);
        if look.due {
            let _ = self.events.send(Event::Due);
        }
        let mut next = self.watch(&mut session, look.peers, overslept)?;
        let is_time = |at: Instant| Instant::now() >= at && !self.stop.is_stopping();
        let (keep_house, purge) = (is_time(self.next_housekeeping), is_time(self.next_purge));
        // Even if they fail: the looks go on.
        if keep_house {
            self.next_housekeeping = Instant::now() + HOUSEKEEPING;
            self.keep_house(&mut session)?;
        }
        if purge {
            self.next_purge = Instant::now() + HOUSEKEEPING;
            let purged = self.purge(&mut session)?;
            if purged != Purged::Little {
                self.next_purge = Instant::now();
            }
            if purged == Purged::NotAll {
                next = SOON;
            }
        }
        self.session = Some(session);
        Ok(next)
    }

    fn keep_house(&self, session: &mut Session) -> Result<()> {
        let (worker_id, topics, schedules) =
            (self.worker.id, self.topics.clone(), Arc::clone(&self.schedules));
        session
            .conn
            .call(move |conn| schedule::declare(conn.broker(), worker_id, &topics, &schedules, false))?;
        let mended = session.conn.call(|conn| conn.broker().mend_lines())?;
        if mended > 0 {
            tracing::warn!(
                "{mended} messages were called up whose ordering keys waited for messages that are gone"
            );
            let _ = self.events.send(Event::Due);
        }
        Ok(())
    }

    /// Deletes what has been kept for long enough, as far as there is time between two looks.
    fn purge(&self, session: &mut Session) -> Result<Purged> {
        let began = Instant::now();
        let mut purged = Purged::Little;
        while session.conn.call(|conn| conn.broker().purge(PURGED.into()))? >= PURGED.into()
            || session.conn.call(|conn| conn.broker().purge_workflows(PURGED_WORKFLOWS.into()))?
                >= PURGED_WORKFLOWS.into()
        {
            purged = Purged::Much;
            if began.elapsed() >= self.rhythm.look || self.stop.is_stopping() {
                return Ok(Purged::NotAll);
            }
        }
        Ok(purged)
    }

    /// Looks at the other workers and rescues the messages of dead ones; gives the pause before the next look.
    fn watch(&mut self, session: &mut Session, peers: Vec<Peer>, overslept: bool) -> Result<Duration> {
        if overslept {
            self.sightings.values_mut().for_each(Sighting::begin_anew);
        }
        self.sightings.retain(|id, _| peers.iter().any(|p| p.id == *id));
        self.unrescued.retain(|id| self.sightings.contains_key(id));
        let mut next = self.rhythm.look;
        for mut peer in peers {
            let now = Instant::now();
            let sighting = self
                .sightings
                .entry(peer.id)
                .or_insert_with(|| Sighting::first(self.backend, peer.beat, now));
            if let Some((files, _)) = &self.file
                && peer.beat.is_some()
            {
                let sign = files.look(peer.id);
                sighting.file(sign, now);
                if self.backend == Backend::Sqlite {
                    peer.lock_free = (!matches!(sign, Sign::Held { .. })).then_some(true);
                }
            }
            let dead = sighting.looks_dead(&peer, now, session.since);
            if sighting.ended_within(SOON_FOR, now) {
                next = next.min(SOON);
            } else if sighting.is_doubtful() {
                next = next.min(SECOND_LOOK);
            } else if peer.lock_free.is_none() {
                next = next.min(sighting.left().max(SOON));
            }
            if !dead {
                continue;
            }
            let rescued = peer.clone();
            let messages = session.conn.call(move |conn| {
                sessions::end_all(conn.broker(), rescued.id);
                conn.broker().rescue(&rescued)
            });
            let messages = match messages {
                Ok(messages) => messages,
                // The others do not wait for what keeps this one from being rescued: a row that somebody else has locked.
                Err(error) if error.is_blocked() => {
                    if self.unrescued.insert(peer.id) {
                        tracing::warn!(
                            "worker {:016x} died, and what it held cannot be given back yet, trying again: {error}",
                            peer.id
                        );
                    }
                    next = next.min(SECOND_LOOK);
                    continue;
                }
                Err(error) => return Err(error),
            };
            self.meters.rescues.increment(1);
            self.meters.rescued_messages.increment(u64::try_from(messages).unwrap_or(u64::MAX));
            tracing::warn!(
                messages,
                "worker {:016x} died; {messages} messages that it held are given back",
                peer.id
            );
            self.sightings.remove(&peer.id);
            if let Some((files, _)) = &self.file {
                files.remove(peer.id);
            }
            let (worker_id, topics) = (self.worker.id, self.topics.clone());
            let seen = Instant::now();
            self.saw(&session.conn.call(move |conn| conn.broker().look(worker_id, &topics))?, seen);
            let _ = self.events.send(Event::Due);
        }
        Ok(next)
    }
}

/// What this process has resident.
fn memory_bytes() -> Option<u64> {
    memory_stats::memory_stats().and_then(|stats| u64::try_from(stats.physical_mem).ok())
}

/// A session that says nothing for long is taken for dead by the server, and its lock is free.
fn end_when_silent(conn: &mut AnyConnection) -> Result<()> {
    match conn {
        #[cfg(feature = "sqlite")]
        AnyConnection::Sqlite(_) => Ok(()),
        #[cfg(feature = "postgres")]
        AnyConnection::Postgres(conn) => {
            // Before version 14 there is no such setting; a vanished client is then noticed by keepalives only.
            if let Err(error) = crate::broker::postgres::drop_when_silent(conn, Rhythm::LOCKED.patience) {
                tracing::debug!("the server will not end silent sessions: {error}");
            }
            Ok(())
        }
        #[cfg(feature = "mysql")]
        AnyConnection::Mysql(conn) => crate::broker::mysql::drop_when_silent(conn, Rhythm::LOCKED.patience),
    }
}
