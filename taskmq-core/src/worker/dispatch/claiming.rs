//! When to claim and what, and handing it to the executors.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::settling::Brought;
use super::{Dispatcher, link_of};
use crate::broker::{Among, Blame, Claimed, Exchanged, Outcome, Settlement};
use crate::worker::executors::{Finished, context};
use crate::worker::limited::claim_left;
use crate::worker::link::Order;
use crate::worker::pace::BATCH;
use crate::{Backend, Result};

/// While an attempt takes less than this, messages are leased in batches.
const MOMENTS: Duration = Duration::from_millis(1);
/// A worker that is never idle finishes all it has after this long, when a message waits to run alone.
const ALONE_AT_LAST: Duration = Duration::from_secs(2);
/// So many suspected messages are held at once: all that the next death can leave to run alone;
const SUSPECTS: usize = 10;
/// without any others for so long.
const SUSPECTED: Duration = Duration::from_secs(10);

impl Dispatcher<'_> {
    pub(super) fn wants_more(&mut self) -> bool {
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
        if self.maybe_due {
            self.limited.woken();
        }
        self.maybe_due && !self.pace.is_enough(held, &self.holdings)
    }

    /// Whether a death has left something that comes before ordinary messages, and wants no company.
    pub(super) fn holds_off(&self) -> bool {
        let idle = self.holdings.len() == self.finished.len();
        let its_turn = idle || self.busy_since.elapsed() > ALONE_AT_LAST;
        self.alone.is_some() && !idle
            || self.set_aside() && its_turn
            || self.suspects() && self.tries_suspects()
    }

    /// Those that end their process do so soon. Where as many as there may be run on, what waits does not wait for them.
    fn tries_suspects(&self) -> bool {
        self.holdings.suspects() < SUSPECTS || self.suspects_since.elapsed() < SUSPECTED
    }

    fn room_for_suspects(&self) -> usize {
        let idle = self.setup.concurrency.saturating_sub(self.holdings.len());
        SUSPECTS.saturating_sub(self.holdings.suspects()).min(idle)
    }

    pub(super) fn set_aside(&self) -> bool {
        self.liveness.doubts.set_aside.load(Ordering::Acquire)
    }

    pub(super) fn suspects(&self) -> bool {
        self.liveness.doubts.suspects.load(Ordering::Acquire)
    }

    pub(super) fn claim(&mut self) -> Result<()> {
        if self.finished.is_empty() && self.handed_back.is_empty() && self.setup.backend == Backend::Sqlite {
            // On SQLite a look costs far less than the write lock that a claim takes.
            self.look_for_due()?;
            if !self.maybe_due {
                return Ok(());
            }
        }
        let topics = self.topics_in_turn();
        if topics.is_empty() {
            // Whatever was to be due is paused or limited by now.
            (self.maybe_due, self.due_at, self.gave_way) = (false, None, 0);
            return self.exchange(None).map(drop);
        }
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
        let order = Order { worker_id: self.worker.id, topics: shares, limit, as_batch, after };
        let began = Instant::now();
        self.wake.rest_or_rise(link_of(&mut self.link)?.conn())?;
        let Brought { messages: brought, in_line, busy } = self.exchange(Some(order))?;
        self.pace.claim_took(began.elapsed());
        if busy {
            self.give_way();
            return Ok(());
        }
        self.gave_way = 0;
        if brought < wanted && !self.pace.has_plenty() {
            if going_on {
                self.due_at = self.lanes.going_on_until().or(Some(began));
                self.maybe_due = false;
            } else {
                self.look_for_due()?;
                self.hold_back(brought + in_line);
            }
        }
        Ok(())
    }

    /// Hands what a claim brought to the executors. Gives those messages that wait until all that has
    /// ended is written: whose former attempt is among that, and all while a message is to run alone.
    pub(super) fn receive(&mut self, order: &Order, exchanged: Exchanged) -> (Brought, Vec<Claimed>) {
        let Exchanged { claimed, in_line, busy, searched, .. } = exchanged;
        let brought = Brought { messages: claimed.len(), in_line, busy };
        if busy {
            return (brought, Vec::new());
        }
        self.pace.brought(&order.topics, &claimed);
        if self.setup.backend == Backend::Postgres {
            let ordered = in_line > 0 || claimed.iter().any(|message| message.ordering_key.is_some());
            self.lanes.claimed(&claimed, searched, order.after.is_empty(), ordered);
        }
        self.setup.meters.claim_messages.record(u32::try_from(brought.messages).unwrap_or(u32::MAX));
        self.wake.saw(brought.messages);
        let (waiting, new): (Vec<Claimed>, Vec<Claimed>) = in_turns(claimed)
            .into_iter()
            .partition(|message| self.alone.is_some() || self.holdings.topic_of(message.id).is_some());
        let now = Instant::now();
        new.into_iter().for_each(|message| self.assign(message, now));
        (brought, waiting)
    }

    /// Claims again in a moment, ever later, and by chance, so that they do not all come back together. What ends
    /// meanwhile is settled.
    fn give_way(&mut self) {
        let pause = Duration::from_millis(4 << self.gave_way.min(6)).mul_f64(0.5 + fastrand::f64());
        self.gave_way += 1;
        self.due_at = Some(Instant::now() + pause);
        self.maybe_due = false;
    }

    /// What is due and was not to be had somebody has locked, or it has just come: it is tried again in a moment, ever later.
    fn hold_back(&mut self, met: usize) {
        if !self.maybe_due || met > 0 {
            self.in_vain = 0;
            return;
        }
        self.maybe_due = false;
        self.due_at = Some(Instant::now() + Duration::from_millis(1 << self.in_vain.min(8)));
        self.in_vain += 1;
    }

    /// Those that are neither paused nor limited.
    fn topics(&self) -> Vec<&'static str> {
        let free = |topic: &&'static str| !self.paused.contains(topic) && !self.limited.has(topic);
        self.setup.topics().into_iter().filter(free).collect()
    }

    fn topics_in_turn(&mut self) -> Vec<&'static str> {
        let mut topics = self.topics();
        let places = topics.len().max(1);
        topics.rotate_left(self.turn % places);
        self.turn = (self.turn + 1) % places;
        topics
    }

    pub(super) fn look_for_due(&mut self) -> Result<()> {
        let topics = self.topics();
        self.looked = Instant::now();
        let due = link_of(&mut self.link)?.call(move |broker| broker.next_due(&topics))?;
        self.due_at = due.map(|wait| Instant::now() + wait);
        self.maybe_due = due == Some(Duration::ZERO);
        Ok(())
    }

    pub(super) fn claim_alone(&mut self) -> Result<()> {
        let (topics, limited) = (self.topics(), self.limited_topics());
        let worker_id = self.worker.id;
        let claimed = link_of(&mut self.link)?.call(move |broker| {
            let mut claimed = broker.claim_alone(worker_id, &topics)?;
            if claimed.is_none() {
                claimed = claim_left(broker, worker_id, &limited, Among::SetAside, 1)?.into_iter().next();
            }
            broker.fetch_payloads(claimed.as_mut_slice())?;
            Ok(claimed)
        })?;
        match claimed {
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

    pub(super) fn claim_suspects(&mut self) -> Result<()> {
        let room = self.room_for_suspects();
        if room == 0 {
            return Ok(());
        }
        let (topics, limited) = (self.topics(), self.limited_topics());
        let limit = i64::try_from(room).unwrap_or(i64::MAX);
        let worker_id = self.worker.id;
        let claimed = link_of(&mut self.link)?.call(move |broker| {
            let mut claimed = broker.claim_suspects(worker_id, &topics, limit)?;
            let left = limit - i64::try_from(claimed.len()).unwrap_or(limit);
            claimed.extend(claim_left(broker, worker_id, &limited, Among::Suspects, left)?);
            broker.fetch_payloads(&mut claimed)?;
            Ok(claimed)
        })?;
        if claimed.len() < room {
            self.liveness.doubts.suspects.store(false, Ordering::Release);
        }
        if !claimed.is_empty() {
            self.suspects_since = Instant::now();
        }
        for message in claimed {
            self.holdings.suspect(message.id);
            self.assign(message, Instant::now());
        }
        Ok(())
    }

    /// Gives a message that came at this time to its handler.
    pub(super) fn assign(&mut self, claimed: Claimed, since: Instant) {
        let Some(metered) = self.setup.consumers.get(&*claimed.topic) else { return };
        let consumer = &metered.consumer;
        let context = context(&claimed, consumer, self.worker.id);
        self.holdings.add(&claimed, since, &context);
        self.pace.weigh(consumer.topic, &claimed.payload);
        if context.attempt() > context.max_attempts() {
            // Its last attempts ended no handler but the whole process, so nobody could bury it then.
            let error = format!(
                "its attempts are used up ({} at most): {} times the worker process died while it held this message",
                context.max_attempts(),
                claimed.crashes
            );
            self.finished.push(Finished {
                id: claimed.id,
                metered: Arc::clone(metered),
                attempt: context.attempt() - 1, // this one is not used
                max_attempts: context.max_attempts(),
                took: None,
                shown: true,
                tied: claimed.tied(),
                settlement: Some(Settlement {
                    id: claimed.id,
                    attempt: claimed.attempt,
                    batch: claimed.batch,
                    tied: claimed.tied(),
                    outcome: Outcome::Dead { kind: None, error },
                    log: Vec::new(),
                }),
            });
            return;
        }
        self.executors.assign(claimed, since, metered, context);
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
