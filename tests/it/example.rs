//! The example, run as its README command runs it.

use std::path::Path;
use std::process::Command;

use taskmq_core::{Backend, migration};
use taskmq_tests::databases::empty;

const ROOT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

#[test]
fn it_has_the_migrations_that_init_would_give_it() {
    for backend in Backend::ALL {
        let folder = Path::new(ROOT)
            .join("examples/load-testing/migrations")
            .join(backend.feature())
            .join("2026-01-01-000001_taskmq");
        for (file, sql) in [("up.sql", migration::up(backend)), ("down.sql", migration::down(backend))] {
            let there = std::fs::read_to_string(folder.join(file)).expect("is there");
            assert_eq!(there, sql, "copy taskmq-core/migrations/{}/{file} there", backend.feature());
        }
    }
}

// One after the other: all three are built into the same folder.
#[test]
fn two_workers_share_the_load_tests_on_each_database() {
    for backend in Backend::ALL {
        let database = empty(backend);
        let out = Command::new(env!("CARGO"))
            .args(["xtask", "demo", "--tests", "4"])
            .current_dir(ROOT)
            .env("DATABASE_URL", database.url())
            .output()
            .expect("runs cargo");
        let shown = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert!(out.status.success(), "{backend}: {shown}");
        assert!(shown.contains("4 reports in") && shown.contains("by two workers"), "{backend}: {shown}");
        assert!(shown.contains("the queue holds 0 live messages"), "{backend}: {shown}");
    }
}
