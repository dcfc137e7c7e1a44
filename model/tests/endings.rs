//! Every run ends. Where a run ends, every message has ended: that is a property of states, and the checker looks at
//! it. That no run goes on for ever is not, so it is looked at here.

use std::collections::HashMap;
use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use stateright::Model;
use taskmq_model::{Fault, Protocol, State};

/// How many states there are, if none can be reached from itself.
fn states_without_cycle(protocol: &Protocol) -> Option<usize> {
    let hasher = BuildHasherDefault::<DefaultHasher>::default();
    // Whether the way to this state is the one being followed now.
    let mut on_the_way: HashMap<u64, bool> = HashMap::new();
    let mut way: Vec<(u64, Vec<State>)> = Vec::new();
    let mut next = protocol.init_states().pop();
    loop {
        if let Some(state) = next {
            let key = hasher.hash_one(&state);
            match on_the_way.get(&key) {
                Some(true) => return None,
                Some(false) => {}
                None => {
                    on_the_way.insert(key, true);
                    way.push((key, protocol.next_states(&state)));
                }
            }
        }
        let Some((key, left)) = way.last_mut() else { return Some(on_the_way.len()) };
        next = left.pop();
        if next.is_none() {
            on_the_way.insert(*key, false);
            way.pop();
        }
    }
}

fn all_end(what: &str, protocol: &Protocol) {
    let states = states_without_cycle(protocol);
    println!("{what}: {states:?} states, and no way back to any");
    assert!(states.is_some(), "{what}: a run can go on for ever");
}

#[test]
fn with_any_fault_and_handlers_that_fail() {
    let protocol = Protocol { faults: Fault::ALL.to_vec(), budget: 1, ..Protocol::default() };
    all_end("two messages that may fail, any fault", &protocol);
}

#[test]
fn with_poison_and_any_fault() {
    let poisoned = Protocol { poison: Some(0), errors: false, ..Protocol::default() };
    let protocol = Protocol { faults: Fault::ALL.to_vec(), budget: 1, ..poisoned };
    all_end("poison and a message, any fault", &protocol);
}
