//! A module for each page.

pub(crate) mod assets;
pub(crate) mod audit;
pub(crate) mod change;
pub(crate) mod changes;
pub(crate) mod dead;
pub(crate) mod live;
pub(crate) mod message;
pub(crate) mod messages;
pub(crate) mod overview;
pub(crate) mod preferences;
pub(crate) mod produce;
pub(crate) mod schedules;
pub(crate) mod schema;
pub(crate) mod topic;
pub(crate) mod workers;
pub(crate) mod workflows;
