-- taskmq, schema version 1: a message queue in this database. MariaDB 10.6 or MySQL 8.0.19, or newer.
-- `INSERT INTO taskmq_messages (topic, payload) VALUES (...)` produces a message.
-- Here each statement stands for itself: a migration that was cut off is run again, and finds what it has made already.

-- Live messages only: ready, scheduled, running, waiting for a retry. The number of rows is the backlog.
CREATE TABLE IF NOT EXISTS taskmq_messages (
    id           BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    topic        VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (topic <> '' AND topic NOT REGEXP '[^A-Za-z0-9_.:/-]'),
    priority     SMALLINT     NOT NULL DEFAULT 0,
    run_at       TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    created_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    claimed_at   TIMESTAMP(6) NULL DEFAULT NULL,
    worker_id    BIGINT       NOT NULL DEFAULT 0 COMMENT '0: nobody''s; -1: to run alone; -2: suspected; below: in a line of taskmq_turns; else the worker that leased it',
    attempts     INTEGER      NOT NULL DEFAULT 0 COMMENT 'begun, the one under way included',
    crashes      SMALLINT     NOT NULL DEFAULT 0 COMMENT 'attempts proven to have ended their whole process',
    suspicions   SMALLINT     NOT NULL DEFAULT 0 COMMENT 'times it was one of several that a dying process held',
    max_attempts SMALLINT     NULL DEFAULT NULL COMMENT 'NULL: what its consumer says' CHECK (max_attempts >= 1),
    -- Keys are compared without the spaces at their end.
    unique_key   VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL
                 CHECK (unique_key <> '' AND unique_key NOT LIKE '% '),
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL
                 CHECK (ordering_key <> '' AND ordering_key NOT LIKE '% '),
    headers      LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL CHECK (json_valid(headers)),
    payload      LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL CHECK (json_valid(payload)),
    -- Room to count on.
    CHECK (worker_id <> 0
           OR attempts BETWEEN 0 AND 1000000000 AND crashes BETWEEN 0 AND 10000 AND suspicions BETWEEN 0 AND 10000),
    -- A claim walks one (topic, priority) at a time, so rows of other topics, other priorities or later times cost it nothing.
    -- With the attempts, those that wait for another one are counted without their rows.
    INDEX taskmq_messages_ready (worker_id, topic, priority, run_at, id, attempts),
    UNIQUE INDEX taskmq_messages_unique (topic, unique_key)
) ENGINE = InnoDB;

-- Leases of whole batches, one row for all messages that a claim brought; they last moments. What takes longer is
-- leased message by message, in taskmq_messages.worker_id.
CREATE TABLE IF NOT EXISTS taskmq_claims (
    id          BIGINT       NOT NULL PRIMARY KEY COMMENT 'random',
    worker_id   BIGINT       NOT NULL,
    claimed_at  TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    message_ids LONGTEXT     CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'a JSON array'
) ENGINE = InnoDB;

-- Whose turn it is of the messages that share an ordering key: one row for each key of which a claim has met any. The
-- others of the key stand in its line, out of the way of claims, with -2 - id for their worker_id.
CREATE TABLE IF NOT EXISTS taskmq_turns (
    id           BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    topic        VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    message_id   BIGINT       NOT NULL,
    UNIQUE INDEX taskmq_turns_key (topic, ordering_key),
    INDEX taskmq_turns_message (message_id)
) ENGINE = InnoDB;

-- Finished messages: done ones for keep_seconds (NULL: for ever), dead and cancelled ones until a person deletes them.
CREATE TABLE IF NOT EXISTS taskmq_archive (
    id           BIGINT       NOT NULL PRIMARY KEY,
    topic        VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    state        VARCHAR(10)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (state IN ('done', 'dead', 'cancelled')),
    priority     SMALLINT     NOT NULL,
    run_at       TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    created_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    claimed_at   TIMESTAMP(6) NULL DEFAULT NULL,
    finished_at  TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    keep_seconds BIGINT       NULL DEFAULT NULL,
    worker_id    BIGINT       NOT NULL,
    attempts     INTEGER      NOT NULL,
    crashes      SMALLINT     NOT NULL,
    max_attempts SMALLINT     NULL DEFAULT NULL,
    unique_key   VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL,
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL,
    headers      LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL,
    payload      LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    result       LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL COMMENT 'what the consumer returned, as JSON',
    error        LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL COMMENT 'why it is dead',
    -- In the order in which they finished, for each time that messages are kept: the oldest of each are the ones to purge.
    -- With the topic, dead letters are counted without their rows.
    INDEX taskmq_archive_finished (state, keep_seconds, finished_at, id, topic)
) ENGINE = InnoDB;

-- Large payloads, each written once: in the message, and in the archive, is only what is small in it, and the
-- text "in taskmq_payloads" for the rest.
-- taskmq has checked them.
CREATE TABLE IF NOT EXISTS taskmq_payloads (
    id      BIGINT   NOT NULL PRIMARY KEY COMMENT 'the message''s',
    payload LONGTEXT CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL
) ENGINE = InnoDB;

-- One row for each attempt that failed.
CREATE TABLE IF NOT EXISTS taskmq_failures (
    id         BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    message_id BIGINT       NOT NULL,
    attempt    INTEGER      NOT NULL,
    kind       VARCHAR(10)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'error, panic, timeout, payload, cancelled, crash',
    error      LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    worker     VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'host:pid',
    failed_at  TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    INDEX taskmq_failures_message (message_id)
) ENGINE = InnoDB;

-- What handlers logged, one row for each line.
CREATE TABLE IF NOT EXISTS taskmq_logs (
    id         BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    message_id BIGINT       NOT NULL,
    attempt    INTEGER      NOT NULL,
    logged_at  TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    level      VARCHAR(5)   CHARACTER SET ascii COLLATE ascii_bin NOT NULL COMMENT 'error, warn, info, debug, trace',
    line       TEXT         CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    INDEX taskmq_logs_message (message_id)
) ENGINE = InnoDB;

-- The workers that run now. Each also holds a GET_LOCK that the end of its connection frees.
CREATE TABLE IF NOT EXISTS taskmq_workers (
    id          BIGINT       NOT NULL PRIMARY KEY COMMENT 'random, new at every start',
    host        VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
    pid         INTEGER      NOT NULL,
    version     VARCHAR(50)  CHARACTER SET ascii NOT NULL,
    topics      LONGTEXT     CHARACTER SET utf8mb4 NOT NULL,
    concurrency INTEGER      NOT NULL,
    started_at  TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    beat_at     TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    beat        BIGINT       NOT NULL DEFAULT 0,
    locked      BOOLEAN      NOT NULL DEFAULT FALSE,
    memory_bytes BIGINT      NULL DEFAULT NULL COMMENT 'of its process, when it beat last',
    draining    BOOLEAN      NOT NULL DEFAULT FALSE COMMENT 'told to take no more and to end',
    alone_with  BIGINT       NULL DEFAULT NULL COMMENT 'the set-aside message that is all it runs; 0: its death would prove nothing'
) ENGINE = InnoDB;

-- The topics whose messages no worker takes until a person resumes them.
CREATE TABLE IF NOT EXISTS taskmq_paused (
    topic VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    since TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    actor VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who paused it'
) ENGINE = InnoDB;

-- Running messages that a person wants ended. Their workers see it when they look; who sees one that is not running any
-- more takes it back.
CREATE TABLE IF NOT EXISTS taskmq_cancels (
    message_id BIGINT       NOT NULL PRIMARY KEY,
    asked_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE = InnoDB;

-- How many messages of a topic run at once, and how many begin in a time, over all workers.
CREATE TABLE IF NOT EXISTS taskmq_limits (
    topic       VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    running     INTEGER      NULL DEFAULT NULL COMMENT 'at once; NULL: any number' CHECK (running BETWEEN 1 AND 10000),
    rate        INTEGER      NULL DEFAULT NULL COMMENT 'begun in each period; NULL: any number' CHECK (rate BETWEEN 1 AND 1000000),
    per_seconds INTEGER      NULL DEFAULT NULL COMMENT 'the period' CHECK (per_seconds BETWEEN 1 AND 86400),
    spent_until BIGINT       NOT NULL DEFAULT 0 COMMENT 'when all that the rate allows at once may begin again: nanoseconds since 1970',
    begun       BIGINT       NOT NULL DEFAULT 0 COMMENT 'so many since it was set',
    since       TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    actor       VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL COMMENT 'who set it',
    CHECK ((running IS NOT NULL OR rate IS NOT NULL) AND (rate IS NULL) = (per_seconds IS NULL))
) ENGINE = InnoDB;

-- What the consumer of a topic reads, as it says itself: the JSON schema that its worker writes when it starts.
CREATE TABLE IF NOT EXISTS taskmq_schemas (
    topic      VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY,
    definition MEDIUMTEXT   CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL,
    written_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    CHECK (OCTET_LENGTH(definition) BETWEEN 1 AND 65536)
) ENGINE = InnoDB;

-- What enqueues messages by the clock. Each tick is one message, however many workers run.
-- `INSERT INTO taskmq_schedules (name, topic, payload, cron) VALUES (...)` is a complete schedule.
-- Its times are UTC: a TIMESTAMP would end in 2038.
CREATE TABLE IF NOT EXISTS taskmq_schedules (
    name            VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL PRIMARY KEY CHECK (name <> ''),
    cron            VARCHAR(255) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (cron <> ''),
    time_zone       VARCHAR(50)  CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT 'UTC' CHECK (time_zone <> ''),
    paused          BOOLEAN      NOT NULL DEFAULT FALSE,
    since           DATETIME(6)  NOT NULL DEFAULT (UTC_TIMESTAMP(6)) COMMENT 'no tick before this counts',
    next_at         DATETIME(6)  NULL DEFAULT NULL COMMENT 'the next tick; NULL: not worked out yet',
    last_at         DATETIME(6)  NULL DEFAULT NULL COMMENT 'the last tick',
    last_message_id BIGINT       NULL DEFAULT NULL COMMENT 'and its message',
    declared_by     BIGINT       NULL DEFAULT NULL COMMENT 'the worker whose consumer declares it; NULL: no consumer does',
    topic           VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL CHECK (topic <> '' AND topic NOT REGEXP '[^A-Za-z0-9_.:/-]'),
    priority        SMALLINT     NOT NULL DEFAULT 0,
    max_attempts    SMALLINT     NULL DEFAULT NULL CHECK (max_attempts >= 1),
    unique_key      VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL CHECK (unique_key <> '' AND unique_key NOT LIKE '% '),
    headers         LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL CHECK (json_valid(headers)),
    payload         LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL CHECK (json_valid(payload)),
    INDEX taskmq_schedules_next (paused, next_at)
) ENGINE = InnoDB;

-- Workflows: messages that wait for one another. Each is kept for keep_seconds (NULL: for ever) once it is finished.
CREATE TABLE IF NOT EXISTS taskmq_workflows (
    id           BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    name         VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL CHECK (name <> ''),
    created_at   TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    finished_at  TIMESTAMP(6) NULL DEFAULT NULL COMMENT 'all steps are done, or a person cancelled it',
    purge_at     DATETIME(6)  NULL DEFAULT NULL COMMENT 'finished_at and keep_seconds, in UTC',
    keep_seconds BIGINT       NULL DEFAULT NULL,
    cancelled    BOOLEAN      NOT NULL DEFAULT FALSE COMMENT 'no further step begins',
    steps        INTEGER      NOT NULL,
    open_steps   INTEGER      NOT NULL COMMENT 'those that are not done',
    INDEX taskmq_workflows_finished (finished_at, id),
    INDEX taskmq_workflows_purge (purge_at)
) ENGINE = InnoDB;

-- What a workflow consists of. The message of a step is produced when all steps that it waits for are done; until then it
-- stands here.
CREATE TABLE IF NOT EXISTS taskmq_steps (
    workflow_id  BIGINT       NOT NULL,
    step         INTEGER      NOT NULL COMMENT 'from 1, in the order in which they were added',
    name         VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NOT NULL CHECK (name <> ''),
    waits_for    INTEGER      NOT NULL COMMENT 'so many steps that are not done',
    message_id   BIGINT       NULL DEFAULT NULL COMMENT 'NULL: it waits',
    done_at      TIMESTAMP(6) NULL DEFAULT NULL,
    result       LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL COMMENT 'what its consumer returned, for the steps after it',
    topic        VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NOT NULL,
    priority     SMALLINT     NOT NULL,
    delay_micros BIGINT       NOT NULL,
    max_attempts SMALLINT     NULL DEFAULT NULL,
    ordering_key VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL,
    headers      LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL,
    payload      LONGTEXT     CHARACTER SET utf8mb4 COLLATE utf8mb4_bin NULL DEFAULT NULL COMMENT 'NULL: its message has it',
    PRIMARY KEY (workflow_id, step),
    INDEX taskmq_steps_message (message_id)
) ENGINE = InnoDB;

-- Which step of a workflow (later) waits for which (earlier).
CREATE TABLE IF NOT EXISTS taskmq_edges (
    workflow_id BIGINT  NOT NULL,
    earlier     INTEGER NOT NULL,
    later       INTEGER NOT NULL,
    PRIMARY KEY (workflow_id, earlier, later)
) ENGINE = InnoDB;

-- What people did with messages, topics and schedules, on the admin page or the command line.
CREATE TABLE IF NOT EXISTS taskmq_audit (
    id         BIGINT       NOT NULL AUTO_INCREMENT PRIMARY KEY,
    at         TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    actor      VARCHAR(255) CHARACTER SET utf8mb4 NOT NULL,
    action     VARCHAR(20)  CHARACTER SET ascii NOT NULL COMMENT 'produce, retry, cancel, delete, priority, run at, pause, resume, pause schedule, ...',
    topic      VARCHAR(100) CHARACTER SET ascii COLLATE ascii_bin NULL DEFAULT NULL COMMENT 'NULL: of any topic',
    message_id BIGINT       NULL DEFAULT NULL COMMENT 'NULL: more than one',
    details    LONGTEXT     CHARACTER SET utf8mb4 NOT NULL,
    messages   BIGINT       NOT NULL COMMENT 'with how many'
) ENGINE = InnoDB;

-- The newest version is the one this database has.
CREATE TABLE IF NOT EXISTS taskmq_schema (
    version INTEGER NOT NULL PRIMARY KEY
) ENGINE = InnoDB;
INSERT IGNORE INTO taskmq_schema (version) VALUES (1);
