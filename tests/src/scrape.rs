//! What a program says at `/metrics`, as Prometheus reads it.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;

/// The answer to a `GET`: its head, and its body. HTTP 1.0, for then it is in one piece.
///
/// # Panics
/// When nobody listens there.
pub fn get(address: &str, path: &str, headers: &str) -> (String, String) {
    let mut stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
    let request = format!("GET {path} HTTP/1.0\r\nHost: {address}\r\n{headers}\r\n");
    stream.write_all(request.as_bytes()).expect("asks");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head and a body");
    (head.to_owned(), body.to_owned())
}

/// The samples of one scrape, by name and labels: `name{a="b"}`, the labels in alphabetical order.
#[derive(Clone, Debug, Default)]
pub struct Scrape {
    samples: BTreeMap<String, f64>,
    types: BTreeMap<String, String>,
}

impl Scrape {
    /// Reads the text format.
    ///
    /// # Panics
    /// When it is none.
    pub fn parse(text: &str) -> Self {
        let mut scrape = Self::default();
        for line in text.lines().filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix("# ") {
                if let Some((name, kind)) = comment.strip_prefix("TYPE ").and_then(|c| c.split_once(' ')) {
                    scrape.types.insert(name.to_owned(), kind.to_owned());
                }
                continue;
            }
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("{line}"));
            let value = value.parse().unwrap_or_else(|_| panic!("{line}"));
            scrape.samples.insert(sorted(series), value);
        }
        scrape
    }

    /// The value of a series, if there is one.
    pub fn value(&self, series: &str) -> Option<f64> {
        self.samples.get(&sorted(series)).copied()
    }

    /// Every metric, with its type.
    pub fn types(&self) -> &BTreeMap<String, String> {
        &self.types
    }
}

fn sorted(series: &str) -> String {
    let Some((name, labels)) = series.strip_suffix('}').and_then(|series| series.split_once('{')) else {
        return series.to_owned();
    };
    let mut labels: Vec<&str> = labels.split(',').collect();
    labels.sort_unstable();
    format!("{name}{{{}}}", labels.join(","))
}
