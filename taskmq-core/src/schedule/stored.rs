//! When a stored schedule ticks, and what message comes of it.

use std::collections::BTreeMap;

use chrono::{DateTime, SecondsFormat, Utc};

use super::{Cron, MISSED_HEADER, NAME_HEADER, Schedule, TICK_HEADER};
use crate::limits::{check_json, check_key, check_topic};
use crate::produce::MessageRecord;
use crate::{Error, Result};

impl Schedule {
    /// When it ticks, read.
    ///
    /// # Errors
    /// [`Error::Cron`] or [`Error::TimeZone`] when another program has stored what cannot be read.
    pub fn cron(&self) -> Result<Cron> {
        Cron::parse(&self.cron, &self.time_zone)
    }

    /// Its next ticks, as far as can be told: none while it is paused.
    ///
    /// # Errors
    /// As [`cron`](Self::cron).
    pub fn upcoming(&self, count: usize) -> Result<Vec<DateTime<Utc>>> {
        let cron = self.cron()?;
        if self.paused {
            return Ok(Vec::new());
        }
        let first = self.next_at.or_else(|| cron.next(self.since));
        Ok(std::iter::successors(first, |tick| cron.next((*tick).max(self.seen_at))).take(count).collect())
    }

    /// The message of a tick. Another program may have stored what no message can have.
    pub(super) fn message(&self, tick: DateTime<Utc>, missed: usize) -> Result<MessageRecord> {
        check_topic(&self.topic)?;
        if let Some(key) = &self.unique_key {
            check_key("the unique key", key)?;
        }
        check_json("the payload", &self.payload)?;
        if self.max_attempts.is_some_and(|most| most < 1) {
            let problem = "it has fewer than one attempt at most".to_owned();
            return Err(Error::Schedule { name: self.name.clone(), problem });
        }
        // Another program may have stored headers that are no texts; those are lost, but the tick is not.
        let headers = self.headers.as_deref().and_then(|json| serde_json::from_str(json).ok());
        let mut headers: BTreeMap<String, String> = headers.unwrap_or_default();
        headers.insert(NAME_HEADER.to_owned(), self.name.clone());
        headers.insert(TICK_HEADER.to_owned(), tick.to_rfc3339_opts(SecondsFormat::Secs, true));
        if missed > 0 {
            headers.insert(MISSED_HEADER.to_owned(), missed.to_string());
        }
        let headers = serde_json::to_string(&headers)
            .map_err(|source| Error::Encode { what: "the headers", source })?;
        Ok(MessageRecord {
            topic: self.topic.clone(),
            payload: self.payload.clone(),
            priority: self.priority,
            delay_micros: 0,
            max_attempts: self.max_attempts,
            unique_key: self.unique_key.clone(),
            ordering_key: None,
            headers: Some(headers),
        })
    }
}
