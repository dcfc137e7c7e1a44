use proptest::prelude::*;
use proptest::sample::select;
use serde_json::json;

use super::*;

/// Words that mean something in a schema.
const WORDS: [&str; 34] = [
    "$ref",
    "$id",
    "$schema",
    "$anchor",
    "$dynamicRef",
    "$dynamicAnchor",
    "$defs",
    "a",
    "type",
    "enum",
    "const",
    "allOf",
    "anyOf",
    "oneOf",
    "not",
    "if",
    "then",
    "else",
    "properties",
    "patternProperties",
    "additionalProperties",
    "propertyNames",
    "required",
    "items",
    "prefixItems",
    "contains",
    "minItems",
    "uniqueItems",
    "minimum",
    "multipleOf",
    "maxLength",
    "pattern",
    "unevaluatedProperties",
    "unevaluatedItems",
];

const TEXTS: [&str; 13] = [
    "#",
    "#/$defs/a",
    "#a",
    "a",
    "",
    "object",
    "string",
    "array",
    "number",
    "(a+)+$",
    "[",
    "http://127.0.0.1:1/a",
    "https://json-schema.org/draft/2020-12/schema",
];

/// Schemas that are nearly right, and payloads.
fn values() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        (0..4).prop_map(Value::from),
        Just(Value::Null),
        select(&TEXTS[..]).prop_map(Value::from),
    ];
    leaf.prop_recursive(5, 40, 5, |inner| {
        let named = (select(&WORDS[..]).prop_map(str::to_owned), inner.clone());
        prop_oneof![
            1 => proptest::collection::vec(inner, 0..4).prop_map(Value::from),
            4 => proptest::collection::vec(named, 0..5).prop_map(|fields| fields.into_iter().collect()),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// It checks, or says why it does not; a panic would be "the check failed".
    #[test]
    fn whatever_is_stored_there_is_an_answer(schema in values(), payload in values()) {
        let checked = Checker::new(&schema.to_string()).and_then(|mut checker| checker.check(&payload.to_string()));
        if let Err(unusable) = checked {
            prop_assert!(!unusable.to_string().contains("the check failed"), "{} {} {}", unusable, schema, payload);
        }
    }
}

fn told(schema: &Value, payload: &str) -> Vec<String> {
    let mut checker = Checker::new(&schema.to_string()).expect("a schema");
    checker.check(payload).expect("a check").iter().map(Misfit::to_string).collect()
}

fn unusable(schema: &str) -> String {
    Checker::new(schema).expect_err("unusable").to_string()
}

#[test]
fn what_is_wrong_is_told_with_its_place() {
    let schema = json!({
        "type": "object",
        "required": ["url"],
        "properties": {
            "url": {"type": "string"},
            "a/b": {"type": "array", "items": {"type": "integer", "format": "uint8", "maximum": 255}},
            "inner": {"anyOf": [{"$ref": "#/$defs/Inner"}, {"type": "null"}]},
            "word": {"enum": ["a", "b"]},
        },
        "$defs": {"Inner": {"type": "object", "properties": {"deep": {"type": "boolean"}}, "required": ["deep"]}},
    });
    assert_eq!(told(&schema, r#"{"url": "u", "a/b": [1, 255], "inner": null, "word": "b"}"#), [""; 0]);
    assert_eq!(told(&schema, "17"), ["the payload: 17 is not of type \"object\""]);
    assert_eq!(told(&schema, "{}"), ["the payload: \"url\" is a required property"]);
    assert_eq!(
        told(&schema, r#"{"url": "u", "a/b": [1, 256]}"#),
        ["/a~1b/1: 256 is greater than the maximum of 255"]
    );
    assert_eq!(
        told(&schema, r#"{"url": "u", "inner": {"deep": 1}}"#),
        ["/inner/deep: 1 is not of type \"boolean\""]
    );
    assert_eq!(told(&schema, r#"{"url": "u", "word": "c"}"#), ["/word: \"c\" is not one of \"a\" or \"b\""]);
    let long = format!(r#"{{"url": ["{}"]}}"#, "x".repeat(100_000));
    assert_eq!(told(&schema, &long), ["/url: value is not of type \"string\""]);
    let many = format!(r#"{{"url": "u", "a/b": [{}"x"]}}"#, "\"x\",".repeat(1000));
    assert_eq!(told(&schema, &many).len(), MOST_MISFITS);
}

#[test]
fn what_is_wrong_is_told_in_chinese() {
    let chinese = |schema: &Value, payload: &str| {
        let mut checker = Checker::new(&schema.to_string()).expect("a schema");
        let misfits = checker.check(payload).expect("a check");
        misfits.into_iter().map(|misfit| misfit.chinese).collect::<Vec<_>>()
    };
    for (schema, payload, expected) in [
        (json!({"type": "object"}), "17", "17 的类型不是 \"object\""),
        (json!({"type": ["object", "null"]}), "17", "17 的类型不是 \"null\"、\"object\" 中的任何一种"),
        (json!({"required": ["url"]}), "{}", "缺少必需的属性 \"url\""),
        (
            json!({"properties": {"c": true}, "additionalProperties": false}),
            r#"{"a": 1, "b": 2}"#,
            "不允许有这些属性：'a'、'b'",
        ),
        (json!({"unevaluatedProperties": false}), r#"{"a": 1}"#, "不允许有这些属性：'a'"),
        (json!({"unevaluatedItems": false}), "[1]", "不允许有这些项：'1'"),
        (json!({"prefixItems": [true], "items": false}), "[1, 2]", "此处不允许有值：2"),
        (json!({"minimum": 0}), "-3", "-3 小于最小值 0"),
        (json!({"maximum": 1}), "2", "2 大于最大值 1"),
        (json!({"exclusiveMinimum": 0}), "0", "0 必须大于 0"),
        (json!({"exclusiveMaximum": 0}), "0", "0 必须小于 0"),
        (json!({"multipleOf": 2}), "3", "3 不是 2 的倍数"),
        (json!({"minLength": 2}), "\"a\"", "\"a\" 少于 2 个字符"),
        (json!({"maxLength": 0}), "\"a\"", "\"a\" 多于 0 个字符"),
        (json!({"minItems": 2}), "[1]", "[1] 少于 2 项"),
        (json!({"maxItems": 0}), "[1]", "[1] 多于 0 项"),
        (json!({"minProperties": 1}), "{}", "{} 的属性少于 1 个"),
        (json!({"maxProperties": 0}), r#"{"a":1}"#, r#"{"a":1} 的属性多于 0 个"#),
        (json!({"uniqueItems": true}), "[1,1]", "[1,1] 中有重复的项"),
        (json!({"contains": false}), "[1]", "[1] 中没有符合要求的项"),
        (json!({"enum": ["a", 1]}), "2", "2 不是允许的值：\"a\"、1"),
        (json!({"const": 1}), "2", "应为 1"),
        (json!({"pattern": "^b"}), "\"a\"", "\"a\" 不匹配 \"^b\""),
        (json!({"propertyNames": {"maxLength": 0}}), r#"{"a":1}"#, "属性名无效：\"a\" 多于 0 个字符"),
        (json!({"anyOf": [{"minimum": 5}, {"minimum": 6}]}), "1", "1 不符合 'anyOf' 中的任何一项"),
        (json!({"oneOf": [{"minimum": 5}, {"minimum": 6}]}), "1", "1 不符合 'oneOf' 中的任何一项"),
        (json!({"oneOf": [{"minimum": 0}, {"minimum": 1}]}), "1", "1 同时符合 'oneOf' 中的多项"),
        (json!({"not": {"minimum": 0}}), "1", "1 符合 'not' 所禁止的内容"),
    ] {
        assert_eq!(chinese(&schema, payload), [expected], "{schema}");
    }
    let long = format!("\"{}\"", "x".repeat(100_000));
    assert_eq!(chinese(&json!({"type": "object"}), &long), ["该值 的类型不是 \"object\""]);
}

#[test]
fn what_cannot_be_used_says_why() {
    assert!(unusable("{").contains("it is no JSON"));
    assert!(unusable("[1]").contains("is not of types"));
    assert!(unusable(r#"{"type": "strin"}"#).contains("/type"));
    assert!(unusable(&format!("{{\"a\": \"{}\"}}", "x".repeat(MAX_SCHEMA_BYTES))).contains("bytes"));
    for elsewhere in ["http://127.0.0.1:1/x", "file:///etc/passwd", "other.json"] {
        let schema = json!({ "$ref": elsewhere }).to_string();
        assert!(unusable(&schema).contains(elsewhere), "{}", unusable(&schema));
    }
    assert!(unusable(r#"{"pattern": "(?=a)b"}"#).contains("/pattern"), "no linear time");
    assert!(unusable(r#"{"pattern": "^(.{1000}){1000}$"}"#).contains("/pattern"), "too large");
    let patterns: serde_json::Map<String, Value> = (0..101).map(|n| (format!("^{n}"), json!(true))).collect();
    assert!(unusable(&json!({ "patternProperties": patterns }).to_string()).contains("101 patterns"));
    assert!(unusable(&format!("{}1{}", "[".repeat(5000), "]".repeat(5000))).contains("recursion limit"));
}

#[test]
fn references_that_lead_nowhere_end() {
    assert_eq!(told(&json!({"$ref": "#"}), "1"), [""; 0]);
    let each_other = json!({"$ref": "#/$defs/a", "$defs": {
        "a": {"allOf": [{"$ref": "#/$defs/b"}]}, "b": {"not": {"not": {"$ref": "#/$defs/a"}}}}});
    told(&each_other, "1");
    told(&json!({"$dynamicAnchor": "x", "$dynamicRef": "#x", "items": {"$dynamicRef": "#x"}}), "[[1]]");
}

/// The deepest payload, and at each of its levels the longest way through the schema.
#[test]
fn the_deepest_check_has_room() {
    let payload = format!("{}{}", "[".repeat(MAX_PAYLOAD_DEPTH), "]".repeat(MAX_PAYLOAD_DEPTH));
    for step in ["$ref", "anyOf", "not"] {
        let last = MOST_STEPS / if step == "$ref" { 1 } else { 2 } - 2;
        let next = |n: usize| json!({ "$ref": format!("#/$defs/{}", n + 1) });
        let place = |n: usize| match step {
            "$ref" => next(n),
            "anyOf" => json!({ "anyOf": [next(n)] }),
            _ => json!({ "not": next(n) }),
        };
        let mut defs: serde_json::Map<String, Value> = (0..last).map(|n| (n.to_string(), place(n))).collect();
        defs.insert(last.to_string(), json!({"items": {"$ref": "#"}}));
        let mut checker =
            Checker::new(&json!({"$defs": defs, "$ref": "#/$defs/0"}).to_string()).expect("a schema");
        assert_eq!(checker.check(&payload).map(|_| ()), Ok(()), "{step}");
    }
    let mut checker = Checker::new(r##"{"items": {"$ref": "#"}}"##).expect("a schema");
    let deeper = format!("[{payload}]");
    assert_eq!(checker.check(&deeper), Ok(Vec::new()), "it will be refused elsewhere");
}

#[test]
fn what_takes_too_long_is_given_up() {
    // Each level doubles the work.
    let last = 24;
    let twice = |n: usize| {
        let next = json!({ "$ref": format!("#/$defs/{}", n + 1) });
        json!({ "allOf": [next, next] })
    };
    let mut defs: serde_json::Map<String, Value> = (0..last).map(|n| (n.to_string(), twice(n))).collect();
    defs.insert(last.to_string(), json!({"type": "string"}));
    let schema = json!({"$defs": defs, "$ref": "#/$defs/0"}).to_string();
    let mut checker = Checker::new(&schema).expect("a schema");
    let slow = checker.check("\"x\"").expect_err("is given up");
    assert!(slow.to_string().contains("too long"), "{slow}");
    assert_eq!(checker.check("\"x\""), Err(slow), "and stays so");
}

#[test]
fn numbers_that_no_type_has_are_not_refused() {
    let mut checker = Checker::new(r#"{"type": "number"}"#).expect("a schema");
    assert!(checker.check("1e400").is_err());
    assert_eq!(checker.check("123456789012345678901234567890"), Ok(Vec::new()));
}
