//! Faults under real workers, on every database. `TASKMQ_CHAOS_SEED` chooses the same faults again, `TASKMQ_CHAOS_SECONDS`
//! makes a run long, `TASKMQ_CHAOS_KILLS=1` kills workers and does nothing else.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]
#![allow(clippy::print_stdout, reason = "the seed and the figures")]

use std::time::Duration;

use taskmq_chaos::check::Promise;
use taskmq_chaos::plan::{Fault, Faults, Strike, plan};
use taskmq_chaos::run::{Report, Run, name_of};
use taskmq_chaos::sabotage::Sabotage;
use taskmq_chaos::site::{Load, Programs};
use taskmq_chaos::work::Mix;
use taskmq_core::Backend;

const PROGRAMS: Programs =
    Programs { worker: env!("CARGO_BIN_EXE_chaos-worker"), producer: env!("CARGO_BIN_EXE_chaos-producer") };
const BELOW: &str = env!("CARGO_TARGET_TMPDIR");
const SHORT: Duration = Duration::from_secs(13);

fn number(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    Some(text.parse().unwrap_or_else(|_| panic!("{variable} is {text}: it must be a whole number")))
}

fn every_promise_holds(backend: Backend) {
    let seed = number("TASKMQ_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let seconds = number("TASKMQ_CHAOS_SECONDS");
    let faults = if std::env::var_os("TASKMQ_CHAOS_KILLS").is_some() { Faults::Kills } else { Faults::All };
    let (length, mix, rate) = match (seconds, faults) {
        (Some(seconds), Faults::All) => (Duration::from_secs(seconds), Mix::LONG, 60.0),
        (Some(seconds), Faults::Kills) => (Duration::from_secs(seconds), Mix::SHORT, 100.0),
        (None, _) => (SHORT, Mix::SHORT, 200.0),
    };
    println!("{backend}: seed {seed}");
    let load = Load { seed, rate, mix };
    let plan = plan(seed, length, backend, faults);
    let run = Run { backend, load, plan, sabotage: None, programs: PROGRAMS, below: BELOW };
    let Report { figures, violations, explanation, folder, drain, errors, noise } = run.carry_out();
    println!(
        "{backend}: seed {seed}, {} s of faults\n{figures}\ndrained after {:.1} s, {noise:.2} errors logged by a worker in a second",
        length.as_secs(),
        drain.as_secs_f64()
    );
    for (error, times) in errors {
        println!("{times} attempts failed: {error}");
    }
    let again = seconds.map(|seconds| format!(" TASKMQ_CHAOS_SECONDS={seconds}")).unwrap_or_default();
    assert!(
        violations.is_empty(),
        "{explanation}\nthe same faults again: TASKMQ_CHAOS_SEED={seed}{again} cargo xtask test every_promise_holds_on_{}\n\
         the journals and logs: {}",
        name_of(backend),
        folder.display()
    );
    if seconds.is_some() {
        println!("the journals and logs: {}", folder.display());
    } else {
        std::fs::remove_dir_all(folder).expect("removes what is not needed");
    }
}

#[test]
fn every_promise_holds_on_sqlite() {
    every_promise_holds(Backend::Sqlite);
}

#[test]
fn every_promise_holds_on_postgres() {
    every_promise_holds(Backend::Postgres);
}

#[test]
fn every_promise_holds_on_mariadb() {
    every_promise_holds(Backend::Mysql);
}

/// Workers that break a promise are found out.
fn is_caught(sabotage: Sabotage, backend: Backend, load: (f64, Mix), plan: Vec<Strike>, promise: Promise) {
    let missed = try_to_catch(sabotage, backend, load, plan, promise);
    assert!(missed.is_none(), "{} was not caught: {missed:?}", sabotage.name());
}

/// What was seen instead.
fn try_to_catch(
    sabotage: Sabotage,
    backend: Backend,
    (rate, mix): (f64, Mix),
    plan: Vec<Strike>,
    promise: Promise,
) -> Option<String> {
    let load = Load { seed: 1, rate, mix };
    let run = Run { backend, load, plan, sabotage: Some(sabotage), programs: PROGRAMS, below: BELOW };
    let Report { figures, violations, folder, .. } = run.carry_out();
    let caught = violations.iter().any(|violation| violation.promise == promise);
    std::fs::remove_dir_all(folder).expect("removes what is not needed");
    (!caught).then(|| format!("{figures}\n{violations:?}"))
}

/// While a slow message runs on it, as a rule.
fn at(seconds: u64, fault: Fault) -> Strike {
    Strike { at: Duration::from_secs(seconds), fault }
}

#[test]
fn workers_that_acknowledge_without_their_lease_are_caught() {
    // It is to wake up while others run what it ran. How soon they do depends on how busy the machine is.
    let missed: Vec<String> = [7_500, 8_500, 9_500]
        .into_iter()
        .map_while(|millis| {
            let pause = |worker| Fault::Pause { worker, lasts: Duration::from_millis(millis) };
            let plan = vec![at(4, pause(3)), at(4, pause(4))];
            try_to_catch(Sabotage::NoFence, Backend::Sqlite, (30.0, Mix::SLOW), plan, Promise::Settled)
        })
        .collect();
    assert!(missed.len() < 3, "it was not caught: {missed:#?}");
}

#[test]
fn workers_that_acknowledge_before_they_run_are_caught() {
    let kill = |worker| Fault::Kill { worker, down: Duration::from_millis(100) };
    let plan = vec![at(4, kill(3)), at(4, kill(4)), at(4, kill(5))];
    is_caught(Sabotage::AckFirst, Backend::Sqlite, (30.0, Mix::SLOW), plan, Promise::Lost);
}

#[test]
fn workers_that_commit_effects_apart_are_caught() {
    let kill = |worker| Fault::Kill { worker, down: Duration::from_millis(100) };
    let plan = (0..6).map(|n| at(2 + n / 3, kill(3 + (n as usize) % 3))).collect();
    is_caught(Sabotage::EffectApart, Backend::Postgres, (150.0, Mix::SLOW_EFFECTS), plan, Promise::Effects);
}
