//! Payloads checked by the schema that the consumer of their topic has stored.

#[cfg_attr(feature = "schema", path = "on.rs")]
#[cfg_attr(not(feature = "schema"), path = "off.rs")]
mod check;

pub(crate) use check::Check;
