//! Commands in a terminal, which the program `script` makes.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::{Duration, Instant};

use crate::database::{execute, migrated};
use crate::host::Host;

/// A command that runs in one.
struct Terminal {
    child: Child,
    keyboard: ChildStdin,
    output: ChildStdout,
    screen: String,
}

impl Terminal {
    fn start(host: &Host, args: &str) -> Self {
        let command = format!("stty rows 24 cols 80; exec '{}' {args}", env!("CARGO_BIN_EXE_taskmq-cli"));
        Self::run(host, &command)
    }

    fn run(host: &Host, command: &str) -> Self {
        let mut child = Command::new("timeout")
            .args(["20", "script", "--quiet", "--return", "--command", command, "/dev/null"])
            .current_dir(host.path(""))
            .env_remove("DATABASE_URL")
            .env("TERM", "xterm")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("timeout and script, which Debian always has");
        let (keyboard, output) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, keyboard, output, screen: String::new() }
    }

    /// Waits until it says this. What is typed before it listens is lost. A live screen says only what is new in it.
    fn says(&mut self, words: &str) {
        while !self.screen.contains(words) {
            assert!(self.read(), "{words}: {}", self.screen);
        }
    }

    fn read(&mut self) -> bool {
        let mut bytes = [0; 4096];
        let read = self.output.read(&mut bytes).expect("reads");
        self.screen.push_str(&String::from_utf8_lossy(&bytes[..read]));
        read > 0
    }

    fn types(&mut self, keys: &[u8]) {
        self.keyboard.write_all(keys).expect("is typed");
    }

    /// All that it said, once it has ended well.
    fn ends(mut self) -> String {
        while self.read() {}
        assert!(self.child.wait().expect("ends").success(), "{}", self.screen);
        self.screen
    }
}

#[cfg(feature = "watch")]
#[test]
fn the_live_screen_leaves_the_terminal_as_it_was() {
    let host = migrated();
    host.run(&["produce", "mail", "1"]);
    host.fails(&["watch"], "watch needs a terminal");
    for key in [b"q", b"\x03"] {
        let mut terminal = Terminal::start(&host, "watch");
        terminal.says("quit");
        terminal.types(key);
        let screen = terminal.ends();
        let left =
            screen.rsplit_once("\u{1b}[?1049l").map(|(shown, _)| shown).expect("the other screen is left");
        assert!(
            left.contains("\u{1b}[?1049h") && screen.contains("\u{1b}[?25h"),
            "and the cursor shown: {screen:?}"
        );
    }
}

/// With as many dead letters as take a while to be changed.
#[cfg(feature = "watch")]
#[test]
fn keys_are_read_while_the_live_screen_changes_many_messages() {
    let host = migrated();
    execute(
        &host,
        "WITH RECURSIVE n (id) AS (SELECT 1 UNION ALL SELECT id + 1 FROM n WHERE id < 100000)
         INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, worker_id, attempts, crashes, payload)
         SELECT id, 'mail', 'dead', 0, '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000', 0, 3, 0, '1' FROM n",
    );
    let mut terminal = Terminal::start(&host, "watch");
    terminal.says("quit");
    terminal.types(b"r");
    terminal.says("sure?");
    terminal.types(b"y");
    terminal.says("stop");
    terminal.types(b"\x03");
    terminal.says("stopped");
    terminal.types(b"q");
    terminal.ends();
    let topic = host.json(&["topics", "--json"])[0].clone();
    let (dead, ready) =
        (topic["dead"].as_i64().expect("a number"), topic["ready"].as_i64().expect("a number"));
    assert!(dead > 0 && dead + ready == 100_000, "{topic}");
}

const DEAD: &str = "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, finished_at, worker_id, attempts, crashes, payload)
    SELECT value, 'mail', 'dead', 0, '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000', AT, 0, 3, 0, '1' FROM json_each('IDS')";

#[test]
fn what_finishes_while_a_question_is_open_is_left() {
    for command in ["retry --state dead", "delete --state dead", "purge --state dead,done"] {
        let host = migrated();
        execute(&host, &DEAD.replace("AT", "'2026-01-02 00:00:00.000'").replace("IDS", "[1, 2]"));
        let mut terminal = Terminal::start(&host, command);
        terminal.says("2 messages? [y/N] ");
        let later = "strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 second')";
        execute(&host, &DEAD.replace("AT", later).replace("IDS", "[3]"));
        terminal.types(b"y\n");
        let said = terminal.ends();
        assert!(said.contains(" 2 messages\r\n"), "{command}: {said:?}");
        let left = host.json(&["messages", "--state", "dead", "--json"]);
        assert_eq!((left[0]["id"].as_i64(), left.as_array().map(Vec::len)), (Some(3), Some(1)), "{command}");
    }
}

#[test]
fn whoever_names_more_than_one_message_is_asked() {
    let host = migrated();
    execute(&host, &DEAD.replace("AT", "'2026-01-02 00:00:00.000'").replace("IDS", "[1, 2, 3]"));
    let mut terminal = Terminal::start(&host, "delete 1 2");
    terminal.says("delete 2 messages? [y/N] ");
    terminal.types(b"y\n");
    assert!(terminal.ends().contains("deleted 2 messages"));
    assert!(
        Terminal::start(&host, "delete 3").ends().contains("deleted 1 message"),
        "that is not asked about"
    );
}

#[test]
fn a_password_is_typed_unseen() {
    let host = migrated();
    let command = format!("tty; exec '{}' admin --hash-password", env!("CARGO_BIN_EXE_taskmq-cli"));
    let mut terminal = Terminal::run(&host, &command);
    terminal.says("password: ");
    let device = terminal.screen.lines().next().expect("its name").trim().to_owned();
    let is_unseen = || {
        let out = Command::new("stty").args(["-a", "-F", &device]).output().expect("runs");
        String::from_utf8_lossy(&out.stdout).contains("-echo ")
    };
    let began = Instant::now();
    while !is_unseen() {
        assert!(began.elapsed() < Duration::from_secs(10), "it is seen");
    }
    terminal.types(b"correct horse\n");
    let said = terminal.ends();
    assert!(said.contains("$argon2id$") && !said.contains("horse"), "{said:?}");
}
