//! A project in a temporary folder.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

pub(crate) const MANIFEST: &str = "[package]\nname = \"my-host\"\nversion = \"0.1.0\"\nedition = \"2021\" # keep me\n\n[dependencies]\ndiesel = { version = \"2.3\", features = [\"sqlite\"] }\n";

pub(crate) const MAIN: (&str, &str) = ("src/main.rs", "fn main() {}\n");

pub(crate) struct Host(tempfile::TempDir);

impl Host {
    pub(crate) fn new(files: &[(&str, &str)]) -> Self {
        let host = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            let path = host.0.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        host
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_taskmq-cli"))
            .args(args)
            .current_dir(self.0.path())
            .env_remove("DATABASE_URL")
            .output()
            .expect("runs")
    }

    /// Runs beside the test, which may read what it says.
    pub(crate) fn start(&self, args: &[&str]) -> Child {
        Command::new(env!("CARGO_BIN_EXE_taskmq-cli"))
            .args(args)
            .current_dir(self.0.path())
            .env_remove("DATABASE_URL")
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("starts")
    }

    /// Fails, and says these words.
    pub(crate) fn fails(&self, args: &[&str], words: &str) {
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(words), "{args:?}: {text}");
    }

    pub(crate) fn json(&self, args: &[&str]) -> serde_json::Value {
        let out = self.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("JSON")
    }

    pub(crate) fn git(&self, args: &[&str]) {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        let out =
            Command::new("git").args(identity).args(args).current_dir(self.0.path()).output().expect("git");
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
    }

    pub(crate) fn init(&self, args: &[&str]) -> String {
        let out = self.run(&[&["init"], args].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    }

    pub(crate) fn refuses(&self, args: &[&str], words: &str) {
        let before = self.tree();
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(self.tree(), before, "nothing is written");
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Every file with its bytes, but for copies and what git keeps.
    pub(crate) fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                let name = path.strip_prefix(root).expect("below").display().to_string();
                if path.is_dir() && name != "target" && name != ".git" && !path.is_symlink() {
                    walk(root, &path, out);
                } else if path.is_file() {
                    out.insert(name, fs::read(&path).expect("a file"));
                }
            }
        }
        let mut out = BTreeMap::new();
        walk(self.0.path(), self.0.path(), &mut out);
        out
    }

    pub(crate) fn migration(&self) -> String {
        let names = fs::read_dir(self.0.path().join("migrations")).expect("migrations").flatten();
        let name = names
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .find(|n| n.ends_with("_taskmq"))
            .expect("one of taskmq");
        format!("migrations/{name}")
    }
}
