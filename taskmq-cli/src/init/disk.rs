//! Every step that `init` takes on the disk.

use std::fs::{File, OpenOptions, Permissions};
use std::io::{Result, Write};
use std::path::Path;

/// One step each, done or not done. The tests have a disk that fails, and one that dies, at every step.
pub(super) trait Disk {
    fn make_folder(&mut self, path: &Path) -> Result<()>;
    /// A new file, on the disk when this returns.
    fn write(&mut self, path: &Path, text: &str, mode: Option<Permissions>) -> Result<()>;
    fn rename(&mut self, from: &Path, to: &Path) -> Result<()>;
    fn remove_file(&mut self, path: &Path) -> Result<()>;
    fn remove_folder(&mut self, path: &Path) -> Result<()>;
}

#[derive(Debug)]
pub(super) struct RealDisk;

impl Disk for RealDisk {
    fn make_folder(&mut self, path: &Path) -> Result<()> {
        std::fs::create_dir(path)
    }

    fn write(&mut self, path: &Path, text: &str, mode: Option<Permissions>) -> Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        file.write_all(text.as_bytes())?;
        if let Some(mode) = mode {
            file.set_permissions(mode)?;
        }
        file.sync_all()?;
        sync_folder_of(path)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> Result<()> {
        std::fs::rename(from, to)?;
        sync_folder_of(to)
    }

    fn remove_file(&mut self, path: &Path) -> Result<()> {
        std::fs::remove_file(path)?;
        sync_folder_of(path)
    }

    fn remove_folder(&mut self, path: &Path) -> Result<()> {
        std::fs::remove_dir(path)
    }
}

/// Names are in the folder, so that it has to reach the disk too; Windows sees to that itself.
fn sync_folder_of(path: &Path) -> Result<()> {
    match path.parent() {
        Some(folder) if cfg!(unix) => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}
