CREATE TABLE test_runs (
    id         BIGINT       NOT NULL PRIMARY KEY, -- that of the message which asks for it
    url        VARCHAR(500) NOT NULL,
    users      INTEGER      NOT NULL,
    seconds    INTEGER      NOT NULL,
    worker     INTEGER,
    requests   BIGINT,
    errors     BIGINT,
    p50_micros BIGINT,
    p99_micros BIGINT
);
