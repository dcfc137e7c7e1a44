//! A server that answers nothing any more, as one that is frozen.

use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::http::{Request, StatusCode, header};
use futures_util::future::join_all;
use taskmq_admin::{Access, Admin};
use taskmq_core::Backend;
use taskmq_tests::databases::{TestDatabase, fresh};
use taskmq_tests::proxy::Proxy;
use tower::ServiceExt;

use crate::site::{HOST, MOUNT, Site, produce};

/// The admin of a server behind a line that can be cut.
fn behind(db: TestDatabase) -> (Site, Proxy) {
    let proxy = Proxy::before(db.url()).expect("a proxy");
    let mut site = Site::new(db, |admin| admin);
    let admin = Admin::new(proxy.url()).router(Access::host_decides()).expect("an admin");
    site.router = Router::new().nest(MOUNT, admin);
    (site, proxy)
}

/// What so many who look at once are told, and how long each waited.
fn looks(site: &Site, path: &str, number: usize) -> Vec<(StatusCode, String, Duration)> {
    let look = || async {
        let request = Request::get(format!("{MOUNT}{path}")).header(header::HOST, HOST).body(Body::empty());
        let began = Instant::now();
        let answer = site.router.clone().oneshot(request.expect("a request")).await.expect("an answer");
        let status = answer.status();
        let body = to_bytes(answer.into_body(), 1 << 20).await.expect("a body");
        (status, String::from_utf8_lossy(&body).into_owned(), began.elapsed())
    };
    site.runtime.block_on(join_all((0..number).map(|_| look())))
}

fn nobody_waits_for_ever(backend: Backend) {
    const SAYS: &str = "the database has not answered for 10 s";
    let (site, proxy) = behind(fresh(backend));
    produce(&mut site.db.connect(), "mail", "one");
    // More than there are connections, which are open from now on.
    assert!(looks(&site, "/messages", 6).iter().all(|(status, _, _)| *status == StatusCode::OK));
    proxy.swallow(true);
    let told = looks(&site, "/messages", 6);
    for (status, body, waited) in &told {
        assert_eq!(*status, StatusCode::SERVICE_UNAVAILABLE, "{body}");
        assert!(body.contains(SAYS) || body.contains("The database is busy"), "{body}");
        assert!(*waited < Duration::from_secs(12), "{waited:?}");
    }
    assert_eq!(told.iter().filter(|(_, body, _)| body.contains(SAYS)).count(), 4, "{told:?}");
    // Nobody else begins to wait before one who tries it again.
    let (_, body, waited) = looks(&site, "/messages", 1).remove(0);
    assert!(body.contains(SAYS) && waited < Duration::from_secs(1), "{waited:?}: {body}");
    proxy.swallow(false);
    let back = Instant::now();
    while site.get("/messages").status != StatusCode::OK {
        assert!(back.elapsed() < Duration::from_secs(20), "it is back for long");
        site.pass(Duration::from_millis(100));
    }
}

#[test]
fn nobody_waits_for_ever_for_postgres() {
    nobody_waits_for_ever(Backend::Postgres);
}

#[test]
fn nobody_waits_for_ever_for_mariadb() {
    nobody_waits_for_ever(Backend::Mysql);
}

#[test]
fn all_who_look_are_shown_the_old_figures_at_once_and_why() {
    let (site, proxy) = behind(fresh(Backend::Postgres));
    produce(&mut site.db.connect(), "mail", "one");
    assert!(site.page("/overview").contains("mail"));
    site.pass(Duration::from_secs(1));
    proxy.swallow(true);
    for (status, body, waited) in looks(&site, "/overview", 8) {
        assert_eq!(status, StatusCode::OK, "{body}");
        assert!(body.contains("The database gives no newer figures") && body.contains("mail"), "{body}");
        assert!(body.contains("has not answered for 10 s") || body.contains("is busy"), "{body}");
        assert!(waited < Duration::from_secs(13), "not one behind another: {waited:?}");
    }
    let chinese = site.get_in("zh", "/overview").body;
    assert!(chinese.contains("数据库已有 10 秒没有响应"), "{chinese}");
}
