//! A page that stays up to date says when it does not.

use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use axum::response::Response;
use taskmq_tests::databases::TestDatabase;
use tower::ServiceExt;

use crate::driver::Browser;
use crate::site::{HOST, MOUNT, Served, Site, produce};

each_database! {
    no_stream_lasts_for_long,
    a_stream_that_has_nothing_to_tell_for_long_ends,
    the_page_says_that_it_is_no_longer_live_until_it_is_again,
}

const AWAY: &str = "ALTER TABLE taskmq_messages RENAME TO elsewhere";
const BACK: &str = "ALTER TABLE elsewhere RENAME TO taskmq_messages";

fn open(site: &Site, path: &str) -> Response {
    let request = Request::get(format!("{MOUNT}{path}")).header(header::HOST, HOST).body(Body::empty());
    let answer = site.router.clone().oneshot(request.expect("a request"));
    site.runtime.block_on(answer).expect("an answer")
}

/// It is asked again then who may read; the page goes on with the next one.
fn no_stream_lasts_for_long(db: TestDatabase) {
    let served = Served::new(Site::new(db, |admin| admin));
    let id = produce(&mut served.site.db.connect(), "mail", "one");
    let browser = Browser::start();
    browser.open(&served.at(&format!("/messages/{id}")));
    browser.wait("Ready");
    let stream = open(&served.site, &format!("/live?of=message&id={id}"));
    assert_eq!(stream.headers()["x-accel-buffering"], "no");
    let began = Instant::now();
    let told = served.site.runtime.block_on(to_bytes(stream.into_body(), 1 << 20)).expect("it ends");
    assert!(began.elapsed() < Duration::from_secs(30), "{:?}", began.elapsed());
    assert!(told.ends_with(b"event: again\ndata: again\n\n"), "{}", String::from_utf8_lossy(&told));
    served.site.db.execute("UPDATE taskmq_messages SET run_at = '2037-01-01 00:00:00.000'");
    browser.wait("Scheduled");
    assert!(!browser.text().contains("No longer live"), "{}", browser.text());
    browser.is_clean();
}

fn a_stream_that_has_nothing_to_tell_for_long_ends(db: TestDatabase) {
    let site = Site::new(db, |admin| admin);
    let id = produce(&mut site.db.connect(), "mail", "one");
    let path = format!("/live?of=message&id={id}");
    let stream = open(&site, &path);
    assert_eq!(stream.status(), StatusCode::OK);
    site.db.execute(AWAY);
    let began = Instant::now();
    let told = site.runtime.block_on(to_bytes(stream.into_body(), 1 << 20)).expect("it ends");
    let took = began.elapsed();
    assert!((5..10).contains(&took.as_secs()), "{took:?}");
    let told = String::from_utf8(told.to_vec()).expect("UTF-8");
    assert!(told.starts_with("data:") && told.contains("mail"), "{told}");
    assert_eq!(
        open(&site, &path).status(),
        StatusCode::SERVICE_UNAVAILABLE,
        "what nothing can be told of is no stream"
    );
    site.db.execute(BACK);
    assert_eq!(open(&site, &path).status(), StatusCode::OK);
}

fn the_page_says_that_it_is_no_longer_live_until_it_is_again(db: TestDatabase) {
    let served = Served::new(Site::new(db, |admin| admin));
    let id = produce(&mut served.site.db.connect(), "mail", "one");
    let browser = Browser::start();
    browser.open(&served.at(&format!("/messages/{id}")));
    browser.wait("Ready");
    served.site.db.execute(AWAY);
    browser.wait("No longer live");
    // It does not say now and then that it is live, because it tries again.
    let until = Instant::now() + Duration::from_secs(7);
    while Instant::now() < until {
        assert!(browser.text().contains("No longer live"), "{}", browser.text());
        std::thread::sleep(Duration::from_millis(50));
    }
    served.site.db.execute(BACK);
    browser.until("it is live again", || !browser.text().contains("No longer live"));
    browser.is_clean();
}
