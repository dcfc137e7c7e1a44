//! Where the lock files of workers lie, and how one looks to others: the worker holds an OS lock on a file of its own, which the
//! system frees when the process dies, however it dies. Whoever looks sees it at once and without a query.
//!
//! On SQLite this is the only lock, for a connection there can hold none, and the file lies beside the database. It is
//! never the database file itself: closing any handle of that one would drop SQLite's own locks
//! (<https://sqlite.org/howtocorrupt.html>, 2.2). For a server it lies among the temporary files.

use std::fs::{File, TryLockError};
use std::path::PathBuf;
use std::time::SystemTime;

/// Where the files of a queue's workers lie.
#[derive(Clone, Debug)]
pub(crate) struct LockFiles {
    prefix: PathBuf,
}

impl LockFiles {
    /// Beside a SQLite file.
    #[cfg(feature = "sqlite")]
    pub(crate) fn beside(database: &std::path::Path) -> Self {
        let mut prefix = database.as_os_str().to_owned();
        prefix.push("-taskmq-");
        Self { prefix: prefix.into() }
    }

    /// Of this machine, for queues on servers. Its name is part of theirs, for machines may share a folder on which
    /// locks are each machine's own.
    #[cfg(feature = "worker")]
    pub(crate) fn of_machine(host: &str) -> Self {
        let host: String = host.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect();
        Self { prefix: std::env::temp_dir().join(format!("taskmq-{host}-")) }
    }

    /// Looks at the file of this worker.
    pub(crate) fn look(&self, worker_id: i64) -> Sign {
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
    #[cfg(feature = "worker")]
    pub(crate) fn remove(&self, worker_id: i64) {
        let _ = std::fs::remove_file(self.path(worker_id));
    }

    pub(crate) fn path(&self, worker_id: i64) -> PathBuf {
        let mut path = self.prefix.as_os_str().to_owned();
        path.push(format!("{worker_id:016x}.lock"));
        path.into()
    }
}

/// How a worker's file looks to the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sign {
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
