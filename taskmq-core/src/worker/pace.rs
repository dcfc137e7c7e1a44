//! How much to claim ahead.

use std::time::Duration;

use rustc_hash::{FxHashMap, FxHashSet};

use super::holdings::Holdings;
use crate::broker::{Claimed, Share};

/// The most that one claim takes.
pub(super) const BATCH: usize = 2000;
/// Messages are claimed ahead for this much work, so that handlers never wait for a claim, yet another worker that
/// comes up finds something to do, and little is held when this one dies.
const AHEAD: Duration = Duration::from_millis(100);

/// A handler that comes free before a claim brings more is idle unless there is one ahead. Where claims are quick, this is
/// how long they take with what comes between them;
const QUICK_CLAIM: Duration = Duration::from_millis(20);
/// and where they are slow, no longer time than this is provided for.
const SLOW_CLAIM: Duration = Duration::from_millis(100);

/// The payloads of one claim, and of all that is held beyond one for each handler, may take up so much memory.
const BYTES: f64 = 8.0 * 1024.0 * 1024.0;
/// A handler looks stuck after so many times what its topic's attempts take, and
const STUCK_TIMES: f64 = 100.0;
/// not before this;
const STUCK_AFTER: Duration = Duration::from_secs(60);
/// where none of its topic has ended yet, after this.
const STUCK_AT_LAST: Duration = Duration::from_secs(3600);

/// How long an attempt takes and how large a payload is, of late, by topic; and so how much is worth holding.
#[derive(Debug)]
pub(super) struct Pace {
    handlers: usize,
    seconds: FxHashMap<&'static str, f64>,
    bytes: FxHashMap<&'static str, f64>,
    /// Topics of which the last claim left some behind.
    plentiful: FxHashSet<&'static str>,
    /// What a claim takes, with what is settled beside it.
    claim_seconds: f64,
}

impl Pace {
    pub(super) fn new(handlers: usize) -> Self {
        Self {
            handlers,
            seconds: FxHashMap::default(),
            bytes: FxHashMap::default(),
            plentiful: FxHashSet::default(),
            claim_seconds: 0.0,
        }
    }

    pub(super) fn claim_took(&mut self, took: Duration) {
        self.claim_seconds = 0.8 * self.claim_seconds + 0.2 * took.as_secs_f64();
    }

    pub(super) fn count(&mut self, topic: &'static str, took: Duration) {
        let took = took.as_secs_f64();
        self.seconds.entry(topic).and_modify(|mean| *mean = 0.8 * *mean + 0.2 * took).or_insert(took);
    }

    pub(super) fn weigh(&mut self, topic: &'static str, payload: &str) {
        let bytes = payload.len() as f64;
        self.bytes.entry(topic).and_modify(|mean| *mean = 0.8 * *mean + 0.2 * bytes).or_insert(bytes);
    }

    /// A handler that runs for longer looks stuck.
    pub(super) fn stuck_after(&self, topic: &str) -> Duration {
        let times = |mean: &f64| Duration::try_from_secs_f64(STUCK_TIMES * mean).unwrap_or(Duration::MAX);
        self.seconds.get(topic).map_or(STUCK_AT_LAST, |mean| STUCK_AFTER.max(times(mean)))
    }

    /// Whether every attempt of late was shorter than this; `false` before the first one has ended.
    pub(super) fn is_below(&self, time: Duration) -> bool {
        !self.seconds.is_empty() && self.seconds.values().all(|mean| *mean < time.as_secs_f64())
    }

    /// How many more messages may be held when so many are.
    pub(super) fn room(&self, held: usize) -> usize {
        (self.handlers + 2 * BATCH).saturating_sub(held)
    }

    /// Whether every handler has enough to do for a while.
    pub(super) fn is_enough(&self, held: usize, holdings: &Holdings) -> bool {
        held >= self.handlers
            && (held >= BATCH + self.handlers
                || self.weight(holdings) >= BYTES
                || self.work(holdings) >= self.work_ahead() / 2.0
                    && 2 * (held - self.handlers) >= self.free_soon(holdings))
    }

    /// A claim of these shares brought these.
    pub(super) fn brought(&mut self, shares: &[Share<'static>], claimed: &[Claimed]) {
        let mut numbers: FxHashMap<&str, i64> = FxHashMap::default();
        for message in claimed {
            *numbers.entry(&message.topic).or_default() += 1;
        }
        // A claim that is full before it comes to a topic tells nothing of it.
        for Share { topic, limit, .. } in shares {
            match numbers.get(topic) {
                Some(number) if number >= limit => self.plentiful.insert(topic),
                Some(_) => self.plentiful.remove(topic),
                None => false,
            };
        }
        if claimed.is_empty() {
            self.plentiful.clear();
        }
    }

    /// Whether the last claim left messages behind.
    pub(super) fn has_plenty(&self) -> bool {
        !self.plentiful.is_empty()
    }

    /// How many to take of each topic: what the handlers get done soon, and so many as there are idle handlers, now or by then, but of
    /// several that have plenty no more than an equal part of `room`. So none waits for another's backlog to end, and
    /// messages that were produced together, whose rows lie together, are worked off together. `ended` of those held
    /// have ended.
    pub(super) fn shares(
        &self,
        topics: &[&'static str],
        holdings: &Holdings,
        ended: usize,
        room: usize,
    ) -> Vec<Share<'static>> {
        let held = holdings.len() - ended;
        let idle = self.handlers.saturating_sub(held);
        let soon = (self.handlers + self.free_soon(holdings)).saturating_sub(held);
        let plentiful = topics.iter().filter(|topic| self.plentiful.contains(*topic)).count();
        let part = (room / plentiful.max(1)).max(1);
        let left = (self.work_ahead() - self.work(holdings)).max(0.0);
        let share = |topic: &&'static str| {
            let ahead = (left / self.seconds_of(topic).max(1e-9)) as usize;
            let light = ((BYTES / self.bytes_of(topic)) as usize).max(idle);
            let limit = i64::try_from(ahead.max(soon).min(light).min(part)).unwrap_or(i64::MAX);
            Share { topic, limit, ageing: None }
        };
        topics.iter().map(share).filter(|share| share.limit > 0).collect()
    }

    /// How many more messages could begin at once, or when a quick one ends: there are so many handlers that no slow
    /// message has, and none of a limited topic.
    pub(super) fn free(&self, holdings: &Holdings, is_limited: impl Fn(&str) -> bool) -> usize {
        let slow = |topic: &str| self.seconds_of(topic) >= AHEAD.as_secs_f64();
        let taken = holdings.topics().filter(|(topic, _)| is_limited(topic) || slow(topic));
        self.handlers.saturating_sub(taken.map(|(_, number)| number).sum())
    }

    /// How many handlers come free before a claim brings more; none of those whose topic is not known yet. Whoever comes free
    /// when a claim has just begun waits for its end and for the next.
    fn free_soon(&self, holdings: &Holdings) -> usize {
        let soon = (2.0 * self.claim_seconds).clamp(QUICK_CLAIM.as_secs_f64(), SLOW_CLAIM.as_secs_f64());
        let ends = |topic| self.seconds.get(topic).map_or(0.0, |mean| (soon / mean).min(1.0));
        let ends: f64 = holdings.topics().map(|(topic, number)| number as f64 * ends(topic)).sum();
        (ends as usize).min(self.handlers)
    }

    fn work_ahead(&self) -> f64 {
        self.handlers as f64 * AHEAD.as_secs_f64()
    }

    /// The seconds of handlers' time that everything held takes, of the time to claim ahead for: a long message takes
    /// all of its handler's.
    fn work(&self, holdings: &Holdings) -> f64 {
        let seconds = |topic| self.seconds_of(topic).min(AHEAD.as_secs_f64());
        holdings.topics().map(|(topic, number)| number as f64 * seconds(topic)).sum()
    }

    fn weight(&self, holdings: &Holdings) -> f64 {
        holdings.topics().map(|(topic, number)| number as f64 * self.bytes_of(topic)).sum()
    }

    fn bytes_of(&self, topic: &str) -> f64 {
        self.bytes.get(topic).copied().unwrap_or_default().max(1.0)
    }

    /// Of a topic of which nothing has ended yet, nobody knows: each handler gets one.
    fn seconds_of(&self, topic: &str) -> f64 {
        self.seconds.get(topic).copied().unwrap_or(AHEAD.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;
    use std::time::Instant;

    use super::*;
    use crate::Context;
    use crate::broker::Claimed;

    fn message(id: i64, topic: &str) -> Claimed {
        Claimed {
            id,
            topic: topic.to_owned(),
            attempt: 1,
            batch: None,
            lane: (0, 0),
            waited: Duration::ZERO,
            crashes: 0,
            max_attempts: None,
            ordering_key: None,
            headers: None,
            payload: "1".to_owned(),
            large: false,
        }
    }

    fn holding(topic: &'static str, number: i64) -> Holdings {
        let mut holdings = Holdings::default();
        for id in 0..number {
            let context = Context {
                id,
                topic,
                attempt: 1,
                max_attempts: 1,
                worker_id: 1,
                ordering_key: None,
                has_large_payload: false,
                headers: BTreeMap::new(),
                shared: Arc::default(),
            };
            holdings.add(&message(id, topic), Instant::now(), &context);
        }
        holdings
    }

    fn limits(pace: &Pace, holdings: &Holdings) -> Vec<i64> {
        pace.shares(&["quick", "slow", "new"], holdings, 0, BATCH).iter().map(|share| share.limit).collect()
    }

    #[test]
    fn quick_topics_are_claimed_far_ahead_and_slow_ones_are_not() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        pace.count("slow", Duration::from_secs(3));
        assert_eq!(limits(&pace, &Holdings::default()), [2000, 10, 10]);
        assert!(!pace.is_below(Duration::from_millis(1)));
    }

    #[test]
    fn a_handler_looks_stuck_by_what_its_topic_takes() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        pace.count("slow", Duration::from_secs(3));
        let after = |topic| pace.stuck_after(topic).as_secs();
        assert_eq!([after("quick"), after("slow"), after("new")], [60, 300, 3600]);
    }

    #[test]
    fn heavy_payloads_are_not_piled_up() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        pace.weigh("quick", &"x".repeat(1024 * 1024));
        assert_eq!(limits(&pace, &Holdings::default())[0], 10, "one for each handler, and 8 MiB");
        assert!(pace.is_enough(10, &holding("quick", 10)));
    }

    #[test]
    fn while_slow_messages_fill_every_handler_nothing_more_is_taken() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        pace.count("slow", Duration::from_secs(3));
        let holdings = holding("slow", 10);
        assert!(limits(&pace, &holdings).is_empty());
        assert!(pace.is_enough(10, &holdings));
    }

    #[test]
    fn what_takes_a_moment_longer_has_some_ahead_when_handlers_come_free() {
        let mut pace = Pace::new(100);
        pace.count("quick", Duration::from_micros(5));
        pace.count("slow", Duration::from_millis(100));
        let taken = |held| limits(&pace, &holding("slow", held)).get(1).copied().unwrap_or_default();
        assert_eq!([taken(0), taken(90), taken(100), taken(112), taken(125)], [100, 28, 20, 10, 0]);
        let enough = [100, 109, 112].map(|held| pace.is_enough(held, &holding("slow", held as i64)));
        assert_eq!(enough, [false, false, true]);
        assert!(limits(&pace, &holding("new", 100)).is_empty(), "nobody knows when one of them ends");
        (0..50).for_each(|_| pace.claim_took(Duration::from_millis(20)));
        let taken = limits(&pace, &holding("slow", 100))[1];
        assert!((39..=40).contains(&taken), "where claims are slow, as much more: {taken}");
        (0..50).for_each(|_| pace.claim_took(Duration::from_secs(1)));
        assert_eq!(limits(&pace, &holding("slow", 100))[1], 100, "one for each handler at most");
    }

    #[test]
    fn quick_topics_keep_the_handlers_that_slow_ones_leave() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        pace.count("slow", Duration::from_secs(3));
        assert_eq!(limits(&pace, &holding("slow", 8)), [2000, 2, 2]);
    }

    #[test]
    fn a_limited_topic_gets_the_handlers_that_are_free_soon() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        pace.count("slow", Duration::from_secs(3));
        let free = |holdings| pace.free(&holdings, |topic| topic == "limited");
        assert_eq!(free(Holdings::default()), 10);
        assert_eq!(free(holding("quick", 500)), 10);
        assert_eq!(
            [free(holding("slow", 8)), free(holding("new", 10)), free(holding("limited", 3))],
            [2, 0, 7]
        );
    }

    #[test]
    fn quick_messages_leave_room_for_more() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        let holdings = holding("quick", 1000);
        assert!(!pace.is_enough(1000, &holdings));
        assert!(limits(&pace, &holdings)[0] == 2000);
    }

    #[test]
    fn topics_that_have_plenty_share_a_claim_equally() {
        let mut pace = Pace::new(10);
        pace.count("quick", Duration::from_micros(5));
        pace.count("other", Duration::from_micros(5));
        let shares = |pace: &Pace| pace.shares(&["quick", "other"], &Holdings::default(), 0, BATCH);
        let of = |topic: &str, number| vec![message(0, topic); number];
        let asked = shares(&pace);
        pace.brought(&asked, &of("quick", BATCH));
        assert!(pace.has_plenty());
        assert_eq!(shares(&pace)[0].limit, 2000, "one has plenty, and may have all");
        pace.brought(&asked, &[of("quick", BATCH), of("other", BATCH)].concat());
        assert_eq!(shares(&pace).iter().map(|s| s.limit).collect::<Vec<_>>(), [1000, 1000]);
        pace.brought(&shares(&pace), &[of("quick", 1000), of("other", 3)].concat());
        assert_eq!(shares(&pace)[0].limit, 2000, "the other has no more");
        pace.brought(&asked, &[]);
        assert!(!pace.has_plenty());
    }
}
