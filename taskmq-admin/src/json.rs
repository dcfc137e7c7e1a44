//! JSON for people to read.

/// Indented, and otherwise as it was written: names keep their order, and numbers all of their digits. After some `at_most` bytes it
/// ends with `…`.
///
/// ```
/// assert_eq!(taskmq_admin::json::pretty(r#"{"price":1.50}"#, 1000), "{\n  \"price\": 1.50\n}");
/// ```
pub fn pretty(json: &str, at_most: usize) -> String {
    let mut pretty = String::with_capacity(json.len().min(at_most) * 2);
    let (mut depth, mut in_text, mut escaped) = (0usize, false, false);
    // Others than these stand in texts only.
    let mut characters = json.chars().filter(|c| *c >= ' ').peekable();
    while let Some(c) = characters.next() {
        if pretty.len() > at_most {
            pretty.push('…');
            break;
        }
        if in_text {
            pretty.push(c);
            in_text = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '"' => {
                in_text = true;
                pretty.push(c);
            }
            '{' | '[' => {
                pretty.push(c);
                while characters.next_if(|c| c.is_whitespace()).is_some() {}
                let closing = if c == '{' { '}' } else { ']' };
                if characters.next_if_eq(&closing).is_some() {
                    pretty.push(closing);
                } else {
                    depth += 1;
                    line(&mut pretty, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut pretty, depth);
                pretty.push(c);
            }
            ',' => {
                pretty.push(c);
                line(&mut pretty, depth);
            }
            ':' => pretty.push_str(": "),
            c if c.is_whitespace() => {}
            c => pretty.push(c),
        }
    }
    pretty
}

fn line(pretty: &mut String, depth: usize) {
    pretty.push('\n');
    // Deep ones stay readable, and short.
    pretty.extend(std::iter::repeat_n("  ", depth.min(40)));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_indented_and_otherwise_left_alone() {
        let pretty = |json| pretty(json, 1000);
        assert_eq!(
            pretty(r#"{"a":[1.50,{}, [ ]],"b":"x,\"{y\\"}"#),
            "{\n  \"a\": [\n    1.50,\n    {},\n    []\n  ],\n  \"b\": \"x,\\\"{y\\\\\"\n}"
        );
        assert_eq!(pretty("12345678901234567890123"), "12345678901234567890123");
    }

    #[test]
    fn what_is_long_is_cut() {
        assert_eq!(pretty("[1,2,3]", 5), "[\n  1,\n  …");
    }
}
