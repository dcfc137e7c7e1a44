//! Transactions, and what is run again because two of them stood in each other's way.

use std::time::Duration;

use super::Broker;
use crate::Result;

/// So often at most.
const TRIES: u32 = 10;

/// Runs what is a transaction of its own again when the database undid it because another one stood in its way: nothing of it
/// has happened then. When it is part of its caller's transaction, all of that may be undone, and only the caller can do
/// it again.
pub(super) fn again<B: Broker + ?Sized, T>(
    broker: &mut B,
    mut run: impl FnMut(&mut B) -> Result<T>,
) -> Result<T> {
    let alone = !broker.is_in_transaction()?;
    let mut tries = 0;
    loop {
        match run(broker) {
            Err(error) if alone && tries < TRIES && error.is_blocked() => {
                give_way(tries);
                tries += 1;
            }
            outcome => return outcome,
        }
    }
}

/// In a transaction, or in a savepoint of the one that is open.
pub(crate) fn atomically<B: Broker + ?Sized, T>(
    broker: &mut B,
    mut operation: impl FnMut(&mut B) -> Result<T>,
) -> Result<T> {
    again(broker, |broker| {
        broker.begin()?;
        let outcome = operation(broker).and_then(|value| broker.commit().map(|()| value));
        if outcome.is_err() {
            // If this fails too, the connection is of no use any more, and with it ends the transaction.
            let _ = broker.rollback();
        }
        outcome
    })
}

/// Those who stood in each other's way would do so again if all began anew at once: a few milliseconds, ever more, by chance.
fn give_way(tries: u32) {
    std::thread::sleep(Duration::from_millis(2 << tries.min(5)).mul_f64(fastrand::f64()));
}
