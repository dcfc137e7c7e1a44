//! What the rules do not prevent, so that nobody believes that they do.

use taskmq_model::properties::{always, sometimes};
use taskmq_model::{Fault, Protocol};

use super::finds;

fn poisoned() -> Protocol {
    Protocol { errors: false, poison: Some(0), ..Protocol::default() }
}

/// It was with the poison at two deaths, and then its worker is killed from outside while it runs alone: that looks
/// the same as if it were poison itself, so it is charged with all three.
#[test]
fn one_kill_from_outside_can_bury_a_suspected_message() {
    let (faults, sometimes) = (vec![Fault::Crash], vec![sometimes::INNOCENT_BURIED]);
    let protocol = Protocol { faults, budget: 1, sometimes, lazy_claims: false, ..poisoned() };
    finds(protocol, sometimes::INNOCENT_BURIED);
}

/// What a worker runs although the server forgot its claim is not known when it dies.
#[test]
fn a_crash_of_the_server_can_put_the_blame_on_another_message() {
    let protocol = Protocol { faults: vec![Fault::Restart], budget: 1, ..poisoned() };
    finds(protocol, always::BLAMED);
}
