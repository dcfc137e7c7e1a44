use chrono::TimeDelta;

/// The middle and the slow end of some times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Quantiles {
    pub(crate) p50: TimeDelta,
    pub(crate) p99: TimeDelta,
}

impl Quantiles {
    pub(crate) fn of(mut times: Vec<TimeDelta>) -> Option<Self> {
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
