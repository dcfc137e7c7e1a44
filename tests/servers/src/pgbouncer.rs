use std::net::TcpStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::process::Signal;

use crate::account::Account;
use crate::folder::Folder;
use crate::program::require;
use crate::{Error, Postgres, Result};

const START_WITHIN: Duration = Duration::from_secs(30);

/// pgbouncer before a PostgreSQL server: in transaction mode, so that a session belongs to a client for no longer than a
/// transaction. Gone when it is dropped.
#[derive(Debug)]
pub struct Pgbouncer {
    process: Child,
    folder: Folder,
}

impl Pgbouncer {
    /// Starts one, and waits until it takes connections.
    ///
    /// # Errors
    /// When it is not installed or does not start; the error has its log.
    pub fn before(server: &Postgres) -> Result<Self> {
        let program = require("pgbouncer", "pgbouncer")?;
        let account = Account::instead_of_root("postgres")?;
        let mut folder = Folder::new(Signal::KILL)?;
        let file = folder.path().join("pgbouncer.ini");
        let settings = format!(
            "[databases]\n* = host=127.0.0.1 port={} user=postgres\n[pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {}\n\
             unix_socket_dir =\nauth_type = any\npool_mode = transaction\n",
            server.port(),
            folder.port(),
        );
        std::fs::write(&file, settings).map_err(Error::os(format!("write {}", file.display())))?;
        let log_path = folder.path().join("log");
        let log =
            std::fs::File::create(&log_path).map_err(Error::os(format!("write {}", log_path.display())))?;
        let mut command = Command::new(program);
        command.arg(&file).current_dir(folder.path()).process_group(0);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
        if let Some(account) = account {
            account.own(folder.path())?;
            account.own(&file)?;
            account.run(&mut command);
        }
        let process = command.spawn().map_err(Error::os("run pgbouncer"))?;
        folder.watch(Some(process.id()))?;
        let began = Instant::now();
        let started = Self { process, folder };
        while TcpStream::connect(("127.0.0.1", started.folder.port())).is_err() {
            if began.elapsed() > START_WITHIN {
                let log = std::fs::read_to_string(log_path).unwrap_or_default();
                let problem = format!("took no connections for {START_WITHIN:?}");
                return Err(Error::NotReady { server: "pgbouncer", problem, log });
            }
            sleep(Duration::from_millis(20));
        }
        Ok(started)
    }

    /// The URL of the server's database through it.
    pub fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}", self.folder.port())
    }

    /// Whether the program is there.
    pub fn is_installed() -> bool {
        require("pgbouncer", "pgbouncer").is_ok()
    }
}

impl Drop for Pgbouncer {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = self.folder.watch(None);
    }
}
