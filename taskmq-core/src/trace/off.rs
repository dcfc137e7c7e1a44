use std::borrow::Cow;
use std::collections::BTreeMap;

use crate::Result;
#[cfg(feature = "worker")]
use crate::{Context, broker::Outcome};

pub(crate) struct Producing;

impl Producing {
    pub(crate) fn one(_topic: &str) -> Self {
        Self
    }

    pub(crate) fn many() -> Self {
        Self
    }

    pub(crate) fn goes_with(&self, _headers: &mut BTreeMap<Cow<'_, str>, Cow<'_, str>>) {}

    pub(crate) fn run<T>(self, produce: impl FnOnce() -> Result<T>) -> Result<T> {
        produce()
    }
}

#[cfg(feature = "worker")]
pub(crate) struct Handling;

#[cfg(feature = "worker")]
impl Handling {
    pub(crate) fn of(_context: &Context) -> Self {
        Self
    }

    pub(crate) fn run<T>(&self, handle: impl FnOnce() -> T) -> T {
        handle()
    }

    #[cfg(feature = "async")]
    pub(crate) fn within<F: Future>(&self, handle: F) -> F {
        handle
    }

    pub(crate) fn ended(self, _outcome: &Outcome) {}
}
