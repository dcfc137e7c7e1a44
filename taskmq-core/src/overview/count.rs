use std::ops::AddAssign;

/// A number that is counted up to some bound only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// As far as it was counted.
    pub number: i64,
    /// There may be more.
    pub or_more: bool,
}

impl Count {
    /// What was counted up to this bound.
    ///
    /// ```
    /// use taskmq_core::overview::Count;
    /// assert!(Count::up_to(50, 50).or_more && !Count::up_to(49, 50).or_more);
    /// ```
    pub fn up_to(number: i64, at_most: i64) -> Self {
        Self { number, or_more: number >= at_most }
    }
}

impl AddAssign for Count {
    fn add_assign(&mut self, other: Self) {
        self.number += other.number;
        self.or_more |= other.or_more;
    }
}
