//! What `init` does to projects of every kind.

use std::fs;

use crate::host::{Host, MAIN, MANIFEST};

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
    assert!(host.path("db/steps/2199-01-01-000001_taskmq/up.sql").is_file());
    assert!(!host.path("migrations").exists());
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
    fs::write(dry.path("target.diff"), &diff).expect("a file");
    dry.git(&["apply", "target.diff"]);
    fs::remove_file(dry.path("target.diff")).expect("removes");
    assert_eq!(dry.tree(), real.tree());
}

#[test]
fn tabs_and_comments_are_kept() {
    let manifest = MANIFEST.replace("[\"sqlite\"]", "[\n\t\"sqlite\", # the file\n]");
    let host = Host::new(&[
        ("Cargo.toml", &manifest),
        ("src/main.rs", "\tmod a;\n\nfn main() {\n\ta::b();\n}\n"),
        ("src/a.rs", ""),
    ]);
    host.init(&[]);
    assert!(
        host.read("Cargo.toml").contains("[\n\t\"sqlite\", # the file\n]"),
        "{}",
        host.read("Cargo.toml")
    );
    assert_eq!(
        host.read("src/main.rs"),
        "\tmod a;\nmod consumers;\nmod taskmq;\n\nfn main() {\n\ta::b();\n}\n"
    );
}

#[test]
fn without_git_there_are_copies_of_what_was_edited() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN]);
    let said = host.init(&[]);
    assert!(said.contains("target/taskmq-init-backup/src/main.rs (git does not have it)"), "{said}");
    assert_eq!(host.read("target/taskmq-init-backup/Cargo.toml"), MANIFEST);
    assert_eq!(host.read("target/taskmq-init-backup/src/main.rs"), MAIN.1);
}

#[test]
fn with_git_nothing_is_copied() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN]);
    host.git(&["init", "--quiet"]);
    host.git(&["add", "."]);
    host.git(&["commit", "--quiet", "-m", "first"]);
    host.init(&[]);
    assert!(!host.path("target").exists());
}

#[test]
fn files_that_were_changed_since_stay_and_are_named() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN]);
    host.init(&[]);
    let consumers = host.read("src/consumers.rs") + "// mine\n";
    fs::write(host.path("src/consumers.rs"), consumers).expect("a file");
    fs::create_dir(host.path("src/taskmq")).expect("a folder");
    fs::rename(host.path("src/taskmq.rs"), host.path("src/taskmq/mod.rs")).expect("is moved");
    let before = host.tree();
    let said = host.init(&[]);
    assert!(said.contains("nothing to do") && said.contains("src/consumers.rs (was changed since"), "{said}");
    assert_eq!(host.tree(), before);
}

#[test]
fn an_interrupted_run_is_put_right_by_the_next() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), MAIN]);
    // As it is when it ends between the journal and the first change.
    fs::write(host.path(".taskmq-init.json"), "{\"folders\":[],\"files\":[],").expect("a file");
    host.refuses(&["init", "--dry-run"], "interrupted");
    let said = host.init(&[]);
    assert!(
        said.contains("what it had begun is undone") && said.contains("created  src/bin/worker.rs"),
        "{said}"
    );
    assert!(!host.path(".taskmq-init.json").exists());
}
