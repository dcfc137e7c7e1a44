//! A change of many messages: how far it is, and Ctrl-C, which ends it between two pages.

use std::io::IsTerminal;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::{Error, Result};

/// Of one change.
pub(crate) struct Progress {
    bar: ProgressBar,
    total: usize,
    interrupted: Arc<AtomicBool>,
}

impl Progress {
    /// Of so many messages. The bar is for a terminal only.
    pub(crate) fn of(total: usize) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            ProgressBar::new(u64::try_from(total).unwrap_or(u64::MAX))
        } else {
            ProgressBar::hidden()
        };
        if let Ok(style) = ProgressStyle::with_template("{wide_bar} {pos}/{len} {eta}") {
            bar.set_style(style);
        }
        Self { bar, total, interrupted: interrupts() }
    }

    /// So many more were looked at; whether to go on.
    pub(crate) fn after(&self, messages: usize) -> ControlFlow<()> {
        self.bar.inc(u64::try_from(messages).unwrap_or_default());
        if self.interrupted.load(Ordering::Relaxed) {
            ControlFlow::Break(())
        } else {
            ControlFlow::Continue(())
        }
    }

    /// Takes the bar away.
    ///
    /// # Errors
    /// [`Error::Interrupted`] when it was told to stop and is not through.
    pub(crate) fn end(&self) -> Result<()> {
        let done = usize::try_from(self.bar.position()).unwrap_or(usize::MAX);
        self.bar.finish_and_clear();
        if self.interrupted.load(Ordering::Relaxed) && done < self.total {
            return Err(Error::Interrupted { done, total: self.total });
        }
        Ok(())
    }
}

/// Set by Ctrl-C from now on. A second one ends the program at once, as the first does where nobody can listen to it.
fn interrupts() -> Arc<AtomicBool> {
    let interrupted = Arc::new(AtomicBool::new(false));
    let Ok(runtime) = tokio::runtime::Builder::new_current_thread().enable_all().build() else {
        return interrupted;
    };
    let guard = runtime.enter();
    #[cfg(unix)]
    let listener = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::interrupt());
    #[cfg(windows)]
    let listener = tokio::signal::windows::ctrl_c();
    drop(guard);
    if let Ok(mut listener) = listener {
        let set = Arc::clone(&interrupted);
        std::thread::spawn(move || {
            runtime.block_on(async {
                listener.recv().await;
                set.store(true, Ordering::Relaxed);
                listener.recv().await;
                std::process::exit(Error::INTERRUPTED.into());
            });
        });
    }
    interrupted
}
