//! Texts that others wrote stay texts.

use taskmq_core::{BrokerConnection, NewMessage};
use taskmq_tests::databases::TestDatabase;

use crate::site::{Site, dead, run, worker};

each_database! {
    what_is_stored_is_never_markup,
    what_is_asked_is_never_markup,
}

const TEXTS: [&str; 5] = [
    "<script>window.xss=1</script>",
    "\"><img src=x onerror=window.xss=1>",
    "' onmouseover='window.xss=1",
    "</pre></textarea></title><svg onload=window.xss=1>",
    "\u{202e}exe.gnp<b>",
];

/// None of them is an element, and none is hidden.
fn is_text(body: &str, path: &str) {
    // The value of a field is not shown, or is there to be edited: it keeps its characters, escaped.
    let shown: String = body
        .split(" value=\"")
        .enumerate()
        .map(|(n, part)| if n == 0 { part } else { part.split_once('"').map_or("", |(_, rest)| rest) })
        .collect();
    let edited = path.starts_with("/produce");
    assert!(edited || !shown.contains('\u{202e}'), "{path}: {shown}");
    for evil in ["<script>window", "<img src=x", "<svg onload", "</pre></textarea>", "gnp<b>"] {
        assert!(!body.contains(evil), "{evil:?} on {path}: {body}");
    }
}

fn what_is_stored_is_never_markup(db: TestDatabase) {
    let mut conn = db.connect();
    let worker = worker(&mut conn);
    let mut paths = vec!["".to_owned(), "/messages".into(), "/dead".into(), "/messages?state=dead".into()];
    for (index, text) in TEXTS.iter().enumerate() {
        let topic = format!("t{index}");
        let message = NewMessage::new(&*topic, text).unique(*text).header(*text, *text);
        let id = message.produce(&mut conn).expect("produces").id();
        run(&mut conn, &worker, &topic, dead(text));
        paths.push(format!("/messages/{id}"));
    }
    // The archive takes what another program stores there, and any worker may have any name.
    let quoted = TEXTS[1].replace('\'', "''");
    db.execute(&format!("UPDATE taskmq_archive SET topic = '{quoted}' WHERE topic = 't1'"));
    db.execute(&format!("UPDATE taskmq_workers SET host = '{quoted}', topics = '{quoted}'"));
    let note = taskmq_core::broker::Note {
        actor: TEXTS[0],
        action: "<b>",
        topic: Some(TEXTS[3]),
        message_id: None,
        details: TEXTS[4],
        messages: 1,
    };
    conn.broker().note(&note).expect("notes");
    paths.extend(["/workers".into(), "/audit".into()]);
    let site = Site::new(db, |admin| admin);
    for path in paths {
        is_text(&site.page(&path), &path);
    }
    assert!(site.page("").contains("&lt;img src=x"), "it is shown as it is");
    assert!(site.page("/dead").contains("U+202E"), "what deceives is made visible");
}

fn what_is_asked_is_never_markup(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    for text in TEXTS {
        let text: String = form_urlencoded::byte_serialize(text.as_bytes()).collect();
        for path in [
            format!("/messages?topic={text}&text={text}&key={text}&error={text}&after={text}"),
            format!("/topic?name={text}"),
            format!("/dead?topic={text}"),
            format!("/produce?topic={text}&payload={text}"),
            format!("/?topics={text}").replace("/?", "?"),
            format!("/audit?below={text}"),
        ] {
            is_text(&site.page(&path), &path);
        }
        for path in [format!("/messages/{text}"), format!("/messages?state={text}&since={text}")] {
            is_text(&site.get(&path).body, &path);
        }
    }
}
