//! What keys change, and what is asked before.

use std::time::Duration;

use taskmq_core::broker::{NoteId, Selection};
use taskmq_core::overview::Count;
use taskmq_core::{BrokerConnection, State};

use super::Watched;
use crate::selection::{count_within, counted};

impl Watched {
    /// As the screen does while no key is pressed.
    fn finish(&mut self) {
        while self.app.bulk.is_some() {
            self.app.go_on(&mut self.conn).expect("goes on");
        }
    }

    /// 1,200 more of one topic.
    fn bury(&mut self) {
        self.execute(
            "WITH RECURSIVE n (id) AS (SELECT 1000 UNION ALL SELECT id + 1 FROM n WHERE id < 2199)
             INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, worker_id, attempts, crashes, payload)
             SELECT id, 'play', 'dead', 0, '2026-01-01 00:00:00.000', '2026-01-01 00:00:00.000', 0, 3, 0, '1' FROM n",
        );
    }

    /// What the newest note says: the action, and of how many messages.
    fn noted(&mut self) -> (String, i64) {
        let note = self.conn.broker().notes(NoteId::MAX, 1).expect("reads").remove(0);
        (note.action, note.messages)
    }
}

#[test]
fn dead_letters_are_changed_after_a_question_that_says_how_many() {
    let mut watched = Watched::new();
    watched.press("jr");
    assert!(watched.shows("retry 2 messages, the dead letters of play?"));
    watched.press("n");
    assert!(watched.shows("nothing was changed"));
    assert_eq!(watched.dead(), 4);
    watched.press("ry");
    watched.finish();
    assert!(watched.shows("made due: 2 messages"));
    assert_eq!(watched.dead(), 2);
    // Tab, Tab: the list of dead letters.
    watched.press("\t\td");
    assert!(watched.shows("delete dead letter 102 of mail?"), "{:#?}", watched.screen(80, 24));
    watched.press("y");
    assert_eq!(watched.dead(), 1);
    let notes = watched.conn.broker().notes(NoteId::MAX, 10).expect("reads");
    let notes: Vec<_> =
        notes.iter().map(|n| (&*n.action, n.topic.as_deref(), n.message_id, n.messages)).collect();
    assert_eq!(notes, [("delete", None, Some(102), 1), ("retry", Some("play"), None, 2)]);
}

#[test]
fn a_change_of_many_goes_on_page_by_page_and_says_how_far_it_is() {
    let mut watched = Watched::new();
    watched.bury();
    watched.press("jr");
    assert!(watched.shows("retry 1,202 messages, the dead letters of play?"));
    watched.press("y");
    assert!(
        watched.shows("retry 0 of 1,202  Esc stop"),
        "nothing is changed in the place where keys are read"
    );
    assert_eq!(watched.dead(), 1204);
    watched.app.go_on(&mut watched.conn).expect("goes on");
    for (width, height) in [(80, 24), (160, 40)] {
        let screen = watched.screen(width, height).join("\n");
        assert!(screen.contains("retry 500 of 1,202  Esc stop"), "{screen}");
    }
    assert_eq!((watched.dead(), watched.noted()), (704, ("retry".to_owned(), 500)));
    // One may look around meanwhile, but do nothing else.
    watched.press("\td\tr\n");
    assert!(watched.app.question.is_none() && watched.shows("attempts, due"));
    watched.press("q");
    assert!(watched.app.bulk.is_some(), "that has closed the dead letter");
    watched.finish();
    assert!(watched.shows("made due: 1202 messages"), "{:#?}", watched.screen(80, 24));
    assert_eq!((watched.dead(), watched.noted()), (2, ("retry".to_owned(), 1202)));
}

#[test]
fn a_change_of_many_is_stopped_between_two_pages() {
    for stop in ["\u{1b}", "q", "Ctrl-C"] {
        let mut watched = Watched::new();
        watched.bury();
        watched.press("jdy");
        watched.app.go_on(&mut watched.conn).expect("goes on");
        if stop == "Ctrl-C" {
            watched.press_ctrl_c()
        } else {
            watched.press(stop)
        }
        let said = "stopped after 500 of 1,202 messages: the rest is as it was";
        assert!(watched.shows(said), "{stop:?}: {:#?}", watched.screen(80, 24));
        assert!(watched.app.bulk.is_none() && !watched.app.ends, "{stop:?}");
        assert_eq!((watched.dead(), watched.noted()), (704, ("delete".to_owned(), 500)));
        watched.press("q");
        assert!(watched.app.ends, "nothing is under way any more");
    }
}

#[test]
fn a_change_of_many_that_fails_says_how_far_it_was() {
    let mut watched = Watched::new();
    watched.bury();
    watched.press("jdy");
    watched.app.go_on(&mut watched.conn).expect("goes on");
    watched.execute(
        "CREATE TRIGGER no BEFORE DELETE ON taskmq_archive BEGIN SELECT RAISE(ABORT, 'no more'); END",
    );
    let error = watched.app.go_on(&mut watched.conn).expect_err("nothing can be deleted");
    watched.app.complain(&error);
    assert!(watched.app.bulk.is_none());
    let said = &watched.app.message;
    assert!(said.starts_with("stopped after 500 of 1,202 messages") && said.contains("no more"), "{said}");
}

#[test]
fn what_is_not_counted_in_time_is_asked_about_all_the_same() {
    let mut watched = Watched::new();
    watched.bury();
    let count = count_within(Duration::ZERO, &mut watched.conn, &Selection::of(State::Dead)).expect("counts");
    assert_eq!(count, Count { number: 500, or_more: true });
    assert_eq!(counted(count), "500 or more");
    let all = count_within(Duration::MAX, &mut watched.conn, &Selection::of(State::Dead)).expect("counts");
    assert_eq!(counted(all), "1,204");
}

#[test]
fn dead_letters_that_come_after_the_question_are_left() {
    let mut watched = Watched::new();
    watched.press("jd");
    let later = "strftime('%Y-%m-%d %H:%M:%f', 'now', '+1 second')";
    watched.execute(&format!(
        "INSERT INTO taskmq_archive (id, topic, state, priority, run_at, created_at, finished_at, worker_id, attempts, crashes, payload)
         VALUES (900, 'play', 'dead', 0, {later}, {later}, {later}, 0, 3, 0, '1')"
    ));
    watched.press("y");
    watched.finish();
    assert!(watched.shows("deleted: 2 messages") && watched.shows("900"), "{:#?}", watched.screen(80, 24));
}

#[test]
fn a_worker_is_drained_after_a_question() {
    let mut watched = Watched::new();
    let draining = |watched: &mut Watched| watched.conn.broker().workers(10).expect("reads")[0].draining;
    watched.press("x");
    assert!(watched.app.question.is_none(), "no worker is selected");
    watched.press("\tx");
    assert!(watched.shows("drain box:77? It takes no more messages, finishes what runs, and ends."));
    watched.press("n");
    assert!(watched.shows("nothing was changed") && !draining(&mut watched));
    watched.press("xy");
    assert!(
        draining(&mut watched) && watched.shows("box:77 draining") && watched.shows("box:77 is told to end")
    );
    assert_eq!(watched.noted().0, "drain");
    watched.press("xy");
    assert!(watched.shows("box:77 was told to end already"));
}
