use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::{Error, Result};

/// The user that a server runs as when this process is root, because the servers refuse root.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Account {
    uid: u32,
    gid: u32,
}

impl Account {
    /// The account `name` when this process is root; otherwise the server runs as whoever this is.
    pub(crate) fn instead_of_root(name: &'static str) -> Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let passwd = std::fs::read_to_string("/etc/passwd").map_err(Error::os("read /etc/passwd"))?;
        Self::in_passwd(&passwd, name).map(Some).ok_or(Error::NoAccount(name))
    }

    fn in_passwd(passwd: &str, name: &str) -> Option<Self> {
        let fields = passwd.lines().map(|line| line.split(':').collect::<Vec<_>>());
        let account = fields.into_iter().find(|fields| fields.len() > 3 && fields[0] == name)?;
        Some(Self { uid: account[2].parse().ok()?, gid: account[3].parse().ok()? })
    }

    /// Gives it a file or folder.
    pub(crate) fn own(self, path: &Path) -> Result<()> {
        std::os::unix::fs::chown(path, Some(self.uid), Some(self.gid))
            .map_err(Error::os(format!("give {} to the server's user", path.display())))
    }

    /// Makes a program run as it.
    pub(crate) fn run(self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_account_is_found_by_its_whole_name() {
        let passwd =
            "post:x:1:2::/:/bin/sh\npostgres:x:101:104:PostgreSQL,,,:/var/lib/postgresql:/bin/bash\n";
        let account = Account::in_passwd(passwd, "postgres").unwrap();
        assert_eq!((account.uid, account.gid), (101, 104));
        assert!(Account::in_passwd(passwd, "mysql").is_none());
    }
}
