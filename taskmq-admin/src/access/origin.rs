//! Requests that change something must come from the admin's own pages: another site can send forms in a browser's
//! name, but cannot choose what the browser says of their origin.

use axum::http::header::{HeaderMap, ORIGIN};
use axum::http::uri::Authority;

pub(super) fn is_own(headers: &HeaderMap, host: &Authority) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").iter();
    if let Some(site) = sites.next() {
        return site == "same-origin" && sites.next().is_none();
    }
    // Browsers send it to https and loopback only.
    let mut origins = headers.get_all(ORIGIN).iter();
    match (origins.next().and_then(|origin| origin.to_str().ok()), origins.next()) {
        (Some(origin), None) => {
            let authority = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
            authority.is_some_and(|authority| authority.eq_ignore_ascii_case(host.as_str()))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_same_origin_counts() {
        let own = |given: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            for (name, value) in given {
                headers.append(*name, value.parse().expect("a value"));
            }
            is_own(&headers, &Authority::from_static("localhost:8470"))
        };
        assert!(own(&[("sec-fetch-site", "same-origin")]));
        assert!(own(&[("origin", "http://localhost:8470")]));
        let site = |site| [("sec-fetch-site", site), ("origin", "http://localhost:8470")];
        for bad in ["cross-site", "same-site", "none", "", "Same-Origin"] {
            assert!(!own(&site(bad)), "{bad}");
        }
        assert!(!own(&[("sec-fetch-site", "same-origin"), ("sec-fetch-site", "cross-site")]));
        for bad in
            ["null", "http://evil.test", "http://localhost:8471", "http://localhost:8470.evil.test", ""]
        {
            assert!(!own(&[("origin", bad)]), "{bad}");
        }
        assert!(!own(&[]));
    }
}
