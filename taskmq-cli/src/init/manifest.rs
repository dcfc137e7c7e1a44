//! Cargo.toml with what taskmq needs; everything else in it stays as it is written.

use std::path::Path;

use similar::{Algorithm, DiffTag, capture_diff_slices};
use taskmq_core::Backend;
use toml_edit::{Array, DocumentMut, InlineTable, Item, Value, value};

use super::project::Project;
use crate::error::{Error, Result};

/// The whole new text.
pub(crate) fn edited(project: &Project, checkout: Option<&Path>) -> Result<String> {
    let mut document = project.manifest.clone();
    let broken = || Error::Refused("[dependencies] in Cargo.toml is no table".to_owned());
    let dependencies = document["dependencies"].as_table_like_mut().ok_or_else(broken)?;
    if dependencies.get("taskmq-core").is_none() {
        let mut core = InlineTable::new();
        match checkout {
            Some(folder) => core.insert("path", folder.display().to_string().into()),
            None => core.insert(
                "version",
                concat!(env!("CARGO_PKG_VERSION_MAJOR"), ".", env!("CARGO_PKG_VERSION_MINOR")).into(),
            ),
        };
        core.insert("features", Array::from_iter([project.backend.feature()]).into());
        dependencies.insert("taskmq-core", Item::Value(Value::InlineTable(core)));
    }
    match dependencies.get_mut("serde") {
        None => {
            let mut serde = InlineTable::new();
            serde.insert("version", "1".into());
            serde.insert("features", Array::from_iter(["derive"]).into());
            dependencies.insert("serde", Item::Value(Value::InlineTable(serde)));
        }
        Some(serde) => add_derive(serde),
    }
    run_stays_clear(&mut document, project);
    Ok(with_line_ends_of(&project.manifest_text, &document.to_string()))
}

/// Each line that was there as it was there; one file may have line ends of both kinds.
fn with_line_ends_of(before: &str, edited: &str) -> String {
    let mark = before.len() - before.trim_start_matches('\u{feff}').len();
    let (mark, before) = before.split_at(mark);
    let newline = if before.contains("\r\n") { "\r\n" } else { "\n" };
    let lines = |text: &str| -> Vec<String> { text.lines().map(str::to_owned).collect() };
    let (old, new) = (lines(before), lines(edited));
    let as_it_was: Vec<&str> = before.split_inclusive('\n').collect();
    let mut out = mark.to_owned();
    let mut add = |line: &str| {
        if !out.is_empty() && !out.ends_with(['\n', '\u{feff}']) {
            out.push_str(newline);
        }
        out.push_str(line);
    };
    for op in capture_diff_slices(Algorithm::Myers, &old, &new) {
        match op.tag() {
            DiffTag::Equal => as_it_was[op.old_range()].iter().for_each(|line| add(line)),
            DiffTag::Delete => {}
            DiffTag::Insert | DiffTag::Replace => {
                new[op.new_range()].iter().for_each(|line| add(&format!("{line}{newline}")));
            }
        }
    }
    out
}

fn add_derive(serde: &mut Item) {
    let version = serde.as_str().map(str::to_owned);
    if let Some(version) = version {
        let mut table = InlineTable::new();
        table.insert("version", version.into());
        table.insert("features", Array::from_iter(["derive"]).into());
        *serde = Item::Value(Value::InlineTable(table));
        return;
    }
    let Some(table) = serde.as_table_like_mut() else { return };
    match table.get_mut("features").and_then(Item::as_array_mut) {
        Some(features) if features.iter().any(|f| f.as_str() == Some("derive")) => {}
        Some(features) => features.push("derive"),
        None => {
            table.insert("features", value(Array::from_iter(["derive"])));
        }
    }
}

/// With a second program `cargo run` would ask which one is meant; it is to go on meaning the host's own.
fn run_stays_clear(document: &mut DocumentMut, project: &Project) {
    let package = &mut document["package"];
    if let Some(main) = &project.main
        && package.get("default-run").is_none()
    {
        package["default-run"] = value(main.name.as_str());
    }
    if package.get("autobins").and_then(Item::as_bool) == Some(false) {
        let bins = document.entry("bin").or_insert(Item::ArrayOfTables(toml_edit::ArrayOfTables::new()));
        if let Some(bins) = bins.as_array_of_tables_mut()
            && !bins.iter().any(|bin| bin.get("name").and_then(Item::as_str) == Some("worker"))
        {
            let mut worker = toml_edit::Table::new();
            worker["name"] = value("worker");
            worker["path"] = value("src/bin/worker.rs");
            bins.push(worker);
        }
    }
}

/// The folder of `taskmq-core` in a checkout.
pub(crate) fn checkout(folder: &Path) -> Result<std::path::PathBuf> {
    let core = folder.join("taskmq-core");
    if !core.join("Cargo.toml").is_file() {
        return Err(Error::Refused(format!(
            "{} is no checkout of taskmq: there is no taskmq-core in it",
            folder.display()
        )));
    }
    core.canonicalize().map_err(Error::file(core))
}

/// Only for the messages to the person.
pub(crate) fn example_url(backend: Backend) -> &'static str {
    match backend {
        Backend::Sqlite => "app.db",
        Backend::Postgres => "postgres://user:password@localhost/app",
        Backend::Mysql => "mysql://user:password@127.0.0.1/app",
    }
}
