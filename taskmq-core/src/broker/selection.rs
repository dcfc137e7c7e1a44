//! The messages that a person means: all that have something in common, walked through page by page.

use std::collections::HashSet;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Action, Broker, Changed, Condition, InLine, Lane, NoteId, Noted, Place, ProducedMessage, Span, Summary,
};
use crate::{MessageId, Result, State};

/// So many lanes (topics times priorities) are looked at; more is no use of topics that anybody has.
const LANES: usize = 100_000;

/// So many held messages are looked at; there are as many as workers run at once.
const HELD: i64 = 10_000;

/// So many payloads are looked into at once,
const PAYLOADS: usize = 50;
/// if they are no longer than this: what is longer is not looked into.
const LONGEST: i64 = 1 << 20;

/// So far the order by id and that by time may differ: a statement that produces takes its time once, and ids as it goes.
const DISORDER: TimeDelta = TimeDelta::hours(1);
/// A way of no more ids than this is walked, whatever the times are.
const SHORT: i64 = 10_000;

/// What messages have in common. What is not given does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The state; without one all messages are meant, the one that was produced last first.
    pub state: Option<State>,
    /// The topic.
    pub topic: Option<String>,
    /// The unique key. Live messages that have it are found by an index.
    pub unique_key: Option<String>,
    /// The ordering key. No index has it, so it is looked for as a text is.
    pub ordering_key: Option<String>,
    /// A text in the payload, headers, a key or the error.
    pub text: Option<String>,
    /// What the payload has at some path; payloads of more than a mebibyte are not looked into.
    pub condition: Option<Condition>,
    /// The [`error_shape`] of finished messages.
    pub error: Option<String>,
    /// No earlier than this they finished, where a finished state is meant, are due, where a live one is, and were
    /// produced, where all are.
    pub since: Option<DateTime<Utc>>,
    /// And earlier than this.
    pub before: Option<DateTime<Utc>>,
    /// Scheduled and retrying messages were also produced earlier than this; see [`Self::as_of`].
    pub produced_before: Option<DateTime<Utc>>,
}

impl Selection {
    /// All messages in a state.
    pub fn of(state: State) -> Self {
        Self { state: Some(state), ..Self::default() }
    }

    /// A walk through them from the beginning.
    ///
    /// ```no_run
    /// # #[cfg(feature = "sqlite")] {
    /// use taskmq_core::broker::Selection;
    /// use taskmq_core::{AnyConnection, BrokerConnection, State};
    ///
    /// let mut conn = AnyConnection::establish("app.db")?;
    /// let mut walk = Selection::of(State::Dead).walk();
    /// while let Some(page) = walk.next(conn.broker(), 500)? {
    ///     println!("{} dead messages", page.len());
    /// }
    /// # }
    /// # Ok::<(), taskmq_core::Error>(())
    /// ```
    pub fn walk(self) -> Walk {
        self.walk_from(Spot::Start)
    }

    /// A walk through those behind this spot.
    pub fn walk_from(self, spot: Spot) -> Walk {
        Walk { selection: self, spot, began: None, lanes: None, looked_at: 0, met_keys: false, took: false }
    }

    /// What it means now, for what is asked first and done later: ready messages that become due, finished ones that
    /// finish, and scheduled and retrying ones that are produced from now on are left out. The times of the latter lie ahead,
    /// so they do not tell.
    pub fn as_of(mut self, now: DateTime<Utc>) -> Self {
        // SQLite has milliseconds.
        let now = now.checked_add_signed(TimeDelta::milliseconds(1)).unwrap_or(now);
        let bound = match self.state {
            Some(State::Scheduled | State::Retrying) => &mut self.produced_before,
            Some(state) if state.is_finished() || state == State::Ready => &mut self.before,
            _ => return self,
        };
        *bound = Some(bound.map_or(now, |before| before.min(now)));
        self
    }

    fn has_topic(&self, topic: &str) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
    }

    fn has_time(&self, at: DateTime<Utc>) -> bool {
        self.since.is_none_or(|since| at >= since) && self.before.is_none_or(|before| at < before)
    }

    /// Whether a live message is in this state, and was produced in time.
    fn has_live(&self, state: State, message: &Summary) -> bool {
        message.state == state && self.produced_before.is_none_or(|before| message.created_at < before)
    }

    /// The part of the span that is in its time.
    fn within(&self, mut span: Span) -> Span {
        // No place is left out at the lower end, and all of that time at the upper one.
        span.from = span.from.max(self.since.map_or(span.from, Place::before));
        span.to = span.to.min(self.before.map_or(span.to, Place::before));
        span
    }
}

/// As the audit log says it: `all dead, text "timeout"`. The topic has a column of its own there.
impl fmt::Display for Selection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("all")?;
        if let Some(state) = self.state {
            write!(f, " {state}")?;
        }
        let quoted = [
            ("key", &self.unique_key),
            ("ordering key", &self.ordering_key),
            ("text", &self.text),
            ("error", &self.error),
        ];
        for (what, text) in quoted {
            if let Some(text) = text {
                write!(f, ", {what} {text:?}")?;
            }
        }
        if let Some(condition) = &self.condition {
            write!(f, ", payload {condition}")?;
        }
        let times =
            [("since", self.since), ("before", self.before), ("produced before", self.produced_before)];
        for (what, at) in times {
            if let Some(at) = at {
                write!(f, ", {what} {at}")?;
            }
        }
        Ok(())
    }
}

/// The beginning of an error without its numbers, which messages that failed for the same reason share.
///
/// ```
/// use taskmq_core::broker::error_shape;
/// assert_eq!(error_shape("timeout after 31 s\nat ..."), error_shape("timeout after 9 s"));
/// ```
pub fn error_shape(error: &str) -> String {
    const CHARS: usize = 160;
    let line = error.trim_start().lines().next().unwrap_or_default();
    let mut shape = String::new();
    for c in line.chars().take(CHARS) {
        match c {
            '0'..='9' if shape.ends_with('#') => {}
            '0'..='9' => shape.push('#'),
            c => shape.push(c),
        }
    }
    shape.trim_end().to_owned()
}

/// Where a walk stands. As text it fits into a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// Before all.
    Start,
    /// Behind this one of the live messages that have the unique key.
    Keyed(MessageId),
    /// Behind this one of all messages.
    Produced(MessageId),
    /// Behind this one of the waiting messages.
    Waiting(Lane, Place),
    /// Behind this one of those that wait for the turn of their ordering key; `None`: before them.
    InLine(Option<InLine>),
    /// Behind this one of the finished messages.
    Finished(Place),
    /// Behind all.
    End,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spot::Start => Ok(()),
            Spot::Keyed(id) => write!(f, "k.{id}"),
            Spot::Produced(id) => write!(f, "p.{id}"),
            Spot::Waiting(lane, place) => {
                let micros = place.at.timestamp_micros();
                write!(f, "w.{}.{micros}.{}.{}", lane.priority, place.id, lane.topic)
            }
            Spot::InLine(None) => f.write_str("l"),
            Spot::InLine(Some(InLine { line, lane, place })) => {
                let micros = place.at.timestamp_micros();
                write!(f, "l.{line}.{}.{micros}.{}.{}", lane.priority, place.id, lane.topic)
            }
            Spot::Finished(place) => write!(f, "f.{}.{}", place.at.timestamp_micros(), place.id),
            Spot::End => f.write_str("end"),
        }
    }
}

/// What is no spot is the start.
impl FromStr for Spot {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> std::result::Result<Self, Self::Err> {
        Ok(parse(text).unwrap_or(Spot::Start))
    }
}

fn parse(text: &str) -> Option<Spot> {
    match text {
        "end" => return Some(Spot::End),
        "l" => return Some(Spot::InLine(None)),
        _ => {}
    }
    let all = Span::everything(1);
    let place = |at: &str, id: &str| {
        let at = DateTime::from_timestamp_micros(at.parse().ok()?)?;
        (all.from.at..=all.to.at).contains(&at).then_some(Place { at, id: id.parse().ok()? })
    };
    let waiting = |text: &str| {
        let mut parts = text.splitn(4, '.');
        let (priority, at, id) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
        Some((Lane { topic: parts.next()?.to_owned(), priority }, place(at, id)?))
    };
    let (kind, rest) = text.split_once('.')?;
    match kind {
        "k" => rest.parse().ok().map(Spot::Keyed),
        "p" => rest.parse().ok().map(Spot::Produced),
        "f" => {
            let (at, id) = rest.split_once('.')?;
            place(at, id).map(Spot::Finished)
        }
        "l" => {
            let (line, rest) = rest.split_once('.')?;
            let (lane, place) = waiting(rest)?;
            Some(Spot::InLine(Some(InLine { line: line.parse().ok()?, lane, place })))
        }
        "w" => waiting(rest).map(|(lane, place)| Spot::Waiting(lane, place)),
        _ => None,
    }
}

/// A message of a selection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its id.
    pub id: MessageId,
    /// Where to go on behind it.
    pub spot: Spot,
}

/// A walk through a selection. Each page begins behind the one before, so what is done to a page neither hides messages
/// nor shows them twice; but for one that is called up to the turn of its ordering key to a place that was passed already, which
/// [`change`](Self::change) goes back for.
#[derive(Clone, Debug)]
pub struct Walk {
    selection: Selection,
    spot: Spot,
    /// What is made due while this runs is not met again at the place where it waits then.
    began: Option<DateTime<Utc>>,
    lanes: Option<Vec<Lane>>,
    looked_at: usize,
    /// Since it began, or began anew: messages that may have the turn of their ordering keys were met,
    met_keys: bool,
    /// and some were taken away.
    took: bool,
}

impl Walk {
    /// Those that are meant among the next `limit` messages, perhaps none of them; `None` at the end.
    ///
    /// # Errors
    /// What the database reports.
    pub fn next(&mut self, broker: &mut dyn Broker, limit: i64) -> Result<Option<Vec<Found>>> {
        if self.spot == Spot::End {
            return Ok(None);
        }
        let by_key = matches!(self.spot, Spot::Start | Spot::Keyed(_));
        let found = match (self.selection.state, self.selection.unique_key.clone()) {
            (Some(state), Some(key)) if !state.is_finished() => self.keyed(broker, &key, limit)?,
            (None, Some(key)) if by_key => self.keyed(broker, &key, limit)?,
            (None, _) => self.produced(broker, limit)?,
            (Some(State::Running), _) => self.held(broker)?,
            (Some(state), _) if state.is_finished() => self.finished(broker, state, limit)?,
            (Some(state), _) => self.waiting(broker, state, limit)?,
        };
        if found.is_empty() && self.spot == Spot::End {
            return Ok(None);
        }
        self.meant(broker, found).map(Some)
    }

    /// Changes those that are meant among the next `limit` messages, perhaps none of them, and notes it; `None` at the end. To stop
    /// between two such steps loses nothing. (What runs is one step, in transactions of `limit` messages.)
    ///
    /// # Errors
    /// What the database reports.
    pub fn change(
        &mut self,
        broker: &mut dyn Broker,
        limit: i64,
        action: &Action,
        note: NoteId,
    ) -> Result<Option<Changed>> {
        let Some(found) = self.next(broker, limit)? else {
            // Whatever waited for the turn of what was taken away may stand anywhere now.
            let again = self.met_keys && self.took;
            (self.met_keys, self.took) = (false, false);
            if again {
                (self.spot, self.lanes) = (Spot::Start, None);
            }
            return Ok(again.then(Changed::default));
        };
        if found.is_empty() {
            return Ok(Some(Changed::default()));
        }
        let ids: Vec<MessageId> = found.iter().map(|found| found.id).collect();
        let mut changed = Changed::default();
        // Those that run are found all at once.
        for ids in ids.chunks(usize::try_from(limit).unwrap_or(usize::MAX).max(1)) {
            let more = broker.change(action, ids, Noted::Under(note))?;
            changed.changed.extend(more.changed);
            changed.asked.extend(more.asked);
            changed.refused.extend(more.refused);
        }
        self.took |= matches!(action, Action::Cancel | Action::Delete) && !changed.changed.is_empty();
        Ok(Some(changed))
    }

    /// Those of them that also have in them what is sought.
    fn meant(&self, broker: &mut dyn Broker, mut found: Vec<Found>) -> Result<Vec<Found>> {
        let ids = |found: &[Found]| found.iter().map(|found| found.id).collect::<Vec<MessageId>>();
        if let (Some(text), false) = (&self.selection.text, found.is_empty()) {
            let having = broker.summaries(&ids(&found), Some(text))?;
            let having: HashSet<MessageId> = having.iter().map(|message| message.id).collect();
            found.retain(|found| having.contains(&found.id));
        }
        if let (Some(key), false) = (&self.selection.ordering_key, found.is_empty()) {
            let having = broker.summaries(&ids(&found), Some(key))?;
            let having = having.iter().filter(|message| message.ordering_key.as_ref() == Some(key));
            let having: HashSet<MessageId> = having.map(|message| message.id).collect();
            found.retain(|found| having.contains(&found.id));
        }
        if let Some(condition) = &self.selection.condition {
            let mut having = HashSet::new();
            for ids in ids(&found).chunks(PAYLOADS) {
                let payloads = broker.payloads(ids, LONGEST)?;
                having.extend(
                    payloads.iter().filter(|(_, payload)| condition.holds(payload)).map(|(id, _)| *id),
                );
            }
            found.retain(|found| having.contains(&found.id));
        }
        Ok(found)
    }

    /// How many messages it has looked at so far.
    pub fn looked_at(&self) -> usize {
        self.looked_at
    }

    /// Where the next page begins.
    pub fn spot(&self) -> &Spot {
        &self.spot
    }

    /// Live ones that have the key.
    fn keyed(&mut self, broker: &mut dyn Broker, key: &str, limit: i64) -> Result<Vec<Found>> {
        let last = if let Spot::Keyed(id) = self.spot { id } else { MessageId::MIN };
        let mut ids = broker.keyed(key, self.selection.topic.as_deref())?;
        ids.retain(|id| *id > last);
        ids.sort_unstable();
        ids.truncate(usize::try_from(limit).unwrap_or_default());
        self.looked_at += ids.len();
        let state = self.selection.state;
        self.spot = match (ids.last(), state) {
            (Some(id), _) => Spot::Keyed(*id),
            (None, None) => Spot::Produced(MessageId::MAX),
            (None, Some(_)) => Spot::End,
        };
        let mut meant: Vec<MessageId> = broker
            .summaries(&ids, None)?
            .iter()
            .filter(|message| {
                let at = if state.is_none() { message.created_at } else { message.run_at };
                state.is_none_or(|state| self.selection.has_live(state, message))
                    && self.selection.has_time(at)
            })
            .map(|message| message.id)
            .collect();
        meant.sort_unstable();
        Ok(meant.into_iter().map(|id| Found { id, spot: Spot::Keyed(id) }).collect())
    }

    /// Those of these finished ones that have the key, if one is sought.
    fn with_key(&self, broker: &mut dyn Broker, mut found: Vec<Found>) -> Result<Vec<Found>> {
        if let (Some(key), false) = (&self.selection.unique_key, found.is_empty()) {
            let ids: Vec<MessageId> = found.iter().map(|found| found.id).collect();
            let having: HashSet<MessageId> = broker
                .summaries(&ids, Some(key))?
                .iter()
                .filter(|message| message.state.is_finished() && message.unique_key.as_ref() == Some(key))
                .map(|message| message.id)
                .collect();
            found.retain(|found| having.contains(&found.id));
        }
        Ok(found)
    }

    fn produced(&mut self, broker: &mut dyn Broker, limit: i64) -> Result<Vec<Found>> {
        let below = match (&self.spot, self.selection.before) {
            // Behind live ones that have the key, the walk begins, too.
            (Spot::Produced(id), _) if *id < MessageId::MAX => *id,
            (_, Some(before)) => last_before(broker, before.checked_add_signed(DISORDER).unwrap_or(before))?,
            (_, None) => MessageId::MAX,
        };
        let page = broker.newest(below, limit)?;
        self.looked_at += page.len();
        let since = self.selection.since.map(|since| since.checked_sub_signed(DISORDER).unwrap_or(since));
        let too_old = |last: &ProducedMessage| since.is_some_and(|since| last.created_at < since);
        self.spot = match page.last() {
            Some(last) if !too_old(last) => Spot::Produced(last.id),
            _ => Spot::End,
        };
        let meant = page.iter().filter(|message| {
            self.selection.has_topic(&message.topic) && self.selection.has_time(message.created_at)
        });
        let meant = meant.map(|message| Found { id: message.id, spot: Spot::Produced(message.id) }).collect();
        self.with_key(broker, meant)
    }

    fn held(&mut self, broker: &mut dyn Broker) -> Result<Vec<Found>> {
        let mut held = broker.held(HELD)?;
        held.sort_unstable_by_key(|message| message.id);
        self.looked_at += held.len();
        self.spot = Spot::End;
        let leased = held.iter().filter(|message| message.worker_id.is_some());
        let meant = leased.filter(|message| {
            self.selection.has_topic(&message.topic) && self.selection.has_time(message.run_at)
        });
        Ok(meant.map(|message| Found { id: message.id, spot: Spot::End }).collect())
    }

    fn finished(&mut self, broker: &mut dyn Broker, state: State, limit: i64) -> Result<Vec<Found>> {
        let mut span = self.selection.within(Span::everything(limit));
        if let Spot::Finished(place) = self.spot {
            span.to = place;
        }
        let page = broker.finished(state, &span)?;
        self.looked_at += page.len();
        self.spot = page.last().map_or(Spot::End, |last| Spot::Finished(last.place()));
        let meant = page.iter().filter(|message| {
            let same = |shape: &String| error_shape(message.error.as_deref().unwrap_or_default()) == *shape;
            self.selection.has_topic(&message.topic) && self.selection.error.as_ref().is_none_or(same)
        });
        let meant =
            meant.map(|message| Found { id: message.id, spot: Spot::Finished(message.place()) }).collect();
        self.with_key(broker, meant)
    }

    fn waiting(&mut self, broker: &mut dyn Broker, state: State, limit: i64) -> Result<Vec<Found>> {
        if let Spot::InLine(behind) = &self.spot {
            let page = broker.in_line(behind.as_ref(), limit)?;
            return Ok(self.in_line(page));
        }
        let Some(lane) = self.lane(broker)? else {
            // All that stand in line are due.
            self.spot = if state == State::Ready { Spot::InLine(None) } else { Spot::End };
            return Ok(Vec::new());
        };
        let began = match self.began {
            Some(began) => began,
            None => *self.began.insert(broker.now()?),
        };
        let mut span = Span::everything(limit);
        if state == State::Ready {
            span.to = Place::after(began);
        } else {
            span.from = Place::after(began);
        }
        span = self.selection.within(span);
        if let Spot::Waiting(_, place) = self.spot {
            span.from = span.from.max(place);
        }
        let places = broker.waiting(&lane, &span)?;
        self.looked_at += places.len();
        let Some(last) = places.last() else {
            // Behind the last one of this lane.
            self.spot = Spot::Waiting(lane, Span::everything(limit).to);
            if let Some(lanes) = &mut self.lanes {
                lanes.pop();
            }
            return Ok(Vec::new());
        };
        self.spot = Spot::Waiting(lane.clone(), *last);
        let ids: Vec<MessageId> = places.iter().map(|place| place.id).collect();
        let summaries = broker.summaries(&ids, None)?;
        let meant: Vec<&Summary> = summaries.iter().filter(|m| self.selection.has_live(state, m)).collect();
        self.met_keys |= state == State::Ready && meant.iter().any(|message| message.ordering_key.is_some());
        let meant: HashSet<MessageId> = meant.into_iter().map(|message| message.id).collect();
        let meant = places.into_iter().filter(|place| meant.contains(&place.id));
        Ok(meant.map(|place| Found { id: place.id, spot: Spot::Waiting(lane.clone(), place) }).collect())
    }

    fn in_line(&mut self, page: Vec<InLine>) -> Vec<Found> {
        self.looked_at += page.len();
        self.spot = page.last().map_or(Spot::End, |last| Spot::InLine(Some(last.clone())));
        let meant = page.into_iter().filter(|message| {
            self.selection.has_topic(&message.lane.topic) && self.selection.has_time(message.place.at)
        });
        meant.map(|message| Found { id: message.place.id, spot: Spot::InLine(Some(message)) }).collect()
    }

    /// The lane where the walk stands; they are kept last first.
    fn lane(&mut self, broker: &mut dyn Broker) -> Result<Option<Lane>> {
        if self.lanes.is_none() {
            let mut lanes = match &self.selection.topic {
                Some(topic) => broker.lanes_of(topic)?,
                None => broker.lanes(LANES)?,
            };
            if let Spot::Waiting(at, _) = &self.spot {
                lanes.retain(|lane| (&lane.topic, at.priority) >= (&at.topic, lane.priority));
            }
            lanes.reverse();
            self.lanes = Some(lanes);
        }
        let lane = self.lanes.as_ref().and_then(|lanes| lanes.last()).cloned();
        if let Spot::Waiting(at, _) = &self.spot
            && lane.as_ref() != Some(at)
        {
            // The one where it stood is done with.
            self.spot = Spot::Start;
        }
        Ok(lane)
    }
}

/// An id below which are all messages that were produced until then, and few others: found by halving.
fn last_before(broker: &mut dyn Broker, time: DateTime<Utc>) -> Result<MessageId> {
    let mut later =
        |below| Ok::<_, crate::Error>(broker.newest(below, 1)?.pop().filter(|m| m.created_at > time));
    let Some(newest) = later(MessageId::MAX)? else { return Ok(MessageId::MAX) };
    // The last message below `earlier` is not later, the last one below `end` is.
    let (mut earlier, mut end) = (MessageId::MIN, newest.id.saturating_add(1));
    while end.saturating_sub(earlier) > 1 {
        let middle = MessageId::midpoint(earlier, end);
        match later(middle)? {
            None => earlier = middle,
            Some(message) => end = message.id.saturating_add(1),
        }
    }
    let is_short = newest.id.saturating_sub(earlier) < SHORT;
    Ok(if is_short { MessageId::MAX } else { earlier })
}
