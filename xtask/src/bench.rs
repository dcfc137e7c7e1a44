//! Builds the benchmark and taskmq's and the raw loop's programs, which it starts, and runs it.

use crate::{cargo, packages};

pub(crate) fn run(arguments: &[String]) -> Result<(), String> {
    packages::ensure()?;
    let choice = ["--release", "-p", "taskmq-bench"];
    // The programs lie beside the one that starts them.
    cargo(&[&["build", "--quiet", "--bins"], &choice[..]].concat(), &[])?;
    cargo(&[&["run", "--quiet"], &choice[..], &["--"]].concat(), arguments)
}
