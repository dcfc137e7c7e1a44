//! Over plain HTTP, by a name that is not this machine's own: there a browser says less of where a form comes from.

use std::net::TcpListener;

use serde_json::json;
use taskmq_admin::serve::ServeArgs;
use taskmq_core::BrokerConnection;

use crate::driver::Browser;
use crate::serving::{Serving, args};
use crate::site::produce;

#[test]
fn a_person_signs_in_and_changes_something() {
    let free = TcpListener::bind("0.0.0.0:0").and_then(|listener| listener.local_addr()).expect("a port");
    let name = format!("queue.test:{}", free.port());
    let folder = tempfile::tempdir().expect("a folder");
    let password = folder.path().join("password");
    std::fs::write(&password, "correct horse\n").expect("a file");
    let serving = Serving::with(&ServeArgs {
        password_file: Some(password),
        allowed_host: vec![name.clone()],
        ..args(&free.to_string())
    });
    let mut conn = serving.db.connect();
    produce(&mut conn, "mail", "one");
    let browser = Browser::start_with(&["--host-resolver-rules=MAP queue.test 127.0.0.1"]);
    let page = format!("http://{name}/topic?name=mail");
    browser.open(&page);
    assert_eq!(browser.script("return window.isSecureContext", &json!([])), json!(false));
    browser.fill("secret", "wrong");
    browser.button("Sign in");
    browser.wait("That is not right.");
    browser.fill("secret", "correct horse");
    browser.button("Sign in");
    browser.until("the page that was asked for", || browser.url() == page);
    browser.button("Pause");
    browser.wait("no worker takes messages");
    assert_eq!(conn.broker().paused().expect("reads").len(), 1);
    browser.is_clean();
    browser.click("//form[contains(@action, 'sign-out')]//button");
    browser.wait("Password or token");
}
