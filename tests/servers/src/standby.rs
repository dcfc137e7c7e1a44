use std::process::Command;

use crate::program::{output, require};
use crate::{Durability, Postgres, PostgresKind, Result, Server};

impl Server<PostgresKind> {
    /// A second server that follows this one, and answers what only reads.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_standby(&self) -> Result<Postgres> {
        let mut standby = Self::prepare(Durability::default())?;
        let mut copy = Command::new(require("pg_basebackup", "postgresql-client")?);
        copy.args(["--write-recovery-conf", "--checkpoint=fast", "--no-sync", "--no-password", "--pgdata"]);
        copy.arg(standby.folder().join("data")).arg("--dbname").arg(self.url("postgres"));
        output(&mut standby.as_account(copy))?;
        standby.serve()?;
        Ok(standby)
    }

    /// Makes a standby a server that takes writes, and waits until it does.
    ///
    /// # Errors
    /// What the client wrote.
    pub fn promote(&self) -> Result<()> {
        self.sql("postgres", "SELECT pg_promote()").map(drop)
    }
}
