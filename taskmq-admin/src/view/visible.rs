//! Texts that others wrote, with everything made visible that could deceive the eye.

use maud::{Markup, html};

/// Control characters, and those that change the direction of a text or have no width.
fn deceives(c: char) -> bool {
    matches!(c,
        '\u{0}'..='\u{1f}' | '\u{7f}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e007f}')
}

/// On one line.
pub(crate) fn visible(text: &str) -> Markup {
    marked(text, |_| false)
}

/// The first line: what an error says before it says where.
pub(crate) fn first_line(text: &str) -> Markup {
    visible(text.trim_start().lines().next().unwrap_or_default())
}

/// With its line breaks and tabs.
pub(crate) fn visible_lines(text: &str) -> Markup {
    marked(text, |c| c == '\n' || c == '\t')
}

fn marked(text: &str, allowed: fn(char) -> bool) -> Markup {
    let mut pieces: Vec<Result<&str, char>> = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find(|c| deceives(c) && !allowed(c)) {
        let (before, after) = rest.split_at(at);
        pieces.push(Ok(before));
        let Some(c) = after.chars().next() else { break };
        pieces.push(Err(c));
        rest = &after[c.len_utf8()..];
    }
    pieces.push(Ok(rest));
    html! {
        @for piece in pieces {
            @match piece {
                Ok(text) => (text),
                Err(c) => span.ctl { (name(c)) },
            }
        }
    }
}

/// For attributes, which can hold no marks.
pub(crate) fn visible_text(text: &str) -> String {
    text.chars().fold(String::new(), |mut out, c| {
        if deceives(c) {
            out.push_str(&name(c))
        } else {
            out.push(c)
        }
        out
    })
}

fn name(c: char) -> String {
    match c {
        '\n' => "\u{23ce}".to_owned(),
        '\t' => "\u{21e5}".to_owned(),
        c => format!("U+{:04X}", u32::from(c)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_deceives_is_shown() {
        assert_eq!(
            visible("a\u{202e}<b>\n").into_string(),
            "a<span class=\"ctl\">U+202E</span>&lt;b&gt;<span class=\"ctl\">\u{23ce}</span>"
        );
        assert_eq!(visible_lines("a\n\u{0}").into_string(), "a\n<span class=\"ctl\">U+0000</span>");
        assert_eq!(visible_text("\u{1b}[1m\u{200b}"), "U+001B[1mU+200B");
    }
}
