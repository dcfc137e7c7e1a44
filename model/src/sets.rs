//! A set of messages.

use std::fmt;

use crate::{MESSAGES, MessageId};

/// Some of the messages.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Ids(u8);

impl Ids {
    /// No message.
    pub const NONE: Self = Self(0);
    /// Every message that the model has room for.
    pub const ALL: Self = Self((1 << MESSAGES) - 1);

    /// Every set that there is.
    pub fn subsets() -> impl Iterator<Item = Self> {
        (0..=Self::ALL.0).map(Self)
    }

    /// Those for which this is so.
    pub fn of(is_one: impl Fn(MessageId) -> bool) -> Self {
        (0..MESSAGES).filter(|m| is_one(*m)).fold(Self::NONE, Self::with_one)
    }

    /// Whether it has this one.
    pub fn contains(self, message: MessageId) -> bool {
        self.0 & 1 << message != 0
    }

    /// Whether it has none.
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// How many it has.
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// These and this one.
    #[must_use]
    pub fn with_one(self, message: MessageId) -> Self {
        Self(self.0 | 1 << message)
    }

    /// These and those.
    #[must_use]
    pub fn with(self, others: Self) -> Self {
        Self(self.0 | others.0)
    }

    /// These but those.
    #[must_use]
    pub fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// What both have.
    #[must_use]
    pub fn and(self, others: Self) -> Self {
        Self(self.0 & others.0)
    }

    /// Takes one in.
    pub fn insert(&mut self, message: MessageId) {
        self.0 |= 1 << message;
    }

    /// The messages, the first one first.
    pub fn iter(self) -> impl Iterator<Item = MessageId> {
        (0..MESSAGES).filter(move |message| self.contains(*message))
    }
}

impl fmt::Display for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, message) in self.iter().enumerate() {
            write!(f, "{}#{message}", if place > 0 { " " } else { "" })?;
        }
        Ok(())
    }
}

impl fmt::Debug for Ids {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{self}]")
    }
}
