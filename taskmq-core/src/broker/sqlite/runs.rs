//! Stretches of successive ids. What lies in one is found, told apart and deleted by its two ends, which costs a fraction
//! of looking each id up.

use crate::MessageId;

/// The first and the last id.
pub(super) type Run = (MessageId, MessageId);

pub(super) fn runs(mut ids: Vec<MessageId>) -> Vec<Run> {
    ids.sort_unstable();
    let mut runs: Vec<Run> = Vec::new();
    for id in ids {
        match runs.last_mut() {
            Some((_, last)) if id <= last.saturating_add(1) => *last = id,
            _ => runs.push((id, id)),
        }
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn successive_ids_are_one_run() {
        assert_eq!(runs(vec![7, 3, 1, 2, 9, 8, 2]), [(1, 3), (7, 9)]);
        assert_eq!(runs(vec![i64::MAX, i64::MAX, i64::MIN]), [(i64::MIN, i64::MIN), (i64::MAX, i64::MAX)]);
        assert_eq!(runs(Vec::new()), []);
    }
}
