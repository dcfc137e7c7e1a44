//! How often a password may be tried.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many wrong passwords are free for an address, and for all together,
const FREE_FOR_ONE: u32 = 5;
const FREE_FOR_ALL: u32 = 50;
/// and one more after each of these times.
const ANOTHER_FOR_ONE: Duration = Duration::from_secs(10);
const ANOTHER_FOR_ALL: Duration = Duration::from_secs(1);
/// More addresses than this are not told apart any more.
const ADDRESSES: usize = 10_000;

#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// When each address will have all its free tries again; without an address, all together.
    free_again: HashMap<Option<IpAddr>, Instant>,
}

impl Attempts {
    /// Counts a try. The error says how long to wait for the next.
    pub(super) fn begin(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        self.begin_at(address, Instant::now())
    }

    fn begin_at(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.free_again.retain(|_, at| *at > now);
        let known = address.map(network).filter(|address| {
            counted.free_again.len() < ADDRESSES || counted.free_again.contains_key(&Some(*address))
        });
        let mut next = Vec::new();
        for (who, free, another) in
            [(known, FREE_FOR_ONE, ANOTHER_FOR_ONE), (None, FREE_FOR_ALL, ANOTHER_FOR_ALL)]
        {
            let at = counted.free_again.get(&who).copied().unwrap_or(now).max(now) + another;
            let wait = at.saturating_duration_since(now + another * free);
            if !wait.is_zero() {
                return Err(wait);
            }
            next.push((who, at));
        }
        counted.free_again.extend(next);
        Ok(())
    }

    /// It was the right one after all: the address has its tries again.
    pub(super) fn forgive(&self, address: Option<IpAddr>) {
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        counted.free_again.remove(&address.map(network));
    }
}

/// Who has one IPv6 address has 2^64 of them.
fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((u128::from(v6) & !u128::from(u64::MAX)).into()),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_must_wait_and_the_others_need_not() {
        let attempts = Attempts::default();
        let (one, other) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        let now = Instant::now();
        for _ in 0..FREE_FOR_ONE {
            assert!(attempts.begin_at(one, now).is_ok());
        }
        let wait = attempts.begin_at(one, now).expect_err("too many");
        assert!(!wait.is_zero() && wait <= ANOTHER_FOR_ONE);
        assert!(attempts.begin_at(other, now).is_ok());
        assert!(attempts.begin_at(one, now + wait).is_ok());
    }

    #[test]
    fn many_addresses_together_must_wait_too() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let tried = (0..=255).filter(|n| attempts.begin_at(Some([10, 0, 1, *n].into()), now).is_ok()).count();
        assert_eq!(tried, FREE_FOR_ALL as usize);
        let v6 = |n: u128| Some(IpAddr::V6((0x2001_0db8_u128 << 96 | n).into()));
        let attempts = Attempts::default();
        assert_eq!(
            (0..100).filter(|n| attempts.begin_at(v6(*n), now).is_ok()).count(),
            FREE_FOR_ONE as usize
        );
    }
}
