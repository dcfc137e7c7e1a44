//! The model checker at work. `-- --nocapture` shows the numbers of states, and the ways to what was found.
#![allow(clippy::print_stdout, reason = "how much was looked at, and what was found, is worth reading")]

mod bugs;
mod endings;
mod limits;
mod rules;
mod turns;

use std::time::Instant;

use stateright::{Checker, HasDiscoveries, Model};
use taskmq_model::{Protocol, story};

/// Looks at every state: all that has to be so in every state is, and all that has to be so in some state is in one.
fn holds(what: &str, protocol: Protocol) {
    let began = Instant::now();
    let sometimes = protocol.sometimes.clone();
    let checker = protocol.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    println!("{what}: {} states, {:.1} s", checker.unique_state_count(), began.elapsed().as_secs_f64());
    let mut found = checker.discoveries();
    for name in sometimes {
        assert!(found.remove(name).is_some(), "{what}: never so: {name}");
    }
    if let Some((name, path)) = found.into_iter().next() {
        panic!("{what}: not so: {name}\n{}", story::tell(&path));
    }
}

/// Looks for a state of which this property tells, and shows the way to it.
fn finds(protocol: Protocol, property: &'static str) {
    let bug = protocol.bug;
    let finish = HasDiscoveries::AnyOf([property].into());
    let checker = protocol.checker().finish_when(finish).spawn_bfs().join();
    let path = checker.discovery(property);
    let path = path.unwrap_or_else(|| panic!("{bug:?}: nothing is found of {property:?}"));
    let bug = bug.map_or(String::new(), |bug| format!("{bug:?}: "));
    println!("{bug}{property}, {} states\n{}", checker.unique_state_count(), story::tell(&path));
}
