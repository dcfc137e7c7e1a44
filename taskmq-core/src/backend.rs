use std::fmt;

use crate::{Error, Result};

/// One of the three kinds of database.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Backend {
    /// SQLite, in a file.
    Sqlite,
    /// PostgreSQL.
    Postgres,
    /// MariaDB or MySQL.
    Mysql,
}

impl Backend {
    /// All three.
    pub const ALL: [Backend; 3] = [Backend::Sqlite, Backend::Postgres, Backend::Mysql];

    /// The database that a `DATABASE_URL` means, by the same rules as diesel_cli: `postgres://` and
    /// `postgresql://`, `mysql://`, and anything else is the path of a SQLite file.
    ///
    /// # Errors
    /// [`Error::Unsupported`] for a URL of some other database.
    ///
    /// ```
    /// use taskmq_core::Backend;
    /// assert_eq!(Backend::of_url("postgres://localhost/app")?, Backend::Postgres);
    /// assert_eq!(Backend::of_url("app.db")?, Backend::Sqlite);
    /// # Ok::<(), taskmq_core::Error>(())
    /// ```
    pub fn of_url(url: &str) -> Result<Self> {
        match url.split_once("://").map(|(scheme, _)| scheme.to_ascii_lowercase()).as_deref() {
            Some("postgres" | "postgresql") => Ok(Backend::Postgres),
            Some("mysql") => Ok(Backend::Mysql),
            // What libpq would read, but neither Diesel nor diesel_cli: no file is to be made that is named so.
            None if ["postgres", "postgresql", "mysql"].iter().any(|scheme| {
                url.strip_prefix(scheme).is_some_and(|rest| rest.starts_with(':') || rest.starts_with("//"))
            }) || ["host=", "dbname=", "password="].iter().any(|key| url.contains(key))
                || has_user_and_password(url) =>
            {
                Err(no_url())
            }
            None | Some("sqlite" | "file") => Ok(Backend::Sqlite),
            Some("mariadb") => Err(Error::Unsupported(
                "write a MariaDB URL as mysql://..., which is what Diesel reads".to_owned(),
            )),
            // What is before the first :// may be a user with a password that has one.
            Some(other) if Self::is_scheme(other) => Err(Error::Unsupported(format!(
                "{other}:// is no database that taskmq knows: use a file's path for SQLite, postgres:// or mysql://"
            ))),
            Some(_) => Err(no_url()),
        }
    }

    pub(crate) fn is_scheme(text: &str) -> bool {
        !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || "+-.".contains(c))
    }

    /// The name of the feature, of the migrations' folder and of the command line's `--backend`.
    pub fn feature(self) -> &'static str {
        match self {
            Backend::Sqlite => "sqlite",
            Backend::Postgres => "postgres",
            Backend::Mysql => "mysql",
        }
    }
}

fn no_url() -> Error {
    Error::Unsupported(
        "DATABASE_URL must be a file's path, postgres://user:password@host/name or mysql://user:password@host/name"
            .to_owned(),
    )
}

/// `user:password@host/name`, of which only the scheme is missing: as a file's name it would be shown.
fn has_user_and_password(url: &str) -> bool {
    let user = url.rsplit_once('@').and_then(|(user, _)| user.split_once(':'));
    user.is_some_and(|(name, password)| {
        let is_drive = name.len() == 1 && password.starts_with(['/', '\\']);
        !name.contains(['/', '\\', '.']) && !is_drive
    })
}

impl fmt::Display for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Backend::Sqlite => "SQLite",
            Backend::Postgres => "PostgreSQL",
            Backend::Mysql => "MariaDB/MySQL",
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_without_its_scheme_is_no_file() {
        for url in ["u:secret@host/name", "user:se@cret@host", "postgres:user@host/name", "host=h dbname=d"] {
            let error = Backend::of_url(url).expect_err(url).to_string();
            assert!(error.contains("postgres://") && !error.contains("secret"), "{error}");
        }
        for path in [
            "app.db",
            ":memory:",
            "C:\\people\\me@work\\app.db",
            "./a:b@c.db",
            "me@work.db",
            "sqlite://app.db",
        ] {
            assert_eq!(Backend::of_url(path).expect(path), Backend::Sqlite);
        }
    }
}
