//! The servers do what the tests that use them rely on.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use taskmq_test_servers::{Kind, Mariadb, Postgres, Server};

#[test]
fn postgres_keeps_what_is_committed_and_leaves_nothing_behind() {
    keeps_what_is_committed_and_leaves_nothing_behind(Postgres::start().unwrap());
}

#[test]
fn mariadb_keeps_what_is_committed_and_leaves_nothing_behind() {
    keeps_what_is_committed_and_leaves_nothing_behind(Mariadb::start().unwrap());
}

fn keeps_what_is_committed_and_leaves_nothing_behind<K: Kind>(mut server: Server<K>) {
    server.create_database("app").unwrap();
    server.sql("app", "CREATE TABLE kept (name VARCHAR(20)); INSERT INTO kept VALUES ('first')").unwrap();
    let (url, pid) = (server.url("app"), server.pid().unwrap());
    let folder = server.folder().to_owned();

    server.kill9().unwrap();
    assert!(!is_alive(pid), "kill9 returned before the server had ended");
    assert!(server.sql("app", "SELECT 1").is_err(), "a killed server answered");

    server.restart().unwrap();
    assert_eq!(server.url("app"), url);
    assert_eq!(server.sql("app", "SELECT name FROM kept").unwrap().trim(), "first");

    server.sql("app", "INSERT INTO kept VALUES ('second')").unwrap();
    server.stop().unwrap();
    assert_eq!(server.pid(), None);
    server.restart().unwrap();
    assert_eq!(server.sql("app", "SELECT COUNT(*) FROM kept").unwrap().trim(), "2");

    drop(server);
    assert!(!folder.exists(), "{} was left behind", folder.display());
    assert_eq!(processes_of(&folder), "");
}

#[test]
fn two_servers_of_one_kind_stand_beside_each_other() {
    let (one, other) = (Postgres::start().unwrap(), Postgres::start().unwrap());
    assert_ne!(one.server_url(), other.server_url());
    one.create_database("app").unwrap();
    other.create_database("app").unwrap();
}

#[test]
fn failed_sql_says_what_the_server_said() {
    let error = Mariadb::start().unwrap().sql("mysql", "SELECT nothing").unwrap_err().to_string();
    assert!(error.contains("nothing"), "{error}");
}

/// Runs in a process of its own, as [`an_owner_that_is_killed_leaves_nothing_behind`].
#[test]
#[ignore = "started by an_owner_that_is_killed_leaves_nothing_behind, which kills it"]
fn an_owner() {
    let report = std::env::var("TASKMQ_TEST_OWNER").unwrap();
    let (postgres, mariadb) = (Postgres::start().unwrap(), Mariadb::start().unwrap());
    let folders = format!("{}\n{}\n", postgres.folder().display(), mariadb.folder().display());
    std::fs::write(format!("{report}.part"), folders).unwrap();
    std::fs::rename(format!("{report}.part"), report).unwrap();
    sleep(Duration::from_secs(120));
}

#[test]
fn an_owner_that_is_killed_leaves_nothing_behind() {
    let report = std::env::temp_dir().join(format!("taskmq-owner-{}", std::process::id()));
    let mut owner = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "an_owner"])
        .env("TASKMQ_TEST_OWNER", &report)
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    within(Duration::from_secs(100), || report.exists());
    owner.kill().unwrap();
    owner.wait().unwrap();

    let folders = std::fs::read_to_string(&report).unwrap();
    std::fs::remove_file(&report).unwrap();
    assert_eq!(folders.lines().count(), 2);
    for folder in folders.lines().map(Path::new) {
        // The sentry ends a moment after the folder, which it removes.
        within(Duration::from_secs(20), || !folder.exists() && processes_of(folder).is_empty());
    }
}

fn within(limit: Duration, done: impl Fn() -> bool) {
    let deadline = Instant::now() + limit;
    while !done() {
        assert!(Instant::now() < deadline, "still waiting after {limit:?}");
        sleep(Duration::from_millis(50));
    }
}

fn is_alive(pid: u32) -> bool {
    Command::new("/bin/sh").arg("-c").arg(format!("kill -0 {pid} 2>/dev/null")).status().unwrap().success()
}

/// The command lines that name the folder.
fn processes_of(folder: &Path) -> String {
    let folder = folder.to_str().unwrap();
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let all = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let all = all.map(|line| String::from_utf8_lossy(&line).replace('\0', " "));
    all.filter(|line| line.contains(folder)).collect::<Vec<_>>().join("\n")
}
