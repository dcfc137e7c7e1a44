//! The programs of the tests, as cargo builds them.

use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;

/// A program with tests in it.
#[derive(Debug)]
pub(crate) struct Program {
    /// Of its package.
    pub(crate) package: String,
    /// Of its library, program or file of tests.
    target: String,
    executable: PathBuf,
    /// That of its package, in which cargo runs it.
    folder: PathBuf,
}

impl Program {
    pub(crate) fn name(&self) -> String {
        format!("the tests {} of {}", self.target, self.package)
    }

    /// As cargo runs it.
    pub(crate) fn command(&self) -> Command {
        let mut command = Command::new(&self.executable);
        command.current_dir(&self.folder).env("CARGO_MANIFEST_DIR", &self.folder);
        command.env("CARGO_PKG_NAME", &self.package);
        command
    }
}

/// Builds all of them.
pub(crate) fn build(features: &str) -> Result<Vec<Program>, String> {
    let built = Command::new(env!("CARGO"))
        .args(["test", "--workspace", "--no-run", "--features", features])
        .arg("--message-format=json-render-diagnostics")
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("cannot run cargo test: {error}"))?;
    if !built.status.success() {
        return Err("the tests cannot be built".to_owned());
    }
    let messages = String::from_utf8_lossy(&built.stdout);
    let programs: Vec<Program> = messages.lines().filter_map(program).collect();
    if programs.is_empty() { Err("cargo built no tests".to_owned()) } else { Ok(programs) }
}

/// What one of cargo's messages tells of, if it is the program of tests.
fn program(message: &str) -> Option<Program> {
    let message: Value = serde_json::from_str(message).ok()?;
    if message["profile"]["test"] != true {
        return None;
    }
    let folder = PathBuf::from(message["manifest_path"].as_str()?).parent()?.to_owned();
    // Its id ends with `#name@version`, or with `/name#version` where that is its folder's name as well.
    let id = message["package_id"].as_str()?;
    let (place, end) = id.rsplit_once('#')?;
    let package = match end.split_once('@') {
        Some((name, _)) => name,
        None => place.rsplit('/').next()?,
    };
    Some(Program {
        package: package.to_owned(),
        target: message["target"]["name"].as_str()?.to_owned(),
        executable: message["executable"].as_str()?.into(),
        folder,
    })
}
