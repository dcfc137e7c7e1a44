use std::cell::RefCell;
use std::path::Path;

use taskmq_core::Backend;
use tempfile::TempDir;

use crate::init::project::Project;
use crate::init::{manifest as manifests, source as sources};

thread_local! {
    static PROJECT: RefCell<TempDir> = RefCell::new({
        let folder = tempfile::tempdir().expect("a folder");
        std::fs::create_dir(folder.path().join("src")).expect("a folder");
        std::fs::write(folder.path().join("src/main.rs"), "fn main() {}\n").expect("a file");
        folder
    });
}

/// A `Cargo.toml`: refused, or edited so that it can be read, nothing of it is lost and a second edit changes nothing.
pub fn manifest(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    PROJECT.with_borrow(|folder| {
        let root = folder.path();
        let edit = |text: &str| {
            std::fs::write(root.join("Cargo.toml"), text).expect("a file");
            let project = Project::discover(root.to_owned(), Some(Backend::Sqlite), None).ok()?;
            manifests::edited(&project, None).ok()
        };
        let Some(edited) = edit(text) else { return };
        assert!(is_within(text, &edited), "something is lost: {edited:?}");
        let again = edit(&edited);
        assert_eq!(again.as_ref(), Some(&edited), "a second edit");
    });
}

/// A Rust file: refused, or lines are added in one place, and with them the modules are there.
pub fn source(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let path = Path::new("src/main.rs");
    let Ok(edited) = sources::with_modules(path, text, &["consumers", "taskmq"], "mod") else { return };
    for module in ["consumers", "taskmq"] {
        assert!(sources::declares(path, &edited, module).expect("is Rust"), "{module}: {edited:?}");
    }
    let common = text.bytes().zip(edited.bytes()).take_while(|(a, b)| a == b).count();
    assert!(
        edited.len() >= text.len() && edited.as_bytes().ends_with(&text.as_bytes()[common..]),
        "{edited:?}"
    );
    let again = sources::with_modules(path, &edited, &["consumers", "taskmq"], "mod").expect("is Rust");
    assert_eq!(again, edited, "a second edit");
}

/// Whether the text is what is left of the other when something is taken out of it.
fn is_within(text: &str, other: &str) -> bool {
    let mut rest = other.bytes();
    text.bytes().all(|byte| rest.any(|other| other == byte))
}
