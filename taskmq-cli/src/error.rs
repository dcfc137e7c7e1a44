use std::path::PathBuf;
use std::process::ExitCode;

use taskmq_core::Backend;

/// What went wrong, in words that say what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("{0}")]
    Refused(String),
    #[error("{path}: {source}")]
    File { path: PathBuf, source: std::io::Error },
    #[error("{0}")]
    Queue(taskmq_core::Error),
    #[error("this taskmq-cli was built without {backend}: cargo install taskmq-cli --features {feature}", feature = .backend.feature())]
    BackendMissing { backend: Backend },
    #[error("{what} is no JSON: {reason}")]
    Json { what: String, reason: String },
    #[error("{0}")]
    Admin(#[from] taskmq_admin::Error),
    #[error("{0}")]
    Failed(String),
    #[error("interrupted after {done} of {total} messages: the rest is as it was")]
    Interrupted { done: usize, total: usize },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// As shells have it of a program that Ctrl-C ended.
    pub(crate) const INTERRUPTED: u8 = 130;

    /// 2 for what was refused before anything was done, 1 for what failed.
    pub(crate) fn exit_code(&self) -> ExitCode {
        match self {
            Error::Refused(_) | Error::Json { .. } | Error::BackendMissing { .. } => ExitCode::from(2),
            Error::Queue(
                taskmq_core::Error::Topic { .. }
                | taskmq_core::Error::Key { .. }
                | taskmq_core::Error::Json { .. }
                | taskmq_core::Error::TooLarge { .. }
                | taskmq_core::Error::Delay { .. }
                | taskmq_core::Error::Cron { .. }
                | taskmq_core::Error::TimeZone { .. }
                | taskmq_core::Error::Schedule { .. }
                | taskmq_core::Error::Limit { .. }
                | taskmq_core::Error::NoDatabaseUrl
                | taskmq_core::Error::Unsupported(_),
            ) => ExitCode::from(2),
            Error::Admin(
                taskmq_admin::Error::Unprotected { .. }
                | taskmq_admin::Error::Token { .. }
                | taskmq_admin::Error::Password(_)
                | taskmq_admin::Error::Host { .. },
            ) => ExitCode::from(2),
            Error::Interrupted { .. } => ExitCode::from(Self::INTERRUPTED),
            Error::Admin(_) | Error::File { .. } | Error::Queue(_) | Error::Failed(_) => ExitCode::FAILURE,
        }
    }

    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Error::File { path, source }
    }
}

impl From<taskmq_core::Error> for Error {
    fn from(error: taskmq_core::Error) -> Self {
        match error {
            taskmq_core::Error::BackendMissing(backend) => Error::BackendMissing { backend },
            error => Error::Queue(error),
        }
    }
}

impl From<diesel::result::Error> for Error {
    fn from(error: diesel::result::Error) -> Self {
        taskmq_core::Error::from(error).into()
    }
}
