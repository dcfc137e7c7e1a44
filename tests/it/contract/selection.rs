//! The messages that a person means.

use std::time::Duration;

use taskmq_core::broker::{Action, Noted, Outcome, Selection, Spot};
use taskmq_core::{AnyConnection, BrokerConnection, MessageId, NewMessage, State, produce};
use taskmq_tests::databases::TestDatabase;

use super::{claim, end, worker};

each_database! {
    a_selection_is_walked_through_once,
    a_walk_goes_on_from_its_text,
    what_a_walk_changes_hides_nothing,
}

fn walked(conn: &mut AnyConnection, selection: Selection, limit: i64) -> Vec<MessageId> {
    let mut walk = selection.walk();
    let mut ids = Vec::new();
    while let Some(page) = walk.next(conn.broker(), limit).expect("walks") {
        ids.extend(page.into_iter().map(|found| found.id));
    }
    ids
}

/// Nine ready ones in three lanes, two later ones, three dead ones.
fn fill(conn: &mut AnyConnection) -> (Vec<MessageId>, Vec<MessageId>, Vec<MessageId>) {
    let w = worker(conn, 1);
    let dead = ["took 3 s", "took 44 s", "gone"].map(|error| {
        produce(conn, "t", "dead").expect("produces");
        let claimed = claim(conn.broker(), &w, &["t"], 1);
        let outcome = Outcome::Dead { kind: Some("error"), error: error.to_owned() };
        conn.broker().settle(&w, &[end(&claimed[0], outcome)]).expect("settles");
        claimed[0].id
    });
    let lanes = [("t", 5), ("t", 0), ("u", 0)];
    let ready = lanes.iter().flat_map(|(topic, priority)| {
        [0; 3].map(|_| {
            let message = NewMessage::new(*topic, &format!("{topic} {priority}")).priority(*priority);
            message.produce(conn).expect("produces").id()
        })
    });
    let ready = ready.collect();
    let later = ["t", "u"].map(|topic| {
        let message = NewMessage::new(topic, "later").delay(Duration::from_secs(600));
        message.produce(conn).expect("produces").id()
    });
    (ready, later.to_vec(), dead.to_vec())
}

fn a_selection_is_walked_through_once(db: &TestDatabase) {
    let mut conn = db.connect();
    let (ready, later, dead) = fill(&mut conn);
    for limit in [1, 2, 100] {
        assert_eq!(walked(&mut conn, Selection::of(State::Ready), limit), ready);
        assert_eq!(walked(&mut conn, Selection::of(State::Scheduled), limit), later);
        let newest: Vec<MessageId> = dead.iter().rev().copied().collect();
        assert_eq!(walked(&mut conn, Selection::of(State::Dead), limit), newest);
        let mut all: Vec<MessageId> = [&dead[..], &ready, &later].concat();
        all.reverse();
        assert_eq!(walked(&mut conn, Selection::default(), limit), all);
        let topic = Some("u".to_owned());
        let of_topic = Selection { topic: topic.clone(), ..Selection::of(State::Ready) };
        assert_eq!(walked(&mut conn, of_topic, limit), ready[6..]);
        let text = Selection { text: Some("t 5".to_owned()), ..Selection::default() };
        assert_eq!(walked(&mut conn, text, limit), [ready[2], ready[1], ready[0]]);
        let error = Selection { error: Some("took # s".to_owned()), ..Selection::of(State::Dead) };
        assert_eq!(walked(&mut conn, error, limit), [dead[1], dead[0]]);
        assert_eq!(walked(&mut conn, Selection { topic, ..Selection::of(State::Dead) }, limit), []);
        assert_eq!(walked(&mut conn, Selection::of(State::Running), limit), []);
    }
}

fn a_walk_goes_on_from_its_text(db: &TestDatabase) {
    let mut conn = db.connect();
    fill(&mut conn);
    for selection in [Selection::of(State::Ready), Selection::of(State::Dead), Selection::default()] {
        let all = walked(&mut conn, selection.clone(), 100);
        // Behind each message are those that come after it.
        let mut walk = selection.clone().walk();
        let mut at = 0;
        while let Some(page) = walk.next(conn.broker(), 2).expect("walks") {
            for found in page {
                at += 1;
                let text = found.spot.to_string();
                let spot: Spot = text.parse().expect("a spot");
                assert_eq!(spot, found.spot, "{text}");
                let mut rest = selection.clone().walk_from(spot);
                let mut ids = Vec::new();
                while let Some(page) = rest.next(conn.broker(), 100).expect("walks") {
                    ids.extend(page.into_iter().map(|found| found.id));
                }
                assert_eq!(ids, all[at..], "{text}");
            }
        }
        assert_eq!(at, all.len());
    }
    for text in ["", "w.x", "w.1.2.3", "f.99999999999999999999.1", "f.-1.1", "p.", "<b>"] {
        assert!(matches!(text.parse(), Ok(Spot::Start | Spot::Waiting(..))), "{text}");
    }
}

fn what_a_walk_changes_hides_nothing(db: &TestDatabase) {
    let mut conn = db.connect();
    let (ready, later, dead) = fill(&mut conn);
    for (state, action, all) in [
        (State::Scheduled, Action::Retry, later),
        (State::Dead, Action::Retry, dead),
        (State::Ready, Action::Cancel, ready),
    ] {
        let mut walk = Selection::of(state).walk();
        let mut changed = Vec::new();
        while let Some(page) = walk.next(conn.broker(), 1).expect("walks") {
            let ids: Vec<MessageId> = page.iter().map(|found| found.id).collect();
            changed.extend(conn.broker().change(&action, &ids, Noted::No).expect("changes").changed);
        }
        assert!(all.iter().all(|id| changed.contains(id)), "{state}: {changed:?}");
        changed.sort_unstable();
        changed.dedup();
        let left = walked(&mut conn, Selection::of(state), 100);
        assert!(left.is_empty(), "{state}: {left:?} left");
    }
}
