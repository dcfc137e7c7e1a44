//! Every action and every page, clicked through in a real browser.

use serde_json::json;
use taskmq_core::{BrokerConnection, NewMessage, State};
use taskmq_tests::databases::TestDatabase;

use crate::driver::Browser;
use crate::site::{Served, Site, dead, identity, produce, run, seed};

each_database! {
    everything_can_be_clicked,
    the_schema_of_the_topic_that_is_typed_is_shown,
}

fn the_schema_of_the_topic_that_is_typed_is_shown(db: TestDatabase) {
    let mut conn = db.connect();
    for (topic, title) in [("mail", "A letter <b>"), ("bill", "A bill")] {
        conn.broker().store_schema(topic, &json!({ "title": title }).to_string()).expect("stores");
    }
    let served = Served::new(Site::new(db, |admin| admin));
    let browser = Browser::start();
    browser.open(&served.at("/produce"));
    let schema = || {
        let text = "const it = document.querySelector('details.schema'); return it ? it.textContent : ''";
        browser.script(text, &json!([])).as_str().unwrap_or_default().to_owned()
    };
    assert_eq!(schema(), "");
    browser.fill("topic", "mail");
    browser.until("that of mail is shown", || schema().contains("A letter <b>"));
    browser.click("//summary");
    browser.fill("topic", "bill");
    browser.until("that of bill takes its place", || {
        schema().contains("A bill") && !schema().contains("letter")
    });
    browser.wait("A bill");
    browser.fill("topic", "none");
    browser.until("none is shown", || schema().is_empty());
    assert!(browser.url().ends_with("/produce"), "{}", browser.url());
    browser.is_clean();
}

fn everything_can_be_clicked(db: TestDatabase) {
    let seeded = seed(&db);
    let mut conn = db.connect();
    let report = NewMessage::new("report", &json!({ "days": 1 }));
    report.schedule("morning", "0 7 * * *").store(&mut conn).expect("stores");
    let served = Served::new(Site::new(db, |admin| admin));
    let browser = Browser::start();
    let state_is = |id, state: State| {
        browser.until(&format!("{id} is {state}"), || served.site.state(id) == Some(state));
    };
    // Each page by its link; the live ones become live.
    browser.open(&served.at(""));
    for (link, says) in [
        ("Messages", "All states"),
        ("Dead letters", "grouped by error"),
        ("Workers", "web-1"),
        ("Schedules", "Next runs"),
        ("Changes", "No bulk changes"),
        ("Audit log", "Nothing was changed"),
        ("Produce", "Payload (JSON)"),
        ("Overview", "Throughput"),
    ] {
        browser.click(&format!("//nav//a[normalize-space()='{link}']"));
        browser.wait(says);
        browser.is_clean();
    }
    // Produce, refused first: the form stays filled in.
    browser.click("//nav//a[normalize-space()='Produce']");
    browser.fill("topic", "letter");
    browser.fill("payload", "{\"user\": {\"id\": 42");
    browser.button("Produce");
    browser.wait("The payload is no JSON");
    browser.fill("payload", "{\"user\": {\"id\": 42}}");
    browser.fill("delay", "3600");
    browser.fill("key", "letter:42");
    browser.button("Produce");
    browser.wait("\"id\": 42");
    let id: i64 = browser.url().rsplit('/').next().and_then(|id| id.parse().ok()).expect("an id");
    let message = |id| served.site.db.connect().broker().message(id).expect("reads").expect("is there");
    assert_eq!((message(id).state, message(id).unique_key.as_deref()), (State::Scheduled, Some("letter:42")));
    // Priority, time, run now, cancel, retry.
    browser.fill("priority", "7");
    browser.button("Set priority");
    browser.until("its priority is 7", || message(id).priority == 7);
    browser.set("run_at", "2036-01-02T03:04:05");
    browser.button("Set time");
    browser.until("its time is set", || message(id).run_at.to_rfc3339() == "2036-01-02T03:04:05+00:00");
    browser.button("Run now");
    state_is(id, State::Ready);
    browser.button("Cancel");
    state_is(id, State::Cancelled);
    browser.button("Retry");
    state_is(id, State::Ready);
    // Found again by what its payload has, and by its key.
    browser.open(&served.at("/messages"));
    browser.click("//summary");
    browser.fill("json", "$.user.id = 42");
    browser.button("Search");
    browser.wait(&format!("#{id}"));
    browser.open(&served.at("/messages"));
    browser.fill("key", "letter:42");
    browser.button("Search");
    browser.wait(&format!("#{id}"));
    // A row leads to its message. Deleting asks; who says no has changed nothing.
    browser.click(&format!("//tr[@data-key='{id}']/td[last()]"));
    browser.wait("Timeline");
    browser.button("Delete");
    let question = "const dialog = document.querySelector('dialog');
        return document.getElementById(dialog.getAttribute('aria-labelledby')).textContent";
    assert_eq!(browser.script(question, &json!([])), json!("Delete: 1 message. This cannot be undone."));
    browser.click("//dialog//button[normalize-space()='Back']");
    assert_eq!(served.site.state(id), Some(State::Ready));
    browser.button("Delete");
    browser.click("//dialog//button[normalize-space()='Delete']");
    browser.until("it is deleted", || served.site.state(id).is_none());
    // Some of a list, then all that match.
    browser.open(&served.at("/messages?state=dead"));
    for id in &seeded.dead[..2] {
        browser.click(&format!("//input[@name='id' and @value='{id}']"));
    }
    browser.wait("Selected: 2");
    browser.click("//button[@name='action' and @value='retry']");
    browser.button("Retry: 2 messages");
    state_is(seeded.dead[0], State::Ready);
    state_is(seeded.dead[1], State::Ready);
    browser.button("Back");
    browser.wait("no such user");
    browser.click("//button[@name='all' and @value='delete']");
    browser.button("Delete: 1 message");
    browser.wait("Finished");
    assert_eq!(served.site.state(seeded.dead[2]), None);
    // All dead letters of one error.
    produce(&mut conn_of(&served), "bounce", "x");
    let bounced = run(&mut conn_of(&served), &identity(), "bounce", dead("no such mailbox"));
    browser.click("//nav//a[normalize-space()='Dead letters']");
    browser.wait("no such mailbox");
    browser.click(
        "//*[@role='group' and contains(., 'no such mailbox')]//button[normalize-space()='Retry all']",
    );
    browser.button("Retry: 1 message");
    browser.wait("Finished");
    state_is(bounced, State::Ready);
    // A topic is paused and resumed.
    browser.open(&served.at("/topic?name=bounce"));
    browser.button("Pause");
    browser.wait("no worker takes messages");
    browser.button("Resume");
    browser.until("it is resumed", || conn_of(&served).broker().paused().expect("reads").is_empty());
    // And limited, and its limit lifted.
    browser.fill("running", "5");
    browser.fill("rate", "100/1m");
    browser.button("Set limit");
    browser.wait("Limit over all workers: At once 5, Rate 100/1m, Running 0");
    let limits = || conn_of(&served).broker().limits().expect("reads");
    assert_eq!(limits()[0].limit.to_string(), "5 at once, 100/1m");
    browser.button("Lift limit");
    browser.until("it is lifted", || limits().is_empty());
    // A schedule is paused, resumed, and runs now.
    browser.click("//nav//a[normalize-space()='Schedules']");
    browser.button("Pause");
    browser.wait("None while it is paused");
    browser.button("Resume");
    browser.until("it ticks", || !browser.text().contains("None while it is paused"));
    browser.button("Run now");
    browser.wait("\"days\": 1");
    // A worker is told to end, after a question. It has beaten lately.
    assert!(conn_of(&served).broker().beat(identity().id, None).expect("beats"));
    browser.click("//nav//a[normalize-space()='Workers']");
    browser.button("Drain");
    browser.click("//dialog//button[normalize-space()='Drain']");
    browser.wait("draining");
    assert!(conn_of(&served).broker().workers(10).expect("reads")[0].draining);
    // Colours and language, which stay; and all of it is in the audit log.
    browser.click("//button[@value='dark']");
    browser.until("it is dark", || {
        browser.script("return document.documentElement.dataset.theme", &json!([])) == json!("dark")
    });
    browser.click("//button[@value='zh']");
    browser.wait("审计日志");
    browser.click("//button[@value='en']");
    browser.click("//nav//a[normalize-space()='Audit log']");
    for action in [
        "produce",
        "priority",
        "run at",
        "retry",
        "cancel",
        "delete",
        "pause",
        "resume",
        "limit",
        "lift limit",
        "drain",
    ] {
        browser.wait(action);
    }
    browser.is_clean();
    by_the_keyboard_alone(&served, &browser);
}

fn by_the_keyboard_alone(served: &Served, browser: &Browser) {
    // Whatever has the focus gets them.
    let press = |keys: &[&str]| {
        let event = "document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: arguments[0], bubbles: true }))";
        keys.iter().for_each(|key| drop(browser.script(event, &json!([key]))));
    };
    press(&["g", "s"]);
    browser.until("the page of schedules", || browser.url().ends_with("/schedules"));
    press(&["g", "m"]);
    browser.until("the page of messages", || browser.url().ends_with("/messages"));
    browser.wait("All states");
    // The row has the focus, so it is read out.
    let at = || browser.script("return document.activeElement.dataset.key ?? null", &json!([]));
    let row = |n: u32| {
        browser.script("return document.querySelectorAll('tbody tr')[arguments[0]].dataset.key", &json!([n]))
    };
    for (key, expected) in [("j", 0), ("j", 1), ("k", 0), ("k", 0)] {
        press(&[key]);
        assert_eq!(at(), row(expected), "{key}");
    }
    press(&["Enter"]);
    browser.wait("Timeline");
    // Not in a field, where they are text.
    browser.open(&served.at("/messages"));
    browser.script("document.querySelector('[name=topic]').focus()", &json!([]));
    press(&["j", "g", "w"]);
    assert_eq!(browser.script("return document.activeElement.name", &json!([])), json!("topic"));
    // They can be turned off, for whoever speaks to the browser, and stay so on other pages.
    browser.open(&served.at("/overview"));
    browser.button("Turn them off");
    browser.open(&served.at("/messages"));
    press(&["j", "g", "w"]);
    assert_eq!(at(), json!(null));
    browser.open(&served.at("/overview"));
    browser.button("Turn them on");
    press(&["g", "w"]);
    browser.until("the page of workers", || browser.url().ends_with("/workers"));
    browser.is_clean();
}

fn conn_of(served: &Served) -> taskmq_core::AnyConnection {
    served.site.db.connect()
}
