//! How things look.

pub(crate) mod chart;
pub(crate) mod format;
pub(crate) mod graph;
pub(crate) mod layout;
pub(crate) mod notes;
pub(crate) mod parts;
pub(crate) mod visible;
