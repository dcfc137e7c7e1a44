use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{try_join, try_join_all};
use taskmq_core::overview::{Lanes, Overview, Rest};

use crate::database::Pool;
use crate::problem::Problem;

/// If there are more than this, they are counted on two connections. Further ones would be missed elsewhere.
const MANY_LANES: usize = 500;

/// An overview, and what was read before it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sample {
    pub(crate) overview: Overview,
    /// Why nothing newer could be read.
    pub(crate) old: Option<Arc<Problem>>,
    /// How long reading it took.
    pub(crate) took: Duration,
    /// Ready ones at the last looks, of all and of each topic.
    pub(crate) backlog: BTreeMap<Option<String>, Vec<i64>>,
    /// A second, of the last ones: produced and finished.
    pub(crate) chart: (Vec<Option<f64>>, Vec<Option<f64>>),
}

/// Each figure is counted as far as all of them together stay a matter of milliseconds; of many lanes on two
/// connections at once.
pub(super) async fn read(pool: &Pool) -> Result<Overview, Problem> {
    let lanes = pool.ask(Lanes::read).await?;
    let (all, at_most) = (lanes.all(), lanes.bound());
    let counts = all.chunks(all.len().div_ceil(2).max(MANY_LANES)).map(|some| {
        let some = some.to_vec();
        pool.ask(move |broker| broker.count_lanes(&some, at_most))
    });
    let (counts, rest) = try_join(try_join_all(counts), pool.ask(Rest::read)).await?;
    Ok(Overview::of(lanes, &counts.concat(), rest))
}
