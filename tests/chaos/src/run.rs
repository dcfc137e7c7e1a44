//! A whole run: a site, a load, the faults, and the checker.

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use taskmq_core::{Backend, BrokerConnection};

use crate::check::{Figures, Violation, check, explain};
use crate::journal::Entry;
use crate::nemesis;
use crate::plan::{PRODUCERS, Strike, WORKERS};
use crate::sabotage::Sabotage;
use crate::site::{Load, Programs, Site};
use crate::tables::Tables;

/// Once all faults are healed and no producer runs, everything is to be done after this long.
const DRAIN: Duration = Duration::from_secs(120);

/// What is to happen.
#[derive(Debug)]
pub struct Run {
    /// On which database.
    pub backend: Backend,
    /// What is produced.
    pub load: Load,
    /// The faults.
    pub plan: Vec<Strike>,
    /// What the workers do wrong.
    pub sabotage: Option<Sabotage>,
    /// The programs.
    pub programs: Programs,
    /// Below this folder the run makes one of its own.
    pub below: &'static str,
}

/// What has happened.
#[derive(Debug)]
pub struct Report {
    /// What was counted and measured.
    pub figures: Figures,
    /// What was not as promised.
    pub violations: Vec<Violation>,
    /// The violations with what the journals say of them.
    pub explanation: String,
    /// Where the journals and logs are.
    pub folder: PathBuf,
    /// How long it took to do all that was left, once all was healed.
    pub drain: Duration,
    /// The errors of attempts that were not told to fail, and how often each came.
    pub errors: Vec<(String, i64)>,
    /// Errors that workers logged in a second, on an average.
    pub noise: f64,
}

impl Run {
    /// Does it.
    ///
    /// # Panics
    /// When something goes wrong that is no promise's violation, a worker that ends by itself for example.
    pub fn carry_out(self) -> Report {
        let name = format!("chaos-{}-{}-{:04x}", name_of(self.backend), self.load.seed, fastrand::u16(..));
        let folder = Path::new(self.below).join(name);
        std::fs::create_dir_all(&folder).expect("a folder");
        let mut site = Site::new(self.backend, &folder, self.programs, self.load, self.sabotage);
        let began = Instant::now();
        (0..WORKERS).for_each(|worker| site.start_worker(worker));
        (0..PRODUCERS).for_each(|producer| site.start_producer(producer));
        nemesis::strike(&mut site, &self.plan);
        (0..PRODUCERS).for_each(|producer| site.kill_producer(producer));
        let drain = drain(&site);
        let noise = site.errors_logged() as f64 / began.elapsed().as_secs_f64() / WORKERS as f64;
        site.stop_workers();
        let tables = Tables::read(&mut site.connect()).expect("reads the tables");
        let journal: Vec<Entry> = ["producers", "handlers", "faults"]
            .iter()
            .filter_map(|name| std::fs::read_to_string(site.journal(name)).ok())
            .flat_map(|text| Entry::parse_all(&text))
            .collect();
        let (figures, violations) = check(&journal, &tables);
        let explanation = explain(&violations, &journal, &tables);
        Report { figures, violations, explanation, folder, drain, errors: tables.errors, noise }
    }
}

/// As tests and files are called.
pub fn name_of(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgres",
        Backend::Mysql => "mariadb",
    }
}

/// Waits until nothing is live, or for as long as there is.
fn drain(site: &Site) -> Duration {
    let began = Instant::now();
    let mut conn = site.connect();
    loop {
        let topics = conn.broker().topics().expect("reads");
        let live: i64 = topics.iter().map(|t| t.ready + t.scheduled + t.running + t.retrying).sum();
        if live == 0 || began.elapsed() > DRAIN {
            return began.elapsed();
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}
