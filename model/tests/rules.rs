//! The rules hold.

use taskmq_model::properties::sometimes;
use taskmq_model::{Fault, Protocol};

use super::holds;

const USUAL: [&str; 4] =
    [sometimes::RESCUED, sometimes::REFUSED, sometimes::RETAKEN, sometimes::PART_RESCUED];

/// Handlers succeed, or end the process: a failure that is reported shows the same as one more message.
fn without_errors() -> Protocol {
    Protocol { errors: false, ..Protocol::default() }
}

fn any(budget: u8, protocol: Protocol) -> Protocol {
    Protocol { faults: Fault::ALL.to_vec(), budget, sometimes: USUAL.to_vec(), ..protocol }
}

/// On PostgreSQL a crash of the server may undo claims, and then the blame can be wrong: see `limits`.
fn with_poison(protocol: Protocol) -> Protocol {
    let sometimes = [protocol.sometimes.as_slice(), &[sometimes::ISOLATED]].concat();
    Protocol { poison: Some(0), lazy_claims: false, sometimes, ..protocol }
}

#[test]
fn with_any_two_faults() {
    holds("two messages, any two faults", any(2, without_errors()));
}

#[test]
fn with_any_fault_and_handlers_that_fail() {
    holds("two messages that may fail, any fault", any(1, Protocol::default()));
}

#[test]
fn with_any_fault_and_three_messages() {
    holds("three messages, any fault", any(1, Protocol { messages: 3, ..without_errors() }));
}

#[test]
fn with_three_faults_of_a_kind() {
    for fault in Fault::ALL {
        let protocol = Protocol { faults: vec![fault], budget: 3, ..without_errors() };
        holds(&format!("two messages, three times {fault:?}"), protocol);
    }
}

#[test]
fn with_two_faults_of_a_kind_and_handlers_that_fail() {
    for fault in Fault::ALL {
        let protocol = Protocol { faults: vec![fault], budget: 2, ..Protocol::default() };
        holds(&format!("two messages that may fail, twice {fault:?}"), protocol);
    }
}

#[test]
fn with_poison_among_three_messages() {
    let protocol = Protocol { messages: 3, sometimes: vec![sometimes::RESCUED], ..Protocol::default() };
    holds("poison and two messages that may fail", with_poison(protocol));
}

#[test]
fn with_poison_and_any_fault() {
    holds("poison and a message, any fault", with_poison(any(1, without_errors())));
}

#[test]
#[ignore = "takes minutes, and gigabytes"]
fn with_any_three_faults() {
    holds("two messages, any three faults", any(3, without_errors()));
}

#[test]
#[ignore = "takes minutes, and gigabytes"]
fn with_any_two_faults_and_handlers_that_fail() {
    holds("two messages that may fail, any two faults", any(2, Protocol::default()));
}

#[test]
#[ignore = "takes minutes, and gigabytes"]
fn with_poison_and_any_two_faults() {
    holds("poison and a message, any two faults", with_poison(any(2, without_errors())));
}

#[test]
#[ignore = "takes minutes, and gigabytes"]
fn with_poison_among_three_messages_and_any_fault() {
    let protocol = Protocol { messages: 3, ..without_errors() };
    holds("poison and two messages, any fault", with_poison(any(1, protocol)));
}
