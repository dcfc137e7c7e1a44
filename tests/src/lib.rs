//! What tests share: empty databases, servers of a test's own, and a line to them that can fail.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod databases;
pub mod inputs;
pub mod journal;
pub mod proxy;
pub mod scrape;
pub use taskmq_test_servers as servers;
