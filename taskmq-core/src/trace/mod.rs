//! The trace that goes from whoever produces a message to whoever handles it. Without the feature `opentelemetry` there
//! is none, and all of this is nothing.

#[cfg_attr(not(feature = "opentelemetry"), path = "off.rs")]
#[cfg_attr(feature = "opentelemetry", path = "on.rs")]
mod spans;

#[cfg(feature = "worker")]
pub(crate) use spans::Handling;
pub(crate) use spans::Producing;
