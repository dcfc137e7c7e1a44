//! A headless Chromium that a test drives through chromedriver (the WebDriver protocol), as a person would.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

const PATIENCE: Duration = Duration::from_secs(20);

/// What each page keeps for the test: what failed, what the content security policy stopped, and dialogs.
const WITNESS: &str = "window.__seen = [];
addEventListener('error', (e) => __seen.push('error: ' + e.message));
addEventListener('unhandledrejection', (e) => __seen.push('rejected: ' + e.reason));
addEventListener('securitypolicyviolation', (e) => __seen.push('policy: ' + e.violatedDirective + ' ' + e.blockedURI + ' ' + e.sample));
for (const name of ['alert', 'confirm', 'prompt']) window[name] = () => { __seen.push(name); };";

pub(crate) struct Browser {
    driver: Child,
    port: u16,
    session: String,
    _profile: tempfile::TempDir,
}

impl Browser {
    pub(crate) fn start() -> Self {
        Self::start_with(&[])
    }

    /// With further flags.
    pub(crate) fn start_with(flags: &[&str]) -> Self {
        let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
        let port = free.expect("a free port").port();
        let mut driver = Command::new("chromedriver")
            .args([&*format!("--port={port}"), "--log-level=OFF"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("chromedriver: cargo xtask test installs it");
        let began = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            let ended = driver.try_wait().expect("a process");
            assert!(ended.is_none() && began.elapsed() < PATIENCE, "chromedriver does not listen: {ended:?}");
            std::thread::sleep(Duration::from_millis(30));
        }
        let profile = tempfile::tempdir().expect("a folder");
        let mut browser = Self { driver, port, session: String::new(), _profile: profile };
        let folder = format!("--user-data-dir={}", browser._profile.path().display());
        let mut arguments = vec![
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-quic",
            "--no-first-run",
            "--hide-scrollbars",
            "--disable-background-networking",
            "--disable-component-update",
            "--disable-sync",
            "--disable-dev-shm-usage",
            "--lang=en",
            &folder,
        ];
        arguments.extend(flags);
        let wish = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome", "goog:chromeOptions": { "args": arguments },
            "timeouts": { "pageLoad": 20000, "script": 20000 }, "unhandledPromptBehavior": "ignore",
        } } });
        let session = browser.ask("POST", "/session", Some(&wish));
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser.devtools("Page.addScriptToEvaluateOnNewDocument", &json!({ "source": WITNESS }));
        browser
    }

    /// Of the driver; what it calls an error is one here.
    fn ask(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        let (status, value) = self.try_ask(method, path, body);
        assert!(status == 200, "{method} {path} {body:?}: {value}");
        value
    }

    fn try_ask(&self, method: &str, path: &str, body: Option<&Value>) -> (u16, Value) {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver");
        stream.set_read_timeout(Some(Duration::from_secs(60))).expect("a time-out");
        let body = body.map(Value::to_string).unwrap_or_default();
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nConnection: close\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).expect("asks");
        // The driver keeps the line open, whatever it is told.
        let mut stream = BufReader::new(stream);
        let mut line = String::new();
        stream.read_line(&mut line).expect("an answer");
        let status = line.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
        let mut length = 0;
        while line != "\r\n" {
            line.clear();
            stream.read_line(&mut line).expect("a head");
            if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = value.trim().parse().expect("a length");
            }
        }
        let mut body = vec![0; length];
        stream.read_exact(&mut body).expect("a body");
        let body: Value = serde_json::from_slice(&body).expect("JSON");
        (status, body["value"].clone())
    }

    fn of_session(&self, method: &str, path: &str, body: Option<&Value>) -> Value {
        self.ask(method, &format!("/session/{}{path}", self.session), body)
    }

    pub(crate) fn devtools(&self, command: &str, parameters: &Value) -> Value {
        self.of_session("POST", "/goog/cdp/execute", Some(&json!({ "cmd": command, "params": parameters })))
    }

    pub(crate) fn open(&self, url: &str) {
        self.of_session("POST", "/url", Some(&json!({ "url": url })));
    }

    pub(crate) fn url(&self) -> String {
        self.of_session("GET", "/url", None).as_str().unwrap_or_default().to_owned()
    }

    /// What this function's body returns, `arguments` being its arguments.
    pub(crate) fn script(&self, body: &str, arguments: &Value) -> Value {
        self.of_session("POST", "/execute/sync", Some(&json!({ "script": body, "args": arguments })))
    }

    pub(crate) fn async_script(&self, body: &str, arguments: &Value) -> Value {
        self.of_session("POST", "/execute/async", Some(&json!({ "script": body, "args": arguments })))
    }

    pub(crate) fn text(&self) -> String {
        let text = self.script("return document.body.innerText", &json!([]));
        text.as_str().unwrap_or_default().to_owned()
    }

    /// The element that is found by this XPath, once there is one.
    fn find(&self, xpath: &str) -> String {
        let began = Instant::now();
        let wanted = json!({ "using": "xpath", "value": xpath });
        loop {
            let (status, found) =
                self.try_ask("POST", &format!("/session/{}/element", self.session), Some(&wanted));
            if let (200, Some(id)) = (status, found.as_object().and_then(|found| found.values().next())) {
                return id.as_str().expect("an id").to_owned();
            }
            assert!(began.elapsed() < PATIENCE, "no {xpath} on {}: {}", self.url(), self.text());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Clicks where a person would. A live page may put another element in its place meanwhile.
    pub(crate) fn click(&self, xpath: &str) {
        let began = Instant::now();
        loop {
            let element = self.find(xpath);
            let path = format!("/session/{}/element/{element}/click", self.session);
            let (status, why) = self.try_ask("POST", &path, Some(&json!({})));
            if status == 200 {
                return;
            }
            assert!(began.elapsed() < PATIENCE, "cannot click {xpath} on {}: {why}", self.url());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    pub(crate) fn button(&self, name: &str) {
        self.click(&format!(
            "//main//button[normalize-space()='{name}'] | //main//a[normalize-space()='{name}']"
        ));
    }

    /// Types into a field, over what is there.
    pub(crate) fn fill(&self, name: &str, text: &str) {
        let element = self.find(&format!("//main//*[@name='{name}' and not(@type='hidden')]"));
        self.of_session("POST", &format!("/element/{element}/clear"), Some(&json!({})));
        self.of_session("POST", &format!("/element/{element}/value"), Some(&json!({ "text": text })));
    }

    /// For fields that each browser lets one type into differently.
    pub(crate) fn set(&self, name: &str, value: &str) {
        let body = "document.querySelector(`main [name=\"${arguments[0]}\"]`).value = arguments[1]";
        self.script(body, &json!([name, value]));
    }

    /// Until the page says this.
    pub(crate) fn wait(&self, text: &str) {
        self.until(&format!("the page says {text:?}"), || self.text().contains(text));
    }

    pub(crate) fn until(&self, what: &str, holds: impl Fn() -> bool) {
        let began = Instant::now();
        while !holds() {
            assert!(began.elapsed() < PATIENCE, "never: {what}; {}: {}", self.url(), self.text());
            std::thread::sleep(Duration::from_millis(30));
        }
    }

    /// Nothing has failed on this page, and nothing was stopped.
    pub(crate) fn is_clean(&self) {
        let seen = self.script("return window.__seen", &json!([]));
        assert_eq!(seen, json!([]), "{}", self.url());
    }

    pub(crate) fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 500 });
        self.devtools("Emulation.setDeviceMetricsOverride", &size);
    }

    /// A picture of what is to be seen.
    pub(crate) fn picture(&self, file: &Path) {
        let picture = self.of_session("GET", "/screenshot", None);
        std::fs::write(file, decode(picture.as_str().expect("a picture"))).expect("stores it");
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // It ends the browser, too.
        if !self.session.is_empty() {
            self.try_ask("DELETE", &format!("/session/{}", self.session), None);
        }
        _ = self.driver.kill();
        _ = self.driver.wait();
    }
}

/// Base 64.
fn decode(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => c - b'A',
        b'a'..=b'z' => c - b'a' + 26,
        b'0'..=b'9' => c - b'0' + 52,
        b'+' => 62,
        _ => 63,
    };
    let digits: Vec<u8> = text.bytes().filter(|c| *c != b'=').map(digit).collect();
    let mut bytes = Vec::with_capacity(digits.len() * 3 / 4);
    for four in digits.chunks(4) {
        let mut number = [0u8; 4];
        number[..four.len()].copy_from_slice(four);
        let three =
            [number[0] << 2 | number[1] >> 4, number[1] << 4 | number[2] >> 2, number[2] << 6 | number[3]];
        bytes.extend(&three[..four.len() - 1]);
    }
    bytes
}
