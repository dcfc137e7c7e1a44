//! The figures of the overview: read at most once a second however many look, and not at all while nobody does.

mod history;
mod sample;
mod sampler;

pub(crate) use history::History;
pub(crate) use sample::{Count, Figures, Sample};
pub(crate) use sampler::Sampler;
