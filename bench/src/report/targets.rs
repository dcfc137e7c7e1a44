//! What taskmq is meant to reach, beside what it reached. Ratios are of medians of one run.

use crate::contestant;
use crate::database::Kind::{self, Mariadb, Postgres, Sqlite};
use crate::results::Results;

const DATABASES: [Kind; 3] = [Sqlite, Postgres, Mariadb];
const RAW: &str = "raw claim + ack";
const TASKMQ: &str = "taskmq";

/// One of them.
pub(super) struct Target {
    pub(super) what: String,
    pub(super) measured: String,
    reached: bool,
}

impl Target {
    pub(super) fn verdict(&self) -> &'static str {
        if self.reached { "reached" } else { "missed" }
    }

    fn at_least(what: String, value: f64, bound: f64, show: impl Fn(f64) -> String) -> Self {
        let what = format!("{what}: at least {}", show(bound));
        Self { what, measured: show(value), reached: value >= bound }
    }

    fn at_most(what: String, value: f64, bound: f64, show: impl Fn(f64) -> String) -> Self {
        let what = format!("{what}: at most {}", show(bound));
        Self { what, measured: show(value), reached: value <= bound }
    }
}

pub(super) fn markdown(results: &Results) -> String {
    let targets = all(results);
    if targets.is_empty() {
        return String::new();
    }
    let rows = targets.iter().map(|t| format!("| {} | {} | {} |\n", t.what, t.measured, t.verdict()));
    format!("## Targets\n\n| target | measured | |\n|---|---:|---|\n{}\n", rows.collect::<String>())
}

/// Those for which this run has the figures.
pub(super) fn all(results: &Results) -> Vec<Target> {
    let by_database = DATABASES.iter().flat_map(|&database| {
        let run = Run { results, database };
        [run.bulk(), run.drain(), run.drain_of_peers(), run.two_workers()]
            .into_iter()
            .flatten()
            .chain(run.once())
            .chain(run.latency())
            .chain(run.claims())
            .chain(run.idle())
            .chain(run.overview())
            .chain(run.memory())
            .chain(run.handlers())
            .collect::<Vec<_>>()
    });
    by_database.collect()
}

fn percent(ratio: f64) -> String {
    format!("{:.0} %", ratio * 100.0)
}

fn times(ratio: f64) -> String {
    format!("{ratio:.2} times")
}

fn millis(value: f64) -> String {
    format!("{value:.2} ms")
}

/// The results on one database.
struct Run<'a> {
    results: &'a Results,
    database: Kind,
}

impl Run<'_> {
    fn median(&self, workload: &str, case: &str, contestant: &str, measure: &str) -> Option<f64> {
        self.results.spread(workload, case, self.database, contestant, measure).map(|spread| spread.median)
    }

    /// The one case of a workload whose name depends on the sizes.
    fn case(&self, workload: &str, part: &str) -> Option<&str> {
        let mut records = self.results.records.iter();
        records.find(|r| r.workload == workload && r.case.contains(part)).map(|r| r.case.as_str())
    }

    fn bulk(&self) -> Option<Target> {
        let case = self.case("bulk", "")?;
        let ratio = self.median("bulk", case, TASKMQ, "rate")? / self.median("bulk", case, RAW, "rate")?;
        Some(Target::at_least(
            format!("{}: bulk produce, of the raw insert", self.database),
            ratio,
            0.8,
            percent,
        ))
    }

    fn drain(&self) -> Option<Target> {
        let bound = match self.database {
            Sqlite => 0.6,
            Postgres => 1.5,
            Mariadb => 1.2,
        };
        let ratio = self.median("drain", "1 worker", TASKMQ, "rate")?
            / self.median("drain", "1 worker", RAW, "rate")?;
        let what = format!("{}: drain by one worker, of the raw claim + ack", self.database);
        Some(Target::at_least(what, ratio, bound, percent))
    }

    fn drain_of_peers(&self) -> Option<Target> {
        let bound = if self.database == Postgres { 4.0 } else { 5.0 };
        // taskmq waits for the disk, so it is compared with those that do so too.
        let names: Vec<String> = contestant::peers()
            .ok()?
            .into_iter()
            .filter(|peer| peer.waits_for_disk)
            .map(|peer| peer.name)
            .collect();
        let peers = self
            .results
            .records
            .iter()
            .filter(|r| r.database == self.database && names.contains(&r.contestant));
        let fastest = peers
            .filter_map(|r| Some((self.median("drain", "1 worker", &r.contestant, "rate")?, &r.contestant)))
            .max_by(|(a, _), (b, _)| a.total_cmp(b))?;
        let ratio = self.median("drain", "1 worker", TASKMQ, "rate")? / fastest.0;
        let what = format!("{}: drain by one worker, of the fastest peer ({})", self.database, fastest.1);
        Some(Target::at_least(what, ratio, bound, times))
    }

    fn two_workers(&self) -> Option<Target> {
        if self.database != Postgres {
            return None;
        }
        let ratio = self.median("drain", "2 workers", TASKMQ, "rate")?
            / self.median("drain", "1 worker", TASKMQ, "rate")?;
        Some(Target::at_least("PostgreSQL: drain by two workers, of one".to_owned(), ratio, 1.5, times))
    }

    /// In all drains together.
    fn once(&self) -> Option<Target> {
        let drains = || {
            let records = self.results.records.iter();
            records.filter(|r| {
                r.database == self.database && r.contestant == TASKMQ && r.measures.contains_key("messages")
            })
        };
        drains().next()?;
        let twice: f64 =
            drains().filter_map(|r| r.measures.get("ran_twice")).fold(0.0, |sum, twice| sum + twice);
        let what = format!("{}: messages that ran twice in all drains", self.database);
        Some(Target::at_most(what, twice, 0.0, |v| format!("{v:.0}")))
    }

    fn latency(&self) -> Vec<Target> {
        let figure =
            |case: &str, contestant: &str, measure: &str| self.median("latency", case, contestant, measure);
        let bounds = match self.database {
            Sqlite => Some((3.0, 8.0)),
            Mariadb => Some((6.0, 15.0)),
            Postgres => figure("the insert alone", RAW, "p50_ms")
                .zip(figure("the insert alone", RAW, "p99_ms"))
                .map(|(p50, p99)| (1.5 * p50, p99 + 2.0)),
        };
        let case = "producer in another process";
        let measured = figure(case, TASKMQ, "p50_ms").zip(figure(case, TASKMQ, "p99_ms"));
        let Some(((most50, most99), (p50, p99))) = bounds.zip(measured) else { return Vec::new() };
        let note =
            if self.database == Postgres { " (1.5 times the bare insert; its p99 and 2 ms)" } else { "" };
        vec![
            Target::at_most(format!("{}: latency p50{note}", self.database), p50, most50, millis),
            Target::at_most(format!("{}: latency p99{note}", self.database), p99, most99, millis),
        ]
    }

    fn claims(&self) -> Vec<Target> {
        let Some(base) = self.median("claims", "1000 waiting", TASKMQ, "p50_ms") else { return Vec::new() };
        let records = self.results.records.iter();
        records
            .filter(|r| r.workload == "claims" && r.database == self.database && r.case != "1000 waiting")
            .filter_map(|r| {
                let ratio = r.measures.get("p50_ms")? / base;
                let bound = if r.case.starts_with("1000 ") { 1.2 } else { 1.5 };
                let what = format!("{}: a claim with {}, of one with 1000 waiting", self.database, r.case);
                Some(Target::at_most(what, ratio, bound, times))
            })
            .collect()
    }

    fn idle(&self) -> Vec<Target> {
        let figure = |measure: &str| self.median("idle", "one worker", TASKMQ, measure);
        let processor = figure("cpu_percent").map(|value| {
            Target::at_most(format!("{}: processor time of an idle worker", self.database), value, 0.5, |v| {
                format!("{v:.2} %")
            })
        });
        let asked = figure("asked_a_second").map(|value| {
            let (what, bound) = match self.database {
                Sqlite => ("commits", 0.0),
                Postgres => ("transactions", 1.0),
                Mariadb => ("statements", 1.0),
            };
            let what = format!("{}: {what} a second of an idle worker", self.database);
            Target::at_most(what, value, bound, |v| format!("{v:.2}"))
        });
        processor.into_iter().chain(asked).collect()
    }

    fn overview(&self) -> Vec<Target> {
        let records = self.results.records.iter();
        records
            .filter(|r| r.workload == "overview" && r.database == self.database)
            .flat_map(|r| {
                let took = r.measures.get("p50_ms").map(|&value| {
                    let what = format!("{}: the overview of {}", self.database, r.case);
                    Target::at_most(what, value, 100.0, millis)
                });
                let watched = r.measures.get("watched_percent").map(|&value| {
                    let what = format!(
                        "{}: a drain that is watched among {}, of one that is not",
                        self.database, r.case
                    );
                    Target::at_least(what, value / 100.0, 0.95, percent)
                });
                took.into_iter().chain(watched)
            })
            .collect()
    }

    fn memory(&self) -> Option<Target> {
        let case = self.case("memory", "")?;
        let peak = self.median("memory", case, TASKMQ, "rss_mib")?;
        let what = format!("{}: peak memory {case}", self.database);
        Some(Target::at_most(what, peak, 40.0, |v| format!("{v:.1} MiB")))
    }

    fn handlers(&self) -> Vec<Target> {
        ["handler of 100 ms, 100 at once", "async handler of 100 ms, 100 at once"]
            .iter()
            .filter_map(|case| {
                let ratio = self.median("shapes", case, TASKMQ, "rate")? / 1000.0;
                let what = format!("{}: {case}, of 1,000 a second", self.database);
                Some(Target::at_least(what, ratio, 0.95, percent))
            })
            .collect()
    }
}
