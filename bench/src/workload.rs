//! What a workload is made of.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::contestant::{Contestant, Role};
use crate::database::{Database, Server};
use crate::process;

/// How long the whole may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Scale {
    Quick,
    Default,
    Full,
}

impl Scale {
    pub(crate) fn pick<T>(self, quick: T, default: T, full: T) -> T {
        match self {
            Scale::Quick => quick,
            Scale::Default => default,
            Scale::Full => full,
        }
    }
}

/// Named figures, for instance `rate` (a second), `p50_ms`, `rss_mib`.
pub(crate) type Measures = BTreeMap<String, f64>;

/// Measures one contestant.
type Run = dyn Fn(&Server, &Contestant) -> Result<Measures>;

/// In which rounds a case is measured, for the whole is to end while one can wait for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Rounds {
    Every,
    First,
    Never,
}

/// One thing that is measured of each contestant that takes part in it.
pub(crate) struct Case {
    pub(crate) name: String,
    roles: &'static [Role],
    own: Rounds,
    peers: Rounds,
    pub(crate) run: Box<Run>,
}

/// Everybody.
pub(crate) const EVERYBODY: &[Role] = &[Role::Raw, Role::Variant, Role::Taskmq, Role::Peer];
/// Without those that differ only in how they drain.
pub(crate) const NO_VARIANTS: &[Role] = &[Role::Raw, Role::Taskmq, Role::Peer];
/// taskmq and its peers.
pub(crate) const LIBRARIES: &[Role] = &[Role::Taskmq, Role::Peer];
/// taskmq alone.
pub(crate) const TASKMQ: &[Role] = &[Role::Taskmq];

impl Case {
    pub(crate) fn new(
        name: impl Into<String>,
        roles: &'static [Role],
        run: impl Fn(&Server, &Contestant) -> Result<Measures> + 'static,
    ) -> Self {
        Self { name: name.into(), roles, own: Rounds::Every, peers: Rounds::Every, run: Box::new(run) }
    }

    /// When taskmq, its variants and the raw loop are measured.
    pub(crate) fn own(mut self, rounds: Rounds) -> Self {
        self.own = rounds;
        self
    }

    /// When peers are.
    pub(crate) fn peers(mut self, rounds: Rounds) -> Self {
        self.peers = rounds;
        self
    }

    pub(crate) fn measures(&self, contestant: &Contestant, round: u32) -> bool {
        let rounds = if contestant.role == Role::Peer { self.peers } else { self.own };
        let now = match rounds {
            Rounds::Every => true,
            Rounds::First => round == 1,
            Rounds::Never => false,
        };
        now && self.roles.contains(&contestant.role)
    }
}

/// A fresh database with the contestant's tables.
pub(crate) fn prepared(server: &Server, contestant: &Contestant) -> Result<Database> {
    let database = server.fresh()?;
    process::prepare(contestant, &database)?;
    Ok(database)
}

/// The command's words, from one line.
pub(crate) fn words(line: &str) -> Vec<String> {
    line.split(' ').map(str::to_owned).collect()
}

/// A count as a rate divides it.
#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
pub(crate) fn float(number: u64) -> f64 {
    number as f64
}

/// The value below which this share of the sorted values lies.
pub(crate) fn percentile(sorted: &[u64], share: f64) -> f64 {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an index")]
    let index = (float(sorted.len() as u64) * share) as usize;
    float(sorted.get(index.min(sorted.len().saturating_sub(1))).copied().unwrap_or_default())
}
