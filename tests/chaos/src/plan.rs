//! Which faults come when: everything that is chosen, by a seed alone.

use std::time::Duration;

use fastrand::Rng;
use taskmq_core::Backend;

/// A fault and its time.
#[derive(Clone, Debug, PartialEq)]
pub struct Strike {
    /// After the beginning; later if too few workers would be left.
    pub at: Duration,
    /// What is done.
    pub fault: Fault,
}

/// What is done to whom. If that worker is down, paused or cut off, it is done to the next one.
#[derive(Clone, Debug, PartialEq)]
pub enum Fault {
    /// SIGKILL; it is started again after a while.
    Kill {
        /// Which worker.
        worker: usize,
        /// The while.
        down: Duration,
    },
    /// SIGTERM; it is started again a while after it ended.
    Stop {
        /// Which worker.
        worker: usize,
        /// The while.
        down: Duration,
    },
    /// SIGSTOP, and SIGCONT after a while.
    Pause {
        /// Which worker.
        worker: usize,
        /// The while.
        lasts: Duration,
    },
    /// All its connections are reset.
    Reset {
        /// Which worker.
        worker: usize,
    },
    /// Everything that it sends or is sent is dropped for a while, and its connections of that time stay silent.
    Cut {
        /// Which worker.
        worker: usize,
        /// The while.
        lasts: Duration,
    },
    /// SIGKILL to the server; it is started again after a while.
    KillServer {
        /// The while.
        down: Duration,
    },
    /// SIGKILL to a producer; another one begins at once.
    KillProducer {
        /// Which.
        producer: usize,
    },
    /// All its connections are reset.
    ResetProducer {
        /// Which.
        producer: usize,
    },
}

/// So many workers there are,
pub const WORKERS: usize = 6;
/// and so many producers.
pub const PRODUCERS: usize = 2;

/// The mean time between two faults of all kinds;
const GAP: Duration = Duration::from_millis(700);
/// between two kills alone it is longer: who is to see a death must live for a while.
const GAP_OF_KILLS: Duration = Duration::from_millis(2500);
/// A worker that is paused or cut off for so long at least loses its leases.
const PAST_THE_LEASE: f64 = 7.0;

/// Which faults are chosen from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Faults {
    /// All that the database has.
    All,
    /// SIGKILL to workers alone: what else goes on does not disturb the times of their rescues.
    Kills,
}

/// Faults for so long.
pub fn plan(seed: u64, length: Duration, backend: Backend, faults: Faults) -> Vec<Strike> {
    let mut rng = Rng::with_seed(seed);
    let mut strikes = Vec::new();
    let mut at = Duration::ZERO;
    let mut deck = Vec::new();
    let gap = if faults == Faults::Kills { GAP_OF_KILLS } else { GAP };
    loop {
        // At random times, but each kind in its proportion.
        at += gap.mul_f64(-(1.0 - rng.f64()).ln()).min(4 * gap);
        if at >= length {
            return strikes;
        }
        if deck.is_empty() {
            deck = self::deck(backend, faults);
            rng.shuffle(&mut deck);
        }
        let Some(card) = deck.pop() else { return strikes };
        strikes.push(Strike { at, fault: card(&mut rng) });
    }
}

type Card = fn(&mut Rng) -> Fault;

fn deck(backend: Backend, faults: Faults) -> Vec<Card> {
    let kill: Card =
        |rng| Fault::Kill { worker: rng.usize(..WORKERS), down: Duration::from_secs_f64(2.0 * rng.f64()) };
    if faults == Faults::Kills {
        return vec![kill];
    }
    let stop: Card =
        |rng| Fault::Stop { worker: rng.usize(..WORKERS), down: Duration::from_secs_f64(rng.f64()) };
    let pause: Card = |rng| Fault::Pause {
        worker: rng.usize(..WORKERS),
        lasts: Duration::from_secs_f64(PAST_THE_LEASE + 3.0 * rng.f64()),
    };
    let blink: Card =
        |rng| Fault::Pause { worker: rng.usize(..WORKERS), lasts: Duration::from_secs_f64(4.0 * rng.f64()) };
    let kill_producer: Card = |rng| Fault::KillProducer { producer: rng.usize(..PRODUCERS) };
    let mut deck = vec![kill, kill, kill, kill, kill, kill, stop, stop, pause, pause, blink, kill_producer];
    if backend != Backend::Sqlite {
        let reset: Card = |rng| Fault::Reset { worker: rng.usize(..WORKERS) };
        let cut: Card = |rng| Fault::Cut {
            worker: rng.usize(..WORKERS),
            lasts: Duration::from_secs_f64(2.0 + 7.0 * rng.f64()),
        };
        let kill_server: Card = |rng| Fault::KillServer { down: Duration::from_secs_f64(2.0 * rng.f64()) };
        let reset_producer: Card = |rng| Fault::ResetProducer { producer: rng.usize(..PRODUCERS) };
        deck.extend([reset, reset, cut, cut, kill_server, reset_producer]);
    }
    deck
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_chooses_everything() {
        let of = |seed| plan(seed, Duration::from_secs(60), Backend::Postgres, Faults::All);
        assert_eq!(of(7), of(7));
        assert_ne!(of(7), of(8));
        let longer = plan(7, Duration::from_secs(120), Backend::Postgres, Faults::All);
        assert_eq!(longer[..of(7).len()], of(7), "a longer run begins like a shorter one");
    }

    #[test]
    fn every_kind_of_fault_comes() {
        for seed in 0..20 {
            let strikes = plan(seed, Duration::from_secs(60), Backend::Mysql, Faults::All);
            let mut kinds: Vec<_> =
                strikes.iter().map(|strike| std::mem::discriminant(&strike.fault)).collect();
            kinds.dedup();
            let distinct: std::collections::HashSet<_> = kinds.into_iter().collect();
            assert_eq!(distinct.len(), 8, "{strikes:?}");
        }
    }

    #[test]
    fn a_file_has_no_server_and_no_line() {
        let strikes = plan(1, Duration::from_secs(600), Backend::Sqlite, Faults::All);
        let of_a_server = |fault: &Fault| {
            matches!(
                fault,
                Fault::Reset { .. }
                    | Fault::Cut { .. }
                    | Fault::KillServer { .. }
                    | Fault::ResetProducer { .. }
            )
        };
        assert!(strikes.len() > 100 && !strikes.iter().any(|strike| of_a_server(&strike.fault)));
    }
}
