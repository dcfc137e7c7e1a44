//! What the tests need of the system.

use std::path::Path;
use std::process::{Command, Stdio};

use taskmq_test_servers::{Mariadb, Pgbouncer, Postgres};

/// Installs what is missing where that is possible, and says how where it is not.
pub(crate) fn ensure() -> Result<(), String> {
    let missing: Vec<&str> = [
        (Postgres::is_installed(), "postgresql"),
        (Mariadb::is_installed(), "mariadb-server"),
        (Pgbouncer::is_installed(), "pgbouncer"),
        (answers("pg_config", "--version"), "libpq-dev"),
        (answers("mariadb_config", "--version") || answers("mysql_config", "--version"), "libmariadb-dev"),
        (answers("pkg-config", "--version"), "pkg-config"),
        (answers("cc", "--version"), "gcc"),
        (answers("pkill", "--version"), "procps"),
        (answers("chromium", "--version"), "chromium"),
        (answers("chromedriver", "--version"), "chromium-driver"),
        (answers("npm", "--version"), "npm"),
        (answers("strace", "--version"), "strace"),
        (Path::new("/usr/share/fonts/truetype/wqy").is_dir(), "fonts-wqy-microhei"),
        (has_libfaketime(), "libfaketime"),
    ]
    .into_iter()
    .filter_map(|(there, package)| (!there).then_some(package))
    .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let install =
        format!("apt-get update && apt-get install --yes --no-install-recommends {}", missing.join(" "));
    let root = Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0");
    if !root || !answers("apt-get", "--version") {
        return Err(format!(
            "the tests need {}; on Debian or Ubuntu: sudo sh -c '{install}'",
            missing.join(", ")
        ));
    }
    eprintln!("== {install}");
    let installed = Command::new("sh")
        .args(["-c", &install])
        .env("DEBIAN_FRONTEND", "noninteractive")
        .stdin(Stdio::null())
        .status();
    match installed {
        Ok(status) if status.success() => Ok(()),
        _ => Err(format!("this failed: {install}")),
    }
}

fn has_libfaketime() -> bool {
    let folders = std::fs::read_dir("/usr/lib").into_iter().flatten().flatten();
    folders.map(|folder| folder.path().join("faketime/libfaketime.so.1")).any(|library| library.is_file())
}

fn answers(program: &str, argument: &str) -> bool {
    Command::new(program)
        .arg(argument)
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|s| s.success())
}
