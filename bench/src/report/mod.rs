//! `docs/benchmarks.md` and its picture, from the results of one run.

mod plot;
mod tables;
mod targets;

use std::path::Path;

use crate::results::Results;
use crate::{Result, contestant};

const BEGIN: &str = "<!-- begin: written by cargo xtask bench -->";
const END: &str = "<!-- end: written by cargo xtask bench -->";

/// Replaces what an earlier run wrote, and leaves the rest.
pub(crate) fn write(results: &Results) -> Result {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs");
    let file = docs.join("benchmarks.md");
    let text = std::fs::read_to_string(&file)?;
    let missing = || format!("{} has not the lines {BEGIN} and {END}", file.display());
    let (before, rest) = text.split_once(BEGIN).ok_or_else(missing)?;
    let (_, after) = rest.split_once(END).ok_or_else(missing)?;
    std::fs::write(&file, format!("{before}{BEGIN}\n{}\n{END}{after}", markdown(results)?))?;
    std::fs::write(docs.join("benchmarks.svg"), plot::svg(results))?;
    println!("{}", file.display());
    Ok(())
}

/// What a person sees at the end of a run.
pub(crate) fn print_targets(results: &Results) {
    let targets = targets::all(results);
    if targets.is_empty() {
        return;
    }
    println!("\nTargets:");
    for target in targets {
        println!("{:<7} {:<60} {}", target.verdict(), target.what, target.measured);
    }
}

fn markdown(results: &Results) -> Result<String> {
    let mut text = format!(
        "Made by `{}` on {} in {:.0} minutes; {} rounds, in which the contestants took turns. \
         Figures are medians, and in brackets the lowest and the highest where there were several.\n\n\
         Machine: {}.\n\n![Drain and bulk produce](benchmarks.svg)\n\n",
        results.command, results.date, results.minutes, results.rounds, results.machine
    );
    text += &targets::markdown(results);
    text += &tables::markdown(results);
    text += "## Contestants\n\n| | version | settings |\n|---|---|---|\n";
    for database in ["SQLite", "PostgreSQL", "MariaDB"] {
        if let Some(version) = results.versions.get(database) {
            text += &format!("| {database} | {version} | as it ships: every commit waits for the disk |\n");
        }
    }
    text += "| taskmq | this checkout | the defaults of its worker; done messages are kept for a day, but in the row \
             \"retention off\" |\n";
    text += "| raw | Diesel | `bench/src/bin/contestant-raw`: batches of 500; SQLite in WAL with `synchronous = FULL`, \
             as taskmq sets it; MariaDB with `READ COMMITTED`, likewise |\n";
    for peer in contestant::peers()? {
        match &peer.unavailable {
            None => {
                if let Some(version) = results.versions.get(&peer.name) {
                    text += &format!("| {} | {version} | {} |\n", peer.name, peer.settings);
                }
            }
            Some(why) => text += &format!("| {} | {} | not measured: {why} |\n", peer.name, peer.version()?),
        }
    }
    Ok(text.trim_end().to_owned())
}
