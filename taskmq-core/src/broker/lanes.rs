//! The order in which a claim goes through the priorities of a topic.

use std::time::Duration;

use crate::Result;

/// The priorities of a topic that have any message, one after the other.
pub(super) enum Lanes {
    /// The highest first, each looked up when it is its turn.
    Highest { below: i32 },
    /// In an order that is known, the last one first.
    Known(Vec<i16>),
}

impl Lanes {
    /// Without ageing the highest first. With it, `aged` gives each with the seconds that its first message has been
    /// due, and each `ageing` that it waited counts as one priority.
    pub(super) fn of(
        ageing: Option<Duration>,
        aged: impl FnOnce() -> Result<Vec<(i16, f64)>>,
    ) -> Result<Self> {
        let Some(ageing) = ageing else { return Ok(Self::Highest { below: i32::from(i16::MAX) + 1 }) };
        let rank =
            |(priority, waited): (i16, f64)| f64::from(priority) + waited.max(0.0) / ageing.as_secs_f64();
        let mut lanes = aged()?;
        lanes.sort_by(|a, b| rank(*a).total_cmp(&rank(*b)));
        Ok(Self::Known(lanes.into_iter().map(|(priority, _)| priority).collect()))
    }

    /// The next one; `next_below` looks up the highest below a priority.
    pub(super) fn next(
        &mut self,
        next_below: impl FnOnce(i32) -> Result<Option<i16>>,
    ) -> Result<Option<i16>> {
        match self {
            Self::Known(lanes) => Ok(lanes.pop()),
            Self::Highest { below } => {
                let next = next_below(*below)?;
                if let Some(priority) = next {
                    *below = i32::from(priority);
                }
                Ok(next)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waited_long_enough_comes_before_a_higher_priority() {
        let order = |ageing: u64| {
            let aged = || Ok(vec![(10, 1.0), (0, 100.0), (-5, 0.0), (-9, -60.0)]);
            let mut lanes = Lanes::of(Some(Duration::from_secs(ageing)), aged).expect("an order");
            std::iter::from_fn(|| lanes.next(|_| Ok(None)).expect("is known")).collect::<Vec<i16>>()
        };
        assert_eq!(order(5), [0, 10, -5, -9]);
        assert_eq!(order(60), [10, 0, -5, -9]);
    }

    #[test]
    fn without_ageing_each_is_looked_up_below_the_last() {
        let mut lanes = Lanes::of(None, || panic!("is not asked for")).expect("an order");
        let next = |below: i32| Ok([7, 0, -3].into_iter().find(|priority| i32::from(*priority) < below));
        let order: Vec<i16> = std::iter::from_fn(|| lanes.next(next).expect("is known")).collect();
        assert_eq!(order, [7, 0, -3]);
    }
}
