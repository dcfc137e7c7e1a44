//! What is produced under load, and its consumers.

use taskmq_core::{Context, NewMessage, task_consumer};

use crate::work::{Failed, Work, handle};

/// A message of [`load()`] that fails so often is dead.
pub const ATTEMPTS: u32 = 3;

/// Ends at once, or fails as often as it is told; done messages are soon deleted.
#[task_consumer(topic = "load", backoff = "50ms..1s", max_attempts = 3, retention = "5s")]
pub fn load(work: Work, ctx: &Context) -> Result<(), Failed> {
    handle(&work, ctx, || Ok(()))
}

/// Fails at once, and again and again, with the delays that a consumer has by itself.
#[task_consumer(topic = "storm", max_attempts = 1000)]
pub fn storm(work: Work, ctx: &Context) -> Result<(), Failed> {
    handle(&work, ctx, || Ok(()))
}

/// Has nothing to do with the storm.
#[task_consumer(topic = "calm")]
pub fn calm(work: Work, ctx: &Context) -> Result<(), Failed> {
    handle(&work, ctx, || Ok(()))
}

/// The topics of this module.
#[derive(Clone, Copy, Debug)]
pub enum Topic {
    /// See [`load()`].
    Load,
    /// See [`storm()`].
    Storm,
    /// See [`calm()`].
    Calm,
}

impl Topic {
    /// A message whose handler ends at once, after so many failures. The number is its key.
    pub fn message(self, number: usize, failures: u32) -> NewMessage<'static> {
        let work = Work { key: number.to_string(), millis: 0, failures, filling: String::new() };
        match self {
            Self::Load => load::message(&work),
            Self::Storm => storm::message(&work),
            Self::Calm => calm::message(&work),
        }
    }
}
