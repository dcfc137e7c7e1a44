use std::fs::DirBuilder;
use std::hash::{BuildHasher, RandomState};
use std::io::{ErrorKind, Write};
use std::net::TcpListener;
use std::os::unix::fs::DirBuilderExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::Signal;

use crate::{Error, Result};

/// Where ports are taken from: below the ports that systems give to outgoing connections. Of those, a client that
/// keeps trying to reach a stopped server would now and then be given the server's own.
const PORTS: std::ops::Range<u16> = 20_000..30_000;

/// Reads the server's process id, line by line, until the end of its input: that is when its owner has ended, with
/// or without running any destructor. Then it ends the server and removes the folder.
const SENTRY: &str = r#"
while read -r line; do pid=$line; done
if [ -n "$pid" ]; then
    kill "-$1" "$pid" 2>/dev/null
    for _ in 1 2 3 4 5 6 7 8 9 10; do kill -0 "$pid" 2>/dev/null || break; sleep 0.5; done
    kill -KILL "$pid" 2>/dev/null
fi
rm -rf "$2" || { sleep 1; rm -rf "$2"; }
"#;

/// A server's folder and port, and the sentry that cleans up behind them.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    port: u16,
    sentry: Child,
    watched: Option<ChildStdin>,
}

impl Folder {
    /// Makes a folder that only this user may enter. Its name is a free port, which reserves that port among
    /// everything that comes here for one. `abandon` is the signal for a server whose owner has ended.
    pub(crate) fn new(abandon: Signal) -> Result<Self> {
        // The hasher is random, and that is all that is wanted of it.
        let first = (RandomState::new().hash_one(()) % PORTS.len() as u64) as usize;
        for port in PORTS.cycle().skip(first).take(PORTS.len()) {
            // Not the system's temporary folder: sockets go in here, and their paths are limited to 100 characters.
            let path = PathBuf::from(format!("/tmp/taskmq-{port}"));
            match DirBuilder::new().mode(0o700).create(&path) {
                Ok(()) if TcpListener::bind(("127.0.0.1", port)).is_ok() => {
                    return Self::guard(path, port, abandon);
                }
                Ok(()) => _ = std::fs::remove_dir(&path),
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(Error::os(format!("make the folder {}", path.display()))(error)),
            }
        }
        Err(Error::os("find a free port")(ErrorKind::AddrInUse.into()))
    }

    fn guard(path: PathBuf, port: u16, abandon: Signal) -> Result<Self> {
        let mut sentry = Command::new("/bin/sh")
            .args(["-c", SENTRY, "taskmq-sentry", &abandon.as_raw().to_string()])
            .arg(&path)
            .current_dir("/")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // Ctrl-C ends the owner, not the sentry.
            .process_group(0)
            .spawn()
            .map_err(Error::os("run /bin/sh"))?;
        let watched = sentry.stdin.take();
        Ok(Self { path, port, sentry, watched })
    }

    /// Tells the sentry which process to end.
    pub(crate) fn watch(&mut self, server: Option<u32>) -> Result<()> {
        let line = server.map(|pid| pid.to_string()).unwrap_or_default();
        match &mut self.watched {
            Some(sentry) => writeln!(sentry, "{line}").map_err(Error::os("speak to the server's sentry")),
            None => Ok(()),
        }
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn port(&self) -> u16 {
        self.port
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        self.watched = None;
        _ = self.sentry.wait();
    }
}
