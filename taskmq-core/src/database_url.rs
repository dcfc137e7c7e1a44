//! A database URL in what people read: its password never is.

use crate::{Backend, Error};

/// A URL whose `Debug` shows no password either.
#[derive(Clone)]
pub(crate) struct DatabaseUrl(String);

impl DatabaseUrl {
    pub(crate) fn new(url: impl Into<String>) -> Self {
        Self(url.into())
    }
}

impl std::ops::Deref for DatabaseUrl {
    type Target = str;

    fn deref(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        without_password(self).fmt(f)
    }
}

/// A URL that may be shown: with `***` in place of a password.
pub(crate) fn without_password(url: &str) -> String {
    let (scheme, rest) = parts(url);
    // A password that is not written as a URL wants it may have any character: the last @ ends it.
    let Some((user, host)) = rest.rsplit_once('@') else {
        return if scheme.is_empty() { url.to_owned() } else { format!("{scheme}{}", shown_host(rest)) };
    };
    match user.split_once(':') {
        // What no database is called may be a user, and what follows the password.
        _ if !scheme.is_empty() && !is_known(scheme) => format!("{scheme}***@{}", shown_host(host)),
        Some((name, _)) => format!("{scheme}{name}:***@{}", shown_host(host)),
        None => format!("{scheme}{user}@{}", shown_host(host)),
    }
}

fn is_known(scheme: &str) -> bool {
    let name = scheme.trim_end_matches("://").to_ascii_lowercase();
    ["postgres", "postgresql", "mysql", "mariadb", "sqlite", "file"].contains(&&*name)
}

/// The scheme with its `://`, and what follows but for parameters among which a password is.
fn parts(url: &str) -> (&str, &str) {
    let scheme =
        url.find("://").filter(|at| Backend::is_scheme(&url[..*at])).map_or(0, |at| at + "://".len());
    let (scheme, rest) = url.split_at(scheme);
    match rest.split_once('?') {
        Some((rest, parameters)) if password_parameters(parameters).next().is_some() => (scheme, rest),
        _ => (scheme, rest),
    }
}

/// Without parameters, and without what is no port: where the host was forgotten, it is the password.
fn shown_host(host: &str) -> String {
    let host = host.split('?').next().unwrap_or(host);
    match odd_port(host) {
        Some(_) => format!("{}:***", host.split(':').next().unwrap_or_default()),
        None => host.to_owned(),
    }
}

fn odd_port(host: &str) -> Option<&str> {
    let port = host.split_once(':').filter(|_| !host.starts_with('['))?.1.split(['/', '?']).next()?;
    port.contains(|c: char| !c.is_ascii_digit()).then_some(port)
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
        Backend::Sqlite => format!("the SQLite file {}", without_password(url)),
        Backend::Postgres | Backend::Mysql => without_password(url),
    };
    let (_, rest) = parts(url);
    let (user, host) = rest.rsplit_once('@').map_or((None, rest), |(user, host)| (Some(user), host));
    let password = user.and_then(|user| user.split_once(':')).map(|(_, password)| password);
    // The driver took some part of such a password for the host, the port or the name of the database.
    if password.is_some_and(|password| is_misread(password, backend)) {
        let reason = "its password has a character that a URL cannot hold as it is: write @ as %40, / as %2F, ? as %3F, \
                      # as %23 and % as %25";
        return Error::Connect { database, reason: reason.to_owned() };
    }
    let parameters = url.split_once('?').map_or("", |(_, parameters)| parameters);
    let secrets = password.into_iter().chain(odd_port(host)).chain(password_parameters(parameters));
    let mut secrets: Vec<&str> = secrets.map(str::trim).filter(|secret| !secret.is_empty()).collect();
    // One may be a part of another.
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    let reason = secrets.iter().fold(reason.to_owned(), |reason, secret| reason.replace(secret, "***"));
    let reason = reason.split_whitespace().collect::<Vec<_>>().join(" ");
    Error::Connect { database, reason }
}

fn is_misread(password: &str, backend: Backend) -> bool {
    let special = match backend {
        Backend::Sqlite => "",
        Backend::Postgres => "@/?",
        Backend::Mysql => "/?#",
    };
    let is_escape = |at: usize| {
        password.as_bytes().get(at + 1..at + 3).is_some_and(|hex| hex.iter().all(u8::is_ascii_hexdigit))
    };
    password.contains(|c| special.contains(c))
        || backend != Backend::Sqlite && password.match_indices('%').any(|(at, _)| !is_escape(at))
}

/// The values of `password`, and of `sslpassword`.
fn password_parameters(parameters: &str) -> impl Iterator<Item = &str> {
    let pairs = parameters.split('&').filter_map(|parameter| parameter.split_once('='));
    pairs.filter(|(name, _)| name.to_ascii_lowercase().ends_with("password")).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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
            ("postgres://h:1/db?password=se@cret", "postgres://h:1/db"),
            ("postgres://u:x@h/db?sslmode=on&sslpassword=se@cret", "postgres://u:***@h/db"),
            ("postgres://u:secret/db", "postgres://u:***"),
            ("postgres://[::1]:5432/db", "postgres://[::1]:5432/db"),
            ("sqlite://u:secret@h/db", "sqlite://u:***@h/db"),
            ("u:secret@h://db", "u:***@h://db"),
            ("//u.v:secret@h/db", "//u.v:***@h/db"),
            ("u://secret@h/db", "u://***@h/db"),
            ("u://secret:@h/db", "u://***@h/db"),
            ("MariaDB://u:secret@h/db", "MariaDB://u:***@h/db"),
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

    /// A password in which this word is, and characters that mean something in a URL.
    fn passwords() -> impl Strategy<Value = String> {
        "[a-z0-9@:/?#%&=+ .;é\\[\\]]{0,6}HIDDEN[a-z0-9@:/?#%&=+ .;é\\[\\]]{0,6}"
    }

    fn urls() -> impl Strategy<Value = String> {
        let scheme = prop::sample::select(vec![
            "postgres://",
            "postgresql://",
            "mysql://",
            "POSTGRES://",
            "sqlite://",
            "file://",
            "oracle://",
            "postgres:/",
            "postgres:",
            "//",
            "",
            "mariadb://",
            ":",
        ]);
        let place = prop::sample::select(vec![
            "h",
            "h:5432",
            "127.0.0.1:1/db",
            "h:x/db?a=b",
            "[::1]:1/db",
            "",
            "h/db?x=a@b",
        ]);
        (scheme, "[a-z.]{0,4}", passwords(), place, any::<bool>()).prop_map(
            |(scheme, user, password, place, parameter)| {
                // A parameter ends with & and its % are escapes, so that what follows is another's.
                let parameter = parameter && !password.contains(['&', '?', '=']);
                match parameter {
                    true => format!(
                        "{scheme}{user}@{}?password={password}",
                        place.split('?').next().unwrap_or_default()
                    ),
                    false => format!("{scheme}{user}:{password}@{place}"),
                }
            },
        )
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(10_000))]

        /// Whichever part of it the driver quotes.
        #[test]
        fn no_password_is_shown(url in urls(), cut in "[/?]") {
            prop_assert!(!without_password(&url).contains("HIDDEN"), "{}", without_password(&url));
            let quoted = match Backend::of_url(&url) {
                // It is not taken apart.
                Ok(Backend::Sqlite) => format!("no such file {url:?}"),
                // Parameters are taken apart by their & only.
                Ok(_) if url.contains("?password=") => format!("no such host {url:?}: {}", url.replace('?', "\" \"")),
                Ok(_) => format!("no such host \"{url}\": {}", url.replace(&cut, "\" \"")),
                Err(error) => {
                    prop_assert!(!error.to_string().contains("HIDDEN"), "{}", error);
                    return Ok(());
                }
            };
            let error = cannot_connect(&url, &quoted).to_string();
            prop_assert!(url.contains("HIDDEN") && !error.contains("HIDDEN"), "{}: {}", url, error);
        }

        #[test]
        fn whatever_the_environment_has_is_read(url in any::<String>(), other in "[a-z:/@?#%=&.\\[\\] ]{0,30}") {
            for url in [url, other] {
                let _ = (Backend::of_url(&url), without_password(&url), cannot_connect(&url, &url));
            }
        }
    }
}
