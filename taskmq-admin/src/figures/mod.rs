//! The figures of the overview: read at most once a second however many look, and not at all while nobody does.

mod sample;
mod sampler;

pub(crate) use sample::Sample;
pub(crate) use sampler::Sampler;
