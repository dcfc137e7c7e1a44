use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::MessageId;
#[cfg(feature = "worker")]
use crate::broker::Awaited;

/// What a handler may ask about the message it handles.
///
/// ```
/// use taskmq_core::{Context, task_consumer};
///
/// #[task_consumer(topic = "crawl")]
/// fn crawl(urls: Vec<String>, ctx: &Context) {
///     for url in urls {
///         if ctx.is_cancelled() { return; } // timed out, shut down, or run elsewhere by now
///         println!("{} attempt {}: {url}", ctx.id(), ctx.attempt());
///     }
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
    pub(crate) headers: BTreeMap<String, String>,
    pub(crate) cancellation: Cancellation,
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
    pub(crate) fn awaited(&self) -> Awaited {
        Awaited { turn: self.ordering_key.is_some(), step: self.workflow().is_some() }
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

    /// True once nobody waits for this attempt any more: it timed out, the worker stops, or the worker was cut off
    /// so long that the message may run elsewhere. A long handler looks now and then, and returns.
    pub fn is_cancelled(&self) -> bool {
        self.cancellation.is_cancelled()
    }
}

/// A flag that its owner raises once.
#[derive(Clone, Debug, Default)]
pub(crate) struct Cancellation(Arc<AtomicBool>);

impl Cancellation {
    #[cfg(feature = "worker")]
    pub(crate) fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}
