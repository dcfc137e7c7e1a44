//! What the commands do, one module for each or for a few that are alike.

pub(crate) mod admin;
pub(crate) mod change;
pub(crate) mod dead;
pub(crate) mod limits;
pub(crate) mod manual;
pub(crate) mod messages;
pub(crate) mod migrate;
pub(crate) mod pause;
pub(crate) mod produce;
pub(crate) mod purge;
pub(crate) mod schedules;
pub(crate) mod search;
pub(crate) mod show;
pub(crate) mod topics;
pub(crate) mod workers;
pub(crate) mod workflows;

/// Who did it, in the notes of what people did.
const ACTOR: &str = "taskmq-cli";
