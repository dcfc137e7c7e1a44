//! Counts what handlers have written, message by message, while they write it.

use std::collections::HashSet;
use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::time::Duration;

use crate::journal::{Entry, Event, Nanos, Step};
use crate::loads::work::ATTEMPTS;

/// A message that was produced; its number is its place among all.
#[derive(Clone, Copy, Debug)]
pub struct Produced {
    /// When it was committed, or a moment before.
    pub at: Nanos,
    /// So many attempts are to fail.
    pub failures: u32,
}

/// What its handlers have done with a message.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Count {
    /// So often one began.
    pub starts: u32,
    /// So often one ended.
    pub ends: u32,
    /// So often one failed.
    pub fails: u32,
    /// When the first began.
    pub first: Nanos,
}

impl Count {
    fn is_over(&self) -> bool {
        self.ends > 0 || self.fails >= ATTEMPTS
    }
}

/// All counts.
#[derive(Debug)]
pub struct Tally {
    journal: BufReader<File>,
    line: String,
    counts: Vec<Count>,
    over: usize,
    workers: HashSet<u32>,
}

impl Tally {
    /// Of nothing yet. The journal is made if it is not there.
    ///
    /// # Panics
    /// When it cannot be opened.
    pub fn of(journal: &Path) -> Self {
        drop(crate::journal::Journal::open(journal).expect("the journal opens"));
        let journal = BufReader::new(File::open(journal).expect("the journal opens"));
        Self { journal, line: String::new(), counts: Vec::new(), over: 0, workers: HashSet::new() }
    }

    /// Counts what has been written since.
    ///
    /// # Panics
    /// When a line is none of a handler.
    pub fn read(&mut self) {
        // A line that is not whole yet stays, and the rest of it is read the next time.
        while self.journal.read_line(&mut self.line).expect("the journal is read") > 0 {
            let Some(line) = self.line.strip_suffix('\n') else { return };
            let entry = Entry::parse(line).unwrap_or_else(|| panic!("not a line of a journal: {line}"));
            self.line.clear();
            self.count(&entry);
        }
    }

    fn count(&mut self, entry: &Entry) {
        let Event::Handler { step, key, pid, .. } = &entry.event else { panic!("not of a handler: {entry}") };
        self.workers.insert(*pid);
        let number: usize = key.parse().expect("a key is a number");
        if number >= self.counts.len() {
            self.counts.resize(number + 1, Count::default());
        }
        let count = &mut self.counts[number];
        let was_over = count.is_over();
        match step {
            Step::Start => count.starts += 1,
            Step::End => count.ends += 1,
            Step::Fail => count.fails += 1,
        }
        if count.first == 0 {
            count.first = entry.at;
        }
        self.over += usize::from(count.is_over() && !was_over);
    }

    /// So many messages are done or dead.
    pub fn over(&self) -> usize {
        self.over
    }

    /// So many processes had a part in it.
    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// Of a message.
    pub fn of_number(&self, number: usize) -> Count {
        self.counts.get(number).copied().unwrap_or_default()
    }

    /// Messages of which not everything happened once, and what did.
    pub fn wrong(&self, produced: &[Produced]) -> Vec<String> {
        let expected = |message: &Produced| {
            let fails = message.failures.min(ATTEMPTS);
            let ends = u32::from(message.failures < ATTEMPTS);
            Count { starts: fails + ends, ends, fails, first: 0 }
        };
        let numbers = 0..produced.len().max(self.counts.len());
        let wrong = numbers.filter_map(|number| {
            let count = Count { first: 0, ..self.of_number(number) };
            let Some(message) = produced.get(number) else {
                return (count != Count::default())
                    .then(|| format!("{number} was never produced: {count:?}"));
            };
            let expected = expected(message);
            (count != expected).then(|| format!("{number}: {count:?}, not {expected:?}"))
        });
        wrong.collect()
    }

    /// How long messages waited for their first attempt, sorted; those from this number on.
    pub fn waits_from(&self, number: usize, produced: &[Produced]) -> Vec<Duration> {
        let began = produced.iter().zip(&self.counts).skip(number).filter(|(_, count)| count.starts > 0);
        let wait = |(message, count): (&Produced, &Count)| count.first.saturating_sub(message.at);
        let mut waits: Vec<Duration> = began.map(|both| Duration::from_nanos(wait(both))).collect();
        waits.sort_unstable();
        waits
    }
}

/// p50, p99 and the longest of sorted times, for people.
pub fn spread(sorted: &[Duration]) -> String {
    let at = |percent: usize| {
        let place = (sorted.len() * percent / 100).min(sorted.len().saturating_sub(1));
        sorted.get(place).copied().unwrap_or_default().as_secs_f64()
    };
    format!("{:.3} / {:.3} / {:.3} s", at(50), at(99), at(100))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tally(text: &str) -> Tally {
        let folder = std::env::temp_dir().join(format!("tally-{:016x}", fastrand::u64(..)));
        std::fs::write(&folder, text).unwrap();
        let mut tally = Tally::of(&folder);
        tally.read();
        std::fs::remove_file(folder).unwrap();
        tally
    }

    const DONE: &str = "5 start 0 0000000000000001-1 7\n6 end 0 0000000000000001-1 7\n";

    #[test]
    fn what_happened_once_is_right() {
        let one = Produced { at: 2, failures: 0 };
        assert_eq!(tally(DONE).wrong(&[one]), [""; 0]);
        assert_eq!(tally(DONE).waits_from(0, &[one]), [Duration::from_nanos(3)]);
        let failed = DONE.replace("end", "fail");
        let retried = format!("{failed}{DONE}");
        assert_eq!(tally(&retried).wrong(&[Produced { failures: 1, ..one }]), [""; 0]);
        assert_eq!((tally(DONE).over(), tally(&failed).over(), tally(&retried).over()), (1, 0, 1));
        let dead = failed.repeat(3);
        assert_eq!(tally(&dead).wrong(&[Produced { failures: ATTEMPTS, ..one }]), [""; 0]);
        assert_eq!(tally(&dead).over(), 1);
    }

    #[test]
    fn lost_and_repeated_messages_are_found() {
        let one = Produced { at: 2, failures: 0 };
        let wrong = |text: &str, produced: &[Produced]| tally(text).wrong(produced).len();
        assert_eq!(wrong(DONE, &[one, one]), 1, "the second was lost");
        assert_eq!(wrong(&DONE.repeat(2), &[one]), 1, "it ran twice");
        assert_eq!(wrong(DONE, &[]), 1, "nobody produced it");
        assert_eq!(wrong(&DONE[..31], &[one]), 1, "it did not end");
        assert_eq!(wrong(DONE, &[Produced { failures: 1, ..one }]), 1, "it did not fail");
        assert_eq!(wrong(&DONE.replace("end", "fail").repeat(3), &[one]), 1, "it was given up");
    }
}
