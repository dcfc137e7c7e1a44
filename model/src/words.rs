//! Steps and tables in words.

use std::fmt;

use crate::actions::{Action, CallKind, Returned};
use crate::broker::Claim;
use crate::name;
use crate::server::Holder;

impl fmt::Display for Action {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Call { process, call, answered } => {
                write!(f, "{} {call}", name(*process))?;
                if *answered { Ok(()) } else { write!(f, "; the connection is lost before the reply") }
            }
            Self::Connect(process) => {
                write!(f, "{} connects anew and gives back what it does not know of", name(*process))
            }
            Self::Kill { process, message } => {
                write!(f, "{} is killed by the handler of #{message}", name(*process))
            }
            Self::Leave(process) => write!(f, "{} ends, with nothing left to do", name(*process)),
            Self::GiveUp { process, answered: true } => {
                write!(f, "{} has no more time: it hands back what runs, and ends", name(*process))
            }
            Self::GiveUp { process, answered: false } => {
                write!(
                    f,
                    "{} has no more time: it hands back what runs, loses the connection, and ends",
                    name(*process)
                )
            }
            Self::Look(process) => write!(f, "{} looks around", name(*process)),
            Self::Rescue(process, worker) => write!(f, "{} rescues what {worker} held", name(*process)),
            Self::Grace => write!(f, "the grace passes"),
            Self::Commit(worker) => write!(f, "what {worker} had no reply to is committed"),
            Self::Abort(worker) => write!(f, "what {worker} had no reply to is undone"),
            Self::DropSession(worker) => write!(f, "the server drops the session of {worker}"),
            Self::TimeOutClaim => write!(f, "the server ends the claim that does not go on"),
            Self::ServerUp => write!(f, "the server is back"),
            Self::Start(process) => write!(f, "{} starts", name(*process)),
            Self::Resume(process) => write!(f, "{} goes on", name(*process)),
            Self::Cut(process) => write!(f, "{}: the liveness connection is cut", name(*process)),
            Self::Pause { process, in_claim: false } => write!(f, "{} is paused", name(*process)),
            Self::Pause { process, in_claim: true } => {
                write!(f, "{} is paused in the middle of a claim", name(*process))
            }
            Self::Crash(process) => write!(f, "{} is killed from outside", name(*process)),
            Self::Stop(process) => write!(f, "{} is told to stop", name(*process)),
            Self::Restart { forgetful: false } => write!(f, "the server crashes"),
            Self::Restart { forgetful: true } => {
                write!(f, "the server crashes before the last claims are on disk")
            }
        }
    }
}

impl fmt::Display for CallKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exchange { returned, claim } => {
                let Returned { done, failed, unbegun } = returned;
                let ended = [(done, "done"), (failed, "failed"), (unbegun, "not begun")];
                let ended = ended.iter().filter(|(ids, _)| !ids.is_empty());
                let ended = ended.map(|(ids, how)| format!("{ids} {how}")).collect::<Vec<_>>().join(", ");
                match (ended.is_empty(), claim) {
                    (true, None) => write!(f, "settles again"),
                    (false, None) => write!(f, "settles {ended}"),
                    (true, Some(claim)) => write!(f, "{claim}"),
                    (false, Some(claim)) => write!(f, "settles {ended}, and {claim}"),
                }
            }
            Self::Promote(batch) => write!(f, "promotes batch {batch}"),
            Self::ClaimAlone(message) => write!(f, "claims #{message} to run it alone"),
            Self::AloneEnded => write!(f, "notes that it is no longer alone"),
        }
    }
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "claims {}{}", self.messages, if self.as_batch { " as a batch" } else { "" })
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nobody => write!(f, "nobody's"),
            Self::SetAside => write!(f, "set aside"),
            Self::Worker(worker) => write!(f, "leased to {worker}"),
        }
    }
}
