//! Edits only what can be brought back: what git has, or else a copy.

use std::path::{Path, PathBuf};
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

/// The folder of the git repository that this one is in, which the paths in its diffs begin at.
pub(super) fn repository(folder: &Path) -> Option<PathBuf> {
    let top = git(folder, &["rev-parse", "--show-toplevel"])?;
    let top = Path::new(top.strip_suffix('\n').unwrap_or(&top)).to_owned();
    top.is_dir().then_some(top)
}

/// The two letters of `git status`; `None` where there is no git.
fn git_state(root: &Path, path: &Path) -> Option<String> {
    let status = git(root, &["status", "--porcelain", "--ignored", "--", path.to_str()?])?;
    Some(status.chars().take(2).collect())
}

fn git(folder: &Path, args: &[&str]) -> Option<String> {
    let out = Command::new("git").arg("-C").arg(folder).args(args).output().ok()?;
    out.status.success().then(|| String::from_utf8_lossy(&out.stdout).into_owned())
}
