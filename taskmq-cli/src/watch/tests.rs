//! The screen on real data.

mod changes;
mod figures;

use diesel::Connection;
use diesel::connection::SimpleConnection;
use ratatui::Terminal;
use ratatui::backend::TestBackend;
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyModifiers};
use taskmq_core::broker::Limit;
use taskmq_core::{AnyConnection, Backend, BrokerConnection, NewMessage, State, Workflow, migration};

use super::app::{App, Pane};
use super::screen;

/// Some of everything, and a text that a terminal must not carry out.
const QUEUE: &str = "INSERT INTO taskmq_messages (topic, payload) VALUES ('mail', '1'), ('mail', '2'), ('play', '3');
    INSERT INTO taskmq_messages (topic, payload, worker_id) VALUES ('play', '4', 5);
    INSERT INTO taskmq_workers (id, host, pid, version, topics, concurrency) VALUES (5, 'box', 77, '0', 'play', 8);
    INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, worker_id, attempts, crashes, payload, error)
    SELECT id + 100, topic, 'dead', 0, run_at, created_at, 0, 3, 0, payload, 'broken' || char(27) || '[2J' FROM taskmq_messages";

struct Watched {
    folder: tempfile::TempDir,
    conn: AnyConnection,
    app: App,
}

impl Watched {
    fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let url = folder.path().join("app.db").display().to_string();
        let mut sqlite = diesel::SqliteConnection::establish(&url).expect("a file");
        sqlite.batch_execute(migration::up(Backend::Sqlite)).expect("tables");
        sqlite.batch_execute(QUEUE).expect("rows");
        let mut conn = AnyConnection::establish(&url).expect("connects");
        let mut app = App::new("SQLite".to_owned());
        app.look(&mut conn).expect("looks");
        Self { folder, conn, app }
    }

    fn press(&mut self, keys: &str) {
        for c in keys.chars() {
            let code = match c {
                '\t' => KeyCode::Tab,
                '\n' => KeyCode::Enter,
                '\u{1b}' => KeyCode::Esc,
                c => KeyCode::Char(c),
            };
            self.app.key(KeyEvent::new(code, KeyModifiers::NONE), &mut self.conn).expect("is done");
        }
    }

    fn press_ctrl_c(&mut self) {
        let key = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        self.app.key(key, &mut self.conn).expect("is done");
    }

    /// On the tables, and then looks.
    fn execute(&mut self, sql: &str) {
        #[allow(irrefutable_let_patterns, reason = "when SQLite is the only database")]
        let AnyConnection::Sqlite(sqlite) = &mut self.conn else { panic!("it is SQLite") };
        sqlite.batch_execute(sql).expect("is executed");
        self.app.look(&mut self.conn).expect("looks");
    }

    fn screen(&self, width: u16, height: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal");
        terminal.draw(|frame| screen::draw(frame, &self.app)).expect("draws");
        let buffer = terminal.backend().buffer();
        let line = |y| (0..width).map(|x| buffer[(x, y)].symbol()).collect::<String>();
        (0..height).map(line).collect()
    }

    fn shows(&self, words: &str) -> bool {
        self.screen(80, 24).join("\n").contains(words)
    }

    fn dead(&mut self) -> i64 {
        self.conn.broker().count_finished(State::Dead, 10_000).expect("counts").iter().map(|(_, n)| n).sum()
    }
}

#[test]
fn everything_is_on_the_screen_of_any_size() {
    let watched = Watched::new();
    for (width, height) in [(80, 24), (200, 60), (100, 20)] {
        let screen = watched.screen(width, height).join("\n");
        for words in [
            "SQLite",
            "1 worker",
            "topics 2",
            "READY",
            "mail",
            "play",
            "workers 1",
            "box:77",
            "1/8",
            "dead letters 4",
        ] {
            assert!(screen.contains(words), "{words} in {width}x{height}:\n{screen}");
        }
        assert!(screen.contains("broken\\u{1b}") && !screen.contains('\u{1b}'), "{screen}");
    }
    // What has no room is left out; nothing panics.
    for (width, height) in [(1, 1), (20, 5), (40, 12)] {
        watched.screen(width, height);
    }
}

#[test]
fn a_topic_is_paused_and_resumed_by_a_key() {
    let mut watched = Watched::new();
    watched.press("p");
    assert_eq!(watched.conn.broker().paused().expect("reads")[0].topic, "mail");
    assert!(watched.shows("mail paused") && watched.shows("mail is paused:"));
    watched.press("p");
    assert!(watched.conn.broker().paused().expect("reads").is_empty());
    watched.press("jp");
    assert_eq!(watched.conn.broker().paused().expect("reads")[0].topic, "play");
}

#[test]
fn the_whole_error_of_a_dead_letter_is_shown() {
    let mut watched = Watched::new();
    let error = format!("{}the end", "a word ".repeat(50));
    watched.execute(&format!("UPDATE taskmq_archive SET error = '{error}'"));
    watched.press("\t\t");
    assert!(!watched.shows("the end"));
    watched.press("\n");
    assert!(watched.shows("the end") && watched.shows("3 attempts"), "{}", watched.screen(80, 24).join("\n"));
    watched.press("q");
    assert!(!watched.shows("the end") && !watched.app.ends, "any key closes it");
}

#[test]
fn what_is_selected_stays_so_when_the_list_changes() {
    let mut watched = Watched::new();
    watched.press("j");
    assert_eq!(watched.app.selected(Pane::Topics), Some(1), "play");
    NewMessage::new("again", &1).produce(&mut watched.conn).expect("produces");
    watched.app.look(&mut watched.conn).expect("looks");
    assert_eq!(watched.app.selected(Pane::Topics), Some(2), "again, mail, play");
    watched.press("p");
    assert!(watched.shows("play is paused:"));
}

#[test]
fn topics_in_which_something_is_come_first_and_what_was_not_counted_is_told() {
    let mut watched = Watched::new();
    for n in 0..990 {
        NewMessage::new(format!("some{n}"), &1).produce(&mut watched.conn).expect("produces");
    }
    for _ in 0..60 {
        NewMessage::new("some0", &1).produce(&mut watched.conn).expect("produces");
    }
    watched.execute("UPDATE taskmq_workers SET topics = 'aside,play'");
    let screen = watched.screen(80, 24);
    let first = screen.iter().find(|line| line.contains("some0 ")).expect("is shown");
    assert!(first.contains(" 50+ "), "{first}");
    assert_eq!(watched.app.glance.topics.last().map(|topic| &*topic.name), Some("aside"));
}

#[test]
fn all_lanes_are_counted_and_that_there_are_more_is_told() {
    const NUMBERS: &str = "WITH RECURSIVE n (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM n WHERE n < 20000)";
    let mut watched = Watched::new();
    watched.execute(&format!(
        "{NUMBERS} INSERT INTO taskmq_messages (topic, payload) SELECT 'some' || n, '1' FROM n WHERE n <= 1500"
    ));
    assert!(watched.shows("topics 1502 "), "{:#?}", watched.screen(80, 24));
    assert_eq!(watched.app.glance.topics.iter().map(|topic| topic.figures.ready.number).sum::<i64>(), 1503);
    watched.execute(&format!(
        "{NUMBERS} INSERT INTO taskmq_messages (topic, priority, payload) SELECT 'wide', n, '1' FROM n WHERE n <= 18498"
    ));
    assert!(!watched.shows("lanes only"), "these are 20,000");
    NewMessage::new("zebra", &1).produce(&mut watched.conn).expect("produces");
    watched.app.look(&mut watched.conn).expect("looks");
    assert!(
        watched.shows("topics 1504 (what waits is counted in 20000 lanes only)"),
        "{:#?}",
        watched.screen(80, 24)
    );
}

#[test]
fn a_dead_worker_consumes_nothing() {
    let mut watched = Watched::new();
    assert!(watched.shows(" 1 worker ") && !watched.shows("1 dead"));
    // Nobody holds its lock.
    let lock = watched.folder.path().join("app.db-taskmq-0000000000000005.lock");
    std::fs::write(lock, "").expect("a file");
    watched.app.look(&mut watched.conn).expect("looks");
    for words in ["no worker, 1 dead", "workers 0, 1 dead", "1/8 dead"] {
        assert!(watched.shows(words), "{words}: {:#?}", watched.screen(80, 24));
    }
    assert!(watched.app.glance.topics.iter().all(|topic| topic.workers == 0));
    watched.press("\tx");
    assert!(watched.app.question.is_none() && watched.shows("box:77 is dead"));
    watched.press("\n");
    assert!(watched.shows("1 of 8, until another worker gives it back"), "{:#?}", watched.screen(80, 24));
}

#[test]
fn workflows_that_are_not_finished_are_counted() {
    let mut watched = Watched::new();
    assert!(!watched.shows("workflow"));
    for words in ["1 worker, 1 workflow ", "1 worker, 2 workflows "] {
        let workflow = Workflow::new("mails").step("all", NewMessage::new("mail", &1), &[]);
        workflow.produce(&mut watched.conn).expect("produces");
        watched.app.look(&mut watched.conn).expect("looks");
        assert!(watched.shows(words), "{words}");
    }
}

#[test]
fn a_limited_topic_is_marked() {
    let mut watched = Watched::new();
    assert!(!watched.shows("limited"));
    let limit = Limit { running: Some(2), rate: None };
    watched.conn.broker().set_limit("play", &limit, "test").expect("limits");
    // One without any message, too.
    watched.conn.broker().set_limit("later", &limit, "test").expect("limits");
    watched.app.look(&mut watched.conn).expect("looks");
    assert!(watched.shows("play limited") && watched.shows("later limited"));
    assert!(!watched.shows("mail limited"), "{:#?}", watched.screen(80, 24));
}

#[test]
fn keys_are_explained_and_lead_out() {
    let mut watched = Watched::new();
    watched.press("?");
    assert!(watched.shows("pause or resume the selected topic"));
    watched.press("q");
    assert!(!watched.app.ends && !watched.shows("pause or resume the selected topic"));
    watched.press("q");
    assert!(watched.app.ends);
}

#[test]
fn no_text_is_carried_out() {
    let mut watched = Watched::new();
    let evil = "char(27) || ']52;c;aGFjaw==' || char(7) || char(27) || '[2J' || char(13, 10, 155, 8238, 8294, 127, 9)";
    for (table, column) in [
        ("taskmq_workers", "host"),
        ("taskmq_workers", "topics"),
        ("taskmq_archive", "topic"),
        ("taskmq_archive", "error"),
    ] {
        watched.execute(&format!("UPDATE {table} SET {column} = 'evil' || {evil}"));
    }
    watched.execute(&format!("INSERT INTO taskmq_paused (topic, actor) VALUES ('mail', {evil})"));
    for keys in ["", "\n", "q\t", "\n", "qx", "n\t", "\n", "qr", "nd", "np"] {
        watched.press(keys);
        let screen = watched.screen(200, 60);
        assert!(screen.iter().any(|line| line.contains("evil")));
        for line in screen {
            assert!(line.chars().all(taskmq_core::limits::is_printable), "{line:?}");
        }
    }
}
