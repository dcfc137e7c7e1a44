//! axe-core, which looks for what keeps people from using a page, for the tests in a browser.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Which version, and the checksum that npm compares what it fetches with.
const PACKAGE: [(&str, &str); 2] = [
    ("package.json", include_str!("../axe/package.json")),
    ("package-lock.json", include_str!("../axe/package-lock.json")),
];

/// Its script, fetched once for each version.
pub(crate) fn install(tools: &Path) -> Result<PathBuf, String> {
    let folder = tools.join("axe");
    let script = folder.join("node_modules/axe-core/axe.min.js");
    let is_this =
        |(name, text): (&str, &str)| std::fs::read_to_string(folder.join(name)).is_ok_and(|t| t == text);
    if script.is_file() && PACKAGE.into_iter().all(is_this) {
        return Ok(script);
    }
    eprintln!("== installing axe-core");
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    std::fs::create_dir_all(&folder).map_err(failed)?;
    for (name, text) in PACKAGE {
        std::fs::write(folder.join(name), text).map_err(failed)?;
    }
    let status = Command::new("npm")
        .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
        .current_dir(&folder)
        .stdin(Stdio::null())
        .status();
    match status {
        Ok(status) if status.success() && script.is_file() => Ok(script),
        _ => Err("axe-core could not be installed".to_owned()),
    }
}
