use std::io;

/// Why a server could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A program that is not installed.
    #[error(
        "{program} is not installed: run `cargo xtask test`, which installs {package}, or install it yourself"
    )]
    Missing {
        /// The program.
        program: &'static str,
        /// What Debian calls the package.
        package: &'static str,
    },
    /// The servers refuse to run as root, and the user to run as instead is not there.
    #[error(
        "there is no user {0} to run the server as, and it refuses to run as root: install its package again"
    )]
    NoAccount(&'static str),
    /// Something that the operating system refused.
    #[error("cannot {what}: {source}")]
    Os {
        /// What was tried.
        what: String,
        /// The operating system's own words.
        source: io::Error,
    },
    /// A program that ended with an error.
    #[error("{program} failed:\n{output}")]
    Failed {
        /// The program.
        program: String,
        /// What it wrote.
        output: String,
    },
    /// A server that ended, or did not answer in time.
    #[error("the {server} server {problem}; the end of its log:\n{log}")]
    NotReady {
        /// Which server.
        server: &'static str,
        /// What happened.
        problem: String,
        /// The end of its log.
        log: String,
    },
}

/// The result of everything that is done with a server.
pub type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    /// Says what was being done when the operating system refused.
    pub(crate) fn os(what: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        move |source| Error::Os { what: what.into(), source }
    }
}
