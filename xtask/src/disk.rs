//! Room on the disk for a build and the servers of the tests.

use std::fs;
use std::path::Path;
use std::process::Command;

/// A build of everything and its tests took 10.7 GiB, from an empty `target` on.
const NEEDED: u64 = 12 << 30;

/// What cargo keeps of former builds and never deletes itself, the least useful first.
const OLD: [&str; 2] = ["target/debug/incremental", "target/debug/deps"];

/// Deletes what former builds have left when there is little room: servers that find none fail in many ways, none of which says so.
pub(crate) fn make_room() -> Result<(), String> {
    for old in OLD {
        let Some(free) = free().filter(|free| *free < NEEDED) else { return Ok(()) };
        if Path::new(old).exists() {
            println!(
                "== only {} MiB are free: {old} is deleted, and built anew as far as needed",
                free >> 20
            );
            fs::remove_dir_all(old).map_err(|error| format!("cannot delete {old}: {error}"))?;
        }
    }
    if let Some(free) = free().filter(|free| *free < NEEDED) {
        println!("== only {} MiB are free, and {} may be needed", free >> 20, NEEDED >> 20);
    }
    Ok(())
}

/// In bytes; `None` where there is no `df` that tells.
fn free() -> Option<u64> {
    let out = Command::new("df").args(["--output=avail", "--block-size=1", "."]).output().ok()?;
    String::from_utf8_lossy(&out.stdout).lines().nth(1)?.trim().parse().ok()
}
