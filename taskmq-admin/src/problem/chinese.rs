//! What the queue says of what a person asked it for, in Chinese. It says which rule there is, and not which part of it was
//! broken, which the queue tells in English only.

use taskmq_core::Error;
use taskmq_core::limits::{
    MAX_DELAY, MAX_KEY_CHARS, MAX_PAYLOAD_DEPTH, MAX_RATE, MAX_RATE_PERIOD, MAX_RUNNING, MAX_TOPIC_CHARS,
};

/// `None`: nothing that a person asked for is the reason, and the queue's own words go to whoever keeps the database.
pub(super) fn words(error: &Error) -> Option<String> {
    Some(match error {
        Error::Topic { topic, .. } => format!(
            "主题“{topic}”无效：须为 1 至 {MAX_TOPIC_CHARS} 个字符，只能包含 ASCII 字母、数字和 _ - . : /"
        ),
        Error::Key { what, .. } => format!(
            "{}无效：须为 1 至 {MAX_KEY_CHARS} 个字符，不能以空格结尾，也不能包含 NUL 字符",
            thing(what)?
        ),
        Error::Encode { what, source } => format!("{}无法写成 JSON：{source}", thing(what)?),
        Error::Json { what, .. } => format!(
            "{}无法存储：列表和对象的嵌套不能超过 {MAX_PAYLOAD_DEPTH} 层，转义的代理对必须成对",
            thing(what)?
        ),
        Error::TooLarge { what, bytes, limit } => format!(
            "{}的 JSON 有 {bytes} 字节，上限为 {limit} 字节：请将其存放在别处，只发送引用",
            thing(what)?
        ),
        Error::Delay { delay } => {
            format!("延迟 {} 天过长，上限为 {} 天", delay.as_secs() / 86_400, MAX_DELAY.as_secs() / 86_400)
        }
        Error::Condition { condition, .. } => format!(
            "无法按“{condition}”查找：以 $ 开头，随后是 .名称、[\"名称\"]、[位置] 或 [*]，最后可以加上 = 和一个值，例如 $.user.id = 42"
        ),
        Error::Limit { .. } => format!(
            "无法设置此限制：同时运行 1 至 {MAX_RUNNING} 条，速率为每个周期 1 至 {MAX_RATE} 条（例如 100/1m），周期为 1 秒至 {} 小时的整秒数，两者至少填一项",
            MAX_RATE_PERIOD.as_secs() / 3600
        ),
        Error::Unreadable { consumer, source } => format!("消费者 {consumer} 无法读取此负载：{source}"),
        Error::NoSchedule { name } => format!("没有名为“{name}”的定时计划"),
        Error::Workflow { name, problem } => format!("工作流 {name}：{}", refused_workflow(problem)?),
        Error::Locked(_) => "SQLite 数据库正被另一个写入者锁定，请稍后再试".to_owned(),
        Error::Silent(patience) => format!("数据库已有 {} 秒没有响应", patience.as_secs()),
        Error::TooSlow(_) => "数据库耗时过长，已被中止：请缩小查询范围".to_owned(),
        Error::ReadOnly(_) => "此连接只能读取：没有作任何更改".to_owned(),
        Error::DiskFull(_) => {
            "数据库所在的磁盘已满，无法再存储任何内容：请腾出空间；此前已存储的内容都还在".to_owned()
        }
        _ => return None,
    })
}

/// Why a workflow is not changed.
fn refused_workflow(problem: &str) -> Option<&'static str> {
    Some(match problem {
        "there is none of this id" => "没有这个编号的工作流",
        "it is done" => "它已完成",
        "it is cancelled; produce it again if it is to run again" => "它已取消：如需再次运行，请重新投递",
        "no step of it is dead or cancelled" => "没有步骤成为死信或被取消",
        _ => return None,
    })
}

/// Which part of a message.
fn thing(what: &str) -> Option<&'static str> {
    Some(match what {
        "the payload" => "负载",
        "the headers" => "消息头",
        "the unique key" => "唯一键",
        "the ordering key" => "排序键",
        _ => return None,
    })
}
