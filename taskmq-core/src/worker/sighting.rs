//! What one worker sees of another.

use std::time::{Duration, Instant, SystemTime};

use crate::Backend;
use crate::broker::Peer;
use crate::lock_files::Sign;

/// Silence of this length is death, where no lock tells and one file is all there is to look at;
const LEASE: Duration = Duration::from_secs(5);
/// and where a server has the counters of workers that hold no lock in it, which move twice a second.
const LAPSE: Duration = Duration::from_secs(4);
/// A look counts for no more silence than this, however long ago the one before it was: who did not look does not know
/// whether others could show themselves. The whole database may have stood still, or this machine.
const BETWEEN_LOOKS: Duration = Duration::from_millis(1500);
/// A free lock is not yet a dead worker: its connection may have been cut, and it has this long to take it again. A
/// little more than the time between two looks, for that is when it notices.
const GRACE: Duration = Duration::from_millis(1600);
/// After the worker that looks had to connect, which may be because the server was restarted, the others have this
/// long to do so too.
const GRACE_AFTER_CONNECT: Duration = Duration::from_secs(3);

/// How a worker shows itself to the others, and looks at them.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rhythm {
    /// It looks around this often. It is all that an idle worker asks of its database, but for the housekeeping and a wait
    /// now and then: with a lock less than one query a second, and without one two each half a second.
    pub(super) look: Duration,
    /// So long it waits for an answer before it connects anew: well before the others give it up. A server frees the lock
    /// of a session that is silent for so long; that needs less time than a lease without one, for a worker that was
    /// only slow takes it again.
    pub(super) patience: Duration,
    /// And so long at most, after there was none, because the server may only be slow.
    pub(super) most_patience: Duration,
    /// When it was so long ago that it could look, others may have taken over what it holds.
    pub(super) too_old: Duration,
}

impl Rhythm {
    /// Of a worker whose lock tells that it lives;
    pub(super) const LOCKED: Self = Self {
        look: Duration::from_millis(1300),
        patience: Duration::from_secs(3),
        most_patience: Duration::from_secs(3),
        too_old: Duration::from_secs(4),
    };
    /// and of one that only its counter tells of.
    pub(super) const COUNTED: Self = Self {
        look: Duration::from_millis(500),
        patience: Duration::from_secs(2),
        most_patience: Duration::from_secs(5),
        too_old: Duration::from_millis(3200),
    };
}

/// What was seen of another worker, by this machine's monotonic clock alone.
#[derive(Debug)]
pub(super) struct Sighting {
    beat: Option<i64>,
    moved_at: Option<SystemTime>,
    lapse: Duration,
    silent: Duration,
    seen_at: Instant,
    free_since: Option<Instant>,
    ended_since: Option<Instant>,
}

impl Sighting {
    pub(super) fn first(backend: Backend, beat: Option<i64>, now: Instant) -> Self {
        let lapse = if backend == Backend::Sqlite { LEASE } else { LAPSE };
        Self {
            beat,
            moved_at: None,
            lapse,
            silent: Duration::ZERO,
            seen_at: now,
            free_since: None,
            ended_since: None,
        }
    }

    /// After the looking worker could not look for long: what was seen to have gone may be back.
    pub(super) fn begin_anew(&mut self) {
        (self.free_since, self.ended_since) = (None, None);
    }

    /// How much longer it may be silent.
    pub(super) fn left(&self) -> Duration {
        self.lapse.saturating_sub(self.silent)
    }

    fn looked(&mut self, moved: bool, now: Instant) {
        let since = now.saturating_duration_since(self.seen_at).min(BETWEEN_LOOKS);
        self.silent = if moved { Duration::ZERO } else { self.silent + since };
        self.seen_at = now;
    }

    /// Takes in how its lock file looks; whether that makes it doubtful. A process that is stopped is silent for
    /// `LEASE`, however often one looks.
    pub(super) fn file(&mut self, sign: Sign, now: Instant) -> bool {
        match sign {
            Sign::Held { moved_at } => {
                self.ended_since = None;
                let moved = self.moved_at.replace(moved_at) != Some(moved_at);
                self.looked(moved, now);
                self.left().is_zero()
            }
            Sign::Free => {
                self.ended_since.get_or_insert(now);
                true
            }
            Sign::Missing => false,
        }
    }

    /// Its process is known to have ended for at most so long.
    pub(super) fn ended_within(&self, time: Duration, now: Instant) -> bool {
        self.ended_since.is_some_and(|since| now - since <= time)
    }

    /// It does not look as a healthy worker does.
    pub(super) fn is_doubtful(&self) -> bool {
        self.free_since.is_some() || self.ended_since.is_some()
    }

    /// Never by one look, never by comparing clocks.
    pub(super) fn looks_dead(&mut self, peer: &Peer, now: Instant, connected: Instant) -> bool {
        let moved = self.beat != peer.beat;
        self.looked(moved, now);
        if moved {
            self.beat = peer.beat;
            self.free_since = None;
        }
        let ended = self.ended_since.is_some_and(|since| since < now);
        match peer.lock_free {
            Some(false) => {
                self.free_since = None;
                false
            }
            Some(true) => {
                let first = self.free_since.is_none();
                let since = *self.free_since.get_or_insert(now);
                ended || !first && now - since >= GRACE && now - connected >= GRACE_AFTER_CONNECT
            }
            None => ended || self.left().is_zero(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(beat: i64, lock_free: Option<bool>) -> Peer {
        Peer { id: 1, beat: Some(beat), lock_free }
    }

    /// A moment so long after the looking worker connected that this plays no part, and the connecting itself.
    fn start() -> (Instant, Instant) {
        let connected = Instant::now();
        (connected + Duration::from_secs(60), connected)
    }

    #[test]
    fn a_free_lock_is_death_only_after_the_grace() {
        let (start, connected) = start();
        let mut seen = Sighting::first(Backend::Mysql, Some(1), start);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(0), connected));
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(1000), connected));
        assert!(seen.looks_dead(&peer(1, Some(true)), at(1600), connected));
    }

    #[test]
    fn a_beat_or_a_lock_taken_again_ends_the_doubt() {
        let (start, connected) = start();
        let mut seen = Sighting::first(Backend::Mysql, Some(1), start);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(0), connected));
        assert!(!seen.looks_dead(&peer(2, Some(true)), at(2000), connected));
        assert!(!seen.looks_dead(&peer(2, Some(false)), at(4000), connected));
        assert!(!seen.looks_dead(&peer(2, Some(true)), at(6000), connected));
    }

    #[test]
    fn after_a_restart_of_the_server_everyone_has_time_to_come_back() {
        let start = Instant::now();
        let mut seen = Sighting::first(Backend::Mysql, Some(1), start);
        assert!(!seen.looks_dead(&peer(1, Some(true)), start, start));
        assert!(!seen.looks_dead(&peer(1, Some(true)), start + Duration::from_secs(2), start));
        assert!(seen.looks_dead(&peer(1, Some(true)), start + Duration::from_secs(3), start));
    }

    /// Looks at it each half a second from `from` to `to`, in milliseconds; when it was taken for dead.
    fn watched(seen: &mut Sighting, start: Instant, beat: i64, from: u64, to: u64) -> Option<u64> {
        (from..=to)
            .step_by(500)
            .find(|ms| seen.looks_dead(&peer(beat, None), start + Duration::from_millis(*ms), start))
    }

    #[test]
    fn without_locks_silence_decides() {
        let start = Instant::now();
        let mut seen = Sighting::first(Backend::Mysql, Some(1), start);
        assert_eq!(watched(&mut seen, start, 1, 0, 3900), None);
        assert_eq!(watched(&mut seen, start, 2, 4000, 20_000), Some(8000));
    }

    #[test]
    fn what_nobody_looked_at_was_not_silent() {
        let start = Instant::now();
        let mut seen = Sighting::first(Backend::Mysql, Some(1), start);
        assert_eq!(watched(&mut seen, start, 1, 0, 500), None);
        // The database stood still for a minute: whoever lives has two seconds and a half to come back.
        assert_eq!(watched(&mut seen, start, 1, 60_000, 90_000), Some(62_000));
    }

    #[test]
    fn an_ended_process_is_dead_at_the_second_look_unless_the_server_knows_better() {
        let (start, connected) = start();
        let at = |ms| start + Duration::from_millis(ms);
        let mut seen = Sighting::first(Backend::Mysql, Some(1), start);
        assert!(seen.file(Sign::Free, at(0)));
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(0), connected));
        assert!(!seen.looks_dead(&peer(1, Some(false)), at(10), connected));
        assert!(seen.looks_dead(&peer(1, Some(true)), at(60), connected));
        assert!(seen.looks_dead(&peer(1, None), at(60), connected));
    }

    #[test]
    fn a_process_that_is_stopped_keeps_its_lock_and_is_dead_after_the_lease() {
        let (start, connected) = start();
        let at = |ms| start + Duration::from_millis(ms);
        let held = |ms| Sign::Held { moved_at: SystemTime::UNIX_EPOCH + Duration::from_millis(ms) };
        let mut seen = Sighting::first(Backend::Sqlite, Some(1), start);
        assert!(!seen.file(held(0), at(0)));
        assert!(!seen.file(held(1), at(1000)));
        assert!((1100..5900).step_by(150).all(|ms| !seen.file(held(1), at(ms))));
        assert!(!seen.looks_dead(&peer(1, None), at(5900), connected));
        assert!(seen.file(held(1), at(6000)));
        assert!(seen.looks_dead(&peer(1, None), at(6000), connected));
    }
}
