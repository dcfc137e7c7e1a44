use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{command_as, find, folder, free_port, run, signal, wait_until};

/// A PostgreSQL server.
#[derive(Debug)]
pub struct Postgres {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

const USER: &str = "postgres";

/// Where Debian puts the server's programs, the newest version first.
fn folders() -> Vec<PathBuf> {
    let mut versions: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|e| e.path().join("bin"))
        .collect();
    versions.sort();
    versions.reverse();
    versions
}

impl Postgres {
    /// Whether the programs are there.
    pub fn is_installed() -> bool {
        find("initdb", &folders()).is_ok()
    }

    /// Makes and starts a server.
    pub fn start() -> io::Result<Self> {
        let folder = folder(USER)?;
        let data = folder.path().join("data");
        run(command_as(USER, &find("initdb", &folders())?)
            .args(["--auth=trust", "--encoding=UTF8", "--locale=C", "--username=postgres", "-D"])
            .arg(&data)
            .current_dir(folder.path()))?;
        let mut server = Self { folder, port: free_port()?, child: None };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again, on the same data and port.
    pub fn restart(&mut self) -> io::Result<()> {
        let log = self.folder.path().join("log");
        let file = File::create(&log)?;
        let child = command_as(USER, &find("postgres", &folders())?)
            .arg("-D")
            .arg(self.folder.path().join("data"))
            .args([
                "-p",
                &self.port.to_string(),
                "-c",
                "listen_addresses=127.0.0.1",
                "-c",
                "max_connections=300",
            ])
            .arg("-k")
            .arg(self.folder.path())
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        self.child = Some(child);
        wait_until("the start of PostgreSQL", &log, || self.accepts())
    }

    fn accepts(&self) -> bool {
        find("pg_isready", &folders()).is_ok_and(|program| {
            let port = self.port.to_string();
            let asked = Command::new(program).args(["-q", "-h", "127.0.0.1", "-p", &port]).status();
            asked.is_ok_and(|status| status.success())
        })
    }

    /// The URL of a database on it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.port)
    }

    /// Kills it and all its processes at once, as a crash would.
    pub fn kill9(&mut self) {
        if let Some(mut child) = self.child.take() {
            // Its processes end by themselves when the first one is gone, or are ended by the next start.
            let pid = child.id().to_string();
            let _ = Command::new("pkill").args(["-KILL", "-P", &pid]).status();
            signal("KILL", &child);
            let _ = child.wait();
            let _ = std::fs::remove_file(self.data().join("postmaster.pid"));
        }
    }

    /// Stops it: `INT` disconnects everybody first, `QUIT` is as a crash but with all children ended.
    pub fn stop(&mut self, signal_name: &str) {
        if let Some(mut child) = self.child.take() {
            signal(signal_name, &child);
            let _ = child.wait();
        }
    }

    fn data(&self) -> PathBuf {
        Path::join(self.folder.path(), "data")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.stop("INT");
    }
}
