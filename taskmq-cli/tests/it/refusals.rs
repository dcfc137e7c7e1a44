//! What `init` does not do, and says why, before anything is written.

use std::fs;

use crate::host::{Host, MAIN, MANIFEST};

#[test]
fn what_cannot_be_done_is_refused_before_anything_is_written() {
    Host::new(&[]).refuses(&["init"], "no Cargo.toml");
    Host::new(&[("Cargo.toml", "[package]\nname = \"x\"\n"), MAIN]).refuses(&["init"], "cargo add diesel");
    Host::new(&[("Cargo.toml", "[workspace]\nmembers = []\n")]).refuses(&["init"], "members");
    Host::new(&[("Cargo.toml", MANIFEST)]).refuses(&["init"], "neither src/lib.rs nor src/main.rs");
    Host::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", "<<<<<<< HEAD\n")])
        .refuses(&["init"], "no valid Rust");
    Host::new(&[("Cargo.toml", MANIFEST), MAIN, ("src/taskmq.rs", "// mine\n")])
        .refuses(&["init"], "not taskmq's");
    Host::new(&[("Cargo.toml", MANIFEST), MAIN])
        .refuses(&["init", "--backend", "mysql"], "cargo add diesel --features mysql");
    Host::new(&[("Cargo.toml", MANIFEST), MAIN]).refuses(&["init", "--path", "nowhere"], "no checkout");
    let both = MANIFEST.replace("[\"sqlite\"]", "[\"sqlite\", \"postgres\"]");
    Host::new(&[("Cargo.toml", &both), MAIN]).refuses(&["init"], "--backend");
}

#[test]
fn what_others_made_is_not_taken_for_taskmqs() {
    let manifest = ("Cargo.toml", MANIFEST);
    Host::new(&[manifest, MAIN, ("src/bin/worker.rs", "fn main() {}\n")])
        .refuses(&["init"], "src/bin/worker.rs exists");
    Host::new(&[manifest, MAIN, ("src/bin/worker/main.rs", "fn main() {}\n")])
        .refuses(&["init"], "a program called worker already");
    Host::new(&[manifest, ("src/main.rs", "mod taskmq {}\nfn main() {}\n")])
        .refuses(&["init"], "src/main.rs declares `mod taskmq` already");
    Host::new(&[manifest, ("src/main.rs", "mod consumers;\nfn main() {}\n"), ("src/consumers/mod.rs", "")])
        .refuses(&["init"], "src/main.rs declares `mod consumers` already");
    let named = MANIFEST.replace("my-host", "worker");
    Host::new(&[("Cargo.toml", &named), MAIN])
        .refuses(&["init"], "src/main.rs is a program called worker already");
    let bin = format!("{MANIFEST}\n[[bin]]\nname = \"worker\"\npath = \"tools/w.rs\"\n");
    Host::new(&[("Cargo.toml", &bin), MAIN, ("tools/w.rs", "fn main() {}\n")])
        .refuses(&["init"], "tools/w.rs is a program called worker already");
}

#[test]
fn the_tables_are_not_made_twice() {
    let host = Host::new(&[
        ("Cargo.toml", MANIFEST),
        MAIN,
        ("migrations/1_queue/up.sql", "CREATE TABLE taskmq_messages (id INT);"),
    ]);
    let said = host.init(&[]);
    assert!(said.contains("migrations/1_queue (is there already)"), "{said}");
    assert_eq!(fs::read_dir(host.path("migrations")).expect("a folder").count(), 1);
}

#[test]
fn what_cannot_be_read_is_named() {
    let conflict = MANIFEST.replace("[dependencies]", "<<<<<<< HEAD\n[dependencies]\n=======\n>>>>>>> other");
    Host::new(&[("Cargo.toml", &conflict), MAIN]).refuses(&["init"], "Cargo.toml cannot be read");
    let manifest = ("Cargo.toml", MANIFEST);
    Host::new(&[manifest, MAIN, ("diesel.toml", "=======\n")])
        .refuses(&["init"], "diesel.toml cannot be read");
    Host::new(&[manifest, ("src/main.rs", "fn main() {}\n=======\n")]).refuses(&["init"], "at line 2");
    let old = MANIFEST.replace("edition = \"2021\"", "");
    Host::new(&[("Cargo.toml", &old), MAIN]).refuses(&["init"], "edition = \"2024\"");
    Host::new(&[("Cargo.toml", "[workspace]\nmembers = [\"shop\", \"till\"]\n")])
        .refuses(&["init"], "(shop, till)");
}

#[test]
fn uncommitted_changes_are_not_written_over() {
    let host = Host::new(&[("Cargo.toml", MANIFEST), ("src/main.rs", "fn main() {}\n")]);
    host.git(&["init", "--quiet"]);
    host.git(&["add", "."]);
    host.git(&["commit", "--quiet", "-m", "first"]);
    fs::write(host.path("src/main.rs"), "fn main() { /* new */ }\n").expect("a file");
    host.refuses(&["init"], "src/main.rs has uncommitted changes");
    host.init(&["--allow-dirty"]);
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
