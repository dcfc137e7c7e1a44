//! A worker holds an OS lock on a file of its own, which the system frees when the process dies, however it dies: the
//! other workers of the machine see it at once and without a query. It also moves the file's time on, for a process
//! that is stopped keeps its lock.
//!
//! On SQLite this is the only lock, for a connection there can hold none, and the file lies beside the database. It is
//! never the database file itself: closing any handle of that one would drop SQLite's own locks
//! (<https://sqlite.org/howtocorrupt.html>, 2.2). For a server it lies among the temporary files.

use std::fs::{File, OpenOptions, TryLockError};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::{Error, Result};

/// The file's time moves on this often.
const PULSE: Duration = Duration::from_secs(1);

/// Where the files of a queue's workers lie.
#[derive(Clone, Debug)]
pub(super) struct LockFiles {
    prefix: PathBuf,
}

impl LockFiles {
    /// Beside a SQLite file.
    #[cfg(feature = "sqlite")]
    pub(super) fn beside(database: &Path) -> Self {
        let mut prefix = database.as_os_str().to_owned();
        prefix.push("-taskmq-");
        Self { prefix: prefix.into() }
    }

    /// Of this machine, for queues on servers. Its name is part of theirs, for machines may share a folder on which
    /// locks are each machine's own.
    pub(super) fn of_machine(host: &str) -> Self {
        let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        Self { prefix: std::env::temp_dir().join(format!("taskmq-{host}-")) }
    }

    /// Makes and locks the file of a worker.
    pub(super) fn hold(&self, worker_id: i64) -> Result<LockFile> {
        let path = self.path(worker_id);
        let file = lock(&path)?;
        let (end, ends) = bounded(0);
        let keeper = thread::Builder::new()
            .name("taskmq-lock".to_owned())
            .spawn(move || keep(&path, file, &ends))
            .map_err(|e| Error::Configuration(format!("cannot start the thread of the lock file: {e}")))?;
        Ok(LockFile { end: Some(end), keeper: Some(keeper) })
    }

    /// Looks at the file of this worker.
    pub(super) fn look(&self, worker_id: i64) -> Sign {
        // What cannot be read tells nothing either.
        let Ok(file) = File::open(self.path(worker_id)) else { return Sign::Missing };
        // Shared, for others look too.
        match file.try_lock_shared() {
            Ok(()) => Sign::Free,
            Err(TryLockError::WouldBlock) => file
                .metadata()
                .and_then(|data| data.modified())
                .map_or(Sign::Missing, |moved_at| Sign::Held { moved_at }),
            Err(TryLockError::Error(_)) => Sign::Missing,
        }
    }

    /// Removes what a dead worker left.
    pub(super) fn remove(&self, worker_id: i64) {
        let _ = std::fs::remove_file(self.path(worker_id));
    }

    fn path(&self, worker_id: i64) -> PathBuf {
        let mut path = self.prefix.as_os_str().to_owned();
        path.push(format!("{worker_id:016x}.lock"));
        path.into()
    }
}

/// How a worker's file looks to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sign {
    /// Its process lives.
    Held {
        /// When it last had time to do anything, by its own clock.
        moved_at: SystemTime,
    },
    /// Its process has ended: nothing else frees the lock.
    Free,
    /// Nobody knows: it runs on another machine, or somebody deleted the file, which the worker will make anew.
    Missing,
}

/// The lock, until it is dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl Drop for LockFile {
    fn drop(&mut self) {
        self.end = None;
        if let Some(keeper) = self.keeper.take() {
            let _ = keeper.join();
        }
    }
}

/// Nobody ever sees the file without its lock.
fn lock(path: &Path) -> Result<File> {
    let failed = |source| Error::LockFile { path: path.display().to_string(), source };
    let new = path.with_extension("new");
    let file =
        OpenOptions::new().create(true).truncate(true).read(true).write(true).open(&new).map_err(failed)?;
    file.try_lock().map_err(|e| failed(e.into()))?;
    std::fs::rename(&new, path).map_err(failed)?;
    Ok(file)
}

/// Does nothing else, so that nothing can keep a healthy worker from it.
fn keep(path: &Path, mut file: File, ends: &Receiver<()>) {
    let mut moved_at = SystemTime::now();
    while ends.recv_timeout(PULSE).is_err_and(|e| e.is_timeout()) {
        if !path.exists() {
            // Somebody deleted it.
            match lock(path) {
                Ok(anew) => file = anew,
                Err(error) => tracing::debug!("{error}"),
            }
        }
        // It must differ even where the clock stands still.
        moved_at = SystemTime::now().max(moved_at + Duration::from_micros(1));
        if let Err(error) = file.set_modified(moved_at) {
            tracing::debug!("cannot move the time of {} on: {error}", path.display());
        }
    }
    let _ = std::fs::remove_file(path);
    let _ = file.unlock();
}

#[cfg(all(test, feature = "sqlite"))]
mod tests {
    use super::*;

    #[test]
    fn a_file_tells_of_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let files = LockFiles::beside(&folder.path().join("app.db"));
        assert_eq!(files.look(7), Sign::Missing);
        let lock = files.hold(7).unwrap();
        let first = files.look(7);
        assert!(matches!(first, Sign::Held { .. }));
        let begin = std::time::Instant::now();
        while files.look(7) == first {
            assert!(begin.elapsed() < Duration::from_secs(20), "its time stands still");
            thread::sleep(Duration::from_millis(20));
        }
        drop(lock);
        assert_eq!(files.look(7), Sign::Missing);
        std::fs::write(folder.path().join(format!("app.db-taskmq-{:016x}.lock", 7)), "").unwrap();
        assert_eq!(files.look(7), Sign::Free);
        files.remove(7);
        assert_eq!(files.look(7), Sign::Missing);
    }

    #[test]
    fn a_deleted_file_is_made_anew() {
        let folder = tempfile::tempdir().unwrap();
        let files = LockFiles::beside(&folder.path().join("app.db"));
        let _lock = files.hold(7).unwrap();
        files.remove(7);
        let begin = std::time::Instant::now();
        while !matches!(files.look(7), Sign::Held { .. }) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it is still missing");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
