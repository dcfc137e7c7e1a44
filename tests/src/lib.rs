//! What tests share: empty databases, and servers of a test's own.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod databases;
pub use taskmq_test_servers as servers;
