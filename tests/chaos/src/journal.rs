//! What happened, written down by whoever did it: one line each, by one `write` to a file that is appended to.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;

use rustix::time::{ClockId, clock_gettime};

/// Nanoseconds of the machine's monotonic clock, which all its processes share.
pub type Nanos = u64;

/// Now.
pub fn now() -> Nanos {
    let time = clock_gettime(ClockId::Monotonic);
    u64::try_from(time.tv_sec).unwrap_or_default() * 1_000_000_000
        + u64::try_from(time.tv_nsec).unwrap_or_default()
}

/// Something that happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// When.
    pub at: Nanos,
    /// What.
    pub event: Event,
}

/// What a line tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A producer is about to produce a message.
    Attempt {
        /// The message's key.
        key: String,
        /// Its topic.
        topic: String,
        /// Its ordering key, if it has one.
        ordering: Option<String>,
    },
    /// And this became of it.
    Produced {
        /// The message's key.
        key: String,
        /// What.
        outcome: Outcome,
    },
    /// A handler begins or ends.
    Handler {
        /// Which.
        step: Step,
        /// The message's key.
        key: String,
        /// The lease: the worker's incarnation and the attempt.
        lease: Lease,
        /// The worker's process.
        pid: u32,
    },
    /// The nemesis strikes.
    Fault {
        /// Its number.
        id: usize,
        /// What is done.
        kind: FaultKind,
        /// To which process; to all of them if there is none.
        pid: Option<u32>,
    },
    /// And it is over.
    Healed {
        /// The fault's number.
        id: usize,
    },
}

/// What became of producing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The message is committed.
    Ok,
    /// It is not.
    Failed,
    /// The connection died before the answer came.
    Unknown,
}

/// Of a handler.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// It begins.
    Start,
    /// It has succeeded.
    End,
    /// It has failed, as it was to.
    Fail,
}

/// A worker's incarnation and the attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Lease {
    /// The worker's id.
    pub worker: i64,
    /// From 1.
    pub attempt: i32,
}

/// What the nemesis does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum FaultKind {
    /// SIGKILL to a worker that others of its machine see.
    Kill,
    /// SIGKILL to a worker that is alone on its machine.
    KillFar,
    /// SIGTERM to a worker.
    Stop,
    /// SIGSTOP to a worker, and SIGCONT later.
    Pause,
    /// It was stopped while it held the lock of the SQLite file, so that nobody can write.
    Locked,
    /// A worker's connections are reset.
    Reset,
    /// Everything between a worker and its server is dropped.
    Cut,
    /// SIGKILL to the server.
    Server,
    /// SIGKILL to a producer.
    Producer,
    /// A producer's connections are reset.
    ProducerReset,
}

impl FaultKind {
    /// All of them.
    pub const ALL: [Self; 10] = [
        Self::Kill,
        Self::KillFar,
        Self::Stop,
        Self::Pause,
        Self::Locked,
        Self::Reset,
        Self::Cut,
        Self::Server,
        Self::Producer,
        Self::ProducerReset,
    ];

    /// As it stands in the journal.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kill => "kill",
            Self::KillFar => "kill-far",
            Self::Stop => "stop",
            Self::Pause => "pause",
            Self::Locked => "locked",
            Self::Reset => "reset",
            Self::Cut => "cut",
            Self::Server => "server",
            Self::Producer => "producer",
            Self::ProducerReset => "producer-reset",
        }
    }
}

impl Event {
    /// The message that it is about.
    pub fn key(&self) -> Option<&str> {
        match self {
            Self::Attempt { key, .. } | Self::Produced { key, .. } | Self::Handler { key, .. } => Some(key),
            Self::Fault { .. } | Self::Healed { .. } => None,
        }
    }
}

impl fmt::Display for Lease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}-{}", self.worker, self.attempt)
    }
}

impl Lease {
    /// Of what [`Context::lease_token`](taskmq_core::Context::lease_token) gives.
    pub fn parse(token: &str) -> Option<Self> {
        let (worker, attempt) = token.split_once('-')?;
        let worker = u64::from_str_radix(worker, 16).ok()?.cast_signed();
        Some(Self { worker, attempt: attempt.parse().ok()? })
    }
}

impl fmt::Display for Entry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.at)?;
        match &self.event {
            Event::Attempt { key, topic, ordering } => {
                write!(f, "attempt {key} {topic} {}", ordering.as_deref().unwrap_or("-"))
            }
            Event::Produced { key, outcome } => {
                let outcome = match outcome {
                    Outcome::Ok => "ok",
                    Outcome::Failed => "failed",
                    Outcome::Unknown => "unknown",
                };
                write!(f, "{outcome} {key}")
            }
            Event::Handler { step, key, lease, pid } => {
                let step = match step {
                    Step::Start => "start",
                    Step::End => "end",
                    Step::Fail => "fail",
                };
                write!(f, "{step} {key} {lease} {pid}")
            }
            Event::Fault { id, kind, pid } => {
                write!(f, "fault {id} {} ", kind.name())?;
                match pid {
                    Some(pid) => pid.fmt(f),
                    None => f.write_str("*"),
                }
            }
            Event::Healed { id } => write!(f, "healed {id}"),
        }
    }
}

impl Entry {
    /// One line; None if it is none.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let at = words.next()?.parse().ok()?;
        let what = words.next()?;
        let mut word = || words.next().map(str::to_owned);
        let produced = |key, outcome| Some(Event::Produced { key, outcome });
        let handler = |step, mut word: &mut dyn FnMut() -> Option<String>| {
            let word = &mut word;
            let (key, lease, pid) = (word()?, Lease::parse(&word()?)?, word()?.parse().ok()?);
            Some(Event::Handler { step, key, lease, pid })
        };
        let event = match what {
            "attempt" => Event::Attempt {
                key: word()?,
                topic: word()?,
                ordering: word().filter(|ordering| ordering != "-"),
            },
            "ok" => produced(word()?, Outcome::Ok)?,
            "failed" => produced(word()?, Outcome::Failed)?,
            "unknown" => produced(word()?, Outcome::Unknown)?,
            "start" => handler(Step::Start, &mut word)?,
            "end" => handler(Step::End, &mut word)?,
            "fail" => handler(Step::Fail, &mut word)?,
            "fault" => {
                let (id, kind, pid) = (word()?.parse().ok()?, word()?, word()?);
                let kind = FaultKind::ALL.into_iter().find(|known| known.name() == kind)?;
                Event::Fault { id, kind, pid: if pid == "*" { None } else { Some(pid.parse().ok()?) } }
            }
            "healed" => Event::Healed { id: word()?.parse().ok()? },
            _ => return None,
        };
        Some(Self { at, event })
    }

    /// All of a journal, whose last line may not be whole.
    ///
    /// # Panics
    /// When another line is none: then nothing can be concluded from it.
    pub fn parse_all(text: &str) -> Vec<Self> {
        let whole = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        let parse = |line| Self::parse(line).unwrap_or_else(|| panic!("not a line of a journal: {line}"));
        whole.lines().map(parse).collect()
    }
}

/// A file to write into.
#[derive(Debug)]
pub struct Journal {
    file: File,
}

impl Journal {
    /// Opens it for appending; makes it if it is not there.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn open(path: &Path) -> io::Result<Self> {
        Ok(Self { file: OpenOptions::new().create(true).append(true).open(path)? })
    }

    /// Writes that this happened now.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn write(&self, event: Event) -> io::Result<()> {
        self.write_all([event])
    }

    /// Writes that these happened now.
    ///
    /// # Errors
    /// What the operating system reports.
    pub fn write_all(&self, events: impl IntoIterator<Item = Event>) -> io::Result<()> {
        let at = now();
        let lines: String = events.into_iter().map(|event| format!("{}\n", Entry { at, event })).collect();
        (&self.file).write_all(lines.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let lease = Lease { worker: -2, attempt: 3 };
        let key = "1-2".to_owned();
        let events = [
            Event::Attempt { key: key.clone(), topic: "quick".to_owned(), ordering: None },
            Event::Attempt { key: key.clone(), topic: "quick".to_owned(), ordering: Some("k".to_owned()) },
            Event::Produced { key: key.clone(), outcome: Outcome::Ok },
            Event::Produced { key: key.clone(), outcome: Outcome::Failed },
            Event::Produced { key: key.clone(), outcome: Outcome::Unknown },
            Event::Handler { step: Step::Start, key: key.clone(), lease, pid: 7 },
            Event::Handler { step: Step::End, key: key.clone(), lease, pid: 7 },
            Event::Handler { step: Step::Fail, key, lease, pid: 7 },
            Event::Fault { id: 4, kind: FaultKind::Pause, pid: Some(7) },
            Event::Fault { id: 5, kind: FaultKind::Server, pid: None },
            Event::Healed { id: 4 },
        ];
        let entries: Vec<Entry> = events.into_iter().map(|event| Entry { at: 9, event }).collect();
        let text: String = entries.iter().map(|entry| format!("{entry}\n")).collect();
        assert_eq!(Entry::parse_all(&format!("{text}12 star")), entries);
    }

    #[test]
    #[should_panic(expected = "not a line of a journal: 9 begun 1-2")]
    fn what_is_no_line_is_not_passed_over() {
        Entry::parse_all("9 begun 1-2\n9 ok 1-2\n");
    }
}
