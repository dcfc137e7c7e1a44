//! The turns of an ordering key, apart from all else: who may be leased, who stands in the line, and who passes the turn on.
//! A model of its own, for with the leases it would have too many states: here a lease either is there or is not.

use stateright::{Model, Property};

use crate::{MESSAGES, MessageId, PROCESSES, ProcessId};

/// A message of the key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Place {
    /// Not produced, or not due yet.
    Later,
    /// Where claims meet it.
    Ready,
    /// In the line.
    Line,
    /// Leased.
    Leased(ProcessId),
    /// Done, dead or deleted.
    Gone,
}

/// A claim that has met these messages and is still to look at the turn. It holds the lock on claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Claiming {
    /// Whose.
    pub process: ProcessId,
    /// What it met.
    pub met: [bool; MESSAGES],
    /// Whose turn it was then. Only [`TurnBug::ReadUnlocked`] believes it.
    pub turn: Option<MessageId>,
}

/// One key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Key {
    /// Its messages, in their order.
    pub places: [Place; MESSAGES],
    /// Whose turn it is; `None`: it has no row.
    pub turn: Option<MessageId>,
    /// The claim under way.
    pub claiming: Option<Claiming>,
    /// The processes that are there.
    pub alive: [bool; PROCESSES],
    /// So many attempts may still fail, processes die, and persons delete what they should not.
    pub faults: u8,
    /// Somebody was called up out of the line.
    pub called: bool,
    /// A person deleted a message with SQL.
    pub deleted: bool,
}

/// What can happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Turning {
    /// A message is produced, or becomes due.
    Due(MessageId),
    /// A claim begins, and meets what is ready.
    Meet(ProcessId),
    /// It takes the turn's lock, and commits.
    Take,
    /// An attempt ends the message.
    End(MessageId),
    /// An attempt fails: the message keeps its turn.
    Fail(MessageId),
    /// A process dies.
    Die(ProcessId),
    /// Its messages are given back.
    Rescue(ProcessId),
    /// A process is started again.
    Start(ProcessId),
    /// A person deletes a message with SQL, which passes nothing on.
    Delete(MessageId),
    /// The housekeeping looks for turns that are gone, and lines without a turn.
    Mend,
}

/// What is not done by the rules.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TurnBug {
    /// A claim reads whose turn it is before it has the turn's lock.
    ReadUnlocked,
    /// Whoever is ready is leased, whose turn it may be.
    NotLookedAt,
    /// Who ends a message removes the turn, and calls nobody up.
    NobodyCalled,
    /// A rescue removes the turn of what it gives back.
    RescueEndsTurn,
    /// Nobody looks for the turn of a message that a person deleted.
    NotMended,
}

/// The rules of turns.
#[derive(Clone, Copy, Debug)]
pub struct Turns {
    /// How many faults may come.
    pub faults: u8,
    /// What is not done by them.
    pub bug: Option<TurnBug>,
}

/// At most one message of a key is leased.
pub const ONE_RUNS: &str = "of an ordering key one message runs at most";
/// Where nothing is left that has to happen, every message is gone.
pub const NOBODY_WAITS: &str = "nobody waits in a line for ever";
/// Nothing but a person breaks a line, so that it waits for the housekeeping.
pub const LINES_HOLD: &str = "whoever stands in a line stands behind a message that lives";
/// The line is of use.
pub const CALLED: &str = "somebody is called up out of a line";

impl Key {
    fn is_ready(&self, message: MessageId) -> bool {
        self.places[message] == Place::Ready
    }

    fn first(&self, place: Place) -> Option<MessageId> {
        (0..MESSAGES).find(|message| self.places[*message] == place)
    }

    /// This message lives no more. If it was its turn, it is that of the next in line now.
    fn pass(&mut self, bug: Option<TurnBug>, ended: MessageId) {
        if self.turn != Some(ended) {
            return;
        }
        self.turn = self.first(Place::Line).filter(|_| bug != Some(TurnBug::NobodyCalled));
        if let Some(next) = self.turn {
            self.places[next] = Place::Ready;
            self.called = true;
        }
    }

    fn take(&mut self, bug: Option<TurnBug>, claiming: Claiming) {
        let met = |message: &MessageId| claiming.met[*message];
        let Some(first) = (0..MESSAGES).find(met) else { return };
        let read = if bug == Some(TurnBug::ReadUnlocked) { claiming.turn } else { self.turn };
        let whose = read.unwrap_or(first);
        if read.is_none() {
            self.turn = Some(whose);
        }
        for message in (0..MESSAGES).filter(met).filter(|message| *message != whose) {
            if self.is_ready(message) && bug != Some(TurnBug::NotLookedAt) {
                self.places[message] = Place::Line;
            }
        }
        if self.is_ready(whose) && claiming.met[whose] {
            self.places[whose] = Place::Leased(claiming.process);
        } else if claiming.met[whose] {
            self.pass(bug, whose); // a person was faster
        } else if bug == Some(TurnBug::NotLookedAt) && self.is_ready(first) {
            self.places[first] = Place::Leased(claiming.process);
        }
    }

    fn mend(&mut self) {
        if let Some(gone) = self.turn.filter(|message| self.places[*message] == Place::Gone) {
            self.pass(None, gone);
        }
        if self.turn.is_none() {
            for place in self.places.iter_mut().filter(|place| **place == Place::Line) {
                *place = Place::Ready;
            }
        }
    }

    fn due(&self, bug: Option<TurnBug>) -> Vec<Turning> {
        let mut due = Vec::new();
        for (message, place) in self.places.iter().enumerate() {
            match *place {
                Place::Later => due.push(Turning::Due(message)),
                Place::Leased(process) if self.alive[process] => due.push(Turning::End(message)),
                _ => {}
            }
        }
        for process in 0..PROCESSES {
            if !self.alive[process] {
                due.push(Turning::Start(process));
                if self.places.contains(&Place::Leased(process)) {
                    due.push(Turning::Rescue(process));
                }
            } else if self.claiming.is_none() && self.first(Place::Ready).is_some() {
                due.push(Turning::Meet(process));
            }
        }
        if self.claiming.is_some() {
            due.push(Turning::Take);
        }
        let mut mended = *self;
        mended.mend();
        if mended != *self && bug != Some(TurnBug::NotMended) {
            due.push(Turning::Mend);
        }
        due
    }
}

impl Model for Turns {
    type State = Key;
    type Action = Turning;

    fn init_states(&self) -> Vec<Key> {
        vec![Key {
            places: [Place::Later; MESSAGES],
            turn: None,
            claiming: None,
            alive: [true; PROCESSES],
            faults: self.faults,
            called: false,
            deleted: false,
        }]
    }

    fn actions(&self, key: &Key, actions: &mut Vec<Turning>) {
        actions.extend(key.due(self.bug));
        if key.faults == 0 {
            return;
        }
        actions.extend((0..PROCESSES).filter(|process| key.alive[*process]).map(Turning::Die));
        for (message, place) in key.places.iter().enumerate() {
            match *place {
                Place::Leased(process) if key.alive[process] => actions.push(Turning::Fail(message)),
                Place::Ready | Place::Line => actions.push(Turning::Delete(message)),
                _ => {}
            }
        }
    }

    fn next_state(&self, key: &Key, action: Turning) -> Option<Key> {
        let mut next = *key;
        match action {
            Turning::Due(message) => next.places[message] = Place::Ready,
            Turning::Meet(process) => {
                let met = std::array::from_fn(|message| key.is_ready(message));
                next.claiming = Some(Claiming { process, met, turn: key.turn });
            }
            Turning::Take => {
                let claiming = next.claiming.take()?;
                next.take(self.bug, claiming);
            }
            Turning::End(message) => {
                next.places[message] = Place::Gone;
                next.pass(self.bug, message);
            }
            Turning::Fail(message) => {
                next.places[message] = Place::Later;
                next.faults -= 1;
            }
            Turning::Die(process) => {
                next.alive[process] = false;
                next.claiming = key.claiming.filter(|claiming| claiming.process != process);
                next.faults -= 1;
            }
            Turning::Rescue(process) => {
                for message in (0..MESSAGES).filter(|m| key.places[*m] == Place::Leased(process)) {
                    next.places[message] = Place::Ready;
                    if self.bug == Some(TurnBug::RescueEndsTurn) && next.turn == Some(message) {
                        next.turn = None;
                    }
                }
            }
            Turning::Start(process) => {
                // A lease of the former one is rescued first, for this is another worker.
                if key.places.contains(&Place::Leased(process)) {
                    return None;
                }
                next.alive[process] = true;
            }
            Turning::Delete(message) => {
                next.places[message] = Place::Gone;
                next.deleted = true;
                next.faults -= 1;
            }
            Turning::Mend => next.mend(),
        }
        Some(next)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(ONE_RUNS, |_, key: &Key| {
                key.places.iter().filter(|place| matches!(place, Place::Leased(_))).count() <= 1
            }),
            Property::always(NOBODY_WAITS, |turns: &Self, key: &Key| {
                key.places.iter().all(|place| *place == Place::Gone) || !key.due(turns.bug).is_empty()
            }),
            Property::always(LINES_HOLD, |_, key: &Key| {
                let lives = key.turn.is_some_and(|message| key.places[message] != Place::Gone);
                key.deleted || lives || !key.places.contains(&Place::Line)
            }),
            Property::sometimes(CALLED, |_, key: &Key| key.called),
        ]
    }
}
