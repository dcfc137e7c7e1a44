//! Makes all of a plan's changes or none, whatever ends it in between.
//!
//! A journal in the project's folder says what is to be done. Then everything new is written under temporary names,
//! and only when all of it is on the disk is it renamed into place, the migration's folder last: that is the moment
//! from which the plan is carried out. The journal goes when nothing is left to do. Whoever finds one undoes what it
//! names, or, after that moment, only removes it.

use std::fs::{File, TryLockError};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::disk::Disk;
use crate::error::{Error, Result};

const JOURNAL: &str = ".taskmq-init.json";

/// What diesel_cli passes over, for its name begins with a dot.
const STAGED_FOLDER: &str = ".taskmq-new";

/// All that is to be done, in its order.
#[derive(Debug, Deserialize, Serialize)]
pub(super) struct Journal {
    /// Folders to be made, outer ones first.
    pub(super) folders: Vec<PathBuf>,
    pub(super) files: Vec<NewText>,
    /// A folder to be made whole, with its files.
    pub(super) migration: Option<(PathBuf, Vec<NewText>)>,
}

#[derive(Debug, Deserialize, Serialize)]
pub(super) struct NewText {
    pub(super) path: PathBuf,
    /// `None`: there is no such file yet.
    pub(super) before: Option<String>,
    pub(super) after: String,
}

/// What became of a run that was interrupted.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Recovery {
    /// There was none.
    Nothing,
    /// It had done everything.
    Finished,
    /// All is as it was before it, but for these files, which somebody else has changed since.
    Undone(Vec<PathBuf>),
}

pub(super) fn is_interrupted(root: &Path) -> bool {
    root.join(JOURNAL).exists()
}

/// Makes every change, or leaves all as it was.
pub(super) fn apply(disk: &mut dyn Disk, root: &Path, journal: &Journal) -> Result<()> {
    let path = root.join(JOURNAL);
    let text = serde_json::to_string(journal)
        .map_err(|e| Error::Refused(format!("a path in {} cannot be written down: {e}", root.display())))?;
    if let Err(source) = disk.write(&path, &text, None) {
        if source.kind() == ErrorKind::AlreadyExists {
            return Err(another_runs());
        }
        let _ = disk.remove_file(&path);
        return Err(Error::File { path, source });
    }
    let _running = lock(&path)?;
    let outcome = stage(disk, journal)
        .and_then(|()| rename(disk, journal))
        .and_then(|()| disk.remove_file(&path).map_err(Error::file(&path)));
    // What cannot be undone now, the next run undoes: the journal goes last.
    if outcome.is_err() && undo(disk, journal).is_ok() {
        let _ = disk.remove_file(&path);
    }
    outcome
}

/// Puts right what an interrupted run left.
pub(super) fn recover(disk: &mut dyn Disk, root: &Path) -> Result<Recovery> {
    let path = root.join(JOURNAL);
    if !path.exists() {
        return Ok(Recovery::Nothing);
    }
    let running = lock(&path)?;
    let text = std::io::read_to_string(&running).map_err(Error::file(&path))?;
    // Before the journal is whole, nothing is changed.
    let recovery = match serde_json::from_str::<Journal>(&text) {
        Err(_) => Recovery::Undone(Vec::new()),
        Ok(journal) if journal.is_carried_out() => Recovery::Finished,
        Ok(journal) => Recovery::Undone(undo(disk, &journal)?),
    };
    disk.remove_file(&path).map_err(Error::file(&path))?;
    Ok(recovery)
}

/// Held for as long as a run goes on, so that no other takes it for an interrupted one.
fn lock(path: &Path) -> Result<File> {
    let file = File::open(path).map_err(Error::file(path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(another_runs()),
        Err(TryLockError::Error(source)) => Err(Error::File { path: path.to_owned(), source }),
    }
}

fn another_runs() -> Error {
    Error::Refused("another `taskmq-cli init` is at work in this project: wait for it".to_owned())
}

fn stage(disk: &mut dyn Disk, journal: &Journal) -> Result<()> {
    for folder in &journal.folders {
        disk.make_folder(folder).map_err(Error::file(folder))?;
    }
    for file in &journal.files {
        let mode = match std::fs::metadata(&file.path) {
            Ok(there) if there.permissions().readonly() => {
                return Err(Error::Refused(format!("{} is read-only", file.path.display())));
            }
            there => there.ok().map(|there| there.permissions()),
        };
        disk.write(&temporary(&file.path), &file.after, mode).map_err(Error::file(&file.path))?;
    }
    if let Some((folder, files)) = &journal.migration {
        let staged = folder.with_file_name(STAGED_FOLDER);
        disk.make_folder(&staged).map_err(Error::file(&staged))?;
        for file in files {
            let name = file.path.file_name().unwrap_or_default();
            disk.write(&staged.join(name), &file.after, None).map_err(Error::file(&file.path))?;
        }
    }
    Ok(())
}

fn rename(disk: &mut dyn Disk, journal: &Journal) -> Result<()> {
    for file in &journal.files {
        disk.rename(&temporary(&file.path), &file.path).map_err(Error::file(&file.path))?;
    }
    if let Some((folder, _)) = &journal.migration {
        disk.rename(&folder.with_file_name(STAGED_FOLDER), folder).map_err(Error::file(folder))?;
    }
    Ok(())
}

/// Puts everything back that still is as it was written, and names the rest.
fn undo(disk: &mut dyn Disk, journal: &Journal) -> Result<Vec<PathBuf>> {
    let mut changed_since = Vec::new();
    if let Some((folder, files)) = &journal.migration {
        for folder in [&folder.with_file_name(STAGED_FOLDER), folder] {
            for file in files {
                remove(disk, &folder.join(file.path.file_name().unwrap_or_default()))?;
            }
            remove_folder(disk, folder)?;
        }
    }
    for file in journal.files.iter().rev() {
        let temporary = temporary(&file.path);
        remove(disk, &temporary)?;
        let now = std::fs::read_to_string(&file.path).ok();
        if now == file.before {
            continue;
        }
        match &file.before {
            _ if now.as_ref() != Some(&file.after) => changed_since.push(file.path.clone()),
            Some(before) => {
                let mode = std::fs::metadata(&file.path).ok().map(|there| there.permissions());
                disk.write(&temporary, before, mode).map_err(Error::file(&file.path))?;
                disk.rename(&temporary, &file.path).map_err(Error::file(&file.path))?;
            }
            None => remove(disk, &file.path)?,
        }
    }
    for folder in journal.folders.iter().rev() {
        remove_folder(disk, folder)?;
    }
    Ok(changed_since)
}

fn remove(disk: &mut dyn Disk, path: &Path) -> Result<()> {
    if path.is_file() { disk.remove_file(path).map_err(Error::file(path)) } else { Ok(()) }
}

/// Unless somebody has put something into it.
fn remove_folder(disk: &mut dyn Disk, path: &Path) -> Result<()> {
    let empty = std::fs::read_dir(path).is_ok_and(|mut entries| entries.next().is_none());
    if empty { disk.remove_folder(path).map_err(Error::file(path)) } else { Ok(()) }
}

/// In the same folder, so that renaming it is one step.
fn temporary(path: &Path) -> PathBuf {
    path.with_file_name(format!(".{}.taskmq-new", path.file_name().unwrap_or_default().to_string_lossy()))
}

impl Journal {
    /// Further files, before all others.
    pub(super) fn add_first(&mut self, files: Vec<NewText>) {
        for file in &files {
            add_missing_folders(file.path.parent(), &mut self.folders);
        }
        self.files.splice(0..0, files);
    }

    /// Whether its last step is done.
    fn is_carried_out(&self) -> bool {
        match (&self.migration, self.files.last()) {
            (Some((folder, _)), _) => folder.exists(),
            (None, Some(file)) => std::fs::read_to_string(&file.path).is_ok_and(|now| now == file.after),
            (None, None) => true,
        }
    }
}

/// A folder and those above it, as far as they are not there yet.
pub(super) fn add_missing_folders(folder: Option<&Path>, folders: &mut Vec<PathBuf>) {
    let above = folder.into_iter().flat_map(Path::ancestors);
    let missing: Vec<&Path> = above.take_while(|folder| !folder.exists()).collect();
    for folder in missing.into_iter().rev() {
        if !folders.iter().any(|known| known == folder) {
            folders.push(folder.to_owned());
        }
    }
}

#[cfg(test)]
mod tests;
