//! Workers that are killed at a step of their work: at a dozen of the steps, or at two hundred when `TASKMQ_TEST_LONG` is set.
#![allow(clippy::print_stdout, reason = "the figures")]

use taskmq_chaos::steps::kill_at_steps;
use taskmq_core::Backend;

fn nothing_is_lost(backend: Backend) {
    let rounds = if std::env::var_os("TASKMQ_TEST_LONG").is_some() { 200 } else { 12 };
    let seed = match std::env::var("TASKMQ_CHAOS_SEED") {
        Ok(seed) => {
            seed.parse().unwrap_or_else(|_| panic!("TASKMQ_CHAOS_SEED is {seed}: it must be a whole number"))
        }
        Err(_) => fastrand::u64(..1_000_000),
    };
    let folder = env!("CARGO_TARGET_TMPDIR");
    let report = kill_at_steps(backend, folder, env!("CARGO_BIN_EXE_chaos-worker"), rounds, seed);
    println!(
        "{backend}, seed {seed}: a worker has {} steps; {} workers were killed, each at one of them; {} handlers began for {} messages",
        report.steps, report.killed, report.begun, report.messages
    );
    assert!(
        report.explanation.is_empty(),
        "{}\nthe same again: TASKMQ_CHAOS_SEED={seed}",
        report.explanation
    );
    assert!(report.killed > 0, "nobody was killed");
}

mod sqlite {
    #[test]
    fn nothing_is_lost_at_any_step() {
        super::nothing_is_lost(taskmq_core::Backend::Sqlite);
    }
}

mod postgres {
    #[test]
    fn nothing_is_lost_at_any_step() {
        super::nothing_is_lost(taskmq_core::Backend::Postgres);
    }
}

mod mariadb {
    #[test]
    fn nothing_is_lost_at_any_step() {
        super::nothing_is_lost(taskmq_core::Backend::Mysql);
    }
}
