//! The lock that a worker holds on a file of its own ([`LockFiles`]). It also moves the file's time on, for a process that is
//! stopped keeps its lock.

use std::fs::{File, OpenOptions};
use std::path::Path;
use std::thread::{self, JoinHandle};
use std::time::{Duration, SystemTime};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::lock_files::LockFiles;
use crate::{Error, Result};

/// The file's time moves on this often.
const PULSE: Duration = Duration::from_secs(1);

/// The lock, until it is dropped.
#[derive(Debug)]
pub(super) struct LockFile {
    end: Option<Sender<()>>,
    keeper: Option<JoinHandle<()>>,
}

impl LockFile {
    /// Makes and locks the file of a worker.
    pub(super) fn hold(files: &LockFiles, worker_id: i64) -> Result<Self> {
        let path = files.path(worker_id);
        let file = lock(&path)?;
        let (end, ends) = bounded(0);
        let keeper = thread::Builder::new()
            .name("taskmq-lock".to_owned())
            .spawn(move || keep(&path, file, &ends))
            .map_err(|e| Error::Configuration(format!("cannot start the thread of the lock file: {e}")))?;
        Ok(Self { end: Some(end), keeper: Some(keeper) })
    }
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
    use crate::lock_files::Sign;

    #[test]
    fn a_file_tells_of_its_process() {
        let folder = tempfile::tempdir().unwrap();
        let files = LockFiles::beside(&folder.path().join("app.db"));
        assert_eq!(files.look(7), Sign::Missing);
        let lock = LockFile::hold(&files, 7).unwrap();
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
        let _lock = LockFile::hold(&files, 7).unwrap();
        files.remove(7);
        let begin = std::time::Instant::now();
        while !matches!(files.look(7), Sign::Held { .. }) {
            assert!(begin.elapsed() < Duration::from_secs(20), "it is still missing");
            thread::sleep(Duration::from_millis(20));
        }
    }
}
