-- taskmq, schema version 1: a message queue in this database.
-- Times are UTC text, 'YYYY-MM-DD HH:MM:SS.SSS'. Any text is less than any blob, so that `< x''` asks for a text.
-- `INSERT INTO taskmq_messages (topic, payload) VALUES (...)` produces a message.

-- Live messages only: ready, scheduled, running, waiting for a retry. The number of rows is the backlog.
CREATE TABLE taskmq_messages (
    id           INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    topic        TEXT      NOT NULL
                 CHECK (checked OR topic > '' AND topic < x'' AND length(topic) <= 100 AND topic NOT GLOB '*[^.-:A-Z_a-z-]*'),
    priority     SMALLINT  NOT NULL DEFAULT 0
                 CHECK (checked OR priority BETWEEN -32768 AND 32767 AND priority = CAST(priority AS INTEGER)),
    run_at       TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
                 CHECK (checked OR run_at < x'' AND run_at GLOB '????-??-?? ??:??:??*' AND julianday(run_at) IS NOT NULL
                        AND (length(run_at) <= 23 OR run_at NOT GLOB '*:*:*:*')), -- UTC: no offset behind it
    created_at   TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
                 CHECK (checked OR julianday(created_at) IS NOT NULL),
    claimed_at   TIMESTAMP,
    worker_id    BIGINT    NOT NULL DEFAULT 0, -- 0: nobody's; -1: to run alone; -2: suspected; below: in a line of taskmq_turns; else the worker that leased it
    attempts     INTEGER   NOT NULL DEFAULT 0, -- begun, the one under way included
    crashes      SMALLINT  NOT NULL DEFAULT 0, -- attempts proven to have ended their whole process
    suspicions   SMALLINT  NOT NULL DEFAULT 0, -- times it was one of several that a dying process held
    max_attempts SMALLINT  CHECK (checked OR max_attempts IS NULL OR max_attempts BETWEEN 1 AND 32767 AND typeof(max_attempts) = 'integer'), -- NULL: what its consumer says
    unique_key   TEXT      CHECK (checked OR length(unique_key) BETWEEN 1 AND 255 AND unique_key < x'' AND unique_key NOT GLOB '* '),
    ordering_key TEXT      CHECK (checked OR length(ordering_key) BETWEEN 1 AND 255 AND ordering_key < x'' AND ordering_key NOT GLOB '* '),
    headers      TEXT      CHECK (checked OR headers IS NULL OR headers < x'' AND json_valid(headers)),
    checked      BOOLEAN   NOT NULL DEFAULT FALSE CHECK (checked IN (FALSE, TRUE)), -- by taskmq, before it was stored: the rules hold
    payload      TEXT      NOT NULL CHECK (checked OR typeof(payload) = 'text' AND json_valid(payload)),
    -- Whole numbers, with room to count on.
    CHECK (worker_id <> 0
           OR attempts & 1073741823 = attempts AND crashes & 16383 = crashes AND suspicions & 16383 = suspicions)
);
-- A claim walks one (topic, priority) at a time, so rows of other topics, other priorities or later times cost it nothing.
-- With the attempts, those that wait for another one are counted without their rows.
CREATE INDEX taskmq_messages_ready ON taskmq_messages (topic, priority, run_at, id, attempts) WHERE worker_id = 0;
CREATE INDEX taskmq_messages_held ON taskmq_messages (worker_id) WHERE worker_id <> 0;
CREATE INDEX taskmq_messages_in_line ON taskmq_messages (worker_id, priority DESC, run_at, id) WHERE worker_id < -2;
CREATE UNIQUE INDEX taskmq_messages_unique ON taskmq_messages (topic, unique_key) WHERE unique_key IS NOT NULL;

-- What is changed has to be looked at again.
CREATE TRIGGER taskmq_messages_changed
AFTER UPDATE OF topic, priority, run_at, created_at, max_attempts, unique_key, ordering_key, headers, payload ON taskmq_messages
WHEN NEW.checked BEGIN
    UPDATE taskmq_messages SET checked = FALSE WHERE id = NEW.id;
END;

-- Leases of whole batches, one row for all messages that a claim brought; they last moments. What takes longer is
-- leased message by message, in taskmq_messages.worker_id.
CREATE TABLE taskmq_claims (
    id          INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    worker_id   BIGINT    NOT NULL,
    claimed_at  TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    message_ids TEXT      NOT NULL -- a JSON array
);

-- Whose turn it is of the messages that share an ordering key: one row for each key of which a claim has met any. The
-- others of the key stand in its line, out of the way of claims, with -2 - id for their worker_id.
CREATE TABLE taskmq_turns (
    id           INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    topic        TEXT   NOT NULL,
    ordering_key TEXT   NOT NULL,
    message_id   BIGINT NOT NULL
);
CREATE UNIQUE INDEX taskmq_turns_key ON taskmq_turns (topic, ordering_key);
CREATE INDEX taskmq_turns_message ON taskmq_turns (message_id);

-- Finished messages: done ones for keep_seconds (NULL: for ever), dead and cancelled ones until a person deletes them.
CREATE TABLE taskmq_archive (
    id           INTEGER   NOT NULL PRIMARY KEY,
    topic        TEXT      NOT NULL,
    state        TEXT      NOT NULL CHECK (state = 'done' OR state = 'dead' OR state = 'cancelled'), -- IN would make a table for each row
    priority     SMALLINT  NOT NULL,
    run_at       TIMESTAMP NOT NULL,
    created_at   TIMESTAMP NOT NULL,
    claimed_at   TIMESTAMP,
    finished_at  TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    keep_seconds BIGINT,
    worker_id    BIGINT    NOT NULL,
    attempts     INTEGER   NOT NULL,
    crashes      SMALLINT  NOT NULL,
    max_attempts SMALLINT,
    unique_key   TEXT,
    ordering_key TEXT,
    headers      TEXT,
    payload      TEXT      NOT NULL,
    result       TEXT,     -- what the consumer returned, as JSON
    error        TEXT      -- why it is dead
);
-- In the order in which they finished, for each time that messages are kept: the oldest of each are the ones to purge.
CREATE INDEX taskmq_archive_finished ON taskmq_archive (state, keep_seconds, finished_at);

-- Large payloads, each written once: in the message, and in the archive, is only what is small in it, and the
-- text "in taskmq_payloads" for the rest.
-- taskmq has checked them.
CREATE TABLE taskmq_payloads (
    id      INTEGER NOT NULL PRIMARY KEY, -- the message's
    payload TEXT    NOT NULL
);

-- One row for each attempt that failed.
CREATE TABLE taskmq_failures (
    id         INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    message_id BIGINT    NOT NULL,
    attempt    INTEGER   NOT NULL,
    kind       TEXT      NOT NULL, -- error, panic, timeout, payload, cancelled, crash
    error      TEXT      NOT NULL,
    worker     TEXT      NOT NULL, -- host:pid
    failed_at  TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);
CREATE INDEX taskmq_failures_message ON taskmq_failures (message_id);

-- What handlers logged, one row for each line.
CREATE TABLE taskmq_logs (
    id         INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    message_id BIGINT    NOT NULL,
    attempt    INTEGER   NOT NULL,
    logged_at  TIMESTAMP NOT NULL,
    level      TEXT      NOT NULL, -- error, warn, info, debug, trace
    line       TEXT      NOT NULL
);
CREATE INDEX taskmq_logs_message ON taskmq_logs (message_id);

-- The workers that run now. Each also holds a lock that its death frees; a row whose lock is free is a dead worker.
CREATE TABLE taskmq_workers (
    id          BIGINT    NOT NULL PRIMARY KEY, -- random, new at every start
    host        TEXT      NOT NULL,
    pid         INTEGER   NOT NULL,
    version     TEXT      NOT NULL,
    topics      TEXT      NOT NULL,
    concurrency INTEGER   NOT NULL,
    started_at  TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    beat_at     TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    beat        BIGINT    NOT NULL DEFAULT 0,
    locked      BOOLEAN   NOT NULL DEFAULT FALSE,
    memory_bytes BIGINT,                        -- of its process, when it beat last
    draining    BOOLEAN   NOT NULL DEFAULT FALSE, -- told to take no more and to end
    alone_with  BIGINT                          -- the set-aside message that is all it runs; 0: its death would prove nothing
);

-- The topics whose messages no worker takes until a person resumes them.
CREATE TABLE taskmq_paused (
    topic TEXT      NOT NULL PRIMARY KEY,
    since TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    actor TEXT      NOT NULL -- who paused it
);

-- Running messages that a person wants ended. Their workers see it when they look; who sees one that is not running any
-- more takes it back.
CREATE TABLE taskmq_cancels (
    message_id INTEGER   NOT NULL PRIMARY KEY,
    asked_at   TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- How many messages of a topic run at once, and how many begin in a time, over all workers.
CREATE TABLE taskmq_limits (
    topic       TEXT      NOT NULL PRIMARY KEY,
    running     INTEGER   CHECK (running BETWEEN 1 AND 10000),       -- at once; NULL: any number
    rate        INTEGER   CHECK (rate BETWEEN 1 AND 1000000),        -- begun in each period; NULL: any number
    per_seconds INTEGER   CHECK (per_seconds BETWEEN 1 AND 86400),   -- the period
    spent_until BIGINT    NOT NULL DEFAULT 0, -- when all that the rate allows at once may begin again: nanoseconds since 1970
    begun       BIGINT    NOT NULL DEFAULT 0, -- so many since it was set
    since       TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    actor       TEXT      NOT NULL, -- who set it
    CHECK ((running IS NOT NULL OR rate IS NOT NULL) AND (rate IS NULL) = (per_seconds IS NULL))
);

-- What the consumer of a topic reads, as it says itself: the JSON schema that its worker writes when it starts.
CREATE TABLE taskmq_schemas (
    topic      TEXT      NOT NULL PRIMARY KEY,
    definition TEXT      NOT NULL CHECK (length(CAST(definition AS BLOB)) BETWEEN 1 AND 65536),
    written_at TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now'))
);

-- What enqueues messages by the clock. Each tick is one message, however many workers run.
-- `INSERT INTO taskmq_schedules (name, topic, payload, cron) VALUES (...)` is a complete schedule.
CREATE TABLE taskmq_schedules (
    name            TEXT      NOT NULL PRIMARY KEY CHECK (length(name) BETWEEN 1 AND 100),
    cron            TEXT      NOT NULL CHECK (length(cron) BETWEEN 1 AND 255),
    time_zone       TEXT      NOT NULL DEFAULT 'UTC' CHECK (length(time_zone) BETWEEN 1 AND 50),
    paused          BOOLEAN   NOT NULL DEFAULT FALSE,
    since           TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')), -- no tick before this counts
    next_at         TIMESTAMP,                 -- the next tick; NULL: not worked out yet
    last_at         TIMESTAMP,                 -- the last tick
    last_message_id BIGINT,                    -- and its message
    declared_by     BIGINT,                    -- the worker whose consumer declares it; NULL: no consumer does
    topic           TEXT      NOT NULL
                    CHECK (topic > '' AND topic < x'' AND length(topic) <= 100 AND topic NOT GLOB '*[^.-:A-Z_a-z-]*'),
    priority        SMALLINT  NOT NULL DEFAULT 0
                    CHECK (priority BETWEEN -32768 AND 32767 AND typeof(priority) = 'integer'),
    max_attempts    SMALLINT  CHECK (max_attempts IS NULL OR max_attempts BETWEEN 1 AND 32767 AND typeof(max_attempts) = 'integer'),
    unique_key      TEXT      CHECK (length(unique_key) BETWEEN 1 AND 255 AND unique_key < x'' AND unique_key NOT GLOB '* '),
    headers         TEXT      CHECK (headers IS NULL OR json_valid(headers)),
    payload         TEXT      NOT NULL CHECK (typeof(payload) = 'text' AND json_valid(payload))
);
CREATE INDEX taskmq_schedules_next ON taskmq_schedules (next_at) WHERE NOT paused;

-- Workflows: messages that wait for one another. Each is kept for keep_seconds (NULL: for ever) once it is finished.
CREATE TABLE taskmq_workflows (
    id           INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    name         TEXT      NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    created_at   TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    finished_at  TIMESTAMP,                       -- all steps are done, or a person cancelled it
    purge_at     TIMESTAMP,                       -- finished_at and keep_seconds
    keep_seconds BIGINT,
    cancelled    BOOLEAN   NOT NULL DEFAULT FALSE, -- no further step begins
    steps        INTEGER   NOT NULL,
    open_steps   INTEGER   NOT NULL                -- those that are not done
);
CREATE INDEX taskmq_workflows_finished ON taskmq_workflows (finished_at, id);
CREATE INDEX taskmq_workflows_purge ON taskmq_workflows (purge_at) WHERE purge_at IS NOT NULL;

-- What a workflow consists of. The message of a step is produced when all steps that it waits for are done; until then it
-- stands here.
CREATE TABLE taskmq_steps (
    workflow_id  BIGINT    NOT NULL,
    step         INTEGER   NOT NULL, -- from 1, in the order in which they were added
    name         TEXT      NOT NULL CHECK (length(name) BETWEEN 1 AND 255),
    waits_for    INTEGER   NOT NULL, -- so many steps that are not done
    message_id   BIGINT,             -- NULL: it waits
    done_at      TIMESTAMP,
    result       TEXT,               -- what its consumer returned, for the steps after it
    topic        TEXT      NOT NULL,
    priority     SMALLINT  NOT NULL,
    delay_micros BIGINT    NOT NULL,
    max_attempts SMALLINT,
    ordering_key TEXT,
    headers      TEXT,
    payload      TEXT,               -- NULL: its message has it
    PRIMARY KEY (workflow_id, step)
);
CREATE INDEX taskmq_steps_message ON taskmq_steps (message_id) WHERE message_id IS NOT NULL;

-- Which step of a workflow (later) waits for which (earlier).
CREATE TABLE taskmq_edges (
    workflow_id BIGINT  NOT NULL,
    earlier     INTEGER NOT NULL,
    later       INTEGER NOT NULL,
    PRIMARY KEY (workflow_id, earlier, later)
);

-- What people did with messages, topics and schedules, on the admin page or the command line.
CREATE TABLE taskmq_audit (
    id         INTEGER   NOT NULL PRIMARY KEY AUTOINCREMENT,
    at         TIMESTAMP NOT NULL DEFAULT (strftime('%Y-%m-%d %H:%M:%f', 'now')),
    actor      TEXT      NOT NULL,
    action     TEXT      NOT NULL, -- produce, retry, cancel, delete, priority, run at, pause, resume, pause schedule, ...
    topic      TEXT,               -- NULL: of any topic
    message_id BIGINT,             -- NULL: more than one
    details    TEXT      NOT NULL,
    messages   BIGINT    NOT NULL  -- with how many
);

-- The newest version is the one this database has.
CREATE TABLE taskmq_schema (
    version INTEGER NOT NULL PRIMARY KEY
);
INSERT INTO taskmq_schema (version) VALUES (1);
