//! A checker that cannot fail is worth nothing: each kind of violation, and its harmless neighbour.

use super::*;
use crate::journal::Lease;

/// Times in the journals below are in seconds.
fn journal(text: &str) -> Vec<Entry> {
    let line = |line: &str| {
        let (at, rest) = line.trim().split_once(' ').unwrap();
        let nanos = at.parse::<f64>().unwrap() * 1e9;
        format!("{} {rest}\n", nanos as Nanos)
    };
    let text: String = text.lines().filter(|text| !text.trim().is_empty()).map(line).collect();
    Entry::parse_all(&text)
}

fn done(key: &str, at: f64, worker: i64, attempt: i32) -> Finished {
    let lease = Lease { worker, attempt };
    let at = (at * 1e9) as Nanos;
    Finished { key: key.to_owned(), state: "done".to_owned(), lease, crashes: 0, failures: 0, at }
}

fn tables(finished: &[Finished]) -> Tables {
    Tables { finished: finished.to_vec(), ..Tables::default() }
}

fn promises(text: &str, tables: &Tables) -> Vec<Promise> {
    let (_, violations) = check(&journal(text), tables);
    violations.into_iter().map(|violation| violation.promise).collect()
}

/// Message 1-1 is produced, and worker 1 (process 11) handles it.
const HANDLED: &str = "
    1.0 attempt 1-1 slow -
    1.1 ok 1-1
    1.2 start 1-1 0000000000000001-1 11
    2.2 end 1-1 0000000000000001-1 11";

/// Worker 1 (process 11) is struck while it handles 1-1, and worker 2 (process 22) handles it.
fn handled_twice(kind: &str, healed: f64, second: f64) -> String {
    format!(
        "1.0 attempt 1-1 slow -
         1.1 ok 1-1
         1.2 start 1-1 0000000000000001-1 11
         1.5 fault 0 {kind} 11
         {healed} healed 0
         {second} start 1-1 0000000000000002-1 22
         {} end 1-1 0000000000000002-1 22",
        second + 1.0
    )
}

#[test]
fn what_is_handled_once_is_well() {
    let (figures, violations) = check(&journal(HANDLED), &tables(&[done("1-1", 2.3, 1, 1)]));
    assert_eq!(violations, []);
    assert_eq!((figures.messages, figures.executions, figures.overlaps), (1, 1, 0));
}

#[test]
fn what_is_gone_is_lost() {
    let produced = "1.0 attempt 1-1 slow -\n1.1 ok 1-1";
    assert_eq!(promises(produced, &Tables::default()), [Promise::Lost]);
    let died = format!("{produced}\n1.2 start 1-1 0000000000000001-1 11");
    assert_eq!(promises(&died, &Tables::default()), [Promise::Lost]);
    assert_eq!(
        promises(&died, &tables(&[done("1-1", 1.3, 1, 1)])),
        [Promise::Lost, Promise::Settled],
        "acknowledged, but never run to its end"
    );
}

#[test]
fn what_is_live_after_all_is_stuck() {
    let live = Tables { live: vec!["1-1".to_owned()], ..Tables::default() };
    assert_eq!(promises("1.0 attempt 1-1 slow -\n1.1 ok 1-1", &live), [Promise::Stuck]);
}

#[test]
fn what_nobody_committed_is_unexpected() {
    let handled = &HANDLED[HANDLED.find("1.2").unwrap()..];
    let row = tables(&[done("1-1", 2.3, 1, 1)]);
    assert_eq!(promises(handled, &row), [Promise::Unexpected]);
    let undone = HANDLED.replace("ok", "failed");
    assert_eq!(promises(&undone, &row), [Promise::Unexpected]);
    let stored = tables(&[done("9-9", 2.3, 1, 1)]);
    assert_eq!(promises("", &stored), [Promise::Unexpected, Promise::Settled]);
    assert_eq!(promises("1.0 attempt 1-1 slow -\n1.1 failed 1-1", &Tables::default()), []);
}

#[test]
fn a_producer_that_got_no_answer_may_have_produced() {
    let unknown = HANDLED.replace("ok", "unknown");
    let (figures, violations) = check(&journal(&unknown), &tables(&[done("1-1", 2.3, 1, 1)]));
    assert_eq!((violations.len(), figures.unknown, figures.recovered), (0, 1, 1));
    let (figures, violations) =
        check(&journal("1.0 attempt 1-1 slow -\n1.1 unknown 1-1"), &Tables::default());
    assert_eq!((violations.len(), figures.unknown, figures.recovered), (0, 1, 0));
    let silent = HANDLED.replace("1.1 ok 1-1", "");
    assert_eq!(promises(&silent, &tables(&[done("1-1", 2.3, 1, 1)])), [], "it died before it wrote it down");
}

#[test]
fn a_death_excuses_what_it_met_and_nothing_else() {
    let killed = handled_twice("kill", 1.6, 1.9);
    let row = tables(&[done("1-1", 3.0, 2, 1)]);
    let (figures, violations) = check(&journal(&killed), &row);
    assert_eq!(violations, []);
    assert_eq!(figures.duplicates[&FaultKind::Kill], Duplicates { unfinished: 1, finished: 0 });
    assert_eq!(figures.rescues[&(FaultKind::Kill, false)].percentile(100).as_millis(), 400);
    let another = killed.replace("kill 11", "kill 33");
    assert_eq!(promises(&another, &row), [Promise::Duplicate, Promise::Overlap]);
    let later = HANDLED.to_owned()
        + "\n4.0 fault 0 kill 11\n4.1 healed 0\n4.2 start 1-1 0000000000000002-1 22\n4.3 end 1-1 0000000000000002-1 22";
    assert_eq!(
        promises(&later, &tables(&[done("1-1", 4.4, 2, 1)])),
        [Promise::Duplicate],
        "it had long been acknowledged when the worker died"
    );
}

#[test]
fn what_takes_the_database_excuses_everybody() {
    let row = tables(&[done("1-1", 3.0, 2, 1)]);
    for kind in ["server", "locked"] {
        let text = handled_twice(kind, 1.6, 1.9).replace(" 11\n         1.6", " *\n         1.6");
        let (figures, violations) = check(&journal(&text), &row);
        assert_eq!((violations.len(), figures.overlaps), (0, 1), "{violations:?}");
    }
}

#[test]
fn a_worker_that_is_told_to_stop_has_time_to_end() {
    let row = |at| tables(&[done("1-1", at, 2, 1)]);
    let ended = "1.0 attempt 1-1 slow -\n1.1 ok 1-1\n1.2 start 1-1 0000000000000001-1 11\n1.5 fault 0 stop 11
                 2.0 end 1-1 0000000000000001-1 11\n2.3 healed 0
                 2.4 start 1-1 0000000000000002-1 22\n2.5 end 1-1 0000000000000002-1 22";
    assert_eq!(promises(ended, &row(2.6)), [Promise::Duplicate]);
    assert_eq!(promises(&handled_twice("stop", 3.6, 3.7), &row(4.8)), []);
}

#[test]
fn a_failure_is_no_duplicate() {
    let failed = "1.0 attempt 1-1 slow -\n1.1 ok 1-1\n1.2 start 1-1 0000000000000001-1 11\n1.3 fail 1-1 0000000000000001-1 11
                  1.6 start 1-1 0000000000000002-2 22\n1.7 end 1-1 0000000000000002-2 22";
    let row = Finished { failures: 1, ..done("1-1", 1.8, 2, 2) };
    assert_eq!(promises(failed, &tables(&[row])), []);
    let row = Finished { failures: 1, ..done("1-1", 2.3, 1, 2) };
    let second = HANDLED.replace("0001-1 11", "0001-2 11");
    assert_eq!(promises(&second, &tables(&[row])), [Promise::Blame], "noted, but no handler failed");
}

#[test]
fn a_transaction_that_the_database_breaks_off_is_run_again_within_its_attempt() {
    let again = |attempt: u32| {
        format!("{HANDLED}\n2.4 start 1-1 0000000000000001-{attempt} 11\n2.5 end 1-1 0000000000000001-{attempt} 11")
            .replace("slow", "effect-mysql")
    };
    let effects = vec!["1-1".to_owned()];
    let broken = Tables { effects, ..tables(&[done("1-1", 2.6, 1, 1)]) };
    let (figures, violations) = check(&journal(&again(1)), &broken);
    assert_eq!((violations.len(), figures.broken_off), (0, 1), "{violations:?}");
    assert!(promises(&again(2), &broken).contains(&Promise::Duplicate), "another attempt");
    let effectless = again(1).replace("effect-mysql", "slow");
    assert!(promises(&effectless, &broken).contains(&Promise::Duplicate), "it has no transaction");
}

#[test]
fn what_runs_again_after_its_acknowledgement_is_forbidden() {
    let again = handled_twice("kill", 1.6, 1.9)
        + "\n5.0 start 1-1 0000000000000003-1 33\n5.1 end 1-1 0000000000000003-1 33";
    assert_eq!(
        promises(&again, &tables(&[done("1-1", 3.0, 2, 1)])),
        [Promise::Duplicate, Promise::Duplicate],
        "for no fault, and when it was acknowledged"
    );
}

#[test]
fn overlaps_are_for_those_who_were_cut_off() {
    let row = tables(&[done("1-1", 3.4, 2, 1)]);
    let text = |kind| {
        handled_twice(kind, 2.3, 1.9).replace(
            "1.5 fault",
            "3.0 end 1-1 0000000000000001-1 11
         1.5 fault",
        )
    };
    let (figures, violations) = check(&journal(&text("pause")), &row);
    assert_eq!((violations.len(), figures.overlaps), (0, 1), "{violations:?}");
    assert_eq!(promises(&text("producer"), &row), [Promise::Duplicate, Promise::Overlap]);
}

#[test]
fn an_acknowledgement_needs_the_lease() {
    let paused = handled_twice("pause", 9.0, 7.0) + "\n9.1 end 1-1 0000000000000001-1 11";
    let paused = paused.replace("8 end 1-1 0000000000000002-1 22", "12 end 1-1 0000000000000002-1 22");
    assert_eq!(promises(&paused, &tables(&[done("1-1", 12.1, 2, 1)])), []);
    assert_eq!(
        promises(&paused, &tables(&[done("1-1", 9.2, 1, 1)])),
        [Promise::Settled],
        "the one that was paused has it no more"
    );
    assert_eq!(promises(&paused, &tables(&[done("1-1", 12.1, 3, 1)])), [Promise::Settled], "nobody ran that");
    assert_eq!(
        promises(HANDLED, &tables(&[done("1-1", 2.3, 1, 1), done("1-1", 2.4, 1, 1)])),
        [Promise::Settled],
        "twice"
    );
    let both = Tables { live: vec!["1-1".to_owned()], ..tables(&[done("1-1", 2.3, 1, 1)]) };
    assert_eq!(promises(HANDLED, &both), [Promise::Stuck, Promise::Settled]);
}

#[test]
fn an_effect_is_there_once() {
    let handled = HANDLED.replace("slow", "effect-sqlite");
    let with = |effects: &[&str], finished: &[Finished]| Tables {
        effects: effects.iter().map(|&key| key.to_owned()).collect(),
        ..tables(finished)
    };
    let row = [done("1-1", 2.3, 1, 1)];
    assert_eq!(promises(&handled, &with(&["1-1"], &row)), []);
    assert_eq!(promises(&handled, &with(&["1-1", "1-1"], &row)), [Promise::Effects]);
    assert_eq!(promises(&handled, &with(&[], &row)), [Promise::Effects]);
    let produced = "1.0 attempt 1-1 effect-sqlite -\n1.1 unknown 1-1";
    assert_eq!(promises(produced, &with(&["1-1"], &[])), [Promise::Effects], "of a message that is not done");
}

#[test]
fn within_an_ordering_key_each_waits_for_the_one_before() {
    let of = |second: f64, key: &str| {
        HANDLED.replace("slow -", "slow k")
            + &format!(
                "\n1.15 attempt 1-2 slow {key}\n1.16 ok 1-2\n{second} start 1-2 0000000000000001-1 11
                 5.0 end 1-2 0000000000000001-1 11"
            )
    };
    let row = tables(&[done("1-1", 2.3, 1, 1), done("1-2", 5.1, 1, 1)]);
    assert_eq!(promises(&of(2.4, "k"), &row), []);
    assert_eq!(promises(&of(1.8, "k"), &row), [Promise::Order]);
    assert_eq!(promises(&of(1.8, "other"), &row), []);
}

#[test]
fn a_death_is_charged_to_who_was_there() {
    let charged = |crashes, attempt| Finished { crashes, ..done("1-1", 3.0, 2, attempt) };
    let killed = |attempt: i32| {
        handled_twice("kill", 1.6, 1.9).replace("0000000000000002-1", &format!("0000000000000002-{attempt}"))
    };
    assert_eq!(promises(&killed(2), &tables(&[charged(1, 2)])), []);
    assert_eq!(promises(&killed(3), &tables(&[charged(2, 3)])), [Promise::Blame]);
    assert_eq!(promises(&killed(2), &tables(&[charged(0, 2)])), [Promise::Blame], "an attempt too many");
    let unbegun = HANDLED.to_owned() + "\n1.15 fault 0 kill 22\n1.16 healed 0";
    let row = Finished { crashes: 1, ..done("1-1", 2.3, 1, 1) };
    let (figures, violations) = check(&journal(&unbegun), &tables(std::slice::from_ref(&row)));
    assert_eq!(
        (violations.len(), figures.charged_unbegun),
        (0, 1),
        "claimed by 22, which died before it began it"
    );
    assert_eq!(promises(HANDLED, &tables(&[row])), [Promise::Blame], "nothing died");
    let dead = Finished { state: "dead".to_owned(), ..charged(1, 2) };
    assert_eq!(promises(&killed(2), &tables(&[dead])), [Promise::Blame], "given up");
}

#[test]
fn a_stall_is_the_longest_time_without_a_start_though_messages_wait() {
    let text = "1.0 attempt 1-1 slow -\n1.0 attempt 1-2 slow -\n1.0 ok 1-1\n1.0 ok 1-2
                1.5 start 1-1 0000000000000001-1 11\n4.0 start 1-2 0000000000000001-1 11
                8.0 attempt 1-3 slow -\n8.1 ok 1-3\n8.2 start 1-3 0000000000000001-1 11";
    let (figures, _) = check(&journal(text), &Tables::default());
    assert_eq!(figures.stall.as_millis(), 2500);
    let away = text.to_owned() + "\n2.0 fault 0 server *\n2.5 healed 0";
    let (figures, _) = check(&journal(&away), &Tables::default());
    assert!(figures.stall.as_millis() <= 500, "the server was away: {:?}", figures.stall);
}

#[test]
fn a_violation_is_shown_with_its_journal() {
    let journal = journal("1.0 attempt 1-1 slow -\n1.1 ok 1-1\n1.5 fault 0 kill 11\n1.6 healed 0");
    let (_, violations) = check(&journal, &Tables::default());
    let text = explain(&violations, &journal, &Tables::default());
    assert!(text.contains("lost: 1, not 0"), "{text}");
    assert!(text.contains("1100000000 ok 1-1") && text.contains("1500000000 fault 0 kill 11"), "{text}");
}
