//! What was measured, as it is kept.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::Result;
use crate::database::Kind;
use crate::workload::{Measures, Scale};

/// Everything of one run.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) command: String,
    pub(crate) date: String,
    pub(crate) scale: Scale,
    pub(crate) rounds: u32,
    pub(crate) minutes: f64,
    /// Processor, memory, kernel.
    pub(crate) machine: String,
    /// Of the databases and of the contestants.
    pub(crate) versions: BTreeMap<String, String>,
    pub(crate) records: Vec<Record>,
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) workload: String,
    pub(crate) case: String,
    pub(crate) database: Kind,
    pub(crate) contestant: String,
    pub(crate) round: u32,
    #[serde(default, skip_serializing_if = "Measures::is_empty")]
    pub(crate) measures: Measures,
    /// Why there are none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) problem: Option<String>,
}

/// The rounds of one measure together.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

impl Results {
    /// Writes them beside those of earlier runs.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let name = format!("{}.json", self.date.replace(':', "-"));
        self.save_as(&name)
    }

    /// Those that are committed, and that the documentation shows.
    pub(crate) fn save_as_latest(&self) -> Result<PathBuf> {
        self.save_as("latest.json")
    }

    fn save_as(&self, name: &str) -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(name);
        std::fs::write(&file, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(file)
    }

    pub(crate) fn load(file: &Path) -> Result<Self> {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        Ok(serde_json::from_str(&text).map_err(|error| format!("{}: {error}", file.display()))?)
    }

    fn rounds<'a>(
        &'a self,
        workload: &'a str,
        case: &'a str,
        database: Kind,
        contestant: &'a str,
    ) -> impl Iterator<Item = &'a Record> {
        self.records.iter().filter(move |record| {
            record.workload == workload
                && record.case == case
                && record.database == database
                && record.contestant == contestant
        })
    }

    /// What the rounds that succeeded measured; `None` when none did.
    pub(crate) fn spread(
        &self,
        workload: &str,
        case: &str,
        database: Kind,
        contestant: &str,
        measure: &str,
    ) -> Option<Spread> {
        let mut values: Vec<f64> = self
            .rounds(workload, case, database, contestant)
            .filter_map(|record| record.measures.get(measure).copied())
            .collect();
        values.sort_by(f64::total_cmp);
        let (least, most) = (*values.first()?, *values.last()?);
        let middle = values.len() / 2;
        let median = if values.len() % 2 == 1 {
            values[middle]
        } else {
            f64::midpoint(values[middle - 1], values[middle])
        };
        Some(Spread { median, least, most })
    }

    /// Why a round failed.
    pub(crate) fn problem<'a>(
        &'a self,
        workload: &'a str,
        case: &'a str,
        database: Kind,
        contestant: &'a str,
    ) -> Option<&'a str> {
        self.rounds(workload, case, database, contestant).find_map(|record| record.problem.as_deref())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_round_leaves_the_median_of_the_others() {
        let round = |round, rate: Option<f64>| Record {
            workload: "drain".to_owned(),
            case: "1 worker".to_owned(),
            database: Kind::Sqlite,
            contestant: "taskmq".to_owned(),
            round,
            measures: rate.map(|rate| ("rate".to_owned(), rate)).into_iter().collect(),
            problem: rate.is_none().then(|| "it ended early".to_owned()),
        };
        let results = Results {
            command: String::new(),
            date: String::new(),
            scale: Scale::Quick,
            rounds: 3,
            minutes: 1.0,
            machine: String::new(),
            versions: BTreeMap::new(),
            records: vec![round(1, Some(300.0)), round(2, None), round(3, Some(100.0))],
        };
        let spread = results.spread("drain", "1 worker", Kind::Sqlite, "taskmq", "rate").unwrap();
        assert_eq!((spread.least, spread.median, spread.most), (100.0, 200.0, 300.0));
        assert_eq!(results.problem("drain", "1 worker", Kind::Sqlite, "taskmq"), Some("it ended early"));
        assert!(results.spread("drain", "1 worker", Kind::Postgres, "taskmq", "rate").is_none());
    }
}
