use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::log::{Log, LogLevel};
use crate::MessageId;
#[cfg(feature = "worker")]
use crate::broker::Tied;

/// What a handler may ask about the message it handles.
///
/// ```
/// use taskmq_core::{Context, task_consumer};
///
/// #[task_consumer(topic = "crawl")]
/// fn crawl(urls: Vec<String>, ctx: &Context) -> Result<(), &'static str> {
///     for url in urls {
///         if ctx.is_cancelled() { return Err("stopped"); } // timed out, shut down, run elsewhere by now, or taken back
///         println!("{} attempt {}: {url}", ctx.id(), ctx.attempt());
///     }
///     Ok(())
/// }
/// ```
#[derive(Clone, Debug)]
pub struct Context {
    pub(crate) id: MessageId,
    pub(crate) topic: &'static str,
    pub(crate) attempt: u32,
    pub(crate) max_attempts: u32,
    pub(crate) worker_id: i64,
    pub(crate) ordering_key: Option<String>,
    pub(crate) has_large_payload: bool,
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) shared: Arc<Shared>,
}

/// What a handler and the worker that runs it tell each other.
#[derive(Debug, Default)]
pub(crate) struct Shared {
    cancelled: AtomicBool,
    /// A person wants the message cancelled.
    asked: AtomicBool,
    log: Mutex<Log>,
}

impl Context {
    /// The message's id.
    pub fn id(&self) -> MessageId {
        self.id
    }

    /// The number of this attempt, from 1.
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The number of failed attempts after which the message is dead.
    pub fn max_attempts(&self) -> u32 {
        self.max_attempts
    }

    /// The message's topic.
    pub fn topic(&self) -> &'static str {
        self.topic
    }

    /// The key of which no other message runs at the same time.
    pub fn ordering_key(&self) -> Option<&str> {
        self.ordering_key.as_deref()
    }

    /// What ends with the message.
    #[cfg(feature = "worker")]
    pub(crate) fn tied(&self) -> Tied {
        Tied {
            turn: self.ordering_key.is_some(),
            step: self.workflow().is_some(),
            payload: self.has_large_payload,
        }
    }

    /// The headers that its producer gave it.
    pub fn headers(&self) -> &BTreeMap<String, String> {
        &self.headers
    }

    /// Unique to this attempt and never used again. Pass it to an outside system that can refuse an older token,
    /// to protect that system from a handler that was paused and has meanwhile been replaced.
    pub fn lease_token(&self) -> String {
        format!("{:016x}-{}", self.worker_id, self.attempt)
    }

    /// True once nobody waits for this attempt any more: it timed out, the worker stops, the worker was cut off
    /// so long that the message may run elsewhere, or a person cancelled the message. A long handler looks now and then,
    /// and returns: an error, if a person cancelled it, for who returns none is done.
    pub fn is_cancelled(&self) -> bool {
        self.shared.cancelled.load(Ordering::Acquire)
    }

    /// Keeps a line with the message, where `taskmq-cli show` and the message's page show it; see [`log_at`](Self::log_at).
    ///
    /// ```
    /// use taskmq_core::{Context, LogLevel, task_consumer};
    ///
    /// #[task_consumer(topic = "import")]
    /// fn import(rows: Vec<String>, ctx: &Context) {
    ///     ctx.log(format_args!("{} rows", rows.len()));
    ///     for row in rows.iter().filter(|row| row.is_empty()) {
    ///         ctx.log_at(LogLevel::Warn, format_args!("{row:?} is left out"));
    ///     }
    /// }
    /// ```
    pub fn log(&self, line: impl fmt::Display) {
        self.log_at(LogLevel::Info, line);
    }

    /// Keeps a line of this level with the message.
    ///
    /// The lines are written together with the attempt's end, and kept as long as the message. Of one attempt that is the last
    /// [`MAX_LOG_LINES`](crate::limits::MAX_LOG_LINES) of at most [`MAX_LOG_BYTES`](crate::limits::MAX_LOG_BYTES)
    /// altogether. An attempt that ends its whole process, or has lost its lease, leaves none.
    pub fn log_at(&self, level: LogLevel, line: impl fmt::Display) {
        let line = crate::limits::clean_line(&line.to_string());
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).push(level, line);
    }
}

#[cfg(feature = "worker")]
impl Shared {
    /// Nobody waits for it any more.
    pub(crate) fn cancel(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// A person wants it ended. `false`: that is known.
    pub(crate) fn ask_to_end(&self) -> bool {
        let news = !self.asked.swap(true, Ordering::AcqRel);
        self.cancel();
        news
    }

    /// Whether a person wants it ended.
    pub(crate) fn is_asked_to_end(&self) -> bool {
        self.asked.load(Ordering::Acquire)
    }
}

#[cfg(feature = "worker")]
impl Context {
    /// What the handler has logged so far.
    pub(crate) fn logged(&self) -> Vec<crate::broker::Logged> {
        self.shared.log.lock().unwrap_or_else(PoisonError::into_inner).lines()
    }
}
