//! The workloads, one file each.

mod claims;
mod drain;
mod idle;
mod latency;
mod overview;
mod produce;
mod steady;

use clap::builder::PossibleValuesParser;

use crate::database::Kind;
use crate::workload::{Case, Scale};

/// A group of cases that is reported in one table.
pub(crate) struct Workload {
    pub(crate) name: &'static str,
    /// The report's heading.
    pub(crate) title: &'static str,
    /// What is measured, for the report.
    pub(crate) about: &'static str,
    pub(crate) cases: fn(Scale, Kind) -> Vec<Case>,
}

pub(crate) static ALL: [Workload; 10] = [
    Workload {
        name: "bulk",
        title: "Bulk produce",
        about: "Messages a second, produced by one process on one connection in batches of 5,000.",
        cases: produce::bulk,
    },
    Workload {
        name: "single",
        title: "Single produce",
        about: "Messages a second, each produced and committed by itself.",
        cases: produce::single,
    },
    Workload {
        name: "drain",
        title: "Drain",
        about: "No-op messages a second, from the first handler's start until all are handled and none is left in the \
                database: nothing live, or everything completed. Start-up is left out for everybody.",
        cases: drain::plain,
    },
    Workload {
        name: "latency",
        title: "Latency",
        about: "From just before the producing call to the handler's start, at 200 messages a second on an idle worker.",
        cases: latency::cases,
    },
    Workload {
        name: "steady",
        title: "Produce and consume at the same time",
        about: "Messages a second when one process produces batches of 500 and one worker consumes them, at most 10,000 \
                waiting. On PostgreSQL also while another session holds a REPEATABLE READ snapshot open.",
        cases: steady::cases,
    },
    Workload {
        name: "shapes",
        title: "Other payloads, topics and handlers",
        about: "Drains as above by one worker, of other payloads, of 50 topics, and of handlers that take time.",
        cases: drain::shapes,
    },
    Workload {
        name: "claims",
        title: "The cost of a claim",
        about: "What one claim of 100 messages takes, whatever else waits; the median of 100.",
        cases: claims::cases,
    },
    Workload {
        name: "idle",
        title: "An idle worker",
        about: "A worker with nothing to do: processor time, and what the server says it was asked (SQLite: commits).",
        cases: idle::cases,
    },
    Workload {
        name: "overview",
        title: "The admin's overview",
        about: "What the page takes when its figures are read anew, and what the server says it was asked (PostgreSQL: \
                transactions) and read for that (rows and entries of indexes); then a drain of one of the topics, alone \
                and while somebody looks each second.",
        cases: overview::cases,
    },
    Workload {
        name: "memory",
        title: "Memory",
        about: "The worker's peak memory (VmHWM) while it drains a long backlog.",
        cases: drain::memory,
    },
];

pub(crate) fn names() -> PossibleValuesParser {
    PossibleValuesParser::new(ALL.iter().map(|workload| workload.name))
}
