//! The pages, asked as a browser asks, on every database.
#![allow(clippy::expect_used, reason = "a test fails by panicking")]

/// Makes a test of each case on each database.
macro_rules! each_database {
    ($($case:ident),* $(,)?) => {
        mod sqlite {
            $(#[test] fn $case() { super::$case(taskmq_tests::databases::fresh(taskmq_core::Backend::Sqlite)); })*
        }
        mod postgres {
            $(#[test] fn $case() { super::$case(taskmq_tests::databases::fresh(taskmq_core::Backend::Postgres)); })*
        }
        mod mariadb {
            $(#[test] fn $case() { super::$case(taskmq_tests::databases::fresh(taskmq_core::Backend::Mysql)); })*
        }
    };
}

mod access;
mod actions;
mod at_night;
mod bodies;
mod browser;
mod bulk;
#[cfg(feature = "serve")]
mod by_name;
mod chinese;
mod clicks;
mod driver;
mod forms;
mod hostile;
mod live;
mod liveness;
mod looking;
mod nested;
mod phone;
mod schedules;
#[cfg(feature = "schema")]
mod schemas;
#[cfg(feature = "serve")]
mod serving;
mod silence;
mod site;
mod speed;
mod tokens;
mod workflows;
mod xss;
