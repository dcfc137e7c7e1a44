//! What has to be so in every state, and what has to be so in some.

use stateright::Property;

use crate::actions::due;
use crate::judge::Event;
use crate::server::Holder;
use crate::state::State;
use crate::{MESSAGES, MessageId, Protocol};

fn is_dead(state: &State, message: MessageId) -> bool {
    state.server.archive[message].is_some_and(|archived| !archived.done)
}

fn is_isolated(protocol: &Protocol, state: &State) -> bool {
    protocol.poison.is_some_and(|poison| is_dead(state, poison))
        && state.server.archive.iter().flatten().any(|archived| archived.done && archived.suspicions >= 2)
}

fn is_quiet(protocol: &Protocol, state: &State) -> bool {
    let mut actions = Vec::new();
    due(protocol, state, &mut actions);
    actions.is_empty()
}

/// In every state.
pub mod always {
    /// Each message lives, or is in the archive, and not both.
    pub const KEPT: &str = "no message vanishes, and none is there twice";
    /// A message is leased to one worker at most.
    pub const ONE_LEASE: &str = "a message has one lease at most";
    /// Fencing.
    pub const FENCED: &str = "nobody writes without a lease that holds";
    /// Done means done.
    pub const DONE: &str = "only what succeeded is done";
    /// Attempts are charged for a reason.
    pub const CHARGED: &str = "an attempt counts only if it failed or its worker died";
    /// Dead letters have had all their attempts.
    pub const BURIED: &str = "a dead letter has used up its attempts";
    /// Innocent messages are not charged.
    pub const BLAMED: &str = "no message is charged with a death that it did not cause";
    /// Healthy workers are not given up.
    pub const CONDEMNED: &str = "no worker is taken for dead that can take its lock again";
    /// Liveness: where nothing is left that has to happen, every message has ended.
    pub const ENDED: &str = "every message ends, done or dead";
}

/// In some state, or the others would prove little.
pub mod sometimes {
    /// A rescue happens.
    pub const RESCUED: &str = "a worker is rescued";
    /// Fencing has something to do.
    pub const REFUSED: &str = "an outcome is refused";
    /// The grace is of use.
    pub const RETAKEN: &str = "a lock that was seen free is taken again";
    /// Batches are rescued in every state.
    pub const PART_RESCUED: &str = "a batch is settled in part, and the rest of it rescued";
    /// Poison is found.
    pub const ISOLATED: &str = "the poison is buried, and what was suspected with it is done";
    /// What the rules do not prevent: see `docs/model.md`.
    pub const INNOCENT_BURIED: &str = "a message that never failed and is no poison is buried";
}

pub(crate) fn all(protocol: &Protocol) -> Vec<Property<Protocol>> {
    let mut properties = vec![
        Property::always(always::KEPT, |protocol: &Protocol, state: &State| {
            (0..protocol.messages)
                .all(|m| state.server.rows[m].is_some() != state.server.archive[m].is_some())
        }),
        Property::always(always::ONE_LEASE, |_, state: &State| {
            (0..MESSAGES).all(|message| state.server.leases(message) <= 1)
                && !state
                    .server
                    .batched()
                    .iter()
                    .any(|m| state.server.rows[m].is_some_and(|row| row.holder != Holder::Nobody))
        }),
        Property::always(always::FENCED, |_, state: &State| !state.events.has(Event::Trespassed)),
        Property::always(always::DONE, |_, state: &State| !state.events.has(Event::NotDone)),
        Property::always(always::CHARGED, |_, state: &State| !state.events.has(Event::Overcharged)),
        Property::always(always::BURIED, |_, state: &State| !state.events.has(Event::BuriedEarly)),
        Property::always(always::BLAMED, |_, state: &State| !state.events.has(Event::Blamed)),
        Property::always(always::CONDEMNED, |_, state: &State| !state.events.has(Event::Condemned)),
        Property::always(always::ENDED, |protocol: &Protocol, state: &State| {
            state.server.live().is_empty() || !is_quiet(protocol, state)
        }),
    ];
    properties.extend(protocol.sometimes.iter().map(|name| {
        Property::sometimes(
            name,
            match *name {
                sometimes::RESCUED => |_: &Protocol, state: &State| state.events.has(Event::Rescued),
                sometimes::REFUSED => |_: &Protocol, state: &State| state.events.has(Event::Fenced),
                sometimes::RETAKEN => |_: &Protocol, state: &State| state.events.has(Event::Retaken),
                sometimes::PART_RESCUED => |_: &Protocol, state: &State| state.events.has(Event::PartRescued),
                sometimes::INNOCENT_BURIED => |protocol: &Protocol, state: &State| {
                    !protocol.errors && (0..MESSAGES).any(|m| is_dead(state, m) && protocol.poison != Some(m))
                },
                _ => is_isolated,
            },
        )
    }));
    properties
}
