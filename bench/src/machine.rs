//! What the results were measured on.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::Result;

/// Processor, memory, kernel.
pub(crate) fn description() -> Result<String> {
    let field = |file: &str, name: &str| -> Result<String> {
        let text = std::fs::read_to_string(file)?;
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        Ok(line.map(|(_, value)| value.trim().to_owned()).unwrap_or_default())
    };
    let cores = std::thread::available_parallelism()?;
    let processor = field("/proc/cpuinfo", "model name")?;
    let kib: u64 = field("/proc/meminfo", "MemTotal")?.trim_end_matches(" kB").parse()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{cores} cores ({processor}), {} GiB of memory, Linux {}", kib / 1024 / 1024, kernel.trim()))
}

/// Now, as `2026-01-31T12:00:00Z`.
pub(crate) fn date() -> Result<String> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH)?.as_secs();
    let time = chrono::DateTime::from_timestamp(i64::try_from(seconds)?, 0).ok_or("the clock is far off")?;
    Ok(time.format("%Y-%m-%dT%H:%M:%SZ").to_string())
}
