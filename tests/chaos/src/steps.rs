//! A worker is killed at a certain step of its work: before a request of its reaches the server, before an answer reaches
//! it, or, on SQLite, before it writes to the file or waits for the disk. From the first step to the last, that is every
//! instant at which what others see of it can differ.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use fastrand::Rng;
use rustix::process::{Pid, Signal, kill_process};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage};
use taskmq_tests::databases::{TestDatabase, fresh};
use taskmq_tests::proxy::Proxy;

use crate::check::{check, explain};
use crate::journal::{Entry, Event, FaultKind, Journal, Outcome};
use crate::run::name_of;
use crate::tables::Tables;
use crate::work::{EFFECTS, JOURNAL, Topic, Work};

/// Everything is done by then, whoever was killed.
const DRAIN: Duration = Duration::from_secs(60);
/// What SQLite asks the system that others, or a power cut, can see.
const WRITES: &str = "pwrite64,fdatasync,fsync,ftruncate,unlink";

/// How it went.
#[derive(Debug)]
pub struct Report {
    /// The steps of a worker that is left alone.
    pub steps: u64,
    /// So many workers were killed.
    pub killed: usize,
    /// So many messages were to be handled.
    pub messages: usize,
    /// So many handlers began for them.
    pub begun: usize,
    /// What was not as promised; empty if all was.
    pub explanation: String,
}

struct Steps {
    db: TestDatabase,
    folder: PathBuf,
    program: &'static str,
    producers: Journal,
    faults: Journal,
    killed: usize,
    /// What is to be dead, and nothing else.
    hopeless: Vec<String>,
}

/// Works off the same few messages again and again: at each round a worker is killed at the next of its steps, of which
/// `rounds` are chosen (all, if there are no more), and the worker that comes after it at any.
///
/// # Panics
/// When something goes wrong that is no promise's violation.
pub fn kill_at_steps(backend: Backend, below: &str, program: &'static str, rounds: u64, seed: u64) -> Report {
    let folder =
        Path::new(below).join(format!("steps-{}-{seed}-{:04x}", name_of(backend), fastrand::u16(..)));
    std::fs::create_dir_all(&folder).expect("a folder");
    let journal = |name: &str| folder.join(format!("{name}.journal"));
    let db = fresh(backend);
    db.execute(EFFECTS);
    let mut steps = Steps {
        db,
        program,
        producers: Journal::open(&journal("producers")).expect("opens"),
        faults: Journal::open(&journal("faults")).expect("opens"),
        folder: folder.clone(),
        killed: 0,
        hopeless: Vec::new(),
    };
    let mut rng = Rng::with_seed(seed);
    let all = steps.count();
    for round in 1..=rounds.min(all) {
        // Spread over all of them, each in its part at any place.
        let (from, to) = ((round - 1) * all / rounds.min(all), round * all / rounds.min(all));
        let first = rng.u64(from + 1..=to);
        steps.round(round, &[first, rng.u64(1..=all)]);
    }
    let tables = Tables::read(&mut steps.db.connect()).expect("reads the tables");
    let journal: Vec<Entry> = ["producers", "handlers", "faults"]
        .iter()
        .filter_map(|name| std::fs::read_to_string(journal(name)).ok())
        .flat_map(|text| Entry::parse_all(&text))
        .collect();
    let explanation = steps.explain(&journal, tables);
    let begun = journal
        .iter()
        .filter(|e| matches!(e.event, Event::Handler { step: crate::journal::Step::Start, .. }));
    let report = Report {
        steps: all,
        killed: steps.killed,
        messages: journal.iter().filter(|e| matches!(e.event, Event::Attempt { .. })).count(),
        begun: begun.count(),
        explanation,
    };
    if report.explanation.is_empty() {
        std::fs::remove_dir_all(folder).expect("removes what is not needed");
    }
    report
}

impl Steps {
    /// A few messages of each kind that a worker has a way of its own to end, and one that a schedule produces.
    fn produce(&mut self, round: u64) {
        let backend = self.db.backend();
        let mut conn = self.db.connect();
        let mut number = 0;
        let mut produce =
            |topic: Topic, failures: u32, with: fn(NewMessage<'static>) -> NewMessage<'static>| {
                number += 1;
                let key = format!("{round}.{number}");
                let work = Work { key: key.clone(), millis: 0, failures, filling: String::new() };
                let message = with(topic.message(backend, &work));
                message.produce(&mut conn).expect("produces");
                key
            };
        let mut made = Vec::new();
        for _ in 0..4 {
            made.push((produce(Topic::Quick, 0, |m| m), Topic::Quick, None));
        }
        for _ in 0..2 {
            made.push((produce(Topic::Effect, 0, |m| m), Topic::Effect, None));
        }
        made.push((produce(Topic::Quick, 1, |m| m), Topic::Quick, None));
        made.push((produce(Topic::Effect, 1, |m| m), Topic::Effect, None));
        for _ in 0..3 {
            let key = produce(Topic::Quick, 0, |m| m.ordering_key("k"));
            made.push((key, Topic::Quick, Some(format!("{round}"))));
        }
        self.hopeless.push(produce(Topic::Quick, 1, |m| m.max_attempts(1)));
        let tick = format!("{round}.tick");
        let work = Work { key: tick.clone(), millis: 0, failures: 0, filling: String::new() };
        let payload = serde_json::to_string(&work).expect("is JSON");
        self.db.execute(&format!(
            "INSERT INTO taskmq_schedules (name, topic, payload, cron, since)
             VALUES ('{tick}', 'quick', '{payload}', '0 0 1 1 *', '2020-06-01 00:00:00')"
        ));
        made.push((tick, Topic::Quick, None));
        for (key, topic, ordering) in made {
            let topic = topic.name(backend).to_owned();
            let events = [
                Event::Attempt { key: key.clone(), topic, ordering },
                Event::Produced { key, outcome: Outcome::Ok },
            ];
            self.producers.write_all(events).expect("is written");
        }
    }

    /// The steps of a worker that nobody kills.
    fn count(&mut self) -> u64 {
        self.produce(0);
        if self.db.backend() == Backend::Sqlite {
            let trace = self.folder.join("trace");
            let mut command = traced();
            command.arg("-o").arg(&trace).args(["-e", &format!("trace={WRITES}")]).arg(self.program);
            let worker = self.start(command, self.db.url());
            self.wait(&mut [worker]);
            // Each thread counts its own, and the one that does most gets farthest.
            let mut counts: HashMap<String, u64> = HashMap::new();
            for line in std::fs::read_to_string(trace).expect("a trace").lines() {
                let thread = line.split(' ').next().unwrap_or_default();
                *counts.entry(thread.to_owned()).or_default() += 1;
            }
            return counts.into_values().max().expect("it writes");
        }
        let line = Proxy::before(self.db.url()).expect("a proxy");
        let worker = self.start(Command::new(self.program), line.url());
        self.wait(&mut [worker]);
        line.pieces()
    }

    fn round(&mut self, round: u64, steps: &[u64]) {
        self.produce(round);
        for &step in steps {
            if self.is_over() {
                break;
            }
            let (mut worker, line) = self.start_doomed(step);
            let began = Instant::now();
            let was_killed = loop {
                if worker.try_wait().expect("can be asked").is_some() {
                    break true;
                }
                if self.is_over() || began.elapsed() > DRAIN {
                    break false;
                }
                std::thread::sleep(Duration::from_millis(5));
            };
            let (id, pid) = (self.killed, Some(worker.id()));
            self.killed += usize::from(was_killed);
            // One that was faster ends here; it has nothing left to lose.
            end(&mut worker);
            drop(line);
            let events = [Event::Fault { id, kind: FaultKind::Kill, pid }, Event::Healed { id }];
            self.faults.write_all(events).expect("is written");
        }
        let worker = self.start(Command::new(self.program), self.db.url());
        self.wait(&mut [worker]);
    }

    /// A worker that is killed at this step, if it comes to that.
    fn start_doomed(&self, step: u64) -> (Child, Option<Proxy>) {
        if self.db.backend() == Backend::Sqlite {
            let mut command = traced();
            let inject = format!("inject={WRITES}:signal=KILL:when={step}");
            command.args(["-o", "/dev/null", "-e", &inject, self.program]);
            return (self.start(command, self.db.url()), None);
        }
        let line = Proxy::before(self.db.url()).expect("a proxy");
        let pid = Arc::<OnceLock<Pid>>::default();
        let victim = Arc::clone(&pid);
        line.strike_at(step, move || {
            let _ = kill_process(*victim.wait(), Signal::KILL);
        });
        let worker = self.start(Command::new(self.program), line.url());
        pid.set(Pid::from_child(&worker)).expect("is set once");
        (worker, Some(line))
    }

    fn start(&self, mut command: Command, url: &str) -> Child {
        let log = OpenOptions::new().create(true).append(true).open(self.folder.join("log")).expect("a log");
        let topics = ["quick", Topic::Effect.name(self.db.backend())].join(",");
        command
            .args(["--topics", &topics, "--concurrency", "4"])
            .env("DATABASE_URL", url)
            .env(JOURNAL, self.folder.join("handlers.journal"))
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("starts")
    }

    fn is_over(&self) -> bool {
        let mut conn = self.db.connect();
        let topics = conn.broker().topics().expect("reads");
        let live: i64 = topics.iter().map(|t| t.ready + t.scheduled + t.running + t.retrying).sum();
        live == 0 && has_ticked(&mut conn)
    }

    /// Waits until all is over, and ends the workers.
    fn wait(&self, workers: &mut [Child]) {
        let began = Instant::now();
        while !self.is_over() {
            assert!(began.elapsed() < DRAIN, "it does not come to an end: {}", self.folder.display());
            std::thread::sleep(Duration::from_millis(10));
        }
        for worker in workers {
            // Nothing is left to be lost.
            end(worker);
        }
    }

    /// What was not as promised, if anything.
    fn explain(&self, journal: &[Entry], mut tables: Tables) -> String {
        let is_hopeless = |key: &str| self.hopeless.iter().any(|hopeless| hopeless == key);
        let buried: Vec<_> = tables.finished.extract_if(.., |row| is_hopeless(&row.key)).collect();
        let journal: Vec<Entry> =
            journal.iter().filter(|entry| !entry.event.key().is_some_and(is_hopeless)).cloned().collect();
        let (_, violations) = check(&journal, &tables);
        let mut explanation = explain(&violations, &journal, &tables);
        for key in &self.hopeless {
            let rows: Vec<_> = buried.iter().filter(|row| row.key == *key).collect();
            if !matches!(&rows[..], [row] if row.state == "dead") {
                explanation.push_str(&format!("{key} is to be dead, once: {rows:?}\n"));
            }
        }
        explanation
    }
}

fn has_ticked(conn: &mut AnyConnection) -> bool {
    conn.broker().schedules(None).expect("reads").iter().all(|schedule| schedule.last_message_id.is_some())
}

/// The tracer is the worker's child, and not the other way round: so its process is known.
fn traced() -> Command {
    let mut command = Command::new("strace");
    command.args(["-D", "-f", "-qq"]);
    command
}

fn end(worker: &mut Child) {
    let _ = worker.kill();
    let _ = worker.wait();
}
