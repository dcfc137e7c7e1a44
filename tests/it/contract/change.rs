//! What a person may change.

use std::collections::BTreeSet;
use std::time::Duration;

use taskmq_core::broker::{Action, Note, Noted, Outcome, Refusal, WorkerIdentity};
use taskmq_core::{
    AnyConnection, BrokerConnection, Error, MessageId, NewMessage, Retention, State, produce, produce_many,
};
use taskmq_tests::databases::TestDatabase;

use super::admin::{dead, state};
use super::{claim, claim_batch, end, retry, worker};

each_database! {
    each_action_is_done_to_messages_that_allow_it,
    a_cancelled_message_lives_again_at_its_time,
    only_one_of_two_with_the_same_key_is_revived,
    a_message_is_revived_with_all_its_attempts,
    a_time_that_is_over_means_now,
    a_change_is_noted_with_it_or_not_at_all,
    nothing_is_both_claimed_and_deleted,
}

/// A message in each state, running ones in both ways of being leased.
fn one_of_each(conn: &mut AnyConnection, w: &WorkerIdentity) -> Vec<(MessageId, State)> {
    let hour = Duration::from_secs(3600);
    let mut made = Vec::new();
    let mut settled = |conn: &mut AnyConnection, outcome, state| {
        let id = produce(conn, "t", &1).expect("produces");
        let claimed = claim(conn.broker(), w, &["t"], 1).remove(0);
        conn.broker().settle(w, &[end(&claimed, outcome)]).expect("settles");
        made.push((id, state));
    };
    let retry = Outcome::Retry { delay: hour, kind: "error", error: "no".to_owned() };
    settled(conn, retry, State::Retrying);
    settled(conn, Outcome::Done { result: None, retention: Retention::Forever }, State::Done);
    settled(conn, dead("no"), State::Dead);
    let cancelled = produce(conn, "t", &1).expect("produces");
    conn.broker()
        .change(&Action::Cancel, &[cancelled], Noted::No)
        .expect("changes")
        .one()
        .expect("is waiting");
    made.push((cancelled, State::Cancelled));
    for as_batch in [false, true] {
        made.push((produce(conn, "t", &1).expect("produces"), State::Running));
        let claimed =
            if as_batch { claim_batch(conn.broker(), w, 1) } else { claim(conn.broker(), w, &["t"], 1) };
        assert_eq!(claimed.len(), 1);
    }
    let scheduled = NewMessage::new("t", &1).delay(hour).produce(conn).expect("produces").id();
    made.push((scheduled, State::Scheduled));
    made.push((produce(conn, "t", &1).expect("produces"), State::Ready));
    made
}

fn each_action_is_done_to_messages_that_allow_it(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let soon = conn.broker().now().expect("reads") + Duration::from_secs(600);
    for action in [Action::Retry, Action::Cancel, Action::Delete, Action::Priority(-7), Action::RunAt(soon)] {
        let made = one_of_each(&mut conn, &w);
        let ids: Vec<MessageId> = made.iter().map(|(id, _)| *id).chain([MessageId::MAX]).collect();
        let changed = conn.broker().change(&action, &ids, Noted::No).expect("changes");
        let refusal = |id| changed.refused.iter().find(|(refused, _)| *refused == id).map(|(_, why)| *why);
        assert_eq!(refusal(MessageId::MAX), Some(Refusal::NotThere));
        for (id, before) in made {
            let after = conn.broker().message(id).expect("reads");
            let allowed = action.check(before);
            assert_eq!(refusal(id), allowed.err(), "{action:?} of {before}");
            let asked = (action, before) == (Action::Cancel, State::Running);
            assert_eq!(changed.asked.contains(&id), asked, "{action:?} of {before}");
            assert_eq!(changed.changed.contains(&id), allowed.is_ok() && !asked, "{action:?} of {before}");
            let Some(after) = after else {
                assert_eq!((action, allowed), (Action::Delete, Ok(())));
                assert!(conn.broker().failures(id).expect("reads").is_empty(), "all is gone");
                continue;
            };
            let expected = match (action, before) {
                _ if allowed.is_err() || asked => before,
                (Action::Retry, _) => State::Ready,
                (Action::Cancel, _) => State::Cancelled,
                (Action::RunAt(_), State::Ready) => State::Scheduled,
                _ => before,
            };
            assert_eq!(after.state, expected, "{action:?} of {before}");
            match action {
                Action::Priority(priority) => assert_eq!(after.priority == priority, allowed.is_ok()),
                Action::RunAt(at) => {
                    assert_eq!((after.run_at - at).num_milliseconds() == 0, allowed.is_ok(), "{before}")
                }
                _ => {}
            }
        }
        // So that the next round claims its own.
        conn.broker().change(&Action::Delete, &ids, Noted::No).expect("changes");
    }
}

fn a_cancelled_message_lives_again_at_its_time(db: &TestDatabase) {
    let mut conn = db.connect();
    let later =
        NewMessage::new("t", &1).delay(Duration::from_secs(3600)).produce(&mut conn).expect("produces").id();
    let now = produce(&mut conn, "t", &1).expect("produces");
    let state = |conn: &mut AnyConnection, id| {
        let message = conn.broker().message(id).expect("reads").expect("is there");
        (message.state, message.run_at)
    };
    let (_, due) = state(&mut conn, later);
    let mut change = |action| conn.broker().change(&action, &[later, now], Noted::No).expect("changes");
    change(Action::Cancel);
    change(Action::Retry);
    assert_eq!(state(&mut conn, later), (State::Scheduled, due));
    assert_eq!(state(&mut conn, now).0, State::Ready);
    conn.broker().change(&Action::Retry, &[later], Noted::No).expect("changes");
    assert_eq!(state(&mut conn, later).0, State::Ready);
}

fn only_one_of_two_with_the_same_key_is_revived(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let mut ids = Vec::new();
    for _ in 0..2 {
        ids.push(NewMessage::new("t", &1).unique("k").produce(&mut conn).expect("produces").id());
        let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
        conn.broker().settle(&w, &[end(&claimed, dead("no"))]).expect("settles");
    }
    let changed = conn.broker().change(&Action::Retry, &ids, Noted::No).expect("changes");
    assert_eq!((changed.changed.len(), changed.refused.len()), (1, 1));
    assert_eq!(changed.refused[0].1, Refusal::KeyTaken);
    assert_eq!(state(&mut conn, changed.changed[0]), Some(State::Ready));
    assert_eq!(state(&mut conn, changed.refused[0].0), Some(State::Dead), "it is kept");
}

fn a_message_is_revived_with_all_its_attempts(db: &TestDatabase) {
    let mut conn = db.connect();
    let w = worker(&mut conn, 1);
    let id = NewMessage::new("t", &1).max_attempts(3).priority(4).produce(&mut conn).expect("produces").id();
    let claimed = claim(conn.broker(), &w, &["t"], 1).remove(0);
    conn.broker().settle(&w, &[end(&claimed, dead("no"))]).expect("settles");
    let changed = conn.broker().change(&Action::Retry, &[id, id], Noted::No).expect("changes");
    assert_eq!(changed.changed, [id], "named twice, changed once");
    let message = conn.broker().message(id).expect("reads").expect("is there");
    assert_eq!((message.attempts, message.max_attempts, message.priority), (0, Some(3), 4));
    assert_eq!(conn.broker().failures(id).expect("reads").len(), 1, "its past is kept");
    assert!(
        matches!(retry(conn.broker(), id + 1), Err(Error::Message { id: missing, .. }) if missing == id + 1)
    );
}

fn a_time_that_is_over_means_now(db: &TestDatabase) {
    let mut conn = db.connect();
    let hour = Duration::from_secs(3600);
    let id = NewMessage::new("t", &1).delay(hour).produce(&mut conn).expect("produces").id();
    let ready = produce(&mut conn, "t", &2).expect("produces");
    let due = conn.broker().message(ready).expect("reads").expect("is there").run_at;
    // SQLite counts milliseconds, and of two that are due in the same one the lower id comes first.
    let mut now = due;
    while now < due + Duration::from_millis(2) {
        now = conn.broker().now().expect("reads");
    }
    let action = Action::RunAt(now - Duration::from_secs(86_400));
    conn.broker().change(&action, &[id], Noted::No).expect("changes").one().expect("it waits");
    let message = conn.broker().message(id).expect("reads").expect("is there");
    assert!(message.run_at >= now - Duration::from_millis(1), "it does not overtake what was due before");
    let w = worker(&mut conn, 1);
    assert_eq!(super::ids(&claim(conn.broker(), &w, &["t"], 2)), [ready, id]);
}

fn a_change_is_noted_with_it_or_not_at_all(db: &TestDatabase) {
    let mut conn = db.connect();
    let ids: Vec<MessageId> = (0..3).map(|n| produce(&mut conn, "t", &n).expect("produces")).collect();
    let note = |action| Note {
        actor: "aya 中 <b>",
        action,
        topic: Some("t"),
        message_id: Some(ids[0]),
        details: "why",
        messages: 0,
    };
    conn.broker().change(&Action::Cancel, &ids[..1], Noted::New(&note("cancel"))).expect("changes");
    conn.broker().change(&Action::Cancel, &ids[..1], Noted::New(&note("cancel"))).expect("refuses");
    let under = conn.broker().note(&Note { message_id: None, ..note("delete") }).expect("notes");
    for id in &ids {
        conn.broker().change(&Action::Delete, &[*id], Noted::Under(under)).expect("changes");
    }
    conn.broker().change(&Action::Delete, &ids, Noted::Under(under)).expect("refuses");
    let notes = conn.broker().notes(i64::MAX, 10).expect("reads");
    let seen: Vec<_> = notes.iter().map(|n| (&*n.action, n.message_id, n.messages)).collect();
    assert_eq!(seen, [("delete", None, 3), ("cancel", Some(ids[0]), 1)], "what was refused is not noted");
    assert_eq!(
        (&*notes[1].actor, notes[1].topic.as_deref(), &*notes[1].details),
        ("aya 中 <b>", Some("t"), "why")
    );
    assert_eq!(conn.broker().notes(under, 10).expect("reads").len(), 1);
}

fn nothing_is_both_claimed_and_deleted(db: &TestDatabase) {
    let mut conn = db.connect();
    let total = 1_500_usize;
    produce_many(&mut conn, (0..total).map(|n| NewMessage::new("t", &n))).expect("produces");
    let newest = conn.broker().newest(MessageId::MAX, 1).expect("reads").remove(0).id;
    let first = newest - i64::try_from(total).expect("is small") + 1;
    // From behind, so that deletions and claims meet.
    let ids: Vec<MessageId> = (first..=newest).rev().collect();
    let mut chunks = ids.chunks(7);
    let mut delete = move || {
        let chunk = chunks.next()?;
        Some(conn.broker().change(&Action::Delete, chunk, Noted::No).expect("changes").changed)
    };
    let mut deleted = delete().expect("there are messages");
    let (begun, begins) = std::sync::mpsc::channel();
    let claimed: Vec<MessageId> = std::thread::scope(|scope| {
        let claimers: Vec<_> = [(1, false), (2, true), (3, true)]
            .into_iter()
            .map(|(id, as_batch)| {
                let begun = begun.clone();
                scope.spawn(move || {
                    let mut conn = db.connect();
                    let w = worker(&mut conn, id);
                    let mut mine = Vec::new();
                    loop {
                        let claimed = super::ids(&if as_batch {
                            claim_batch(conn.broker(), &w, 9)
                        } else {
                            claim(conn.broker(), &w, &["t"], 9)
                        });
                        begun.send(()).expect("is heard");
                        if claimed.is_empty() {
                            return mine;
                        }
                        mine.extend(claimed);
                    }
                })
            })
            .collect();
        begins.recv().expect("a claimer begins");
        while let Some(more) = delete() {
            deleted.extend(more);
        }
        claimers.into_iter().flat_map(|c| c.join().expect("claims")).collect()
    });
    assert_eq!(claimed.len() + deleted.len(), total, "each was either claimed or deleted");
    let both: BTreeSet<MessageId> = claimed.iter().chain(&deleted).copied().collect();
    assert_eq!(both.len(), total, "and none was both");
    assert!(!claimed.is_empty() && !deleted.is_empty());
}
