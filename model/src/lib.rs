//! A model of taskmq's leases, for the model checker [stateright].
//!
//! Two processes consume messages of one database. They follow the rules of `taskmq-core`, while connections break at
//! the worst moments, processes are paused and killed, and the server crashes. The checker tries every order in which
//! all that can happen, and looks for a state that should not be. `docs/model.md` says what is covered and what is not.

pub mod actions;
pub mod broker;
pub mod bug;
mod dispatch;
pub mod judge;
mod liveness;
pub mod properties;
pub mod server;
pub mod sets;
pub mod state;
pub mod story;
pub mod turns;
mod words;
pub mod worker;

use stateright::{Model, Property};

pub use actions::Action;
pub use bug::Bug;
pub use state::State;

/// A message, from 0.
pub type MessageId = usize;
/// A worker's process, from 0.
pub type ProcessId = usize;

/// The most messages.
pub const MESSAGES: usize = 3;
/// The processes.
pub const PROCESSES: usize = 2;

/// How a process is called: A, B.
pub fn name(process: ProcessId) -> char {
    if process == 0 { 'A' } else { 'B' }
}

/// What may go wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A connection is lost while a transaction runs on it.
    NoReply,
    /// The connection of a liveness thread is lost.
    Cut,
    /// A process is stopped, asleep or cut off.
    Pause,
    /// A process is killed.
    Crash,
    /// A process is told to stop. No fault, but as rare.
    Stop,
    /// The server crashes.
    Restart,
}

impl Fault {
    /// Every kind.
    pub const ALL: [Self; 6] =
        [Self::NoReply, Self::Cut, Self::Pause, Self::Crash, Self::Stop, Self::Restart];
}

/// The rules, and what may go wrong with how much of it.
#[derive(Clone, Debug)]
pub struct Protocol {
    /// How many messages there are.
    pub messages: usize,
    /// How often a message is begun at most.
    pub max_attempts: u8,
    /// The message whose handler ends the process.
    pub poison: Option<MessageId>,
    /// Handlers of other messages may fail.
    pub errors: bool,
    /// Claims do not wait for the disk, so a crash of the server may undo them.
    pub lazy_claims: bool,
    /// The kinds of faults that may come,
    pub faults: Vec<Fault>,
    /// and how many altogether.
    pub budget: u8,
    /// What is not done by the rules.
    pub bug: Option<Bug>,
    /// What has to be so in some state: names out of [`properties::sometimes`].
    pub sometimes: Vec<&'static str>,
}

impl Default for Protocol {
    /// Two messages, none of them poison, and no faults.
    fn default() -> Self {
        Self {
            messages: 2,
            max_attempts: 2,
            poison: None,
            errors: true,
            lazy_claims: true,
            faults: Vec::new(),
            budget: 0,
            bug: None,
            sometimes: Vec::new(),
        }
    }
}

impl Model for Protocol {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State::first(self)]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        actions::possible(self, state, actions);
    }

    fn next_state(&self, state: &State, action: Action) -> Option<State> {
        Some(state.after(self, &action))
    }

    fn properties(&self) -> Vec<Property<Self>> {
        properties::all(self)
    }
}
