//! What people and programs put into messages: good, odd and wrong.

use proptest::prelude::*;
use proptest::sample::select;

/// So many inputs are tried: fewer in an ordinary run, ten thousand when `TASKMQ_TEST_LONG` is set.
pub fn cases(ordinary: u32) -> u32 {
    if std::env::var_os("TASKMQ_TEST_LONG").is_some() { 10_000 } else { ordinary }
}

/// Those on which databases, languages and drivers differ.
const ODD: [&str; 37] = [
    "",
    " ",
    "null",
    "-0",
    "-0.0",
    "1e400",
    "-1",
    "-",
    "9223372036854775808",
    "18446744073709551616",
    "0.1000000000000000055511151231257827",
    "01",
    "+1",
    ".5",
    "NaN",
    "Infinity",
    "'a'",
    "hello",
    "{url: 1}",
    "{\"a\":1,\"a\":[2]}",
    "{\"\":0}",
    "[1,]",
    "[1] [2]",
    "\"\\u0000\"",
    "\"\\ud800\"",
    "{\"\\udc00\\ud800\":1}",
    "\"\\ud83d\\ude00\"",
    "\"\\x41\"",
    "\"a\tb\"",
    "\"a\u{7f}\u{85}\u{2028}\u{feff}\"",
    "\u{feff}{\"a\":1}",
    "  \t[1,\r\n2]\n",
    "\"'; DROP TABLE taskmq_messages; --\"",
    "\"%s $1 ? :a {} \\\\' \\\" `id` $(id) ${IFS}\"",
    "\"\u{1b}]52;c;aGFjaw==\u{7}\"",
    "/* */ 1",
    "true // no",
];

/// Texts that are to be JSON, and often are. None has a NUL, which no argument of a program can have.
pub fn payloads() -> impl Strategy<Value = String> {
    let text = "\"([ -!#-\\[\\]-~é😀]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}){0,8}\"";
    let number = "-?(0|[1-9][0-9]{0,30})(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?";
    let leaf = prop_oneof![text, number, select(&ODD[..]).prop_map(str::to_owned)];
    let value = leaf.prop_recursive(5, 30, 4, move |inner| {
        let member = (text, inner.clone()).prop_map(|(key, value)| format!("{key}: {value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(", "))),
            proptest::collection::vec(member, 0..4).prop_map(|all| format!("{{{}}}", all.join(" ,"))),
        ]
    });
    let nested = (value.clone(), 25..40_usize)
        .prop_map(|(value, depth)| format!("{}{value}{}", "[".repeat(depth), "]".repeat(depth)));
    let large = (1..300_usize).prop_map(|kib| format!("\"{}\"", "é".repeat(kib * 512)));
    prop_oneof![
        10 => value,
        3 => select(&ODD[..]).prop_map(str::to_owned),
        2 => nested,
        1 => large,
        2 => any::<String>().prop_map(|text| text.replace('\0', "")),
    ]
}

/// Topics, most of which are good.
pub fn topics() -> impl Strategy<Value = String> {
    prop_oneof![
        12 => "[a-zA-Z0-9_.:/][a-zA-Z0-9_.:/-]{0,20}",
        1 => "[a-z]{99,101}",
        2 => "[a-z é😀\u{202e}\t\n\u{1b}'\";,%-]{0,10}",
    ]
}

/// Unique keys and names and texts of headers: any text at all.
pub fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => any::<String>(),
        3 => "[a-z \t\n\u{1b}\u{202e}é😀'\"\\\\%_-]{0,12}",
        1 => "[a-zé]{250,258}",
    ]
}
