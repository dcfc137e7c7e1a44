//! A database with the tables, workers of which there may be many, and what was produced.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use taskmq_core::{AnyConnection, Backend, BrokerConnection, migration, produce_many};
use taskmq_tests::databases::try_execute;

use crate::database::Database;
use crate::journal::now;
use crate::loads::tally::{Produced, Tally};
use crate::loads::work::{ATTEMPTS, Topic};
use crate::run::name_of;
use crate::work::JOURNAL;

/// What is over is acknowledged by then.
const DRAIN: Duration = Duration::from_secs(120);
/// Where the test itself had to wait so long for an answer, it was the machine that kept the workers waiting, too.
const STALL: Duration = Duration::from_secs(3);

/// Where everything happens. When it is dropped, its processes are ended and the database is gone.
#[derive(Debug)]
pub struct Ground {
    /// Which database.
    pub backend: Backend,
    /// What handlers have done.
    pub tally: Tally,
    /// What they are to do.
    pub produced: Vec<Produced>,
    folder: PathBuf,
    program: &'static str,
    url: String,
    workers: Vec<Child>,
    slowest: Duration,
    // Last, so that the workers end before it.
    _database: Database,
}

impl Ground {
    /// A new database in a folder of its own below this one. A server has these options on its command line.
    ///
    /// # Panics
    /// When there is no server to be had.
    pub fn new(backend: Backend, below: &str, program: &'static str, options: &[&str]) -> Self {
        let folder = Path::new(below).join(format!("load-{}-{:08x}", name_of(backend), fastrand::u32(..)));
        std::fs::create_dir_all(&folder).expect("a folder");
        let (database, url) = Database::start(backend, &folder, options);
        let tally = Tally::of(&folder.join("handlers.journal"));
        let ground = Self {
            backend,
            tally,
            produced: Vec::new(),
            folder,
            program,
            url,
            workers: Vec::new(),
            slowest: Duration::ZERO,
            _database: database,
        };
        try_execute(&mut ground.connect(), migration::up(backend)).expect("the tables");
        ground
    }

    /// A connection of one's own.
    ///
    /// # Panics
    /// When the database cannot be reached.
    pub fn connect(&self) -> AnyConnection {
        AnyConnection::establish(&self.url).unwrap_or_else(|error| panic!("{error}"))
    }

    /// Starts so many workers more, for the topics of [`Topic`].
    ///
    /// # Panics
    /// When they cannot be started.
    pub fn start_workers(&mut self, number: usize) {
        for _ in 0..number {
            let log = self.folder.join(format!("worker-{}.log", self.workers.len()));
            let log = File::create(log).expect("a log");
            let mut command = Command::new(self.program);
            command
                .args(["--topics", "load,storm,calm"])
                .env("DATABASE_URL", &self.url)
                .env(JOURNAL, self.folder.join("handlers.journal"))
                .stdin(Stdio::null())
                .stdout(log.try_clone().expect("a log"))
                .stderr(log);
            self.workers.push(command.spawn().expect("starts"));
        }
    }

    /// The processes of the workers.
    pub fn pids(&self) -> Vec<u32> {
        self.workers.iter().map(Child::id).collect()
    }

    /// Waits until all workers are there.
    ///
    /// # Panics
    /// When they are not after a minute.
    pub fn wait_for_workers(&self) {
        let mut conn = self.connect();
        let began = Instant::now();
        while conn.broker().workers(1_000).expect("reads").len() < self.workers.len() {
            assert!(began.elapsed() < Duration::from_secs(60), "{}", self.end_of_logs());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Produces so many at once; each is to fail so often as the function says.
    ///
    /// # Panics
    /// When the database refuses them.
    pub fn produce(
        &mut self,
        conn: &mut AnyConnection,
        topic: Topic,
        number: usize,
        failures: impl Fn(usize) -> u32,
    ) {
        let from = self.produced.len();
        let at = now();
        self.produced.extend((from..from + number).map(|number| Produced { at, failures: failures(number) }));
        let messages = (from..).zip(&self.produced[from..]);
        let messages = messages.map(|(number, message)| topic.message(number, message.failures));
        let began = Instant::now();
        produce_many(conn, messages).expect("produces");
        self.slowest = self.slowest.max(began.elapsed());
    }

    /// Waits until so many messages are over, and says how long it took.
    ///
    /// # Panics
    /// When they are not in this time.
    pub fn wait_until_over(&mut self, number: usize, most: Duration) -> Duration {
        let began = Instant::now();
        loop {
            self.tally.read();
            if self.tally.over() >= number {
                return began.elapsed();
            }
            let over = self.tally.over();
            assert!(
                began.elapsed() < most,
                "{over} of {number} are over after {most:?}\n{}",
                self.end_of_logs()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// How many are live.
    ///
    /// # Panics
    /// When the database does not say.
    pub fn live(&self) -> i64 {
        let topics = self.connect().broker().topics().expect("reads");
        topics.iter().map(|topic| topic.ready + topic.scheduled + topic.running + topic.retrying).sum()
    }

    /// Waits until so many are live and no more, for as long as there is.
    ///
    /// # Panics
    /// When the database does not say.
    pub fn wait_for_live(&self, number: i64) {
        let began = Instant::now();
        while self.live() > number && began.elapsed() < DRAIN {
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until what is over is acknowledged too, tells all workers to stop, and demands that each message was counted
    /// as it was to be, that no worker ended before, and that none has logged an error.
    ///
    /// # Panics
    /// When it is otherwise.
    pub fn finish(mut self) {
        self.wait_for_live(0);
        assert_eq!(self.live(), 0, "what is over is acknowledged\n{}", self.end_of_logs());
        let topics = self.connect().broker().topics().expect("reads");
        let dead = self.produced.iter().filter(|message| message.failures >= ATTEMPTS).count();
        assert_eq!(
            topics.iter().map(|topic| topic.dead).sum::<i64>(),
            dead as i64,
            "each is kept that was to die"
        );
        self.stop_workers();
        self.tally.read();
        let wrong = self.tally.wrong(&self.produced);
        let first = &wrong[..wrong.len().min(10)];
        assert!(wrong.is_empty(), "{} messages, in {}: {first:?}", wrong.len(), self.folder.display());
        self.remove();
    }

    /// Demands that no worker has logged an error, but that messages are dead or the
    /// machine stood still, and removes what is not needed.
    ///
    /// # Panics
    /// When one has.
    pub fn remove(mut self) {
        self.stop_workers();
        let is_excused = |line: &str| {
            line.contains(" is dead after ")
                || (self.slowest >= STALL && line.contains("the database has not answered for "))
        };
        let errors =
            self.said(|line| (line.contains(" ERROR ") && !is_excused(line)) || line.contains("panicked"));
        assert!(errors.is_empty(), "in {}: {errors}", self.folder.display());
        std::fs::remove_dir_all(&self.folder).expect("removes what is not needed");
    }

    /// How many warnings the workers have logged.
    pub fn warnings(&self) -> usize {
        self.said(|line| line.contains(" WARN ")).lines().count()
    }

    fn stop_workers(&mut self) {
        for worker in &mut self.workers {
            let ended = worker.try_wait().expect("can be asked");
            assert!(ended.is_none(), "a worker ended by itself: {ended:?}");
            kill_process(Pid::from_child(worker), Signal::TERM).expect("can be signalled");
        }
        for mut worker in self.workers.drain(..) {
            let status = worker.wait().expect("ends");
            assert!(status.success(), "a worker ended with {status}");
        }
    }

    fn end_of_logs(&self) -> String {
        let said = self.said(|line| line.contains(" WARN ") || line.contains(" ERROR "));
        let lines: Vec<&str> = said.lines().collect();
        format!("in {}:\n{}", self.folder.display(), lines[lines.len().saturating_sub(20)..].join("\n"))
    }

    fn said(&self, which: impl Fn(&str) -> bool) -> String {
        let files = std::fs::read_dir(&self.folder).expect("reads the folder");
        let logs = files.map(|file| file.expect("reads the folder").path());
        let logs = logs.filter(|path| path.extension().is_some_and(|extension| extension == "log"));
        let texts: Vec<String> = logs.filter_map(|path| std::fs::read_to_string(path).ok()).collect();
        let lines = texts.iter().flat_map(|text| text.lines());
        lines.filter(|line| which(line)).map(|line| format!("{line}\n")).collect()
    }
}

impl Drop for Ground {
    fn drop(&mut self) {
        for worker in &mut self.workers {
            let _ = worker.kill();
            let _ = worker.wait();
        }
    }
}
