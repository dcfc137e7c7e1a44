//! A real browser opens each page in each look, and keeps a picture of it in `target/screenshots`, in the folder of the
//! database. There axe-core looks for what keeps people from using them.

use std::cell::RefCell;
use std::path::{Path, PathBuf};

use axum::Router;
use serde_json::{Value, json};
use taskmq_admin::{Access, Admin};
use taskmq_core::broker::Limit;
use taskmq_core::{Backend, BrokerConnection, NewMessage};
use taskmq_tests::databases::{TestDatabase, fresh};

use crate::driver::Browser;
use crate::liveness::dead_worker;
use crate::site::{MOUNT, Served, Site, identity, produce, run, seed};

each_database! {
    every_page_is_pictured,
}

/// Wide or as a phone, in which colours and which language.
const LOOKS: [(&str, (u32, u32), &str, &str); 5] = [
    ("light", (1360, 1000), "light", "en"),
    ("dark", (1360, 1000), "dark", "en"),
    ("phone", (390, 1200), "light", "en"),
    ("chinese", (1360, 1000), "light", "zh"),
    ("chinese-phone", (390, 1200), "dark", "zh"),
];

/// Nothing is wider than the page: what is, scrolls in a place of its own.
pub(crate) const WIDER: &str =
    "return document.documentElement.scrollWidth - document.documentElement.clientWidth";

/// Deletes what the page lists, past the script of the page.
const CONFIRM: &str =
    "const ticks = [...document.querySelectorAll('[type=checkbox][name=id]')], form = ticks[0].form;
    for (const tick of ticks) tick.checked = true;
    const field = document.createElement('input');
    field.type = 'hidden'; field.name = 'action'; field.value = 'delete';
    form.append(field); form.submit();";

/// The same of the workflow that a page shows.
const CANCEL: &str =
    "const form = document.querySelector('main form'), field = document.createElement('input');
    field.type = 'hidden'; field.name = 'action'; field.value = 'cancel';
    form.append(field); form.submit();";

const THIRD: &str = "for (let n = 0; n < 3; n++)
    document.activeElement.dispatchEvent(new KeyboardEvent('keydown', { key: 'j', bubbles: true }))";

pub(crate) fn folder(backend: Backend) -> PathBuf {
    let all = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    let folder = all.join(match backend {
        Backend::Sqlite => "sqlite",
        Backend::Postgres => "postgresql",
        Backend::Mysql => "mariadb",
    });
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

fn every_page_is_pictured(db: TestDatabase) {
    let folder = folder(db.backend());
    // What colours and widths do to a page does not depend on the database: the first look tells there what does.
    let looks = if db.backend() == Backend::Sqlite { LOOKS.len() } else { 1 };
    let seeded = seed(&db);
    let mut conn = db.connect();
    assert!(conn.broker().beat(identity().id, Some(38 << 20)).expect("beats"));
    let lost = dead_worker(&db);
    for (name, cron, zone) in
        [("morning", "0 7 * * mon-fri", "Europe/Berlin"), ("every-minute", "* * * * *", "UTC")]
    {
        let message = NewMessage::new("report", &json!({ "days": 30, "to": "kim@example.org" })).unique(name);
        message.schedule(name, cron).time_zone(zone).store(&mut conn).expect("stores");
    }
    taskmq_core::schedule::run_now(&mut conn, "every-minute", "kim").expect("runs");
    run(&mut conn, &lost, "report", None);
    taskmq_core::schedule::pause(&mut conn, "morning", "kim").expect("pauses");
    let limit = Limit { running: Some(5), rate: Some("100/1m".parse().expect("a rate")) };
    conn.broker().set_limit("mail", &limit, "kim").expect("limits");
    let definition = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Bill",
        "type": "object",
        "required": ["to", "amount"],
        "properties": {"to": {"type": "string"}, "amount": {"type": "integer", "minimum": 0}},
    });
    conn.broker().store_schema("bill", &definition.to_string()).expect("stores");
    for n in 0..60 {
        produce(&mut conn, ["mail", "bill", "report"][n % 3], &format!("message {n}"));
    }
    let axe = std::env::var_os("TASKMQ_TEST_AXE").expect("axe-core: `cargo xtask test` fetches it");
    let axe = std::fs::read_to_string(axe).expect("axe-core");
    let mut door = Site::new(fresh(db.backend()), |admin| admin);
    let served = Served::new(Site::new(db, |admin| admin));
    let change = [("all", "cancel"), ("state", "ready"), ("topic", "bill"), ("confirm", "yes")];
    let change = served.site.post("/change", &change);
    served.site.wait(change.change(), ">Finished<");
    let (workflow, step) = crate::workflows::nightly(&mut served.site.db.connect());
    let access = Access::token(&"t".repeat(24)).expect("a token");
    door.router = Router::new().nest(MOUNT, Admin::new(door.db.url()).router(access).expect("an admin"));
    let locked = Served::new(door);
    let browser = Browser::start();
    let message = format!("/messages/{}", seeded.dead[0]);
    let waiting = format!("/messages/{}", seeded.scheduled);
    let pages = [
        ("overview", "/overview"),
        ("topic", "/topic?name=mail"),
        ("limit", "/topic?name=mail#limit"),
        ("messages", "/messages?state=dead"),
        ("search", "/messages?json=%24.days+%3D+30&since=2026-01-01T00:00"),
        ("message", &*message),
        ("waiting", &*waiting),
        ("dead", "/dead"),
        ("workers", "/workers"),
        ("schedules", "/schedules"),
        ("workflows", "/workflows"),
        ("workflow", &*workflow),
        ("step", &*step),
        ("changes", "/changes"),
        ("change", change.change()),
        ("audit", "/audit"),
        ("produce", "/produce"),
        ("schema", "/produce?topic=bill"),
        ("nowhere", "/nowhere"),
    ];
    let unusable = RefCell::new(Vec::new());
    let examine = |name: &str, look: &str| {
        let picture = folder.join(format!("{name}-{look}.png"));
        _ = std::fs::remove_file(&picture);
        browser.picture(&picture);
        let bytes = std::fs::metadata(&picture).expect("a picture").len();
        assert!(bytes > 5_000, "{name} {look}: {bytes} bytes");
        browser.is_clean();
        assert_eq!(browser.script(WIDER, &json!([])), json!(0), "{name} {look}");
        let found = violations(&browser, &axe).map(|violation| format!("{name} {look}: {violation}"));
        unusable.borrow_mut().extend(found);
    };
    for (look, (width, height), scheme, language) in LOOKS.into_iter().take(looks) {
        browser.resize(width, height);
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": feature }));
        browser.open(&served.at("/overview"));
        browser.script("document.cookie = `taskmq_language=${arguments[0]}; path=/`", &json!([language]));
        for (name, path) in &pages {
            browser.open(&served.at(path));
            examine(name, look);
        }
        // What comes of forms, and is asked without a script.
        browser.open(&served.at("/messages?state=dead"));
        browser.script(CONFIRM, &json!([]));
        browser.until("it asks", || browser.url().ends_with("/change"));
        examine("confirm", look);
        browser.open(&served.at(&workflow));
        browser.script(CANCEL, &json!([]));
        let asks = "return document.querySelector('.confirm') !== null";
        browser.until("it asks", || browser.script(asks, &json!([])) == json!(true));
        examine("cancel", look);
        // A row that keys have come to.
        browser.open(&served.at("/messages"));
        browser.script(THIRD, &json!([]));
        examine("row", look);
        browser.open(&served.at("/produce?topic=bill"));
        browser.script("document.querySelector('details').open = true", &json!([]));
        browser.fill("payload", r#"{"to": "kim@example.org", "amount": -3}"#);
        browser.click("//main//form//button");
        browser.until("it is refused", || browser.text().contains("/amount"));
        examine("misfit", look);
        // What was done is told, and not again when the page is loaded anew.
        browser.open(&served.at(&waiting));
        browser.click("//button[@value='priority']");
        let told = "return document.querySelectorAll('main > .notice[role=status]').length";
        browser.until("it tells", || browser.script(told, &json!([])) == json!(1));
        assert!(browser.url().ends_with(&waiting), "{}", browser.url());
        examine("told", look);
        browser.open(&locked.at("/overview"));
        examine("sign-in", look);
    }
    let unusable = unusable.take();
    assert!(unusable.is_empty(), "{}", unusable.join("\n"));
}

/// What keeps people from using the page.
fn violations(browser: &Browser, axe: &str) -> impl Iterator<Item = String> {
    browser.script(axe, &json!([]));
    let run = "const done = arguments[arguments.length - 1];
        const shown = ({ id, help, nodes }) => `${id}: ${help}: ${nodes.map(({ html }) => html.slice(0, 200)).join(' | ')}`;
        axe.run(document).then(({ violations }) => done(violations.map(shown)));";
    let Value::Array(found) = browser.async_script(run, &json!([])) else { panic!("axe-core gave no list") };
    found.into_iter().map(|violation| violation.to_string())
}
