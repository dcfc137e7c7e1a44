use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use rustix::process::Signal;

use crate::program::require;
use crate::{Durability, Kind, Result, Site};

/// How to run MariaDB.
#[derive(Debug)]
pub struct MariadbKind {
    install_db: PathBuf,
    mariadbd: PathBuf,
    admin: PathBuf,
    client: PathBuf,
    durability: Durability,
}

impl Kind for MariadbKind {
    const NAME: &'static str = "MariaDB";
    const ACCOUNT: &'static str = "mysql";
    const STOP: Signal = Signal::TERM;
    const ABANDON: Signal = Signal::KILL;
    // Galera looks for a thread of its own that may have ended by then.
    const TOO_SOON: &'static [&'static str] = &["Failed to set thread schedparams"];

    fn find(durability: Durability) -> Result<Self> {
        Ok(Self {
            install_db: require("mariadb-install-db", "mariadb-server")?,
            mariadbd: require("mariadbd", "mariadb-server")?,
            admin: require("mariadb-admin", "mariadb-client")?,
            client: require("mariadb", "mariadb-client")?,
            durability,
        })
    }

    fn initialize(&self, site: Site<'_>) -> Command {
        let mut command = Command::new(&self.install_db);
        command.args(["--no-defaults", "--auth-root-authentication-method=normal", "--skip-test-db"]);
        command.arg(option("datadir", site.folder.join("data")));
        // A server that starts removes what looks like temporary tables, and would another's of the same folder.
        command.env("TMPDIR", site.folder);
        command
    }

    fn serve(&self, site: Site<'_>) -> Command {
        let mut command = Command::new(&self.mariadbd);
        // The only setting of Debian's own files that matters here: without them the server's text is latin1.
        command.args(["--no-defaults", "--character-set-server=utf8mb4"]);
        command.args(["--bind-address=127.0.0.1", "--max-connections=300", &format!("--port={}", site.port)]);
        command.arg(option("datadir", site.folder.join("data")));
        command.arg(option("socket", site.folder.join("socket")));
        command.arg(option("pid-file", site.folder.join("pid")));
        command.arg(option("tmpdir", site.folder));
        if self.durability == Durability::Relaxed {
            command.arg("--innodb-flush-log-at-trx-commit=2");
        }
        command
    }

    fn ping(&self, site: Site<'_>) -> Command {
        let mut command = Command::new(&self.admin);
        command
            .args(["--no-defaults", "--user=root"])
            .arg(option("socket", site.folder.join("socket")))
            .arg("ping");
        command
    }

    fn sql(&self, site: Site<'_>, database: Option<&str>, sql: &str) -> Command {
        let mut command = Command::new(&self.client);
        command.args(["--no-defaults", "--user=root", "--host=127.0.0.1", "--batch", "--skip-column-names"]);
        command.arg(format!("--port={}", site.port)).arg(format!("--execute={sql}")).args(database);
        command
    }

    fn url(&self, site: Site<'_>) -> String {
        format!("mysql://root@127.0.0.1:{}", site.port)
    }
}

fn option(name: &str, path: impl Into<OsString>) -> OsString {
    let mut option = OsString::from(format!("--{name}="));
    option.push(path.into());
    option
}
