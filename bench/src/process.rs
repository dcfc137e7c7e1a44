//! A contestant's processes. The protocol is described in `bench/README.md`.

use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::Result;
use crate::contestant::Contestant;
use crate::database::Database;

/// No single answer takes longer.
const PATIENCE: Duration = Duration::from_secs(300);
/// Linux tells processor time in hundredths of a second.
const TICK: Duration = Duration::from_millis(10);

/// A running process of a contestant that answers questions. Dropping it ends it.
pub(crate) struct Process {
    what: String,
    child: Child,
    stdin: Option<ChildStdin>,
    answers: Receiver<String>,
    log: std::path::PathBuf,
}

/// A worker's count.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(crate) struct Count {
    pub(crate) handled: u64,
    /// When the first handler began, in microseconds since 1970.
    pub(crate) first: u64,
}

#[derive(Debug, Deserialize)]
struct Seconds {
    seconds: f64,
}

/// Makes a contestant's tables.
pub(crate) fn prepare(contestant: &Contestant, database: &Database) -> Result {
    Process::start(contestant, database, &["prepare"])?.end()
}

/// Runs a command that answers with the seconds it took.
pub(crate) fn seconds(contestant: &Contestant, database: &Database, arguments: &[String]) -> Result<f64> {
    let mut process = Process::start(contestant, database, arguments)?;
    let answer: Seconds = process.answer()?;
    process.end()?;
    Ok(answer.seconds)
}

/// Runs a command that answers with one list of microseconds.
pub(crate) fn micros(contestant: &Contestant, database: &Database, arguments: &[String]) -> Result<Vec<u64>> {
    let mut process = Process::start(contestant, database, arguments)?;
    let answer = process.answer()?;
    process.end()?;
    Ok(answer)
}

impl Process {
    pub(crate) fn start(
        contestant: &Contestant,
        database: &Database,
        arguments: &[impl AsRef<std::ffi::OsStr>],
    ) -> Result<Self> {
        let log =
            tempfile::Builder::new().suffix(".log").tempfile_in(database.folder.path())?.into_temp_path();
        let log = log.keep()?;
        let mut command: Command = contestant.command(database);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(File::create(&log)?);
        let mut child = command.spawn().map_err(|error| format!("cannot run {command:?}: {error}"))?;
        let (sender, answers) = channel();
        if let Some(stdout) = child.stdout.take() {
            std::thread::spawn(move || {
                for line in BufReader::new(stdout).lines().map_while(std::io::Result::ok) {
                    if let Some(answer) = line.strip_prefix("= ")
                        && sender.send(answer.to_owned()).is_err()
                    {
                        return;
                    }
                }
            });
        }
        let stdin = child.stdin.take();
        Ok(Self { what: contestant.name.clone(), child, stdin, answers, log })
    }

    pub(crate) fn ask<T: DeserializeOwned>(&mut self, question: &str) -> Result<T> {
        self.say(question)?;
        self.answer()
    }

    /// Asks for something that takes a while; [`answer`](Self::answer) waits for it.
    pub(crate) fn say(&mut self, question: &str) -> Result {
        let said = self.stdin.as_mut().map(|stdin| writeln!(stdin, "{question}"));
        match said {
            Some(Ok(())) => Ok(()),
            _ => Err(self.failure("ended early")),
        }
    }

    pub(crate) fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => Ok(serde_json::from_str(&answer)?),
            Err(RecvTimeoutError::Timeout) => Err(self.failure("did not answer for five minutes")),
            Err(RecvTimeoutError::Disconnected) => Err(self.failure("ended early")),
        }
    }

    pub(crate) fn count(&mut self) -> Result<Count> {
        self.ask("count")
    }

    /// Waits until it ends by itself.
    pub(crate) fn end(mut self) -> Result {
        self.stdin = None;
        if self.child.wait()?.success() { Ok(()) } else { Err(self.failure("failed")) }
    }

    /// The most memory that it has had so far, in MiB.
    pub(crate) fn peak_mib(&self) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib: f64 = line.ok_or("no VmHWM in /proc")?.trim().trim_end_matches(" kB").parse()?;
        Ok(kib / 1024.0)
    }

    /// The processor time that it has had so far, threads that have ended included.
    pub(crate) fn cpu(&self) -> Result<Duration> {
        let stat = std::fs::read_to_string(format!("/proc/{}/stat", self.child.id()))?;
        // The program's name comes second, in brackets, and may have blanks.
        let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
        let (user, system) = fields.get(11).zip(fields.get(12)).ok_or("no times in /proc")?;
        Ok(TICK * (user.parse::<u32>()? + system.parse::<u32>()?))
    }

    fn failure(&self, problem: &str) -> Box<dyn std::error::Error + Send + Sync> {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(10)..].join("\n");
        format!("{} {problem}: {end}", self.what).into()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // The end of its input is what it waits for; a worker that is stuck is ended all the same.
        self.stdin = None;
        let deadline = Instant::now() + Duration::from_secs(2);
        while Instant::now() < deadline {
            if !matches!(self.child.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        self.child.kill().ok();
        self.child.wait().ok();
    }
}
