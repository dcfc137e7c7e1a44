//! Much, many and long, on every database; seconds each, unless the environment says more: `TASKMQ_SOAK_SECONDS`,
//! `TASKMQ_LOAD_WORKERS` and `TASKMQ_LOAD_MESSAGES`, `TASKMQ_LOAD_CONNECTIONS`, `TASKMQ_STORM_MESSAGES`. What is to be
//! measured runs alone: `--test-threads=1 --nocapture`.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the figures")]

use std::time::Duration;

use taskmq_chaos::loads::crowd::{self, idle_connections, many_workers};
use taskmq_chaos::loads::ground::Ground;
use taskmq_chaos::loads::soak::{self, soak};
use taskmq_chaos::loads::storm::storm;
use taskmq_core::Backend;

fn number(variable: &str, short: usize) -> usize {
    let Ok(text) = std::env::var(variable) else { return short };
    text.parse().unwrap_or_else(|_| panic!("{variable} is {text}: it must be a whole number"))
}

fn ground(backend: Backend, options: &[&str]) -> Ground {
    Ground::new(backend, env!("CARGO_TARGET_TMPDIR"), env!("CARGO_BIN_EXE_chaos-worker"), options)
}

fn nothing_grows(backend: Backend) {
    let length = Duration::from_secs(number("TASKMQ_SOAK_SECONDS", 4) as u64);
    let options = if backend == Backend::Postgres { &soak::POSTGRES[..] } else { &[] };
    println!("{backend}: {}", soak(ground(backend, options), length));
}

fn many_workers_share(backend: Backend) {
    let (workers, messages) = (number("TASKMQ_LOAD_WORKERS", 8), number("TASKMQ_LOAD_MESSAGES", 4_000));
    let options = crowd::options(backend, 100 + 10 * workers);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    println!("{backend}: {}", many_workers(ground(backend, &options), workers, messages));
}

fn idle_connections_do_not_hurt(backend: Backend) {
    let most = if backend == Backend::Sqlite { 100 } else { usize::MAX };
    let connections = number("TASKMQ_LOAD_CONNECTIONS", 100).min(most);
    let options = crowd::options(backend, 100 + connections);
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    println!("{backend}: {}", idle_connections(ground(backend, &options), connections, 2_000));
}

fn a_storm_starves_nobody(backend: Backend) {
    let messages = number("TASKMQ_STORM_MESSAGES", 3_000);
    let length = Duration::from_secs(if messages > 3_000 { 30 } else { 2 });
    println!("{backend}: {}", storm(ground(backend, &[]), messages, length));
}

macro_rules! on_each_database {
    ($($load:ident)*) => {
        mod sqlite {
            $(#[test] fn $load() { super::$load(taskmq_core::Backend::Sqlite); })*
        }
        mod postgres {
            $(#[test] fn $load() { super::$load(taskmq_core::Backend::Postgres); })*
        }
        mod mariadb {
            $(#[test] fn $load() { super::$load(taskmq_core::Backend::Mysql); })*
        }
    };
}

on_each_database! { nothing_grows many_workers_share idle_connections_do_not_hurt a_storm_starves_nobody }
