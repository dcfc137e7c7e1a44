//! A server that does not answer keeps a thread with each question, so it is asked by one at a time then, ever less often.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The first pause, and as much more after each further silence,
const PAUSE: Duration = Duration::from_secs(1);
/// but no longer one than this.
const LONGEST: Duration = Duration::from_secs(60);

#[derive(Debug, Default)]
pub(super) struct Silence(Mutex<Option<Kept>>);

#[derive(Debug)]
struct Kept {
    /// So many questions in a row were not answered.
    questions: u32,
    /// Nobody asks before.
    until: Instant,
}

impl Silence {
    /// Whether a question may be asked now. It says how long it may take: the others wait for what becomes of it.
    pub(super) fn lets_ask(&self, at_most: Duration) -> bool {
        self.lets_ask_at(at_most, Instant::now())
    }

    /// A question was not answered.
    pub(super) fn goes_on(&self) {
        self.goes_on_at(Instant::now());
    }

    /// A question was answered.
    pub(super) fn is_over(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    fn lets_ask_at(&self, at_most: Duration, now: Instant) -> bool {
        match &mut *self.0.lock().unwrap_or_else(PoisonError::into_inner) {
            None => true,
            Some(kept) if now < kept.until => false,
            Some(kept) => {
                kept.until = now + at_most;
                true
            }
        }
    }

    fn goes_on_at(&self, now: Instant) {
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let questions = kept.as_ref().map_or(0, |kept| kept.questions).saturating_add(1);
        let until = now + PAUSE.saturating_mul(questions).min(LONGEST);
        *kept = Some(Kept { questions, until });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_asks_a_silent_server_at_a_time_and_ever_less_often() {
        let silence = Silence::default();
        let (now, at_most) = (Instant::now(), Duration::from_secs(10));
        assert!(silence.lets_ask_at(at_most, now) && silence.lets_ask_at(at_most, now));
        silence.goes_on_at(now);
        assert!(!silence.lets_ask_at(at_most, now));
        let later = now + PAUSE;
        assert!(silence.lets_ask_at(at_most, later));
        assert!(!silence.lets_ask_at(at_most, later), "another one asks already");
        (0..1000).for_each(|_| silence.goes_on_at(later));
        assert!(!silence.lets_ask_at(at_most, later + LONGEST - PAUSE));
        assert!(silence.lets_ask_at(at_most, later + LONGEST));
        silence.is_over();
        assert!(silence.lets_ask_at(at_most, later) && silence.lets_ask_at(at_most, later));
    }
}
