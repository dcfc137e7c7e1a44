//! What handles the messages of a topic.
//!
//! # The handler function
//! ```
//! use taskmq_core::{Context, task_consumer};
//! # #[derive(serde::Serialize, serde::Deserialize)] struct Mail { to: String }
//! # struct Smtp;
//! # impl Smtp { fn send(&self, _: &Mail) -> Result<(), std::io::Error> { Ok(()) } }
//! #[task_consumer(topic = "mail", max_attempts = 5, timeout = "30s", backoff = "2s..10m")]
//! fn send(mail: Mail, ctx: &Context, smtp: &Smtp) -> Result<(), std::io::Error> {
//!     if ctx.attempt() > 1 { /* it may have been sent already */ }
//!     smtp.send(&mail)
//! }
//! ```
//! Its first parameter is the payload, any `serde` type. It may also take, in any order, a `&Context`, shared state
//! of the application as `&T` (given to [`Worker::state`](crate::Worker)), and one connection as
//! `&mut SqliteConnection`, `&mut PgConnection` or `&mut MysqlConnection`. With a connection it is a
//! *transactional consumer*: what it writes there and the acknowledgement commit together, or not at all. Where the
//! database undoes the transaction because another stood in its way (a deadlock), the handler is called again within the same
//! attempt; it must return such an error and not go on, and leave beginning and ending the transaction to taskmq.
//!
//! It returns nothing, a value that can be serialised (kept as the message's result), or a `Result` of that. An
//! error can be anything that can be shown; return a [`Failure`](crate::Failure) to give up at once or to choose the delay.
//!
//! What it tells its context with [`Context::log`](crate::Context::log) is kept with the message:
//! ```
//! use taskmq_core::{Context, task_consumer};
//!
//! #[task_consumer(topic = "resize")]
//! fn resize(path: String, ctx: &Context) -> Result<(), std::io::Error> {
//!     let bytes = std::fs::metadata(&path)?.len();
//!     ctx.log(format_args!("{path} has {bytes} bytes"));
//!     Ok(())
//! }
//! ```
//!
//! # Options
//! | option | meaning | default |
//! |---|---|---|
//! | `topic = "..."` | the topic, see [`limits::check_topic`](crate::limits::check_topic) | none: it must be given |
//! | `max_attempts = N` | dead-lettered when this many attempts have failed, 1 to 1000 | 20 |
//! | `timeout = "30s"` | a longer attempt is given up and counts as failed | none |
//! | `backoff = "1s..1h"` | the first and the longest delay before a retry; it doubles each time, with jitter | `"1s..1h"` |
//! | `priority = N` | of the messages that the typed producer makes, -32768 to 32767, higher first | 0 |
//! | `ageing = "1m"` | each minute that messages of a priority wait counts as one priority more | none: higher ones always come first |
//! | `schedule = "0 7 * * mon-fri"` | produces a message at each of these times, see [`schedule`](crate::schedule) | none |
//! | `time_zone = "Europe/Berlin"` | in which the schedule is meant | `"UTC"` |
//! | `payload = expression` | of the messages of the schedule | `Default::default()` |
//! | `unique = "key"` | the schedule produces none while a message of this key is live | none |
//! | `retention = "24h"` | how long a done message is kept; `"0s"`: not at all, `"forever"`: until a person deletes it | `"24h"` |
//! | `schema` | programs without the consumer know what it reads, see [below](#the-schema-of-a-payload); needs the feature `schema` | they do not |
//!
//! # The schema of a payload
//! Where the consumer is part of the program, a payload is checked by the very type that will read it. `taskmq-cli` and its
//! admin are other programs than the worker. With `schema`, the worker writes the [JSON schema](https://json-schema.org)
//! of the payload's type into the database when it starts, and they check and show by that. The type says its schema
//! itself, with `schemars::JsonSchema` (`cargo add schemars`, version 1):
#![cfg_attr(feature = "schema", doc = "```")]
#![cfg_attr(not(feature = "schema"), doc = "```ignore")]
//! use schemars::JsonSchema;
//! use serde::{Deserialize, Serialize};
//! use taskmq_core::task_consumer;
//!
//! #[derive(Serialize, Deserialize, JsonSchema)]
//! struct LoadTest { url: String, users: u32 }
//!
//! #[task_consumer(topic = "yace", schema)]
//! fn play(test: LoadTest) { println!("{} users on {}", test.users, test.url) }
//! ```
//! Of workers of two versions, as in a rolling deploy, the last one to start has written the schema; one that has the
//! consumer without a schema removes it. A schema checks no messages that are there already, nor what programs produce
//! with their own code or with SQL.

pub(crate) mod call;
pub(crate) mod context;
pub(crate) mod failure;
pub(crate) mod log;
pub(crate) mod registry;
pub(crate) mod returned;

use std::any::{TypeId, type_name};
use std::fmt;
use std::time::Duration;

use serde::de::DeserializeOwned;

use crate::{Backend, Error, NewMessage, Result};
use call::{Call, HandlerResult};

/// A topic's handler and its options; [`task_consumer`](crate::task_consumer) makes one of a function.
#[derive(Clone)]
pub struct Consumer {
    pub(crate) topic: &'static str,
    pub(crate) name: &'static str,
    pub(crate) file: Option<(&'static str, u32)>,
    pub(crate) handler: Handler,
    pub(crate) max_attempts: u16,
    pub(crate) timeout: Option<Duration>,
    pub(crate) backoff: Backoff,
    pub(crate) ageing: Option<Duration>,
    pub(crate) retention: Retention,
    pub(crate) states: Vec<(TypeId, &'static str)>,
    pub(crate) schedule: Option<Declared>,
    /// Whether the handler could read a payload; `None`: it is not known what it reads.
    check: Option<fn(&str) -> serde_json::Result<()>>,
    /// The JSON schema of its payloads, for other programs to know; `None`: they are not told.
    pub(crate) schema: Option<fn() -> String>,
}

/// A schedule as its consumer declares it.
#[derive(Clone)]
pub(crate) struct Declared {
    pub(crate) cron: &'static str,
    pub(crate) time_zone: &'static str,
    pub(crate) message: fn() -> NewMessage<'static>,
}

/// How the function is called.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Sync(fn(&Call<'_>) -> HandlerResult),
    #[cfg(feature = "async")]
    Async(for<'a> fn(&'a Call<'a>) -> call::HandlerFuture<'a>),
    Transactional {
        backend: Backend,
        run: fn(&Call<'_>, &mut crate::AnyConnection) -> HandlerResult,
    },
}

/// The delay before a retry: `first` after the first failure, doubled after each further one, never more than
/// `longest`; each is multiplied by a random factor from 0.5 to 1.5, so that what failed together is not retried together.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Backoff {
    /// After the first failure.
    pub first: Duration,
    /// The bound.
    pub longest: Duration,
}

impl Backoff {
    /// The delay after the attempt of this number (from 1) failed, before jitter.
    ///
    /// ```
    /// use std::time::Duration;
    /// let backoff = taskmq_core::Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(60) };
    /// assert_eq!(backoff.after(3), Duration::from_secs(4));
    /// assert_eq!(backoff.after(1_000_000), Duration::from_secs(60));
    /// ```
    pub fn after(&self, attempt: u32) -> Duration {
        let factor = 2_u32.checked_pow(attempt.saturating_sub(1)).unwrap_or(u32::MAX);
        self.first.saturating_mul(factor).min(self.longest)
    }

    #[cfg(feature = "worker")]
    pub(crate) fn after_with_jitter(&self, attempt: u32) -> Duration {
        self.after(attempt).mul_f64(0.5 + fastrand::f64())
    }
}

/// How long a done message is kept in `taskmq_archive`. Dead and cancelled ones are kept until a person deletes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retention {
    /// Not at all: the fastest.
    None,
    /// This long after it was done.
    For(Duration),
    /// Until a person deletes it.
    Forever,
}

impl Retention {
    /// As the archive keeps it, in whole seconds, a part of one counted as one; `None`: for ever.
    pub(crate) fn seconds(self) -> Option<i64> {
        match self {
            Self::None => Some(0),
            Self::For(time) => {
                let seconds = time.as_secs().saturating_add(u64::from(time.subsec_nanos() > 0));
                Some(i64::try_from(seconds).unwrap_or(i64::MAX).max(1))
            }
            Self::Forever => None,
        }
    }
}

impl Consumer {
    /// A consumer that runs `handler`; `name` is the function's path, for messages to people.
    pub fn new(topic: &'static str, name: &'static str, handler: fn(&Call<'_>) -> HandlerResult) -> Self {
        Self::with_handler(topic, name, Handler::Sync(handler))
    }

    /// As [`new`](Self::new), for an `async` handler.
    #[cfg(feature = "async")]
    pub fn new_async(
        topic: &'static str,
        name: &'static str,
        handler: for<'a> fn(&'a Call<'a>) -> call::HandlerFuture<'a>,
    ) -> Self {
        Self::with_handler(topic, name, Handler::Async(handler))
    }

    /// As [`new`](Self::new), for a handler that commits together with the acknowledgement.
    pub fn new_transactional(
        topic: &'static str,
        name: &'static str,
        backend: Backend,
        run: fn(&Call<'_>, &mut crate::AnyConnection) -> HandlerResult,
    ) -> Self {
        Self::with_handler(topic, name, Handler::Transactional { backend, run })
    }

    fn with_handler(topic: &'static str, name: &'static str, handler: Handler) -> Self {
        Self {
            topic,
            name,
            file: None,
            handler,
            max_attempts: 20,
            timeout: None,
            backoff: Backoff { first: Duration::from_secs(1), longest: Duration::from_secs(3600) },
            ageing: None,
            retention: Retention::For(Duration::from_secs(24 * 3600)),
            states: Vec::new(),
            schedule: None,
            check: None,
            schema: None,
        }
    }

    /// The topic whose messages it takes.
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// The path of the function.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// Where the function is written, for messages to people.
    #[must_use]
    pub fn at(mut self, file: &'static str, line: u32) -> Self {
        self.file = Some((file, line));
        self
    }

    /// The path of the function, and its file and line.
    pub(crate) fn place(&self) -> String {
        match self.file {
            Some((file, line)) => format!("{} ({file}:{line})", self.name),
            None => self.name.to_owned(),
        }
    }

    /// Dead-lettered when this many attempts have failed (at least 1). Default 20.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.max_attempts = attempts.max(1);
        self
    }

    /// A longer attempt is given up and counts as failed. Default: none.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// The delays before retries, each at most [`MAX_DELAY`](crate::limits::MAX_DELAY). Default: 1 s to 1 h.
    #[must_use]
    pub fn backoff(mut self, first: Duration, longest: Duration) -> Self {
        // What is beyond could not be scattered without an overflow, nor stored.
        let [first, longest] = [first, longest].map(|delay| delay.min(crate::limits::MAX_DELAY));
        self.backoff = Backoff { first, longest };
        self
    }

    /// Each time as long as this that the oldest message of a priority has been due counts as one priority more, so that
    /// low ones are not kept waiting for ever: with 1 minute, one of priority 0 comes before fresh ones of priority 10 after
    /// ten minutes. At least a millisecond. Default: none, higher priorities always come first.
    #[must_use]
    pub fn ageing(mut self, time: Duration) -> Self {
        self.ageing = Some(time.max(Duration::from_millis(1)));
        self
    }

    /// How long done messages are kept. Default: 24 hours.
    #[must_use]
    pub fn retention(mut self, retention: Retention) -> Self {
        self.retention = retention;
        self
    }

    /// While a worker runs it, such a message is produced at every tick of this cron text; see
    /// [`schedule`](crate::schedule). What is wrong with it, the worker says when it starts.
    #[must_use]
    pub fn schedule(
        mut self,
        cron: &'static str,
        time_zone: &'static str,
        message: fn() -> NewMessage<'static>,
    ) -> Self {
        self.schedule = Some(Declared { cron, time_zone, message });
        self
    }

    /// Its handler reads payloads as this type, so they can be checked before they are produced.
    #[must_use]
    pub fn reads<T: DeserializeOwned>(mut self) -> Self {
        self.check = Some(|payload| serde_json::from_str::<T>(payload).map(drop));
        self
    }

    /// Whether its handler could read this payload, JSON, as far as that is known.
    ///
    /// ```
    /// # #[taskmq_core::task_consumer(topic = "yace")] fn play(_n: u32) {}
    /// assert!(play::consumer().check("17").is_ok());
    /// assert!(play::consumer().check("\"many\"").is_err());
    /// ```
    ///
    /// # Errors
    /// [`Error::Unreadable`] says what does not fit.
    pub fn check(&self, payload: &str) -> Result<()> {
        let checked = self.check.map_or(Ok(()), |check| check(payload));
        checked.map_err(|source| Error::Unreadable { consumer: self.name, source })
    }

    /// A worker that starts with it writes the JSON schema of this type to `taskmq_schemas`, by which the admin and
    /// `taskmq-cli produce` then check payloads of its topic; see [the schema of a payload](self#the-schema-of-a-payload).
    ///
    /// ```
    /// use taskmq_core::Consumer;
    /// let consumer = Consumer::new("yace", "play", |_| Ok(None)).reads::<u32>().schema::<u32>();
    /// ```
    #[cfg(feature = "schema")]
    #[must_use]
    pub fn schema<T: schemars::JsonSchema>(mut self) -> Self {
        self.schema = Some(|| schemars::schema_for!(T).as_value().to_string());
        self
    }

    /// The worker must have state of type `T` before it may run this consumer.
    #[must_use]
    pub fn needs_state<T: Send + Sync + 'static>(mut self) -> Self {
        self.states.push((TypeId::of::<T>(), type_name::<T>()));
        self
    }
}

impl fmt::Debug for Consumer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Consumer")
            .field("topic", &self.topic)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backoff_grows_to_its_bound_and_never_overflows() {
        let backoff = Backoff { first: Duration::from_millis(250), longest: Duration::from_secs(2) };
        let delays: Vec<_> = [1, 2, 3, 4, 5, 310, u32::MAX].map(|n| backoff.after(n).as_millis()).into();
        assert_eq!(delays, [250, 500, 1000, 2000, 2000, 2000, 2000]);
        let longest = Consumer::new("t", "t", |_| Ok(None)).backoff(Duration::MAX, Duration::MAX).backoff;
        assert!(longest.after_with_jitter(u32::MAX) <= 2 * crate::limits::MAX_DELAY);
    }
}
