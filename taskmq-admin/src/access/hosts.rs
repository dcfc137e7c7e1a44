//! The names under which the admin answers. A page of another site can make its own name point to this machine (DNS
//! rebinding), and then reads whatever answers to that name; it cannot make a browser send any of these.

use std::net::IpAddr;
#[cfg(feature = "serve")]
use std::net::SocketAddr;

use axum::http::header::HOST;
use axum::http::request::Parts;
use axum::http::uri::Authority;

use crate::{Error, Result};

#[derive(Clone, Debug)]
pub(super) struct Hosts {
    names: Vec<Authority>,
    /// Any address is a name, with this port: where others reach the listener, nobody knows by which.
    addresses: Option<u16>,
}

impl Hosts {
    /// These names alone, each with its port where that is not the usual one.
    pub(super) fn only(names: &[String]) -> Result<Self> {
        let names = names.iter().map(|name| parse(name)).collect::<Result<_>>()?;
        Ok(Self { names, addresses: None })
    }

    /// The names of this machine with the listener's port, and these.
    #[cfg(feature = "serve")]
    pub(super) fn of_listener(listener: SocketAddr, names: &[String]) -> Result<Self> {
        let mut hosts = Self::only(names)?;
        let own = [listener.ip().to_string(), "localhost".into(), "127.0.0.1".into(), "[::1]".into()];
        for host in own {
            let named = format!("{host}:{}", listener.port());
            hosts.names.extend(named.parse::<Authority>().ok());
            if listener.port() == 80 {
                hosts.names.extend(host.parse::<Authority>().ok());
            }
        }
        hosts.addresses = (!listener.ip().is_loopback()).then(|| listener.port());
        Ok(hosts)
    }

    pub(super) fn has(&self, host: &Authority) -> bool {
        let is_name = |name: &Authority| {
            name.host().eq_ignore_ascii_case(host.host()) && name.port_u16() == host.port_u16()
        };
        self.names.iter().any(is_name)
            || self.addresses.is_some_and(|port| {
                let host_address = host.host().trim_start_matches('[').trim_end_matches(']');
                host_address.parse::<IpAddr>().is_ok() && host.port_u16().unwrap_or(80) == port
            })
    }
}

fn parse(name: &str) -> Result<Authority> {
    let authority = name.parse::<Authority>().ok();
    authority
        .filter(|a| !a.as_str().contains(['@', '*']) && !a.host().is_empty())
        .ok_or_else(|| Error::Host { name: name.to_owned() })
}

/// The one host that a request names. `None`: it names none, several, or something that is no host.
pub(super) fn named(parts: &Parts) -> Option<Authority> {
    let mut headers = parts.headers.get_all(HOST).iter();
    let header = match headers.next() {
        Some(header) => {
            let host: Authority = header.to_str().ok()?.parse().ok()?;
            (!host.as_str().contains('@')).then_some(host).map(Some)?
        }
        None => None,
    };
    match (header, parts.uri.authority().cloned(), headers.next()) {
        (_, _, Some(_)) => None,
        // What the request line says and what the header says must be one.
        (Some(header), Some(line), None) => (header == line).then_some(header),
        (header, line, None) => header.or(line),
    }
}

#[cfg(all(test, feature = "serve"))]
mod tests {
    use super::*;

    #[test]
    fn only_its_own_names_with_its_own_port() {
        let hosts = Hosts::of_listener(([127, 0, 0, 1], 8470).into(), &["queue.example.org".to_owned()]);
        let hosts = hosts.expect("names");
        let has = |name: &str| name.parse().is_ok_and(|name| hosts.has(&name));
        for good in ["localhost:8470", "LOCALHOST:8470", "127.0.0.1:8470", "[::1]:8470", "queue.example.org"]
        {
            assert!(has(good), "{good}");
        }
        for bad in [
            "localhost",
            "localhost:8471",
            "127.0.0.1.evil.test:8470",
            "evil.test:8470",
            "localhost.:8470",
            "",
            "127.0.0.2:8470",
            "xqueue.example.org",
            "queue.example.org.evil.test",
            "queue.example.org:8470",
        ] {
            assert!(!has(bad), "{bad}");
        }
    }

    #[test]
    fn off_loopback_an_address_is_a_name_and_a_domain_is_not() {
        let hosts = Hosts::of_listener(([0, 0, 0, 0], 8470).into(), &[]).expect("names");
        let has = |name: &str| name.parse().is_ok_and(|name| hosts.has(&name));
        assert!(has("10.0.0.7:8470") && has("[2001:db8::1]:8470"));
        assert!(!has("10.0.0.7:80") && !has("10.0.0.7.evil.test:8470") && !has("evil.test:8470"));
    }

    #[test]
    fn patterns_and_urls_are_no_names() {
        for bad in ["*.example.org", "http://example.org", "a@example.org", "", "example.org/x"] {
            assert!(Hosts::only(&[bad.to_owned()]).is_err(), "{bad}");
        }
    }
}
