//! A Diesel project in a temporary folder, and the programs that its owner calls.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use taskmq_tests::databases::TestDatabase;
use tempfile::TempDir;

use super::shapes::Shape;

/// The checkout that hosts depend on.
const CHECKOUT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

pub(super) struct Host<'a> {
    pub(super) db: &'a TestDatabase,
    folder: TempDir,
    /// The package's folder below it.
    package: &'static str,
}

impl<'a> Host<'a> {
    pub(super) fn new(shape: &Shape, db: &'a TestDatabase) -> Self {
        let folder = tempfile::Builder::new().prefix("my host ").tempdir().expect("a folder");
        let host = Self { db, folder, package: shape.package };
        for (name, text) in &shape.files {
            host.write_at(name, text);
        }
        host.write_at(".env", &format!("DATABASE_URL={}\n", db.url()));
        // The versions that are here already, so that nothing is fetched.
        std::fs::copy(Path::new(CHECKOUT).join("Cargo.lock"), host.folder.path().join("Cargo.lock"))
            .expect("a lock file");
        host
    }

    fn write_at(&self, name: &str, text: &str) {
        let path = self.folder.path().join(name);
        std::fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
        std::fs::write(path, text).expect("a file");
    }

    /// Where the owner of the project is.
    pub(super) fn root(&self) -> PathBuf {
        self.folder.path().join(self.package)
    }

    pub(super) fn read(&self, name: &str) -> String {
        let path = self.root().join(name);
        std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
    }

    /// Edits a file as its owner does.
    pub(super) fn edit(&self, name: &str, edit: impl FnOnce(String) -> String) {
        let text = self.read(name);
        let edited = edit(text.clone());
        assert_ne!(edited, text, "{name} was to be edited");
        std::fs::write(self.root().join(name), edited).expect("a file");
    }

    /// The real taskmq-cli, which succeeds; what it prints.
    pub(super) fn taskmq(&self, args: &[&str]) -> String {
        stdout(self.here(taskmq_cli()).args(args))
    }

    pub(super) fn json(&self, args: &[&str]) -> Vec<serde_json::Value> {
        serde_json::from_str(&self.taskmq(&[args, &["--json"]].concat())).expect("an array")
    }

    pub(super) fn init(&self) -> String {
        self.taskmq(&["init", "--path", CHECKOUT])
    }

    pub(super) fn diesel(&self, args: &[&str]) -> String {
        stdout(self.here("diesel").args(args))
    }

    /// Cargo, which neither fails nor warns.
    pub(super) fn cargo(&self, args: &[&str]) -> String {
        let out = run(self.here(env!("CARGO")).args(args).arg("--offline"));
        let said = String::from_utf8_lossy(&out.stderr);
        assert!(!said.contains("warning"), "cargo {args:?} warns:\n{said}");
        String::from_utf8(out.stdout).expect("text")
    }

    /// Every file with its bytes, but for what cargo builds.
    pub(super) fn tree(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let mut tree = BTreeMap::new();
        let mut folders = vec![self.folder.path().to_owned()];
        while let Some(folder) = folders.pop() {
            for path in
                std::fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path())
            {
                if !path.is_dir() {
                    tree.insert(path.clone(), std::fs::read(path).expect("a file"));
                } else if path.file_name().is_some_and(|name| name != "target") {
                    folders.push(path);
                }
            }
        }
        tree
    }

    /// The worker that `cargo build` made.
    pub(super) fn start_worker(&self, journal: &Path) -> Worker {
        let target = self.folder.path().join("target");
        let log = journal.with_file_name("log");
        let log = std::fs::OpenOptions::new().create(true).append(true).open(log).expect("a log");
        let child = self
            .here(target.join("debug/worker"))
            .args(["--concurrency", "4"])
            .env("JOURNAL", journal)
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("starts");
        Worker(child)
    }

    /// In the project, with nothing of this test's environment that a project would notice.
    fn here(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.root()).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy();
            if name.starts_with("CARGO") && name != "CARGO_HOME" || name.starts_with("TASKMQ") {
                command.env_remove(&*name);
            }
        }
        // Hosts share what is compiled of their dependencies; the programs are in each one's own folder.
        let shared = Path::new(env!("CARGO_TARGET_TMPDIR")).join("hosts");
        command
            .env_remove("DATABASE_URL")
            .env("CARGO_BUILD_BUILD_DIR", shared)
            .env("CARGO_INCREMENTAL", "0")
            .env("CARGO_PROFILE_DEV_DEBUG", "0");
        command
    }
}

/// A worker's process, ended when it is dropped.
pub(super) struct Worker(Child);

impl Worker {
    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }

    /// As `kill -9`.
    pub(super) fn kill9(&mut self) {
        self.0.kill().expect("is killed");
        self.0.wait().expect("ends");
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Built beside this test when the whole workspace is tested.
pub(crate) fn taskmq_cli() -> PathBuf {
    let test = std::env::current_exe().expect("a path");
    let folder = test.ancestors().nth(2).expect("the folder of programs");
    let program = folder.join(format!("taskmq-cli{}", std::env::consts::EXE_SUFFIX));
    assert!(program.is_file(), "{} is not built: run `cargo xtask test`", program.display());
    program
}

fn run(command: &mut Command) -> Output {
    let out = command.output().unwrap_or_else(|e| panic!("{command:?}: {e}; run `cargo xtask test`"));
    assert!(
        out.status.success(),
        "{command:?}: {}\n{}{}",
        out.status,
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    out
}

fn stdout(command: &mut Command) -> String {
    String::from_utf8(run(command).stdout).expect("text")
}
