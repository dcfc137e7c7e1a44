//! A database URL in what people read: its password never is.

use crate::{Backend, Error};

/// A URL that may be shown: with `***` in place of a password.
pub(crate) fn without_password(url: &str) -> String {
    let Some((scheme, rest)) = url.split_once("://") else { return url.to_owned() };
    // A password that is not written as a URL wants it may have any character: the last @ ends it.
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let host = host.split('?').next().unwrap_or(host);
    match user.map(|user| user.split_once(':').map_or((user, false), |(name, _)| (name, true))) {
        Some((name, true)) => format!("{scheme}://{name}:***@{host}"),
        Some((name, false)) => format!("{scheme}://{name}@{host}"),
        None => format!("{scheme}://{host}"),
    }
}

/// How many hosts it names, of which libpq tries one after the other.
#[cfg(any(feature = "worker", feature = "postgres"))]
pub(crate) fn hosts(url: &str) -> u32 {
    let (_, rest) = url.split_once("://").unwrap_or_default();
    let (rest, parameters) = rest.split_once('?').unwrap_or((rest, ""));
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.rsplit_once('@').map_or(authority, |(_, hosts)| hosts);
    let parameter = parameters.split('&').find_map(|parameter| parameter.strip_prefix("host="));
    let count = |hosts: &str| u32::try_from(hosts.split(',').count()).unwrap_or(u32::MAX);
    count(authority).max(parameter.map_or(1, count))
}

/// The error of a connection that could not be opened, without the password that a driver's words may quote.
pub(crate) fn cannot_connect(url: &str, reason: &str) -> Error {
    let backend = Backend::of_url(url).unwrap_or(Backend::Sqlite);
    let database = match backend {
        Backend::Sqlite => format!("the SQLite file {url}"),
        Backend::Postgres | Backend::Mysql => without_password(url),
    };
    // The driver took some part of such a password for the host, the port or the name of the database.
    if passwords(url).any(|password| is_misread(password, backend)) {
        let reason = "its password has a character that a URL cannot hold as it is: write @ as %40, / as %2F, ? as %3F, \
                      # as %23 and % as %25";
        return Error::Connect { database, reason: reason.to_owned() };
    }
    let mut reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    for secret in passwords(url) {
        reason = reason.replace(secret, "***");
    }
    Error::Connect { database, reason }
}

fn is_misread(password: &str, backend: Backend) -> bool {
    let special = if backend == Backend::Postgres { "@/?" } else { "/?#" };
    let is_escape = |at: usize| {
        password.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    password.contains(|c| special.contains(c)) || password.match_indices('%').any(|(at, _)| !is_escape(at))
}

/// The passwords in it: before the host, and as a parameter.
fn passwords(url: &str) -> impl Iterator<Item = &str> {
    let rest = url.split_once("://").map_or("", |(_, rest)| rest);
    let user = rest.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    let parameters = rest.split_once('?').map_or("", |(_, parameters)| parameters).split('&');
    let parameters = parameters.filter_map(|parameter| parameter.strip_prefix("password="));
    user.map(|(_, password)| password).into_iter().chain(parameters).filter(|password| !password.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_are_not_shown() {
        for (url, shown) in [
            ("postgres://u:secret@h:1/db", "postgres://u:***@h:1/db"),
            ("postgres://u:se@cr?et@h/db?a=b", "postgres://u:***@h/db"),
            ("postgres://u@h/db?password=secret", "postgres://u@h/db"),
            ("mysql://u:se/cr#et:x@h/db", "mysql://u:***@h/db"),
            ("postgres:///db", "postgres:///db"),
            ("app.db", "app.db"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }

    #[test]
    #[cfg(any(feature = "worker", feature = "postgres"))]
    fn hosts_are_counted() {
        for (url, number) in [
            ("postgres://u:a,b@h:1/db", 1),
            ("postgres://u@h1:1,h2:2/db?target_session_attrs=read-write", 2),
            ("postgres:///db?host=h1,h2,h3", 3),
            ("postgres:///db", 1),
            ("a,b.db", 1),
        ] {
            assert_eq!(hosts(url), number, "{url}");
        }
    }

    #[test]
    fn drivers_words_are_cleaned() {
        let url = "postgres://u:secret@[::1/db?password=other";
        let error = cannot_connect(url, "no \"]\" in\n\t\"postgres://u:secret@[::1/db?password=other\"\n");
        assert_eq!(
            error.to_string(),
            "cannot connect to postgres://u:***@[::1/db: no \"]\" in \"postgres://u:***@[::1/db?password=***\""
        );
    }

    #[test]
    fn a_misread_password_is_explained_and_not_quoted() {
        let explained = |url: &str| {
            let error = cannot_connect(url, "port \"s3c\"").to_string();
            error.contains("%40") && !error.contains("s3c")
        };
        for url in [
            "postgres://u:s3c@x@h/d",
            "postgres://u:s3c/x@h/d",
            "postgres://u:s3c?x@h/d",
            "postgres://u:s3c%zz@h/d",
        ] {
            assert!(explained(url), "{url}");
        }
        assert!(explained("mysql://u:s3c#x@h/d") && explained("mysql://u:s3c%@h/d"));
        for url in ["postgres://u:s3c%40x@h/d", "postgres://u:x#y@h/d", "mysql://u:x@y@h/d", "postgres:///d"]
        {
            assert!(!explained(url), "{url}");
        }
    }
}
