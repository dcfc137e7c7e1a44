//! Drains: messages wait, workers start, and the time runs from the first handler's start until nothing is left.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::Result;
use crate::contestant::{Contestant, Role};
use crate::database::{Database, Kind, Server};
use crate::process::{self, Process};
use crate::workload::{Case, EVERYBODY, LIBRARIES, Measures, Rounds, Scale, TASKMQ, float, prepared, words};

/// A drain that takes longer has failed.
const PATIENCE: Duration = Duration::from_secs(300);
const LOOK_EVERY: Duration = Duration::from_millis(2);

/// One drain.
#[derive(Clone, Debug)]
struct Drain {
    messages: u64,
    /// Arguments of `produce`.
    produce: String,
    workers: usize,
    /// Arguments of `work`.
    work: String,
}

impl Drain {
    fn of(messages: u64) -> Self {
        Self { messages, produce: String::new(), workers: 1, work: String::new() }
    }

    fn case(self, name: impl Into<String>, roles: &'static [Role]) -> Case {
        Case::new(name, roles, move |server, contestant| self.measure(server, contestant))
    }

    fn measure(&self, server: &Server, contestant: &Contestant) -> Result<Measures> {
        let messages = self.messages.min(contestant.at_most);
        let database = prepared(server, contestant)?;
        process::seconds(
            contestant,
            &database,
            &words(format!("produce {messages}{}", self.produce).trim()),
        )?;
        database.settle()?;
        let command = words(&format!("work{}", self.work));
        let mut workers = (0..self.workers)
            .map(|_| Process::start(contestant, &database, &command))
            .collect::<Result<Vec<_>>>()?;
        let (micros, twice) = until_nothing_is_left(contestant, &database, &mut workers, messages)?;
        let mut measures = Measures::from([
            ("rate".to_owned(), float(messages) * 1e6 / float(micros.max(1))),
            ("messages".to_owned(), float(messages)),
        ]);
        if twice > 0 {
            measures.insert("ran_twice".to_owned(), float(twice));
        }
        let mut peak = 0_f64;
        for worker in &mut workers {
            peak = peak.max(worker.peak_mib()?);
        }
        measures.insert("rss_mib".to_owned(), peak);
        Ok(measures)
    }
}

/// The microseconds from the first handler's start, and how many were handled more often than once.
fn until_nothing_is_left(
    contestant: &Contestant,
    database: &Database,
    workers: &mut [Process],
    messages: u64,
) -> Result<(u64, u64)> {
    let deadline = Instant::now() + PATIENCE;
    let mut client = database.client()?;
    loop {
        let (mut handled, mut first) = (0, u64::MAX);
        for worker in &mut *workers {
            let count = worker.count()?;
            handled += count.handled;
            if count.first > 0 {
                first = first.min(count.first);
            }
        }
        if handled >= messages && client.number(&contestant.left)? == 0 {
            let now = SystemTime::now().duration_since(UNIX_EPOCH)?;
            return Ok((u64::try_from(now.as_micros())?.saturating_sub(first), handled - messages));
        }
        if Instant::now() > deadline {
            let left = client.number(&contestant.left)?;
            return Err(format!("{handled} of {messages} handled after {PATIENCE:?}, {left} left").into());
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

pub(super) fn plain(scale: Scale, _database: Kind) -> Vec<Case> {
    let drain = Drain::of(scale.pick(40_000, 200_000, 200_000));
    let case = |workers: usize, name: &str| Drain { workers, ..drain.clone() }.case(name, EVERYBODY);
    let several =
        |workers: usize, name: &str| {
            case(workers, name)
                .own(scale.pick(Rounds::First, Rounds::Every, Rounds::Every))
                .peers(scale.pick(Rounds::Never, Rounds::First, Rounds::Every))
        };
    vec![case(1, "1 worker"), several(2, "2 workers"), several(4, "4 workers")]
}

pub(super) fn shapes(scale: Scale, _database: Kind) -> Vec<Case> {
    let case = |name: &str, messages, produce: &str, work: &str, roles| {
        Drain { messages, produce: produce.to_owned(), workers: 1, work: work.to_owned() }
            .case(name, roles)
            .own(Rounds::First)
            .peers(scale.pick(Rounds::Never, Rounds::First, Rounds::First))
    };
    let drain = scale.pick(20_000, 100_000, 200_000);
    let large = scale.pick(1_000, 4_000, 20_000);
    let slow = scale.pick(3_000, 10_000, 30_000);
    vec![
        case("payload of 1 KiB", drain, " --bytes 1024", "", LIBRARIES),
        case("payload of 4 KiB", drain / 2, " --bytes 4096 --batch 500", "", LIBRARIES),
        case("payload of 64 KiB", large, " --bytes 65536 --batch 100", "", LIBRARIES),
        case("50 topics", drain, " --topics 50", " --topics 50", TASKMQ),
        case("1,000 ordering keys", drain, " --keys 1000", "", TASKMQ),
        case("10 ordering keys", drain / 10, " --keys 10", "", TASKMQ),
        case("handler of 1 ms, 100 at once", drain, " --ms 1", " --concurrency 100", TASKMQ),
        case("async handler of 1 ms, 100 at once", drain, " --ms 1", " --concurrency 100 --async", TASKMQ),
        case("handler of 100 ms, 100 at once", slow, " --ms 100", " --concurrency 100", TASKMQ),
        case(
            "async handler of 100 ms, 100 at once",
            slow,
            " --ms 100",
            " --concurrency 100 --async",
            LIBRARIES,
        ),
    ]
}

pub(super) fn memory(scale: Scale, _database: Kind) -> Vec<Case> {
    let messages = scale.pick(100_000, 1_000_000, 1_000_000);
    vec![Drain::of(messages).case(format!("draining {messages} messages"), TASKMQ).own(Rounds::First)]
}
