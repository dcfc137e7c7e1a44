//! Every change in memory first, to be shown or to be made.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use similar::TextDiff;

use super::apply::{Journal, NewText, add_missing_folders};
use super::protect;
use crate::error::{Error, Result};
use crate::output::cell;

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
    /// The folder of changes that must come into being together.
    migration: Option<PathBuf>,
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
            // What is no folder is named when all is planned.
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {
                self.changes.push(Change { path, before: None, after: text.to_owned() });
            }
            Err(source) => return Err(Error::File { path, source }),
        }
        Ok(())
    }

    /// A migration's folder with its files.
    pub(crate) fn create_migration(&mut self, folder: PathBuf, files: [(&str, &str); 2]) {
        for (name, text) in files {
            self.changes.push(Change { path: folder.join(name), before: None, after: text.to_owned() });
        }
        self.migration = Some(folder);
    }

    /// The files that are there and are to change.
    pub(crate) fn edited(&self) -> impl Iterator<Item = (&Path, &str)> {
        self.changes.iter().filter_map(|change| Some((&*change.path, change.before.as_deref()?)))
    }

    pub(crate) fn keep(&mut self, path: PathBuf, why: &'static str) {
        self.kept.push((path, why));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }

    /// A diff that `git apply` takes at the top of the project's repository, which its first line names: below it, git would
    /// pass over what is elsewhere. Without a repository it is the folder that has all of it: the project's, or its
    /// workspace's.
    pub(crate) fn diff(&self, root: &Path) -> String {
        // It takes no path that leads over a link.
        let root = &real(root);
        let paths: Vec<PathBuf> = self.changes.iter().map(|change| real(&change.path)).collect();
        let all_below = |folder: &&Path| paths.iter().all(|path| path.starts_with(folder));
        let repository = protect::repository(root).map(|folder| real(&folder));
        let base = repository
            .as_deref()
            .filter(all_below)
            .or_else(|| root.ancestors().find(all_below))
            .unwrap_or(root);
        let mut out = String::new();
        if base != root.as_path() {
            out.push_str(&format!("The paths are those in {}\n", cell(&base.display().to_string())));
        }
        for (change, path) in self.changes.iter().zip(&paths) {
            let name = relative(base, path);
            let (a, b) = (quoted(&format!("a/{name}")), quoted(&format!("b/{name}")));
            out.push_str(&format!("diff --git {a} {b}\n"));
            if change.before.is_none() {
                out.push_str("new file mode 100644\n");
            }
            let before = change.before.as_deref().unwrap_or_default();
            let old = if change.before.is_some() { &*a } else { "/dev/null" };
            let diff = TextDiff::from_lines(before, &change.after);
            out.push_str(&diff.unified_diff().header(old, &b).to_string());
        }
        out
    }

    /// What was done, file by file.
    pub(crate) fn print(&self, root: &Path) {
        for change in &self.changes {
            let word = if change.before.is_some() { "edited " } else { "created" };
            say!("  {word}  {}", relative(root, &change.path));
        }
        for (path, why) in &self.kept {
            say!("  kept     {} ({why})", relative(root, path));
        }
    }

    /// All that is to be done; refused when it is out of the project.
    pub(crate) fn journal(&self, root: &Path) -> Result<Journal> {
        let mut journal = Journal { folders: Vec::new(), files: Vec::new(), migration: None };
        for change in &self.changes {
            stays_inside(root, &change.path)?;
            // A link stays one, and what it leads to is edited.
            let path = change.path.canonicalize().unwrap_or_else(|_| change.path.clone());
            let file = NewText { path, before: change.before.clone(), after: change.after.clone() };
            let folder = change.path.parent().unwrap_or(root);
            let made_whole = self.migration.as_deref() == Some(folder);
            let above = if made_whole { folder.parent() } else { Some(folder) };
            add_missing_folders(above, &mut journal.folders);
            if made_whole {
                let migration = journal.migration.get_or_insert_with(|| (folder.to_owned(), Vec::new()));
                migration.1.push(file);
            } else {
                journal.files.push(file);
            }
        }
        Ok(journal)
    }
}

/// A link must not lead a write out of the project.
fn stays_inside(root: &Path, path: &Path) -> Result<()> {
    if path.is_symlink() && !path.exists() {
        return Err(Error::Refused(format!("{} is a link to nothing: mend or remove it", path.display())));
    }
    let Some(there) = path.ancestors().find(|p| p.exists()) else { return Ok(()) };
    if there != path && !there.is_dir() {
        return Err(Error::Refused(format!("{} has to be a folder: move that file away", there.display())));
    }
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

/// Where a path leads that may not be there yet.
fn real(path: &Path) -> PathBuf {
    let there =
        path.ancestors().find_map(|above| Some((above.canonicalize().ok()?, path.strip_prefix(above).ok()?)));
    match there {
        Some((real, rest)) if rest.as_os_str().is_empty() => real,
        Some((real, rest)) => real.join(rest),
        None => path.to_owned(),
    }
}

pub(super) fn relative(root: &Path, path: &Path) -> String {
    path.strip_prefix(root).unwrap_or(path).display().to_string().replace('\\', "/")
}

/// As git writes a path that has more than plain characters.
fn quoted(path: &str) -> String {
    if path.chars().all(|c| c.is_ascii_graphic() && c != '"' && c != '\\') {
        return path.to_owned();
    }
    let escaped = path.bytes().map(|byte| match byte {
        b'"' | b'\\' => format!("\\{}", char::from(byte)),
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\{byte:03o}"),
    });
    format!("\"{}\"", escaped.collect::<String>())
}
