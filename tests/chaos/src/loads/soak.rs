//! Most of what the machine can do, for long: a few attempts fail, some messages die, and nothing grows.

use std::fmt;
use std::time::{Duration, Instant};

use crate::loads::ground::Ground;
use crate::loads::measures::{dead_rows, memory, size};
use crate::loads::tally::spread;
use crate::loads::work::{ATTEMPTS, Topic};

/// So many workers.
const WORKERS: usize = 2;
/// Of what is produced and drained in the calibration.
const SHARE: f64 = 0.7;
/// Between two productions; what has become due by then is produced at once.
const PACE: Duration = Duration::from_millis(20);
/// As many messages may wait as are produced in this time. Others may use the machine, too.
const BACKLOG: f64 = 30.0;
/// Shorter runs say nothing of memory, for it grows until everything has been done once,
const MEMORY_AFTER: Duration = Duration::from_secs(60);
/// nor these of the tables, for a worker first deletes done messages after a minute or so.
const SIZE_AFTER: Duration = Duration::from_secs(240);
/// Of memory; each worker's handlers may happen to hold that much more or less.
const SLACK_KIB: u64 = 8 * 1024;
/// Done messages are deleted in it, as they are in the soak.
const CALIBRATION: Duration = Duration::from_secs(180);
/// So many wait in the calibration.
const AHEAD: usize = 10_000;
/// A dead letter is kept, with the errors of its attempts.
const DEAD_LETTER_BYTES: u64 = 4 * 1024;
/// PostgreSQL has so many dead rows at most for each message of [`BACKLOG`] seconds: it sweeps every ten here.
const DEAD_ROWS: f64 = 10.0;

/// PostgreSQL sweeps as often in minutes as elsewhere in hours.
pub const POSTGRES: [&str; 2] = ["-c", "autovacuum_naptime=10s"];

/// What was counted and measured.
#[derive(Debug)]
pub struct Soak {
    length: Duration,
    /// Messages in a second that were produced and drained, in the calibration,
    drained: f64,
    /// and in the soak.
    rate: f64,
    messages: usize,
    retried: usize,
    dead: usize,
    waits: String,
    samples: Vec<Sample>,
    after: Duration,
    warnings: usize,
}

/// At one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    backlog: usize,
    memory: u64,
    size: u64,
    dead_rows: u64,
}

/// Does it, and demands what is promised.
///
/// # Panics
/// When something is lost, repeated, or grows.
pub fn soak(mut ground: Ground, length: Duration) -> Soak {
    let mut conn = ground.connect();
    ground.start_workers(WORKERS);
    ground.wait_for_workers();
    let drained = if length < SIZE_AFTER {
        calibrate(&mut ground, if length < MEMORY_AFTER { 2_000 } else { 10_000 }, Duration::ZERO)
    } else {
        calibrate(&mut ground, 10_000, CALIBRATION)
    };
    let calibrated = ground.produced.len();
    let rate = SHARE * drained;
    let pids = ground.pids();
    let mut samples = Vec::new();
    let between = length / 120;
    let began = Instant::now();
    while began.elapsed() < length {
        let due = (began.elapsed().as_secs_f64() * rate) as usize;
        let missing = (due + calibrated).saturating_sub(ground.produced.len());
        if missing > 0 {
            ground.produce(&mut conn, Topic::Load, missing, failures);
        }
        ground.tally.read();
        if began.elapsed() >= between * u32::try_from(samples.len()).unwrap_or(u32::MAX) {
            samples.push(Sample {
                backlog: ground.produced.len() - ground.tally.over(),
                memory: memory(&pids),
                size: size(&mut conn),
                dead_rows: dead_rows(&mut conn),
            });
        }
        std::thread::sleep(PACE);
    }
    let all = ground.produced.len();
    let after = ground.wait_until_over(all, Duration::from_secs(60));
    let soaked = &ground.produced[calibrated..];
    let of = |which: fn(u32) -> bool| soaked.iter().filter(|message| which(message.failures)).count();
    let soak = Soak {
        length,
        drained,
        rate,
        messages: soaked.len(),
        retried: of(|failures| (1..ATTEMPTS).contains(&failures)),
        dead: of(|failures| failures >= ATTEMPTS),
        waits: spread(&ground.tally.waits_from(calibrated, &ground.produced)),
        samples,
        after,
        warnings: ground.warnings(),
    };
    ground.finish();
    soak.check();
    soak
}

/// Of a thousand, 30 fail once, and five die.
fn failures(number: usize) -> u32 {
    match number % 1000 {
        0..30 => 1,
        500..505 => ATTEMPTS,
        _ => 0,
    }
}

/// Messages in a second, from the first that is produced to the last that is over: so many at least, for so long.
fn calibrate(ground: &mut Ground, messages: usize, time: Duration) -> f64 {
    let mut conn = ground.connect();
    let began = Instant::now();
    while ground.produced.len() < messages || began.elapsed() < time {
        ground.tally.read();
        if ground.produced.len() - ground.tally.over() < AHEAD {
            ground.produce(&mut conn, Topic::Load, 100, |_| 0);
        } else {
            std::thread::sleep(PACE);
        }
    }
    let all = ground.produced.len();
    ground.wait_until_over(all, Duration::from_secs(120));
    all as f64 / began.elapsed().as_secs_f64()
}

impl Soak {
    fn check(&self) {
        let second = self.quarter(1);
        let last = self.quarter(3);
        let backlog = Self::most(&self.samples, |sample| sample.backlog as u64);
        let course: Vec<usize> = self.samples.iter().map(|sample| sample.backlog).collect();
        assert!(backlog as f64 <= BACKLOG * self.rate, "{backlog} messages waited ({course:?}): {self}");
        let dead_rows = Self::most(&self.samples, |sample| sample.dead_rows);
        assert!(dead_rows as f64 <= DEAD_ROWS * BACKLOG * self.rate, "{dead_rows} dead rows: {self}");
        if self.length >= MEMORY_AFTER {
            let [before, after] = [second, last].map(|quarter| Self::median(quarter, |sample| sample.memory));
            assert!(after <= before + before / 5 + WORKERS as u64 * SLACK_KIB, "memory grows: {self}");
        }
        if self.length >= SIZE_AFTER {
            let [before, after] = [second, last].map(|quarter| Self::most(quarter, |sample| sample.size));
            let kept = self.dead as u64 * DEAD_LETTER_BYTES;
            assert!(after <= before + before / 2 + kept, "the tables grow: {self}");
        }
    }

    fn quarter(&self, number: usize) -> &[Sample] {
        let length = self.samples.len() / 4;
        &self.samples[number * length..(number + 1) * length]
    }

    fn most(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
        samples.iter().map(of).max().unwrap_or_default()
    }

    fn median(samples: &[Sample], of: fn(&Sample) -> u64) -> u64 {
        let mut sorted: Vec<u64> = samples.iter().map(of).collect();
        sorted.sort_unstable();
        sorted.get(sorted.len() / 2).copied().unwrap_or_default()
    }
}

impl fmt::Display for Soak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [second, last] = [self.quarter(1), self.quarter(3)];
        let memory = |quarter| Self::median(quarter, |sample| sample.memory) / 1024;
        let size = |quarter| Self::most(quarter, |sample| sample.size) as f64 / 1_048_576.0;
        write!(
            f,
            "soak of {} s: {} messages, {:.0} a second of {:.0}; {} retried, {} dead; waited {}; \
             backlog {} at most, over after {:.1} s; memory of {WORKERS} workers {} MiB, later {}; \
             tables {:.1} MiB, later {:.1}; {} dead rows at most; {} warnings",
            self.length.as_secs(),
            self.messages,
            self.rate,
            self.drained,
            self.retried,
            self.dead,
            self.waits,
            Self::most(&self.samples, |sample| sample.backlog as u64),
            self.after.as_secs_f64(),
            memory(second),
            memory(last),
            size(second),
            size(last),
            Self::most(&self.samples, |sample| sample.dead_rows),
            self.warnings,
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(length: u64, last: Sample) -> Soak {
        let flat = Sample { backlog: 10, memory: 40_000, size: 1_000_000, dead_rows: 100 };
        let samples = [[flat; 90].as_slice(), &[last; 30]].concat();
        Soak {
            length: Duration::from_secs(length),
            drained: 100.0,
            rate: 70.0,
            messages: 1000,
            retried: 30,
            dead: 5,
            waits: String::new(),
            samples,
            after: Duration::ZERO,
            warnings: 0,
        }
    }

    fn is_refused(soak: &Soak) -> bool {
        std::panic::catch_unwind(|| soak.check()).is_err()
    }

    #[test]
    fn what_grows_is_refused() {
        let flat = Sample { backlog: 20, memory: 41_000, size: 1_010_000, dead_rows: 200 };
        of(600, flat).check();
        for grown in [
            Sample { backlog: 3_000, ..flat },
            Sample { memory: 80_000, ..flat },
            Sample { size: 2_000_000, ..flat },
            Sample { dead_rows: 30_000, ..flat },
        ] {
            assert!(is_refused(&of(600, grown)), "{grown:?}");
        }
        assert!(!is_refused(&of(30, Sample { memory: 80_000, size: 2_000_000, ..flat })), "too short to say");
    }
}
