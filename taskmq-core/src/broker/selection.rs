//! The messages that a person means: all that have something in common, walked through page by page.

use std::collections::HashMap;
use std::fmt;
use std::str::FromStr;

use chrono::{DateTime, Utc};

use super::{Broker, Lane, Place, Span};
use crate::{MessageId, Result, State};

/// So many lanes (topics times priorities) are looked at; more is no use of topics that anybody has.
const LANES: usize = 100_000;

/// So many held messages are looked at; there are as many as workers run at once.
const HELD: i64 = 10_000;

/// What messages have in common. What is not given does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selection {
    /// The state; without one all messages are meant, the one that was produced last first.
    pub state: Option<State>,
    /// The topic.
    pub topic: Option<String>,
    /// A text in the payload, headers, unique key or error.
    pub text: Option<String>,
    /// The [`error_shape`] of finished messages.
    pub error: Option<String>,
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
        Walk { selection: self, spot, began: None, lanes: None }
    }

    fn has_topic(&self, topic: &str) -> bool {
        self.topic.as_deref().is_none_or(|wanted| wanted == topic)
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
    /// Behind this one of all messages.
    Produced(MessageId),
    /// Behind this one of the waiting messages.
    Waiting(Lane, Place),
    /// Behind this one of the finished messages.
    Finished(Place),
    /// Behind all.
    End,
}

impl fmt::Display for Spot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Spot::Start => Ok(()),
            Spot::Produced(id) => write!(f, "p.{id}"),
            Spot::Waiting(lane, place) => {
                let micros = place.at.timestamp_micros();
                write!(f, "w.{}.{micros}.{}.{}", lane.priority, place.id, lane.topic)
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
    if text == "end" {
        return Some(Spot::End);
    }
    let place = |at: &str, id: &str| {
        let at = DateTime::from_timestamp_micros(at.parse().ok()?)?;
        ends().contains(&at).then_some(Place { at, id: id.parse().ok()? })
    };
    let (kind, rest) = text.split_once('.')?;
    match kind {
        "p" => rest.parse().ok().map(Spot::Produced),
        "f" => {
            let (at, id) = rest.split_once('.')?;
            place(at, id).map(Spot::Finished)
        }
        "w" => {
            let mut parts = rest.splitn(4, '.');
            let (priority, at, id) = (parts.next()?.parse().ok()?, parts.next()?, parts.next()?);
            let place = place(at, id)?;
            Some(Spot::Waiting(Lane { topic: parts.next()?.to_owned(), priority }, place))
        }
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
/// nor shows them twice.
#[derive(Clone, Debug)]
pub struct Walk {
    selection: Selection,
    spot: Spot,
    /// What is made due while this runs is not met again at the place where it waits then.
    began: Option<DateTime<Utc>>,
    lanes: Option<Vec<Lane>>,
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
        let found = match self.selection.state {
            None => self.produced(broker, limit)?,
            Some(State::Running) => self.held(broker)?,
            Some(state) if state.is_finished() => self.finished(broker, state, limit)?,
            Some(state) => self.waiting(broker, state, limit)?,
        };
        match &self.selection.text {
            Some(text) if !found.is_empty() => {
                let ids: Vec<MessageId> = found.iter().map(|f| f.id).collect();
                let having: Vec<MessageId> =
                    broker.summaries(&ids, Some(text))?.iter().map(|s| s.id).collect();
                Ok(Some(found.into_iter().filter(|f| having.contains(&f.id)).collect()))
            }
            _ if found.is_empty() && self.spot == Spot::End => Ok(None),
            _ => Ok(Some(found)),
        }
    }

    /// Where the next page begins.
    pub fn spot(&self) -> &Spot {
        &self.spot
    }

    fn produced(&mut self, broker: &mut dyn Broker, limit: i64) -> Result<Vec<Found>> {
        let below = if let Spot::Produced(id) = self.spot { id } else { MessageId::MAX };
        let page = broker.newest(below, limit)?;
        self.spot = page.last().map_or(Spot::End, |last| Spot::Produced(last.id));
        let meant = page.iter().filter(|message| self.selection.has_topic(&message.topic));
        Ok(meant.map(|message| Found { id: message.id, spot: Spot::Produced(message.id) }).collect())
    }

    fn held(&mut self, broker: &mut dyn Broker) -> Result<Vec<Found>> {
        let mut held = broker.held(HELD)?;
        held.sort_unstable_by_key(|message| message.id);
        self.spot = Spot::End;
        let leased = held.iter().filter(|message| message.worker_id.is_some());
        let meant = leased.filter(|message| self.selection.has_topic(&message.topic));
        Ok(meant.map(|message| Found { id: message.id, spot: Spot::End }).collect())
    }

    fn finished(&mut self, broker: &mut dyn Broker, state: State, limit: i64) -> Result<Vec<Found>> {
        let mut span = everything(limit);
        if let Spot::Finished(place) = self.spot {
            span.to = place;
        }
        let page = broker.finished(state, &span)?;
        self.spot = page.last().map_or(Spot::End, |last| Spot::Finished(last.place()));
        let meant = page.iter().filter(|message| {
            let same = |shape: &String| error_shape(message.error.as_deref().unwrap_or_default()) == *shape;
            self.selection.has_topic(&message.topic) && self.selection.error.as_ref().is_none_or(same)
        });
        Ok(meant.map(|message| Found { id: message.id, spot: Spot::Finished(message.place()) }).collect())
    }

    fn waiting(&mut self, broker: &mut dyn Broker, state: State, limit: i64) -> Result<Vec<Found>> {
        let Some(lane) = self.lane(broker)? else {
            self.spot = Spot::End;
            return Ok(Vec::new());
        };
        let began = match self.began {
            Some(began) => began,
            None => *self.began.insert(broker.now()?),
        };
        let mut span = everything(limit);
        if state == State::Ready {
            span.to = Place::after(began);
        } else {
            span.from = Place::after(began);
        }
        if let Spot::Waiting(_, place) = self.spot {
            span.from = span.from.max(place);
        }
        let places = broker.waiting(&lane, &span)?;
        let Some(last) = places.last() else {
            // Behind the last one of this lane.
            self.spot = Spot::Waiting(lane, everything(limit).to);
            if let Some(lanes) = &mut self.lanes {
                lanes.pop();
            }
            return Ok(Vec::new());
        };
        self.spot = Spot::Waiting(lane.clone(), *last);
        let ids: Vec<MessageId> = places.iter().map(|place| place.id).collect();
        let states: HashMap<MessageId, State> =
            broker.summaries(&ids, None)?.into_iter().map(|s| (s.id, s.state)).collect();
        let meant = places.into_iter().filter(|place| states.get(&place.id) == Some(&state));
        Ok(meant.map(|place| Found { id: place.id, spot: Spot::Waiting(lane.clone(), place) }).collect())
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

/// 1970 to 9999, where the texts of SQLite and the times of MariaDB end.
fn ends() -> std::ops::RangeInclusive<DateTime<Utc>> {
    let at = |seconds| DateTime::<Utc>::from_timestamp(seconds, 0).unwrap_or_default();
    at(0)..=at(253_402_300_799)
}

fn everything(limit: i64) -> Span {
    let ends = ends();
    Span { from: Place::before(*ends.start()), to: Place::after(*ends.end()), limit }
}
