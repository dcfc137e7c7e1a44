//! A database with the tables, the ways to it, and the worker and producer processes.

use std::fs::OpenOptions;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::{Connection, SqliteConnection};
use rustix::process::{Pid, Signal, kill_process};
use taskmq_core::{AnyConnection, Backend, migration};
use taskmq_tests::databases::try_execute;
use taskmq_tests::proxy::Proxy;

use crate::database::Database;
use crate::plan::{PRODUCERS, WORKERS};
use crate::producer::Orders;
use crate::sabotage::{self, Sabotage};
use crate::work::{EFFECTS, JOURNAL, Mix, Topic};

/// So many handlers run at once in each worker.
pub const CONCURRENCY: u32 = 8;
/// So long a worker that is told to stop lets its handlers go on.
pub const SHUTDOWN: Duration = Duration::from_secs(2);

/// The programs that are started.
#[derive(Clone, Copy, Debug)]
pub struct Programs {
    /// The path of `chaos-worker`.
    pub worker: &'static str,
    /// The path of `chaos-producer`.
    pub producer: &'static str,
}

/// Where everything happens. When it is dropped, its processes are ended and the database is gone.
#[derive(Debug)]
pub struct Site {
    backend: Backend,
    folder: PathBuf,
    programs: Programs,
    sabotage: Option<Sabotage>,
    database: Database,
    url: String,
    workers: Vec<WorkerSlot>,
    producers: Vec<ProducerSlot>,
}

#[derive(Debug)]
struct WorkerSlot {
    child: Option<Child>,
    line: Option<Proxy>,
    starts: u32,
}

#[derive(Debug)]
struct ProducerSlot {
    child: Option<Child>,
    line: Option<Proxy>,
    orders: Orders,
    generation: u32,
}

/// What producers are to do.
#[derive(Clone, Copy, Debug)]
pub struct Load {
    /// Of their choices.
    pub seed: u64,
    /// Messages in a second, all producers together.
    pub rate: f64,
    /// How long handlers take.
    pub mix: Mix,
}

impl Site {
    /// A new database with the tables; nothing runs yet. Everything that is written goes into the folder.
    ///
    /// # Panics
    /// When there is no server to be had.
    pub fn new(
        backend: Backend,
        folder: &Path,
        programs: Programs,
        load: Load,
        sabotage: Option<Sabotage>,
    ) -> Self {
        let (database, url) = Database::start(backend, folder, &[]);
        let line = || database.is_server().then(|| Proxy::before(&url).expect("a proxy"));
        let workers = (0..WORKERS).map(|_| WorkerSlot { child: None, line: line(), starts: 0 }).collect();
        let producer = |number: usize| {
            let line = line();
            let way = line.as_ref().map_or(&*url, Proxy::url).to_owned();
            let seed = load.seed.wrapping_add(number as u64);
            let rate = load.rate / PRODUCERS as f64;
            let orders = Orders { url: way, name: String::new(), seed, rate, mix: load.mix };
            ProducerSlot { child: None, line, orders, generation: 0 }
        };
        let producers = (0..PRODUCERS).map(producer).collect();
        let site = Self {
            backend,
            folder: folder.to_owned(),
            programs,
            sabotage,
            database,
            url,
            workers,
            producers,
        };
        let mut conn = site.connect();
        for sql in [migration::up(backend), EFFECTS] {
            try_execute(&mut conn, sql).unwrap_or_else(|error| panic!("{error} in {sql}"));
        }
        site
    }

    /// Which database it is.
    pub fn backend(&self) -> Backend {
        self.backend
    }

    /// Whether its workers break a promise.
    pub fn is_sabotaged(&self) -> bool {
        self.sabotage.is_some()
    }

    /// A connection of one's own.
    ///
    /// # Panics
    /// When the database cannot be reached.
    pub fn connect(&self) -> AnyConnection {
        AnyConnection::establish(&self.url).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Where all journals are.
    pub fn journal(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{name}.journal"))
    }

    /// Whether two workers have consumers of the same topics: the first half has only that of quick messages.
    pub fn are_alike(one: usize, other: usize) -> bool {
        (one < WORKERS / 2) == (other < WORKERS / 2)
    }

    /// Whether no other worker sees this one's lock file. With a server, the last one is on a machine of its own.
    pub fn is_alone_on_its_machine(&self, worker: usize) -> bool {
        self.database.is_server() && worker == WORKERS - 1
    }

    /// Starts a worker.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_worker(&mut self, worker: usize) {
        let topics = if Self::are_alike(worker, 0) {
            "quick".to_owned()
        } else {
            [Topic::Quick, Topic::Slow, Topic::Effect].map(|topic| topic.name(self.backend)).join(",")
        };
        let mut command = Command::new(self.programs.worker);
        command
            .args(["--topics", &topics, "--concurrency", &CONCURRENCY.to_string()])
            .args(["--shutdown-timeout", &format!("{}s", SHUTDOWN.as_secs())])
            .env("DATABASE_URL", self.workers[worker].line.as_ref().map_or(&*self.url, Proxy::url))
            .env(JOURNAL, self.journal("handlers"));
        if let Some(sabotage) = self.sabotage {
            command.env(sabotage::VARIABLE, sabotage.name());
        }
        if self.is_alone_on_its_machine(worker) {
            let temporary = self.folder.join("machine");
            std::fs::create_dir_all(&temporary).expect("a folder");
            command.env("TMPDIR", temporary);
        }
        self.workers[worker].starts += 1;
        let log = OpenOptions::new().create(true).append(true).open(self.log_of(worker)).expect("a log");
        self.workers[worker].child = Some(spawn(command, log));
    }

    /// Starts a producer, whose keys no other has.
    ///
    /// # Panics
    /// When it cannot be started.
    pub fn start_producer(&mut self, producer: usize) {
        let path = self.folder.join("producers.log");
        let log = OpenOptions::new().create(true).append(true).open(path).expect("a log");
        let journal = self.journal("producers");
        let slot = &mut self.producers[producer];
        slot.generation += 1;
        slot.orders.name = format!("{producer}.{}", slot.generation);
        slot.orders.seed = slot.orders.seed.wrapping_add(PRODUCERS as u64);
        let command = slot.orders.command(Path::new(self.programs.producer), &journal);
        slot.child = Some(spawn(command, log));
    }

    fn log_of(&self, worker: usize) -> PathBuf {
        self.folder.join(format!("worker-{worker}.{}.log", self.workers[worker].starts))
    }

    /// What a worker has logged since it was last started.
    pub fn log(&self, worker: usize) -> String {
        std::fs::read_to_string(self.log_of(worker)).unwrap_or_default()
    }

    /// How many errors all workers have logged.
    ///
    /// # Panics
    /// When the folder cannot be read.
    pub fn errors_logged(&self) -> usize {
        let files = std::fs::read_dir(&self.folder).expect("reads the folder");
        let logs = files.map(|file| file.expect("reads the folder").path());
        logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"))
            .filter_map(|path| std::fs::read_to_string(path).ok())
            .map(|log| log.matches(" ERROR ").count())
            .sum()
    }

    /// The process of a worker.
    pub fn worker_pid(&self, worker: usize) -> Option<u32> {
        self.workers[worker].child.as_ref().map(Child::id)
    }

    /// The process of a producer.
    pub fn producer_pid(&self, producer: usize) -> Option<u32> {
        self.producers[producer].child.as_ref().map(Child::id)
    }

    /// Sends a worker a signal.
    ///
    /// # Panics
    /// When there is no such process.
    pub fn signal_worker(&self, worker: usize, signal: Signal) {
        let child = self.workers[worker].child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("can be signalled");
    }

    /// How a worker ended, if it has.
    ///
    /// # Panics
    /// When the operating system does not say.
    pub fn has_ended(&mut self, worker: usize) -> Option<ExitStatus> {
        let status = self.workers[worker].child.as_mut()?.try_wait().expect("can be asked");
        if status.is_some() {
            self.workers[worker].child = None;
        }
        status
    }

    /// Ends a worker with SIGKILL.
    pub fn kill_worker(&mut self, worker: usize) {
        end(&mut self.workers[worker].child);
    }

    /// Ends a producer with SIGKILL.
    pub fn kill_producer(&mut self, producer: usize) {
        end(&mut self.producers[producer].child);
    }

    /// The line between a worker and its server.
    pub fn worker_line(&self, worker: usize) -> Option<&Proxy> {
        self.workers[worker].line.as_ref()
    }

    /// The line between a producer and its server.
    pub fn producer_line(&self, producer: usize) -> Option<&Proxy> {
        self.producers[producer].line.as_ref()
    }

    /// Ends the server with SIGKILL.
    ///
    /// # Panics
    /// When the operating system refuses.
    pub fn kill_server(&mut self) {
        self.database.kill();
    }

    /// Starts it again, and waits until it takes connections.
    ///
    /// # Panics
    /// When it does not.
    pub fn restart_server(&mut self) {
        self.database.restart();
    }

    /// Whether somebody has the lock of the SQLite file and keeps it.
    ///
    /// # Panics
    /// When the file cannot be opened.
    pub fn is_locked(&self) -> bool {
        if self.backend != Backend::Sqlite {
            return false;
        }
        let mut conn = SqliteConnection::establish(&self.url).expect("opens");
        conn.batch_execute("PRAGMA busy_timeout = 1000").expect("sets");
        conn.batch_execute("BEGIN IMMEDIATE; ROLLBACK").is_err()
    }

    /// Tells all workers to stop, and waits for their end.
    ///
    /// # Panics
    /// When one does not end in half a minute.
    pub fn stop_workers(&mut self) {
        let running: Vec<usize> = (0..WORKERS).filter(|&worker| self.worker_pid(worker).is_some()).collect();
        for &worker in &running {
            self.signal_worker(worker, Signal::TERM);
        }
        let began = Instant::now();
        for worker in running {
            while self.has_ended(worker).is_none() {
                assert!(began.elapsed() < Duration::from_secs(30), "worker {worker} does not end");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let workers = self.workers.iter_mut().map(|slot| &mut slot.child);
        workers.chain(self.producers.iter_mut().map(|slot| &mut slot.child)).for_each(end);
    }
}

fn spawn(mut command: Command, log: std::fs::File) -> Child {
    let output = log.try_clone().expect("a log");
    command.stdin(Stdio::null()).stdout(output).stderr(log).spawn().expect("starts")
}

fn end(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}
