//! Who has signed in. Sessions live in memory: a restart ends them all.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::secrets::{self, Fingerprint};
use crate::{Actor, Result};

/// A session that nobody uses ends after this time,
const IDLE: Duration = Duration::from_secs(12 * 3600);
/// and each after this.
const LONGEST: Duration = Duration::from_secs(7 * 24 * 3600);
/// At most so many; the one that was not used for longest gives way.
const MOST: usize = 1000;

#[derive(Default)]
pub(super) struct Sessions(Mutex<HashMap<Fingerprint, Session>>);

struct Session {
    actor: Actor,
    since: Instant,
    used: Instant,
}

impl Session {
    fn lives(&self) -> bool {
        self.since.elapsed() < LONGEST && self.used.elapsed() < IDLE
    }
}

impl Sessions {
    /// Begins one, and gives its secret.
    pub(super) fn begin(&self, actor: Actor) -> Result<String> {
        let secret = secrets::random()?;
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        sessions.retain(|_, session| session.lives());
        if sessions.len() >= MOST
            && let Some(oldest) = sessions.iter().min_by_key(|(_, s)| s.used).map(|(id, _)| *id)
        {
            sessions.remove(&oldest);
        }
        let now = Instant::now();
        sessions.insert(Fingerprint::of(&secret), Session { actor, since: now, used: now });
        Ok(secret)
    }

    pub(super) fn who(&self, secret: &str) -> Option<Actor> {
        let mut sessions = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Found by its hash, so the time that it takes tells nothing of the secret.
        let session = sessions.get_mut(&Fingerprint::of(secret)).filter(|session| session.lives())?;
        session.used = Instant::now();
        Some(session.actor.clone())
    }

    pub(super) fn end(&self, secret: &str) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).remove(&Fingerprint::of(secret));
    }
}
