//! Whatever is typed is understood, or refused with words.

use clap::CommandFactory;
use proptest::prelude::*;
use proptest::sample::select;

use super::*;

const WORDS: [&str; 71] = [
    "init",
    "migrate",
    "produce",
    "topics",
    "messages",
    "show",
    "retry",
    "cancel",
    "delete",
    "workers",
    "dead",
    "purge",
    "pause",
    "resume",
    "limit",
    "limits",
    "--running",
    "--rate",
    "--none",
    "schedules",
    "add",
    "remove",
    "run",
    "doctor",
    "watch",
    "completions",
    "man",
    "admin",
    "--json",
    "--topic",
    "--state",
    "--key",
    "--text",
    "--after",
    "--before",
    "--limit",
    "--priority",
    "--delay",
    "--unique",
    "--header",
    "--file",
    "--dry-run",
    "--yes",
    "--older-than",
    "--next",
    "--time-zone",
    "--max-attempts",
    "--listen",
    "--backend",
    "--path",
    "--database-url",
    "--allow-dirty",
    "-",
    "--",
    "t",
    "1",
    "-1",
    "0",
    "dead",
    "done,dead",
    "2h",
    "a=b",
    "=b",
    "2026-11-25",
    "127.0.0.1:80",
    "[::1]:0",
    "sqlite",
    "@daily",
    "Europe/Berlin",
    "bash",
    "-x",
];

/// A value at the edge of what some option takes.
fn values() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<i128>().prop_map(|number| number.to_string()),
        prop_oneof![any::<i64>(), any::<i16>().prop_map(i64::from)].prop_map(|number| number.to_string()),
        "[0-9]{1,22} ?(ns|us|ms|s|m|h|d|w|months|y|years)( [0-9]{1,3}(ns|ms|s|h|y))?",
        "[+-]?[0-9]{1,6}-[0-9]{1,2}-[0-9]{1,2}(T[0-9]{1,2}:[0-9]{1,2}:[0-9]{1,2}(\\.[0-9]{1,12})?(Z|[+-][0-9]{2}:[0-9]{2}))?",
        "([0-9]{1,3}\\.){3}[0-9]{1,3}:[0-9]{1,6}",
        any::<String>(),
        "[é=,:./\u{1b}\u{202e} -]{0,6}",
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whatever_is_typed_is_understood_or_refused(
        command in select(&WORDS[..23]),
        rest in proptest::collection::vec(prop_oneof![select(&WORDS[..]).prop_map(str::to_owned), values()], 0..6),
    ) {
        let words = ["taskmq-cli".to_owned(), command.to_owned()].into_iter().chain(rest);
        match Cli::try_parse_from(words) {
            Ok(cli) => match cli.command {
                Command::Messages(args) => prop_assert!((1..=100_000).contains(&args.limit)),
                Command::Dead(args) => prop_assert!((1..=10_000_000).contains(&args.limit)),
                Command::Schedules(args) => prop_assert!((1..=1000).contains(&args.next)),
                Command::Produce(args) => prop_assert!(args.header.iter().all(|(name, _)| !name.is_empty())),
                _ => {}
            },
            Err(error) => prop_assert!(!error.to_string().is_empty()),
        }
    }

    /// An option with a value of its kind, so that many are understood.
    #[test]
    fn times_and_numbers_stay_within_their_bounds(value in values()) {
        let now = chrono::DateTime::from_timestamp(1_774_000_000, 0).expect("a time");
        if let Ok(when) = value.parse::<When>() {
            prop_assert!(matches!(when, When::At(_)) || when.at(now) <= now);
        }
        let typed = |command: &'static str, option: &str| {
            Cli::try_parse_from(["taskmq-cli", command, &format!("{option}={value}"), "t", "1"])
        };
        if let Ok(Cli { command: Command::Produce(args), .. }) = typed("produce", "--priority") {
            prop_assert_eq!(value.parse::<i16>().ok(), Some(args.priority));
        }
        if let Ok(Cli { command: Command::Produce(args), .. }) = typed("produce", "--delay") {
            prop_assert!(args.delay.is_some());
        }
    }
}

#[test]
fn the_commands_do_not_contradict_each_other() {
    Cli::command().debug_assert();
}
