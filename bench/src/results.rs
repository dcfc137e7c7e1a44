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

impl Results {
    /// Writes them beside those of earlier runs.
    pub(crate) fn save(&self) -> Result<PathBuf> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("results");
        std::fs::create_dir_all(&folder)?;
        let file = folder.join(format!("{}.json", self.date.replace(':', "-")));
        std::fs::write(&file, serde_json::to_string_pretty(self)? + "\n")?;
        Ok(file)
    }
}
