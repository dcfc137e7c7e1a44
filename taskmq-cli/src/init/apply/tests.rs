#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io;

use tempfile::TempDir;

use super::super::disk::RealDisk;
use super::*;

/// A disk on which the step with this number, from 0, fails half done; or, when it dies, that one and all after it.
struct BadDisk {
    good_steps: usize,
    dies: bool,
    steps: usize,
}

impl BadDisk {
    fn new(good_steps: usize, dies: bool) -> Self {
        Self { good_steps, dies, steps: 0 }
    }

    fn step(&mut self) -> io::Result<()> {
        self.steps += 1;
        let bad = if self.dies { self.steps > self.good_steps } else { self.steps - 1 == self.good_steps };
        if bad { Err(io::Error::from(io::ErrorKind::StorageFull)) } else { Ok(()) }
    }
}

impl Disk for BadDisk {
    fn make_folder(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.make_folder(path)
    }

    fn write(&mut self, path: &Path, text: &str, mode: Option<Permissions>) -> io::Result<()> {
        let was_alive = self.steps <= self.good_steps;
        if let Err(error) = self.step() {
            if was_alive {
                RealDisk.write(path, &text[..text.len() / 2], None)?;
            }
            return Err(error);
        }
        RealDisk.write(path, text, mode)
    }

    fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.rename(from, to)
    }

    fn remove_file(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.remove_file(path)
    }

    fn remove_folder(&mut self, path: &Path) -> io::Result<()> {
        self.step()?;
        RealDisk.remove_folder(path)
    }
}

type Tree = BTreeMap<PathBuf, Option<String>>;

/// Every file with its text, and every folder.
fn tree(root: &Path) -> Tree {
    let mut tree = Tree::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for path in fs::read_dir(folder).expect("a folder").map(|entry| entry.expect("an entry").path()) {
            let name = path.strip_prefix(root).expect("below").to_owned();
            if path.is_dir() {
                tree.insert(name, None);
                folders.push(path);
            } else {
                tree.insert(name, Some(fs::read_to_string(path).expect("text")));
            }
        }
    }
    tree
}

/// A project, and changes of every kind to it.
fn project(with_migration: bool) -> (TempDir, Journal) {
    let folder = tempfile::tempdir().expect("a folder");
    let root = folder.path();
    fs::create_dir(root.join("src")).expect("a folder");
    fs::write(root.join("Cargo.toml"), "[package]\n").expect("a file");
    fs::write(root.join("src/main.rs"), "fn main() {}\n").expect("a file");
    let new = |path: &str, before: Option<&str>, after: &str| NewText {
        path: root.join(path),
        before: before.map(str::to_owned),
        after: after.to_owned(),
    };
    let migration = root.join("migrations/1_taskmq");
    let journal = Journal {
        folders: vec![root.join("migrations"), root.join("src/bin")],
        files: vec![
            new("Cargo.toml", Some("[package]\n"), "[package]\n[dependencies]\n"),
            new("src/taskmq.rs", None, "// tables\n"),
            new("src/bin/worker.rs", None, "// worker\n"),
            new("src/main.rs", Some("fn main() {}\n"), "mod taskmq;\nfn main() {}\n"),
        ],
        migration: with_migration.then(|| {
            let files =
                ["up.sql", "down.sql"].map(|name| new(&format!("migrations/1_taskmq/{name}"), None, name));
            (migration, files.into())
        }),
    };
    (folder, journal)
}

/// The trees before and after, and the number of steps between.
fn whole_run(with_migration: bool) -> (Tree, Tree, usize) {
    let (folder, journal) = project(with_migration);
    let before = tree(folder.path());
    let mut disk = BadDisk::new(usize::MAX, false);
    apply(&mut disk, folder.path(), &journal).expect("applies");
    let after = tree(folder.path());
    assert_eq!(after.contains_key(Path::new("migrations/1_taskmq/up.sql")), with_migration);
    assert_eq!(after[Path::new("src/taskmq.rs")].as_deref(), Some("// tables\n"));
    (before, after, disk.steps)
}

#[test]
fn whatever_fails_all_is_as_it_was() {
    for with_migration in [true, false] {
        let (before, _, steps) = whole_run(with_migration);
        assert!(steps > 10, "{steps}");
        for good in 0..steps {
            let (folder, journal) = project(with_migration);
            let error =
                apply(&mut BadDisk::new(good, false), folder.path(), &journal).expect_err("a step fails");
            assert!(
                error.to_string().contains(&folder.path().display().to_string()),
                "it names the file: {error}"
            );
            assert_eq!(tree(folder.path()), before, "after step {good} failed");
        }
    }
}

#[test]
fn wherever_it_dies_the_next_run_undoes_or_finishes() {
    for with_migration in [true, false] {
        let (before, after, steps) = whole_run(with_migration);
        let mut finished = 0;
        for good in 0..steps {
            let (folder, journal) = project(with_migration);
            apply(&mut BadDisk::new(good, true), folder.path(), &journal).expect_err("it dies");
            let halfway = tree(folder.path());
            let migration = |name| halfway.contains_key(&Path::new("migrations/1_taskmq").join(name));
            assert_eq!(migration("up.sql"), migration("down.sql"), "diesel sees it whole or not at all");
            let recovery = recover(&mut RealDisk, folder.path()).expect("recovers");
            let now = tree(folder.path());
            match recovery {
                Recovery::Nothing => panic!("it left its journal"),
                Recovery::Undone(left) => assert!(left.is_empty() && now == before, "step {good}: {now:?}"),
                Recovery::Finished => {
                    assert_eq!(now, after, "step {good}");
                    finished += 1;
                }
            }
            assert_eq!(recover(&mut RealDisk, folder.path()).expect("is called again"), Recovery::Nothing);
        }
        assert_eq!(finished, 1, "only when nothing but the journal was left to remove");
    }
}

#[test]
fn it_may_die_while_it_undoes_too() {
    let (before, _, steps) = whole_run(true);
    for good in (3..steps - 1).step_by(2) {
        for undone in 0.. {
            let (folder, journal) = project(true);
            apply(&mut BadDisk::new(good, true), folder.path(), &journal).expect_err("it dies");
            let again = recover(&mut BadDisk::new(undone, true), folder.path());
            if again.is_ok() {
                break;
            }
            recover(&mut RealDisk, folder.path()).expect("recovers");
            assert_eq!(tree(folder.path()), before, "died after {good} steps, and {undone} back");
        }
    }
}

#[test]
fn what_was_changed_since_is_left_and_named() {
    let (folder, journal) = project(true);
    let (_, _, steps) = whole_run(true);
    apply(&mut BadDisk::new(steps - 2, true), folder.path(), &journal).expect_err("it dies");
    let main = folder.path().join("src/main.rs");
    fs::write(&main, "fn main() { mine() }\n").expect("a file");
    assert_eq!(
        recover(&mut RealDisk, folder.path()).expect("recovers"),
        Recovery::Undone(vec![main.clone()])
    );
    assert_eq!(fs::read_to_string(main).expect("text"), "fn main() { mine() }\n");
    assert!(!folder.path().join("src/taskmq.rs").exists());
}

#[test]
fn a_run_that_goes_on_is_not_taken_for_an_interrupted_one() {
    let (folder, journal) = project(true);
    apply(&mut BadDisk::new(5, true), folder.path(), &journal).expect_err("it dies");
    let halfway = tree(folder.path());
    let running = lock(&folder.path().join(JOURNAL)).expect("locks");
    for error in [
        recover(&mut RealDisk, folder.path()).expect_err("refuses"),
        apply(&mut RealDisk, folder.path(), &journal).expect_err("refuses"),
    ] {
        assert!(error.to_string().contains("another"), "{error}");
    }
    assert_eq!(tree(folder.path()), halfway);
    drop(running);
}

#[cfg(unix)]
#[test]
fn modes_and_links_are_kept_and_a_read_only_file_is_left_alone() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, journal) = project(false);
    let main = folder.path().join("src/main.rs");
    fs::set_permissions(&main, Permissions::from_mode(0o640)).expect("a mode");
    apply(&mut RealDisk, folder.path(), &journal).expect("applies");
    assert_eq!(fs::metadata(&main).expect("is there").permissions().mode() & 0o777, 0o640);

    let (folder, journal) = project(false);
    let before = tree(folder.path());
    fs::set_permissions(folder.path().join("src/main.rs"), Permissions::from_mode(0o444)).expect("a mode");
    let error = apply(&mut RealDisk, folder.path(), &journal).expect_err("refuses");
    assert!(error.to_string().contains("main.rs is read-only"), "{error}");
    assert_eq!(tree(folder.path()), before);
}
