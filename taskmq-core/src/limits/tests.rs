use proptest::prelude::*;
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny, MapAccess, SeqAccess, Visitor};

use super::*;

#[test]
fn topics_are_checked() {
    for good in ["a", "yace", "mail.welcome", "a/b:c_d-e", &"x".repeat(100)] {
        assert!(check_topic(good).is_ok(), "{good}");
    }
    for bad in ["", " ", "a b", "é", "😀", "a\0", "a\n", &"x".repeat(101)] {
        assert!(check_topic(bad).is_err(), "{bad}");
    }
}

#[test]
fn json_that_not_every_database_takes_is_refused() {
    let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    let objects = |depth| format!("{}1{}", "{\"a\":".repeat(depth), "}".repeat(depth));
    let wide = format!("[{}[]]", "[],".repeat(1000));
    for good in [
        &*nested(31),
        &objects(31),
        &wide,
        r#""[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[""#,
        r#""\"[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[""#,
        r#""\ud83d\ude00""#,
        r#""\\ud800""#,
        r#"["\u0000", "\\", "\\\""]"#,
    ] {
        assert!(check_json("it", good).is_ok(), "{good}");
    }
    for bad in [
        &*nested(32),
        &objects(32),
        r#""\ud800""#,
        r#""\udc00\ud800""#,
        r#""\ud800\ud800""#,
        r#""\uD83D x""#,
        r#"{"\\\ud800": 1}"#,
    ] {
        assert!(matches!(check_json("it", bad), Err(Error::Json { .. })), "{bad}");
    }
}

#[test]
fn keys_are_checked() {
    for good in ["k", " k", "k\t", "clé 😀", &"é".repeat(255)] {
        assert!(check_key("it", good).is_ok(), "{good}");
    }
    for bad in ["", " ", "k ", "k\0", &"é".repeat(256)] {
        assert!(check_key("it", bad).is_err(), "{bad}");
    }
}

#[test]
fn errors_are_cleaned_and_cut() {
    assert_eq!(clean_error("a\0b\u{1b}[31m\nc"), "a\u{fffd}b\u{fffd}[31m\nc");
    let long = clean_error(&"é".repeat(10_000));
    assert!(long.len() <= MAX_ERROR_BYTES + " [cut]".len());
    assert!(long.ends_with("[cut]"));
}

/// Texts of every kind, and such as nearly pass.
fn texts() -> impl Strategy<Value = String> {
    prop_oneof![
        any::<String>(),
        "[a-zA-Z0-9_.:/-]{0,110}",
        "[a-z_.:/ \\t\\n\\x00\\x1b\u{202e}é😀'\";,-]{0,12}",
        "[é ]{250,260}",
    ]
}

/// JSON as somebody might write it: any white space, any escape, halves of pairs, keys twice, depths around the limit.
fn json() -> impl Strategy<Value = String> {
    let text = "\"([ -!#-\\[\\]-~é😀\u{2028}]|\\\\[\"\\\\/bfnrt]|\\\\u[0-9a-fA-F]{4}|\\\\u[dD][89a-fA-F][0-9a-f]{2}|\\\\u[dD][89abAB][0-9a-f]{2}\\\\u[dD][c-fC-F][0-9a-f]{2}){0,6}\"";
    let number = "-?(0|[1-9][0-9]{0,25})(\\.[0-9]{1,9})?([eE][+-]?[0-9]{1,2})?";
    let leaf = prop_oneof![
        text,
        number,
        Just("null".to_owned()),
        Just("true".to_owned()),
        Just("\"[[{{\"".to_owned())
    ];
    let value = leaf.prop_recursive(6, 40, 4, move |inner| {
        let member = (text, inner.clone()).prop_map(|(key, value)| format!("{key} :{value}"));
        prop_oneof![
            proptest::collection::vec(inner, 0..4).prop_map(|all| format!("[{}]", all.join(", "))),
            proptest::collection::vec(member, 0..4).prop_map(|all| format!("{{\n{}}}", all.join("\t,"))),
        ]
    });
    // Around it, so that many are close to the limit.
    (value, 0..40_usize, any::<bool>()).prop_map(|(value, depth, lists)| match lists {
        true => format!("{}{value}{}", "[ ".repeat(depth), "]".repeat(depth)),
        false => format!("{}{value}{}", "{\"a\": ".repeat(depth), "}".repeat(depth)),
    })
}

/// How deep a value is: as serde_json reads it, which refuses halves of pairs.
struct Depth(usize);

impl<'de> Deserialize<'de> for Depth {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> std::result::Result<Self, D::Error> {
        deserializer.deserialize_any(DepthVisitor)
    }
}

struct DepthVisitor;

impl<'de> Visitor<'de> for DepthVisitor {
    type Value = Depth;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("any value")
    }

    fn visit_bool<E>(self, _: bool) -> std::result::Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_i64<E>(self, _: i64) -> std::result::Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_u64<E>(self, _: u64) -> std::result::Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_f64<E>(self, _: f64) -> std::result::Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_str<E>(self, _: &str) -> std::result::Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_unit<E>(self) -> std::result::Result<Depth, E> {
        Ok(Depth(0))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> std::result::Result<Depth, A::Error> {
        let mut deepest = 0;
        while let Some(Depth(depth)) = list.next_element()? {
            deepest = deepest.max(depth);
        }
        Ok(Depth(deepest + 1))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> std::result::Result<Depth, A::Error> {
        let mut deepest = 0;
        while let Some((_, Depth(depth))) = map.next_entry::<String, _>()? {
            deepest = deepest.max(depth);
        }
        Ok(Depth(deepest + 1))
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(10_000))]

    #[test]
    fn a_topic_is_what_the_tables_check(text in texts()) {
        let allowed = |byte: &u8| matches!(byte, b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'-' | b'.' | b':' | b'/');
        let good = (1..=100).contains(&text.len()) && text.as_bytes().iter().all(allowed);
        match check_topic(&text) {
            Ok(()) => prop_assert!(good),
            Err(Error::Topic { topic, .. }) => prop_assert!(!good && text.starts_with(&topic)),
            Err(other) => prop_assert!(false, "{other}"),
        }
    }

    #[test]
    fn a_key_is_what_the_tables_check(text in texts()) {
        let good = (1..=255).contains(&text.chars().count()) && !text.contains('\0') && text.trim_end_matches(' ') == text;
        prop_assert_eq!(check_key("it", &text).is_ok(), good);
    }

    #[test]
    fn json_is_taken_or_refused_as_a_slow_reader_would(json in json()) {
        prop_assert!(serde_json::from_str::<IgnoredAny>(&json).is_ok(), "{}", json);
        let good = serde_json::from_str::<Depth>(&json).is_ok_and(|Depth(depth)| depth <= MAX_PAYLOAD_DEPTH);
        prop_assert_eq!(check_json("it", &json).is_ok(), good);
    }

    #[test]
    fn what_is_no_json_makes_no_panic(text in any::<String>(), escapes in "[\\\\u\"dD89c0-9+\\[\\]{}é]{0,30}") {
        let _ = check_json("it", &text);
        let _ = check_json("it", &escapes);
    }

    #[test]
    fn an_error_is_fit_to_be_stored(text in any::<String>(), times in 1..2000_usize) {
        let clean = clean_error(&text.repeat(times));
        prop_assert!(clean.len() <= MAX_ERROR_BYTES + " [cut]".len());
        prop_assert!(!clean.contains(|c: char| c.is_control() && c != '\n' && c != '\t'));
        prop_assert_eq!(clean_error(&text).chars().count().min(2000), text.chars().count().min(2000), "nothing is left out");
    }
}
