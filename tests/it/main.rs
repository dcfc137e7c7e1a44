//! What taskmq promises, tried on real databases and with real processes.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

#[macro_use]
mod each_database;
mod beside;
mod clocks;
mod contention;
mod contract;
mod doctor;
mod drains;
mod example;
mod hosts;
mod limits;
mod many_writers;
mod metrics;
mod migrations;
mod monitoring;
mod outages;
mod pauses;
mod poison;
mod pooler;
mod pools;
mod probes;
mod processes;
mod roles;
mod schedules;
mod secrets;
mod shutdown;
mod strays;
mod terminal;
mod wakeups;
mod workers;
mod workflows;
