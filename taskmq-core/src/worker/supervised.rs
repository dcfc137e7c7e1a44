//! A worker under a supervisor: the supervisor speaks through its standard input, and it answers in a file.
//!
//! What was said twice, by a signal to both processes for instance, does no harm.

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use super::stop;
use crate::broker::Peer;
use crate::{AnyConnection, BrokerConnection, Error, Result};

/// What the supervisor says: claim no more, and finish;
pub(super) const STOP: u8 = b's';
/// or end at once.
pub(super) const END: u8 = b'e';

static CURRENT: OnceLock<Supervised> = OnceLock::new();

#[derive(Debug)]
pub(super) struct Supervised {
    answers: PathBuf,
    deaths: Vec<Death>,
    restarts: u64,
    worked: AtomicBool,
}

/// How a process before this one died, which only its supervisor saw.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Death {
    pub(super) worker_id: i64,
    pub(super) how: String,
}

/// What a process has told its supervisor.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Answers {
    /// As which worker it worked last.
    pub(super) worker_id: Option<i64>,
    /// It wrote the outcome of a message.
    pub(super) worked: bool,
    /// It ended by itself.
    pub(super) ended: bool,
}

/// Begins to listen to the supervisor.
pub(super) fn begin(answers: &Path, deaths: &[Death], restarts: u64) -> Result<()> {
    let supervised = Supervised {
        answers: answers.to_owned(),
        deaths: deaths.to_vec(),
        restarts,
        worked: AtomicBool::new(false),
    };
    let _ = CURRENT.set(supervised);
    thread::Builder::new()
        .name("taskmq-supervised".to_owned())
        .spawn(listen)
        .map_err(|e| Error::Configuration(format!("cannot start the thread for the supervisor: {e}")))?;
    Ok(())
}

fn listen() {
    let mut word = [0];
    loop {
        match std::io::stdin().read(&mut word) {
            Ok(1..) if word == [STOP] => stop::stop_all(),
            Ok(1..) if word == [END] => stop::end_at_once(),
            Ok(1..) => {}
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => {
                tracing::warn!("the supervisor is gone: stopping");
                if let Some(supervised) = CURRENT.get() {
                    let _ = std::fs::remove_file(&supervised.answers);
                }
                return stop::stop_all();
            }
        }
    }
}

/// Gives back what the dead held, whom their supervisor saw die, and says how they died where a message is to blame.
pub(super) fn explain_deaths(conn: &mut AnyConnection, peers: &[Peer]) -> Result<()> {
    for death in CURRENT.get().iter().flat_map(|supervised| &supervised.deaths) {
        if let Some(peer) = peers.iter().find(|peer| peer.id == death.worker_id) {
            conn.broker().rescue(peer)?;
        }
        conn.broker().explain_death(death.worker_id, &death.how)?;
    }
    Ok(())
}

/// How often the supervisor had to start a worker again.
pub(super) fn restarts() -> u64 {
    CURRENT.get().map_or(0, |supervised| supervised.restarts)
}

/// This process works as this worker now.
pub(super) fn works_as(worker_id: i64) {
    answer(&format!("worker {worker_id}"));
}

/// An outcome was written.
pub(super) fn worked() {
    if CURRENT.get().is_some_and(|supervised| !supervised.worked.swap(true, Ordering::Relaxed)) {
        answer("worked");
    }
}

/// It ends by itself, and needs no successor.
pub(super) fn ended() {
    answer("ended");
}

fn answer(words: &str) {
    let Some(supervised) = CURRENT.get() else { return };
    let file = OpenOptions::new().append(true).open(&supervised.answers);
    if let Err(error) = file.and_then(|mut file| file.write_all(format!("{words}\n").as_bytes())) {
        tracing::debug!("cannot answer the supervisor: {error}");
    }
}

impl Answers {
    pub(super) fn parse(text: &str) -> Self {
        let mut answers = Self::default();
        for line in text.lines() {
            match line {
                "worked" => answers.worked = true,
                "ended" => answers.ended = true,
                _ => answers.worker_id = line.strip_prefix("worker ").and_then(|id| id.parse().ok()),
            }
        }
        answers
    }
}

impl Death {
    pub(super) fn words(&self) -> String {
        format!("{}:{}", self.worker_id, self.how)
    }

    pub(super) fn parse(words: &str) -> Result<Self, String> {
        let (id, how) = words.split_once(':').ok_or("it must be ID:HOW")?;
        let worker_id = id.parse().map_err(|_| "the id must be a number".to_owned())?;
        Ok(Self { worker_id, how: how.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_understood() {
        assert_eq!(Answers::parse(""), Answers::default());
        let answers = Answers::parse("worker -5\nworked\nworker 7\nended\n");
        assert_eq!(answers, Answers { worker_id: Some(7), worked: true, ended: true });
    }

    #[test]
    fn a_death_survives_the_command_line() {
        let death = Death { worker_id: -7, how: "it exited: with code 3".to_owned() };
        assert_eq!(Death::parse(&death.words()), Ok(death));
        assert!(Death::parse("seven:x").is_err());
    }
}
