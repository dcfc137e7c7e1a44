//! A real browser opens each page in each look, and keeps a picture of it in `target/screenshots`. With
//! `TASKMQ_TEST_AXE=axe.min.js` (of the npm package axe-core) it looks for what keeps people from using them, too.

use std::path::{Path, PathBuf};

use serde_json::json;
use taskmq_core::broker::Limit;
use taskmq_core::{Backend, BrokerConnection, NewMessage};
use taskmq_tests::databases::fresh;

use crate::driver::Browser;
use crate::site::{Served, Site, produce, seed};

/// Wide or as a phone, in which colours and which language.
const LOOKS: [(&str, (u32, u32), &str, &str); 4] = [
    ("light", (1360, 1000), "light", "en"),
    ("dark", (1360, 1000), "dark", "en"),
    ("phone", (390, 1200), "light", "en"),
    ("chinese", (1360, 1000), "light", "zh"),
];

/// Nothing is wider than the page: what is, scrolls in a place of its own.
pub(crate) const WIDER: &str =
    "return document.documentElement.scrollWidth - document.documentElement.clientWidth";

pub(crate) fn folder() -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/screenshots");
    std::fs::create_dir_all(&folder).expect("a folder");
    folder
}

#[test]
fn every_page_is_pictured() {
    let db = fresh(Backend::Sqlite);
    let seeded = seed(&db);
    let mut conn = db.connect();
    for (name, cron, zone) in
        [("morning", "0 7 * * mon-fri", "Europe/Berlin"), ("every-minute", "* * * * *", "UTC")]
    {
        let message = NewMessage::new("report", &json!({ "days": 30, "to": "kim@example.org" })).unique(name);
        message.schedule(name, cron).time_zone(zone).store(&mut conn).expect("stores");
    }
    taskmq_core::schedule::run_now(&mut conn, "every-minute", "kim").expect("runs");
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
    let axe =
        std::env::var_os("TASKMQ_TEST_AXE").map(|file| std::fs::read_to_string(file).expect("axe-core"));
    let served = Served::new(Site::new(db, |admin| admin));
    let change = [("all", "cancel"), ("state", "ready"), ("topic", "bill"), ("confirm", "yes")];
    assert_eq!(served.site.post("/change", &change).location, "./changes/1");
    served.site.wait("/changes/1", ">Finished<");
    let (workflow, step) = crate::workflows::nightly(&mut served.site.db.connect());
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
        ("change", "/changes/1"),
        ("audit", "/audit"),
        ("produce", "/produce"),
        ("schema", "/produce?topic=bill"),
        ("nowhere", "/nowhere"),
    ];
    for (look, (width, height), scheme, language) in LOOKS {
        browser.resize(width, height);
        let feature = json!([{ "name": "prefers-color-scheme", "value": scheme }]);
        browser.devtools("Emulation.setEmulatedMedia", &json!({ "features": feature }));
        browser.open(&served.at("/overview"));
        browser.script("document.cookie = `taskmq_language=${arguments[0]}; path=/`", &json!([language]));
        for (name, path) in &pages {
            browser.open(&served.at(path));
            let picture = folder().join(format!("{name}-{look}.png"));
            _ = std::fs::remove_file(&picture);
            browser.picture(&picture);
            let bytes = std::fs::metadata(&picture).expect("a picture").len();
            assert!(bytes > 10_000, "{name} {look}: {bytes} bytes");
            browser.is_clean();
            assert_eq!(browser.script(WIDER, &json!([])), json!(0), "{name} {look}");
            if let Some(axe) = &axe {
                is_usable(&browser, axe, &format!("{name} {look}"));
            }
        }
    }
}

fn is_usable(browser: &Browser, axe: &str, page: &str) {
    browser.script(axe, &json!([]));
    let run = "const done = arguments[arguments.length - 1];
        axe.run(document).then(({ violations }) => done(violations.map((v) => `${v.id}: ${v.help}: ${v.nodes.map((n) => n.html.slice(0, 200)).join(' | ')}`)));";
    let violations = browser.async_script(run, &json!([]));
    assert_eq!(violations, json!([]), "{page}");
}
