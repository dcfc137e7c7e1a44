//! `worker --supervise`: runs the worker as a child, and starts it again when it dies.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{ChildStdin, Command, ExitCode, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use super::supervised::{Answers, Death, END, STOP};

/// So many deaths in a row without any work are followed by the next start at once;
const AT_ONCE: u32 = 2;
/// then there is a pause, twice as long each time,
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// up to this one.
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// So long the child has to end after a second signal: longer than it gives itself.
const AT_LAST: Duration = Duration::from_millis(1300);
/// A pause looks this often whether it is over because of a signal.
const LOOK: Duration = Duration::from_millis(20);

/// The way to the child, and what was to be said.
#[derive(Default)]
struct Line {
    child: Option<ChildStdin>,
    signals: u32,
}

impl Line {
    fn say(&mut self, word: u8) {
        // A child that is gone hears nothing, and need not.
        if let Some(child) = &mut self.child {
            let _ = child.write_all(&[word]).and_then(|()| child.flush());
        }
    }
}

/// Runs workers, one after the other, until one ends by itself or a signal comes.
pub(super) fn run() -> ExitCode {
    let answers = AnswerFile(std::env::temp_dir().join(format!(
        "taskmq-supervisor-{}-{:016x}",
        std::process::id(),
        fastrand::u64(..)
    )));
    match supervise(&answers.0) {
        Ok(code) => code,
        Err(error) => {
            tracing::error!("the worker cannot be supervised: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Removed when it is dropped.
struct AnswerFile(PathBuf);

impl Drop for AnswerFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

fn supervise(answers: &Path) -> std::io::Result<ExitCode> {
    let program = std::env::current_exe()?;
    OpenOptions::new().write(true).create_new(true).open(answers)?;
    let line = Arc::<Mutex<Line>>::default();
    listen_to_signals(&line, answers);
    let lock = || line.lock().unwrap_or_else(PoisonError::into_inner);
    let (mut deaths, mut in_vain, mut began) = (Vec::<Death>::new(), 0, false);
    let mut restarts: u64 = 0;
    loop {
        std::fs::write(answers, "")?;
        let mut command = Command::new(&program);
        command.args(std::env::args_os().skip(1)).arg("--supervised").arg(answers).stdin(Stdio::piped());
        command.arg(format!("--restarts={restarts}"));
        for death in &deaths {
            command.arg(format!("--died={}", death.words()));
        }
        let mut child = command.spawn()?;
        {
            let mut line = lock();
            line.child = child.stdin.take();
            if line.signals > 0 {
                line.say(STOP);
            }
        }
        let pid = child.id();
        let status = child.wait()?;
        lock().child = None;
        let said = Answers::parse(&std::fs::read_to_string(answers)?);
        let told = lock().signals > 0;
        let could_not_begin = said.ended && said.worker_id.is_none() && !status.success();
        if told || said.ended && !(began && could_not_begin) {
            return Ok(code(status));
        }
        if said.worker_id.is_some() {
            began = true;
            deaths.clear(); // it has told of them
        }
        restarts += 1;
        in_vain = if said.worked { 1 } else { in_vain + 1 };
        let pause = pause(in_vain);
        let next = if pause.is_zero() { "at once".to_owned() } else { format!("in {pause:?}") };
        if could_not_begin {
            tracing::warn!("worker process {pid} could not begin; it is started again {next}");
        } else {
            let how = how(status);
            tracing::error!("worker process {pid} died: {how}; it is started again {next}");
            deaths.extend(said.worker_id.map(|worker_id| Death { worker_id, how }));
        }
        let until = Instant::now() + pause;
        while Instant::now() < until {
            if lock().signals > 0 {
                return Ok(ExitCode::SUCCESS);
            }
            thread::sleep(LOOK);
        }
    }
}

/// The first signal is passed on, the second one ends both.
fn listen_to_signals(line: &Arc<Mutex<Line>>, answers: &Path) {
    let (line, answers) = (Arc::clone(line), answers.to_owned());
    let set = ctrlc::set_handler(move || {
        let again = {
            let mut line = line.lock().unwrap_or_else(PoisonError::into_inner);
            line.signals += 1;
            let again = line.signals > 1;
            line.say(if again { END } else { STOP });
            again
        };
        if again {
            // The child ends this process by ending; unless it is stopped, for then it ends when it goes on.
            thread::sleep(AT_LAST);
            let _ = std::fs::remove_file(&answers);
            std::process::exit(super::stop::AT_ONCE.into());
        }
    });
    if let Err(error) = set {
        tracing::warn!("the supervisor cannot pass signals on: {error}");
    }
}

fn pause(in_vain: u32) -> Duration {
    match in_vain.checked_sub(AT_ONCE + 1) {
        None => Duration::ZERO,
        Some(times) => FIRST_PAUSE.saturating_mul(2_u32.saturating_pow(times)).min(LONGEST_PAUSE),
    }
}

fn code(status: ExitStatus) -> ExitCode {
    status.code().and_then(|code| u8::try_from(code).ok()).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// How a process died, in words.
fn how(status: ExitStatus) -> String {
    #[cfg(unix)]
    if let Some(signal) = std::os::unix::process::ExitStatusExt::signal(&status) {
        let name = match signal {
            4 => " (SIGILL: an illegal instruction)",
            6 => " (SIGABRT: it aborted)",
            7 => " (SIGBUS: bad memory access)",
            8 => " (SIGFPE: arithmetic)",
            9 => " (SIGKILL: killed from outside, or for want of memory)",
            11 => " (SIGSEGV: bad memory access)",
            15 => " (SIGTERM)",
            _ => "",
        };
        return format!("signal {signal}{name}");
    }
    match status.code() {
        Some(code) if code < 0 => format!("it ended with the code {code:#x}"),
        Some(code) => format!("it exited with code {code}"),
        None => "nobody knows how".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_while_nothing_is_done() {
        let millis: Vec<u128> = (1..8).map(|n| pause(n).as_millis()).collect();
        assert_eq!(millis, [0, 0, 100, 200, 400, 800, 1600]);
        assert_eq!(pause(u32::MAX), LONGEST_PAUSE);
    }
}
