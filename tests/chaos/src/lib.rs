//! Faults under real workers, and a checker of what became of each message.
//!
//! What is true is what the [`journal`] says, not the database: producers, handlers and the [`nemesis`] each write down
//! what they do, in files of their own. Afterwards the [`check`]er compares that with the tables. [`plan`] chooses the
//! faults by a seed, [`work`] is what is produced and handled, [`run`] puts them together.
//!
//! [`loads`] are without faults: much, many and long.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

pub mod check;
pub mod database;
pub mod journal;
pub mod loads;
pub mod nemesis;
pub mod plan;
pub mod producer;
pub mod run;
pub mod sabotage;
pub mod site;
pub mod steps;
pub mod tables;
pub mod work;
