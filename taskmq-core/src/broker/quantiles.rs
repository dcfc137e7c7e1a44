//! How long most took, and how long the slow ones.

use chrono::TimeDelta;

/// The middle and the slow end of some times, by nearest rank.
///
/// ```
/// use chrono::TimeDelta;
/// use taskmq_core::broker::Quantiles;
/// let of = Quantiles::of((1..=100).map(TimeDelta::seconds).collect());
/// assert_eq!(of, Some(Quantiles { p50: TimeDelta::seconds(50), p99: TimeDelta::seconds(99) }));
/// assert_eq!(Quantiles::of(Vec::new()), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quantiles {
    /// Half of them took no longer.
    pub p50: TimeDelta,
    /// One of a hundred took longer.
    pub p99: TimeDelta,
}

impl Quantiles {
    /// Of these times, in any order; a negative one counts as none. `None` of no times.
    pub fn of(mut times: Vec<TimeDelta>) -> Option<Self> {
        times.sort_unstable();
        let at = |percent: usize| {
            let rank = (times.len() * percent).div_ceil(100);
            times.get(rank.saturating_sub(1)).map(|time| (*time).max(TimeDelta::zero()))
        };
        Some(Self { p50: at(50)?, p99: at(99)? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_nearest_ranks() {
        let times = |n: i64| (1..=n).rev().map(TimeDelta::seconds).collect::<Vec<_>>();
        let of = |n| Quantiles::of(times(n)).map(|q| (q.p50.num_seconds(), q.p99.num_seconds()));
        assert_eq!(of(0), None);
        assert_eq!(of(1), Some((1, 1)));
        assert_eq!(of(100), Some((50, 99)));
        assert_eq!(of(1000), Some((500, 990)));
    }
}
