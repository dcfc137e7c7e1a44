//! Whatever stands in the attribute and below it, there is an answer in Rust: a consumer, or an error that the compiler shows.

use proptest::prelude::*;
use proptest::sample::select;

use super::*;

/// Words that mean something to the macro, beside some that do not.
const OPTION_WORDS: [&str; 47] = [
    "topic",
    "max_attempts",
    "timeout",
    "backoff",
    "priority",
    "retention",
    "schedule",
    "time_zone",
    "payload",
    "unique",
    "schema",
    "crate",
    "r#crate",
    "tpoic",
    "self",
    "=",
    "=",
    "=",
    ",",
    ",",
    "-",
    "..",
    "::",
    "\"t\"",
    "\"\"",
    "\"a b\"",
    "\"30s\"",
    "\"1s..1h\"",
    "\"1h..1s\"",
    "\"..\"",
    "\"9999999999999999y\"",
    "\"0 7 * * *\"",
    "\" \"",
    "b\"t\"",
    "c\"t\"",
    "'t'",
    "5",
    "-7",
    "0",
    "99999999999999999999",
    "0x10u8",
    "1.5",
    "true",
    "(5)",
    "{ 1 }",
    "concat!(\"a\")",
    "#",
];

const FUNCTION_WORDS: [&str; 45] = [
    "fn",
    "f",
    "r#fn",
    "pub",
    "async",
    "unsafe",
    "const",
    "extern",
    "\"C\"",
    "(",
    ")",
    "{",
    "}",
    "<",
    ">",
    "[",
    "]",
    "&",
    "mut",
    "'a",
    ":",
    "::",
    ",",
    "->",
    "self",
    "Self",
    "Context",
    "SqliteConnection",
    "u32",
    "str",
    "impl",
    "dyn",
    "Trait",
    "where",
    "_",
    "...",
    ";",
    "#[doc]",
    "!",
    "x: u32",
    "ctx: &Context",
    "conn: &mut PgConnection",
    "struct",
    "=",
    "\"text\"",
];

fn soup(words: &'static [&'static str], most: usize) -> impl Strategy<Value = String> {
    proptest::collection::vec(select(words), 0..most).prop_map(|words| words.join(" "))
}

/// Options that are nearly right.
fn options() -> impl Strategy<Value = String> {
    let pair = (select(&OPTION_WORDS[..14]), select(&OPTION_WORDS[23..]))
        .prop_map(|(name, value)| format!("{name} = {value}"));
    let pairs = proptest::collection::vec(pair, 0..5)
        .prop_map(|pairs| format!("topic = \"t\", {}", pairs.join(", ")));
    prop_oneof![pairs, soup(&OPTION_WORDS, 14), any::<String>()]
}

fn functions() -> impl Strategy<Value = String> {
    let parameters = proptest::collection::vec(select(&FUNCTION_WORDS[39..42]), 0..4);
    let parameters = prop_oneof![parameters.prop_map(|all| all.join(", ")), soup(&FUNCTION_WORDS, 6)];
    let whole = (soup(&FUNCTION_WORDS[3..8], 3), parameters, soup(&FUNCTION_WORDS, 3))
        .prop_map(|(kind, parameters, result)| format!("{kind} fn f({parameters}) {result} {{}}"));
    prop_oneof![4 => whole, 1 => soup(&FUNCTION_WORDS, 20), 1 => any::<String>()]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn whatever_is_written_there_is_an_answer(options in options(), function in functions()) {
        // What is no tokens at all, the compiler refuses by itself.
        let (Ok(options), Ok(item)) = (options.parse::<TokenStream>(), function.parse::<TokenStream>()) else { return Ok(()) };
        let answer = consumer(options.clone(), item.clone());
        let text = answer.to_string();
        let refused = text.contains("compile_error !");
        prop_assert!(refused || text.contains("Registration"), "{}", text);
        // The function stays as it is, in front of all.
        prop_assert!(text.starts_with(&item.to_string()) || syn::parse2::<ItemFn>(item).is_ok(), "{}", text);
        if !refused {
            prop_assert!(syn::parse2::<syn::File>(answer).is_ok(), "{}", text);
        }
    }
}
