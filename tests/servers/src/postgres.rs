use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::program::require;
use crate::{Durability, Kind, Result, Site};

/// How to run PostgreSQL.
#[derive(Debug)]
pub struct PostgresKind {
    initdb: PathBuf,
    postgres: PathBuf,
    pg_isready: PathBuf,
    psql: PathBuf,
    durability: Durability,
}

impl Kind for PostgresKind {
    const NAME: &'static str = "PostgreSQL";
    const ACCOUNT: &'static str = "postgres";
    // Open sessions are ended, not waited for.
    const STOP: Signal = Signal::INT;
    // Unlike a kill, this ends its sessions and removes its shared memory too.
    const ABANDON: Signal = Signal::QUIT;
    const TOO_SOON: &'static [&'static str] = &["pre-existing shared memory block"];

    fn find(durability: Durability) -> Result<Self> {
        Ok(Self {
            initdb: require("initdb", "postgresql")?,
            postgres: require("postgres", "postgresql")?,
            pg_isready: require("pg_isready", "postgresql-client")?,
            psql: require("psql", "postgresql-client")?,
            durability,
        })
    }

    fn initialize(&self, site: Site<'_>) -> Command {
        let mut command = Command::new(&self.initdb);
        command.args(["-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-locale", "--no-sync", "-D"]);
        command.arg(site.folder.join("data"));
        command
    }

    fn serve(&self, site: Site<'_>) -> Command {
        let mut command = Command::new(&self.postgres);
        command.arg("-D").arg(site.folder.join("data")).arg("-k").arg(site.folder);
        command.args([
            "-p",
            &site.port.to_string(),
            "-c",
            "listen_addresses=127.0.0.1",
            "-c",
            "max_connections=300",
        ]);
        // In the folder and not in /dev/shm, where a killed server would leave it behind.
        command.args(["-c", "dynamic_shared_memory_type=mmap"]);
        if self.durability == Durability::Relaxed {
            command.args(["-c", "fsync=off"]);
        }
        command
    }

    fn ping(&self, site: Site<'_>) -> Command {
        let mut command = Command::new(&self.pg_isready);
        command.args(["-q", "-p", &site.port.to_string(), "-h"]).arg(site.folder);
        command
    }

    fn sql(&self, site: Site<'_>, database: Option<&str>, sql: &str) -> Command {
        let mut command = Command::new(&self.psql);
        command.args(["-X", "-q", "-A", "-t", "-F", "\t", "-v", "ON_ERROR_STOP=1"]);
        command.args(["-d", &format!("{}/{}", self.url(site), database.unwrap_or("postgres")), "-c", sql]);
        command
    }

    fn url(&self, site: Site<'_>) -> String {
        format!("postgres://postgres@127.0.0.1:{}", site.port)
    }
}
