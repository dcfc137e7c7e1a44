//! A worker's life as the other workers see it, and its eye on theirs. All on a thread and a connection that nothing
//! else uses, so that no handler and no long claim can make a healthy worker look dead.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::executors::Event;
use super::lock_file::{self, LockFile, Sign};
use super::{Setup, stop::Stop};
use crate::broker::{Lock, Look, Peer, WorkerIdentity};
use crate::{AnyConnection, BrokerConnection, Error, Result};

/// A worker looks around this often. It is all that an idle worker asks of its database, but for the housekeeping, and
/// together they come to one query a second.
const LOOK: Duration = Duration::from_millis(1100);
/// Once a lock is seen free, the next look comes sooner.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// Without locks, and for the server's own time-out: silence of this length is death.
const LEASE: Duration = Duration::from_secs(5);
/// A free lock is not yet a dead worker: its connection may have been cut, and it has this long to take it again. A
/// little more than the time between two looks, for that is when it notices.
const GRACE: Duration = Duration::from_millis(1500);
/// After this worker itself had to connect, which may be because the server was restarted, the others have this long
/// to do so too.
const GRACE_AFTER_CONNECT: Duration = Duration::from_secs(3);
/// So many looks lie between two rounds of housekeeping.
const HOUSEKEEPING: u32 = 30;

#[derive(Debug)]
pub(super) struct Liveness {
    lost: Arc<AtomicBool>,
    pub(super) doubts: Arc<Doubts>,
    end: Sender<()>,
    thread: Option<JoinHandle<()>>,
}

/// What deaths have left behind, as of the last look; whoever finds nothing of it any more says so.
#[derive(Debug, Default)]
pub(super) struct Doubts {
    /// Messages wait to run alone.
    pub(super) set_aside: AtomicBool,
    /// Suspected messages wait to run in small company.
    pub(super) suspects: AtomicBool,
}

impl Doubts {
    fn saw(&self, look: &Look) {
        if look.set_aside {
            self.set_aside.store(true, Ordering::Release);
        }
        if look.suspects {
            self.suspects.store(true, Ordering::Release);
        }
    }
}

impl Liveness {
    /// Enters the worker, takes its lock, and keeps both.
    pub(super) fn start(setup: &Arc<Setup>, worker: &WorkerIdentity, events: &Sender<Event>) -> Result<Self> {
        let (end, ends) = bounded(1);
        let lost = Arc::new(AtomicBool::new(false));
        let doubts = Arc::<Doubts>::default();
        let mut keeper = Keeper {
            url: setup.database_url.clone(),
            worker: worker.clone(),
            topics: setup.topics(),
            events: events.clone(),
            lost: Arc::clone(&lost),
            doubts: Arc::clone(&doubts),
            stop: setup.stop.clone(),
            session: None,
            file: None,
            sightings: HashMap::new(),
            looks: 0,
            last_look: Instant::now(),
            silent: false,
        };
        keeper.enter()?;
        let thread = thread::Builder::new()
            .name("taskmq-liveness".to_owned())
            .spawn(move || keeper.live(&ends))
            .map_err(|e| Error::Configuration(format!("cannot start the liveness thread: {e}")))?;
        Ok(Self { lost, doubts, end, thread: Some(thread) })
    }

    /// Whether the others have given this worker up.
    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Removes the worker from the database.
    pub(super) fn end(&mut self) {
        let _ = self.end.send(());
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

struct Keeper {
    url: String,
    worker: WorkerIdentity,
    topics: Vec<&'static str>,
    events: Sender<Event>,
    lost: Arc<AtomicBool>,
    doubts: Arc<Doubts>,
    stop: Stop,
    session: Option<Session>,
    file: Option<(PathBuf, LockFile)>,
    sightings: HashMap<i64, Sighting>,
    looks: u32,
    last_look: Instant,
    silent: bool,
}

struct Session {
    conn: AnyConnection,
    since: Instant,
    lock: Lock,
}

/// What was seen of another worker, by this machine's monotonic clock alone.
struct Sighting {
    beat: Option<i64>,
    unmoved_since: Instant,
    free_since: Option<Instant>,
}

impl Keeper {
    fn enter(&mut self) -> Result<()> {
        let mut conn = AnyConnection::establish_for_worker(&self.url)?;
        #[cfg(feature = "sqlite")]
        #[allow(irrefutable_let_patterns, reason = "when SQLite is the only database")]
        if let AnyConnection::Sqlite(sqlite) = &mut conn
            && let Some(file) = crate::broker::sqlite::file_of(sqlite)?
        {
            // Before the worker is entered: from then on the others look for it.
            let database = PathBuf::from(file);
            let lock = LockFile::hold(&database, self.worker.id)?;
            self.file = Some((database, lock));
        }
        conn.broker().register(&self.worker)?;
        let look = conn.broker().look(self.worker.id, &self.topics)?;
        self.doubts.saw(&look);
        self.session = Some(self.session_on(conn)?);
        Ok(())
    }

    fn session_on(&self, mut conn: AnyConnection) -> Result<Session> {
        match &mut conn {
            #[cfg(feature = "sqlite")]
            AnyConnection::Sqlite(_) => {}
            #[cfg(feature = "postgres")]
            AnyConnection::Postgres(conn) => {
                // Before version 14 there is no such setting; a vanished client is then noticed by keepalives only.
                if let Err(error) = crate::broker::postgres::drop_when_silent(conn, LEASE) {
                    tracing::debug!("the server will not end silent sessions: {error}");
                }
            }
            #[cfg(feature = "mysql")]
            AnyConnection::Mysql(conn) => crate::broker::mysql::drop_when_silent(conn, LEASE)?,
        }
        let lock = conn.broker().lock(self.worker.id)?;
        Ok(Session { conn, since: Instant::now(), lock })
    }

    fn live(mut self, ends: &Receiver<()>) {
        let mut pause = LOOK.mul_f64(0.5 + fastrand::f64());
        loop {
            if ends.recv_timeout(pause).is_ok() {
                break;
            }
            match self.round() {
                Ok(next) => {
                    if std::mem::take(&mut self.silent) {
                        tracing::info!("this worker can be seen by the others again");
                    }
                    self.last_look = Instant::now();
                    pause = next;
                }
                Err(Error::WorkerLost) => {
                    self.lost.store(true, Ordering::Release);
                    let _ = self.events.send(Event::Wake);
                    return;
                }
                Err(error) => {
                    self.session = None;
                    pause = LOOK.mul_f64(0.5 + fastrand::f64() / 2.0);
                    tracing::debug!("no beat: {error}");
                    if self.last_look.elapsed() > LEASE.mul_f64(0.8)
                        && !std::mem::replace(&mut self.silent, true)
                    {
                        tracing::warn!(
                            "this worker cannot reach the database ({error}); others may take over what it runs"
                        );
                    }
                }
            }
        }
        // If the database is away, the others will find the free lock.
        if let Some(session) = &mut self.session {
            let _ = session.conn.broker().deregister(self.worker.id);
        }
    }

    /// One look around; gives the pause before the next.
    fn round(&mut self) -> Result<Duration> {
        if let Some((database, lock)) = &mut self.file {
            lock.keep(database, self.worker.id)?;
        }
        let mut session = match self.session.take() {
            Some(session) => session,
            None => self.session_on(AnyConnection::establish_for_worker(&self.url)?)?,
        };
        self.looks = self.looks.wrapping_add(1);
        let keep_house = self.looks.is_multiple_of(HOUSEKEEPING) && !self.stop.is_stopping();
        let broker = session.conn.broker();
        // Where a lock tells that this worker lives, its counter need not.
        if (session.lock != Lock::Held || keep_house) && !broker.beat(self.worker.id)? {
            return Err(Error::WorkerLost);
        }
        if session.lock == Lock::Busy {
            session.lock = broker.lock(self.worker.id)?;
        }
        let look = broker.look(self.worker.id, &self.topics)?;
        if !look.alive {
            return Err(Error::WorkerLost);
        }
        self.doubts.saw(&look);
        if look.due {
            let _ = self.events.send(Event::Due);
        }
        let doubtful = self.watch(&mut session, look.peers)?;
        if keep_house {
            let broker = session.conn.broker();
            while broker.purge(1000)? == 1000 && !self.stop.is_stopping() {}
        }
        self.session = Some(session);
        Ok(if doubtful { SECOND_LOOK } else { LOOK })
    }

    /// Looks at the other workers and rescues the messages of dead ones; `true` when one looks doubtful.
    fn watch(&mut self, session: &mut Session, mut peers: Vec<Peer>) -> Result<bool> {
        let mut ended: HashSet<i64> = HashSet::new();
        if let Some((database, _)) = &self.file {
            for peer in peers.iter_mut().filter(|p| p.beat.is_some()) {
                let sign = lock_file::look(database, peer.id)?;
                peer.lock_free = Some(sign != Sign::Held);
                if sign == Sign::Free {
                    ended.insert(peer.id);
                }
            }
        }
        self.sightings.retain(|id, _| peers.iter().any(|p| p.id == *id));
        let mut doubtful = false;
        for peer in peers {
            let now = Instant::now();
            let sighting = self.sightings.entry(peer.id).or_insert(Sighting {
                beat: peer.beat,
                unmoved_since: now,
                free_since: None,
            });
            let dead = sighting.looks_dead(&peer, now, session.since, ended.contains(&peer.id));
            doubtful |= sighting.free_since.is_some();
            if !dead {
                continue;
            }
            let messages = session.conn.broker().rescue(&peer)?;
            tracing::warn!(
                messages,
                "worker {:016x} died; {messages} messages that it held are given back",
                peer.id
            );
            self.sightings.remove(&peer.id);
            if let Some((database, _)) = &self.file {
                lock_file::remove(database, peer.id);
            }
            self.doubts.saw(&session.conn.broker().look(self.worker.id, &self.topics)?);
            let _ = self.events.send(Event::Due);
        }
        Ok(doubtful)
    }
}

impl Sighting {
    /// Never by one look, never by comparing clocks.
    fn looks_dead(&mut self, peer: &Peer, now: Instant, connected: Instant, process_ended: bool) -> bool {
        if self.beat != peer.beat {
            *self = Sighting { beat: peer.beat, unmoved_since: now, free_since: None };
        }
        match peer.lock_free {
            Some(false) => {
                self.free_since = None;
                false
            }
            Some(true) => {
                let first = self.free_since.is_none();
                let since = *self.free_since.get_or_insert(now);
                !first && (process_ended || now - since >= GRACE && now - connected >= GRACE_AFTER_CONNECT)
            }
            // After this worker's own silence, nobody's counter says anything yet.
            None => now - self.unmoved_since.max(connected) >= LEASE,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(beat: i64, lock_free: Option<bool>) -> Peer {
        Peer { id: 1, beat: Some(beat), lock_free }
    }

    #[test]
    fn a_free_lock_is_death_only_after_the_grace() {
        let start = Instant::now();
        let long_ago = start.checked_sub(Duration::from_secs(60)).unwrap();
        let mut seen = Sighting { beat: Some(1), unmoved_since: start, free_since: None };
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(0), long_ago, false));
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(1000), long_ago, false));
        assert!(seen.looks_dead(&peer(1, Some(true)), at(1600), long_ago, false));
    }

    #[test]
    fn a_beat_or_a_lock_taken_again_ends_the_doubt() {
        let start = Instant::now();
        let long_ago = start.checked_sub(Duration::from_secs(60)).unwrap();
        let mut seen = Sighting { beat: Some(1), unmoved_since: start, free_since: None };
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(0), long_ago, false));
        assert!(!seen.looks_dead(&peer(2, Some(true)), at(2000), long_ago, false));
        assert!(!seen.looks_dead(&peer(2, Some(false)), at(4000), long_ago, false));
        assert!(!seen.looks_dead(&peer(2, Some(true)), at(6000), long_ago, false));
    }

    #[test]
    fn after_a_restart_of_the_server_everyone_has_time_to_come_back() {
        let start = Instant::now();
        let mut seen = Sighting { beat: Some(1), unmoved_since: start, free_since: Some(start) };
        assert!(!seen.looks_dead(&peer(1, Some(true)), start + Duration::from_secs(2), start, false));
        assert!(seen.looks_dead(&peer(1, Some(true)), start + Duration::from_secs(3), start, false));
    }

    #[test]
    fn without_locks_silence_decides() {
        let start = Instant::now();
        let mut seen = Sighting { beat: Some(1), unmoved_since: start, free_since: None };
        assert!(!seen.looks_dead(&peer(1, None), start + Duration::from_secs(4), start, false));
        assert!(!seen.looks_dead(&peer(2, None), start + Duration::from_secs(5), start, false));
        assert!(!seen.looks_dead(&peer(2, None), start + Duration::from_secs(9), start, false));
        assert!(seen.looks_dead(&peer(2, None), start + Duration::from_secs(10), start, false));
    }
}
