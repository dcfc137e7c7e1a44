//! Producing: a message is stored on the caller's own connection, by one statement (a large one by two, in a savepoint), so
//! it appears if and only if the caller's transaction commits.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;

use crate::limits::{MAX_DELAY, check_json, check_key, check_topic};
use crate::trace::Producing;
use crate::{BrokerConnection, Error, MessageId, Result};

/// Produces a message of any topic with any payload that `serde` can write.
///
/// # Errors
/// [`Error::Topic`], [`Error::Encode`], [`Error::Json`] or [`Error::TooLarge`] before anything is written, and what the database reports.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] {
/// # use diesel::prelude::*;
/// # let mut conn = SqliteConnection::establish("app.db").unwrap();
/// conn.immediate_transaction(|conn| {
///     // ... the host's own writes, and then:
///     taskmq_core::produce(conn, "yace", &serde_json::json!({"url": "http://127.0.0.1:8080"}))
/// })?;
/// # }
/// # Ok::<(), taskmq_core::Error>(())
/// ```
pub fn produce<T: Serialize + ?Sized>(
    conn: &mut impl BrokerConnection,
    topic: &str,
    payload: &T,
) -> Result<MessageId> {
    NewMessage::new(topic, payload).produce(conn).map(|produced| produced.id())
}

/// Produces many messages with one statement (on MariaDB and MySQL with one for each few MiB, in a transaction; large payloads,
/// from 1 to 8 KiB on, with further ones), and says how many: those whose unique key is taken are left out.
///
/// # Errors
/// As [`produce`], and then none of them is written.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] {
/// # use diesel::prelude::*;
/// # let mut conn = SqliteConnection::establish("app.db").unwrap();
/// use taskmq_core::{NewMessage, produce_many};
/// produce_many(&mut conn, (0..1000).map(|n| NewMessage::new("count", &n)))?;
/// # }
/// # Ok::<(), taskmq_core::Error>(())
/// ```
pub fn produce_many<'a>(
    conn: &mut impl BrokerConnection,
    messages: impl IntoIterator<Item = NewMessage<'a>>,
) -> Result<usize> {
    let producing = Producing::many();
    let records = messages.into_iter().map(|mut message| {
        producing.goes_with(&mut message.headers);
        message.into_record()
    });
    let records = records.collect::<Result<Vec<_>>>()?;
    if records.is_empty() {
        return Ok(0);
    }
    producing.run(|| conn.broker().produce_many(&records))
}

/// A message that is about to be produced.
///
/// ```no_run
/// # #[cfg(feature = "sqlite")] {
/// # use diesel::prelude::*;
/// # use std::time::Duration;
/// # let mut conn = SqliteConnection::establish("app.db").unwrap();
/// taskmq_core::NewMessage::new("yace", &42)
///     .priority(10)
///     .delay(Duration::from_secs(30))
///     .unique("yace:42")
///     .header("trace", "abc")
///     .produce(&mut conn)?;
/// # }
/// # Ok::<(), taskmq_core::Error>(())
/// ```
#[derive(Debug)]
#[must_use = "a message is stored only when `produce` is called"]
pub struct NewMessage<'a> {
    topic: Cow<'a, str>,
    payload: serde_json::Result<String>,
    priority: i16,
    delay: Duration,
    max_attempts: Option<u16>,
    unique_key: Option<Cow<'a, str>>,
    ordering_key: Option<Cow<'a, str>>,
    headers: BTreeMap<Cow<'a, str>, Cow<'a, str>>,
}

impl<'a> NewMessage<'a> {
    /// A message with this payload, due at once, of priority 0.
    pub fn new<T: Serialize + ?Sized>(topic: impl Into<Cow<'a, str>>, payload: &T) -> Self {
        Self {
            topic: topic.into(),
            payload: serde_json::to_string(payload),
            priority: 0,
            delay: Duration::ZERO,
            max_attempts: None,
            unique_key: None,
            ordering_key: None,
            headers: BTreeMap::new(),
        }
    }

    /// Within its topic, messages of a higher priority run first.
    pub fn priority(mut self, priority: i16) -> Self {
        self.priority = priority;
        self
    }

    /// Due this long after it was produced, by the database's clock; at most [`MAX_DELAY`].
    pub fn delay(mut self, delay: Duration) -> Self {
        self.delay = delay;
        self
    }

    /// Dead-lettered when this many attempts have failed, whatever its consumer says: at least 1, and at most 32,767, which stands for all that
    /// are more.
    pub fn max_attempts(mut self, attempts: u16) -> Self {
        self.max_attempts = Some(attempts.max(1));
        self
    }

    /// At most one live message of its topic has this key: while one is live, a second is not stored. It is also
    /// the way to produce again after a connection died in the middle of a commit.
    pub fn unique(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.unique_key = Some(key.into());
        self
    }

    /// Messages of the topic that share this key run one at a time and in order (by priority, then the time they became
    /// due, then id), while others go past them. One that fails keeps its turn until it is done or dead.
    ///
    /// ```no_run
    /// # #[cfg(feature = "sqlite")] {
    /// # use diesel::prelude::*;
    /// # let mut conn = SqliteConnection::establish("app.db").unwrap();
    /// use taskmq_core::NewMessage;
    /// NewMessage::new("bookings", &-20).ordering_key("account 7").produce(&mut conn)?;
    /// NewMessage::new("bookings", &30).ordering_key("account 7").produce(&mut conn)?;
    /// # }
    /// # Ok::<(), taskmq_core::Error>(())
    /// ```
    pub fn ordering_key(mut self, key: impl Into<Cow<'a, str>>) -> Self {
        self.ordering_key = Some(key.into());
        self
    }

    /// A name and a text that the handler can read from its [`Context`](crate::Context).
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, text: impl Into<Cow<'a, str>>) -> Self {
        self.headers.insert(name.into(), text.into());
        self
    }

    /// Stores it, as part of the transaction that is open on `conn`, or at once if none is.
    ///
    /// # Errors
    /// As [`produce`](fn@produce), and [`Error::Key`] or [`Error::Delay`] for an option that cannot be stored.
    pub fn produce(mut self, conn: &mut impl BrokerConnection) -> Result<Produced> {
        let producing = Producing::one(&self.topic);
        producing.goes_with(&mut self.headers);
        let record = self.into_record()?;
        producing.run(|| conn.broker().produce(&record))
    }

    pub(crate) fn headers_mut(&mut self) -> &mut BTreeMap<Cow<'a, str>, Cow<'a, str>> {
        &mut self.headers
    }

    /// Checks everything before anything is written.
    pub(crate) fn into_record(self) -> Result<MessageRecord> {
        check_topic(&self.topic)?;
        let payload = self.payload.map_err(|source| Error::Encode { what: "the payload", source })?;
        check_json("the payload", &payload)?;
        if self.delay > MAX_DELAY {
            return Err(Error::Delay { delay: self.delay });
        }
        if let Some(key) = &self.unique_key {
            check_key("the unique key", key)?;
        }
        if let Some(key) = &self.ordering_key {
            check_key("the ordering key", key)?;
        }
        let headers = if self.headers.is_empty() {
            None
        } else {
            let json = serde_json::to_string(&self.headers)
                .map_err(|source| Error::Encode { what: "the headers", source })?;
            check_json("the headers", &json)?;
            Some(json)
        };
        Ok(MessageRecord {
            topic: self.topic.into_owned(),
            payload,
            priority: self.priority,
            delay_micros: i64::try_from(self.delay.as_micros()).unwrap_or(i64::MAX),
            max_attempts: self.max_attempts.map(|n| i16::try_from(n).unwrap_or(i16::MAX)),
            unique_key: self.unique_key.map(Cow::into_owned),
            ordering_key: self.ordering_key.map(Cow::into_owned),
            headers,
        })
    }
}

/// A checked message in the form that the databases take.
#[derive(Clone, Debug, Serialize)]
pub struct MessageRecord {
    pub(crate) topic: String,
    pub(crate) payload: String,
    pub(crate) priority: i16,
    pub(crate) delay_micros: i64,
    pub(crate) max_attempts: Option<i16>,
    pub(crate) unique_key: Option<String>,
    pub(crate) ordering_key: Option<String>,
    pub(crate) headers: Option<String>,
}

impl MessageRecord {
    /// Whether it differs from the other in its payload at most, and neither has a key or headers: whole batches of
    /// such messages are stored by a shorter statement.
    pub(crate) fn is_alike(&self, other: &Self) -> bool {
        let plain = |m: &Self| m.unique_key.is_none() && m.ordering_key.is_none() && m.headers.is_none();
        plain(self)
            && plain(other)
            && self.topic == other.topic
            && (self.priority, self.delay_micros, self.max_attempts)
                == (other.priority, other.delay_micros, other.max_attempts)
    }
}

/// What became of a produced message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Produced {
    /// It was stored under this id.
    New(MessageId),
    /// A live message, of this id, has its unique key already; nothing was stored.
    Existing(MessageId),
}

impl Produced {
    /// The id of the message that was stored or that was there.
    pub fn id(self) -> MessageId {
        match self {
            Produced::New(id) | Produced::Existing(id) => id,
        }
    }
}
