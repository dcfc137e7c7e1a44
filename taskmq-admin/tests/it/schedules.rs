//! The page of schedules.

use axum::http::StatusCode;
use taskmq_core::schedule::Schedule;
use taskmq_core::{BrokerConnection, NewMessage, State};
use taskmq_tests::databases::TestDatabase;

use crate::site::Site;

each_database! {
    schedules_are_shown_with_their_next_ticks,
    a_schedule_runs_is_paused_and_resumed,
    a_schedule_that_cannot_be_read_is_shown,
    whoever_may_only_look_sees_schedules,
}

const NAME: &str = "name=morning";

fn morning(db: &TestDatabase) {
    let message = NewMessage::new("report", &serde_json::json!({ "days": 30 })).unique("one");
    let schedule = message.schedule("morning", "0 7 * * mon-fri").time_zone("Europe/Berlin");
    schedule.store(&mut db.connect()).expect("stores");
}

fn stored(site: &Site) -> Schedule {
    taskmq_core::schedule::list(&mut site.db.connect()).expect("reads").remove(0)
}

fn schedules_are_shown_with_their_next_ticks(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    assert!(site.page("/schedules").contains("There are no schedules"));
    morning(&site.db);
    let body = site.page("/schedules");
    for text in
        ["morning", "report", "0 7 * * mon-fri", "Europe/Berlin", "days", "not yet", "added at run time"]
    {
        assert!(body.contains(text), "{text}: {body}");
    }
    let schedule = stored(&site);
    let cron = schedule.cron().expect("can be read");
    let ticks = schedule.upcoming(5).expect("can be told");
    assert_eq!(ticks.len(), 5);
    for tick in ticks {
        assert!(body.contains(&cron.local(tick)), "{tick}: {body}");
    }
    assert!(site.get_in("zh", "/schedules").body.contains("接下来的运行"));
    assert!(site.page(&format!("/schedules?{NAME}")).contains("report"));
    assert!(site.page("/schedules?name=none").contains("No schedule has such a name"));
    // One that nobody lets tick, and whose consumer's worker is gone.
    site.db.execute("UPDATE taskmq_schedules SET next_at = '2020-01-01 00:00:00', declared_by = 99");
    let body = site.page("/schedules");
    assert!(body.contains("badge late") && body.contains("its worker runs no more"), "{body}");
    crate::site::worker(&mut site.db.connect());
    site.db.execute("UPDATE taskmq_schedules SET declared_by = 7");
    assert!(site.page("/schedules").contains("its consumer <span class=\"muted\">web-1:42"), "{body}");
}

fn a_schedule_runs_is_paused_and_resumed(db: TestDatabase) {
    morning(&db);
    let site = Site::new(db, |admin| admin);
    let send = |name: &str, action: &str| site.post("/schedules", &[("name", name), ("action", action)]);
    let ran = send("morning", "run");
    let notes = site.db.connect().broker().notes(i64::MAX, 1).expect("reads");
    let id = notes[0].message_id.expect("an id");
    site.told(&ran, &format!("/messages/{id}"), "The message was produced.");
    assert_eq!(site.state(id), Some(State::Ready));
    // Its key is taken: nothing more runs, and the page says which message it is.
    let again = send("morning", "run");
    assert_eq!(again.status, StatusCode::CONFLICT);
    assert!(again.body.contains(&format!("messages/{id}")), "{}", again.body);
    for _ in 0..2 {
        site.told(&send("morning", "pause"), "/schedules", "It was paused.");
    }
    assert!(stored(&site).paused);
    let body = site.page("/schedules");
    assert!(body.contains("badge paused") && body.contains("None while it is paused"), "{body}");
    site.told(&send("morning", "resume"), "/schedules", "It goes on.");
    assert!(!stored(&site).paused);
    // The last tick leads to its message while that is there.
    site.db.execute(&format!(
        "UPDATE taskmq_schedules SET last_at = '2026-01-02 03:04:05', last_message_id = {id}"
    ));
    assert!(site.page("/schedules").contains(&format!("href=\"./messages/{id}\"")));
    site.db.execute("UPDATE taskmq_schedules SET last_message_id = 987654");
    assert!(!site.page("/schedules").contains("messages/987654"));
    let notes = site.db.connect().broker().notes(i64::MAX, 100).expect("reads");
    let noted: Vec<_> =
        notes.iter().rev().map(|note| (&*note.actor, &*note.action, &*note.details)).collect();
    let expected = ["run schedule", "run schedule", "pause schedule", "resume schedule"];
    assert_eq!(noted, expected.map(|action| ("kim", action, "morning")));
    assert_eq!(send("evening", "run").status, StatusCode::CONFLICT, "there is none");
    assert_eq!(send("morning", "explode").status, StatusCode::NOT_FOUND);
}

fn a_schedule_that_cannot_be_read_is_shown(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    site.db.execute(
        "INSERT INTO taskmq_schedules (name, topic, payload, cron, time_zone) VALUES (' <b>odd</b> ', 'mail', '1', 'every day', 'Moon')",
    );
    let body = site.page("/schedules");
    assert!(body.contains("&lt;b&gt;odd") && !body.contains("<b>odd"), "{body}");
    assert!(body.contains("no time zone"), "{body}");
    let chinese = site.get_in("zh", "/schedules").body;
    assert!(chinese.contains("没有时区“Moon”") && !chinese.contains("no time zone"), "{chinese}");
    site.db.execute("UPDATE taskmq_schedules SET time_zone = 'UTC'");
    let chinese = site.get_in("zh", "/schedules").body;
    assert!(chinese.contains("Cron 表达式“every day”无效"), "{chinese}");
    // Its name is sent back as it is, with its spaces.
    let paused = site.post("/schedules", &[("name", " <b>odd</b> "), ("action", "pause")]);
    assert_eq!(paused.status, StatusCode::SEE_OTHER, "{}", paused.body);
    assert!(stored(&site).paused);
}

fn whoever_may_only_look_sees_schedules(db: TestDatabase) {
    morning(&db);
    let site = Site::new(db, |admin| admin.read_only(true).hide_payloads(true));
    let body = site.page("/schedules");
    assert!(body.contains("morning") && !body.contains("value=\"run\"") && !body.contains("days"), "{body}");
    let refused = site.post("/schedules", &[("name", "morning"), ("action", "pause")]);
    assert_eq!(refused.status, StatusCode::METHOD_NOT_ALLOWED);
    assert!(!stored(&site).paused);
}
