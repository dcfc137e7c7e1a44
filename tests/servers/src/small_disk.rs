use std::fs::OpenOptions;
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::program::output;
use crate::{Error, Result};

/// Waits for the end of its input, that is, of its owner, and takes the file system away.
const SENTRY: &str = r#"while read -r line; do :; done; umount -l "$1""#;

/// A file system of so few bytes that it is soon full, mounted on a folder. Only root may mount one.
#[derive(Debug)]
pub struct SmallDisk {
    path: PathBuf,
    sentry: Child,
}

impl SmallDisk {
    /// Mounts one on a folder, which it makes.
    ///
    /// # Errors
    /// When it may not be mounted here.
    pub fn mount(path: &Path, bytes: u64) -> Result<Self> {
        std::fs::create_dir_all(path).map_err(Error::os(format!("make the folder {}", path.display())))?;
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={bytes},mode=0755"), "taskmq-small-disk"]).arg(path);
        output(&mut mount)?;
        let sentry = Command::new("/bin/sh")
            .args(["-c", SENTRY, "taskmq-sentry"])
            .arg(path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .map_err(Error::os("run /bin/sh"))?;
        Ok(Self { path: path.to_owned(), sentry })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Writes a file that takes all the room there is.
    ///
    /// # Errors
    /// When it cannot be written for another reason.
    pub fn fill(&self) -> Result<()> {
        let file = self.filler();
        let cannot = || Error::os(format!("write {}", file.display()));
        let mut filler = OpenOptions::new().create(true).append(true).open(&file).map_err(cannot())?;
        let mut piece = 64 * 1024;
        while piece > 0 {
            match filler.write(&vec![1; piece]) {
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => piece /= 2,
                Err(error) => return Err(cannot()(error)),
            }
        }
        Ok(())
    }

    /// Makes the room again that [`fill`](Self::fill) took.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn free(&self) -> Result<()> {
        std::fs::remove_file(self.filler()).map_err(Error::os("remove the file that fills the disk"))
    }

    fn filler(&self) -> PathBuf {
        self.path.join("filler")
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        drop(self.sentry.stdin.take());
        let _ = self.sentry.wait();
    }
}
