//! One module for each command that works on a database.

pub(crate) mod admin;
pub(crate) mod change;
pub(crate) mod messages;
pub(crate) mod migrate;
pub(crate) mod produce;
pub(crate) mod show;
pub(crate) mod topics;
pub(crate) mod workers;
