//! Every change in memory first: shown, or written all or not at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use similar::TextDiff;

use crate::error::{Error, Result};

/// One file, as it is to be.
#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) path: PathBuf,
    /// `None`: there is no such file yet.
    pub(crate) before: Option<String>,
    pub(crate) after: String,
}

#[derive(Debug, Default)]
pub(crate) struct Plan {
    changes: Vec<Change>,
    /// Files that are as they are, with the reason.
    kept: Vec<(PathBuf, &'static str)>,
}

impl Plan {
    pub(crate) fn edit(&mut self, path: PathBuf, before: String, after: String) {
        if before == after {
            self.kept.push((path, "has it already"));
        } else {
            self.changes.push(Change { path, before: Some(before), after });
        }
    }

    /// A file of taskmq's own; one that bears its mark is the user's to change from then on.
    pub(crate) fn create(&mut self, path: PathBuf, text: &str, mark: &str) -> Result<()> {
        match std::fs::read_to_string(&path) {
            Ok(there) if there == text => self.kept.push((path, "is there already")),
            Ok(there) if there.contains(mark) => self.kept.push((path, "was changed since, and stays so")),
            Ok(_) => {
                return Err(Error::Refused(format!(
                    "{} exists and is not taskmq's: move it away, or add this to it by hand:\n\n{text}",
                    path.display()
                )));
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                self.changes.push(Change { path, before: None, after: text.to_owned() });
            }
            Err(source) => return Err(Error::File { path, source }),
        }
        Ok(())
    }

    pub(crate) fn keep(&mut self, path: PathBuf, why: &'static str) {
        self.kept.push((path, why));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// A diff that `git apply` takes.
    pub(crate) fn diff(&self, root: &Path) -> String {
        let mut out = String::new();
        for change in &self.changes {
            let name = relative(root, &change.path);
            let old = if change.before.is_some() { format!("a/{name}") } else { "/dev/null".to_owned() };
            let before = change.before.as_deref().unwrap_or_default();
            let diff = TextDiff::from_lines(before, &change.after);
            out.push_str(&format!("diff --git a/{name} b/{name}\n"));
            if change.before.is_none() {
                out.push_str("new file mode 100644\n");
            }
            out.push_str(&diff.unified_diff().header(&old, &format!("b/{name}")).to_string());
        }
        out
    }

    /// What was done, file by file.
    pub(crate) fn print(&self, root: &Path) {
        for change in &self.changes {
            let word = if change.before.is_some() { "edited " } else { "created" };
            println!("  {word}  {}", relative(root, &change.path));
        }
        for (path, why) in &self.kept {
            println!("  kept     {} ({why})", relative(root, path));
        }
    }

    /// Refuses to edit what git could not bring back; where git does not help, keeps copies.
    pub(crate) fn protect(&self, root: &Path, allow_dirty: bool) -> Result<()> {
        for change in self.changes.iter().filter(|c| c.before.is_some()) {
            let status = Command::new("git")
                .arg("-C")
                .arg(root)
                .args(["status", "--porcelain", "--"])
                .arg(&change.path)
                .output();
            let state = status
                .ok()
                .filter(|out| out.status.success())
                .map(|out| String::from_utf8_lossy(&out.stdout).into_owned());
            match state.as_deref().map(str::trim_start) {
                Some("") => {}
                Some(state) if !state.starts_with("??") && !state.starts_with('!') => {
                    if !allow_dirty && !state.starts_with('A') {
                        return Err(Error::Refused(format!(
                            "{} has uncommitted changes: commit them first, or say --allow-dirty",
                            relative(root, &change.path)
                        )));
                    }
                }
                _ => {
                    let copy = root.join("target/taskmq-init-backup").join(relative(root, &change.path));
                    let folder = copy.parent().unwrap_or(root);
                    std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
                    std::fs::copy(&change.path, &copy).map_err(Error::file(&copy))?;
                    println!(
                        "  copied   {} to {} (git does not have it)",
                        relative(root, &change.path),
                        relative(root, &copy)
                    );
                }
            }
        }
        Ok(())
    }

    /// Writes everything, or, if anything fails, leaves all as it was.
    pub(crate) fn apply(&self, root: &Path) -> Result<()> {
        for change in &self.changes {
            stays_inside(root, &change.path)?;
        }
        let mut folders = Vec::new();
        let mut written: Vec<&Change> = Vec::new();
        let outcome = self.changes.iter().try_for_each(|change| {
            make_folders(&change.path, &mut folders)?;
            write(&change.path, &change.after)?;
            written.push(change);
            Ok(())
        });
        if outcome.is_err() {
            for change in written.iter().rev() {
                let _ = match &change.before {
                    Some(before) => write(&change.path, before),
                    None => std::fs::remove_file(&change.path).map_err(Error::file(&change.path)),
                };
            }
            for folder in folders.iter().rev() {
                let _ = std::fs::remove_dir(folder);
            }
        }
        outcome
    }
}

fn make_folders(path: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let missing: Vec<&Path> = path.ancestors().skip(1).take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        std::fs::create_dir(folder).map_err(Error::file(folder))?;
        made.push(folder.to_owned());
    }
    Ok(())
}

/// By a temporary file in the same folder, so that a file is never half written; its mode is kept and a link followed.
fn write(path: &Path, text: &str) -> Result<()> {
    let target = path.canonicalize().unwrap_or_else(|_| path.to_owned());
    let name = target.file_name().unwrap_or_default().to_string_lossy();
    let temporary = target.with_file_name(format!(".{name}.taskmq-new"));
    let written = (|| {
        use std::io::Write;
        let mut file = std::fs::File::create(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()?;
        if let Ok(there) = std::fs::metadata(&target) {
            if there.permissions().readonly() {
                return Err(std::io::Error::new(std::io::ErrorKind::PermissionDenied, "it is read-only"));
            }
            std::fs::set_permissions(&temporary, there.permissions())?;
        }
        std::fs::rename(&temporary, &target)
    })();
    if written.is_err() {
        let _ = std::fs::remove_file(&temporary);
    }
    written.map_err(Error::file(path))
}

/// A link must not lead a write out of the project.
fn stays_inside(root: &Path, path: &Path) -> Result<()> {
    let Some(there) = path.ancestors().find(|p| p.exists()) else { return Ok(()) };
    let real = there.canonicalize().map_err(Error::file(there))?;
    let mut top = root.canonicalize().map_err(Error::file(root))?;
    // A workspace's migrations may lie beside the package.
    for folder in root.ancestors().skip(1) {
        if folder.join("Cargo.toml").is_file() || folder.join("diesel.toml").is_file() {
            top = folder.canonicalize().map_err(Error::file(folder))?;
        }
    }
    if real.starts_with(&top) {
        return Ok(());
    }
    Err(Error::Refused(format!("{} leads out of the project, to {}", path.display(), real.display())))
}

fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string().replace('\\', "/")
}
