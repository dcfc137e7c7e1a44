//! All that the pages say, in each language.

use taskmq_core::State;
use taskmq_core::broker::{Refusal, StepState, WorkflowState};

/// Each text with its English and its Chinese: one that is missing does not compile.
macro_rules! texts {
    ($($name:ident: $english:literal, $chinese:literal;)*) => {
        /// What the pages say in one language.
        #[derive(Debug)]
        #[cfg_attr(not(feature = "schema"), allow(dead_code, reason = "nothing is checked"))]
        pub(crate) struct Texts { $(pub(crate) $name: &'static str,)* }
        pub(crate) static ENGLISH: Texts = Texts { $($name: $english,)* };
        pub(crate) static CHINESE: Texts = Texts { $($name: $chinese,)* };
    };
}

texts! {
    code: "en", "zh-CN";
    skip: "Skip to content", "跳到正文";
    navigation: "Pages", "页面导航";
    overview: "Overview", "总览";
    messages: "Messages", "消息";
    message: "Message", "消息";
    dead_letters: "Dead letters", "死信";
    workers: "Workers", "工作进程";
    schedules: "Schedules", "定时计划";
    audit: "Audit log", "审计日志";
    produce: "Produce", "投递";
    produce_like: "Produce a copy", "投递副本";
    produce_message: "Produce a message", "投递一条消息";
    changes: "Changes", "批量操作";
    sign_in: "Sign in", "登录";
    sign_out: "Sign out", "退出登录";
    secret: "Password or token", "密码或令牌";
    where_secret: "The token stands in the address that the admin printed when it started.", "令牌在管理页启动时打印的地址中。";
    wrong_secret: "That is not right.", "密码或令牌不正确。";
    too_often: "Too many tries. Wait a moment.", "尝试次数过多，请稍候。";
    read_only: "read-only", "只读";
    theme_dark: "Dark", "深色";
    theme_light: "Light", "浅色";
    theme_auto: "Auto", "跟随系统";
    theme: "Colours", "外观";
    language: "Language", "语言";
    topic: "Topic", "主题";
    topics: "Topics", "主题";
    filter_topics: "Filter topics", "筛选主题";
    state: "State", "状态";
    all_states: "All states", "全部状态";
    ready: "Ready", "就绪";
    scheduled: "Scheduled", "定时";
    running: "Running", "运行中";
    retrying: "Retrying", "待重试";
    done: "Done", "完成";
    dead: "Dead", "死信";
    cancelled: "Cancelled", "已取消";
    oldest: "Oldest waiting", "最久等待";
    oldest_short: "Oldest", "最久";
    rate_in: "In", "投递";
    rate_out: "Out", "完成";
    per_second: "/s", "/秒";
    errors: "Errors", "错误率";
    errors_title: "Failed attempts among all that ended within the last hour: of the newest 2,000 failed attempts and the newest 2,000 done messages that are kept", "最近一小时内失败尝试占全部已结束尝试的比例：取最新 2,000 次失败尝试与最新 2,000 条仍保留的已完成消息";
    wait: "Wait", "等待";
    run_time: "Run", "运行";
    p50_p99: "p50 / p99", "p50 / p99";
    quantiles_title: "p50 and p99 of those that were done lately", "最近完成的消息的 p50 与 p99";
    throughput: "Throughput", "吞吐量";
    throughput_about: "Messages a second, the last two minutes", "每秒消息数，最近两分钟";
    two_minutes_ago: "2 min ago", "2 分钟前";
    now: "now", "现在";
    backlog: "Backlog", "积压";
    produced: "Produced", "投递";
    finished: "Finished", "结束";
    live: "live", "实时";
    lost: "No longer live. These are the figures of", "已不再实时更新，数据时间：";
    reload: "Reload", "重新加载";
    figures_of: "The database gives no newer figures than those of", "数据库没有给出更新的数据，以下数据的时间为";
    nothing_yet: "There are no messages yet", "还没有消息";
    nothing_yet_about: "Produce one with this form, from your program, or with", "可以用表单、你的程序投递，或执行";
    more_topics: "more topics: filter them by name", "个主题未显示：请按名称筛选";
    id: "Id", "编号";
    key: "Unique key", "唯一键";
    ordering_key: "Ordering key", "排序键";
    priority: "Priority", "优先级";
    attempts: "Attempts", "尝试次数";
    crashes: "Crashes", "崩溃次数";
    max_attempts: "Attempts at most", "最多尝试次数";
    created: "Produced", "投递时间";
    due: "Due", "到期";
    claimed: "Claimed", "领取";
    finished_at: "Finished", "结束时间";
    worker: "Worker", "工作进程";
    payload: "Payload", "负载";
    headers: "Headers", "消息头";
    result: "Result", "结果";
    error: "Error", "错误";
    hidden: "hidden", "已隐藏";
    timeline: "Timeline", "时间线";
    log: "Log", "日志";
    details: "Details", "详情";
    search: "Search", "搜索";
    text: "Text", "文本";
    text_about: "in payload, headers, keys or error", "在负载、消息头、键或错误中";
    reset: "Reset", "清除";
    next_page: "Next page", "下一页";
    first_page: "First page", "第一页";
    pages_of_list: "Pages of the list", "列表分页";
    keep_looking: "Look further", "继续查找";
    looked_at: "messages looked at", "条消息已查找";
    as_far_as: "as far as", "已到";
    more_filters: "Ordering key, payload and time", "排序键、负载与时间";
    json_path: "Payload at a path", "负载中的路径";
    json_path_about: "$.user.id = 42, $.tags[*] = new, $[\"user name\"]: a path, and perhaps a value that it must have", "$.user.id = 42、$.tags[*] = new、$[\"user name\"]：路径，以及可选的值";
    since: "since (UTC)", "不早于（UTC）";
    before: "before (UTC)", "早于（UTC）";
    no_messages: "No messages here", "这里没有消息";
    end_of_list: "End of the list", "已到列表末尾";
    select_all: "Select all on this page", "全选本页";
    select: "Select", "选择";
    selected: "Selected:", "已选：";
    all_matching: "All that match:", "全部匹配项：";
    pause: "Pause", "暂停";
    resume: "Resume", "恢复";
    paused: "paused", "已暂停";
    paused_about: "Paused: no worker takes messages of this topic.", "已暂停：没有工作进程领取该主题的消息。";
    limited: "limited", "已限流";
    limit: "Limit over all workers", "所有工作进程的总限制";
    limit_about: "All workers together begin no more of this topic's messages. A rate is a number and a period: 100/1m, 5/s.", "所有工作进程合计不会超过此限制处理该主题的消息。速率为数量和周期：100/1m、5/s。";
    at_once: "At once", "同时运行";
    limit_rate: "Rate", "速率";
    set_limit: "Set limit", "设置限制";
    lift_limit: "Lift limit", "解除限制";
    retry: "Retry", "重试";
    run_now: "Run now", "立即运行";
    cancel: "Cancel", "取消";
    delete: "Delete", "删除";
    edit: "Change", "修改";
    set_priority: "Set priority", "设置优先级";
    set_time: "Set time", "设置时间";
    time_utc: "Due at (UTC)", "到期时间（UTC）";
    cancel_asked: "Its worker was asked to end it.", "已要求其工作进程结束它。";
    confirm_title: "Please confirm", "请确认";
    go_back: "Back", "返回";
    undo_not: "This cannot be undone.", "此操作无法撤销。";
    or_more: "It goes through all of them, however many there are.", "操作将遍历全部匹配的消息。";
    background: "It runs in the background, shows its progress, and can be stopped.", "操作在后台运行，显示进度，可随时停止。";
    nothing_selected: "Nothing is selected.", "没有选择任何消息。";
    nothing_matches: "No message matches.", "没有匹配的消息。";
    changed: "Changed", "已变更";
    refused: "Refused", "被拒绝";
    stop: "Stop", "停止";
    stopped: "Stopped", "已停止";
    in_progress: "In progress", "进行中";
    failed: "Failed", "失败";
    finished_all: "Finished", "已完成";
    started: "Since", "开始于";
    by_whom: "By", "操作者";
    no_changes: "No bulk changes since this server started.", "服务启动以来没有批量操作。";
    what: "What", "操作内容";
    when: "When", "时间";
    number: "Messages", "消息数";
    progress: "Progress", "进度";
    same_error: "Same error", "相同错误";
    last_seen: "Last", "最近一次";
    first_seen: "First", "最早一次";
    show: "Show", "查看";
    retry_all: "Retry all", "全部重试";
    delete_all: "Delete all", "全部删除";
    no_dead: "No dead letters", "没有死信";
    no_dead_about: "Every message that was given up would be here.", "被放弃的消息会显示在这里。";
    no_dead_soon: "None among the newest dead letters", "最新的死信中没有";
    more_groups: "more groups, of fewer messages each: those of one topic are found from its page", "组未显示，每组消息更少：可从主题页面查看该主题的死信";
    look_further: "Look further", "继续查找";
    of_newest: "of the newest dead letters, grouped by error", "条最新死信，按错误分组";
    no_error: "no error text", "无错误信息";
    concurrency: "At once", "并发";
    runs_now: "Runs now", "正在运行";
    held_more: "more held, which begin when these end", "条已领取，等待开始";
    idle: "idle", "空闲";
    alone: "runs one message alone, because it may be the one that ends its process", "单独运行一条消息，因为它可能会使进程崩溃";
    drain: "Drain", "停止接单";
    drain_about: "It takes no more messages, hands back what it has not begun, finishes what runs, and ends. Whatever keeps it running (systemd, Kubernetes) may start it again.", "它不再领取消息，交还尚未开始的消息，完成正在运行的消息，然后退出。负责守护它的程序（systemd、Kubernetes）可能会重新启动它。";
    draining: "draining", "正在停止";
    draining_about: "It was told to take no more messages and to end.", "已通知其不再领取消息并退出。";
    not_alive: "not alive", "已失联";
    not_alive_about: "It was killed or cut off. What it held is given back when another worker looks.", "进程被终止或连接中断。其他工作进程检查时，会归还它所领取的消息。";
    last_beat: "Last beat", "上次心跳";
    memory: "Memory", "内存";
    held: "Held", "已领取";
    unconsumed: "no worker", "无工作进程";
    unconsumed_about: "No running worker consumes this topic.", "没有运行中的工作进程消费该主题。";
    no_workers: "No worker runs", "没有运行中的工作进程";
    no_workers_about: "Start one with", "启动命令";
    filter_schedules: "Filter by name or topic", "按名称或主题筛选";
    more_schedules: "more schedules: filter them by name", "个计划未显示：请按名称筛选";
    no_schedules: "There are no schedules", "还没有定时计划";
    no_schedules_about: "A consumer can declare one; or add one from your program, or with", "可以由消费者声明、从你的程序添加，或执行";
    no_such_schedule: "No schedule has such a name or topic", "没有符合该名称或主题的计划";
    cron: "Cron", "Cron 表达式";
    last_run: "Last run", "上次运行";
    next_runs: "Next runs", "接下来的运行";
    not_yet: "not yet", "尚未运行";
    never: "It never ticks again.", "不会再触发。";
    paused_schedule: "None while it is paused.", "暂停期间不会触发。";
    late: "late", "已延误";
    late_about: "It is due, but no worker lets it tick: none runs, or none of those that run has its consumer.", "已到期但没有工作进程触发它：没有运行中的工作进程，或其中没有相应的消费者。";
    declared_by: "Declared by", "声明者";
    declared_by_consumer: "its consumer", "消费者";
    declared_by_nobody: "nobody: it was added at run time", "无：运行时添加";
    worker_gone: "(its worker runs no more)", "（其工作进程已停止）";
    workflows: "Workflows", "工作流";
    workflow: "Workflow", "工作流";
    name: "Name", "名称";
    steps: "Steps", "步骤";
    step: "Step", "步骤";
    after_steps: "After", "前序步骤";
    steps_not_done: "steps that are not done", "个步骤未完成";
    waiting: "Waiting", "等待前序";
    deleted: "Deleted", "已删除";
    stuck: "Stuck", "受阻";
    stuck_about: "A step is dead, cancelled or deleted: what comes after it waits until it is retried, or the workflow is cancelled.", "有步骤成为死信、被取消或被删除：后续步骤将等待，直到它被重试，或工作流被取消。";
    graph: "Steps and what they wait for", "步骤及其依赖";
    too_many_steps: "It has too many steps for a picture.", "步骤过多，无法绘图。";
    no_workflows: "No workflows here", "这里没有工作流";
    no_workflows_about: "Messages that wait for one another are produced with", "相互等待的消息可以这样投递：";
    cancel_workflow: "Cancel workflow", "取消工作流";
    no_notes: "Nothing was changed by a person yet.", "还没有人工操作。";
    payload_json: "Payload (JSON)", "负载（JSON）";
    delay: "Delay in seconds", "延迟（秒）";
    headers_json: "Headers (a JSON object of texts)", "消息头（文本组成的 JSON 对象）";
    checked_topics: "What the consumer reads is known of these topics, so the payload is checked:", "以下主题的消费者已知，将检查负载：";
    schema: "What its consumer reads (JSON schema)", "消费者可读取的内容（JSON Schema）";
    schema_unusable: "Payloads are not checked by it:", "不据此检查负载：";
    schema_unread: "Payloads are not checked, for the schema of this topic cannot be read:", "无法读取该主题的 Schema，不检查负载：";
    unchecked: "This message was produced, but its payload was not checked: the schema of its topic cannot be read, or cannot tell.", "消息已投递，但未检查其负载：该主题的 Schema 无法读取或无法用于检查。";
    misfit: "The consumer of this topic could not read this payload:", "该主题的消费者无法读取此负载：";
    whole_payload: "the payload", "整个负载";
    optional: "optional", "可选";
    told_produce: "The message was produced.", "消息已投递。";
    told_retry: "It waits for a worker, or for its time.", "正在等待工作进程，或等待其到期时间。";
    told_cancel: "It was cancelled.", "已取消。";
    told_delete: "The message was deleted.", "消息已删除。";
    told_priority: "The priority was set.", "优先级已设置。";
    told_run_at: "The time was set.", "到期时间已设置。";
    told_pause: "It was paused.", "已暂停。";
    told_resume: "It goes on.", "已恢复。";
    told_limit: "The limit was set.", "限制已设置。";
    told_lift_limit: "The limit was lifted.", "限制已解除。";
    told_drain: "The worker was told to end: it takes no more messages.", "已通知工作进程退出：它不再领取消息。";
    told_retry_steps: "What was stuck waits for a worker.", "受阻的步骤正在等待工作进程。";
    refused_not_there: "There is no such message any more.", "消息已不存在。";
    refused_running: "It is running: it belongs to its worker until it ends.", "消息正在运行，在结束前归其工作进程所有。";
    refused_done: "It is done: produce a copy if it is to run again.", "消息已完成：如需再次运行，请投递副本。";
    refused_finished: "It is finished.", "消息已结束。";
    refused_key_taken: "Another live message of its topic has its unique key by now.", "同一主题下已有另一条存活消息使用其唯一键。";
    exists: "A live message of this topic has this key already; nothing was stored.", "该主题下已有相同键的存活消息，未存储。";
    not_found: "There is no such page or message.", "没有这个页面或消息。";
    busy: "The database is busy, try again in a moment.", "数据库繁忙，请稍后再试。";
    problem: "That did not work", "操作未成功";
    bad_state: "This is no state:", "没有这个状态：";
    bad_number: "This is no number in its range:", "数值无效或超出范围：";
    bad_time: "This is no time:", "时间无效：";
    bad_json: "The payload is no JSON:", "负载不是有效的 JSON：";
    bad_headers: "The headers are no JSON object of texts:", "消息头不是由文本组成的 JSON 对象：";
    hidden_search: "Texts cannot be searched while payloads are hidden.", "隐藏负载时不能搜索文本。";
    shortcuts: "Keys: / search · j k move · Enter open · g then o m d w s f a p go to a page", "快捷键：/ 搜索 · j k 移动 · Enter 打开 · g 加 o m d w s f a p 跳转页面";
    shortcuts_off: "Turn them off", "关闭快捷键";
    shortcuts_on: "Turn them on", "启用快捷键";
    ago: "ago", "前";
    in_future: "in", "后";
    unit_ms: "ms", "毫秒";
    unit_s: "s", "秒";
    unit_min: "min", "分";
    unit_h: "h", "小时";
    unit_d: "d", "天";
}

impl Texts {
    pub(crate) fn state(&self, state: State) -> &'static str {
        match state {
            State::Ready => self.ready,
            State::Scheduled => self.scheduled,
            State::Running => self.running,
            State::Retrying => self.retrying,
            State::Done => self.done,
            State::Dead => self.dead,
            State::Cancelled => self.cancelled,
        }
    }

    pub(crate) fn step_state(&self, state: StepState) -> &'static str {
        match state {
            StepState::Waiting => self.waiting,
            StepState::Deleted => self.deleted,
            StepState::Message(state) => self.state(state),
        }
    }

    pub(crate) fn workflow_state(&self, state: WorkflowState) -> &'static str {
        match state {
            WorkflowState::Running => self.running,
            WorkflowState::Done => self.done,
            WorkflowState::Cancelled => self.cancelled,
        }
    }

    /// What was just done, by the name that the form has for it.
    pub(crate) fn told(&self, done: &str) -> Option<&'static str> {
        Some(match done {
            "produce" | "run" => self.told_produce,
            "unchecked" => self.unchecked,
            "retry" => self.told_retry,
            "cancel" => self.told_cancel,
            "cancel running" => self.cancel_asked,
            "delete" => self.told_delete,
            "priority" => self.told_priority,
            "run at" => self.told_run_at,
            "pause" => self.told_pause,
            "resume" => self.told_resume,
            "limit" => self.told_limit,
            "lift limit" => self.told_lift_limit,
            "drain" => self.told_drain,
            "retry steps" => self.told_retry_steps,
            _ => return None,
        })
    }

    /// Why a message was not changed.
    pub(crate) fn refusal(&self, refusal: Refusal) -> &'static str {
        match refusal {
            Refusal::NotThere => self.refused_not_there,
            Refusal::Running => self.refused_running,
            Refusal::Done => self.refused_done,
            Refusal::Finished => self.refused_finished,
            Refusal::KeyTaken => self.refused_key_taken,
        }
    }

    pub(crate) fn attempt(&self, number: i32) -> String {
        if self.code == "en" { format!("Attempt {number}") } else { format!("第 {number} 次尝试") }
    }

    /// How an attempt failed.
    pub(crate) fn failure<'a>(&self, kind: &'a str) -> &'a str {
        let chinese = match kind {
            "error" => "出错",
            "panic" => "程序恐慌（panic）",
            "timeout" => "超时",
            "payload" => "负载无法读取",
            "cancelled" => "被取消",
            "crash" => "进程崩溃",
            other => other,
        };
        self.choose(kind, chinese)
    }

    /// Of what is said elsewhere.
    pub(crate) fn choose<'a>(&self, english: &'a str, chinese: &'a str) -> &'a str {
        if self.code == "en" { english } else { chinese }
    }

    /// A line of a chart in words: where it ends, and how high it was.
    pub(crate) fn backlog_of(&self, now: &str, most: &str) -> String {
        let backlog = self.backlog;
        if self.code == "en" {
            format!("{backlog}: {now} now, {most} at most")
        } else {
            format!("{backlog}：现在 {now}，最多 {most}")
        }
    }

    pub(crate) fn messages_of(&self, number: &str) -> String {
        match (self.code, number) {
            ("en", "1") => "1 message".to_owned(),
            ("en", number) => format!("{number} messages"),
            (_, number) => format!("{number} 条消息"),
        }
    }
}
