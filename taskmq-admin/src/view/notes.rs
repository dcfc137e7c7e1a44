//! What a change was and what it was about, in the reader's language: the audit log keeps both in English.

use taskmq_core::State;

use crate::texts::{CHINESE, Texts};

impl Texts {
    /// What was done, by its name in the audit log. One of another program is shown as it is.
    pub(crate) fn action<'a>(&self, action: &'a str) -> &'a str {
        let chinese = match action {
            "produce" => CHINESE.produce,
            "retry" => CHINESE.retry,
            "cancel" => CHINESE.cancel,
            "delete" => CHINESE.delete,
            "priority" => CHINESE.set_priority,
            "run at" => CHINESE.set_time,
            "pause" => CHINESE.pause,
            "resume" => CHINESE.resume,
            "limit" => CHINESE.set_limit,
            "lift limit" => CHINESE.lift_limit,
            "drain" => CHINESE.drain,
            "cancel workflow" => CHINESE.cancel_workflow,
            "add schedule" => "添加计划",
            "run schedule" => "运行计划",
            "pause schedule" => "暂停计划",
            "resume schedule" => "恢复计划",
            "remove schedule" => "删除计划",
            other => other,
        };
        self.choose(action, chinese)
    }

    /// Who did it. A schedule that cannot be read is paused by no person.
    pub(crate) fn actor<'a>(&self, actor: &'a str) -> &'a str {
        if actor == "a worker" { self.choose(actor, CHINESE.worker) } else { actor }
    }

    /// What else there is to say of it, which messages it was about above all.
    pub(crate) fn details_of(&self, action: &str, details: &str) -> String {
        match action {
            "retry" | "cancel" | "delete" | "priority" | "run at" | "limit" | "cancel workflow"
                if self.code != "en" =>
            {
                parts(details).into_iter().map(part).collect::<Vec<_>>().join("，")
            }
            // Of others it is a name, which may be any word.
            _ => details.to_owned(),
        }
    }
}

/// What stands between commas, but for those within quotation marks.
fn parts(details: &str) -> Vec<&str> {
    let (mut parts, mut begin, mut quoted, mut escaped) = (Vec::new(), 0, false, false);
    for (at, c) in details.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' if quoted => escaped = true,
            '"' => quoted = !quoted,
            ',' if !quoted && details[at..].starts_with(", ") => {
                parts.push(&details[begin..at]);
                begin = at + 2;
            }
            _ => {}
        }
    }
    parts.push(&details[begin..]);
    parts
}

/// How a part begins, and what it is about.
const BEGINNINGS: [(&str, &str); 11] = [
    ("ordering key ", "排序键 "),
    ("key ", "唯一键 "),
    ("text ", "文本 "),
    ("error ", "错误 "),
    ("payload ", "负载 "),
    ("since ", "不早于 "),
    ("before ", "早于 "),
    ("produced before ", "投递早于 "),
    ("to ", "改为 "),
    ("at ", "改为 "),
    ("workflow ", "工作流 "),
];

/// What is none of ours stays as it is: a name, or whatever another program has written.
fn part(part: &str) -> String {
    if let Some(number) = part.strip_suffix(" at once") {
        return format!("{} {number}", CHINESE.at_once);
    }
    if let Some((ids, more)) = part.strip_suffix(" more").and_then(|part| part.split_once(" and ")) {
        return format!("{ids} 等，另有 {more} 条");
    }
    // `all dead`, and of what `taskmq-cli purge` deletes `all dead, done that finished before ...`.
    let (all, rest) = part.strip_prefix("all").map_or(("", part), |rest| ("全部", rest.trim_start()));
    let (state, finished) =
        rest.split_once(" that finished before ").map_or((rest, None), |(s, at)| (s, Some(at)));
    let state = state.parse::<State>().map(|state| CHINESE.state(state));
    match (all, state, finished) {
        (all, Ok(state), None) => return format!("{all}{state}"),
        (all, Ok(state), Some(at)) => return format!("{all}{state}，结束早于 {at}"),
        ("全部", Err(_), None) if rest.is_empty() => return all.to_owned(),
        _ => {}
    }
    let found = BEGINNINGS.iter().find_map(|(english, chinese)| Some((chinese, part.strip_prefix(english)?)));
    found.map_or_else(|| part.to_owned(), |(chinese, rest)| format!("{chinese}{rest}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::texts::ENGLISH;

    #[test]
    fn details_are_told_in_the_readers_language() {
        for (action, stored, told) in [
            ("retry", "", ""),
            ("priority", "to 9", "改为 9"),
            ("run at", "at 2036-05-06 07:08:09 UTC, #1 #2", "改为 2036-05-06 07:08:09 UTC，#1 #2"),
            ("delete", "#1 #2 and 3 more", "#1 #2 等，另有 3 条"),
            ("limit", "5 at once, 100/1m", "同时运行 5，100/1m"),
            (
                "delete",
                "all dead, error \"a, before b\", before 2026",
                "全部死信，错误 \"a, before b\"，早于 2026",
            ),
            ("cancel", "all ready, text \"\\\", to \"", "全部就绪，文本 \"\\\", to \""),
            (
                "retry",
                "all scheduled, key \"k\", produced before 2026",
                "全部定时，唯一键 \"k\"，投递早于 2026",
            ),
            ("delete", "all dead, done that finished before 2026", "全部死信，完成，结束早于 2026"),
            ("cancel workflow", "workflow 12", "工作流 12"),
            ("pause schedule", "all", "all"),
        ] {
            assert_eq!(CHINESE.details_of(action, stored), told);
            assert_eq!(ENGLISH.details_of(action, stored), stored);
        }
        assert_eq!((CHINESE.action("run at"), CHINESE.action("explode")), ("设置时间", "explode"));
        assert_eq!(ENGLISH.action("run at"), "run at");
    }
}
