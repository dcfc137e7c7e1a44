//! The rules of turns hold, and each of their bugs is found.

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};
use taskmq_model::turns::{CALLED, LINES_HOLD, NOBODY_WAITS, ONE_RUNS, TurnBug, Turns};

#[test]
fn turns_with_any_five_faults() {
    let began = Instant::now();
    let turns = Turns { faults: 5, bug: None };
    let checker = turns.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let states = checker.unique_state_count();
    println!("turns, any five faults: {states} states, {:.1} s", began.elapsed().as_secs_f64());
    let mut found = checker.discoveries();
    assert!(found.remove(CALLED).is_some(), "never so: {CALLED}");
    if let Some((name, path)) = found.into_iter().next() {
        panic!("not so: {name}\n{:?}", path.into_actions());
    }
}

/// Looks for a state of which this property tells, and shows the way to it.
fn finds(bug: TurnBug, faults: u8, property: &'static str) {
    let finish = HasDiscoveries::AnyOf([property].into());
    let checker = Turns { faults, bug: Some(bug) }.checker().finish_when(finish).spawn_bfs().join();
    let path =
        checker.discovery(property).unwrap_or_else(|| panic!("{bug:?}: nothing is found of {property:?}"));
    println!("{bug:?}: {property}, {} states\n{:?}", checker.unique_state_count(), path.into_actions());
}

#[test]
fn a_turn_that_is_read_without_its_lock() {
    finds(TurnBug::ReadUnlocked, 0, LINES_HOLD);
}

#[test]
fn a_turn_that_nobody_looks_at() {
    finds(TurnBug::NotLookedAt, 0, ONE_RUNS);
}

#[test]
fn nobody_is_called_up() {
    finds(TurnBug::NobodyCalled, 0, LINES_HOLD);
}

#[test]
fn a_rescue_that_ends_a_turn() {
    finds(TurnBug::RescueEndsTurn, 1, LINES_HOLD);
}

#[test]
fn a_turn_that_is_not_mended() {
    finds(TurnBug::NotMended, 1, NOBODY_WAITS);
}
