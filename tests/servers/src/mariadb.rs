use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use crate::{command_as, find, folder, free_port, is_root, run, signal, wait_until};

/// A MariaDB server.
#[derive(Debug)]
pub struct Mariadb {
    folder: tempfile::TempDir,
    port: u16,
    child: Option<Child>,
}

const USER: &str = "mysql";

fn folders() -> Vec<PathBuf> {
    ["/usr/sbin", "/usr/bin"].map(PathBuf::from).into()
}

impl Mariadb {
    /// Whether the programs are there.
    pub fn is_installed() -> bool {
        find("mariadbd", &folders()).is_ok()
    }

    /// Makes and starts a server.
    pub fn start() -> io::Result<Self> {
        let folder = folder(USER)?;
        let mut install = Command::new(find("mariadb-install-db", &folders())?);
        install
            .args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"])
            .arg(format!("--datadir={}", folder.path().join("data").display()));
        if is_root() {
            install.arg(format!("--user={USER}"));
        }
        run(&mut install)?;
        let mut server = Self { folder, port: free_port()?, child: None };
        server.restart()?;
        Ok(server)
    }

    /// Starts it again, on the same data and port.
    pub fn restart(&mut self) -> io::Result<()> {
        let path = |name: &str| Path::join(self.folder.path(), name);
        let log = path("log");
        let file = File::create(&log)?;
        let child = command_as(USER, &find("mariadbd", &folders())?)
            .arg("--no-defaults")
            .arg(format!("--datadir={}", path("data").display()))
            .arg(format!("--socket={}", path("socket").display()))
            .arg(format!("--pid-file={}", path("pid").display()))
            .arg(format!("--port={}", self.port))
            .args(["--bind-address=127.0.0.1", "--max-connections=300"])
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()?;
        self.child = Some(child);
        wait_until("the start of MariaDB", &log, || self.accepts())
    }

    fn accepts(&self) -> bool {
        find("mariadb-admin", &folders()).is_ok_and(|program| {
            let port = self.port.to_string();
            let asked = Command::new(program)
                .args(["--no-defaults", "-h127.0.0.1", "-uroot", "-P", &port, "ping"])
                .stdout(Stdio::null())
                .stderr(Stdio::null())
                .status();
            asked.is_ok_and(|status| status.success())
        })
    }

    /// The URL of a database on it.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Kills it at once, as a crash would.
    pub fn kill9(&mut self) {
        self.stop("KILL");
    }

    /// Stops it: `TERM` is a clean end.
    pub fn stop(&mut self, signal_name: &str) {
        if let Some(mut child) = self.child.take() {
            signal(signal_name, &child);
            let _ = child.wait();
        }
    }
}

impl Drop for Mariadb {
    fn drop(&mut self) {
        self.stop("TERM");
    }
}
