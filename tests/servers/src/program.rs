use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::{env, fs};

use crate::{Error, Result};

/// Where a program is: in the newest of Debian's `/usr/lib/postgresql/*/bin`, in `PATH`, or in `/usr/sbin`, which
/// an ordinary user's `PATH` lacks.
fn find(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    versions().into_iter().chain(env::split_paths(&path)).chain([PathBuf::from("/usr/sbin")]).find_map(
        |folder| {
            let file = folder.join(program);
            file.is_file().then_some(file)
        },
    )
}

/// Debian keeps each PostgreSQL version in a folder of its own. Newest first.
fn versions() -> Vec<PathBuf> {
    let mut versions: Vec<u32> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| {
            entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
        })
        .unwrap_or_default();
    versions.sort_unstable_by(|a, b| b.cmp(a));
    versions.iter().map(|version| PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))).collect()
}

/// Like [`find`], and an error that names the package otherwise.
pub(crate) fn require(program: &'static str, package: &'static str) -> Result<PathBuf> {
    find(program).ok_or(Error::Missing { program, package })
}

/// Runs a program to its end and returns what it wrote.
pub(crate) fn output(command: &mut Command) -> Result<String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(Error::os(format!("run {program}")))?;
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.success() {
        return Ok(stdout);
    }
    Err(Error::Failed { program, output: stdout + &String::from_utf8_lossy(&output.stderr) })
}
