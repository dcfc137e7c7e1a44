//! Very many messages that fail at once and are tried again and again, and fresh ones beside them.

use std::time::{Duration, Instant};

use crate::loads::ground::Ground;
use crate::loads::tally::{Count, spread};
use crate::loads::work::Topic;

/// Between two fresh messages.
const PACE: Duration = Duration::from_millis(200);
/// A fresh message of another topic is begun by then.
const BOUND: Duration = Duration::from_secs(5);
/// All of the storm have been tried once by then.
const MOST: Duration = Duration::from_secs(600);
/// Failures without end.
const ALWAYS: u32 = u32::MAX;

/// One of the same topic waits for what was due before it, too: the whole storm at most, once. Its first attempts show how
/// long that takes.
fn bound_behind(storm: Duration) -> Duration {
    BOUND + storm.mul_f64(1.5)
}

/// While so many are tried for the first time, and then are tried again for so long, a fresh one of another topic is begun soon;
/// one of the same topic behind what was due before it. Gives the figures.
///
/// # Panics
/// When it is not.
pub fn storm(mut ground: Ground, messages: usize, length: Duration) -> String {
    let mut conn = ground.connect();
    for _ in 0..messages / 1000 {
        ground.produce(&mut conn, Topic::Storm, 1000, |_| ALWAYS);
    }
    let failing = ground.produced.len();
    ground.start_workers(2);
    ground.wait_for_workers();
    let mut fresh = Fresh::default();
    let began = Instant::now();
    while (0..failing).any(|number| ground.tally.of_number(number).starts == 0) {
        assert!(began.elapsed() < MOST, "not all were tried after {MOST:?}");
        fresh.calm.push(ground.produced.len());
        ground.produce(&mut conn, Topic::Calm, 1, |_| 0);
        std::thread::sleep(PACE);
        ground.tally.read();
    }
    let first = began.elapsed();
    let attempts =
        |ground: &Ground| (0..failing).map(|number| ground.tally.of_number(number).starts).sum::<u32>();
    let before = attempts(&ground);
    let retries = Instant::now();
    while retries.elapsed() < length {
        for (topic, numbers) in [(Topic::Calm, &mut fresh.calm), (Topic::Storm, &mut fresh.same)] {
            numbers.push(ground.produced.len());
            ground.produce(&mut conn, topic, 1, |_| 0);
        }
        std::thread::sleep(PACE);
        ground.tally.read();
    }
    let again = f64::from(attempts(&ground) - before) / retries.elapsed().as_secs_f64();
    let last = Instant::now();
    while fresh.all().any(|(number, _)| ground.tally.of_number(number).ends == 0)
        && last.elapsed() < bound_behind(first)
    {
        std::thread::sleep(Duration::from_millis(20));
        ground.tally.read();
    }
    for (number, whose) in fresh.all() {
        let count = ground.tally.of_number(number);
        assert_eq!(
            Count { first: 0, ..count },
            Count { starts: 1, ends: 1, fails: 0, first: 0 },
            "{number}, of {whose}"
        );
    }
    for number in 0..failing {
        let count = ground.tally.of_number(number);
        assert!(count.ends == 0 && count.fails + 1 >= count.starts, "{number}: {count:?}");
    }
    let [calm, same] = [&fresh.calm, &fresh.same].map(|numbers| waits(&ground, numbers));
    for (waits, bound, whose) in [(&calm, BOUND, "another"), (&same, bound_behind(first), "the same")] {
        let within = waits.iter().all(|wait| *wait <= bound);
        assert!(within, "fresh messages of {whose} topic waited {}, not {bound:?}", spread(waits));
    }
    let figures = format!(
        "storm of {failing}: all failed once after {:.1} s, then {again:.0} retries a second for {} s; \
         fresh ones of the topic waited {} ({}), of another {} ({}); {} warnings",
        first.as_secs_f64(),
        length.as_secs(),
        spread(&same),
        same.len(),
        spread(&calm),
        calm.len(),
        ground.warnings(),
    );
    let failing = i64::try_from(failing).expect("fits");
    // A handler that has ended is acknowledged a moment later.
    ground.wait_for_live(failing);
    assert_eq!(ground.live(), failing, "all that fail are kept, and nothing else");
    ground.remove();
    figures
}

/// The numbers of the fresh messages.
#[derive(Default)]
struct Fresh {
    calm: Vec<usize>,
    same: Vec<usize>,
}

impl Fresh {
    fn all(&self) -> impl Iterator<Item = (usize, &'static str)> {
        let calm = self.calm.iter().map(|&number| (number, "another topic"));
        calm.chain(self.same.iter().map(|&number| (number, "the same topic")))
    }
}

fn waits(ground: &Ground, numbers: &[usize]) -> Vec<Duration> {
    let wait = |&number: &usize| {
        let began = ground.tally.of_number(number).first;
        Duration::from_nanos(began.saturating_sub(ground.produced[number].at))
    };
    let mut waits: Vec<Duration> = numbers.iter().map(wait).collect();
    waits.sort_unstable();
    waits
}
