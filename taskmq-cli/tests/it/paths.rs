//! Paths of every kind, and links.
#![cfg(unix)]

use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;

use crate::host::{Host, MAIN, MANIFEST};

/// A dry run's diff, applied by git, gives what the real run gives.
fn dry_run_is_the_real_run(files: &[(&str, &str)]) {
    let (dry, real) = (Host::new(files), Host::new(files));
    // A folder that is there gives both the same name.
    let before = dry.tree();
    let diff = dry.init(&["--dry-run"]);
    assert_eq!(dry.tree(), before);
    real.init(&[]);
    fs::write(dry.path("target.diff"), &diff).expect("a file");
    dry.git(&["apply", "target.diff"]);
    fs::remove_file(dry.path("target.diff")).expect("removes");
    let rename = |host: &Host| -> Vec<(String, Vec<u8>)> {
        // Seconds may pass between the two.
        let name = |path: String| match path.split_once("_taskmq/") {
            Some((_, file)) => format!("migration/{file}"),
            None => path,
        };
        host.tree().into_iter().map(|(path, bytes)| (name(path), bytes)).collect()
    };
    assert_eq!(rename(&dry), rename(&real));
}

#[test]
fn a_dry_runs_diff_has_any_path() {
    for folder in ["two words", "a \\\"quote\\\"", "länder/größe", "tab\\there"] {
        let config = format!("[migrations_directory]\ndir = \"{folder}\"\n");
        dry_run_is_the_real_run(&[("Cargo.toml", MANIFEST), MAIN, ("diesel.toml", &config)]);
    }
}

#[test]
fn a_dry_runs_diff_has_files_without_a_last_line_end() {
    dry_run_is_the_real_run(&[
        ("Cargo.toml", MANIFEST.trim_end()),
        ("src/main.rs", "fn main() {}\r\nfn a() {}"),
    ]);
}

#[test]
fn a_members_diff_is_for_the_folder_that_has_all_of_it() {
    let files = [
        ("Cargo.toml", "[workspace]\nmembers = [\"shop\"]\n"),
        ("shop/Cargo.toml", MANIFEST),
        ("shop/src/main.rs", "fn main() {}\n"),
        ("migrations/.keep", ""),
    ];
    let host = Host::new(&files);
    let out = Command::new(env!("CARGO_BIN_EXE_taskmq-cli"))
        .args(["init", "--dry-run"])
        .current_dir(host.path("shop"))
        .env_remove("DATABASE_URL")
        .output()
        .expect("runs");
    fs::write(host.path("a.diff"), out.stdout).expect("a file");
    host.git(&["apply", "a.diff"]);
    assert!(host.path("shop/src/bin/worker.rs").is_file());
    assert!(host.read(&format!("{}/up.sql", host.migration())).contains("taskmq_messages"));
}

#[test]
fn a_project_may_be_called_anything() {
    for name in ["two words", "a \"quote\"", "it's", "länder", "new\nline", "-n"] {
        let host = Host::new(&[]);
        let root = host.path(name);
        fs::create_dir_all(root.join("src")).expect("folders");
        fs::write(root.join("Cargo.toml"), MANIFEST).expect("a file");
        fs::write(root.join("src/main.rs"), MAIN.1).expect("a file");
        for words in ["has a message queue", "nothing to do"] {
            let out = Command::new(env!("CARGO_BIN_EXE_taskmq-cli"))
                .arg("init")
                .current_dir(&root)
                .env_remove("DATABASE_URL")
                .output()
                .expect("runs");
            let said = String::from_utf8_lossy(&out.stdout);
            assert!(said.contains(words), "{name}: {said}{}", String::from_utf8_lossy(&out.stderr));
        }
    }
}

#[test]
fn links_inside_are_followed_and_stay() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), ("code/main.rs", "fn main() {}\n")]);
    symlink("code", host.path("src")).expect("a link");
    host.init(&[]);
    assert!(host.path("src").is_symlink());
    assert!(host.read("code/main.rs").starts_with("mod consumers;"));
    assert!(host.path("code/bin/worker.rs").is_file());
}

#[test]
fn links_out_of_the_project_are_not_followed() {
    let other = Host::new(&[("main.rs", "fn main() {}\n")]);
    let host = Host::new(&[("Cargo.toml", MANIFEST)]);
    symlink(other.path(""), host.path("src")).expect("a link");
    host.refuses(&["init"], "leads out of the project");
    host.refuses(&["init", "--dry-run"], "leads out of the project");
    assert_eq!(other.tree().len(), 1, "nothing is written there");

    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN]);
    symlink("nowhere", host.path("src/consumers.rs")).expect("a link");
    host.refuses(&["init"], "src/consumers.rs is a link to nothing");
}

#[test]
fn a_read_only_file_stays_as_it_is() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN]);
    fs::set_permissions(host.path("src/main.rs"), Permissions::from_mode(0o444)).expect("a mode");
    let before = host.tree();
    host.fails(&["init"], "src/main.rs is read-only");
    assert_eq!(host.tree(), before);
}
