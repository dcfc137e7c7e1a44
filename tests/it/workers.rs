//! Real worker processes, and what their handlers write down.

use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Worker processes and the file in which their handlers write what they do.
pub(crate) struct Workers {
    url: String,
    folder: tempfile::TempDir,
    pub(crate) children: Vec<Child>,
}

#[derive(Debug)]
pub(crate) struct Entry {
    pub(crate) what: String,
    pub(crate) number: i64,
    pub(crate) pid: u32,
}

impl Workers {
    pub(crate) fn new(url: &str) -> Self {
        Self { url: url.to_owned(), folder: tempfile::tempdir().expect("a folder"), children: Vec::new() }
    }

    pub(crate) fn start(&mut self, args: &[&str]) -> usize {
        let url = self.url.clone();
        self.start_on(&url, args)
    }

    /// One that is begun by a shell, after it has carried this out.
    pub(crate) fn start_after(&mut self, before: &str, args: &[&str]) -> usize {
        let script = format!("{before}; exec \"$0\" \"$@\"");
        let mut command = Command::new("sh");
        command.args(["-c", &script, env!("CARGO_BIN_EXE_test-worker")]).args(args);
        let url = self.url.clone();
        self.spawn(&url, command)
    }

    /// One that reaches the database by another way.
    pub(crate) fn start_on(&mut self, url: &str, args: &[&str]) -> usize {
        self.start_with(url, args, &[])
    }

    /// One that cannot see the others' lock files, as on a machine of its own.
    pub(crate) fn start_elsewhere(&mut self, args: &[&str]) -> usize {
        let temporary = self.folder.path().join(format!("machine-{}", self.children.len()));
        std::fs::create_dir(&temporary).expect("a folder");
        let url = self.url.clone();
        self.start_with(&url, args, &[("TMPDIR", temporary.to_str().expect("a path in UTF-8"))])
    }

    /// One with more in its environment.
    pub(crate) fn start_with(&mut self, url: &str, args: &[&str], environment: &[(&str, &str)]) -> usize {
        let mut command = Command::new(env!("CARGO_BIN_EXE_test-worker"));
        command.args(args).envs(environment.iter().copied());
        self.spawn(url, command)
    }

    /// Another program, in whose environment is what a worker needs.
    pub(crate) fn spawn(&mut self, url: &str, mut command: Command) -> usize {
        let log = std::fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.folder.path().join("log"))
            .expect("a log");
        let child = command
            .env("DATABASE_URL", url)
            .env("TEST_JOURNAL", self.journal_path())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a log"))
            .stderr(log)
            .spawn()
            .expect("starts");
        self.children.push(child);
        self.children.len() - 1
    }

    /// Where they write; it is gone with them.
    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    pub(crate) fn journal_path(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    pub(crate) fn journal(&self) -> Vec<Entry> {
        let text = std::fs::read_to_string(self.journal_path()).unwrap_or_default();
        let complete = text.rsplit_once('\n').map_or("", |(lines, _)| lines);
        complete
            .lines()
            .map(|line| {
                let words: Vec<&str> = line.split(' ').collect();
                Entry {
                    what: words[0].to_owned(),
                    number: words[1].parse().expect("a number"),
                    pid: words[3].parse().expect("a pid"),
                }
            })
            .collect()
    }

    /// How long the journal is.
    pub(crate) fn journal_bytes(&self) -> u64 {
        std::fs::metadata(self.journal_path()).map_or(0, |file| file.len())
    }

    pub(crate) fn signal(&self, at: usize, name: &str) {
        let pid = self.children[at].id().to_string();
        assert!(
            Command::new("kill").args([&format!("-{name}"), &pid]).status().expect("kill runs").success()
        );
    }

    /// Waits for its end and gives its exit code.
    pub(crate) fn end_of(&mut self, at: usize, limit: Duration) -> Option<i32> {
        let began = Instant::now();
        loop {
            if let Some(status) = self.children[at].try_wait().expect("can be asked") {
                return status.code();
            }
            assert!(began.elapsed() < limit, "it does not end within {limit:?}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    pub(crate) fn log(&self) -> String {
        std::fs::read_to_string(self.folder.path().join("log")).unwrap_or_default()
    }

    pub(crate) fn wait(&self, what: &str, limit: Duration, mut until: impl FnMut() -> bool) -> Duration {
        let began = Instant::now();
        while !until() {
            assert!(began.elapsed() < limit, "not within {limit:?}: {what}\n{}", self.log());
            std::thread::sleep(Duration::from_millis(10));
        }
        began.elapsed()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// Of a process so far, as Linux counts it: in hundredths of a second.
pub(crate) fn processor_time(pid: u32) -> Duration {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let (_, figures) = stat.rsplit_once(") ").expect("a name in brackets");
    let figures: Vec<&str> = figures.split(' ').collect();
    let ticks: u64 = figures[11..13].iter().map(|ticks| ticks.parse::<u64>().expect("a number")).sum();
    Duration::from_millis(10 * ticks)
}
