//! What one worker sees of another.

use std::time::{Duration, Instant, SystemTime};

use super::lock_file::Sign;
use crate::broker::Peer;

/// Silence of this length is death, where no lock tells.
pub(super) const LEASE: Duration = Duration::from_secs(5);
/// A free lock is not yet a dead worker: its connection may have been cut, and it has this long to take it again. A
/// little more than the time between two looks, for that is when it notices.
const GRACE: Duration = Duration::from_millis(1600);
/// After the worker that looks had to connect, which may be because the server was restarted, the others have this
/// long to do so too.
const GRACE_AFTER_CONNECT: Duration = Duration::from_secs(3);

/// What was seen of another worker, by this machine's monotonic clock alone.
#[derive(Debug)]
pub(super) struct Sighting {
    beat: Option<i64>,
    moved_at: Option<SystemTime>,
    unmoved_since: Instant,
    free_since: Option<Instant>,
    ended_since: Option<Instant>,
}

impl Sighting {
    pub(super) fn first(beat: Option<i64>, now: Instant) -> Self {
        Self { beat, moved_at: None, unmoved_since: now, free_since: None, ended_since: None }
    }

    /// Takes in how its lock file looks; whether that makes it doubtful. A process that is stopped is silent for
    /// `LEASE`, however often one looks.
    pub(super) fn file(&mut self, sign: Sign, now: Instant) -> bool {
        match sign {
            Sign::Held { moved_at } => {
                self.ended_since = None;
                if self.moved_at.replace(moved_at) != Some(moved_at) {
                    self.unmoved_since = now;
                }
                now - self.unmoved_since >= LEASE
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
        if self.beat != peer.beat {
            self.beat = peer.beat;
            self.unmoved_since = now;
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
            // After the looking worker's own silence, nobody's counter says anything yet.
            None => ended || now - self.unmoved_since.max(connected) >= LEASE,
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
        let mut seen = Sighting::first(Some(1), start);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(0), connected));
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(1000), connected));
        assert!(seen.looks_dead(&peer(1, Some(true)), at(1600), connected));
    }

    #[test]
    fn a_beat_or_a_lock_taken_again_ends_the_doubt() {
        let (start, connected) = start();
        let mut seen = Sighting::first(Some(1), start);
        let at = |ms| start + Duration::from_millis(ms);
        assert!(!seen.looks_dead(&peer(1, Some(true)), at(0), connected));
        assert!(!seen.looks_dead(&peer(2, Some(true)), at(2000), connected));
        assert!(!seen.looks_dead(&peer(2, Some(false)), at(4000), connected));
        assert!(!seen.looks_dead(&peer(2, Some(true)), at(6000), connected));
    }

    #[test]
    fn after_a_restart_of_the_server_everyone_has_time_to_come_back() {
        let start = Instant::now();
        let mut seen = Sighting::first(Some(1), start);
        assert!(!seen.looks_dead(&peer(1, Some(true)), start, start));
        assert!(!seen.looks_dead(&peer(1, Some(true)), start + Duration::from_secs(2), start));
        assert!(seen.looks_dead(&peer(1, Some(true)), start + Duration::from_secs(3), start));
    }

    #[test]
    fn without_locks_silence_decides() {
        let start = Instant::now();
        let mut seen = Sighting::first(Some(1), start);
        assert!(!seen.looks_dead(&peer(1, None), start + Duration::from_secs(4), start));
        assert!(!seen.looks_dead(&peer(2, None), start + Duration::from_secs(5), start));
        assert!(!seen.looks_dead(&peer(2, None), start + Duration::from_secs(9), start));
        assert!(seen.looks_dead(&peer(2, None), start + Duration::from_secs(10), start));
    }

    #[test]
    fn an_ended_process_is_dead_at_the_second_look_unless_the_server_knows_better() {
        let (start, connected) = start();
        let at = |ms| start + Duration::from_millis(ms);
        let mut seen = Sighting::first(Some(1), start);
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
        let mut seen = Sighting::first(Some(1), start);
        assert!(!seen.file(held(0), at(0)));
        assert!(!seen.file(held(1), at(4000)));
        assert!(!seen.file(held(1), at(8900)));
        assert!(!seen.looks_dead(&peer(1, None), at(8900), connected));
        assert!(seen.file(held(1), at(9000)));
        assert!(seen.looks_dead(&peer(1, None), at(9000), connected));
    }
}
