//! The real program on projects in temporary folders.
#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::{Command, Output};

const MANIFEST: &str = "[package]\nname = \"my-host\"\nversion = \"0.1.0\"\nedition = \"2021\" # keep me\n\n[dependencies]\ndiesel = { version = \"2.3\", features = [\"sqlite\"] }\n";

struct Host(tempfile::TempDir);

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let host = Self(tempfile::tempdir().expect("a folder"));
        for (name, text) in files {
            let path = host.0.path().join(name);
            fs::create_dir_all(path.parent().expect("a parent")).expect("folders");
            fs::write(path, text).expect("a file");
        }
        host
    }

    fn run(&self, args: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_taskmq-cli"))
            .args(args)
            .current_dir(self.0.path())
            .env_remove("DATABASE_URL")
            .output()
            .expect("runs")
    }

    fn init(&self, args: &[&str]) -> String {
        let out = self.run(&[&["init"], args].concat());
        assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
        String::from_utf8(out.stdout).expect("text")
    }

    fn refuses(&self, args: &[&str], words: &str) {
        let before = self.tree();
        let out = self.run(args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert_eq!(out.status.code(), Some(2), "{text}");
        assert!(text.contains(words), "{text}");
        assert_eq!(self.tree(), before, "nothing is written");
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(name)).unwrap_or_else(|e| panic!("{name}: {e}"))
    }

    /// Every file with its bytes, but for copies and what git keeps.
    fn tree(&self) -> BTreeMap<String, Vec<u8>> {
        fn walk(root: &Path, folder: &Path, out: &mut BTreeMap<String, Vec<u8>>) {
            for entry in fs::read_dir(folder).expect("a folder").flatten() {
                let path = entry.path();
                let name = path.strip_prefix(root).expect("below").display().to_string();
                if path.is_dir() && name != "target" && name != ".git" {
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

    fn migration(&self) -> String {
        let names = fs::read_dir(self.0.path().join("migrations")).expect("migrations").flatten();
        let name = names
            .map(|e| e.file_name().to_string_lossy().into_owned())
            .find(|n| n.ends_with("_taskmq"))
            .expect("one of taskmq");
        format!("migrations/{name}")
    }
}

#[test]
fn a_program_gets_a_queue_and_a_second_run_changes_nothing() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", "//! Mine.\n\nfn main() {}\n")]);
    let said = host.init(&[]);
    for word in ["SQLite", "src/consumers.rs", "diesel migration run", "cargo run --bin worker"] {
        assert!(said.contains(word), "{said}");
    }
    let manifest = host.read("Cargo.toml");
    assert!(
        manifest.contains("edition = \"2021\" # keep me") && manifest.contains("default-run = \"my-host\""),
        "{manifest}"
    );
    assert!(manifest.contains("taskmq-core = { version = \"0.1\", features = [\"sqlite\"] }"), "{manifest}");
    assert!(manifest.contains("serde = { version = \"1\", features = [\"derive\"] }"), "{manifest}");
    assert_eq!(host.read("src/main.rs"), "//! Mine.\n\nmod consumers;\nmod taskmq;\n\nfn main() {}\n");
    assert!(host.read("src/bin/worker.rs").contains("#[path = \"../consumers.rs\"]"));
    assert!(host.read(&format!("{}/up.sql", host.migration())).contains("CREATE TABLE taskmq_messages"));
    assert!(host.read(&format!("{}/down.sql", host.migration())).contains("DROP TABLE taskmq_messages"));
    let before = host.tree();
    assert!(host.init(&[]).contains("nothing to do"));
    assert_eq!(host.tree(), before);
}

#[test]
fn a_library_is_linked_by_its_name() {
    let host = Host::new(&[
        ("Cargo.toml", MANIFEST),
        ("src/lib.rs", "pub mod models;\n"),
        ("src/models.rs", ""),
        ("src/main.rs", "fn main() {}\n"),
    ]);
    host.init(&[]);
    assert_eq!(host.read("src/lib.rs"), "pub mod models;\npub mod consumers;\npub mod taskmq;\n");
    assert_eq!(host.read("src/main.rs"), "fn main() {}\n");
    assert!(host.read("src/bin/worker.rs").contains("use my_host as _;"));
}

#[test]
fn line_ends_and_marks_are_kept() {
    let manifest = format!("\u{feff}{}", MANIFEST.replace('\n', "\r\n"));
    let host = Host::new(&[
        ("Cargo.toml", &manifest),
        ("src/main.rs", "\u{feff}mod a;\r\nfn main() {}"),
        ("src/a.rs", ""),
    ]);
    host.init(&[]);
    assert_eq!(host.read("src/main.rs"), "\u{feff}mod a;\r\nmod consumers;\r\nmod taskmq;\r\nfn main() {}");
    let edited = host.read("Cargo.toml");
    assert!(edited.starts_with("\u{feff}[package]\r\n") && edited.replace("\r\n", "").find('\n').is_none());
}

#[test]
fn the_folder_of_diesel_toml_and_newer_migrations_are_respected() {
    let host = Host::new(&[
        ("Cargo.toml", MANIFEST),
        ("src/main.rs", "fn main() {}\n"),
        ("diesel.toml", "[migrations_directory]\ndir = \"db/steps\"\n"),
        ("db/steps/2199-01-01-000000_future/up.sql", ""),
    ]);
    host.init(&[]);
    assert!(host.0.path().join("db/steps/2199-01-01-000001_taskmq/up.sql").is_file());
    assert!(!host.0.path().join("migrations").exists());
}

#[test]
fn a_dry_run_prints_what_git_can_apply_and_writes_nothing() {
    let files = [
        ("Cargo.toml", MANIFEST),
        ("src/main.rs", "fn main() {}\n"),
        ("migrations/2020-01-01-000000_taskmq/up.sql", "-- there\n"),
    ];
    let (dry, real) = (Host::new(&files), Host::new(&files));
    let before = dry.tree();
    let diff = dry.init(&["--dry-run"]);
    assert_eq!(dry.tree(), before);
    real.init(&[]);
    fs::write(dry.0.path().join("target.diff"), &diff).expect("a file");
    let applied =
        Command::new("git").args(["apply", "target.diff"]).current_dir(dry.0.path()).output().expect("git");
    assert!(applied.status.success(), "{}", String::from_utf8_lossy(&applied.stderr));
    fs::remove_file(dry.0.path().join("target.diff")).expect("removes");
    assert_eq!(dry.tree(), real.tree());
}

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_written() {
    Host::new(&[]).refuses(&["init"], "no Cargo.toml");
    let main = ("src/main.rs", "fn main() {}\n");
    Host::new(&[("Cargo.toml", "[package]\nname = \"x\"\n"), main]).refuses(&["init"], "cargo add diesel");
    Host::new(&[("Cargo.toml", "[workspace]\nmembers = []\n")]).refuses(&["init"], "members");
    Host::new(&[("Cargo.toml", MANIFEST)]).refuses(&["init"], "neither src/lib.rs nor src/main.rs");
    Host::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", "<<<<<<< HEAD\n")])
        .refuses(&["init"], "no valid Rust");
    Host::new(&[("Cargo.toml", MANIFEST), main, ("src/taskmq.rs", "// mine\n")])
        .refuses(&["init"], "not taskmq's");
    Host::new(&[("Cargo.toml", MANIFEST), main])
        .refuses(&["init", "--backend", "mysql"], "cargo add diesel --features mysql");
    Host::new(&[("Cargo.toml", MANIFEST), main]).refuses(&["init", "--path", "nowhere"], "no checkout");
    let both = MANIFEST.replace("[\"sqlite\"]", "[\"sqlite\", \"postgres\"]");
    Host::new(&[("Cargo.toml", &both), main]).refuses(&["init"], "--backend");
}

#[test]
fn a_failed_write_leaves_all_as_it_was() {
    // A file where a folder has to be.
    let host = Host::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", "fn main() {}\n"), ("src/bin", "")]);
    let before = host.tree();
    let out = host.run(&["init"]);
    assert!(!out.status.success());
    assert_eq!(host.tree(), before);
}

#[test]
fn uncommitted_changes_are_not_written_over() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", "fn main() {}\n")]);
    let git = |args: &[&str]| {
        let identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"];
        assert!(
            Command::new("git")
                .args(identity)
                .args(args)
                .current_dir(host.0.path())
                .output()
                .expect("git")
                .status
                .success()
        );
    };
    git(&["init", "--quiet"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "-m", "first"]);
    fs::write(host.0.path().join("src/main.rs"), "fn main() { /* new */ }\n").expect("a file");
    host.refuses(&["init"], "src/main.rs has uncommitted changes");
    host.init(&["--allow-dirty"]);
}

#[test]
fn messages_are_produced_and_looked_at() {
    let host = Host::new(&[
        ("Cargo.toml", MANIFEST),
        ("src/main.rs", "fn main() {}\n"),
        (".env", "DATABASE_URL=app.db\n"),
    ]);
    let fails = |args: &[&str], words: &str| {
        let out = host.run(args);
        let text = String::from_utf8_lossy(&out.stderr).into_owned();
        assert!(!out.status.success() && text.contains(words), "{args:?}: {text}");
    };
    let json = |args: &[&str]| -> serde_json::Value {
        let out = host.run(args);
        assert!(out.status.success(), "{args:?}: {}", String::from_utf8_lossy(&out.stderr));
        serde_json::from_slice(&out.stdout).expect("JSON")
    };
    fails(&["topics"], "diesel migration run");
    fails(&["migrate"], "taskmq-cli init");
    host.init(&[]);
    assert!(host.run(&["migrate"]).status.success());
    assert!(String::from_utf8_lossy(&host.run(&["migrate"]).stdout).contains("nothing to do"));
    fails(&["produce", "yace", "{url: 1}"], "line 1 column 2");
    fails(&["produce", "two words", "1"], "two words");
    fails(&["show", "1"], "none of this id");
    fails(&["retry", "1"], "none of this id");
    assert_eq!(json(&["topics", "--json"]), serde_json::json!([]));
    let produced = json(&[
        "produce",
        "yace",
        "{\"b\": 1, \"a\": \"\\u001b[31m\"}",
        "--priority",
        "-3",
        "--header",
        "k=v",
        "--json",
    ]);
    assert_eq!(
        (&produced[0]["id"], &produced[0]["priority"], &produced[0]["state"]),
        (&1.into(), &(-3).into(), &"ready".into())
    );
    host.run(&["produce", "yace", "2", "--delay", "1h"]);
    let listed = json(&["messages", "--topic", "yace", "--json"]);
    assert_eq!(
        listed.as_array().expect("an array").iter().map(|m| m["state"].as_str()).collect::<Vec<_>>(),
        [Some("scheduled"), Some("ready")]
    );
    assert_eq!(json(&["messages", "--state", "scheduled", "--json"])[0]["payload"], 2);
    let text = host.run(&["show", "1"]).stdout;
    assert!(!text.contains(&0x1b), "no escape sequence reaches the terminal");
    assert_eq!(json(&["retry", "2", "--json"])[0]["state"], "ready");
    fs::write(host.0.path().join("bad.jsonl"), "1\n\n{oops\n").expect("a file");
    fails(&["produce", "many", "--file", "bad.jsonl"], "bad.jsonl line 3");
    assert_eq!(json(&["messages", "--topic", "many", "--json"]), serde_json::json!([]), "none of them");
    let lines: String = (0..2500).map(|n| format!("{n}\n")).collect();
    fs::write(host.0.path().join("good.jsonl"), lines).expect("a file");
    assert!(host.run(&["produce", "many", "--file", "good.jsonl"]).status.success());
    assert_eq!(json(&["topics", "--json"])[0]["ready"], 2500);
}
