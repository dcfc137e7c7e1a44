use std::collections::BTreeMap;

use crate::limits::check_topic;
use crate::{Consumer, Error, Result};

/// The consumers of a worker, one for each topic.
///
/// [`discovered`](Self::discovered) finds every function with [`task_consumer`](crate::task_consumer) that is linked
/// into the program; tests and special workers put one together by hand:
/// ```
/// # #[taskmq_core::task_consumer(topic = "yace")] fn play(_n: u32) {}
/// let registry = taskmq_core::Registry::default().with(play::consumer())?;
/// assert_eq!(registry.topics(), ["yace"]);
/// # Ok::<(), taskmq_core::Error>(())
/// ```
#[derive(Clone, Debug, Default)]
pub struct Registry {
    consumers: BTreeMap<&'static str, Consumer>,
}

impl Registry {
    /// Every consumer that is linked into the program.
    ///
    /// # Errors
    /// [`Error::DuplicateConsumer`] names two of one topic.
    pub fn discovered() -> Result<Self> {
        inventory::iter::<Registration>()
            .try_fold(Self::default(), |registry, registration| registry.with((registration.0)()))
    }

    /// Adds a consumer.
    ///
    /// # Errors
    /// [`Error::DuplicateConsumer`] names both when the topic has one, [`Error::Topic`] when the topic cannot be used.
    pub fn with(mut self, consumer: Consumer) -> Result<Self> {
        check_topic(consumer.topic)?;
        if let Some(first) = self.consumers.get(consumer.topic) {
            let (topic, first, second) = (consumer.topic.to_owned(), first.place(), consumer.place());
            return Err(Error::DuplicateConsumer { topic, first, second });
        }
        self.consumers.insert(consumer.topic, consumer);
        Ok(self)
    }

    /// Only the consumers of these topics.
    ///
    /// # Errors
    /// [`Error::Configuration`] for a topic that has none.
    pub fn only(mut self, topics: &[String]) -> Result<Self> {
        if let Some(unknown) = topics.iter().find(|t| !self.consumers.contains_key(t.as_str())) {
            let known = self.topics().join(", ");
            return Err(Error::Configuration(format!(
                "no consumer of topic {unknown:?} here; there are: {known}"
            )));
        }
        self.consumers.retain(|topic, _| topics.iter().any(|t| t == topic));
        Ok(self)
    }

    /// The topics, in alphabetical order.
    pub fn topics(&self) -> Vec<&'static str> {
        self.consumers.keys().copied().collect()
    }

    /// The consumer of a topic.
    pub fn get(&self, topic: &str) -> Option<&Consumer> {
        self.consumers.get(topic)
    }

    /// Every consumer, by topic.
    pub fn iter(&self) -> impl Iterator<Item = &Consumer> {
        self.consumers.values()
    }

    #[cfg(feature = "worker")]
    pub(crate) fn into_iter(self) -> impl Iterator<Item = Consumer> {
        self.consumers.into_values()
    }
}

/// A consumer that the linker collects.
#[derive(Debug)]
pub struct Registration(pub fn() -> Consumer);

inventory::collect!(Registration);
