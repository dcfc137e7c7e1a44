//! What the database itself has to do with it: its tables, its settings, its machine.

use std::path::Path;

use chrono::{DateTime, Utc};
use indicatif::{BinaryBytes, HumanDuration};
use taskmq_core::broker::{
    Figures, MysqlFigures, PostgresFigures, ServerFigures, SqliteFigures, Transaction,
};
use taskmq_core::migration::SCHEMA_VERSION;

use super::{Finding, Level};

/// A transaction that is open for so many seconds keeps the queue's dead rows;
const OLD_TRANSACTION: i64 = 60;
/// and after so many it must be a mistake.
const FORGOTTEN_TRANSACTION: i64 = 3600;
/// More dead rows than this, and more than live ones, slow claims down.
const MANY_DEAD_ROWS: i64 = 100_000;
/// Row versions that InnoDB keeps for old transactions.
const LONG_HISTORY: i64 = 1_000_000;
/// A write-ahead log of SQLite beyond this many bytes is not being cleared.
const LARGE_WAL: u64 = 256 * 1024 * 1024;
/// A replication slot that nobody reads keeps the log; so many bytes of it fill disks.
const LARGE_SLOT: i64 = 1024 * 1024 * 1024;
/// Clocks that differ by so many milliseconds are worth a remark.
const CLOCKS_DIFFER: i64 = 1000;

pub(super) fn schema(found: i32) -> Finding {
    let what = if found == 0 {
        "this database has no taskmq tables".to_owned()
    } else {
        format!("the taskmq tables have schema version {found}, this program works with {SCHEMA_VERSION}")
    };
    let fix = if found < SCHEMA_VERSION {
        "run `taskmq-cli init` and then `taskmq-cli migrate` or `diesel migration run`"
    } else {
        "update taskmq in Cargo.toml, and taskmq-cli"
    };
    Finding::new(Level::Error, "schema-version", what, "no worker starts on them", fix)
}

pub(super) fn judge(figures: &Figures) -> Vec<Finding> {
    let mut findings = Vec::new();
    let again = "take the statement that makes it from the migration, and run it (PostgreSQL: CREATE INDEX CONCURRENTLY)";
    for name in &figures.missing_indexes {
        findings.push(Finding::new(
            Level::Error,
            "index-missing",
            format!("the index {name} is not there"),
            "claims fail or walk over the whole table, and unique keys may be taken twice",
            again,
        ));
    }
    for name in &figures.invalid_indexes {
        findings.push(Finding::new(
            Level::Error,
            "index-invalid",
            format!("the index {name} is there and not used, for making it failed"),
            "claims fail or walk over the whole table, and unique keys may be taken twice",
            format!("REINDEX INDEX CONCURRENTLY {name}"),
        ));
    }
    if figures.stray_payloads > 0 {
        findings.push(Finding::new(
            Level::Warning,
            "stray-payloads",
            format!("{} of the oldest large payloads belong to no message", figures.stray_payloads),
            "who deletes messages by hand leaves their payloads, which only take up space",
            "DELETE FROM taskmq_payloads WHERE id NOT IN (SELECT id FROM taskmq_messages) AND id NOT IN (SELECT id FROM taskmq_archive)",
        ));
    }
    match &figures.server {
        ServerFigures::Sqlite(sqlite) => findings.extend(judge_sqlite(sqlite)),
        ServerFigures::Postgres(postgres) => findings.extend(judge_postgres(postgres)),
        ServerFigures::Mysql(mysql) => findings.extend(judge_mysql(mysql)),
        _ => {}
    }
    findings
}

fn judge_sqlite(sqlite: &SqliteFigures) -> Vec<Finding> {
    let mut findings = Vec::new();
    if !sqlite.problems.is_empty() {
        findings.push(Finding::new(
            Level::Error,
            "file-damaged",
            format!("the file is damaged: {}", sqlite.problems.join("; ")),
            "messages are lost or run twice, and it gets worse with every write",
            "stop all workers, copy the file, and save what can be read: sqlite3 FILE .recover",
        ));
    }
    if sqlite.journal_mode != "wal" {
        findings.push(Finding::new(
            Level::Error,
            "journal-mode",
            format!("the journal mode is {}, and cannot be set to wal", sqlite.journal_mode),
            "readers and writers shut each other out",
            "put the file on a disk of this machine, in a folder that can be written",
        ));
    }
    let numbers: Vec<u32> = sqlite.version.split('.').filter_map(|part| part.parse().ok()).collect();
    if numbers.as_slice() < [3, 51, 3].as_slice() {
        findings.push(Finding::new(
            Level::Error,
            "sqlite-version",
            format!("SQLite is {}, older than 3.51.3", sqlite.version),
            "it can corrupt a file that several processes write",
            "use the feature `bundled-sqlite`, which is on unless it is switched off",
        ));
    }
    findings
}

/// The file's surroundings.
pub(super) fn judge_file(file: &Path) -> Vec<Finding> {
    let mut findings = Vec::new();
    let mut wal = file.as_os_str().to_owned();
    wal.push("-wal");
    let bytes = std::fs::metadata(&wal).map(|wal| wal.len()).unwrap_or_default();
    if bytes > LARGE_WAL {
        findings.push(Finding::new(
            Level::Warning,
            "wal-large",
            format!("the write-ahead log has grown to {}", BinaryBytes(bytes)),
            "every read looks through it; some reader keeps it from being cleared",
            "end the program that holds a read transaction open; then PRAGMA wal_checkpoint(TRUNCATE)",
        ));
    }
    if let Ok(mounts) = std::fs::read_to_string("/proc/self/mounts")
        && let Some(kind) = file_system(&mounts, file)
        && is_of_network(kind)
    {
        findings.push(Finding::new(
            Level::Error,
            "network-file-system",
            format!("the file is on a network file system ({kind})"),
            "SQLite's locks do not work there: the file gets corrupt and messages run twice",
            "put it on a disk of this machine, or use PostgreSQL or MariaDB",
        ));
    }
    findings
}

/// The kind of file system that holds a file, by Linux's list of what is mounted where.
fn file_system<'a>(mounts: &'a str, file: &Path) -> Option<&'a str> {
    let mounted = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let place = words.next()?.replace("\\040", " ");
        Some((place, words.next()?))
    });
    // Of those mounted over each other the last one counts.
    mounted
        .filter(|(place, _)| file.starts_with(place))
        .max_by_key(|(place, _)| place.len())
        .map(|(_, kind)| kind)
}

fn is_of_network(kind: &str) -> bool {
    ["nfs", "cifs", "smb", "9p", "afs", "ceph", "glusterfs", "lustre", "fuse.sshfs", "fuse.glusterfs"]
        .iter()
        .any(|network| kind.starts_with(network))
}

fn judge_postgres(postgres: &PostgresFigures) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (on, name) in [(postgres.fsync, "fsync"), (postgres.full_page_writes, "full_page_writes")] {
        if !on {
            findings.push(Finding::new(
                Level::Error,
                "not-durable",
                format!("{name} is off"),
                "a crash of the machine can destroy the whole database, messages and all",
                format!("ALTER SYSTEM SET {name} = on; SELECT pg_reload_conf()"),
            ));
        }
    }
    if postgres.synchronous_commit == "off" {
        findings.push(Finding::new(
            Level::Warning,
            "commits-not-waited-for",
            "synchronous_commit is off".to_owned(),
            "what was produced or acknowledged in the last moments before a crash is forgotten",
            "set it to on, for this database or for the users that produce and work",
        ));
    }
    if !postgres.autovacuum {
        findings.push(Finding::new(
            Level::Error,
            "autovacuum-off",
            "autovacuum is off for the whole server".to_owned(),
            "every message leaves dead rows, and nothing clears them: claims get slower without end",
            "ALTER SYSTEM SET autovacuum = on; SELECT pg_reload_conf()",
        ));
    }
    for table in &postgres.tables {
        if !table.autovacuum {
            findings.push(Finding::new(
                Level::Error,
                "autovacuum-off",
                format!("autovacuum is off for {}", table.name),
                "every message leaves dead rows, and nothing clears them: claims get slower without end",
                format!("ALTER TABLE {} RESET (autovacuum_enabled)", table.name),
            ));
        }
        if table.dead > MANY_DEAD_ROWS && table.dead > table.live {
            findings.push(Finding::new(
                Level::Warning,
                "dead-rows",
                format!("{} has {} dead rows beside {} live ones", table.name, table.dead, table.live),
                "whatever reads the table walks over them; an old transaction may keep them from being cleared",
                format!("end old transactions (see any that are named here), then VACUUM {}", table.name),
            ));
        }
    }
    let end = |t: &Transaction| format!("end it, or SELECT pg_terminate_backend({})", t.session);
    findings.extend(postgres.oldest_transaction.as_ref().and_then(|t| judge_transaction(t, &end(t))));
    for slot in postgres.slots.iter().filter(|slot| !slot.active && slot.kept_bytes > LARGE_SLOT) {
        findings.push(Finding::new(
            Level::Warning,
            "replication-slot",
            format!(
                "nobody reads the replication slot {}, and {} of the log are kept for it",
                slot.name,
                BinaryBytes(slot.kept_bytes.unsigned_abs())
            ),
            "the disk fills until the server stops",
            format!("start what reads it, or SELECT pg_drop_replication_slot('{}')", slot.name),
        ));
    }
    if !postgres.wakes {
        findings.push(Finding::new(
            Level::Remark,
            "wake-trigger",
            "the trigger taskmq_wake is off or not there".to_owned(),
            "idle workers find new messages by their look every 1.3 s, and not at once",
            "ALTER TABLE taskmq_messages ENABLE TRIGGER taskmq_wake, unless it is meant so",
        ));
    }
    findings.extend(judge_connections(postgres.connections, postgres.max_connections));
    findings
}

fn judge_mysql(mysql: &MysqlFigures) -> Vec<Finding> {
    let mut findings = Vec::new();
    if mysql.flush_log_at_trx_commit != 1 {
        findings.push(Finding::new(
            Level::Warning,
            "commits-not-waited-for",
            format!("innodb_flush_log_at_trx_commit is {}", mysql.flush_log_at_trx_commit),
            "what was produced or acknowledged in the last second before a crash is forgotten",
            "SET GLOBAL innodb_flush_log_at_trx_commit = 1, and in the server's configuration",
        ));
    }
    if mysql.binlog_format.as_deref() == Some("STATEMENT") {
        findings.push(Finding::new(
            Level::Error,
            "binlog-format",
            "binlog_format is STATEMENT".to_owned(),
            "the server refuses to write under READ COMMITTED, which workers use",
            "SET GLOBAL binlog_format = 'ROW' (or MIXED), and in the server's configuration",
        ));
    }
    if mysql.messages_bytes > mysql.buffer_pool {
        let bytes = |bytes: i64| BinaryBytes(bytes.unsigned_abs());
        findings.push(Finding::new(
            Level::Warning,
            "buffer-pool",
            format!(
                "live messages take up {}, the buffer pool has {}",
                bytes(mysql.messages_bytes),
                bytes(mysql.buffer_pool)
            ),
            "claims read from the disk",
            "enlarge innodb_buffer_pool_size, or run more workers until the backlog is gone",
        ));
    }
    let end = |t: &Transaction| format!("end it, or KILL {}", t.session);
    findings.extend(mysql.oldest_transaction.as_ref().and_then(|t| judge_transaction(t, &end(t))));
    if let Some(history) = mysql.history.filter(|history| *history > LONG_HISTORY) {
        findings.push(Finding::new(
            Level::Warning,
            "history",
            format!("InnoDB keeps {history} old row versions"),
            "claims walk over them; an old transaction keeps them from being cleared",
            "end old transactions: SELECT * FROM information_schema.INNODB_TRX ORDER BY trx_started",
        ));
    }
    findings.extend(judge_connections(mysql.connections, mysql.max_connections));
    findings
}

fn judge_transaction(transaction: &Transaction, end: &str) -> Option<Finding> {
    let Transaction { session, user, program, seconds } = transaction;
    if *seconds < OLD_TRANSACTION {
        return None;
    }
    let level = if *seconds < FORGOTTEN_TRANSACTION { Level::Warning } else { Level::Error };
    let open = HumanDuration(std::time::Duration::from_secs(seconds.unsigned_abs()));
    let whose = [&**user, &**program].join(" ");
    Some(Finding::new(
        level,
        "old-transaction",
        format!("session {session} ({}) has a transaction open for {open}", whose.trim()),
        "rows of finished messages cannot be cleared while it lasts, and claims walk over them",
        end,
    ))
}

fn judge_connections(connections: i64, most: i64) -> Option<Finding> {
    (connections.saturating_mul(10) > most.saturating_mul(8)).then(|| {
        Finding::new(
            Level::Warning,
            "connections",
            format!("{connections} of {most} connections are taken"),
            "workers and producers that come up are refused",
            "run fewer processes or smaller pools, use a pooler, or raise max_connections",
        )
    })
}

/// The server's clock, read between two looks at ours.
pub(super) fn judge_clock(
    before: DateTime<Utc>,
    theirs: DateTime<Utc>,
    after: DateTime<Utc>,
) -> Option<Finding> {
    let behind = (before - theirs).num_milliseconds();
    let ahead = (theirs - after).num_milliseconds();
    let (difference, how) = if behind > ahead { (behind, "behind") } else { (ahead, "ahead of") };
    (difference > CLOCKS_DIFFER).then(|| {
        Finding::new(
            Level::Remark,
            "clock",
            format!("the database's clock is {:.1} s {how} this machine's", difference as f64 / 1000.0),
            "taskmq goes by the database's clock alone; times in logs and in the queue do not agree",
            "let both machines keep time by NTP",
        )
    })
}

#[cfg(test)]
mod tests {
    use taskmq_core::broker::{ReplicationSlot, TableFigures};

    use super::*;

    #[test]
    fn a_file_system_is_found_by_the_longest_place() {
        let mounts = "/dev/sda1 / ext4 rw 0 0\nsrv:/data /mnt/my\\040data nfs4 rw 0 0\n";
        let kind = |file| file_system(mounts, Path::new(file));
        assert_eq!(kind("/mnt/my data/app.db"), Some("nfs4"));
        assert_eq!(kind("/mnt/my database/app.db"), Some("ext4"));
        assert!(is_of_network("nfs4") && !is_of_network("ext4") && !is_of_network("fuse.overlayfs"));
    }

    #[test]
    fn clocks_are_compared_by_what_the_answer_took() {
        let at = |millis: i64| DateTime::from_timestamp_millis(1_000_000 + millis).expect("a time");
        assert!(judge_clock(at(0), at(4_000), at(5_000)).is_none(), "it was read somewhen in between");
        let ahead = judge_clock(at(0), at(9_000), at(5_000)).expect("differs").what;
        assert_eq!(ahead, "the database's clock is 4.0 s ahead of this machine's");
        let behind = judge_clock(at(0), at(-2_500), at(5_000)).expect("differs").what;
        assert_eq!(behind, "the database's clock is 2.5 s behind this machine's");
    }

    #[test]
    fn what_cannot_be_brought_about_in_a_test_is_judged() {
        let open =
            |seconds| Transaction { session: 7, user: "u".to_owned(), program: String::new(), seconds };
        let sqlite = SqliteFigures {
            version: "3.46.1".to_owned(),
            journal_mode: "delete".to_owned(),
            file: None,
            problems: vec!["row 1 missing from index".to_owned()],
        };
        let names: Vec<&str> = judge_sqlite(&sqlite).iter().map(|f| f.name).collect();
        assert_eq!(names, ["file-damaged", "journal-mode", "sqlite-version"]);
        let mut mysql = MysqlFigures {
            version: "10.11".to_owned(),
            flush_log_at_trx_commit: 2,
            binlog_format: Some("STATEMENT".to_owned()),
            buffer_pool: 1 << 27,
            messages_bytes: 1 << 30,
            connections: 1,
            max_connections: 150,
            oldest_transaction: Some(open(61)),
            history: Some(2_000_000),
        };
        let names: Vec<&str> = judge_mysql(&mysql).iter().map(|f| f.name).collect();
        let expected =
            ["commits-not-waited-for", "binlog-format", "buffer-pool", "old-transaction", "history"];
        assert_eq!(names, expected);
        (mysql.flush_log_at_trx_commit, mysql.messages_bytes, mysql.history) = (1, 1 << 20, Some(100));
        (mysql.binlog_format, mysql.oldest_transaction) = (Some("ROW".to_owned()), None);
        assert!(judge_mysql(&mysql).is_empty());
        let slot = |active| ReplicationSlot { name: "s".to_owned(), active, kept_bytes: 1 << 40 };
        let table =
            |dead| TableFigures { name: "taskmq_messages".to_owned(), live: 9, dead, autovacuum: true };
        let mut postgres = PostgresFigures {
            version: "15".to_owned(),
            fsync: false,
            full_page_writes: true,
            synchronous_commit: "off".to_owned(),
            autovacuum: false,
            connections: 1,
            max_connections: 100,
            oldest_transaction: Some(open(61)),
            tables: vec![table(200_000)],
            slots: vec![slot(false)],
            wakes: true,
        };
        let names: Vec<&str> = judge_postgres(&postgres).iter().map(|f| f.name).collect();
        let (first, second) = names.split_at(3);
        assert_eq!(first, ["not-durable", "commits-not-waited-for", "autovacuum-off"]);
        assert_eq!(second, ["dead-rows", "old-transaction", "replication-slot"]);
        (postgres.fsync, postgres.autovacuum, postgres.oldest_transaction) = (true, true, None);
        (postgres.tables, postgres.slots) = (vec![table(50_000)], vec![slot(true)]);
        "on".clone_into(&mut postgres.synchronous_commit);
        assert!(judge_postgres(&postgres).is_empty());
        assert!(judge_connections(80, 100).is_none() && judge_connections(81, 100).is_some());
        let level = |seconds| judge_transaction(&open(seconds), "KILL 7").map(|f| f.level);
        assert_eq!([level(59), level(60), level(3600)], [None, Some(Level::Warning), Some(Level::Error)]);
    }
}
