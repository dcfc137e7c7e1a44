//! Edits only what can be brought back: what git has, or else a copy.

use std::path::Path;
use std::process::Command;

use super::apply::NewText;
use super::plan::{Plan, relative};
use crate::error::{Error, Result};

const COPIES: &str = "target/taskmq-init-backup";

/// The copies that are needed, for files that git does not have; refused for what has uncommitted changes.
pub(super) fn copies(plan: &Plan, root: &Path, allow_dirty: bool) -> Result<Vec<NewText>> {
    let mut copies = Vec::new();
    for (path, text) in plan.edited() {
        match git_state(root, path).as_deref() {
            // Unchanged, or new and in the index.
            Some("" | "A ") => {}
            Some("??" | "!!") | None => {
                let copy = root.join(COPIES).join(relative(root, path).trim_start_matches('/'));
                let before = std::fs::read_to_string(&copy).ok();
                if before.as_deref() != Some(text) {
                    copies.push(NewText { path: copy, before, after: text.to_owned() });
                }
            }
            Some(_) if allow_dirty => {}
            Some(_) => {
                return Err(Error::Refused(format!(
                    "{} has uncommitted changes: commit them first, or say --allow-dirty",
                    relative(root, path)
                )));
            }
        }
    }
    Ok(copies)
}

/// The two letters of `git status`; `None` where there is no git.
fn git_state(root: &Path, path: &Path) -> Option<String> {
    let status = Command::new("git")
        .arg("-C")
        .arg(root)
        .args(["status", "--porcelain", "--ignored", "--"])
        .arg(path)
        .output()
        .ok()
        .filter(|out| out.status.success())?;
    Some(String::from_utf8_lossy(&status.stdout).chars().take(2).collect())
}
