//! Nested at a path of one part there is no page with a slash at its end: nothing leads there.

use axum::Router;
use axum::http::{Method, StatusCode};
use taskmq_admin::Access;

use crate::access::{Door, FORM, HOST, OWN, TOKEN};

/// An admin at `/admin`.
fn nested(access: Access) -> Door {
    let mut door = Door::new(access, |admin| admin);
    door.router = Router::new().nest("/admin", door.router);
    door
}

/// Where a browser that was sent from there to here goes.
fn resolved(from: &str, to: &str) -> String {
    let folder = from.rsplit_once('/').expect("a path").0;
    let to = to.strip_prefix("./").unwrap_or_else(|| panic!("{to}"));
    format!("{folder}/{to}")
}

#[test]
fn preferences_lead_back() {
    let door = nested(Access::host_decides());
    for (at, back) in [
        ("/admin", "/admin/overview"),
        ("/admin?topics=a", "/admin/overview?topics=a"),
        ("/admin/topic?name=a", "/admin/topic?name=a"),
    ] {
        let page = door.get(at, &[]).body;
        let field = page.split("name=\"back\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
        let form =
            format!("theme=dark&back={}", field.expect("a way back").replace('?', "%3F").replace('=', "%3D"));
        let chosen = door.ask(Method::POST, "/admin/preferences", &[FORM, OWN], &form);
        let led = resolved("/admin/preferences", chosen.header("location"));
        assert_eq!((chosen.status, &*led), (StatusCode::SEE_OTHER, back), "{at}");
        assert_eq!(door.get(&led, &[]).status, StatusCode::OK, "{led}");
    }
    let chosen = door.ask(Method::POST, "/admin/preferences", &[FORM, OWN], "theme=dark&back=");
    assert_eq!(chosen.header("location"), "./overview");
}

#[test]
fn signing_in_leads_to_what_was_asked_for_and_out_to_the_first_page() {
    let door = nested(Access::token(TOKEN).expect("a token"));
    let html = ("accept", "text/html");
    for (at, page) in [
        ("/admin", "/admin/overview"),
        ("/admin?topics=a", "/admin/overview?topics=a"),
        ("/admin/topic?name=a+b", "/admin/topic?name=a+b"),
        ("/admin/messages/5", "/admin/messages/5"),
        ("/admin/sign-in", "/admin/overview"),
    ] {
        // The first try is a wrong one.
        let mut asked = door.get(at, &[html]);
        for secret in ["wrong", TOKEN] {
            let field =
                asked.body.split("name=\"next\" value=\"").nth(1).and_then(|rest| rest.split('"').next());
            let next = field.unwrap_or_else(|| panic!("{at}: {}", asked.body));
            let fields = [("secret", secret), ("next", next)];
            let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
            asked = door.ask(Method::POST, "/admin/sign-in", &[FORM, OWN, html], &form);
        }
        let led = resolved("/admin/sign-in", asked.header("location"));
        assert_eq!((asked.status, &*led), (StatusCode::SEE_OTHER, page), "{at}");
        let cookie = asked.cookie();
        let shown = door.get(&led, &[("cookie", &cookie)]).status;
        assert!(shown == StatusCode::OK || led.ends_with("/5"), "{led}: {shown}");
        let out = door.ask(Method::POST, "/admin/sign-out", &[OWN, ("cookie", &cookie)], "");
        assert_eq!(resolved("/admin/sign-out", out.header("location")), "/admin/overview");
    }
    let opened = door.get(&format!("/admin?token={TOKEN}"), &[]);
    assert_eq!(resolved("/admin", opened.header("location")), "/admin");
}

#[test]
fn signing_in_leads_to_no_other_site() {
    let door = nested(Access::token(TOKEN).expect("a token"));
    for next in [
        "//evil.test",
        "/\\evil.test",
        "\\\\evil.test",
        "https://evil.test/",
        "javascript:alert(1)",
        "../../..//evil.test",
        "a\r\nSet-Cookie: a=b",
        "\u{e9}",
    ] {
        let fields = [("secret", TOKEN), ("next", next)];
        let form = form_urlencoded::Serializer::new(String::new()).extend_pairs(fields).finish();
        let answer = door.ask(Method::POST, "/admin/sign-in", &[FORM, OWN], &form);
        assert_eq!(answer.status, StatusCode::SEE_OTHER, "{next}");
        // A browser that resolves it stays on the host.
        let to = answer.header("location");
        assert!(to.starts_with("./") && !to.starts_with(".//") && !to.contains(HOST), "{next}: {to}");
    }
}
