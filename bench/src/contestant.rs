//! Who takes part, and what has to be known of each.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde::Deserialize;

use crate::Result;
use crate::database::{Database, Kind};

/// One library, or one way of using it, on one database.
#[derive(Clone, Debug)]
pub(crate) struct Contestant {
    pub(crate) name: String,
    pub(crate) role: Role,
    /// The program and its first arguments.
    program: Vec<PathBuf>,
    environment: Option<&'static str>,
    /// Counts what is produced and not finished yet, as `value`.
    pub(crate) left: String,
    /// The largest number of messages that it is given at once.
    pub(crate) at_most: u64,
    /// The workloads that it does not take part in.
    pub(crate) without: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Raw,
    Taskmq,
    /// taskmq or the raw loop with one setting changed: takes part only where that matters.
    Variant,
    Peer,
}

impl Contestant {
    /// Its program, on this database.
    pub(crate) fn command(&self, database: &Database) -> Command {
        let mut command = Command::new(&self.program[0]);
        command
            .args(&self.program[1..])
            .env("DATABASE_URL", &database.url)
            .envs(self.environment.map(|e| (e, "1")));
        // taskmq's lock files and whatever a peer writes go where they are removed.
        command.current_dir(database.folder.path());
        command
    }
}

/// taskmq and the raw loop, whose programs lie beside the benchmark's own.
pub(crate) fn own() -> Result<Vec<Contestant>> {
    let folder = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    let contestant = |name: &str, role, program: &str, environment, table: &str| Contestant {
        name: name.to_owned(),
        role,
        program: vec![folder.join(program)],
        environment,
        left: format!("SELECT count(*) AS value FROM {table}"),
        at_most: u64::MAX,
        without: Vec::new(),
    };
    Ok(vec![
        contestant("raw claim + ack", Role::Raw, "contestant-raw", None, "raw_messages"),
        contestant("raw one write", Role::Variant, "contestant-raw", Some("RAW_ONE_WRITE"), "raw_messages"),
        contestant("taskmq", Role::Taskmq, "contestant-taskmq", None, "taskmq_messages"),
        contestant(
            "taskmq (retention off)",
            Role::Variant,
            "contestant-taskmq",
            Some("TASKMQ_RETENTION_OFF"),
            "taskmq_messages",
        ),
    ])
}

/// Who looks at the admin's overview: a program beside the benchmark's own, too, that answers as a contestant does.
pub(crate) fn onlooker() -> Result<Contestant> {
    let folder = std::env::current_exe()?.parent().map(Path::to_path_buf).unwrap_or_default();
    Ok(Contestant {
        name: "onlooker".to_owned(),
        role: Role::Variant,
        program: vec![folder.join("onlooker")],
        environment: None,
        left: String::new(),
        at_most: u64::MAX,
        without: Vec::new(),
    })
}

/// What `bench/peers/*/peer.toml` says.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Peer {
    pub(crate) name: String,
    /// The package whose version the lock file tells.
    pub(crate) package: String,
    /// The settings that it is given, and why.
    #[serde(default)]
    pub(crate) settings: String,
    /// Whether a commit of it survives the loss of power.
    #[serde(default = "yes")]
    pub(crate) waits_for_disk: bool,
    /// Why it cannot take part.
    pub(crate) unavailable: Option<String>,
    /// The databases that it takes part on.
    #[serde(default)]
    on: Vec<On>,
    #[serde(skip)]
    folder: PathBuf,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct On {
    database: Kind,
    left: String,
    /// Fewer for a slow one, so that it ends in reasonable time.
    #[serde(default = "messages")]
    at_most: u64,
    #[serde(default)]
    without: Vec<String>,
}

fn yes() -> bool {
    true
}

/// What peers are given: fewer than taskmq, for they are slower.
fn messages() -> u64 {
    100_000
}

/// Every peer, in the order of their folders.
pub(crate) fn peers() -> Result<Vec<Peer>> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("peers");
    let mut folders: Vec<PathBuf> =
        std::fs::read_dir(&root)?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    folders.sort();
    folders
        .into_iter()
        .filter(|folder| folder.join("peer.toml").is_file())
        .map(|folder| {
            let file = folder.join("peer.toml");
            let peer: Peer = toml_edit::de::from_str(&std::fs::read_to_string(&file)?)
                .map_err(|error| format!("{}: {error}", file.display()))?;
            Ok(Peer { folder, ..peer })
        })
        .collect()
}

impl Peer {
    pub(crate) fn is_on(&self, database: Kind) -> bool {
        self.unavailable.is_none() && self.on.iter().any(|on| on.database == database)
    }

    /// Builds it, and says how it takes part.
    pub(crate) fn contestant(&self, database: Kind) -> Result<Contestant> {
        let on = self.on.iter().find(|on| on.database == database);
        let on = on.ok_or_else(|| format!("{} does not take part on {database}", self.name))?;
        Ok(Contestant {
            name: self.name.clone(),
            role: Role::Peer,
            program: self.build()?,
            environment: None,
            left: on.left.clone(),
            at_most: on.at_most,
            without: on.without.clone(),
        })
    }

    fn build(&self) -> Result<Vec<PathBuf>> {
        if self.folder.join("package.json").is_file() {
            run(Command::new("npm")
                .args(["ci", "--silent", "--no-audit", "--no-fund"])
                .current_dir(&self.folder))?;
            return Ok(vec!["node".into(), self.folder.join("contestant.mjs")]);
        }
        // Peers share what they can of each other's builds, and nothing with the workspace.
        let own = std::env::current_exe()?;
        let target = own.ancestors().nth(2).unwrap_or(&self.folder).join("bench-peers");
        // By way of rustup, where that is, so that no package's own toolchain file has a say.
        run(Command::new("cargo")
            .args(["build", "--quiet", "--release", "--locked", "--target-dir"])
            .arg(&target)
            .current_dir(&self.folder))?;
        let name = self.folder.file_name().unwrap_or_default();
        Ok(vec![target.join("release").join(format!("peer-{}", name.to_string_lossy()))])
    }

    /// The version in its lock file.
    pub(crate) fn version(&self) -> Result<String> {
        let node = self.folder.join("package-lock.json");
        if node.is_file() {
            let lock: serde_json::Value = serde_json::from_str(&std::fs::read_to_string(node)?)?;
            let version = &lock["packages"][format!("node_modules/{}", self.package)]["version"];
            return Ok(version.as_str().unwrap_or("?").to_owned());
        }
        let lock: toml_edit::DocumentMut =
            std::fs::read_to_string(self.folder.join("Cargo.lock")).unwrap_or_default().parse()?;
        let packages = lock.get("package").and_then(|p| p.as_array_of_tables());
        let found = packages.into_iter().flatten().find(|p| p["name"].as_str() == Some(&self.package));
        Ok(found.and_then(|p| p["version"].as_str()).unwrap_or("?").to_owned())
    }
}

fn run(command: &mut Command) -> Result {
    let status = command.status().map_err(|error| format!("cannot run {command:?}: {error}"))?;
    if status.success() { Ok(()) } else { Err(format!("this failed: {command:?}").into()) }
}
