//! Where this worker's claims got to in each lane.

use std::time::{Duration, Instant};

use crate::broker::{Claimed, Position};

/// Claims of which two in a row searched for longer than this, and than their messages explain, walked over dead rows; one
/// may have waited for somebody's lock, or for a processor.
const SLOW: Duration = Duration::from_millis(5);
/// What a claimed message explains.
const EACH: Duration = Duration::from_micros(10);
/// At most this long nothing but the known lanes is looked at.
const LONGEST: Duration = Duration::from_secs(10);

/// While claims from the beginnings of the lanes are slow, as they are on PostgreSQL while an old transaction keeps
/// the dead rows of finished messages there, claims go on where the last ones ended, and only a tenth of the time is
/// spent on beginning anew. That finds what such claims miss: new lanes, and messages that were given back. Those with an ordering
/// key are claimed from the beginnings only, lest one comes before its turn; where there are any, claims do not go on.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    positions: Vec<Position>,
    go_on_until: Option<Instant>,
    /// The last claim from the beginnings was slow.
    slow: bool,
}

impl Lanes {
    /// Where the next claim goes on; none: from the beginnings.
    pub(super) fn after(&self) -> &[Position] {
        if self.go_on_until.is_some_and(|until| Instant::now() < until) { &self.positions } else { &[] }
    }

    /// When the next claim from the beginnings is worth its time; `None`: always.
    pub(super) fn going_on_until(&self) -> Option<Instant> {
        self.go_on_until.filter(|until| Instant::now() < *until)
    }

    /// A claim, which searched for so long, brought these, and may have met some with an ordering key.
    pub(super) fn claimed(
        &mut self,
        claimed: &[Claimed],
        searched: Duration,
        from_the_beginnings: bool,
        met_ordered: bool,
    ) {
        for lane in claimed.chunk_by(|a, b| a.topic == b.topic && a.lane.0 == b.lane.0) {
            let Some(last) = lane.last() else { continue };
            let (priority, due) = last.lane;
            let known = self.positions.iter_mut().find(|p| p.topic == last.topic && p.priority == priority);
            match known {
                Some(position) => (position.due, position.id) = (due, last.id),
                None => {
                    self.positions.push(Position { topic: last.topic.clone(), priority, due, id: last.id });
                }
            }
        }
        if from_the_beginnings {
            let explained = EACH * u32::try_from(claimed.len()).unwrap_or(u32::MAX);
            let slow = searched > SLOW + explained && !self.positions.is_empty();
            let again = std::mem::replace(&mut self.slow, slow);
            self.go_on_until = (slow && again).then(|| Instant::now() + (10 * searched).min(LONGEST));
        }
        if met_ordered {
            self.go_on_until = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(id: i64, priority: i16, due: i64) -> Claimed {
        Claimed {
            id,
            topic: "t".to_owned(),
            attempt: 1,
            batch: None,
            lane: (priority, due),
            waited: Duration::ZERO,
            crashes: 0,
            max_attempts: None,
            ordering_key: None,
            headers: None,
            payload: "1".to_owned(),
            large: false,
        }
    }

    const QUICK: Duration = Duration::from_millis(1);
    const SLOWLY: Duration = Duration::from_secs(1);

    #[test]
    fn quick_claims_always_begin_at_the_beginning() {
        let mut lanes = Lanes::default();
        for searched in [QUICK, SLOWLY, QUICK, SLOWLY] {
            lanes.claimed(&[message(1, 0, 5)], searched, true, false);
            assert!(lanes.after().is_empty(), "one that is slow has waited for somebody");
        }
    }

    #[test]
    fn after_two_slow_claims_the_next_goes_on_in_every_lane() {
        let mut lanes = Lanes::default();
        let claimed = [message(4, 7, 50), message(1, 0, 5), message(2, 0, 6)];
        lanes.claimed(&[], SLOWLY, true, false);
        lanes.claimed(&claimed, SLOWLY, true, false);
        assert!(lanes.after().is_empty(), "the first had no position to go on from");
        lanes.claimed(&claimed, SLOWLY, true, false);
        let places: Vec<_> = lanes.after().iter().map(|p| (p.priority, p.due, p.id)).collect();
        assert_eq!(places, [(7, 50, 4), (0, 6, 2)]);
        lanes.claimed(&[message(3, 0, 9)], SLOWLY, false, false);
        assert_eq!(lanes.after()[1].id, 3);
    }

    #[test]
    fn where_there_are_ordering_keys_claims_begin_at_the_beginning() {
        let mut lanes = Lanes::default();
        for _ in 0..3 {
            lanes.claimed(&[message(1, 0, 5)], SLOWLY, true, true);
            assert!(lanes.after().is_empty());
        }
        lanes.claimed(&[message(2, 0, 6)], SLOWLY, true, false);
        assert!(!lanes.after().is_empty());
        lanes.claimed(&[message(3, 0, 9)], QUICK, false, true);
        assert!(lanes.after().is_empty() && lanes.going_on_until().is_none());
    }
}
