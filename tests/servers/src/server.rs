use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::io::Errno;
use rustix::process::{Pid, Signal, kill_process};

use crate::account::Account;
use crate::folder::Folder;
use crate::program::output;
use crate::{Durability, Error, Kind, Result, Site};

const START_WITHIN: Duration = Duration::from_secs(60);
const STOP_WITHIN: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// A server of one's own. Dropping it ends the server and removes everything it stored.
pub struct Server<K: Kind> {
    kind: K,
    account: Option<Account>,
    options: Vec<String>,
    environment: Vec<(String, String)>,
    process: Option<Child>,
    folder: Folder,
}

impl<K: Kind> Server<K> {
    /// Starts a server with the durability it ships with, and waits until it takes connections.
    ///
    /// # Errors
    /// When it is not installed or does not start; the error has the end of its log.
    pub fn start() -> Result<Self> {
        Self::start_with(Durability::Shipped)
    }

    /// Like [`start`](Self::start), with a choice.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_with(durability: Durability) -> Result<Self> {
        let mut server = Self::prepare(durability)?;
        server.initialize()?;
        server.serve()?;
        Ok(server)
    }

    /// Like [`start`](Self::start), with more on the server's command line (see [`set`](Self::set)).
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn start_set(options: &[&str]) -> Result<Self> {
        let mut server = Self::prepare(Durability::default())?;
        server.set(options);
        server.initialize()?;
        server.serve()?;
        Ok(server)
    }

    /// Its folder and port, and nothing in it.
    pub(crate) fn prepare(durability: Durability) -> Result<Self> {
        let kind = K::find(durability)?;
        let account = Account::instead_of_root(K::ACCOUNT)?;
        let folder = Folder::new(K::ABANDON)?;
        if let Some(account) = account {
            account.own(folder.path())?;
        }
        Ok(Self { kind, account, options: Vec::new(), environment: Vec::new(), process: None, folder })
    }

    pub(crate) fn initialize(&self) -> Result<()> {
        output(&mut self.as_account(self.kind.initialize(self.site()))).map(drop)
    }

    /// What its command line has beyond the usual from the next start on, in place of what was set before.
    pub fn set(&mut self, options: &[&str]) {
        self.options = options.iter().map(|&option| option.to_owned()).collect();
    }

    /// What its environment has besides from the next start on.
    pub fn set_environment(&mut self, variables: &[(&str, &str)]) {
        let owned = |&(name, value): &(&str, &str)| (name.to_owned(), value.to_owned());
        self.environment = variables.iter().map(owned).collect();
    }

    /// Gives the server's user a file or folder.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn own(&self, path: &Path) -> Result<()> {
        self.account.map_or(Ok(()), |account| account.own(path))
    }

    /// Whether the programs are there.
    pub fn is_installed() -> bool {
        K::find(Durability::default()).is_ok()
    }

    /// The URL of a database on this server, as Diesel reads it.
    pub fn url(&self, database: &str) -> String {
        format!("{}/{database}", self.server_url())
    }

    /// The URL of the server, without a database.
    pub fn server_url(&self) -> String {
        self.kind.url(self.site())
    }

    /// Makes an empty database. The name goes into the SQL as it is.
    ///
    /// # Errors
    /// What the client wrote, for instance that the database is there already.
    pub fn create_database(&self, name: &str) -> Result<()> {
        self.run_sql(None, &format!("CREATE DATABASE {name}")).map(drop)
    }

    /// Runs SQL with the server's own command line client and returns its rows, tabs between the columns.
    ///
    /// # Errors
    /// What the client wrote.
    pub fn sql(&self, database: &str, sql: &str) -> Result<String> {
        self.run_sql(Some(database), sql)
    }

    /// Ends the server in order: what is committed is in its data files, sessions are closed.
    ///
    /// # Errors
    /// When it has not ended after half a minute.
    pub fn stop(&mut self) -> Result<()> {
        self.signal(K::STOP)?;
        let deadline = Instant::now() + STOP_WITHIN;
        while self.is_running()? {
            if Instant::now() > deadline {
                return Err(self.not_ready(format!("did not stop in {STOP_WITHIN:?}")));
            }
            sleep(LOOK_EVERY);
        }
        Ok(())
    }

    /// Ends the server as an out-of-memory kill does: nothing is written, nothing is said to anybody.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn kill9(&mut self) -> Result<()> {
        self.signal(Signal::KILL)?;
        self.reap()
    }

    /// Starts the server again on the same data and the same port, after [`stop`](Self::stop)ping it if it runs.
    ///
    /// # Errors
    /// As [`start`](Self::start).
    pub fn restart(&mut self) -> Result<()> {
        self.stop()?;
        self.serve()
    }

    /// Stops all of its processes, as a host does that is frozen: connections stay open, and nothing is said on them; or
    /// lets them go on.
    ///
    /// # Errors
    /// When the operating system refuses.
    pub fn freeze(&self, frozen: bool) -> Result<()> {
        let signal = if frozen { Signal::STOP } else { Signal::CONT };
        // The server first: it begins no further ones then.
        self.signal(signal)?;
        for child in self.children()? {
            match kill_process(child, signal) {
                Ok(()) | Err(Errno::SRCH) => {}
                Err(errno) => return Err(Error::os("signal a process of the server")(errno.into())),
            }
        }
        Ok(())
    }

    /// PostgreSQL has a process for each session.
    fn children(&self) -> Result<Vec<Pid>> {
        let Some(pid) = self.pid() else { return Ok(Vec::new()) };
        let path = format!("/proc/{pid}/task/{pid}/children");
        let children = fs::read_to_string(&path).map_err(Error::os(format!("read {path}")))?;
        Ok(children.split(' ').filter_map(|child| child.parse().ok().and_then(Pid::from_raw)).collect())
    }

    /// The process of the server, while it runs.
    pub fn pid(&self) -> Option<u32> {
        self.process.as_ref().map(Child::id)
    }

    /// Where it keeps its data, its socket and its log.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn port(&self) -> u16 {
        self.folder.port()
    }

    pub(crate) fn site(&self) -> Site<'_> {
        Site { folder: self.folder.path(), port: self.folder.port() }
    }

    fn run_sql(&self, database: Option<&str>, sql: &str) -> Result<String> {
        output(&mut self.kind.sql(self.site(), database, sql))
    }

    pub(crate) fn as_account(&self, mut command: Command) -> Command {
        if let Some(account) = self.account {
            account.run(&mut command);
        }
        // Where this process is, the account may not be allowed to be.
        command.current_dir(self.folder.path());
        command
    }

    pub(crate) fn serve(&mut self) -> Result<()> {
        let deadline = Instant::now() + START_WITHIN;
        self.spawn()?;
        loop {
            if !self.is_running()? {
                let log = self.end_of_log();
                let too_soon = K::TOO_SOON.iter().any(|words| log.contains(words));
                if !too_soon || Instant::now() > deadline {
                    return Err(self.not_ready("ended while starting".to_owned()));
                }
                sleep(LOOK_EVERY);
                self.spawn()?;
            }
            // A failed ping means "not yet"; only the deadline makes it an error.
            if output(&mut self.kind.ping(self.site())).is_ok() {
                return Ok(());
            }
            if Instant::now() > deadline {
                return Err(self.not_ready(format!("took no connections for {START_WITHIN:?}")));
            }
            sleep(LOOK_EVERY);
        }
    }

    fn spawn(&mut self) -> Result<()> {
        let path = self.log_path();
        let log = File::create(&path).map_err(Error::os(format!("write {}", path.display())))?;
        let errors = log.try_clone().map_err(Error::os("share the server's log"))?;
        let process = self
            .as_account(self.serve_command())
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            // Ctrl-C ends the owner first, and then the server by way of the sentry.
            .process_group(0)
            .spawn()
            .map_err(Error::os(format!("run the {} server", K::NAME)))?;
        let pid = process.id();
        self.process = Some(process);
        self.folder.watch(Some(pid))
    }

    /// The server's command line.
    pub(crate) fn serve_command(&self) -> Command {
        let mut command = self.kind.serve(self.site());
        command.args(&self.options).envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        match self.process.as_ref().map(Pid::from_child) {
            Some(pid) => {
                kill_process(pid, signal).map_err(|errno| Error::os("signal the server")(errno.into()))
            }
            None => Ok(()),
        }
    }

    /// Looks, and forgets the process when it has ended.
    fn is_running(&mut self) -> Result<bool> {
        let ended = match &mut self.process {
            Some(process) => process.try_wait().map_err(Error::os("look at the server's process"))?.is_some(),
            None => return Ok(false),
        };
        if ended {
            self.reap()?;
        }
        Ok(!ended)
    }

    fn reap(&mut self) -> Result<()> {
        self.folder.watch(None)?;
        match self.process.take() {
            Some(mut process) => process.wait().map(drop).map_err(Error::os("wait for the server's end")),
            None => Ok(()),
        }
    }

    fn log_path(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn end_of_log(&self) -> String {
        let log = fs::read(self.log_path()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }

    fn not_ready(&self, problem: String) -> Error {
        Error::NotReady { server: K::NAME, problem, log: self.end_of_log() }
    }
}

impl<K: Kind> Drop for Server<K> {
    fn drop(&mut self) {
        if self.signal(K::ABANDON).is_err() {
            return;
        }
        let deadline = Instant::now() + STOP_WITHIN;
        while self.is_running().unwrap_or(false) && Instant::now() < deadline {
            sleep(LOOK_EVERY);
        }
        _ = self.kill9();
    }
}

impl<K: Kind> fmt::Debug for Server<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct(K::NAME)
            .field("folder", &self.folder())
            .field("pid", &self.pid())
            .finish_non_exhaustive()
    }
}
