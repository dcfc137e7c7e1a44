//! Commands beside each other: the output of each is shown when it has ended, so that nothing comes in between.

use std::io::Read;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::{Mutex, PoisonError};
use std::thread;
use std::time::Instant;

/// One command, and how it is called in the output.
pub(crate) struct Job {
    pub(crate) name: String,
    pub(crate) command: Command,
}

impl Job {
    /// Leaves the processors to whoever else wants them.
    pub(crate) fn nice(self) -> Self {
        let mut command = Command::new("nice");
        command.args(["-n", "19"]).arg(self.command.get_program()).args(self.command.get_args());
        for (name, value) in self.command.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        if let Some(folder) = self.command.get_current_dir() {
            command.current_dir(folder);
        }
        Self { command, ..self }
    }
}

/// What came of many commands.
#[derive(Debug, Default)]
pub(crate) struct Outcome {
    /// Tests that passed.
    pub(crate) passed: u64,
    /// Tests that failed.
    pub(crate) failed: u64,
    /// The commands that failed, by name.
    pub(crate) broken: Vec<String>,
}

impl Outcome {
    /// Notes what a line of the output says of tests.
    pub(crate) fn read(&mut self, line: &str) {
        if line.starts_with("test result:") {
            self.passed += number_before(line, " passed");
            self.failed += number_before(line, " failed");
        }
    }
}

fn number_before(line: &str, word: &str) -> u64 {
    let before = line.split(word).next().unwrap_or_default();
    before.rsplit(' ').next().and_then(|number| number.parse().ok()).unwrap_or_default()
}

/// Runs the jobs of each lane one after another, and the lanes beside each other. One that fails stops no other.
pub(crate) fn run(lanes: Vec<Vec<Job>>) -> Outcome {
    let outcome = Mutex::new(Outcome::default());
    thread::scope(|scope| {
        for lane in lanes {
            scope.spawn(|| lane.into_iter().for_each(|job| carry_out(job, &outcome)));
        }
    });
    outcome.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn carry_out(Job { name, command }: Job, outcome: &Mutex<Outcome>) {
    println!("== {name} begins");
    let start = Instant::now();
    let (success, status, output) = match output_of(command) {
        Ok((status, output)) => (status.success(), status.to_string(), output),
        Err(error) => (false, "it cannot be run".to_owned(), error.to_string()),
    };
    // As long as it is locked, nobody else writes.
    let mut outcome = outcome.lock().unwrap_or_else(PoisonError::into_inner);
    println!("== {name}\n{}\n== {:.1} s, {status}", output.trim(), start.elapsed().as_secs_f64());
    output.lines().for_each(|line| outcome.read(line));
    if !success {
        outcome.broken.push(name);
    }
}

/// How it ends, and all that it writes.
fn output_of(mut command: Command) -> std::io::Result<(ExitStatus, String)> {
    let (mut output, writer) = std::io::pipe()?;
    command.stdin(Stdio::null()).stdout(writer.try_clone()?).stderr(writer);
    let mut child = command.spawn()?;
    drop(command); // it keeps the pipe open
    let mut bytes = Vec::new();
    output.read_to_end(&mut bytes)?;
    Ok((child.wait()?, String::from_utf8_lossy(&bytes).into_owned()))
}
