DROP TABLE taskmq_schema;
DROP TABLE taskmq_audit;
DROP TABLE taskmq_paused;
DROP TABLE taskmq_workers;
DROP TABLE taskmq_failures;
DROP TABLE taskmq_archive;
DROP TABLE taskmq_claims;
DROP TABLE taskmq_messages;
