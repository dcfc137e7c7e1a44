//! What is wrong with a payload, in Chinese: `jsonschema` says it in English only.

use jsonschema::ValidationError;
use jsonschema::error::{TypeKind, ValidationErrorKind as Kind};
use serde_json::Value;

/// Stands for a value that is too long to be shown.
const VALUE: &str = "该值";

pub(super) fn problem(error: &ValidationError<'_>, most_chars: usize) -> String {
    let whole = words(error, error.instance().to_string());
    if whole.chars().count() > most_chars { words(error, VALUE.to_owned()) } else { whole }
}

fn words(error: &ValidationError<'_>, value: String) -> String {
    match error.kind() {
        Kind::Type { kind: TypeKind::Single(kind) } => format!("{value} 的类型不是 \"{kind}\""),
        Kind::Type { kind: TypeKind::Multiple(kinds) } => {
            let kinds: Vec<String> = kinds.iter().map(|kind| format!("\"{kind}\"")).collect();
            format!("{value} 的类型不是 {} 中的任何一种", kinds.join("、"))
        }
        Kind::Required { property } => format!("缺少必需的属性 {property}"),
        Kind::AdditionalProperties { unexpected } | Kind::UnevaluatedProperties { unexpected } => {
            format!("不允许有这些属性：{}", list(unexpected))
        }
        Kind::UnevaluatedItems { unexpected } => format!("不允许有这些项：{}", list(unexpected)),
        Kind::AdditionalItems { limit } => format!("最多只能有 {limit} 项"),
        Kind::Minimum { limit } => format!("{value} 小于最小值 {limit}"),
        Kind::Maximum { limit } => format!("{value} 大于最大值 {limit}"),
        Kind::ExclusiveMinimum { limit } => format!("{value} 必须大于 {limit}"),
        Kind::ExclusiveMaximum { limit } => format!("{value} 必须小于 {limit}"),
        Kind::MultipleOf { multiple_of } => format!("{value} 不是 {multiple_of} 的倍数"),
        Kind::MinLength { limit } => format!("{value} 少于 {limit} 个字符"),
        Kind::MaxLength { limit } => format!("{value} 多于 {limit} 个字符"),
        Kind::MinItems { limit } => format!("{value} 少于 {limit} 项"),
        Kind::MaxItems { limit } => format!("{value} 多于 {limit} 项"),
        Kind::MinProperties { limit } => format!("{value} 的属性少于 {limit} 个"),
        Kind::MaxProperties { limit } => format!("{value} 的属性多于 {limit} 个"),
        Kind::UniqueItems => format!("{value} 中有重复的项"),
        Kind::Contains => format!("{value} 中没有符合要求的项"),
        Kind::Enum { options } => format!("{value} 不是允许的值：{}", options_of(options)),
        Kind::Constant { expected_value } => format!("应为 {expected_value}"),
        Kind::Pattern { pattern } => format!("{value} 不匹配 \"{pattern}\""),
        Kind::Format { format } => format!("{value} 不是 \"{format}\""),
        Kind::PropertyNames { error } => {
            format!("属性名无效：{}", words(error, error.instance().to_string()))
        }
        Kind::AnyOf { .. } => format!("{value} 不符合 'anyOf' 中的任何一项"),
        Kind::OneOfNotValid { .. } => format!("{value} 不符合 'oneOf' 中的任何一项"),
        Kind::OneOfMultipleValid { .. } => format!("{value} 同时符合 'oneOf' 中的多项"),
        Kind::Not { .. } => format!("{value} 符合 'not' 所禁止的内容"),
        Kind::FalseSchema => format!("此处不允许有值：{value}"),
        // Of what is not checked, or of a schema that cannot be used.
        _ => error.to_string(),
    }
}

fn list(names: &[String]) -> String {
    names.iter().map(|name| format!("'{name}'")).collect::<Vec<_>>().join("、")
}

fn options_of(options: &Value) -> String {
    match options {
        Value::Array(options) => options.iter().map(Value::to_string).collect::<Vec<_>>().join("、"),
        other => other.to_string(),
    }
}
