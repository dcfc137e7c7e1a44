//! A SQLite connection cannot hold a lock for a session, so a worker holds an OS lock on a file of its own beside
//! the database. The system frees it when the process dies, however it dies. It is never the database file itself:
//! closing any handle of that one would drop SQLite's own locks (<https://sqlite.org/howtocorrupt.html>, 2.2).

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};

use crate::{Error, Result};

#[derive(Debug)]
pub(super) struct LockFile {
    path: PathBuf,
    file: File,
}

impl LockFile {
    /// Makes and locks the file of a worker.
    pub(super) fn hold(database: &Path, worker_id: i64) -> Result<Self> {
        let path = path(database, worker_id);
        let failed = |source| Error::LockFile { path: path.display().to_string(), source };
        let file = OpenOptions::new().create(true).truncate(false).write(true).open(&path).map_err(failed)?;
        file.try_lock().map_err(|e| failed(e.into()))?;
        Ok(Self { path, file })
    }

    /// Makes the file anew if somebody deleted it: without it the others will take this worker for dead.
    pub(super) fn keep(&mut self, database: &Path, worker_id: i64) -> Result<()> {
        if !self.path.exists() {
            *self = Self::hold(database, worker_id)?;
        }
        Ok(())
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
        let _ = self.file.unlock();
    }
}

/// How a worker's file looks to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Its process lives.
    Held,
    /// Its process has ended: nothing else frees the lock.
    Free,
    /// Nobody knows: somebody may have deleted the file, which the worker will make anew.
    Missing,
}

/// Looks at the file of this worker.
pub(super) fn look(database: &Path, worker_id: i64) -> Result<Sign> {
    let path = path(database, worker_id);
    match OpenOptions::new().write(true).open(&path) {
        Ok(file) => match file.try_lock() {
            Ok(()) => Ok(Sign::Free),
            Err(TryLockError::WouldBlock) => Ok(Sign::Held),
            Err(TryLockError::Error(source)) => {
                Err(Error::LockFile { path: path.display().to_string(), source })
            }
        },
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Sign::Missing),
        Err(source) => Err(Error::LockFile { path: path.display().to_string(), source }),
    }
}

/// Removes what a dead worker left.
pub(super) fn remove(database: &Path, worker_id: i64) {
    let _ = std::fs::remove_file(path(database, worker_id));
}

fn path(database: &Path, worker_id: i64) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(format!("-taskmq-{worker_id:016x}.lock"));
    name.into()
}
