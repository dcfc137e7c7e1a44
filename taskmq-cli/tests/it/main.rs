//! The real program on projects in temporary folders.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

mod admin;
mod database;
mod generated;
mod host;
mod init;
mod operators;
mod paths;
mod refusals;
mod schedules;
mod schemas;
#[cfg(target_os = "linux")]
mod terminal;
