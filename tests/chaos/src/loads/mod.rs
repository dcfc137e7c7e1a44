//! Much, many and long, without faults: a [`soak`], many workers and idle connections ([`crowd`]), and a [`storm`] of
//! retries, on real servers with real worker processes.
//!
//! The test itself produces and keeps what it produced; handlers write into their journal, and the [`tally`] counts each
//! message in it.

pub mod crowd;
pub mod ground;
pub mod measures;
pub mod soak;
pub mod storm;
pub mod tally;
pub mod work;
