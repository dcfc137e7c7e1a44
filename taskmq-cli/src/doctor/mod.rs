//! `doctor`: what is wrong with the database and the queue, why it matters, and what to do.

mod queue;
mod server;

use std::path::Path;

use chrono::Utc;
use serde::Serialize;
use taskmq_core::broker::ServerFigures;
use taskmq_core::{AnyConnection, BrokerConnection, Error as QueueError, migration};

use crate::cli::ListArgs;
use crate::error::{Error, Result};
use crate::output;

/// How bad it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
enum Level {
    /// Messages may be lost, or are not run.
    Error,
    /// It will hurt if it goes on, or under load.
    Warning,
    /// Good to know.
    Remark,
}

impl Level {
    fn as_str(self) -> &'static str {
        match self {
            Level::Error => "error",
            Level::Warning => "warning",
            Level::Remark => "remark",
        }
    }
}

/// One thing that was found.
#[derive(Clone, Debug, Serialize)]
struct Finding {
    level: Level,
    /// Its stable name, for programs.
    name: &'static str,
    what: String,
    why: &'static str,
    fix: String,
}

impl Finding {
    fn new(
        level: Level,
        name: &'static str,
        what: String,
        why: &'static str,
        fix: impl Into<String>,
    ) -> Self {
        Self { level, name, what, why, fix: fix.into() }
    }
}

pub(crate) fn run(args: &ListArgs, url: Option<&str>) -> Result<()> {
    let mut conn = AnyConnection::establish(url.ok_or(QueueError::NoDatabaseUrl)?)?;
    let mut findings = examine(&mut conn)?;
    findings.sort_by_key(|finding| finding.level);
    let count = |level| findings.iter().filter(|finding| finding.level == level).count();
    let errors = count(Level::Error);
    if args.json {
        output::json(&findings.iter().map(output::value).collect::<Vec<_>>());
    } else {
        for finding in &findings {
            let Finding { level, name, what, why, fix } = finding;
            say!("{} {name}: {}", level.as_str(), output::cell(what));
            say!("    why: {why}");
            say!("    do:  {}\n", output::cell(fix));
        }
        let (warnings, remarks) = (count(Level::Warning), count(Level::Remark));
        if errors + warnings == 0 {
            say!("{}: nothing is wrong", conn.backend());
        } else {
            say!("{}: errors {errors}, warnings {warnings}, remarks {remarks}", conn.backend());
        }
    }
    match errors {
        0 => Ok(()),
        1 => Err(Error::Failed("the doctor found an error".to_owned())),
        errors => Err(Error::Failed(format!("the doctor found {errors} errors"))),
    }
}

fn examine(conn: &mut AnyConnection) -> Result<Vec<Finding>> {
    let mut findings = Vec::new();
    match conn.broker().schema_version() {
        Ok(migration::SCHEMA_VERSION) => {}
        // All else would fail for the same reason.
        Ok(found) => return Ok(vec![server::schema(found)]),
        Err(QueueError::NotMigrated(_)) => return Ok(vec![server::schema(0)]),
        Err(error) => return Err(error.into()),
    }
    let figures = conn.broker().diagnose()?;
    findings.extend(server::judge(&figures));
    if let ServerFigures::Sqlite(sqlite) = &figures.server
        && let Some(file) = &sqlite.file
    {
        findings.extend(server::judge_file(Path::new(file)));
    }
    let (before, theirs, after) = (Utc::now(), conn.broker().now()?, Utc::now());
    findings.extend(server::judge_clock(before, theirs, after));
    match queue::examine(conn) {
        Ok(found) => findings.extend(found),
        // It goes by the indexes, as the workers do.
        Err(_) if !figures.missing_indexes.is_empty() => {}
        Err(error) => return Err(error),
    }
    Ok(findings)
}
