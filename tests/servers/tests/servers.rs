//! The servers do what the tests that use them rely on.

use std::path::{Path, PathBuf};
use std::process::Command;

use taskmq_test_servers::{Mariadb, Postgres};

#[test]
fn postgres_keeps_what_is_committed_and_leaves_nothing_behind() {
    let mut server = Postgres::start().unwrap();
    let url = server.url("postgres");
    psql(&url, "CREATE TABLE kept (name VARCHAR(20)); INSERT INTO kept VALUES ('first')").unwrap();

    server.kill9();
    psql(&url, "SELECT 1").expect_err("a killed server answered");
    server.restart().unwrap();
    assert_eq!(psql(&url, "SELECT name FROM kept").unwrap(), "first");

    let port = port(&url);
    let folders = folders_of(&format!("-p\0{port}\0"));
    assert_eq!(folders.len(), 1, "{folders:?}");
    drop(server);
    assert!(folders_of(&format!("-p\0{port}\0")).is_empty(), "the server still runs");
    assert!(!folders[0].exists(), "{} was left behind", folders[0].display());
}

#[test]
fn mariadb_keeps_what_is_committed_and_leaves_nothing_behind() {
    let mut server = Mariadb::start().unwrap();
    let url = server.url("mysql");
    mariadb(&url, "CREATE DATABASE app; CREATE TABLE app.kept (name VARCHAR(20)); INSERT INTO app.kept VALUES ('first')")
        .unwrap();

    server.kill9();
    mariadb(&url, "SELECT 1").expect_err("a killed server answered");
    server.restart().unwrap();
    assert_eq!(mariadb(&url, "SELECT name FROM app.kept").unwrap(), "first");

    let port = port(&url);
    let folders = folders_of(&format!("--port={port}\0"));
    assert_eq!(folders.len(), 1, "{folders:?}");
    drop(server);
    assert!(folders_of(&format!("--port={port}\0")).is_empty(), "the server still runs");
    assert!(!folders[0].exists(), "{} was left behind", folders[0].display());
}

fn psql(url: &str, sql: &str) -> Result<String, String> {
    run(Command::new("psql").args(["-X", "-q", "-A", "-t", "-d", url, "-c", sql]))
}

fn mariadb(url: &str, sql: &str) -> Result<String, String> {
    run(Command::new("mariadb").args([
        "--no-defaults",
        "-h127.0.0.1",
        "-uroot",
        "-N",
        "-B",
        "-P",
        port(url),
        "-e",
        sql,
    ]))
}

fn run(command: &mut Command) -> Result<String, String> {
    let output = command.output().map_err(|error| error.to_string())?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    if output.status.success() { Ok(text(&output.stdout)) } else { Err(text(&output.stderr)) }
}

fn port(url: &str) -> &str {
    url.rsplit_once(':').and_then(|(_, end)| end.split_once('/')).unwrap().0
}

/// The folders of the servers whose command line has these words.
fn folders_of(words: &str) -> Vec<PathBuf> {
    let processes = std::fs::read_dir("/proc").unwrap().flatten();
    let lines = processes.filter_map(|process| std::fs::read(process.path().join("cmdline")).ok());
    let lines = lines.map(|line| String::from_utf8_lossy(&line).into_owned());
    lines
        .filter(|line| line.contains(words))
        .filter_map(|line| {
            let data = line
                .split('\0')
                .map(|word| word.trim_start_matches("--datadir="))
                .find(|w| w.ends_with("/data"));
            data.and_then(|data| Path::new(data).parent()).map(Path::to_owned)
        })
        .collect()
}
