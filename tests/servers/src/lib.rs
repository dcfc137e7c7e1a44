//! PostgreSQL and MariaDB servers for tests: each on a temporary folder and a free port, gone when it is dropped.

mod mariadb;
mod postgres;

pub use mariadb::Mariadb;
pub use postgres::Postgres;

use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How long a server may take to begin or to end.
const DEADLINE: Duration = Duration::from_secs(60);

fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|out| out.stdout.trim_ascii() == b"0")
}

/// A temporary folder that the server's own user may write; its path is short, for sockets live in it.
fn folder(user: &str) -> io::Result<tempfile::TempDir> {
    let folder = tempfile::Builder::new().prefix("tmq").tempdir_in(std::env::temp_dir())?;
    if is_root() {
        run(Command::new("chown").arg(user).arg(folder.path()))?;
    }
    Ok(folder)
}

/// The servers refuse to run as root.
fn command_as(user: &str, program: &Path) -> Command {
    if is_root() {
        let mut command = Command::new("setpriv");
        command.args(["--reuid", user, "--regid", user, "--init-groups", "--"]).arg(program);
        command
    } else {
        Command::new(program)
    }
}

fn run(command: &mut Command) -> io::Result<()> {
    let out = command.stdin(Stdio::null()).output()?;
    if out.status.success() {
        return Ok(());
    }
    let text = format!(
        "{command:?} failed: {}{}",
        String::from_utf8_lossy(&out.stdout),
        String::from_utf8_lossy(&out.stderr)
    );
    Err(io::Error::other(text))
}

fn wait_until(what: &str, log: &Path, mut ready: impl FnMut() -> bool) -> io::Result<()> {
    let deadline = Instant::now() + DEADLINE;
    while !ready() {
        if Instant::now() > deadline {
            let log = std::fs::read_to_string(log).unwrap_or_default();
            return Err(io::Error::other(format!(
                "{what} did not happen within {DEADLINE:?}; the log says:\n{log}"
            )));
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// `kill -NAME pid`.
fn signal(name: &str, child: &Child) {
    let _ = Command::new("kill").arg(format!("-{name}")).arg(child.id().to_string()).status();
}

/// Where a server's program is: on the PATH or in one of these folders.
fn find(program: &str, folders: &[PathBuf]) -> io::Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    folders
        .iter()
        .cloned()
        .chain(std::env::split_paths(&path))
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
        .ok_or_else(|| {
            io::Error::other(format!("{program} is not installed; `cargo xtask test` says how to install it"))
        })
}
