//! Topics that have a limit: of each a worker takes no more than it can begin at once, for what it holds counts as running
//! for all workers; and it asks no more often than there is hope.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::link::Link;
use super::wake::POLL;
use crate::Result;
use crate::broker::{Among, Broker, Claimed, Reached, Share, Within};

/// However often there are news, of whatever topics, a topic that had nothing is asked for no more often.
const AGAIN: Duration = Duration::from_millis(50);
/// A limit that is reached is tried so often, for other workers free its places, and people change it.
const TRY: Duration = POLL;
/// Without any news, one of which nothing waits is tried so often.
const ANYWAY: Duration = Duration::from_secs(30);

/// The limited topics of this worker.
#[derive(Debug, Default)]
pub(super) struct Limited {
    topics: BTreeMap<&'static str, Try>,
    /// Whether these topics come before the others in this round: neither may take every handler that becomes free.
    first: bool,
}

#[derive(Debug)]
struct Try {
    /// The last one.
    last: Option<Instant>,
    /// The next one.
    next: Instant,
    reached: Option<Reached>,
}

impl Limited {
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    pub(super) fn has(&self, topic: &str) -> bool {
        self.topics.contains_key(topic)
    }

    pub(super) fn topics(&self) -> impl Iterator<Item = &'static str> {
        self.topics.keys().copied()
    }

    /// These of its topics have a limit now, and no others. Gives those that had none before, and those that have none
    /// any more.
    pub(super) fn are(&mut self, limited: &[&'static str]) -> (Vec<&'static str>, Vec<&'static str>) {
        let lifted: Vec<&str> = self.topics().filter(|topic| !limited.contains(topic)).collect();
        self.topics.retain(|topic, _| limited.contains(topic));
        let new: Vec<&str> = limited.iter().copied().filter(|topic| !self.has(topic)).collect();
        for topic in &new {
            self.topics.insert(topic, Try { last: None, next: Instant::now(), reached: None });
        }
        (new, lifted)
    }

    /// One of its messages has ended here, so its place is free.
    pub(super) fn ended(&mut self, topic: &str) {
        if let Some(of_topic) = self.topics.get_mut(topic)
            && !matches!(of_topic.reached, Some(Reached::Rate(_)))
        {
            of_topic.next = Instant::now();
        }
    }

    /// A message of any topic may be due.
    pub(super) fn woken(&mut self) {
        for of_topic in self.topics.values_mut().filter(|of_topic| of_topic.reached.is_none()) {
            let again = of_topic.last.map_or_else(Instant::now, |last| last + AGAIN);
            of_topic.next = of_topic.next.min(again);
        }
    }

    /// When to try next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.topics.values().map(|of_topic| of_topic.next).min()
    }

    /// Whether it is time to try, and before the other topics: every other time.
    pub(super) fn come_first(&mut self) -> bool {
        if self.next().is_none_or(|next| next > Instant::now()) {
            return false;
        }
        self.first = !self.first;
        self.first
    }

    /// Those that are to be tried now, the one that was not for longest first.
    pub(super) fn to_try(&self) -> Vec<&'static str> {
        let now = Instant::now();
        let mut topics: Vec<_> = self.topics.iter().filter(|(_, of_topic)| of_topic.next <= now).collect();
        topics.sort_by_key(|(_, of_topic)| of_topic.last);
        topics.into_iter().map(|(topic, _)| *topic).collect()
    }

    /// Not to be tried for a while.
    pub(super) fn rest(&mut self, topic: &str) {
        if let Some(of_topic) = self.topics.get_mut(topic) {
            of_topic.next = Instant::now() + TRY;
        }
    }

    /// Takes what is due and has room in the limit.
    pub(super) fn claim(
        &mut self,
        link: &mut Link,
        worker_id: i64,
        share: Share<'static>,
    ) -> Result<Vec<Claimed>> {
        // A look costs less than the lock of the limit.
        let (due, within) = link.call(move |broker| {
            let due = broker.next_due(&[share.topic])?;
            let is_due = due == Some(Duration::ZERO);
            let claim =
                is_due.then(|| broker.claim_limited(worker_id, &share, Among::Ordinary)).transpose()?;
            let mut within = claim.unwrap_or_default();
            broker.fetch_payloads(&mut within.claimed)?;
            Ok((due, within))
        })?;
        let Within { claimed, in_line, reached } = within;
        if let Some(of_topic) = self.topics.get_mut(share.topic) {
            let now = Instant::now();
            of_topic.last = Some(now);
            of_topic.reached = reached;
            of_topic.next = now
                + match (reached, due) {
                    (Some(Reached::Rate(wait)), _) => wait.min(TRY),
                    (Some(Reached::Running), _) => TRY,
                    _ if claimed.len() + in_line > 0 => Duration::ZERO,
                    // Due, but others hold their rows, for moments.
                    (None, Some(Duration::ZERO)) => AGAIN,
                    (None, due) => due.map_or(ANYWAY, |due| due.min(ANYWAY)),
                };
        }
        Ok(claimed)
    }
}

/// Takes of what deaths have left of these topics, up to `limit` messages.
pub(super) fn claim_left(
    broker: &mut dyn Broker,
    worker_id: i64,
    topics: &[&str],
    among: Among,
    limit: i64,
) -> Result<Vec<Claimed>> {
    let mut claimed: Vec<Claimed> = Vec::new();
    for topic in topics {
        let left = limit.saturating_sub(i64::try_from(claimed.len()).unwrap_or(i64::MAX));
        if left <= 0 {
            break;
        }
        let share = Share { topic, limit: left, ageing: None };
        claimed.extend(broker.claim_limited(worker_id, &share, among)?.claimed);
    }
    Ok(claimed)
}
