//! How often a secret may be tried.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// So many wrong secrets are free for an address, and so many wrong passwords for all together,
const ONE: Allowance = Allowance { free: 5, another: Duration::from_secs(10) };
const ALL: Allowance = Allowance { free: 50, another: Duration::from_secs(1) };
/// More addresses than this are not told apart any more.
const ADDRESSES: usize = 10_000;

struct Allowance {
    free: u32,
    /// and one more after each of these times.
    another: Duration,
}

#[derive(Debug, Default)]
pub(super) struct Attempts(Mutex<Counted>);

#[derive(Debug, Default)]
struct Counted {
    /// When each address will have all its free tries again; without an address, all together.
    free_again: HashMap<Option<IpAddr>, Instant>,
}

impl Attempts {
    /// Counts a try of a password, which people choose. The error says how long to wait for the next.
    pub(super) fn begin(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        self.begin_at(address, Instant::now())
    }

    /// Whether this address has a try left. A token cannot be guessed by many together, so the others do not count.
    pub(super) fn check(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        self.check_at(address, Instant::now())
    }

    /// Counts a wrong token of this address.
    pub(super) fn count(&self, address: Option<IpAddr>) {
        self.count_at(address, Instant::now());
    }

    /// It was the right one after all: the address has its tries again.
    pub(super) fn forgive(&self, address: Option<IpAddr>) {
        self.counted().free_again.remove(&address.map(network));
    }

    fn counted(&self) -> std::sync::MutexGuard<'_, Counted> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn begin_at(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let mut counted = self.counted();
        let known = counted.known(address, now);
        let one = counted.next(known, &ONE, now)?;
        let all = counted.next(None, &ALL, now)?;
        counted.free_again.insert(known, one);
        counted.free_again.insert(None, all);
        Ok(())
    }

    fn check_at(&self, address: Option<IpAddr>, now: Instant) -> Result<(), Duration> {
        let Some(address) = address.map(network) else { return Ok(()) };
        self.counted().next(Some(address), &ONE, now).map(drop)
    }

    fn count_at(&self, address: Option<IpAddr>, now: Instant) {
        let mut counted = self.counted();
        if let Some(known) = counted.known(address, now)
            && let Ok(at) = counted.next(Some(known), &ONE, now)
        {
            counted.free_again.insert(Some(known), at);
        }
    }
}

impl Counted {
    /// The address, if it is one of those that are told apart.
    fn known(&mut self, address: Option<IpAddr>, now: Instant) -> Option<IpAddr> {
        self.free_again.retain(|_, at| *at > now);
        address.map(network).filter(|address| {
            self.free_again.len() < ADDRESSES || self.free_again.contains_key(&Some(*address))
        })
    }

    /// When all tries are free again after one more, or how long to wait for it.
    fn next(&self, who: Option<IpAddr>, allowance: &Allowance, now: Instant) -> Result<Instant, Duration> {
        let at = self.free_again.get(&who).copied().unwrap_or(now).max(now) + allowance.another;
        let wait = at.saturating_duration_since(now + allowance.another * allowance.free);
        if wait.is_zero() { Ok(at) } else { Err(wait) }
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
        for _ in 0..ONE.free {
            assert!(attempts.begin_at(one, now).is_ok());
        }
        let wait = attempts.begin_at(one, now).expect_err("too many");
        assert!(!wait.is_zero() && wait <= ONE.another);
        assert!(attempts.begin_at(other, now).is_ok());
        assert!(attempts.begin_at(one, now + wait).is_ok());
    }

    #[test]
    fn many_addresses_together_must_wait_too() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let tried = (0..=255).filter(|n| attempts.begin_at(Some([10, 0, 1, *n].into()), now).is_ok()).count();
        assert_eq!(tried, ALL.free as usize);
        let v6 = |n: u128| Some(IpAddr::V6((0x2001_0db8_u128 << 96 | n).into()));
        let attempts = Attempts::default();
        assert_eq!((0..100).filter(|n| attempts.begin_at(v6(*n), now).is_ok()).count(), ONE.free as usize);
    }

    #[test]
    fn wrong_tokens_of_many_addresses_keep_no_other_out() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let address = |n: u8| Some(IpAddr::from([10, 0, 1, n]));
        for n in 0..=255 {
            for _ in 0..ONE.free {
                assert!(attempts.check_at(address(n), now).is_ok());
                attempts.count_at(address(n), now);
            }
            let wait = attempts.check_at(address(n), now).expect_err("too many");
            assert!(!wait.is_zero() && wait <= ONE.another);
            assert!(attempts.check_at(address(n), now + wait).is_ok());
        }
        assert!(attempts.check_at(Some([10, 0, 2, 1].into()), now).is_ok());
        assert!(attempts.check_at(None, now).is_ok());
    }

    #[test]
    fn tries_that_are_refused_do_not_count() {
        let attempts = Attempts::default();
        let now = Instant::now();
        let one = Some([10, 0, 0, 1].into());
        (0..1000).for_each(|_| attempts.count_at(one, now));
        assert!(attempts.check_at(one, now + ONE.another).is_ok());
    }
}
